"""A task that the real checkpoint learns in seconds: find the password in a passage, or say that there is none."""

import json
import random
from pathlib import Path

WORDS = (
    "amber",
    "basil",
    "cedar",
    "daisy",
    "ember",
    "fjord",
    "grove",
    "heron",
    "ivory",
    "jade",
    "kelp",
    "lilac",
    "maple",
    "nectar",
    "onyx",
    "pearl",
    "quartz",
    "raven",
    "slate",
    "tulip",
    "umber",
    "violet",
    "willow",
    "xenon",
    "yarrow",
    "zinc",
    "acorn",
    "birch",
    "clover",
    "dune",
)
FILLERS = (
    "It rained all day and nobody went out.",
    "The market was busy in the morning.",
    "A letter came from the city.",
    "The road to the lake was closed.",
    "Somebody played the piano upstairs.",
    "The bread was still warm.",
    "They talked about the weather for an hour.",
    "The train was late again.",
)
QUESTION = "What is the password?"


def passage(rng: random.Random, word: str | None, sentences: int, place: int) -> str:
    lines = [rng.choice(FILLERS) for _ in range(sentences)]
    if word is not None:
        lines.insert(place, f"The password of the day is {word}.")
    return " ".join(lines)


def squad(count: int, seed: int) -> dict:
    """Questions in SQuAD's format, a quarter of them without an answer."""
    rng, paragraphs = random.Random(seed), []
    for i in range(count):
        word = rng.choice(WORDS) if i % 4 else None
        sentences = rng.randint(2, 14)
        context = passage(rng, word, sentences, rng.randint(0, sentences))
        answers = [{"text": word, "answer_start": context.index(f"is {word}.") + 3}] if word else []
        qa = {"id": f"s{seed}-{i}", "question": QUESTION, "is_impossible": not answers, "answers": answers}
        paragraphs.append({"context": context, "qas": [qa]})
    return {"version": "v2.0", "data": [{"title": "passwords", "paragraphs": paragraphs}]}


def write(folder: Path) -> Path:
    """train.json, dev.json and the experiment; returns the latter."""
    (folder / "train.json").write_text(json.dumps(squad(240, 0)))
    (folder / "dev.json").write_text(json.dumps(squad(40, 1)))
    experiment = {
        "lora": {"rank": 8, "alpha": 16},
        "data": {
            "train": ["train.json"],
            "dev": ["dev.json"],
            "max_length": 64,
            "doc_stride": 24,
            "max_query_length": 16,
        },
        "task": "span_qa",
        "phases": [{"name": "one", "epochs": 3, "train": ["head", "lora"]}],
        "optim": {"lr": 3e-3},
        "eval": {"metric": "best_f1"},
        "runtime": {"device": "cpu", "threads": 1},
    }
    (folder / "passwords.json").write_text(json.dumps(experiment))
    return folder / "passwords.json"
