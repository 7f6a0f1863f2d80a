"""Questions with the passages that answer them: what a ranking is learnt from and judged on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.files import InputError
from data.readers import TABLES, Columns, Question, Row, read_questions, read_table
from data.sources import fingerprint, generated_questions, read_files, sample


@dataclass(frozen=True)
class PairSet:
    """Pairs of a question (`Row.text`) and a passage that answers it (`Row.pair`)."""

    rows: list[Row]
    passages: list[str]  # all distinct ones of the files, also those that answer no question
    fingerprint: str = ""  # sha256 of what they were made from

    def relevant(self) -> dict[str, list[int]]:
        """{question: the numbers of its passages}. A question that is there with two passages has both."""
        number, found = {text: n for n, text in enumerate(self.passages)}, dict[str, list[int]]()
        for row in self.rows:
            own = found.setdefault(row.text, [])
            if number[row.pair or ""] not in own:
                own.append(number[row.pair or ""])
        return found


def from_questions(questions: Sequence[Question]) -> tuple[list[Row], list[str]]:
    """Pairs of questions that have an answer, and all contexts. A question without one has no passage to be found."""
    rows = [Row(q.question, q.context, None, q.id) for q in questions if q.answers]
    return rows, [q.context for q in questions]


def read_pairs(contents: Mapping[Path, bytes], columns: Columns) -> tuple[list[Row], list[str]]:
    """The pairs in SQuAD's JSON files or in tables, and all their passages. Where answers are does not matter here.
    Raises InputError as the readers do, and where no question has an answer."""
    rows: list[Row] = []
    passages: list[str] = []
    for path, data in contents.items():
        if path.suffix.lower() in TABLES:
            own = read_table(path, data, columns)
            texts = [row.pair or "" for row in own]
        else:
            own, texts = from_questions(read_questions({path: data}, bad_answers="keep")[0])
        rows, passages = rows + own, passages + texts
    if not rows:
        raise InputError(f"{', '.join(map(str, contents))}: no question has an answer, so no passage is to be found")
    return rows, list(dict.fromkeys(passages))


def columns_of(data: Any) -> Columns:
    return Columns(data.question, data.passage, None)


def pair_set(data: Any, split: str, root: Path) -> PairSet:
    """The pairs of one split, from files below `root`, or of generated questions; all passages stay where a limit
    leaves questions out. data: the settings of retrieval."""
    if data.source == "synthetic_qa":
        made = generated_questions(split, getattr(data, f"{split}_limit"))
        rows, passages = from_questions(made.questions)
        return PairSet(rows, list(dict.fromkeys(passages)), made.fingerprint)
    contents = read_files(root, getattr(data, split))
    rows, passages = read_pairs(contents, columns_of(data))
    return PairSet(sample(rows, getattr(data, f"{split}_limit")), passages, fingerprint(contents))
