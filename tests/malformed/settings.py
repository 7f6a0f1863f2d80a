"""Experiment files and --set."""

from collections.abc import Iterator

from tests.malformed.place import FILE_ANSWERS, Case, broken_json, drop_key, experiment, put, set_key, unusual_files

BAD_SETTINGS = [
    ("optim.lr=0", "optim.lr: 0.0 is out of range"),
    ("optim.lr=-1e-3", "optim.lr: -0.001 is out of range"),
    ("optim.lr=1e999", "optim.lr: expected a number"),
    ("optim.lr=fast", "optim.lr: expected a number, found 'fast'"),
    ("optim.lr=true", "optim.lr: expected a number, found True"),
    ("optim.lr=[1e-3]", "optim.lr: expected a number, found [0.001]"),
    ("optim.lr=null", "optim.lr: expected a number, found None"),
    ("optim.lr=NaN", "optim.lr: expected a number, found 'NaN'"),
    ("optim.lr", "expected key=value"),
    ("=1", "expected key=value"),
    (".=1", "unknown key"),
    ("optim..lr=1", "unknown key"),
    ("optim.learning_rate=1", "optim.learning_rate: unknown key"),
    ("optimizer.lr=1", "did you mean 'optim'"),
    ("optim.name=adamW", "'adamW' is not one of adamw, adam, sgd, rmsprop"),
    ("optim.beta1=1", "optim.beta1: 1.0 is out of range"),
    ("optim.accumulate=1.5", "optim.accumulate: expected a whole number"),
    ("optim.accumulate=0", "optim.accumulate: 0 is out of range"),
    ("optim=adamw", "optim: expected an object, found 'adamw'"),
    ("seed=-1", "seed: -1 is out of range"),
    ("seed=2147483648", "seed: 2147483648 is out of range"),
    (f"seed={10**200}", "seed: 1000000"),
    ("name=", "name: '' cannot be a run folder's name"),
    ("name=../../etc", "cannot be a run folder's name"),
    ("name=.hidden", "cannot be a run folder's name"),
    ("name=a b", "cannot be a run folder's name"),
    ("name=a\nb", "cannot be a run folder's name"),
    ("name=" + "x" * 101, "cannot be a run folder's name"),
    ("name=null", "name: expected a text"),
    ("amp=yes", "amp: 'yes' is not one of auto, off, bf16, fp16"),
    ("phases=[]", "phases: at least one"),
    ("phases=null", "phases: expected a list"),
    ("phases.0=null", "phases.0: expected an object"),
    ("phases.7.epochs=1", "'7' is not a position"),
    ("phases.-1.epochs=1", "'-1' is not a position"),
    ("phases." + "9" * 5000 + ".epochs=1", "is not a position"),
    ("phases.0.epochs=0", "phases.0.epochs: 0.0 is out of range"),
    ("phases.0.epochs=1e300", "phases.0.epochs: 1e+300 is out of range"),
    ("phases.0.epochs=1e-9", "is shorter than one step"),
    ("phases.0.train=[]", "phases.0.train: nothing would train"),
    ("phases.0.train=head", "phases.0.train: expected a list"),
    ('phases.0.train=["hed","lora"]', "'hed' selects no parameter"),
    ('phases.0.train=["head"]', "lora: no phase trains the adapters"),
    ('phases.0.train=["head","lora","layers.9"]', "'layers.9' selects no parameter"),
    (f'phases.0.train=["head","lora","layers.{"9" * 5000}"]', "selects no parameter"),
    ('phases.0.lr={"embeddings":1}', "phases.0.lr.embeddings: not in this phase's train list"),
    ("phases.0.lr.head=0", "phases.0.lr.head: 0.0 is out of range"),
    ("phases.0.gradual=5-2", "is not of the form"),
    ("phases.0.gradual=layers.9-8", "selects no parameter"),
    ("lora=null", "'lora' cannot train"),
    ("lora.rank=0", "lora.rank: 0 is out of range"),
    ("lora.rank=1000000000", "its weight allows 1 to 16"),
    ('lora.targets=["qurey"]', "'qurey' matches no linear layer; near: query"),
    ('lora.targets=["[*"]', "matches no linear layer"),
    ("lora.targets=[3]", "lora.targets.0: expected a text, found 3"),
    ("lora.targets=[]", "lora"),
    ('lora.ranks={"up":4}', "lora.ranks: 'up' matches no linear layer"),
    ("task=magic", "task: 'magic' is not one of"),
    ("model.pretrained=", "model.pretrained: '' is not a folder"),
    ("model.pretrained=nowhere/to/be/found", "is not a folder"),
    ("model.pretrained=~nobody-here/model", "is not a folder"),
    ("model.pretrained=" + "../" * 12 + "etc/passwd", "is a file"),
    ("model.pretrained=https://example.org/model", "is not a folder"),
    ("model.pretrained=exp.json", "exp.json is a file; give the folder"),
    ("model.pretrained=" + "x" * 5000, "name"),
    ("model.dropout=1", "model.dropout: 1.0 is out of range"),
    ("runtime.device=gpu", "runtime.device: 'gpu' is not one of auto, cpu, cuda"),
    ("runtime.device=meta", "runtime.device: 'meta' is not one of"),
    ("runtime.device=privateuseone", "is not one of"),
    ("optim.lr=1e39", "optim.lr: 1e+39 is out of range"),
    ("optim.weight_decay=1e300", "out of range"),
    ("lora.alpha=1e300", "lora.alpha: 1e+300 is out of range"),
    ("phases.0.name=\udcff", "is not UTF-8"),
    ("optim." * 60000 + "lr=1", "optim.optim: unknown key"),
    (
        "phases=[" + '{"name":"x","epochs":1,"train":["head"]},' * 20000 + '{"name":"x","epochs":1,"train":["head"]}]',
        "20,001 of them; at most 100",
    ),
    ("phases.0.gradual=layers.0-999", "is not of the form"),
    ("name=" + "\u4e2d" * 85, "cannot be a run folder's name"),
    ("eval.metric=best_f1", "needs training questions without an answer"),
    ("runtime.device=cuda:99", "runtime.device: 'cuda:99' cannot be used"),
    ("runtime.threads=0", "runtime.threads: 0 is out of range"),
    ("runtime.threads=1000000", "runtime.threads: 1000000 is out of range"),
    ("eval.metric=accuracy", "eval.metric: 'accuracy' is not one of"),
    ("eval.every_epochs=1e-300", "eval.every_epochs: 1e-300 is out of range"),
    ("data.max_length=10", "data.max_length: 10 is out of range"),
    ("data.max_length=512", "data.max_length: 512, but small has only 128 positions"),
    ("data.max_query_length=64", "fills a window of 64 tokens"),
    ("data.doc_stride=60", "data.doc_stride: 60 could skip text"),
    ("data.train=[]", "name at least one file each"),
    ('data.train=[""]', "data.train: '' is not inside the data root"),
    ('data.train=["../train.json"]', "is not inside the data root"),
    ('data.dev=["/etc/passwd"]', "is not inside the data root"),
    ('data.dev=["none.json"]', "none.json: no such file; --data-root"),
    ('data.dev=["no\\u0000ne.json"]', "no such file"),
    ('data.dev=["' + "x" * 5000 + '"]', "File name too long"),
    ('data.train=["train.json","train.json"]', "is listed twice"),
    ('data.train=["dev.json","dev.json"]', "is listed twice"),
    ("data.source=synthetic_qa", "not used with data.source"),
    ("data.source=web", "data.source: 'web' is not one of"),
    ('data={"source":"synthetic_qa","train_limit":1000000000}', "at most 200,000 examples are generated"),
    ("data.train_limit=0", "data.train_limit: 0 is out of range"),
    ("data.bad_answers=ignore", "'ignore' is not one of error, skip"),
]


BAD_ARGUMENTS = [
    (("train alone",), "the following arguments are required: --exp"),
    (("train", "--rseume"), "unrecognized arguments: --rseume"),
    (("train", "--over"), "unrecognized arguments: --over"),
    (("train", "--resume", "--overwrite"), "--resume and --overwrite exclude each other"),
    (("train", "a\nb"), "unrecognized arguments: a\\nb"),
    (("eval alone",), "the following arguments are required: COMMAND"),
    (("eval alone", "sumary", "x"), "invalid choice: 'sumary'"),
    (("eval alone", "score", "x"), "the following arguments are required: --data"),
    (("score", "--errors", "many"), "invalid int value: 'many'"),
    (("score", "--na-prob-thresh", "x"), "invalid float value: 'x'"),
    (("ask", "--context", "a", "--context-file", "b"), "not allowed with argument"),
    (("ask", "--text", "a film"), "answers questions about a text; give --question, and no --text or --pair"),
    (("ask", "--task", "qa", "--context", "a"), "has no task 'qa'; choose one with --task: main"),
    (("score", "finished/tiny", "--task", "qa"), "has no task 'qa'; choose one with --task: main"),
    (("summary", "--threshold", "0"), "--threshold: a relative change, above 0"),
    (("summary", "--threshold", "x"), "invalid float value: 'x'"),
    (("summary", "--watch", "soon"), "invalid float value: 'soon'"),
    (("summary", "nowhere"), "nowhere/metrics.jsonl: no such file"),
    (("train", "--sweep", "--resume-anyway"), "--sweep goes on with --resume"),
]


def cases() -> Iterator[Case]:
    for arguments, answer in BAD_ARGUMENTS:
        yield Case("arguments", " ".join(arguments), lambda p: None, answer, arguments)
    yield from broken_json("experiment", "exp.json")
    yield from unusual_files("experiment", "exp.json", FILE_ANSWERS | {"missing": "no such experiment"})
    yield Case(
        "experiment", "a line of 100 MB", lambda p: put(p / "exp.json", b'{"a": "' + b"x" * 10**8), "Unterminated"
    )
    yield Case("experiment", "a name of 1 MB", lambda p: put(p / "exp.json", {"x" * 10**6: 1}), "unknown key")
    for path, value in (
        ("optim.lr", [[[]]] * 10),
        ("phases.0.train.0", {}),
        ("lora.ranks", []),
        ("model", 0),
        ("data", []),
    ):
        yield Case("experiment", f"{path} is {value}", lambda p, k=path, v=value: set_key(p / "exp.json", k, v), path)
    for key in experiment():
        if key in ("phases", "data"):
            yield Case("experiment", f"no {key}", lambda p, k=key: drop_key(p / "exp.json", k), key)
    for setting, answer in BAD_SETTINGS:
        yield Case("--set", setting[:60], lambda p: None, answer, ("train", "--set", setting))
