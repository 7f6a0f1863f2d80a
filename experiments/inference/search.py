"""One question, many texts: rank their passages, read the best, and give the best answers over all of them.

Reading a thousand texts takes minutes, ranking them a matrix product, once their vectors are kept (vectors.py). So the
span QA model reads only the passages that come first (Chen et al. 2017, arXiv 1704.00051).

One score for all texts. A softmax over the spans of one passage says nothing about another passage: it is as sure of
the best span of a page that has no answer. What compares is not normalised by passage (Clark and Gardner 2018, arXiv
1710.10723). For a model that knows "no answer" it is the margin of a span over it: training has put that above 0 in
passages that answer and below elsewhere. A model that has only seen passages with the answer has no such zero; it gives
the sum of the span's two logits. To that comes what the ranking says of the passage, cosine over temperature, which is
the logit that ranking is trained with (Yang et al. 2019, arXiv 1902.01718, add a retriever's score likewise). Each of
the two steps is worth points (experiments/RESULTS.md, "Finding the passage").

Axes:  P passages   C width of a vector
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.decoding import Answers
from data.files import InputError
from data.passages import split_passages
from data.readers import Question
from data.tokens import encode
from experiments.inference.questions import answer_all, is_cut, sentence_around
from experiments.inference.ranking import Ranker
from experiments.inference.trained import Trained
from experiments.inference.vectors import vectors_for


@dataclass(frozen=True)
class Passage:
    """A stretch of a text: the name of the text, and its characters there."""

    name: str
    start: int
    text: str


def passages_of(trained: Trained, texts: dict[str, str]) -> list[Passage]:
    """The passages of all texts {name: text}, in order. Raises InputError where there are no words in any."""
    encoded = encode(list(texts.values()), trained.tokenizer)
    found = []
    for (name, text), encoding in zip(texts.items(), encoded, strict=True):
        chars = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        found += [Passage(name, start, text[start:end]) for start, end in split_passages(text, chars)]
    if not found:
        raise InputError("there are no words in the texts")
    return found


def chosen_passages(
    ranker: Ranker, asked: Sequence[str], passages: Sequence[Passage], most: int, place: str
) -> list[list[tuple[int, float]]]:
    """For each question the numbers of the `most` best passages with their cosines, best first."""
    vectors, _ = vectors_for(ranker, [passage.text for passage in passages], place)
    cosines = ranker.vectors(list(asked))[0] @ vectors.T  # [questions, P]
    return [[(int(n), float(row[n])) for n in np.argsort(-row, kind="stable")[:most]] for row in cosines]


def score_of(answers: Answers, threshold: float | None, passage: float) -> float:
    """The score of the best span of a passage, comparable with those of other passages. threshold: None for a model
    that always answers. passage: the logit of its passage."""
    return passage + (-answers.null_odds if threshold is not None else answers.spans[0].score)


def entry_of(
    passage: Passage,
    texts: dict[str, str],
    answers: Answers,
    threshold: float | None,
    cosine: float,
    temperature: float,
) -> dict:
    """The best span of a passage, as an answer from the text that the passage is of."""
    best, start = answers.spans[0], passage.start
    return {
        "text": passage.name,
        "answer": best.text,
        "score": score_of(answers, threshold, cosine / temperature),
        "null_odds": answers.null_odds,
        "cosine": cosine,
        "start": start + best.start,
        "end": start + best.end,
        "sentence": sentence_around(texts[passage.name], start + best.start, start + best.end),
    }


def search(
    trained: Trained,
    ranker: Ranker,
    asked: Sequence[str],
    texts: dict[str, str],
    passages: Sequence[Passage],
    *,
    top: int = 3,
    most: int = 10,
    place: str = "",
) -> list[dict]:
    """For each question the `top` best answers over all texts, at most one a passage, of the `most` passages that rank
    first. place: where the texts come from, for the file that keeps their vectors. Of a model that may answer "no
    answer", passages in which it does so give no answer; `nearest` is the closest call where all do."""
    asked = list(dict.fromkeys(asked))
    chosen = chosen_passages(ranker, asked, passages, most, place)
    pairs = [(q, n, cosine) for q, ranked in enumerate(chosen) for n, cosine in ranked]
    questions = [Question(f"{i}", asked[q], passages[n].text, ()) for i, (q, n, _) in enumerate(pairs)]
    answered = answer_all(trained, questions)
    found: list[list[dict]] = [[] for _ in asked]
    for (q, n, cosine), answers in zip(pairs, answered.answers, strict=True):
        if answers.spans:
            found[q].append(entry_of(passages[n], texts, answers, answered.threshold, cosine, ranker.temperature))
    results = []
    for text, ranked, own in zip(asked, chosen, found, strict=True):
        own.sort(key=lambda entry: -entry["score"])
        threshold = answered.threshold
        kept = [e for e in own if threshold is None or e["null_odds"] <= threshold]
        results.append(
            {
                "question": text,
                "question_cut": is_cut(trained, text),
                "texts": len(texts),
                "passages": len(passages),
                "read": len(ranked),
                "threshold": threshold,
                "answers": kept[:top],
                "nearest": min(own, key=lambda entry: entry["null_odds"]) if own and not kept else None,
            }
        )
    return results
