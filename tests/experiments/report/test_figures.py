"""Every name in `eval.py summary --json` is declared in figures.py, and every name declared there occurs."""

import json

import eval as eval_py
from experiments.report.figures import ONE_RUN, SCHEMA, SEVERAL_RUNS
from tests.experiments.report.made import records, write


def visit(value, path: str, table: dict[str, str], seen: set[str]) -> None:
    """Note which of the table's paths have a value; one that does not is an AssertionError."""
    if path in table and value is not None:
        seen.add(path)
    below = [known[len(path) :].lstrip(".") for known in table if known.startswith((f"{path}.", f"{path}[]"))]
    if path == "":
        below = list(table)
    if isinstance(value, list) and below:
        for item in value:
            visit(item, f"{path}[]", table, seen)
    elif isinstance(value, dict) and below:
        names = {rest.split(".")[0].removesuffix("[]") for rest in below}
        wild = next((name for name in names if name.startswith("<")), None)
        for key, item in value.items():
            name = key if key in names else wild
            assert name, f"{path}.{key} is not declared"
            visit(item, f"{path}.{name}".lstrip("."), table, seen)
    else:
        assert path in table or value is None, f"{path} is not declared"


def names(figures) -> dict[str, str]:
    return {figure.name: figure.meaning for figure in figures}


def summary(capsys, *folders) -> dict:
    assert eval_py.main(["summary", *map(str, folders), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def full(**spec) -> list[dict]:
    """Records in which nothing is missing."""
    made = records()
    made[0]["spec"] = made[0]["spec"] | spec
    made[0]["data"]["fingerprints"] = {"qa": {"dev": "0" * 64}}
    made[0]["pretrained"]["sha256"] = "0" * 64
    for record in made:
        if record["kind"] == "train":
            record |= {"grad_norm": 1.0, "grad_norm_max": 2.0, "clipped": 0.5, "lr": {"head": 1e-3, "layers.0": 1e-4}}
        if record["kind"] == "eval":
            record["intervals"] = {"f1": [9.0, 11.0]}
    sampled = [{**record, "split": "train"} for record in made if record["kind"] == "eval"]
    return sorted(made + sampled, key=lambda record: record["seconds"])


def test_every_name_of_a_summary_is_declared_and_the_other_way_round(tmp_path, capsys):
    seen: set[str] = set()
    found = summary(capsys, write(tmp_path / "a", full()))
    assert found["schema"] == SCHEMA
    visit(found, "", names(ONE_RUN), seen)
    # No item, or null, in these records; test_one_run.py has them.
    absent = {"generalisation.remarks[]", "generalisation.since", "remarks[]", "start", "start_sha256"}
    assert names(ONE_RUN).keys() - seen == absent


def test_every_name_of_a_comparison_is_declared_and_the_other_way_round(tmp_path, capsys):
    seen: set[str] = set()
    folders = [
        write(tmp_path / f"{name}{seed}", full(name=f"{name}{seed}", seed=seed, optim={"lr": lr}))
        for name, lr in (("a", 1e-3), ("b", 2e-3))
        for seed in (0, 1)
    ]
    folders.append(write(tmp_path / "a0again", full(name="a0again", seed=0, optim={"lr": 1e-3})))
    folders.append(write(tmp_path / "a2", full(name="a2", seed=2, optim={"lr": 1e-3})[:-1]))
    folders.append(write(tmp_path / "c", full(name="c")[:3]))
    slower = [json.loads(line) for line in (tmp_path / "b0" / "metrics.jsonl").read_text().splitlines()]
    for record in slower:
        record["seconds"] *= 2
        if "clock" in record:
            record["clock"]["train"] *= 2
    for record in slower:
        if record["kind"] == "eval" and record["metrics"]["f1"] == 40.0:
            record["metrics"]["f1"] = 39.0
    write(tmp_path / "b0", slower)
    found = summary(capsys, *folders)
    assert found["schema"] == SCHEMA
    visit(found, "", names(SEVERAL_RUNS), seen)
    assert names(SEVERAL_RUNS).keys() == seen
