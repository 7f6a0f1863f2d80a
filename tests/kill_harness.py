"""Kill a real training process again and again, and see whether it ever notices.

    make kill-test N=200        (or: python -m tests.kill_harness 200)

A run is trained once without interruption, and what each of its checkpoints holds is noted. Then the same run is
trained by processes that are ended after a random time, each in one of the ways of DEATHS; some die while they start,
some inside a save, some while they replace the run by a new one (--overwrite). After every death, what is on disk must
be what the uninterrupted run had at that step: the tensors bit for bit, the records but for their times. A run that
reaches its end must be the same run throughout, and a new one is begun. One in twenty trains in fp16.
"""

import dataclasses
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import train
from data.writing import is_aside, surviving
from experiments.records import FILE
from experiments.training import checkpoint as checkpoints
from experiments.training import folder
from experiments.training.checkpoint import Checkpoint, read_checkpoint
from tests.tiny import ROOT, TIMING, assert_same_run

# The main job, small: 2 epochs of a dozen steps, a checkpoint after each, an evaluation every half epoch.
EXPERIMENT = ROOT / "exp" / "bert_phase2.json"
FEWER = ["data.train_limit=60", "data.dev_limit=12"]  # in fp16, where a CPU may take ten times as long
DEATHS = ("killed", "terminated", "stopped, continued and killed")
OVERWRITES = 0.2  # of the lives that find a run
SMALL = ["data.train_limit=240", "data.dev_limit=24", "runtime.checkpoint_steps=1", "runtime.log_every=3"]


@dataclasses.dataclass
class Tally:
    kills: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(DEATHS, 0))
    overwrites: int = 0  # lives that replaced a run
    before_the_run: int = 0  # killed before there was a run folder
    in_a_save: int = 0
    resumed: int = 0  # processes that found a checkpoint to go on from
    finished: int = 0  # runs that reached their end
    differed: list[str] = dataclasses.field(default_factory=list)


def content(state: Checkpoint) -> dict:
    """What a checkpoint says, without times and what depends on their number of digits."""
    fields = dataclasses.asdict(state)
    del fields["progress"]["clock"], fields["progress"]["sums"]["since"]
    del fields["identity"]["spec"]["name"]
    return {key: fields[key] for key in ("format", "identity", "sha256", "scaler", "progress")}


def records(lines_of_file: bytes) -> list[dict]:
    """Records without times, resumptions apart."""
    lines = [json.loads(line) for line in lines_of_file.splitlines()]
    return [
        {key: value for key, value in record.items() if key not in TIMING}
        for record in lines
        if record["kind"] not in ("run", "end") and record.get("event") not in ("resumed", "interrupted")
    ]


def uninterrupted(arguments: list[str], runs: Path) -> dict[int, tuple[dict, list[dict]]]:
    """Train runs/whole in this process. Returns {position: (checkpoint, records up to it)} of each checkpoint."""
    seen = {}
    save = checkpoints.save

    def noting(run, target, training):
        save(run, target, training)
        if training:
            state = read_checkpoint(target)
            lines_of_file = (target.parent / FILE).read_bytes()[: state.metrics_bytes]
            seen[state.progress.position] = (content(state), records(lines_of_file))

    checkpoints.save = folder.save = noting
    try:
        assert train.main([*arguments, "--runs", str(runs), "--set", "name=whole"]) == 0
    finally:
        checkpoints.save = folder.save = save
    return seen


def left_in_a_save(folder: Path, since: float) -> bool:
    leftovers = [path for place in (folder, folder.parent) for path in place.glob(".*") if is_aside(path.name)]
    return any(place.exists() and place.stat().st_mtime >= since for place in leftovers)


def end(process: subprocess.Popen, death: str) -> None:
    """End a process in one of the ways of DEATHS."""
    if death == "terminated":  # before it listens, that is its end; afterwards it saves first
        process.terminate()
        process.communicate()
        if process.returncode not in (0, 143, -signal.SIGTERM):
            raise RuntimeError(f"exit code {process.returncode} after SIGTERM")
        return
    if death != "killed":
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.2)
    process.kill()
    process.communicate()


def one_life(command: list[str], folder: Path, seconds: float, death: str, tally: Tally) -> bool:
    """Start the process, end it after so many seconds. Returns whether it reached its end before that."""
    tally.resumed += surviving(folder) is not None and "--resume" in command
    started = time.time()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(process, death)
        tally.kills[death] += 1
        tally.before_the_run += surviving(folder) is None
        tally.in_a_save += left_in_a_save(folder, started)
        return False
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {errors}")
    return True


def check(folder: Path, expected: dict[int, tuple[dict, list[dict]]]) -> str | None:
    """What differs between the checkpoint on disk and that of the uninterrupted run at the same position."""
    if surviving(folder) is None:
        return None
    state = read_checkpoint(surviving(folder / "last"))
    checkpoint, lines_of_file = expected[state.progress.position]
    if content(state) != checkpoint:
        return f"checkpoint at position {state.progress.position}"
    if records((folder / FILE).read_bytes()[: state.metrics_bytes]) != lines_of_file:
        return f"records until position {state.progress.position}"
    return None


def kill_test(arguments: list[str], kills: int, runs: Path, seed: int = 0, show=print) -> Tally:
    """arguments: of train.py, without --runs. Raises AssertionError where a finished run differs."""
    tally, rng = Tally(), random.Random(seed)
    began = time.perf_counter()
    expected = uninterrupted(arguments, runs)
    longest = 0.6 * (time.perf_counter() - began + 3)  # 3 for the start of a process; few lives reach the run's end
    number = 0
    while sum(tally.kills.values()) < kills:
        folder = runs / f"killed{number}"
        overwrites = surviving(folder) is not None and rng.random() < OVERWRITES
        tally.overwrites += overwrites
        how = ["--overwrite" if overwrites else "--resume", "--set", f"name={folder.name}"]
        command = [sys.executable, "train.py", *arguments, "--runs", str(runs), *how]
        finished = one_life(command, folder, rng.uniform(0, longest), rng.choice(DEATHS), tally)
        difference = check(folder, expected)
        if difference:
            tally.differed.append(f"{folder.name}: {difference}")
        if finished:
            assert_same_run(runs / "whole", folder)
            tally.finished += 1
            number += 1
        elif sum(tally.kills.values()) % 10 == 0:
            show(f"{sum(tally.kills.values())} deaths, {tally.finished} runs finished, {len(tally.differed)} differed")
    return tally


def main() -> int:
    kills, worst = int(sys.argv[1]) if len(sys.argv) > 1 else 200, 0
    few = max(1, kills // 20)
    for amp, share, more in (("auto", kills - few, []), ("fp16", few, FEWER)):
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["--exp", str(EXPERIMENT), "--set", *SMALL, *more, f"amp={amp}"]
            tally = kill_test(arguments, share, Path(folder), show=lambda line: print(line, flush=True))
        deaths = ", ".join(f"{count} {death}" for death, count in tally.kills.items())
        total = sum(tally.kills.values())
        print(
            f"amp {amp}: {deaths}; {tally.before_the_run} before there was a run, {tally.in_a_save} inside a save; "
            f"{tally.resumed} lives resumed, {tally.overwrites} replaced a run, {tally.finished} runs finished\n"
            f"{total - len(tally.differed)} of {total} left exactly what the uninterrupted run had at that step"
        )
        print("\n".join(tally.differed), flush=True)
        worst |= bool(tally.differed)
    return worst


if __name__ == "__main__":
    sys.exit(main())
