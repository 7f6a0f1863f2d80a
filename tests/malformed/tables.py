"""CSV, TSV and JSONL files, and the settings that go with them."""

from collections.abc import Iterator

from tests.malformed.place import FILE_ANSWERS, Case, put, unusual_files

ROWS = [("good film", "yes"), ("bad film", "no"), ("what a film", "yes"), ("no film", "no")]


def experiment(**data) -> dict:
    return {
        "name": "tiny",
        "model": {"pretrained": "small"},
        "task": "classification",
        "data": {"train": ["rows.csv"], "dev": ["rows.csv"], "max_length": 64} | data,
        "phases": [{"name": "one", "epochs": 1, "train": ["head"]}],
        "runtime": {"device": "cpu", "threads": 1},
    }


def csv(*lines: str) -> str:
    return "\n".join(("text,label", *lines)) + "\n"


GOOD = csv(*map(",".join, ROWS))
# (name, the file, what the answer contains)
CSV = [
    ("empty", "", "rows.csv: has no rows"),
    ("a header alone", csv(), "rows.csv: has no rows"),
    ("blank lines alone", "\n\n\n", "rows.csv: has no rows"),
    ("no text column", "a,label\nx,y\n", "line 1: column 'text' is missing; the columns are 'a', 'label'"),
    ("no label column", "text,a\nx,y\n", "line 1: column 'label' is missing"),
    ("a column twice", "text,label,text\nx,y,z\n", "column 'text' is there twice"),
    ("semicolons", "text;label\nx;y\n", "column 'text' is missing"),
    ("a field too many", csv("x,y", "a,b,c"), "line 3: has 3 fields, the first line 2"),
    ("a field too few", csv("x"), "line 2: has 1 fields, the first line 2"),
    ("an open quote", csv("a,b", '"x,y', "c,d"), "line 3: a quote that is opened here is never closed"),
    ("text after a quote", csv('"x"z,y'), "line 2: "),
    ("an empty text", csv(",y"), "line 2: 'text' is empty"),
    ("a text of spaces", csv("   ,y"), "line 2: 'text' is empty"),
    ("an empty label", csv("x,yes", "x,"), "line 3: the label is '', expected a text or a whole number"),
    ("one label only", csv("x,yes", "z,yes"), "every training text has the label 'yes'"),
    ("Latin-1", "text,label\ncafé,yes\n".encode("latin-1"), "is not UTF-8 (byte"),
    ("UTF-16", GOOD.encode("utf-16"), "is not UTF-8 (byte"),
    ("binary", bytes(range(256)), "is not UTF-8 (byte"),
]
# (name, the line, what the answer contains)
JSONL = [
    ("prose", "dear sir", "rows.jsonl line 2: cannot be read as JSON"),
    ("a list", '["x", "yes"]', "line 2: expected an object, found"),
    ("cut off", '{"text": "x", "la', "line 2: cannot be read as JSON"),
    ("NaN", '{"text": "x", "label": NaN}', "line 2: cannot be read as JSON"),
    ("a key twice", '{"text": "x", "text": "y", "label": 1}', "line 2: cannot be read as JSON"),
    ("no text", '{"label": "yes"}', "line 2: no 'text'; its keys are 'label'"),
    ("no label", '{"text": "x"}', "line 2: no 'label'"),
    ("a number as text", '{"text": 5, "label": "yes"}', "line 2: 'text' is 5, expected a text"),
    ("null as text", '{"text": null, "label": "yes"}', "line 2: 'text' is None, expected a text"),
    ("null as label", '{"text": "x", "label": null}', "line 2: the label is None, expected a text or a whole number"),
    ("a fraction as label", '{"text": "x", "label": 0.5}', "the label is 0.5, expected a text or a whole number"),
    ("a list as label", '{"text": "x", "label": ["yes"]}', "the label is ['yes'], expected a text"),
    ("two objects in a line", '{"text": "x", "label": 1}{}', "line 2: cannot be read as JSON"),
    ("deep", "[" * 100_000, "line 2: cannot be read as JSON"),
]
# (setting, what the answer contains)
SETTINGS = [
    ("data.doc_stride=64", "data.doc_stride: unknown key"),
    ("data.bad_answers=skip", "data.bad_answers: unknown key"),
    ("data.dev_fraction=0.5", "dev, dev_fraction and folds exclude each other"),
    ("data.dev_fraction=1", "data.dev_fraction: 1.0 is out of range"),
    ("data.folds=1", "data.folds: 1 is out of range"),
    ("data.fold=0", "data.fold: 0, with data.folds None"),
    ('data={"train":["rows.csv"],"folds":3}', "data.fold: which of the 3 folds? Or train them all: --sweep"),
    ('data={"train":["rows.csv"],"folds":3,"fold":3}', "data.fold: 3, with data.folds 3; it counts from 0"),
    ('data={"train":["rows.csv"],"dev_fraction":0.01,"max_length":64}', "too few different texts for 2 parts"),
    ('data={"train":["rows.csv"],"folds":5,"fold":0,"max_length":64}', "too few different texts for 5 parts"),
    ("data.text=label", "data.text, pair, label: name one column twice"),
    ("data.train_limit=1", "all 1 training texts have the same label; nothing to learn"),
    ("data.source=synthetic_rating", "data.source: 'synthetic_rating' is not one of files, synthetic_sentiment"),
    ("data.source=synthetic_sentiment", "data.train: not used with data.source"),
    ("data.text=sentence", "column 'sentence' is missing"),
    ("data.pair=other", "column 'other' is missing"),
    ("data.header=false", "column 'text' is missing; the columns are '0', '1' (data.header is false"),
    ("data.mask_tokens=0.95", "data.mask_tokens: 0.95 is out of range"),
    ("data.label_names=[]", "data.label_names: expected an object"),
    ('data.dev=["other.csv"]', "line 2: the label 'maybe' is not one of the training files' ('no', 'yes')"),
    ('data.train=["rows.txt"]', "ends in '.txt'; .csv, .tsv and .jsonl can be read"),
    ('data.train=["rows"]', "ends in 'nothing'; .csv, .tsv and .jsonl can be read"),
    ("task=regression", "line 2: the target is 'yes', expected a number"),
    ("pooling=max", "pooling: 'max' is not one of mean, cls, cls_pooler"),
    ("data.label_separator=", "data.label_separator: unknown key"),
    (
        'tasks={"a":{"task":"multi_label","data":{"train":["rows.csv"],"dev":["rows.csv"],"label_separator":""}}}',
        "tasks.a.data.label_separator: is empty",
    ),
    ('data.label_names={"maybe":"x"}', "data.label_names: no text has the label 'maybe'"),
    ('data={"source":"synthetic_sentiment","pair":"b"}', "generated texts have no columns"),
    ('sweep={"data.folds":[2,3]}', "sweep.data.folds: cannot be swept"),
    ("loss.class_weights=inverse", "loss.class_weights: 'inverse' is not one of none, balanced"),
    ("loss.class_weight_cap=2", "loss.class_weight_cap: caps balanced class_weights, which are not set"),
    ('loss.label_weights={"maybe":2}', "loss.label_weights: 'maybe' is not a label of the training set ('no', 'yes')"),
    ('loss.label_weights={"yes":0}', "loss.label_weights.yes: 0.0 is out of range"),
    ('loss={"class_weights":"balanced","label_weights":{"yes":2}}', "or label_weights by hand, not both"),
    ("loss.label_smoothing=1", "loss.label_smoothing: 1.0 is out of range"),
    ("optim.l1=-1", "optim.l1: -1.0 is out of range"),
    ('optim={"l1":1,"l1_on":["lora"]}', "optim.l1_on: 'lora' selects no parameter"),
    ("eval.metric=rmse", "eval.metric: 'rmse' is not one of loss, accuracy, f1, macro_f1"),
    ('optim={"l1":1,"l1_on":[]}', "optim.l1_on: is empty"),
    ('tasks={"a":{"task":"classification"}}', "tasks.a.data.train, data.dev: name at least one file each"),
    ('sweep={"seed":[0,1]}', "sweep: is a set of runs; train them with --sweep"),
    ('sweep={"seed":0}', "sweep.seed: expected a list of values, found 0"),
    ('sweep={"seed":[]}', "sweep.seed: expected a list of values, found []"),
    ('sweep={"name":["a"]}', "sweep.name: cannot be swept"),
]
SWEEPS = [
    ('sweep={"optim.lr":[1e-3,0]}', "optim.lr: 0.0 is out of range"),
    ('sweep={"optim.lrr":[1e-3]}', "optim.lrr: unknown key"),
    ('variants={"a":{}}', "variants.a: expected a short name and settings"),
    ('variants={"a b":{"seed":1}}', "variants.a b: expected a short name"),
    ('variants={"a":{"name":"x"}}', "variants.a.name: cannot differ between variants"),
    ('variants={"a":{"optim.lrr":1}}', "optim.lrr: unknown key"),
    ('variants={"a":3}', "variants.a: expected an object, found 3"),
    ('sweep={"seed":[1,1]}', "sweep: a value is listed twice"),
    (f'sweep={{"seed":{list(range(1001))}}}', "sweep: more than 1,000 runs"),
    ("seed=0", "there are neither sweep nor variants nor data.folds"),
]
TASKS = [
    ({}, "tasks: at least one is needed"),
    ({"1a": {"task": "classification"}}, "tasks: '1a' cannot be a task's name"),
    ({"a": {}}, "tasks.a.task: is required; one of span_qa, classification"),
    (
        {"eval": {"task": "classification", "data": {"source": "synthetic_sentiment", "max_length": 64}}},
        "tasks.eval: cannot be a task's name",
    ),
    ({"a": {"task": "chess"}}, "tasks.a.task: 'chess' is not one of span_qa"),
    ({"a": {"task": "classification"}}, "tasks.a.data.train, data.dev: name at least one file each"),
    ({"a": {"task": "classification", "weight": 0}}, "tasks.a.weight: 0.0 is out of range"),
    ({"a": {"task": "classification", "lr": 1}}, "tasks.a.lr: unknown key"),
    (
        {
            "a": {"task": "regression", "data": {"source": "synthetic_rating"}},
            "b": {"task": "classification", "data": {"source": "synthetic_sentiment"}},
        },
        "tasks.a: a regression cannot share a mean with metrics in percent",
    ),
]


def cases() -> Iterator[Case]:
    def given(data: dict, **files):
        def damage(place):
            put(place / "exp.json", experiment(**data))
            for name, content in {"rows_csv": GOOD, **files}.items():
                put(place / name.replace("_", "."), content)

        return damage

    for name, content, answer in CSV:
        yield Case("tables", f"CSV: {name}", given({}, rows_csv=content), answer)
    tsv = {"train": ["rows.tsv"], "dev": ["rows.tsv"]}
    yield Case("tables", "TSV: commas", given(tsv, rows_tsv=GOOD), "column 'text' is missing")
    jsonl = {"train": ["rows.jsonl"], "dev": ["rows.jsonl"]}
    for name, line, answer in JSONL:
        first = '{"text": "a film", "label": "no"}\n'
        yield Case("tables", f"JSONL: {name}", given(jsonl, rows_jsonl=f"{first}{line}\n"), answer)
    other = {"other_csv": csv("x,maybe"), "rows_txt": GOOD, "rows": GOOD}
    for setting, answer in SETTINGS:
        yield Case("tables", setting[:60], given({}, **other), answer, ("train", "--set", setting))
    for setting, answer in SWEEPS:
        yield Case("tables", setting[:60], given({}), answer, ("train", "--sweep", "--set", setting))
    for tasks, answer in TASKS:

        def several(place, tasks=tasks):
            spec = experiment() | {"tasks": tasks, "model": {"pretrained": "small"}}
            del spec["data"], spec["task"]
            put(place / "exp.json", spec)

        yield Case("tables", f"tasks: {tasks}"[:60], several, answer)
    for key, value in (("task", "classification"), ("data", {}), ("pooling", "cls")):

        def both(place, extra={key: value}):  # noqa: B006
            put(place / "exp.json", {"model": {"pretrained": "small"}, "phases": [], "tasks": TASKS[5][0], **extra})

        yield Case("tables", f"tasks and {key}", both, f"{key}: with tasks, each task has its own; move it there")
    for case in unusual_files("tables", "rows.csv", FILE_ANSWERS):

        def damage(place, case=case):
            given({})(place)
            case.damage(place)

        yield Case("tables", case.name, damage, case.answer)
