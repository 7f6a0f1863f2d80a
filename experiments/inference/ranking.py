"""Ranking passages with a run's vectors, and scoring that: `eval.py score --retrieval`.

A retrieval run ranks with the encoder that it has trained for it, a span QA run with the pretrained encoder that it
began with: training for spans ruins the mean of the hidden states for it (experiments/RESULTS.md, "Finding the
passage").
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from data.files import InputError, read_bytes
from data.pairs import PairSet, columns_of, read_pairs
from data.ranking import judge_vectors
from data.readers import Columns
from experiments.config.metrics import RANKING, SPAN
from experiments.inference.trained import Scored, Trained, trained_on
from experiments.tasks.retrieval import tokenize_texts, vectors_of
from experiments.training.base import load_base
from model.heads import TaskModel
from model.machine import Machine
from model.retrieval_head import RetrievalHead

MOST_TOKENS = 256  # of a text, where a span QA run ranks: as sentence encoders were trained
SHOWN = 10  # places that predictions hold


@dataclass(frozen=True)
class Ranker:
    """What turns texts into unit vectors."""

    model: TaskModel
    name: str  # of its task with a RetrievalHead
    tokenizer: Tokenizer
    machine: Machine
    max_length: int  # tokens of a text

    @property
    def temperature(self) -> float:
        head = self.model.head_of(self.name)
        assert isinstance(head, RetrievalHead)
        return head.temperature

    def vectors(self, texts: list[str]) -> tuple[np.ndarray, int]:
        """The unit vector of each text [N, C], and how many texts had to be cut."""
        tokens, cut = tokenize_texts(texts, self.tokenizer, self.max_length)
        return vectors_of(self.model, self.name, tokens, self.machine), cut


def ranker_of(trained: Trained) -> Ranker:
    """A run's ranker. Raises InputError for a kind of task that has none."""
    if trained.task.task == RANKING:
        length = trained.task.data.max_length
        return Ranker(trained.model, trained.name, trained.tokenizer, trained.machine, length)
    if trained.task.task != SPAN:
        raise InputError(f"{trained.folder}: a {trained.task.task} model ranks no passages; span_qa and retrieval do")
    encoder = load_base(trained.spec, download=False).encoder.to(trained.machine.device)
    model = TaskModel(encoder, {trained.name: RetrievalHead()}).eval()
    return Ranker(model, trained.name, trained.tokenizer, trained.machine, MOST_TOKENS)


def score(trained: Trained, file: Path, errors: int) -> Scored:
    """Score how a run ranks all passages of a file for each of its questions. The worst misses are the questions whose
    passage has the last places."""
    ranks = trained.task.task == RANKING
    columns = columns_of(trained.task.data) if ranks else Columns("question", "passage", None)
    pairs = PairSet(*read_pairs({file: read_bytes(file)}, columns))
    ranker, relevant = ranker_of(trained), pairs.relevant()
    (questions, _), (passages, cut) = ranker.vectors(list(relevant)), ranker.vectors(pairs.passages)
    scores, losses = judge_vectors(questions, passages, list(relevant.values()), ranker.temperature)
    ids = {row.text: row.where for row in reversed(pairs.rows)}  # of the first of a question
    rows = []
    for vector, (question, own), first in zip(questions, relevant.items(), scores["mrr"], strict=True):
        cosines = passages @ vector
        best = np.argsort(-cosines, kind="stable")[:SHOWN]
        ranked = [{"passage": int(n), "cosine": float(cosines[n])} for n in best]
        rows.append(
            {"id": ids[question], "question": question, "gold": own, "place": round(100 / first), "ranked": ranked}
        )
    worst = sorted(rows, key=lambda row: -row["place"])[:errors]
    shown = [
        {key: row[key] for key in ("id", "question", "place")}
        | {"gold": pairs.passages[row["gold"][0]], "first": pairs.passages[row["ranked"][0]["passage"]]}
        for row in worst
        if row["place"] > 1
    ]
    result = {
        "trained_on": trained_on(trained, pairs.rows),
        "texts_cut": cut,
        "encoder": "its own" if ranks else "the pretrained one",
        "loss": float(losses.mean()),
        **{key: float(values.mean()) for key, values in scores.items()},
        "errors": shown,
    }
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    counts = {"questions": len(relevant), "passages": len(pairs.passages)}
    return Scored(RANKING, counts, result, {"predictions.jsonl": lines})
