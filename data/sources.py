"""Sources of examples: files under a data root, or sets that the project generates itself."""

import hashlib
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.files import InputError, read_bytes
from data.readers import Columns, Misplaced, Question, Row, parse_questions, read_questions, read_table
from data.splits import normalised, partition
from data.synthetic.qa import qa_dataset
from data.synthetic.reviews import rating_rows, sentiment_rows

# Sizes of the generated sets where the spec gives no limit.
SYNTHETIC_QUESTIONS = {"train": 5000, "dev": 600}
SYNTHETIC_REVIEWS = {"train": 3000, "dev": 600}


def sample(examples: list, limit: int | None) -> list:
    """Draw `limit` of the examples at random, but always the same ones, and keep their order.

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
    misplaced: list[Misplaced] = field(default_factory=list)  # answers of the files that were moved or left out

    @property
    def counts(self) -> dict[str, int]:
        """What happened to misplaced answers, for the run record."""
        moved = sum(each.moved for each in self.misplaced)
        return {"answers_misplaced": len(self.misplaced) - moved, "answers_moved": moved}


def question_sets(data: Any, root: Path) -> tuple[QuestionSet, QuestionSet]:
    """The training and the development questions: from SQuAD files below `root`, where data.dev_fraction may take the
    latter from the training files, or generated ones. data: the settings of span QA, by the names that
    experiments/config/spec.py gives them. Misplaced answers are counted where their file was read."""
    if data.source == "synthetic_qa":
        return generated_questions("train", data.train_limit), generated_questions("dev", data.dev_limit)
    train = file_questions(data.train, data.bad_answers, root)
    if data.dev_fraction is None:
        kept, dev = train.questions, file_questions(data.dev, data.bad_answers, root)
    else:
        kept, judged = carve_passages(train.questions, data.dev_fraction, data.train[0])
        dev = QuestionSet(judged, train.fingerprint)
    train = replace(train, questions=sample(kept, data.train_limit))
    return train, replace(dev, questions=sample(dev.questions, data.dev_limit))


def generated_questions(split: str, limit: int | None) -> QuestionSet:
    generated = qa_dataset(split, limit or SYNTHETIC_QUESTIONS[split])
    return QuestionSet(parse_questions(generated, f"synthetic_qa {split}"), json_digest(generated))


def file_questions(files: Sequence[str], bad_answers: str, root: Path) -> QuestionSet:
    contents = read_files(root, files)
    questions, misplaced = read_questions(contents, bad_answers)
    return QuestionSet(questions, fingerprint(contents), misplaced)


def carve_passages(questions: list[Question], fraction: float, file: str) -> tuple[list[Question], list[Question]]:
    """(training questions, development questions): a fraction of the passages goes to the latter with all of its
    questions. No passage is on both sides, nor two that `normalised` makes one. Passages are put in order of the share
    of their questions that have an answer, and of equals of their number, so that either side has its part of both.
    Raises InputError, naming the file, where there are too few different passages."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, question in enumerate(questions):
        groups.setdefault(normalised(Row(question.context, None, None, question.id)), []).append(number)
    passages = [Row(questions[group[0]].context, None, None, file) for group in groups.values()]
    strata = [
        (sum(bool(questions[number].answers) for number in group) / len(group), len(group)) for group in groups.values()
    ]
    part = partition(passages, strata, [1 - fraction, fraction])
    if len(set(part.tolist())) < 2:
        raise InputError(f"{file}: too few different passages ({len(passages)}) for data.dev_fraction {fraction:g}")
    judged = {number for group, which in zip(groups.values(), part, strict=True) if which for number in group}
    return [q for n, q in enumerate(questions) if n not in judged], [questions[n] for n in sorted(judged)]


def read_files(root: Path, files: Sequence[str]) -> dict[Path, bytes]:
    """{path: contents}, read once: what is fingerprinted is what is used."""
    paths = [root / file for file in files]
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file; --data-root names the folder that the spec's data files are in")
    return {path: read_bytes(path) for path in paths}


def fingerprint(contents: dict[Path, bytes]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in contents.values())).hexdigest()


def json_digest(made: object) -> str:
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


# ---- labelled texts --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowSets:
    """The training and development rows of an experiment."""

    train: list[Row]
    dev: list[Row]
    everything: list[Row]  # all rows of the training files: labels are learnt from them
    fingerprints: dict[str, str]  # {split: sha256 of what it was made from}


def row_sets(data: Any, root: Path, columns: Columns, stratum: Callable[[Row], Hashable]) -> RowSets:
    """Rows from files under `root`, or generated ones. data: the settings of labelled texts, likewise. stratum: the
    property by which a split is stratified."""
    if data.source != "files":
        return generated_rows(data)
    rows, digest = read_rows(root, data.train, columns)
    if data.dev:
        kept, (judged, dev_digest) = rows, read_rows(root, data.dev, columns)
    else:
        (kept, judged), dev_digest = carve(rows, [stratum(row) for row in rows], data), digest
    digests = {"train": digest, "dev": dev_digest}
    return RowSets(sample(kept, data.train_limit), sample(judged, data.dev_limit), rows, digests)


def read_rows(root: Path, files: Sequence[str], columns: Columns) -> tuple[list[Row], str]:
    """The rows of some files, and their fingerprint."""
    contents = read_files(root, files)
    rows = [row for path, data in contents.items() for row in read_table(path, data, columns)]
    return rows, fingerprint(contents)


def generated_rows(data: Any) -> RowSets:
    generate = {"synthetic_sentiment": sentiment_rows, "synthetic_rating": rating_rows}[data.source]
    limits = {"train": data.train_limit, "dev": data.dev_limit}
    made = {key: generate(key, limit or SYNTHETIC_REVIEWS[key]) for key, limit in limits.items()}
    digests = {key: json_digest([(row.text, row.label) for row in rows]) for key, rows in made.items()}
    return RowSets(made["train"], made["dev"], made["train"], digests)


def carve(rows: list[Row], strata: Sequence[Hashable], data: Any) -> tuple[list[Row], list[Row]]:
    """(training rows, development rows) of the training files: a fraction, or one of the folds. Raises InputError where
    there are too few different texts."""
    if data.dev_fraction is not None:
        shares, chosen = [1 - data.dev_fraction, data.dev_fraction], 1
    else:
        assert data.folds is not None and data.fold is not None  # config/check.py has seen to it
        shares, chosen = [1 / data.folds] * data.folds, data.fold
    part = partition(rows, strata, shares)
    if len(set(part.tolist())) < len(shares):
        file = rows[0].where.rpartition(" line ")[0]
        raise InputError(f"{file}: too few different texts for {len(shares)} parts")
    kept = [row for row, number in zip(rows, part, strict=True) if number != chosen]
    return kept, [row for row, number in zip(rows, part, strict=True) if number == chosen]
