"""Film reviews made from templates: a sentiment, or a rating from 1 to 10.

    We watched it at home on a rainy evening. The soundtrack is flawless. The editing is brilliant in every detail. The
    dialogue feels tired, to be fair. A film to treasure.             -> positive, 8.8

Each sentence judges one thing, from -2 (terrible) to 2 (wonderful). In one review in three, one mild judgement goes
against the others, so that no single sentence settles it. The phrases are in `reviews.json`; the development set's
judgements, things, asides and conclusions never occur in training.
"""

import argparse
import csv
import json
import random
import sys
from pathlib import Path

from data.readers import Row

_TABLES = json.loads(Path(__file__).with_name("reviews.json").read_text(encoding="utf-8"))
LABELS = {1: "positive", -1: "negative"}
_AGAINST, _FILLER, _CONCLUSION = 1 / 3, 0.6, 0.7  # shares of reviews that have one


def _review(draw: random.Random, split: str, conclude: bool) -> tuple[str, int, float]:
    """(text, sentiment 1 or -1, mean judgement from -2 to 2)"""
    tables = {name: table[split] for name, table in _TABLES.items()}
    sentiment = draw.choice((1, -1))
    judgements = [sentiment * draw.choice((1, 2, 2)) for _ in range(draw.randint(2, 4))]
    *things, another = draw.sample(tables["things"], len(judgements) + 1)
    sentences = [
        f"{_capital(thing)} {draw.choice(tables['verdicts'][str(judgement)])}."
        for thing, judgement in zip(things, judgements, strict=True)
    ]
    if draw.random() < _AGAINST:
        against = f"{another} {draw.choice(tables['verdicts'][str(-sentiment)])}"
        sentences.append(_capital(draw.choice(tables["links"]).format(against)))
        judgements.append(-sentiment)
    if draw.random() < _FILLER:
        sentences.insert(0, draw.choice(tables["fillers"]))
    if conclude and draw.random() < _CONCLUSION:
        sentences.append(draw.choice(tables["conclusions"][str(sentiment)]))
    return " ".join(sentences), sentiment, sum(judgements) / len(judgements)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _rows(split: str, count: int, kind: str) -> list[Row]:
    """`count` different reviews, always the same ones; fewer are the beginning of more."""
    draw, seen = random.Random(f"{kind} {split}"), set()
    rows: list[Row] = []
    while len(rows) < count:
        text, sentiment, judgement = _review(draw, split, conclude=kind == "sentiment")
        if text not in seen:
            seen.add(text)
            label = LABELS[sentiment] if kind == "sentiment" else round(5.5 + 2.25 * judgement, 2)
            rows.append(Row(text, None, label, f"{split} review {len(rows)}"))
    return rows


def sentiment_rows(split: str, count: int) -> list[Row]:
    """Reviews with the label "positive" or "negative". split: "train" or "dev"."""
    return _rows(split, count, "sentiment")


def rating_rows(split: str, count: int) -> list[Row]:
    """Reviews with a rating from 1 to 10 (5.5 plus 2.25 times the mean judgement), and no conclusion."""
    return _rows(split, count, "rating")


def main(argv: list[str] | None = None) -> None:
    """Print generated reviews as CSV with the columns text and label, to score a run on or to look at."""
    parser = argparse.ArgumentParser(prog="python -m data.synthetic.reviews", description=main.__doc__)
    parser.add_argument("kind", choices=("sentiment", "rating"))
    parser.add_argument("--split", choices=("train", "dev"), default="dev")
    parser.add_argument("--count", type=int, default=600, metavar="N")
    arguments = parser.parse_args(argv)
    writer = csv.writer(sys.stdout)
    writer.writerow(("text", "label"))
    writer.writerows((row.text, row.label) for row in _rows(arguments.split, arguments.count, arguments.kind))


if __name__ == "__main__":
    main()
