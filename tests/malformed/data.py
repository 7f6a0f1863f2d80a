"""SQuAD files."""

from collections.abc import Iterator

from tests.malformed.place import CONTEXT, FILE_ANSWERS, Case, broken_json, put, question, squad, unusual_files

START = CONTEXT.index("milk")
WHERE = "train.json: article 0, paragraph 0, question id q0: "


def answer(**changes) -> dict:
    return question(0, answers=[{"text": "milk", "answer_start": START, **changes}])


# (name, the file, what the answer contains)
WRONG = [
    ("no data", {"version": "1.1"}, "train.json: no 'data'"),
    ("data is an object", {"data": {}}, "'data': expected a list, found"),
    ("data is null", {"data": None}, "'data': expected a list, found"),
    ("no articles", {"data": []}, "train.json: no questions"),
    ("an article is a text", {"data": ["x"]}, "article 0: expected an object, found"),
    ("an article without paragraphs", {"data": [{}]}, "article 0: no 'paragraphs'"),
    ("paragraphs are a text", {"data": [{"paragraphs": "x"}]}, "'paragraphs': expected a list, found"),
    ("a paragraph is null", {"data": [{"paragraphs": [None]}]}, "paragraph 0: expected an object, found"),
    ("a paragraph without context", {"data": [{"paragraphs": [{"qas": []}]}]}, "paragraph 0: no 'context'"),
    ("a context is a list", {"data": [{"paragraphs": [{"context": [], "qas": []}]}]}, "'context': expected a text"),
    ("a paragraph without qas", {"data": [{"paragraphs": [{"context": "x"}]}]}, "paragraph 0: no 'qas'"),
    ("no questions", squad(), "train.json: no questions"),
    ("a question is a number", squad(7), "paragraph 0: expected an object, found"),
    ("a question without id", squad({"question": "x", "answers": []}), "paragraph 0: no 'id'"),
    ("an id is a number", squad(question(0, id=7)), "'id': expected a text, found"),
    ("an id is null", squad(question(0, id=None)), "'id': expected a text, found"),
    ("an id twice", squad(question(0), question(1), question(0)), "question id q0 is already in train.json"),
    ("an id of 1 MB twice", squad(*[question(0, id="x" * 10**6)] * 2), "is already in"),
    ("an id with a newline twice", squad(*[question(0, id="a\nb")] * 2), "question id a\\nb is already in"),
    ("no question text", squad({"id": "q0", "answers": []}), WHERE + "no 'question'"),
    ("the question text is null", squad(question(0, question=None)), WHERE + "'question': expected a text"),
    ("no answers key", squad({"id": "q0", "question": "x"}), WHERE + "no 'answers'"),
    ("answers are an object", squad(question(0, answers={})), WHERE + "'answers': expected a list, found"),
    ("answers are null", squad(question(0, answers=None)), WHERE + "'answers': expected a list, found"),
    ("an empty list of answers", squad(question(0, answers=[])), WHERE + "has no answers and is not is_impossible"),
    ("impossible with answers", squad(question(0, is_impossible=True)), WHERE + "has answers but is_impossible is true"),
    ("is_impossible is a text", squad(question(0, is_impossible="no")), "'is_impossible': expected true or false, found"),
    ("is_impossible is 0", squad(question(0, is_impossible=0)), "'is_impossible': expected true or false, found"),
    ("is_impossible is null", squad(question(0, is_impossible=None)), "expected true or false, found"),
    ("an answer is a text", squad(question(0, answers=["milk"])), WHERE + "expected an object, found"),
    ("an answer without text", squad(question(0, answers=[{"answer_start": 1}])), WHERE + "no 'text'"),
    ("an answer without start", squad(question(0, answers=[{"text": "milk"}])), WHERE + "no 'answer_start'"),
    ("an answer's text is a number", squad(answer(text=5)), WHERE + "'text': expected a text, found"),
    ("a start is a text", squad(answer(answer_start="48")), "'answer_start': expected a whole number, found"),
    ("a start is a fraction", squad(answer(answer_start=48.0)), "'answer_start': expected a whole number, found"),
    ("a start is true", squad(answer(answer_start=True)), "'answer_start': expected a whole number, found"),
    ("a start is null", squad(answer(answer_start=None)), "'answer_start': expected a whole number, found"),
    ("a start one off", squad(answer(answer_start=START + 1)), f"'milk' is not at {START + 1}; it is at {START}"),
    ("a start of -1", squad(answer(answer_start=-1)), "data.bad_answers=skip"),
    ("a start counted from the end", squad(answer(answer_start=-4)), "'milk' is not at -4"),
    ("a start beyond the end", squad(answer(answer_start=10**6)), "'milk' is not at 1000000"),
    ("a start of 200 digits", squad(answer(answer_start=10**200)), "'milk' is not at 1000"),
    ("an empty answer", squad(answer(text="")), "'' is not at"),
    ("an answer in capitals", squad(answer(text="MILK")), f"did you mean 'milk' at {START}?"),
    ("an answer of 1 MB", squad(answer(text="x" * 10**6)), "not where they say"),
    ("an answer that sticks out", squad(answer(text="milk and honey")), "'milk and honey' is not at"),
    ("many misplaced answers", squad(*(question(i, answers=[{"text": "x", "answer_start": 0}]) for i in range(50))),
     "50 answer(s) are not where they say"),
    ("one right and one wrong answer", squad(question(0, answers=[{"text": "milk", "answer_start": START},
     {"text": "milk", "answer_start": 0}])), "1 answer(s) are not where they say"),
]  # fmt: skip


def cases() -> Iterator[Case]:
    yield from broken_json("SQuAD", "train.json")
    yield from unusual_files("SQuAD", "train.json", FILE_ANSWERS)
    for name, content, said in WRONG:
        yield Case("SQuAD", name, lambda p, c=content: put(p / "train.json", c), said)
    long = b'{"data": "' + b"x" * 10**8
    yield Case("SQuAD", "a line of 100 MB", lambda p: put(p / "train.json", long), "Unterminated string")
    yield Case("SQuAD", "an id in both splits' files at once", lambda p: put(p / "more.json", squad(question(3))),
               "more.json: question id q3 is already in train.json", ("train", "--set", 'data.train=["train.json","more.json"]'))  # fmt: skip
    skip = ("train", "--set", "data.bad_answers=skip")
    nothing = squad(answer(answer_start=0))
    yield Case("SQuAD", "nothing left after skipping", lambda p: put(p / "train.json", nothing), "no questions", skip)
    fix, wrong = ("train", "--set", "data.bad_answers=fix"), squad(answer(text="the", answer_start=1))
    yield Case("SQuAD", "nothing left after fixing", lambda p: put(p / "train.json", wrong), "no questions", fix)
    split = ("train", "--set", "data.dev_fraction=0.5", "data.dev=[]")
    yield Case("SQuAD", "one passage for two splits", lambda p: None, "too few different passages (1)", split)
    yield Case("SQuAD", "dev and dev_fraction", lambda p: None, "dev, dev_fraction and folds exclude", split[:3])
    yield Case("SQuAD", "a broken dev file", lambda p: put(p / "dev.json", {"data": 1}), "dev.json: 'data'")
