"""The frozen trunk, computed once, beside the same run without it."""

import pytest
import torch

from experiments.training.forecast import Forecast
from experiments.training.phases import trained_names
from experiments.training.trunk import frozen_layers
from tests.tiny import records_of, run_main, set_up, started

HEADS = {"name": "heads", "epochs": 2, "train": ["head"]}
TOP = {"name": "top", "epochs": 2, "train": ["head", "lora", "layers.1"]}
FIXED = ["model.dropout=0", 'lora.targets=["layers.1.*query"]', "amp=off"]


@pytest.mark.parametrize(
    "train,frozen",
    [(["head"], 2), (["head", "lora"], 1), (["head", "layers.1"], 1), (["layers.0"], 0), (["embeddings"], 0)],
)
def test_layers_are_frozen_up_to_the_lowest_that_trains(experiment, tmp_path, train, frozen):
    phase = {"name": "one", "epochs": 1, "train": train}
    more = {"lora": {"rank": 4, "targets": ["layers.1.*query"]}} if "lora" in train else {"lora": None}
    run = set_up(experiment(phases=[phase], **more), tmp_path)
    assert frozen_layers(run.model, trained_names(run.model, run.spec.phases)) == frozen


def test_without_dropout_a_kept_trunk_changes_no_number(experiment, tmp_path):
    """Losses and metrics agree within rounding: other batches, other sums."""
    path = experiment(phases=[HEADS, TOP])
    for name, megabytes in (("plain", "null"), ("kept", "10")):
        assert run_main(path, tmp_path, "--set", *FIXED, f"name={name}", f"model.trunk_mb={megabytes}") == 0
    plain, kept = (records_of(tmp_path / "runs" / name, "train", "eval") for name in ("plain", "kept"))
    assert len(plain) == len(kept) > 20
    for one, other in zip(plain, kept, strict=True):
        if one["kind"] == "train":
            assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
            assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
        else:
            assert one["metrics"]["loss"] == pytest.approx(other["metrics"]["loss"], abs=1e-5)


def test_a_kept_trunk_is_the_output_of_its_layers_without_dropout(experiment, tmp_path):
    run = started(experiment(phases=[HEADS], lora=None), tmp_path, "model.trunk_mb=10", "model.dropout=0.5", "amp=off")
    rows = run.plan.order[0][0]
    batch = run.batch(rows, None)
    depth, below = batch["below"]
    assert depth == 2 and run.model.training
    run.model.eval()
    expected = run.model.encoder(batch["tokens"], batch["types"], batch["mask"])
    mask = torch.ones_like(batch["tokens"], dtype=torch.bool) if batch["mask"] is None else batch["mask"]
    assert torch.allclose(below[mask], expected[mask], atol=1e-5)
    assert not below[~mask].any()


def test_the_forecast_counts_what_a_kept_trunk_saves(experiment, tmp_path):
    """Two epochs of heads: one pass through the encoder instead of two, and no pass at all from then on."""
    plain, kept = (
        Forecast(set_up(experiment(phases=[HEADS], lora=None), tmp_path, f"model.trunk_mb={megabytes}"))
        for megabytes in ("null", "10")
    )
    assert kept._steps[0] < 0.01 * plain._steps[0]
    assert kept._trunks[0] > 0 == plain._trunks[0]


@pytest.mark.parametrize(
    "settings,message",
    [
        (["model.trunk_mb=1", "data.train_limit=2000"], "allow as much, or leave the setting out"),
        (["model.trunk_mb=10", 'phases=[{"name":"all","epochs":1,"train":["all"]}]'], "nothing is frozen"),
        (["model.trunk_mb=10", "data.mask_tokens=0.1"], "set one of them"),
    ],
)
def test_a_trunk_that_cannot_be_kept_is_refused(experiment, tmp_path, capsys, settings, message):
    path = experiment(phases=[HEADS], lora=None)
    assert run_main(path, tmp_path, "--set", *settings) == 2
    error = capsys.readouterr().err
    assert error.startswith("train.py: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "runs" / "tiny").exists()


def test_a_trunk_is_computed_once_for_phases_that_keep_the_same_layers(experiment, tmp_path, capsys):
    """And anew where other layers are kept, or where something below has trained in between."""
    names = iter("abcde")
    phases = [{**phase, "name": next(names), "epochs": 0.5} for phase in (HEADS, HEADS, TOP, HEADS)]
    settings = ["model.trunk_mb=10", *FIXED]
    assert run_main(experiment(phases=phases), tmp_path, "--set", *settings) == 0
    told = [line.split()[4] for line in capsys.readouterr().out.splitlines() if line.startswith("  trunk ")]
    assert told == ["2", "1", "2"]
    assert [r["kept_layers"] for r in records_of(tmp_path / "runs" / "tiny", "phase")] == [2, 2, 1, 2]
    forecast = Forecast(set_up(experiment(phases=phases), tmp_path, *settings))
    assert [trunk > 0 for trunk in forecast._trunks] == [True, False, True, True]
