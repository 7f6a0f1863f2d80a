"""A trained run in a Python program: what `eval.py ask` does, as functions with typed results.

    model = load("runs/squad_lora")
    model.answer("Who led the trial?", context).text                    one text, one result
    model.classify(["A film to treasure.", "Two hours of nothing."])    several texts, a list of results

The result has the form of the argument, because a call with one text should not end in [0]. Overloads tell a type
checker so; they name list and tuple, since a str is a sequence of str as well. At run time an array or a column of a
table will do. Several texts share batches. Nothing is printed, and the settings of the program that calls are left
alone: PyTorch's threads, determinism and random numbers, and how memory is freed.
"""

import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from data.files import InputError, printable, require_utf8, shown
from data.labels import tokenize
from data.progress import quiet
from data.readers import Question, Row
from data.tokens import Tokens, collate
from experiments.inference.adapters import adapters_of
from experiments.inference.questions import answer_all, is_cut, ranked_candidates
from experiments.inference.texts import answers_of, predict_rows
from experiments.inference.trained import Trained, load_run
from experiments.tasks.span_qa import windows_of
from model.bert import BertConfig

R = TypeVar("R")
Several = list[str] | tuple[str, ...]
METHODS = {
    "span_qa": "answer(question, context)",
    "classification": "classify(texts)",
    "multi_label": "tag(texts)",
    "regression": "estimate(texts)",
    "retrieval": "logits(batch(texts)), unit vectors",
}

# ---- results ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A span of the context that may be the answer."""

    text: str
    start: int  # the span is context[start:end]
    end: int
    score: float  # start logit plus end logit
    probability: float  # 0 to 1, among all spans that were considered (and "no answer", if the model may say so)
    sentence: str  # around it, with the span «marked»


@dataclass(frozen=True)
class Answer:
    """The answer to one question about one context."""

    text: str  # "" for no answer
    candidates: tuple[Candidate, ...]  # the best spans, best first, whatever `text` says
    null_odds: float  # score of "no answer" minus that of the best span
    threshold: float | None  # no answer where null_odds exceed it; None: the model always answers
    question_cut: bool  # the question's end was not read: it is longer than data.max_query_length


@dataclass(frozen=True)
class Label:
    """The label of one text."""

    label: str
    probability: float  # of this label, 0 to 1
    probabilities: dict[str, float]  # of every label, highest first; they sum to 1


@dataclass(frozen=True)
class Labels:
    """The labels of one text: those whose probability reaches their threshold."""

    labels: tuple[str, ...]  # any number of them
    probabilities: dict[str, float]  # of every label by itself, 0 to 1, highest first
    thresholds: dict[str, float]  # best for F1 on the development set of training


# ---- the model -------------------------------------------------------------------------------------------------------


def load(
    run: str | os.PathLike[str],
    task: str | None = None,
    device: str | torch.device = "auto",
    allow_download: bool = False,
    adapter: str | os.PathLike[str] | Mapping[str, float] | None = None,
    int8: bool = False,
) -> "Model":
    """The best model of a run folder. task: which one, of a run with several. device: auto (the first accelerator, else
    the CPU), cpu, cuda, cuda:1, mps. allow_download: fetch pretrained weights from the hub if they are not on this
    machine. adapter: PEFT's, a folder or hub id, or {name: weight} of several, to use instead of the run's own. int8:
    8-bit weights in the encoder's linear layers, on a CPU. Raises InputError for what `load_run` refuses."""
    if not isinstance(run, str | os.PathLike):
        raise InputError(f"run: {shown(run)} is not the path of a run folder")
    folder = Path(os.path.expanduser(run))
    try:
        with torch.random.fork_rng(devices=[]):  # a new head draws its weights before it gets the trained ones
            return Model(load_run(folder, str(device), task, allow_download, False, adapters_of(adapter), int8))
    except InputError as error:
        message = str(error).replace("--task", "task=...").replace("--allow-download", "allow_download=True")
        message = (
            message.replace("--adapter", "adapter").replace("--int8", "int8").replace("--device cpu", 'device="cpu"')
        )
        raise InputError(message.replace("runtime.device:", "device:")) from None


class Model:
    """A trained model of one task. Threads may share it. `trained` has its parts, the network and tokenizer among them.

    Every method raises InputError, before it computes, for an argument that is no text, a text that is empty, and a
    model of another kind. Texts are cut to data.max_length tokens, as in training; contexts are read in windows.
    """

    def __init__(self, trained: Trained):
        self.trained = trained

    def __repr__(self) -> str:
        return f"Model({str(self.trained.folder)!r}, {self.kind}, {self.trained.machine.device})"

    @property
    def kind(self) -> str:
        """span_qa, classification, multi_label, regression or retrieval"""
        return self.trained.task.task

    @overload
    def answer(self, question: str, context: str, candidates: int = 3) -> Answer: ...
    @overload
    def answer(self, question: str, context: Several, candidates: int = 3) -> list[Answer]: ...
    @overload
    def answer(self, question: Several, context: str | Several, candidates: int = 3) -> list[Answer]: ...

    def answer(self, question, context, candidates=3):
        """Answer a question about a context. Of several, question n goes with context n; one alone goes with all.
        candidates: how many of the best spans each answer has, up to decoding.n_best."""
        self._require("span_qa")
        rows, alone = rows_of(question, context, "question", "context")
        if not isinstance(candidates, int) or candidates < 0:
            raise InputError(f"candidates: {shown(candidates)} is not a whole number from 0")
        return one_or_all(self._answers(rows, candidates), alone)

    def _answers(self, rows: list[Row], count: int) -> list[Answer]:
        if not rows:
            return []
        with quiet():
            answered = answer_all(self.trained, questions_of(rows))
            cut = {text: is_cut(self.trained, text) for text in dict.fromkeys(row.text for row in rows)}
        threshold, results = answered.threshold, []
        for question, found in zip(answered.questions, answered.answers, strict=True):
            spans = ranked_candidates(found, question.context, threshold, count)
            best = tuple(Candidate(text=span.pop("answer"), **span) for span in spans)
            results.append(Answer(found.text(threshold), best, found.null_odds, threshold, cut[question.question]))
        return results

    @overload
    def classify(self, texts: str, pairs: str | None = None) -> Label: ...
    @overload
    def classify(self, texts: Several, pairs: str | Several | None = None) -> list[Label]: ...

    def classify(self, texts, pairs=None):
        """The label of each text. pairs: the second texts, for a model of pairs; text n goes with pair n."""
        found, alone = self._ask("classification", texts, pairs)
        return one_or_all([Label(**answer) for answer in found], alone)

    @overload
    def tag(self, texts: str, pairs: str | None = None) -> Labels: ...
    @overload
    def tag(self, texts: Several, pairs: str | Several | None = None) -> list[Labels]: ...

    def tag(self, texts, pairs=None):
        """The labels of each text, of a multi_label model. pairs: as in `classify`."""
        found, alone = self._ask("multi_label", texts, pairs)
        return one_or_all([Labels(**answer | {"labels": tuple(answer["labels"])}) for answer in found], alone)

    @overload
    def estimate(self, texts: str, pairs: str | None = None) -> float: ...
    @overload
    def estimate(self, texts: Several, pairs: str | Several | None = None) -> list[float]: ...

    def estimate(self, texts, pairs=None):
        """The number of each text, of a regression, in the unit of its training targets. pairs: as in `classify`."""
        found, alone = self._ask("regression", texts, pairs)
        return one_or_all([answer["value"] for answer in found], alone)

    def _ask(self, kind: str, texts: object, pairs: object) -> tuple[list[dict], bool]:
        """The answers to texts as `answers_of` has them, and whether it was one text alone."""
        self._require(kind)
        rows, alone = self._rows(texts, pairs)
        if not rows:
            return [], alone
        with quiet():
            return answers_of(self.trained, predict_rows(self.trained, rows)[0]), alone

    def _require(self, kind: str) -> None:
        if kind != self.kind:
            raise InputError(f"{self.trained.folder}: is a {self.kind} model; call {METHODS[self.kind]}")

    def _rows(self, texts: object, pairs: object) -> tuple[list[Row], bool]:
        """Texts for this model, and whether it was one alone. Raises InputError for pairs too many or missing."""
        paired = self.kind == "span_qa" or getattr(self.trained.task.data, "pair", None) is not None
        if paired is (pairs is None):
            kind, expected = ("pairs of texts", "give pairs") if paired else ("single texts", "give no pairs")
            raise InputError(f"{self.trained.folder}: reads {kind}; {expected}")
        return rows_of(texts, pairs, "texts", "pairs")

    # ---- logits

    def batch(self, texts: str | Several, pairs: str | Several | None = None) -> dict[str, Tensor | None]:
        """Texts as one padded batch on the CPU: tokens, types int64 [B, T]; mask bool [B, T], True = real token, None =
        nothing padded. Of span QA, texts are questions, pairs their contexts, and B counts windows."""
        rows, _ = self._rows(texts, pairs)
        if not rows:
            raise InputError("texts: there are none")
        tokenizer, spec = self.trained.tokenizer, self.trained.task
        with quiet():
            if self.kind == "span_qa":
                tokens: Tokens = windows_of(questions_of(rows), tokenizer, spec)
            else:
                tokens, _ = tokenize(rows, tokenizer, spec.data.max_length)
        return {key: value for key, value in collate(tokens, np.arange(len(tokens))).items() if key != "span"}

    @torch.no_grad()
    def logits(self, batch: Mapping[str, Tensor | None]) -> Tensor:
        """The head's raw outputs for a batch as `batch` makes it, in one forward pass: float32 on the CPU, [B, K] (K
        labels, or 1: a regression's standardised number; of retrieval a unit vector), of span QA [B, 2, T], start
        first, -1e9 where no answer may be. Raises InputError for what is no such batch."""
        placed = self.trained.machine.place(checked(batch, self.trained.model.encoder.config))
        with self.trained.machine.autocast():
            return self.trained.model(placed | {"task": self.trained.name}).float().cpu()


# ---- arguments -------------------------------------------------------------------------------------------------------


def one_or_all(results: list[R], alone: bool) -> R | list[R]:
    return results[0] if alone else results


def texts_of(given: object, name: str) -> tuple[list[str], bool]:
    """The texts of an argument, and whether it was one alone. Raises InputError naming what is no text, or empty."""
    alone = isinstance(given, str)
    table = not alone and getattr(given, "ndim", 1) != 1  # to iterate over one gives the names of its columns
    if not isinstance(given, Iterable) or table or isinstance(given, bytes | Mapping | Set):
        raise InputError(f"{name}: {printable(shown(given))} is neither a text nor a list of texts")
    texts = [given] if alone else list(given)
    for number, text in enumerate(texts):
        where = name if alone else f"{name}[{number}]"
        if not isinstance(text, str):
            raise InputError(f"{where}: {printable(shown(text))} is not a text")
        if not require_utf8(text, where).strip():
            raise InputError(f"{where}: is empty")
    return [str(text) for text in texts], alone  # numpy's strings become Python's


def rows_of(first: object, second: object, name: str, other: str) -> tuple[list[Row], bool]:
    """Texts with the second text of each (None: without), and whether it was one alone. One text goes with all others.
    Raises InputError where numbers differ."""
    a, alone = texts_of(first, name)
    if second is None and other == "pairs":
        return [Row(text, None, None, name) for text in a], alone
    b, single = texts_of(second, other)
    if alone != single:
        a, b = (a * len(b), b) if alone else (a, b * len(a))
    if len(a) != len(b):
        raise InputError(f"{other}: there are {len(b)}, for {len(a)} of {name}; give one for all, or one for each")
    return [Row(*both, None, name) for both in zip(a, b, strict=True)], alone and single


def questions_of(rows: list[Row]) -> list[Question]:
    return [Question(str(number), row.text, row.pair or "", ()) for number, row in enumerate(rows)]


def checked(batch: Mapping[str, Tensor | None], config: BertConfig) -> dict[str, Tensor | None]:
    """A batch with the dtypes that the encoder takes. Raises InputError for what it could only crash on."""
    if not isinstance(batch, Mapping) or any(not isinstance(batch.get(key), Tensor) for key in ("tokens", "types")):
        raise InputError("batch: is no dict with the tensors tokens and types; model.batch(texts) makes one")
    tokens, types, mask = (batch.get(key) for key in ("tokens", "types", "mask"))
    assert tokens is not None and types is not None
    if tokens.ndim != 2 or not tokens.numel() or any(t.shape != tokens.shape for t in (types, mask) if t is not None):
        raise InputError("batch: tokens, types and mask must have one shape [B, T], and not be empty")
    if tokens.shape[1] > config.max_positions:
        raise InputError(f"batch: is {tokens.shape[1]} tokens wide, the encoder has {config.max_positions} positions")
    for name, ids, count in (("tokens", tokens, config.vocab_size), ("types", types, 2)):
        if ids.is_floating_point() or ids.min() < 0 or ids.max() >= count:
            raise InputError(f"batch: {name} must be whole numbers from 0 to {count - 1}")
    return {"tokens": tokens.long(), "types": types.long(), "mask": None if mask is None else mask.bool()}
