"""Classification, multi-label, regression and several tasks at once, from an experiment file to an answer."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import eval as eval_py
import train as train_module
from data.synthetic.reviews import rating_rows, sentiment_rows
from experiments.config.check import read_spec
from experiments.records import read_records
from experiments.tasks.base import predict
from experiments.training.sweep import expand
from model.machine import cores
from tests.tiny import records_of, run_main, set_up, start_process, started, wait_for_step

COLOURS = ("red", "green", "blue")


@pytest.fixture
def texts(tmp_path, small_checkpoint):
    """Writes an experiment over labelled texts. Returns its path."""

    def write(task="classification", **changes) -> Path:
        raw = {
            "model": {"pretrained": str(small_checkpoint)},
            "task": task,
            "data": {"train": ["train.jsonl"], "dev": ["dev.jsonl"], "max_length": 64, "batch_size": 8},
            "phases": [{"name": "all", "epochs": 2, "train": ["all"]}],
            "runtime": {"log_every": 3, "device": "cpu", "threads": 1},
        }
        path = tmp_path / "tiny.json"
        path.write_text(json.dumps(raw | changes))
        return path

    random = np.random.default_rng(0)
    for split, count in (("train", 60), ("dev", 20)):
        lines = []
        for i in range(count):
            chosen = [c for c in COLOURS if random.random() < 0.4]
            text = f"number {i} is {' and '.join(chosen) or 'grey'}"
            lines.append({"text": text, "label": "warm" if "red" in chosen else "cold", "colours": chosen, "n": i / 7})
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return write


def evaluations(tmp_path, name="tiny") -> list[dict]:
    return [r["metrics"] for r in read_records(tmp_path / "runs" / name).records if r["kind"] == "eval"]


def train(path, tmp_path, *more):
    assert run_main(path, tmp_path, "--data-root", str(tmp_path), *more) == 0


def answer_of(capsys, *arguments):
    assert eval_py.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# ---- generated reviews -----------------------------------------------------------------------------------------------


def test_generated_reviews_are_always_the_same_and_dev_has_phrases_of_its_own():
    assert sentiment_rows("train", 50) == sentiment_rows("train", 80)[:50]
    train, dev = ({s for row in sentiment_rows(split, 400) for s in row.text.split(". ")} for split in ("train", "dev"))
    assert not train & dev
    shares = [np.mean([row.label == "positive" for row in sentiment_rows(split, 600)]) for split in ("train", "dev")]
    assert all(0.45 < share < 0.55 for share in shares)
    ratings = [row.label for row in rating_rows("train", 500)]
    assert 1 <= min(ratings) < 2 and 9 < max(ratings) <= 10


def test_the_real_checkpoint_learns_sentiment_and_says_so(tmp_path, capsys):
    """End to end in seconds: 300 reviews, then scoring a file and asking."""
    spec = {
        "task": "classification",
        "data": {"source": "synthetic_sentiment", "train_limit": 300, "dev_limit": 100, "batch_size": 16},
        "phases": [{"name": "full", "epochs": 1, "train": ["all"]}],
        "optim": {"lr": 2e-4},
        "runtime": {"device": "cpu"},
    }
    (tmp_path / "tiny.json").write_text(json.dumps(spec))
    assert run_main(tmp_path / "tiny.json", tmp_path) == 0
    assert evaluations(tmp_path)[-1]["accuracy"] > 85
    capsys.readouterr()

    run, file = tmp_path / "runs" / "tiny", tmp_path / "mine.csv"
    file.write_text('text,label\n"Wonderful, a joy.",positive\nA terrible mess.,negative\nDreadful.,positive\n')
    scores = answer_of(capsys, "score", run, "--data", file, "--errors", "5")["runs"][0]
    assert scores["confusion"] == [[1, 0], [1, 1]] and scores["accuracy"] == pytest.approx(200 / 3)
    (miss,) = scores["errors"]
    assert (miss["text"], miss["gold"], miss["label"]) == ("Dreadful.", "positive", "negative")
    lines = (run / "predictions" / "mine.csv" / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["positive", "negative", "negative"]
    assert eval_py.main(["score", str(run), "--data", str(file)]) == 0
    assert "negative  1       50.0   100.0  66.7" in capsys.readouterr().out

    first, second = answer_of(capsys, "ask", run, "--text", "What a triumph.", "I want my money back.")
    assert (first["label"], second["label"]) == ("positive", "negative")
    assert sum(first["probabilities"].values()) == pytest.approx(1)


# ---- every kind of task ----------------------------------------------------------------------------------------------


def test_labels_of_a_run_are_kept_with_its_checkpoint(texts, tmp_path, capsys):
    train(texts(), tmp_path)
    (tmp_path / "train.jsonl").unlink()  # answers need the run folder only
    (found,) = answer_of(capsys := flush(capsys), "ask", tmp_path / "runs" / "tiny", "--text", "number 1 is red")
    assert set(found["probabilities"]) == {"warm", "cold"}


def flush(capsys):
    capsys.readouterr()
    return capsys


def test_several_labels_have_thresholds_of_their_own_that_scoring_uses(texts, tmp_path, capsys):
    train(texts("multi_label", data={**DATA, "label": "colours"}, optim={"lr": 3e-3}), tmp_path)
    metrics = max(evaluations(tmp_path), key=lambda m: m["micro_f1"])
    assert {f"threshold:{c}" for c in COLOURS} < metrics.keys() and metrics["best_macro_f1"] >= metrics["macro_f1"]
    flush(capsys)
    found = answer_of(capsys, "score", tmp_path / "runs" / "tiny", "--data", tmp_path / "dev.jsonl")["runs"][0]
    assert found["macro_f1"] == pytest.approx(metrics["best_macro_f1"])
    assert set(found["labels"]) == set(COLOURS)
    assert eval_py.main(["ask", str(tmp_path / "runs" / "tiny"), "--text", "number 1 is red"]) == 0
    needed = found["thresholds"]["red"]
    assert f"red  (it takes {needed:.1%})" in capsys.readouterr().out


def test_a_regression_is_judged_in_the_unit_of_its_targets(texts, tmp_path, capsys):
    train(texts("regression", data={**DATA, "label": "n"}), tmp_path)
    metrics = min(evaluations(tmp_path), key=lambda m: m["rmse"])
    flush(capsys)
    run = tmp_path / "runs" / "tiny"
    found = answer_of(capsys, "score", run, "--data", tmp_path / "dev.jsonl", "--errors", "3")["runs"][0]
    assert found["rmse"] == pytest.approx(metrics["rmse"], rel=1e-5)
    assert found["loss"] == pytest.approx(found["mse"] / np.var(np.arange(60) / 7), rel=1e-4)
    lines = [json.loads(line) for line in (run / "predictions" / "dev.jsonl" / "predictions.jsonl").open()]
    values = [line["value"] for line in lines]
    assert [line["gold"] for line in lines] == [i / 7 for i in range(20)]
    assert np.mean((np.array(values) - np.arange(20) / 7) ** 2) == pytest.approx(found["mse"], rel=1e-5)


def test_a_run_without_a_finite_metric_says_why_it_has_no_best_model(texts, tmp_path, capsys):
    """r2 and correlations do not exist where all development targets are the same."""
    lines = [json.dumps({"text": f"number {i}", "n": 5}) + "\n" for i in range(4)]
    (tmp_path / "dev.jsonl").write_text("".join(lines))
    train(texts("regression", data={**DATA, "label": "n"}, eval={"metric": "r2"}), tmp_path)
    assert "none: r2 was no finite number at any evaluation" in capsys.readouterr().out
    assert eval_py.main(["ask", str(tmp_path / "runs" / "tiny"), "--text", "number 1"]) == 2
    assert "has no best/; it is written at the first evaluation with a finite" in capsys.readouterr().err


def test_of_two_labels_the_f1_of_the_second_may_decide_and_has_an_interval(texts, tmp_path, capsys):
    train(texts(eval={"metric": "f1"}), tmp_path)
    records = [r for r in read_records(tmp_path / "runs" / "tiny").records if r["kind"] == "eval"]
    assert all(r["intervals"]["f1"][0] <= r["metrics"]["f1"] <= r["intervals"]["f1"][1] for r in records)
    capsys.readouterr()
    lines = [json.dumps({"text": f"number {i}", "label": "abc"[i % 3]}) + "\n" for i in range(9)]
    (tmp_path / "train.jsonl").write_text("".join(lines))
    given = texts(data={**DATA, "dev": ["train.jsonl"]}, eval={"metric": "f1"})
    assert run_main(given, tmp_path, "--overwrite", "--data-root", str(tmp_path)) == 2
    assert "eval.metric: f1 is for two labels, these are 3" in capsys.readouterr().err


DATA = {"train": ["train.jsonl"], "dev": ["dev.jsonl"], "max_length": 64, "batch_size": 8}


def test_scoring_says_how_many_of_the_texts_were_trained_on(texts, tmp_path, capsys):
    train(texts(), tmp_path)
    run, mine = tmp_path / "runs" / "tiny", tmp_path / "mine.jsonl"
    first = json.loads((tmp_path / "train.jsonl").read_text().splitlines()[0])
    lines = [first, first | {"text": first["text"].upper() + "!"}, first | {"text": "another"}]
    mine.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "train.jsonl").unlink()  # the run folder alone knows
    capsys.readouterr()
    assert answer_of(capsys, "score", run, "--data", mine)["runs"][0]["trained_on"] == 2
    assert eval_py.main(["score", str(run), "--data", str(mine)]) == 0
    assert "trained on    2 of these" in capsys.readouterr().out


def test_scores_of_runs_that_differ_in_their_seed_are_averaged(texts, tmp_path, capsys):
    path = texts()
    for seed in (0, 1):
        train(path, tmp_path, "--set", f"seed={seed}", f"name=s{seed}")
    train(path, tmp_path, "--set", "optim.lr=5e-4", "name=faster")
    runs = [tmp_path / "runs" / name for name in ("s0", "s1", "faster")]
    found = answer_of(capsys := flush(capsys), "score", *runs, "--data", tmp_path / "dev.jsonl")
    (repeated,) = found["over_seeds"]
    assert repeated["runs"] == [str(run) for run in runs[:2]]
    losses = [run["loss"] for run in found["runs"][:2]]
    assert repeated["loss"] == {"mean": np.mean(losses), "sd": pytest.approx(np.std(losses, ddof=1)), "n": 2}
    assert eval_py.main(["score", *map(str, runs), "--data", str(tmp_path / "dev.jsonl")]) == 0
    assert f"2 runs (s0, s1): loss {np.mean(losses):.3f} ± " in capsys.readouterr().out.replace("\n  ", " ")


def test_a_copied_run_counts_once_and_one_on_other_data_is_no_repetition(texts, tmp_path, capsys):
    path, runs = texts(), tmp_path / "runs"
    for seed in (0, 1):
        train(path, tmp_path, "--set", f"seed={seed}", f"name=s{seed}")
    lines = (tmp_path / "train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(lines[:-1]))  # under the same name
    train(path, tmp_path, "--set", "seed=2", "name=s2")
    shutil.copytree(runs / "s0", runs / "copy")
    given = [runs / name for name in ("s0", "copy", "s1", "s2")]
    found = answer_of(capsys := flush(capsys), "score", *given, "--data", tmp_path / "dev.jsonl")
    (repeated,) = found["over_seeds"]
    assert repeated["runs"] == [str(runs / "s0"), str(runs / "s1")] and repeated["loss"]["n"] == 2
    (remark,) = found["remarks"]
    assert remark.startswith(f"{runs / 'copy'} repeats {runs / 's0'} ")
    assert eval_py.main(["score", *map(str, given[:2]), "--data", str(tmp_path / "dev.jsonl")]) == 0
    page = capsys.readouterr().out
    assert "and does not count" in " ".join(page.split()) and "2 runs" not in page


def test_pairs_are_asked_as_pairs(texts, tmp_path, capsys):
    for split in ("train", "dev"):
        rows = [{"text": f"a {i}", "b": f"b {i % 3}", "label": i % 2} for i in range(16)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train(texts(data={**DATA, "pair": "b"}), tmp_path)
    run = tmp_path / "runs" / "tiny"
    flush(capsys)
    (found,) = answer_of(capsys, "ask", run, "--text", "a 1", "--pair", "b 2")
    assert found["label"] in ("0", "1")
    assert eval_py.main(["ask", str(run), "--text", "a 1"]) == 2
    assert "was trained on pairs of texts; give one --pair for each --text" in capsys.readouterr().err


# ---- losses and regularisation ---------------------------------------------------------------------------------------


def test_class_weights_multiply_the_losses_of_training_only(texts, tmp_path):
    plain = started(texts(), tmp_path, "model.dropout=0")
    plain_set = set_up(texts(), tmp_path, "model.dropout=0")
    weighted = set_up(texts(loss={"label_weights": {"warm": 3.0}}), tmp_path, "model.dropout=0")
    rows, random = np.arange(12), np.random.default_rng(0)
    batches = [run.tasks.batch(rows, random) for run in (plain_set, weighted)]
    with torch.no_grad():
        losses = [
            run.tasks.losses(run.model, run.model(batch), batch)
            for run, batch in zip((plain_set, weighted), batches, strict=True)
        ]
    factor = torch.tensor([3.0 if label == 1 else 1.0 for label in batches[0]["target"]])
    torch.testing.assert_close(losses[1], losses[0] * factor)
    found = [run.tasks.evaluate(run.model, plain.machine).metrics for run in (plain_set, weighted)]
    assert found[0] == found[1]


def test_masking_shows_other_tokens_as_mask_each_time_and_spares_special_ones(texts, tmp_path, tokenizer):
    run = set_up(texts(data={**DATA, "mask_tokens": 0.3}), tmp_path)
    plain = set_up(texts(), tmp_path)
    rows = np.arange(60)
    whole = plain.tasks.batch(rows, np.random.default_rng(0))["tokens"]
    first, again, second = (run.tasks.batch(rows, np.random.default_rng(s))["tokens"] for s in (0, 0, 1))
    mask, cls, sep, pad = (tokenizer.token_to_id(t) for t in ("[MASK]", "[CLS]", "[SEP]", "[PAD]"))
    changed = first != whole
    assert (first[changed] == mask).all() and not torch.isin(whole[changed], torch.tensor([cls, sep, pad])).any()
    words = ~torch.isin(whole, torch.tensor([cls, sep, pad]))
    assert 0.2 < changed[words].float().mean() < 0.4
    assert (first == again).all() and not (first == second).all()


def test_each_step_of_training_masks_anew_and_a_resumed_one_masks_alike(texts, tmp_path):
    run, seen = set_up(texts(data={**DATA, "mask_tokens": 0.5}), tmp_path), []
    run.model.register_forward_pre_hook(lambda model, inputs: seen.append(inputs[0]["tokens"].clone()))
    for run.progress.position in (0, 1, 0):
        train_module.compute_gradients(run, [np.arange(8)])
    assert (seen[0] == seen[2]).all() and not (seen[0] == seen[1]).all()


def test_label_smoothing_is_for_training_only(texts, tmp_path):
    plain, smoothed = (
        set_up(texts(loss={"label_smoothing": s}), tmp_path, "model.dropout=0", "amp=off") for s in (0.0, 0.3)
    )
    batch = plain.tasks.batch(np.arange(8), np.random.default_rng(0))
    with torch.no_grad():
        logits = plain.model(batch)
        p = logits.log_softmax(1)
        by_hand = -0.7 * p[torch.arange(8), batch["target"]] - 0.3 * p.mean(1)
    torch.testing.assert_close(smoothed.tasks.losses(smoothed.model, logits, batch), by_hand)
    model, machine = smoothed.model, smoothed.machine
    dev = smoothed.tasks.tasks["main"].judged["dev"]
    logits = torch.from_numpy(np.stack(predict(model, "main", dev, machine)[0]))
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(dev.labels["target"]))
    assert smoothed.tasks.evaluate(model, machine).metrics["loss"] == pytest.approx(expected.item(), abs=1e-6)


def test_l1_draws_what_it_names_towards_zero_and_nothing_else(texts, tmp_path):
    runs = []
    for l1 in (0.0, 0.05):
        run = started(texts(phases=[{"name": "a", "epochs": 1, "train": ["head", "layers.1"]}]), tmp_path,
                      f"optim.l1={l1}", "optim.clip=null", "model.dropout=0")  # fmt: skip
        train_module.compute_gradients(run, run.plan.order[0])
        runs.append(dict(run.model.named_parameters()))
    for name, plain in runs[0].items():
        if plain.grad is None:
            assert runs[1][name].grad is None
        elif name.startswith("head."):
            torch.testing.assert_close(runs[1][name].grad, plain.grad + 0.05 * plain.detach().sign())
        else:
            torch.testing.assert_close(runs[1][name].grad, plain.grad)


# ---- splits ----------------------------------------------------------------------------------------------------------


def test_a_fraction_of_training_is_the_development_set_and_leaks_are_shown(texts, tmp_path, capsys):
    train(texts(data={"train": ["train.jsonl"], "dev_fraction": 0.18, "max_length": 64, "batch_size": 8}), tmp_path)
    page = capsys.readouterr().out
    assert "train    49 texts, 2 labels" in page
    assert "dev      11 texts, 2 labels, 0 of them in the training set too, 0 more but for case" in page
    train(texts(data={**DATA, "dev": ["train.jsonl"]}), tmp_path, "--overwrite")
    assert "60 of them in the training set too, 0 more but for case" in capsys.readouterr().out


def test_a_sweep_trains_every_combination_and_every_fold_and_goes_on_where_it_stopped(texts, tmp_path, capfd):
    data = {"train": ["train.jsonl"], "folds": 2, "max_length": 64, "batch_size": 16}
    path = texts(data=data, sweep={"optim.lr": [1e-3, 1e-4]}, phases=[{"name": "a", "epochs": 1, "train": ["head"]}])
    names = [f"tiny_lr-{lr}_fold-{fold}" for lr in (0.001, 0.0001) for fold in (0, 1)]
    train(path, tmp_path, "--set", "sweep={}", "optim.lr=1e-3", "data.fold=1", f"name={names[1]}")
    assert run_main(path, tmp_path, "--data-root", str(tmp_path), "--sweep") == 2
    assert f"{names[1]}: already holds a run" in capfd.readouterr().err
    train(path, tmp_path, "--sweep", "--resume")
    assert f"{names[1]}: is finished" in capfd.readouterr().out
    runs = [tmp_path / "runs" / name for name in names]
    specs = [json.loads((run / "spec.json").read_text()) for run in runs]
    chosen = [(spec["optim"]["lr"], spec["tasks"]["main"]["data"]["fold"]) for spec in specs]
    assert chosen == [
        (1e-3, 0),
        (1e-3, 1),
        (1e-4, 0),
        (1e-4, 1),
    ]
    parts = [
        set(train_module.set_up(read_spec(run / "spec.json"), run, tmp_path).tasks.names_of(np.arange(30)))
        for run in runs
    ]
    assert not parts[0] & parts[1] and parts[0] == parts[2]  # each trains on what the other is judged on
    assert run_main(path, tmp_path, "--data-root", str(tmp_path), "--sweep", "--resume", "--set", "optim.clip=2") == 2
    assert "is a finished run of other settings: optim.clip is 2.0, was 1.0" in capfd.readouterr().err
    assert eval_py.main(["summary", *map(str, runs), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["differing"] == ["optim.lr"] and [len(row["runs"]) for row in found["rows"]] == [2, 2]
    assert eval_py.main(["summary", *map(str, runs)]) == 0
    assert "optim.lr" in capfd.readouterr().out


def test_variants_are_runs_with_several_settings_of_their_own(texts):
    variants = {"r4": {"lora": {"rank": 4}}, "full": {"lora": None, "phases.0.train": ["all"], "optim.lr": 1e-4}}
    members = expand(texts(variants=variants, sweep={"seed": [0, 1], "optim.clip": [2.0]}), [])
    assert [m.name for m in members] == [f"tiny_{v}_seed-{seed}_clip-2.0" for v in variants for seed in (0, 1)]
    r4, full = members[0].spec, members[-1].spec
    assert (r4.variant, r4.lora.rank, r4.variants) == ("r4", 4, {})
    assert (full.variant, full.lora, full.phases[0].train, full.optim.lr) == ("full", None, ("all",), 1e-4)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_goes_on_after_a_run_that_diverged_and_says_so_at_the_end(texts, tmp_path, capfd, jobs):
    """Plain gradient descent at a rate of 1,000 multiplies the error at every step."""
    path = texts(
        task="regression",
        data={**DATA, "label": "n"},
        optim={"name": "sgd", "clip": None, "nonfinite_limit": 1},
        sweep={"optim.lr": [1000.0, 1e-3]},
    )
    assert run_main(path, tmp_path, "--data-root", str(tmp_path), "--sweep", "--jobs", str(jobs)) == 1
    out, err = capfd.readouterr()
    assert "1 of 2 runs done" in out and "tiny_lr-1000.0 could not go on" in err
    ends = [read_records(tmp_path / "runs" / f"tiny_lr-{lr}").records[-1]["reason"] for lr in ("1000.0", "0.001")]
    assert ends == ["diverged", "finished"]


def test_runs_side_by_side_share_the_cores(texts, tmp_path, capfd):
    path = texts(sweep={"seed": [0, 1]}, phases=[{"name": "a", "epochs": 1, "train": ["head"]}], runtime={})
    train(path, tmp_path, "--sweep", "--jobs", "2")
    out = capfd.readouterr().out
    assert "2 of 2 runs done" in out and out.count("finished after") == 2
    runs = [records_of(tmp_path / "runs" / f"tiny_seed-{seed}", "run")[0] for seed in (0, 1)]
    assert [run["threads"] for run in runs] == [max(1, cores() // 2)] * 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_that_is_terminated_lets_its_run_save(texts, tmp_path, jobs):
    path = texts(sweep={"seed": [0, 1]}, phases=[{"name": "a", "epochs": 200, "train": ["all"]}])
    process = start_process(path, tmp_path, "--sweep", "--data-root", str(tmp_path), "--jobs", str(jobs))
    folders = [tmp_path / "runs" / f"tiny_seed-{seed}" for seed in (0, 1)]
    for folder in folders[:jobs]:
        wait_for_step(folder, 5)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143 and "go on with --sweep --resume" in errors
    for folder in folders[:jobs]:
        saved = json.loads((folder / "last" / "checkpoint.json").read_text())["progress"]["step"]
        assert saved == read_records(folder).records[-1]["step"]
    assert not any(folder.exists() for folder in folders[jobs:])


# ---- several tasks ---------------------------------------------------------------------------------------------------


def several(small_checkpoint) -> dict:
    qa = {"source": "synthetic_qa", "train_limit": 24, "dev_limit": 8, "max_length": 96, "doc_stride": 48,
          "max_query_length": 24, "batch_size": 8}  # fmt: skip
    return {
        "model": {"pretrained": str(small_checkpoint)},
        "tasks": {
            "qa": {"task": "span_qa", "data": qa},
            "mood": {"task": "classification", "data": DATA, "weight": 0.5},
        },
        "phases": [{"name": "a", "epochs": 1, "train": ["all"]}],
        "runtime": {"device": "cpu", "threads": 1},
    }


def test_two_tasks_train_one_encoder_in_mixed_batches(texts, tmp_path, small_checkpoint, capsys):
    texts()
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(several(small_checkpoint)))
    run = set_up(path, tmp_path)
    steps = [run.plan.order[i] for i in range(len(run.plan.order))]
    batches = [run.tasks.batch(step[0], np.random.default_rng(0)) for step in steps]
    names = [batch["task"] for batch in batches]
    assert sum(len(b["span"]) for b in batches if b["task"] == "qa") == len(run.tasks.tasks["qa"].train)
    assert sum(len(b["target"]) for b in batches if b["task"] == "mood") == 60
    assert names != sorted(names) and names != sorted(names, reverse=True)
    mood = next(b for b in batches if b["task"] == "mood")
    with torch.no_grad():
        logits = run.model(mood)
        alone = run.model.head["mood"].loss(logits, mood)
    torch.testing.assert_close(run.tasks.losses(run.model, logits, mood), 0.5 * alone)

    train(path, tmp_path)
    (metrics,) = evaluations(tmp_path)
    assert metrics["mean"] == pytest.approx((metrics["qa.f1"] + metrics["mood.accuracy"]) / 2)
    windows = len(run.tasks.tasks["qa"].train)
    mixed = (windows * metrics["qa.loss"] + 0.5 * 60 * metrics["mood.loss"]) / (windows + 60)
    assert metrics["loss"] == pytest.approx(mixed)
    folder = tmp_path / "runs" / "tiny"
    flush(capsys)
    (found,) = answer_of(capsys, "ask", folder, "--task", "mood", "--text", "number 1 is red")
    assert found["label"] in ("warm", "cold")
    (found,) = answer_of(capsys, "ask", folder, "--task", "qa", "--question", "Who?", "--context", "It was Ann.")
    assert found["answers"]
    assert eval_py.main(["ask", str(folder), "--text", "x"]) == 2
    assert "has several tasks; choose one with --task: qa, mood" in capsys.readouterr().err
    score = answer_of(capsys, "score", folder, "--task", "mood", "--data", tmp_path / "dev.jsonl")["runs"][0]
    assert score["accuracy"] == pytest.approx(metrics["mood.accuracy"])
