"""Where examples come from: files under a data root, or sets that the project generates itself."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.squad import Question, parse_questions, read_questions
from data.synthetic import qa_dataset
from inputs import InputError, read_bytes

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


@dataclass(frozen=True)
class QuestionSet:
    questions: list[Question]
    fingerprint: str  # sha256 of what the questions were made from
    misplaced: list[str]  # a remark for each answer that was left out because it is not where it says


def question_set(
    source: str, split: str, files: Sequence[str], limit: int | None, root: Path, bad_answers: str
) -> QuestionSet:
    """The questions of one split.

    source: "files" reads SQuAD files, relative to `root`; "synthetic_qa" generates them.
    """
    if source == "synthetic_qa":
        generated = qa_dataset(split, limit or SYNTHETIC_QUESTIONS[split])
        digest = hashlib.sha256(json.dumps(generated, sort_keys=True).encode()).hexdigest()
        return QuestionSet(parse_questions(generated, f"synthetic_qa {split}"), digest, [])
    paths = [root / file for file in files]
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file; --data-root names the folder that the spec's data files are in")
    contents = {path: read_bytes(path) for path in paths}  # read once: what is fingerprinted is what is used
    questions, misplaced = read_questions(contents, bad_answers)
    digest = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in contents.values())).hexdigest()
    return QuestionSet(sample(questions, limit), digest, misplaced)
