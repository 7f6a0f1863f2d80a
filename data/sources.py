"""Where examples come from: files under a data root, or sets that the project generates itself."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.squad import Question, parse_questions, read_questions
from data.synthetic import qa_dataset
from inputs import InputError

# How many questions the generated set has where the spec gives no limit.
SYNTHETIC_QUESTIONS = {"train": 5000, "dev": 600}


def sample(examples: list, limit: int | None) -> list:
    """`limit` of the examples, drawn at random but always the same ones, in their original order.

    The draw does not depend on the run's seed: runs that differ in their seed are compared on the same data. (The first
    `limit` examples would be another choice, but those of SQuAD come from a handful of articles.)
    """
    if limit is None or limit >= len(examples):
        return examples
    chosen = np.random.default_rng(0).permutation(len(examples))[:limit]
    return [examples[i] for i in sorted(chosen)]


def fingerprint(paths: Sequence[Path]) -> str:
    """sha256 over the contents of the files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def question_set(
    source: str, split: str, files: Sequence[str], limit: int | None, root: Path
) -> tuple[list[Question], str]:
    """The questions of one split and their fingerprint.

    source: "files" reads SQuAD files, relative to `root`; "synthetic_qa" generates them.
    """
    if source == "synthetic_qa":
        generated = qa_dataset(split, limit or SYNTHETIC_QUESTIONS[split])
        digest = hashlib.sha256(json.dumps(generated, sort_keys=True).encode()).hexdigest()
        return parse_questions(generated, f"synthetic_qa {split}"), digest
    paths = [root / file for file in files]
    return sample(read_questions(paths), limit), fingerprint(paths)
