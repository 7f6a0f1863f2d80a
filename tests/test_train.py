"""train.py as a person uses it, and the rules its numbers depend on. A small random encoder, real everything else.

A test of a trap says under which change of the code it fails; `make mutants` makes that change and sees it fail.
"""

import json
import math
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import eval as eval_py
import train
from data import squad_metrics
from data.squad_metrics import score_each
from experiments.tasks import base, span_qa
from experiments.tasks.base import Evaluated
from experiments.training import console
from experiments.training.checkpoint import load_trained
from experiments.training.phases import parts_of
from model.heads import SpanHead
from tests.tiny import FILES, ROOT, records_of, run_main, set_up, start_process, started

# ---- what a run leaves behind ----------------------------------------------------------------------------------------


def test_a_run_folder_has_all_that_the_design_names(experiment, tmp_path, capsys):
    assert run_main(experiment(), tmp_path) == 0
    folder = tmp_path / "runs" / "tiny"
    assert sorted(p.name for p in folder.iterdir()) == FILES
    adapter = ["adapter_config.json", "adapter_model.safetensors"]
    assert sorted(p.name for p in (folder / "last").iterdir()) == [
        *adapter,
        "checkpoint.json",
        "dev_scores.safetensors",
        "encoder.safetensors",
        "head.safetensors",
        "training.safetensors",
    ]
    kinds = [r["kind"] for r in records_of(folder)]
    assert kinds[0] == "run" and kinds[1] == "phase" and kinds[-1] == "end"
    assert kinds.count("phase") == 2 and kinds.count("eval") == 4
    out = capsys.readouterr().out
    assert "phase    two: 1 epochs" in out and "python eval.py summary" in out


def test_the_run_record_says_what_was_run_on_what(experiment, tmp_path):
    run_main(experiment(), tmp_path)
    record = records_of(tmp_path / "runs" / "tiny", "run")[0]
    assert record["spec"]["lora"]["rank"] == 4 and record["seed"] == 0
    assert record["precision"] in ("fp32", "bf16") and record["precision_reason"].startswith("auto: ")
    assert len(record["data"]["fingerprints"]["main"]["train"]) == len(record["pretrained"]["sha256"]) == 64
    assert record["versions"]["torch"] == torch.__version__
    assert {"git", "git_dirty", "platform", "device_name", "threads", "steps_planned"} <= record.keys()


def test_the_resolved_spec_alone_reproduces_the_run(experiment, tmp_path):
    run_main(experiment(), tmp_path, "--set", "optim.lr=2e-3", "amp=off")
    spec = tmp_path / "runs" / "tiny" / "spec.json"
    assert train.main(["--exp", str(spec), "--runs", str(tmp_path / "again")]) == 0
    assert records_of(tmp_path / "runs" / "tiny") == records_of(tmp_path / "again" / "tiny")


def test_learning_rate_traces_show_the_unfreezing(experiment, tmp_path):
    """Trap 22. Fails where the optimizer is given the parameter groups of the first phase only."""
    run_main(experiment(), tmp_path)
    records = records_of(tmp_path / "runs" / "tiny", "train")
    first_phase = [r for r in records if r["epoch"] <= 1]
    second_phase = [r for r in records if r["epoch"] > 1]
    assert all(r["lr"].keys() == {"head", "lora"} for r in first_phase)
    assert all(r["lr"].keys() == {"head", "lora", "layers.1"} for r in second_phase)
    assert all(r["lr"]["layers.1"] == pytest.approx(0.1 * r["lr"]["head"]) for r in second_phase)


# ---- learning --------------------------------------------------------------------------------------------------------


def test_the_real_checkpoint_learns_the_generated_questions(tmp_path):
    """End to end, with 700 questions: the loss falls and exact match rises, beyond answering nothing."""
    path = ROOT / "exp" / "bert_phase2.json"
    more = ["data.train_limit=700", "data.dev_limit=100", "eval.every_epochs=1", "runtime.threads=1"]
    assert run_main(path, tmp_path, "--set", *more) == 0
    records = records_of(tmp_path / "runs" / "bert_phase2")
    losses = [r["loss"] for r in records if r["kind"] == "train"]
    evaluations = [r["metrics"] for r in records if r["kind"] == "eval"]
    assert losses[-1] < 0.5 * losses[0]
    assert evaluations[-1]["loss"] < evaluations[0]["loss"]
    assert evaluations[-1]["HasAns_exact"] > evaluations[0]["HasAns_exact"] + 10


@pytest.mark.parametrize("name,lr", [("adamw", 1e-3), ("adam", 1e-3), ("sgd", 0.1), ("rmsprop", 1e-3)])
def test_every_optimizer_lowers_the_loss(experiment, tmp_path, name, lr):
    run = started(experiment(), tmp_path, f"optim.name={name}", f"optim.lr={lr}", "model.dropout=0", "amp=off")
    run.set_rates()
    losses = []
    for _ in range(12):  # the same batch again and again
        losses.append(train.compute_gradients(run, run.plan.order[0])[0])
        run.optimizer.step()
        run.optimizer.zero_grad()
    assert losses[-1] < losses[0]


# ---- numbers that would be wrong silently ----------------------------------------------------------------------------


def gradients(run: train.Run, batches: list[np.ndarray]) -> dict[str, torch.Tensor]:
    run.optimizer.zero_grad()
    train.compute_gradients(run, batches)
    return {name: p.grad.clone() for name, p in run.model.named_parameters() if p.requires_grad}


def test_gradients_of_ragged_batches_equal_those_of_one_large_batch(experiment, tmp_path):
    """Trap 1. Fails where each batch's loss is its own mean, divided by the number of batches."""
    run = started(experiment(), tmp_path, "model.dropout=0", "amp=off", "optim.clip=null")
    rows = np.arange(35)
    whole = gradients(run, [rows])
    ragged = gradients(run, [rows[:16], rows[16:32], rows[32:]])
    for name, gradient in whole.items():
        torch.testing.assert_close(ragged[name], gradient, rtol=1e-4, atol=1e-6)


def test_evaluation_does_not_depend_on_the_batch_size(experiment, tmp_path, monkeypatch):
    """Trap 2. Fails where the loss is the mean of the batches' means."""
    run = set_up(experiment(), tmp_path, "amp=off")
    results = []
    for tokens in (1, 7 * 96, 64 * 96):
        monkeypatch.setattr(base, "EVAL_BATCH_TOKENS", tokens)
        results.append(run.tasks.evaluate(run.model, run.machine).metrics)
    assert results[1] == pytest.approx(results[0], abs=1e-5) and results[2] == pytest.approx(results[0], abs=1e-5)


def test_scores_of_examples_are_what_the_metrics_are_means_of(experiment, tmp_path):
    """Also at the best thresholds; and they are kept, in last/ and in best/."""
    assert run_main(experiment(), tmp_path) == 0
    folder = tmp_path / "runs" / "tiny"
    for place in ("last", "best"):
        scores = load_file(folder / place / "dev_scores.safetensors")
        best = json.loads((folder / "best" / "checkpoint.json").read_text())["progress"]["best"]["metrics"]
        assert scores.keys() == {"exact", "f1", "best_exact", "best_f1"}
        for name, values in scores.items():
            assert len(values) == 24 and values.mean().item() == pytest.approx(best[name], abs=1e-4)
    (record, *_) = [r for r in records_of(folder, "eval") if r["best"]]
    assert record["intervals"].keys() == scores.keys()
    low, high = record["intervals"]["f1"]
    assert low <= record["metrics"]["f1"] <= high


def test_an_evaluation_scores_each_answer_once(experiment, tmp_path, monkeypatch):
    """Of questions without an answer too, whose scores at three thresholds are wanted."""
    run, calls = set_up(experiment(), tmp_path), []
    monkeypatch.setattr(squad_metrics, "score_each", lambda *a: calls.append(1) or score_each(*a))
    found = run.tasks.evaluate(run.model, run.machine)
    assert len(calls) == 1 and found.scores.keys() == {"exact", "f1", "best_exact", "best_f1"}


def test_a_sample_of_training_is_evaluated_like_the_development_set(experiment, tmp_path):
    assert run_main(experiment(), tmp_path, "--set", "eval.train_sample=10") == 0
    found = records_of(tmp_path / "runs" / "tiny", "eval")
    assert [r["split"] for r in found] == ["dev", "train"] * 4
    assert found[1]["metrics"].keys() == found[0]["metrics"].keys() and not any(r["best"] for r in found[1::2])
    assert found[1]["metrics"]["total"] == 10


def test_evaluation_leaves_the_mode_as_it_was(experiment, tmp_path):
    """Trap 25. Fails where evaluation leaves the model in evaluation mode."""
    run = set_up(experiment(), tmp_path)
    for mode in (True, False):
        run.model.train(mode)
        run.tasks.evaluate(run.model, run.machine)
        assert run.model.training is mode and all(m.training is mode for m in run.model.modules())


def test_dropout_is_active_in_frozen_layers_during_training(experiment, tmp_path):
    """Trap 25, the choice made: as in the reference libraries. A frozen encoder still varies from pass to pass. Fails
    where the model is not put into training mode."""
    run = started(experiment(), tmp_path)
    batch = run.tasks.batch(np.arange(4), np.random.default_rng(0))
    with torch.no_grad():
        assert not torch.equal(run.model(batch), run.model(batch))
        run.model.eval()
        assert torch.equal(run.model(batch), run.model(batch))


def test_frozen_tensors_are_bitwise_unchanged(experiment, tmp_path):
    """Trap 24. Phase one trains a layer with momentum and weight decay, phase two freezes it again. Fails where a
    frozen parameter keeps a gradient of zeros: AdamW goes on to move it."""
    phases = [
        {"name": "one", "epochs": 1, "train": ["head", "layers.1"]},
        {"name": "two", "epochs": 1, "train": ["head"]},
    ]
    run = started(experiment(phases=phases, lora=None), tmp_path, "optim.weight_decay=0.1")
    start = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    for position in range(len(run.plan.order)):
        if position == run.plan.phase_ends[0]:
            middle = {name: p.detach().clone() for name, p in run.model.named_parameters()}
            momentum = {p: run.optimizer.state[p]["exp_avg"].clone() for p in run.model.encoder.layers[1].parameters()}
            train.enter_phase(run, 1)
        run.set_rates()
        train.take_step(run, run.plan.order[position])
    parts = parts_of(run.model)
    for name, p in run.model.named_parameters():
        part = parts[name]
        assert torch.equal(start[name], middle[name]) == (part not in ("head", "layers.1")), name
        assert torch.equal(middle[name], p) == (part != "head"), name
    assert all(torch.equal(before, run.optimizer.state[p]["exp_avg"]) for p, before in momentum.items())


def test_trained_parameters_stay_fp32_in_mixed_precision(experiment, tmp_path):
    """Trap 19. Fails where the model is cast to the precision of its products."""
    run = started(experiment(), tmp_path, "amp=bf16")
    run.set_rates()
    train.take_step(run, run.plan.order[0])
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}
    states = [value.dtype for state in run.optimizer.state.values() for value in state.values()]
    assert set(states) == {torch.float32}


def test_a_tensor_that_gets_no_gradient_is_named(experiment, tmp_path):
    """Trap 26. Fails where silent tensors are not looked for."""
    run = started(experiment(), tmp_path)
    run.model.head.forgotten = torch.nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match=r"no gradient reached head.forgotten.weight, head.forgotten.bias"):
        train.take_step(run, run.plan.order[0])


def break_loss(run: train.Run, value: float) -> None:
    whole = run.model.head["main"].loss
    run.model.head["main"].loss = lambda *arguments: whole(*arguments) * value


@pytest.mark.parametrize("amp,value,event", [("off", math.nan, "nonfinite"), ("fp16", 1e36, "overflow")])
def test_a_step_that_is_not_finite_changes_nothing_and_is_recorded(experiment, tmp_path, amp, value, event):
    """Traps 11 and 20: weights, step count and learning rate stay; an fp16 overflow is told apart from a true NaN.
    Fails where the step is taken all the same, and where the schedule counts places of the data order, not steps."""
    run = started(experiment(), tmp_path, f"amp={amp}", "phases.0.warmup_ratio=0.5")  # no two steps have one rate
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    rates = run.set_rates()
    scale = run.scaler.get_scale()
    break_loss(run, value)
    train.take_step(run, run.plan.order[0])
    assert all(torch.equal(before[name], p) for name, p in run.model.named_parameters())
    assert (run.progress.step, run.progress.position) == (0, 1)
    assert run.set_rates() == rates and not run.optimizer.state
    record = records_of(run.folder, "event")[0]
    assert record["event"] == event and len(record["examples"]) == 8
    assert run.progress.nonfinite == (event == "nonfinite")
    if event == "overflow":
        assert run.scaler.get_scale() < scale


def test_fp16_gradients_are_unscaled_before_they_are_clipped(experiment, tmp_path):
    """Trap 20. Clipping what is still scaled (by 65,536 at first) would clip everything. Fails without unscaling."""
    norms = []
    for amp in ("off", "fp16"):
        run = started(experiment(), tmp_path, f"amp={amp}", "model.dropout=0")
        norms.append(train.compute_gradients(run, run.plan.order[0])[1])
    assert norms[1] == pytest.approx(norms[0], rel=0.05)


def test_a_run_that_only_gives_nan_stops_and_says_so(experiment, tmp_path, monkeypatch, capsys):
    """After four good steps and a checkpoint of the second."""
    whole, calls = SpanHead.loss, []

    def broken(self, *arguments):
        calls.append(1)
        return whole(self, *arguments) * (1 if len(calls) <= 4 else math.nan)

    monkeypatch.setattr(SpanHead, "loss", broken)
    settings = ["optim.nonfinite_limit=3", "runtime.checkpoint_steps=2", "eval.every_epochs=1"]
    assert run_main(experiment(), tmp_path, "--set", *settings) == 1
    message = capsys.readouterr().err
    assert "3 steps in a row had no finite loss or gradient" in message and "last/ holds step 4" in message
    records = records_of(tmp_path / "runs" / "tiny")
    events = [r for r in records if r["kind"] == "event"]
    assert [e["message"] for e in events] == ["loss nan, gradient norm nan"] * 3
    assert records[-1]["reason"] == "diverged" and records[-1]["step"] == 4


def test_a_metric_that_is_not_finite_is_never_the_best(experiment, tmp_path, monkeypatch):
    """Trap 11. Fails where values are compared without asking whether they are finite."""
    run = started(experiment(), tmp_path, "eval.metric=loss")
    for loss in (math.nan, 2.0, math.nan, -math.inf, 1.0):
        found = Evaluated({"loss": loss, "f1": 0.0, "exact": 0.0})
        monkeypatch.setattr(run.tasks, "evaluate", lambda *a, found=found: found)
        train.evaluate(run)
    assert [r["best"] for r in records_of(run.folder, "eval")] == [False, True, False, False, True]


def test_early_stopping_waits_for_patience_and_keeps_the_best(experiment, tmp_path, monkeypatch):
    scores = iter([10.0, 30.0, 20.0, 30.0])
    monkeypatch.setattr(
        span_qa.SpanQA, "evaluate", lambda *a: Evaluated({"loss": 1.0, "exact": 0.0, "f1": next(scores)})
    )
    assert run_main(experiment(), tmp_path, "--set", "eval.patience=2", "eval.every_epochs=0.25") == 0
    records = records_of(tmp_path / "runs" / "tiny")
    assert records[-1]["reason"] == "stopped early"
    assert records[-1]["best"]["metrics"]["f1"] == 30.0
    assert [r["best"] for r in records if r["kind"] == "eval"] == [True, True, False, False]


# ---- saving and loading ----------------------------------------------------------------------------------------------


def test_a_checkpoint_gives_back_the_trained_model_under_another_seed(experiment, tmp_path):
    """Trap 3. What was trained (adapters, a layer, the head) is what is loaded: the last evaluation repeats itself."""
    path = experiment()
    run_main(path, tmp_path, "--set", "amp=off", "optim.lr=5e-3")
    last = records_of(tmp_path / "runs" / "tiny", "eval")[-1]["metrics"]
    run = set_up(path, tmp_path, "seed=7", "amp=off")
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    run.progress.furthest = 1
    load_trained(tmp_path / "runs" / "tiny" / "last", run.model, run.pretrained, run.trained())
    assert run.tasks.evaluate(run.model, run.machine).metrics == pytest.approx(last, abs=1e-6)
    changed = {parts_of(run.model)[n] for n, p in run.model.named_parameters() if not torch.equal(before[n], p)}
    assert changed == {"head", "lora", "layers.1"}


def test_the_same_spec_gives_the_same_bits_twice_and_another_seed_does_not(experiment, tmp_path):
    """Trap 33: everything random is seeded before the model is built."""
    path = experiment()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run_main(path, tmp_path, "--set", f"name={name}", f"seed={seed}")
    a, b, c = ([r for r in records_of(tmp_path / "runs" / name) if r["kind"] in ("train", "eval")] for name in "abc")
    assert a == b != c


# ---- what a person may get wrong -------------------------------------------------------------------------------------


def test_a_run_is_never_written_over_without_being_asked(experiment, tmp_path, capsys):
    path = experiment()
    run_main(path, tmp_path)
    before = (tmp_path / "runs" / "tiny" / "metrics.jsonl").read_bytes()
    assert run_main(path, tmp_path) == 2
    assert "already holds a run; continue it with --resume, or replace it with --overwrite" in capsys.readouterr().err
    assert (tmp_path / "runs" / "tiny" / "metrics.jsonl").read_bytes() == before
    assert run_main(path, tmp_path, "--overwrite") == 0
    assert len(records_of(tmp_path / "runs" / "tiny", "end")) == 1


def test_a_folder_that_is_not_a_run_is_left_alone(experiment, tmp_path, capsys):
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("precious")
    assert run_main(experiment(), tmp_path, "--overwrite") == 2
    assert "is not empty and not a run folder" in capsys.readouterr().err
    assert (folder / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--set", 'lora.targets=["qurey"]'], "lora.targets: 'qurey' matches no linear layer; near: query"),
        (
            ["--set", 'phases.1.train=["layers.9"]', "phases.1.lr={}"],
            "tiny.json: phases.1.train: 'layers.9' goes",
        ),
        (["--set", "model.pretrained=no/such/place"], "is not a folder, not one of"),
        (["--set", "data.max_length=200"], "data.max_length: 200, but"),
        (["--set", 'phases.0.train=["head"]', 'phases.1.train=["head"]', "phases.1.lr={}"], "no phase trains the"),
        (["--set", "runtime.device=cuda:99"], "runtime.device: 'cuda:99' cannot be used"),
        (["--set", "phases.0.epochs=0.01"], "'one', 0.01 epochs long, is shorter than one step"),
        (["--set", "data.source=files", 'data.train=["a.json"]', 'data.dev=["b.json"]'], "a.json: no such file"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_trace(experiment, tmp_path, capsys, arguments, message):
    assert run_main(experiment(), tmp_path, *arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.startswith("train.py: ") and captured.out == ""
    assert len(captured.err.strip().splitlines()) <= 2
    assert not (tmp_path / "runs").exists()


def test_a_runs_folder_that_is_a_file_is_named(experiment, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert train.main(["--exp", str(experiment()), "--runs", str(tmp_path / "file")]) == 2
    assert "file: is a file" in capsys.readouterr().err


def test_names_with_spaces_quotes_newlines_and_emoji_work(experiment, tmp_path, capsys):
    """Of every folder and file, from training to what is printed to continue it."""
    odd = tmp_path / "sp ace 'single' \"double\"\n$HOME 😀"
    (tmp_path / "data").mkdir()
    qa = {"id": "q 'x' 😀", "question": "who?", "answers": [{"text": "Zoë", "answer_start": 0}]}
    squad = {"data": [{"paragraphs": [{"context": "Zoë 😀 was here", "qas": [qa]}]}]}
    (tmp_path / "data" / "tr ain\n😀.json").write_text(json.dumps(squad))
    path = experiment(
        data={
            "train": ["tr ain\n😀.json"],
            "dev": ["tr ain\n😀.json"],
            "max_length": 64,
            "doc_stride": 16,
            "max_query_length": 8,
        }
    )
    (tmp_path / "data").rename(odd)
    path = path.rename(odd / "my 'exp'.json")
    command = ["--exp", str(path), "--data-root", str(odd), "--runs", str(odd / "ru ns"), "--set", "name=one"]
    assert train.main(command) == 0
    assert train.main([*command, "--resume"]) == 0
    assert eval_py.main(["summary", str(odd / "ru ns" / "one")]) == 0
    assert shlex.split(console.resume_command(command)) == ["python", "train.py", *command, "--resume"]


def test_a_terminal_that_cannot_show_a_name_does_not_matter(experiment, tmp_path):
    phases = [{"name": "größe →", "epochs": 1, "train": ["head", "lora"]}]
    process = start_process(experiment(phases=phases), tmp_path, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "gr\\xf6\\xdfe \\u2192" in out


def test_the_command_line_explains_itself():
    done = subprocess.run([sys.executable, "train.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    for option in ("--exp", "--set", "--data-root", "--runs", "--resume", "--overwrite", "experiments.config.spec"):
        assert option in done.stdout


def test_without_a_terminal_no_progress_bar_is_drawn(experiment, tmp_path):
    process = start_process(experiment(), tmp_path)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and errors == "" and "\r" not in out
