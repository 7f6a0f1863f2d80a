"""Data made from templates, so that a newcomer can train without downloading anything.

`qa_dataset` makes a question answering set in the SQuAD 2.0 format. The language (facts, questions, names) is in
`qa.json`; this module decides what a passage tells and what is asked. A passage and two questions:

    Henrik Wetherby ran against Yusuf Glenholt and lost. The council met twice a month in Kelbridge. A dairy carpenter
    by trade, Yusuf Glenholt came late to politics. He was succeeded by Anneke Okonjo in 1912. The term of Ivo Glenholt
    began in 1918. Records from the early years are kept in the archive in Elmham.

    Who succeeded Yusuf Glenholt?   Anneke Okonjo
    Who succeeded Ivo Glenholt?     (no answer)

Why it is worth learning: a passage tells the same relation of several subjects, so the kind of answer alone does not
find it. One question in three has no answer, because its relation is told of other subjects only, or of nobody, or
because it is about a near-namesake; all questions come from the same passages and phrasings. The dev set has phrasings
and names of its own.
"""

import argparse
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

_TABLES = json.loads(Path(__file__).with_name("qa.json").read_text(encoding="utf-8"))
_POOLS = _TABLES["pools"]
_POOLS["person"]["first"] = _POOLS["person"]["she"] + _POOLS["person"]["he"]
for _pool in _POOLS.values():
    if "low" in _pool:  # numbers are names too, of one part
        _pool["first"] = [f"{number:,}" for number in range(_pool["low"], _pool["high"], _pool["step"])]
        _pool["second"] = [""]
_SPLITS = ("train", "dev")
_WORDS = range(30, 71)
_DEV_SHARE = 5  # one name in five is kept for the dev set

# What makes it hard: more subjects are more distractors, and each follow-up is a pronoun to resolve.
_SUBJECTS = (2, 3, 3)
_NEAR_NAMESAKE = 0.3
_FOLLOW_UP = 0.4
_ASK_NAMESAKE = 0.4


@dataclass(frozen=True)
class _Entity:
    """A name, the places of its two parts in their pool, and a year near which its story begins."""

    name: str
    parts: tuple[int, int]
    year: int


@dataclass(frozen=True)
class _Fact:
    """What a passage tells: `answer` stands in `relation` to `subject`, in the words of `template`."""

    subject: _Entity
    relation: str
    answer: str
    template: str


@dataclass
class _Scene:
    """A passage in the making: who it is about, what it tells of them, and every name with its pool."""

    rng: random.Random
    split: str
    domain: dict
    subjects: list[_Entity] = field(default_factory=list)
    facts: list[_Fact] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)


def _entity(scene: _Scene, pool_name: str, like: _Entity | None = None) -> _Entity:
    """A name that is new to the scene; with `like`, a near-namesake, which has one of its two parts.

    The sum of the parts' places decides the split: both splits know every part, and no full name is in both. A name
    inside another name of the scene would make an answer ambiguous and is drawn again.
    """
    rng, pool = scene.rng, _POOLS[pool_name]
    while True:
        one, two = rng.randrange(len(pool["first"])), rng.randrange(len(pool["second"]))
        if like:
            one, two = rng.choice([(like.parts[0], two), (one, like.parts[1])])
        name = pool["form"].format(first=pool["first"][one], second=pool["second"][two])
        fits = ((one + two) % _DEV_SHARE == 0) == (scene.split == "dev")
        if fits and not any(name in other or other in name for other in scene.names):
            scene.names[name] = pool_name
            return _Entity(name, (one, two), rng.randrange(1840, 1930))


def _invent(scene: _Scene) -> None:
    """Subjects of one kind, and every relation told of some of them, which leaves gaps to ask about."""
    rng, pool = scene.rng, scene.domain["pool"]
    for _ in range(rng.choice(_SUBJECTS)):
        like = scene.subjects[0] if scene.subjects and rng.random() < _NEAR_NAMESAKE else None
        scene.subjects.append(_entity(scene, pool, like))
    everyone = len(scene.subjects)
    for relation, table in scene.domain["relations"].items():
        told = rng.choice((0, 1, everyone - 1, everyone - 1, everyone))
        templates = rng.sample(table["facts"][scene.split], told)
        for subject, template in zip(rng.sample(scene.subjects, told), templates, strict=True):
            if table["answer"] == "year":  # counted from the subject's own year, so that its dates agree
                answer = str(subject.year + rng.randint(3, 9))
            else:
                answer = _entity(scene, table["answer"]).name
            scene.facts.append(_Fact(subject, relation, answer, template))


def _fill(scene: _Scene, template: str, subject: _Entity, answer: str = "") -> str:
    """The template with its slots filled; a slot with the name of a pool brings in somebody or something new."""
    slots = {"s": subject.name, "a": answer, "year": subject.year, "later": subject.year + scene.rng.randint(20, 45)}
    slots["pronoun"] = "She" if subject.parts[0] < len(_POOLS["person"]["she"]) else "He"
    slots |= {pool: _entity(scene, pool).name for pool in _POOLS if f"{{{pool}}}" in template}
    return template.format_map(slots)


def _tell(scene: _Scene, facts: list[_Fact]) -> str:
    """Facts about one subject as sentences, each but the first with a pronoun or the like where that is clear."""
    sentences, before = [], ""
    for fact in facts:
        template = fact.template
        clear = before and f"{{{scene.domain['pool']}}}" not in before
        for opening in ("The {s} ", "{s} "):
            if clear and template.startswith(opening):
                template = f"{scene.rng.choice(scene.domain['again'])} {template.removeprefix(opening)}"
        sentences.append(_fill(scene, template, fact.subject, fact.answer))
        # The kinds of names that a pronoun in the next sentence could be mistaken for.
        before = f"{template} {{{scene.domain['relations'][fact.relation]['answer']}}}"
    return " ".join(sentences)


def _write(scene: _Scene) -> str:
    """The facts in shuffled order, some in pairs, among sentences that are beside the point."""
    rng = scene.rng
    waiting, blocks = rng.sample(scene.facts, len(scene.facts)), []
    while waiting:
        facts = [waiting.pop()]
        more = [fact for fact in waiting if fact.subject == facts[0].subject]
        if more and rng.random() < _FOLLOW_UP:
            waiting.remove(more[0])
            facts.append(more[0])
        blocks.append(_tell(scene, facts))
    for template in rng.sample(scene.domain["fillers"], rng.randint(1, 3)) + rng.sample(_TABLES["fillers"], 1):
        blocks.append(_fill(scene, template, rng.choice(scene.subjects)))
    return " ".join(rng.sample(blocks, len(blocks)))


def _gaps(scene: _Scene) -> list[tuple[str, str, str]]:
    """What is left open, in random order: subject, relation and a wrong answer, if possible of the right kind."""
    kinds = {relation: table["answer"] for relation, table in scene.domain["relations"].items()}
    told = {(fact.subject, fact.relation) for fact in scene.facts}
    gaps = []
    for subject, relation in itertools.product(scene.subjects, kinds):
        if (subject, relation) not in told:
            wrong = [fact.answer for fact in scene.facts if fact.relation == relation]
            wrong += [name for name, pool in scene.names.items() if pool == kinds[relation] and name != subject.name]
            gaps.append((subject.name, relation, (wrong or [scene.facts[0].answer])[0]))
    return scene.rng.sample(gaps, len(gaps))


def _ask(scene: _Scene, context: str, name: str, impossible: list[bool]) -> list[dict]:
    """One question for each flag, none about the same thing twice."""
    rng, qas = scene.rng, []
    told = [(fact.subject.name, fact.relation, fact.answer) for fact in scene.facts]
    known, unknown = rng.sample(told, len(told)), _gaps(scene)
    for place, flag in enumerate(impossible, 1):
        if flag and (not unknown or rng.random() < _ASK_NAMESAKE):
            fact = rng.choice(scene.facts)
            unknown.append((_entity(scene, scene.domain["pool"], fact.subject).name, fact.relation, fact.answer))
        subject, relation, answer = unknown.pop() if flag else known.pop()
        template = rng.choice(scene.domain["relations"][relation]["questions"][scene.split])
        span = [{"text": answer, "answer_start": context.index(answer)}]
        answers = {"answers": [], "plausible_answers": span} if flag else {"answers": span}
        qas.append({"id": f"{name}-{place}", "question": template.format(s=subject), "is_impossible": flag} | answers)
    return qas


def _paragraph(rng: random.Random, split: str, domain: dict, name: str, impossible: list[bool]) -> dict:
    """A passage of the right length that names each answer exactly once, and a question for each flag."""
    while True:
        scene = _Scene(rng, split, domain)
        _invent(scene)
        answers = [fact.answer for fact in scene.facts]
        if {fact.subject for fact in scene.facts} == set(scene.subjects) and len(answers) >= impossible.count(False):
            context = _write(scene)
            if len(context.split()) in _WORDS and all(context.count(answer) == 1 for answer in answers):
                return {"context": context, "qas": _ask(scene, context, name, impossible)}


def _paragraphs(split: str, seed: int) -> Iterator[tuple[str, dict]]:
    """Passages without end, each with its article's title; of three questions in a row one has no answer."""
    rng, number = random.Random(f"qa-{split}-{seed}"), 0
    flags = (flag for _ in itertools.count() for flag in rng.sample((True, False, False), 3))
    for part in itertools.count(1):
        for domain in rng.sample(list(_TABLES["domains"].values()), len(_TABLES["domains"])):
            for _ in range(rng.randint(3, 5)):
                number += 1
                name, impossible = f"synth-{split}-{number:05d}", list(itertools.islice(flags, rng.randint(2, 5)))
                yield f"{domain['title']}, part {part}", _paragraph(rng, split, domain, name, impossible)


def qa_dataset(split: str, questions: int, seed: int = 0) -> dict:
    """Exactly `questions` questions of the "train" or the "dev" split as a SQuAD 2.0 dictionary.

    The same arguments give the same data, and fewer questions are the beginning of more. A passage has two to five
    questions; the last one may be cut short.
    """
    if split not in _SPLITS:
        raise ValueError(f"unknown split {split!r}: it must be one of {', '.join(_SPLITS)}")
    if questions < 1:
        raise ValueError(f"cannot make {questions} questions: ask for 1 or more")
    articles: dict[str, list[dict]] = {}
    left, paragraphs = questions, _paragraphs(split, seed)
    while left:
        title, paragraph = next(paragraphs)
        paragraph["qas"] = paragraph["qas"][:left]
        left -= len(paragraph["qas"])
        articles.setdefault(title, []).append(paragraph)
    return {"version": "v2.0", "data": [{"title": title, "paragraphs": told} for title, told in articles.items()]}


def main(arguments: list[str] | None = None) -> None:
    """Make question answering data from templates: DIR/train.json and DIR/dev.json, in the SQuAD 2.0 format."""
    parser = argparse.ArgumentParser(prog="python -m data.synthetic.qa", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write; made if missing")
    parser.add_argument("--train", type=int, default=5000, metavar="N", help="training questions (%(default)s)")
    parser.add_argument("--dev", type=int, default=600, metavar="N", help="dev questions (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, other data (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        datasets = {split: qa_dataset(split, getattr(options, split), options.seed) for split in _SPLITS}
        options.out.mkdir(parents=True, exist_ok=True)
        for path in (options.out / f"{split}.json" for split in _SPLITS):
            if path.exists():
                raise ValueError(f"{path}: is there already; choose another folder")
        for split, dataset in datasets.items():
            path, text = options.out / f"{split}.json", json.dumps(dataset, ensure_ascii=False, indent=1) + "\n"
            path.write_text(text, encoding="utf-8", newline="\n")
            paragraphs = [paragraph for article in dataset["data"] for paragraph in article["paragraphs"]]
            flags = [qa["is_impossible"] for paragraph in paragraphs for qa in paragraph["qas"]]
            share, words = fmean(flags), fmean(len(paragraph["context"].split()) for paragraph in paragraphs)
            print(f"{path}: {len(flags)} questions, {share:.0%} unanswerable, {words:.0f} words a passage")
    except (ValueError, OSError) as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    main()
