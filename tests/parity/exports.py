"""Runs that were trained here, exported, and loaded by transformers and peft; and all the way round."""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import peft
import torch
import transformers
from torch import Tensor, nn

import train
from data.files import read_json
from experiments.inference import Model, load
from experiments.inference.export import export
from tests.parity import Row
from tests.parity.adapters import QA, TEXTS
from tests.parity.families import FEW_LAYERS, SHAPES, SMALL, TYPED, their_model
from tests.vocabularies import write_vocabulary

DATA = {"train_limit": 24, "dev_limit": 12, "max_length": 64, "batch_size": 8}
TASKS = {
    "qa": {"task": "span_qa", "data": {**DATA, "source": "synthetic_qa", "max_length": 160, "doc_stride": 60}},
    "mood": {
        "task": "classification",
        "pooling": "cls_pooler",
        "data": {**DATA, "source": "synthetic_sentiment", "label_names": {}},
    },
    "stars": {"task": "regression", "pooling": "cls_pooler", "data": {**DATA, "source": "synthetic_rating"}},
    "tags": {
        "task": "multi_label",
        "pooling": "cls_pooler",
        "data": {"train": ["tags.jsonl"], "dev": ["tags.jsonl"], "max_length": 32, "batch_size": 8},
    },
}
QUESTIONS = ["Who led the trial?", "When was the bridge built?", "Where?"]
CONTEXTS = [
    "The trial was led by Ann Sole in 1952.",
    "The bridge at Kell was built in 1877 by two brothers.",
    "Nobody knew.",
]
REVIEWS = ["A film to treasure.", "Two hours of nothing, badly lit.", "It is a film."]


@contextmanager
def silence() -> Iterator[list[str]]:
    """Collects what the libraries warn of within it."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_warning()
    logger.addHandler(handler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    said += [str(warning.message) for warning in caught if not issubclass(warning.category, DeprecationWarning)]
    logger.removeHandler(handler)
    transformers.logging.set_verbosity(before)


def write_base(folder: Path, family: str) -> Path:
    """A small random checkpoint of a family with its tokenizer, written by transformers."""
    write_vocabulary(folder / "plain", family)
    (folder / "plain" / "config.json").write_text(json.dumps({"model_type": family}))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "plain")
    changes = SMALL[family] | FEW_LAYERS[family] | {"vocab_size": len(tokenizer)}
    their_model(family, **changes).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    return folder / "base"


def train_here(folder: Path, base: Path, name: str, **changes) -> Path:
    """A run of all kinds of task over one encoder, with LoRA."""
    lines = [{"text": text, "label": ["a"] * (i % 2) + ["b"] * (i % 3 > 0)} for i, text in enumerate(REVIEWS * 8)]
    (folder / "tags.jsonl").write_text("\n".join(map(json.dumps, lines)))
    raw = {
        "model": {"pretrained": str(base)},
        "lora": {"rank": 4, "alpha": 8, "targets": "all-linear"},
        "optim": {"lr": 0.01},
        "phases": [{"name": "one", "epochs": 1, "train": ["head", "lora"]}],
        "amp": "off",
        "runtime": {"device": "cpu"},
    }
    (folder / f"{name}.json").write_text(json.dumps(raw | changes))
    command = ["--exp", str(folder / f"{name}.json"), "--runs", str(folder / "runs"), "--data-root", str(folder)]
    assert train.main(command) == 0
    return folder / "runs" / name


def our_logits(model: Model) -> tuple[Tensor, Tensor]:
    """(logits, where they count) for the texts above. A regression's in its unit, as `estimate` has it."""
    texts, pairs = (QUESTIONS, CONTEXTS) if model.kind == "span_qa" else (REVIEWS, None)
    logits = model.logits(model.batch(texts, pairs))
    if model.kind == "regression":
        logits = torch.tensor(model.estimate(texts))[:, None]
    return logits, logits > -1e8


def their_logits(model: nn.Module, tokenizer, family: str, kind: str) -> Tensor:
    texts = (QUESTIONS, CONTEXTS) if kind == "span_qa" else (REVIEWS,)
    batch = tokenizer(*texts, padding=True, pad_to_multiple_of=4, return_tensors="pt")
    if family not in TYPED:
        batch.pop("token_type_ids", None)
    with torch.no_grad():
        found = model.eval()(**batch)
    return torch.stack([found.start_logits, found.end_logits], 1) if kind == "span_qa" else found.logits


def compare(model: Model, theirs: nn.Module, tokenizer, family: str) -> float:
    logits, counts = our_logits(model)
    expected = their_logits(theirs, tokenizer, family, model.kind)
    width = min(logits.shape[-1], expected.shape[-1])  # padding differs
    return (logits[..., :width] - expected[..., :width])[counts[..., :width]].abs().max().item()


def load_there(folder: Path, kind: str, base: Path | None) -> nn.Module:
    """An export as its users load it. base: of adapters."""
    auto = getattr(transformers, QA if kind == "span_qa" else TEXTS)
    if base is None:
        return auto.from_pretrained(folder)
    labels = {"multi_label": 2, "regression": 1}.get(kind, 2)
    model = auto.from_pretrained(base, **({} if kind == "span_qa" else {"num_labels": labels}))
    return peft.PeftModel.from_pretrained(model, folder).get_base_model()


def exports(folder: Path, families: Sequence[str] = tuple(SHAPES)) -> Iterator[Row]:
    """Every kind of task of some families, merged and as adapters."""
    for family in families:
        place = folder / family
        place.mkdir()
        base = write_base(place, family)
        several = train_here(place, base, "run", tasks={name: TASKS[name] for name in TASKS if name != "stars"})
        stars = train_here(place, base, "stars", tasks={"stars": TASKS["stars"]})
        for form in ("merged", "adapter"):
            written = export(several, place / form, form, None, False)
            assert [path.name for path in written] == ["qa", "mood", "tags"]
            written += export(stars, place / form / "stars", form, None, False)
            worst, said = 0.0, []
            for path in written:
                model = load(stars if path.name == "stars" else several, path.name)
                with silence() as heard:
                    theirs = load_there(path, model.kind, base if form == "adapter" else None)
                    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
                said += heard if form == "merged" else []  # the base alone has no head, and transformers says so
                worst = max(worst, compare(model, theirs, tokenizer, family))
                if form == "merged" and model.kind in ("classification", "multi_label"):
                    assert list(theirs.config.id2label.values()) == list(model.trained.outputs.labels)
            assert not said, said
            what = "without a warning" if form == "merged" else "PeftModel with its head"
            yield Row(family, "out", f"{form}, {len(written)} kinds of task, {what}: logits", worst, 1e-5)


def round_trip(folder: Path) -> Iterator[Row]:
    """Train here, export, train on in transformers and peft, come back: the same logits at each station."""
    base = write_base(folder, "bert")
    run = train_here(folder, base, "first", tasks={"qa": TASKS["qa"]})
    (out,) = export(run, folder / "out", "adapter", None, False)
    plain = transformers.AutoModelForQuestionAnswering.from_pretrained(base)
    theirs = peft.PeftModel.from_pretrained(plain, out, is_trainable=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    yield Row(
        "bert", "round trip", "1. trained here, in peft: logits", compare(load(run), plain, tokenizer, "bert"), 1e-5
    )

    before = our_logits(load(run))[0]
    batch = tokenizer(QUESTIONS, CONTEXTS, padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], lr=0.01)
    for _ in range(5):
        place = torch.full((3,), 8)
        theirs.train()(**batch, start_positions=place, end_positions=place).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    theirs.save_pretrained(folder / "trained")
    back = load(run, adapter=folder / "trained")
    moved = (our_logits(back)[0] - before).abs().max().item()
    assert moved > 0.01, moved
    yield Row(
        "bert", "round trip", "2. trained on there, back here: logits", compare(back, plain, tokenizer, "bert"), 1e-5
    )

    # A run that begins with it, whose one step is too small to matter.
    still = [{"name": "one", "epochs": 1, "train": ["head", "lora"], "lr": {"head": 1e-12, "lora": 1e-12}}]
    changes = {"model": {"pretrained": str(base), "adapter": str(folder / "trained")}, "lora": None, "phases": still}
    second = train_here(folder, base, "second", tasks={"qa": TASKS["qa"]}, **changes)
    found = compare(load(second), plain, tokenizer, "bert")
    yield Row("bert", "round trip", "3. a run that begins with it: logits", found, 1e-5)
    (merged,) = export(second, folder / "merged", "merged", None, False)
    again = transformers.AutoModelForQuestionAnswering.from_pretrained(merged)
    yield Row(
        "bert",
        "round trip",
        "4. merged, in transformers: logits",
        compare(load(second), again, tokenizer, "bert"),
        1e-5,
    )
    third = train_here(
        folder,
        base,
        "third",
        tasks={"qa": TASKS["qa"]},
        model={"pretrained": str(merged)},
        lora=None,
        phases=[{"name": "one", "epochs": 1, "train": ["head"], "lr": {"head": 1e-12}}],
    )
    assert read_json(merged / "config.json")["architectures"] == ["BertForQuestionAnswering"]
    found = compare(load(third), plain, tokenizer, "bert")
    yield Row("bert", "round trip", "5. a run that begins with the merged model and its head: logits", found, 1e-5)
