"""The generated question answering set keeps its promises: format, splits, and no way to answer without reading."""

import functools
import itertools
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from data.synthetic.qa import qa_dataset

ROOT = Path(__file__).resolve().parents[2]
TABLES = json.loads((ROOT / "data" / "synthetic" / "qa.json").read_text(encoding="utf-8"))
RELATIONS = {
    (domain, name): relation
    for domain, table in TABLES["domains"].items()
    for name, relation in table["relations"].items()
}
NUMBERS = {"year"} | {name for name, pool in TABLES["pools"].items() if "low" in pool}


def paragraphs(dataset):
    return [paragraph for article in dataset["data"] for paragraph in article["paragraphs"]]


def questions(dataset):
    """Every question with its passage, in order."""
    return [(paragraph["context"], qa) for paragraph in paragraphs(dataset) for qa in paragraph["qas"]]


@pytest.fixture(scope="module")
def train():
    return qa_dataset("train", 5000)


@pytest.fixture(scope="module")
def dev():
    return qa_dataset("dev", 600)


@pytest.fixture(scope="module", params=["train", "dev"])
def split(request, train, dev):
    return {"train": train, "dev": dev}[request.param]


@functools.cache
def read_question(question, split):
    """Which relation a question is about, in which phrasing, and its subject, by matching it against the tables."""
    found = []
    for relation, table in RELATIONS.items():
        for template in table["questions"][split]:
            start, end = template.split("{s}")
            if question.startswith(start) and question.endswith(end):
                found.append((relation, template, question[len(start) : len(question) - len(end)]))
    return min(found, key=lambda match: len(match[2]))  # the phrasing that leaves least to the name


def asked(dataset, split):
    return [(context, qa, *read_question(qa["question"], split)) for context, qa in questions(dataset)]


# What is made


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50, 601])
def test_there_are_exactly_as_many_questions_as_asked_for(count):
    assert len(questions(qa_dataset("train", count))) == count
    assert len(questions(qa_dataset("dev", count, seed=3))) == count


def test_the_same_arguments_give_the_same_data():
    assert qa_dataset("train", 300, seed=5) == qa_dataset("train", 300, seed=5)


def test_the_data_does_not_depend_on_the_hash_seed():
    code = "from data.synthetic.qa import qa_dataset; print(qa_dataset('train', 200))"
    line = [sys.executable, "-c", code]
    runs = [subprocess.check_output(line, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}) for seed in "12"]
    assert runs[0] == runs[1]


def test_the_global_random_state_is_neither_used_nor_touched():
    random.seed(1)
    before = random.getstate()
    first = qa_dataset("dev", 20)
    assert random.getstate() == before
    random.seed(2)
    assert qa_dataset("dev", 20) == first


def test_another_seed_gives_other_data():
    contexts = [{context for context, _ in questions(qa_dataset("train", 300, seed))} for seed in (0, 1)]
    assert not contexts[0] & contexts[1]


@pytest.mark.parametrize("name", ["train", "dev"])
def test_fewer_questions_are_the_beginning_of_more(name):
    more = questions(qa_dataset(name, 500))
    for count in (1, 4, 33, 499):
        assert questions(qa_dataset(name, count)) == more[:count]


@pytest.mark.parametrize(("name", "count"), [("test", 10), ("", 10), ("train", 0), ("dev", -1)])
def test_an_unknown_split_or_too_few_questions_is_refused_in_one_line(name, count):
    with pytest.raises(ValueError, match=r"unknown split|questions") as problem:
        qa_dataset(name, count)
    assert "\n" not in str(problem.value)


def test_both_splits_together_take_less_than_five_seconds():
    start = time.perf_counter()
    qa_dataset("train", 5000, seed=9)
    qa_dataset("dev", 600, seed=9)
    assert time.perf_counter() - start < 5


def test_answers_are_as_sound_with_another_seed():
    for context, qa in questions(qa_dataset("train", 3000, seed=4)):
        for answer in qa["answers"]:
            assert context[answer["answer_start"] :].startswith(answer["text"])
            assert context.count(answer["text"]) == 1


# The format


def test_the_format_is_squad_2(split):
    assert split["version"] == "v2.0"
    for article in split["data"]:
        assert set(article) == {"title", "paragraphs"} and article["title"]
        for paragraph in article["paragraphs"]:
            assert set(paragraph) == {"context", "qas"}
            for qa in paragraph["qas"]:
                impossible = {"plausible_answers"} if qa["is_impossible"] else set()
                assert set(qa) == {"id", "question", "is_impossible", "answers"} | impossible
                assert len(qa["answers"]) == (0 if qa["is_impossible"] else 1)


def test_articles_have_several_passages_and_passages_two_to_five_questions(split):
    whole = split["data"][:-1]
    assert all(3 <= len(article["paragraphs"]) <= 5 for article in whole)
    assert all(2 <= len(paragraph["qas"]) <= 5 for paragraph in paragraphs({"data": whole}))
    assert len({article["title"] for article in split["data"]}) == len(split["data"])


def test_ids_are_unique_readable_and_those_of_their_split(train, dev):
    ids = {name: [qa["id"] for _, qa in questions(dataset)] for name, dataset in (("train", train), ("dev", dev))}
    assert len(set(ids["train"] + ids["dev"])) == 5600
    for name in ids:
        assert all(re.fullmatch(rf"synth-{name}-\d{{5}}-[1-5]", each) for each in ids[name])


def test_every_answer_is_found_at_its_offset(split):
    for context, qa in questions(split):
        for answer in qa["answers"] + qa.get("plausible_answers", []):
            start = answer["answer_start"]
            assert context[start : start + len(answer["text"])] == answer["text"]


def test_passages_have_30_to_70_words_and_are_all_different(split):
    contexts = [paragraph["context"] for paragraph in paragraphs(split)]
    assert all(30 <= len(context.split()) <= 70 for context in contexts)
    assert len(set(contexts)) == len(contexts)


def test_passages_are_whole_sentences_without_leftover_slots(split):
    for context, qa in questions(split):
        assert not set("{}") & set(context + qa["question"])
        assert context.endswith(".") and "  " not in context and ".." not in context
        assert all(sentence[0].isupper() for sentence in context.split(". "))
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou\W]|\bthe the\b|\b[Tt]he The\b", context)


# The tables


def test_there_are_many_relations_of_many_kinds():
    assert len(RELATIONS) >= 14
    assert len({relation["answer"] for relation in RELATIONS.values()}) >= 8


@pytest.mark.parametrize("relation", RELATIONS.values(), ids=map(".".join, RELATIONS))
def test_every_relation_has_enough_phrasings_of_its_own_for_each_split(relation):
    for part, slots in (("facts", ("{s}", "{a}")), ("questions", ("{s}",))):
        train, dev = relation[part]["train"], relation[part]["dev"]
        assert len(set(train)) == len(train) >= 8
        assert len(set(dev)) == len(dev) >= 3
        assert not set(train) & set(dev)
        assert all(template.count(slot) == 1 for template in train + dev for slot in slots)


def test_no_phrasing_is_used_for_two_relations_or_two_splits():
    for part in ("facts", "questions"):
        templates = [
            (domain, template)
            for (domain, _), relation in RELATIONS.items()
            for template in relation[part]["train"] + relation[part]["dev"]
        ]
        assert len(set(templates)) == len(templates)


def test_dev_phrasings_share_at_most_half_of_their_words_with_any_training_phrasing():
    small = {"a", "and", "by", "did", "does", "for", "in", "is", "it", "of", "the", "to", "was"}
    small |= {"how", "what", "when", "where", "which", "who"}

    def words(template):
        return set(re.findall(r"\w+", re.sub(r"\{\w+\}", "", template).lower())) - small

    for relation, part in itertools.product(RELATIONS.values(), ("facts", "questions")):
        for new, old in itertools.product(relation[part]["dev"], relation[part]["train"]):
            assert len(words(new) & words(old)) <= len(words(new)) / 2, (new, old)


def test_every_phrasing_and_every_relation_is_used(train, dev):
    for name, dataset in (("train", train), ("dev", dev)):
        used = {(relation, template) for _, _, relation, template, _ in asked(dataset, name)}
        assert used == {(key, template) for key, table in RELATIONS.items() for template in table["questions"][name]}


# Train and dev


def test_no_dev_name_occurs_in_a_training_passage(train, dev):
    names = {subject for _, _, _, _, subject in asked(dev, "dev")}
    for _, qa, relation, _, _ in asked(dev, "dev"):
        if RELATIONS[relation]["answer"] not in NUMBERS:
            names |= {answer["text"] for answer in qa["answers"]}
    text = "\n".join(paragraph["context"] for paragraph in paragraphs(train))
    assert len(names) > 500
    assert not [name for name in names if name in text]


def test_there_are_thousands_of_names(train):
    names = {answer["text"] for _, qa in questions(train) for answer in qa["answers"]}
    names |= {subject for _, _, _, _, subject in asked(train, "train")}
    assert len(names) > 3000


def test_no_passage_or_question_is_in_both_splits(train, dev):
    for texts in (lambda each: {context for context, _ in each}, lambda each: {qa["question"] for _, qa in each}):
        assert not texts(questions(train)) & texts(questions(dev))


# Only reading helps


@pytest.mark.parametrize("count", [300, 600, 5000])
def test_a_third_of_the_questions_has_no_answer(count):
    for name in ("train", "dev"):
        flags = [qa["is_impossible"] for _, qa in questions(qa_dataset(name, count))]
        assert 0.31 <= sum(flags) / count <= 0.35


def test_an_answer_occurs_once_and_inside_no_other_word(split):
    for context, qa in questions(split):
        for answer in qa["answers"]:
            assert len(re.findall(rf"(?<![\w,]){re.escape(answer['text'])}(?!\w)", context)) == 1
            assert context.count(answer["text"]) == 1


@functools.cache
def names(pool_name):
    """Every name of a pool with its two parts."""
    pool = TABLES["pools"][pool_name]
    pairs = itertools.product(pool.get("first") or pool["she"] + pool["he"], pool["second"])
    return {pool["form"].format(first=first, second=second): (first, second) for first, second in pairs}


def near_namesakes(subject, pool_name):
    first, second = names(pool_name)[subject]
    return {other for other, parts in names(pool_name).items() if (parts[0] == first) != (parts[1] == second)}


def tells(context, relation, split):
    """Whether a sentence of the passage has the wording of a fact of this relation."""
    for template in RELATIONS[relation]["facts"][split]:
        wording = re.sub(r"^(The )?\{s\} ", "", template)
        if re.search(re.sub(r"\\\{\w+\\\}", "[^.]+", re.escape(wording)), context):
            return True
    return False


def test_the_subject_of_a_question_or_a_near_namesake_is_in_the_passage(train, dev):
    for split, dataset in (("train", train), ("dev", dev)):
        for context, qa, relation, _, subject in asked(dataset, split):
            if subject not in context:
                assert qa["is_impossible"]
                pool = TABLES["domains"][relation[0]]["pool"]
                assert any(name in context for name in near_namesakes(subject, pool)), (subject, context)


def test_unanswerable_questions_are_of_three_kinds(train, dev):
    for split, dataset in (("train", train), ("dev", dev)):
        kinds = Counter()
        for context, qa, relation, _, subject in asked(dataset, split):
            told = tells(context, relation, split)
            assert told or qa["is_impossible"]
            if qa["is_impossible"]:
                here = subject in context
                kinds["near-namesake" if not here else "told of others" if told else "told of nobody"] += 1
        assert len(kinds) == 3 and min(kinds.values()) > 0.1 * kinds.total(), kinds


def test_no_question_is_asked_twice_of_a_passage(split):
    for paragraph in paragraphs(split):
        assert len({qa["question"] for qa in paragraph["qas"]}) == len(paragraph["qas"])


def test_the_question_alone_does_not_give_away_whether_it_has_an_answer(train):
    for place in (2, 3):  # by relation, then by phrasing
        groups = Counter()
        impossible = Counter()
        for row in asked(train, "train"):
            groups[row[place]] += 1
            impossible[row[place]] += row[1]["is_impossible"]
        shares = {group: impossible[group] / count for group, count in groups.items() if count >= 10}
        tolerance = 0.12 if place == 2 else 0.33
        assert all(abs(share - 1 / 3) < tolerance for share in shares.values()), shares
        guessed = sum(max(impossible[group], groups[group] - impossible[group]) for group in groups) / 5000
        assert guessed < 0.70  # always saying "it has an answer" is right 0.67 of the time


def test_passages_with_and_without_answers_have_the_same_length(train):
    lengths = {True: [], False: []}
    for context, qa in questions(train):
        lengths[qa["is_impossible"]].append(len(context.split()))
    means = [sum(each) / len(each) for each in lengths.values()]
    assert abs(means[0] - means[1]) < 3


def test_answers_are_spread_over_the_passage(split):
    places = [answer["answer_start"] / len(context) for context, qa in questions(split) for answer in qa["answers"]]
    tenths = Counter(int(10 * place) for place in places)
    assert all(0.04 < tenths[tenth] / len(places) < 0.18 for tenth in range(10)), tenths


def test_a_passage_tempts_with_other_answers_of_the_same_kind(train):
    tempting = 0
    for paragraph in paragraphs(train):
        people = re.findall(r"(?=\b([A-Z]\w+ [A-Z]\w+)\b)", paragraph["context"])
        persons = TABLES["pools"]["person"]
        known = [each for each in people if each.split()[1] in persons["second"]]
        tempting += len(set(known)) >= 2
    assert tempting > 0.7 * len(paragraphs(train))


# The command


def command(*arguments):
    line = [sys.executable, "-m", "data.synthetic.qa", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, encoding="utf-8")


def test_the_command_writes_both_splits_and_says_so(tmp_path):
    out = tmp_path / "a" / "b"
    result = command("--out", out, "--train", 40, "--dev", 20, "--seed", 7)
    assert result.returncode == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert len(lines) == 2 and str(out / "train.json") in lines[0] and "40 questions" in lines[0]
    assert str(out / "dev.json") in lines[1] and "20 questions" in lines[1] and "unanswerable" in lines[1]
    for name, count in (("train", 40), ("dev", 20)):
        raw = (out / f"{name}.json").read_bytes()
        assert b"\r" not in raw and raw.endswith(b"}\n")
        assert json.loads(raw.decode("utf-8")) == qa_dataset(name, count, seed=7)


def test_the_command_explains_itself():
    result = command("--help")
    assert result.returncode == 0
    assert all(word in result.stdout for word in ("--out", "--train", "--dev", "--seed", "SQuAD", "5000", "600"))


@pytest.mark.parametrize("nonsense", [["--train", 0], ["--dev", -3], ["--train", "many"], ["--fold", 1]])
def test_the_command_refuses_nonsense_and_writes_nothing(nonsense, tmp_path):
    result = command("--out", tmp_path / "out", *nonsense)
    assert result.returncode == 2 and "Traceback" not in result.stderr and result.stdout == ""
    assert not (tmp_path / "out").exists()


def test_the_command_says_when_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = command("--out", tmp_path / "file", "--train", 3, "--dev", 3)
    assert result.returncode == 2 and "Traceback" not in result.stderr and "file" in result.stderr
