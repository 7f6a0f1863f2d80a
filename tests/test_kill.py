"""The kill harness, short: a few real SIGKILLs on a tiny experiment. `make kill-test` is the long version."""

from tests.kill_harness import kill_test


def test_a_killed_process_never_leaves_anything_but_what_the_whole_run_had(experiment, tmp_path):
    settings = ["runtime.checkpoint_steps=1", "phases.0.epochs=2"]
    arguments = ["--exp", str(experiment()), "--data-root", str(tmp_path), "--set", *settings]
    tally = kill_test(arguments, kills=5, runs=tmp_path / "runs")
    assert sum(tally.kills.values()) == 5 and tally.differed == []
