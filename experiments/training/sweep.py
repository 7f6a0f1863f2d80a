"""Several runs of one experiment: every combination of the values under "sweep", every variant, and every fold.

    "sweep": {"optim.lr": [1e-4, 2e-4], "seed": [0, 1, 2]}        six runs
    "variants": {"r4": {"lora.rank": 4, "lora.alpha": 8},
                 "full": {"lora": null, "phases.0.train": ["all"]}}   two, times those
    "data": {"folds": 5, ...}                                     five, times those

Each is a run of its own, in a folder and a process of its own, as if it had been started by hand with --set.
"""

import itertools
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from data.files import InputError
from experiments.config.check import open_folds, read_spec
from experiments.config.spec import ONLY, Spec
from experiments.records import FILE, json_safe, read_records
from experiments.terminal import say
from experiments.training.console import Signals
from experiments.training.folder import check_folder
from experiments.training.identity import differences
from model.machine import cores

MOST_RUNS = 1000  # more are a slip of the keyboard


@dataclass(frozen=True)
class Member:
    """One run of a sweep."""

    name: str
    assignments: tuple[str, ...]  # for --set
    spec: Spec


def expand(path: Path, assignments: list[str]) -> list[Member]:
    """The runs of an experiment file. Raises InputError where there is nothing to sweep, or one of them is no
    experiment."""
    spec = read_spec(path, assignments, sweeping=True)
    values: dict[str, list] = {"variant": list(spec.variants)} if spec.variants else {}
    values |= {key.removeprefix(f"tasks.{ONLY}."): list(listed) for key, listed in spec.sweep.items()}
    for key in values:
        if any(other != key and other.startswith(f"{key}.") for other in values) or len(values) < len(spec.sweep):
            raise InputError(f"{path}: sweep.{key}: sweeps a setting that another key sweeps too")
    for key, folds in open_folds(spec).items():
        values.setdefault(key.removeprefix(f"tasks.{ONLY}."), list(range(folds)))
    if not values:
        raise InputError(f"{path}: --sweep: there are neither sweep nor variants nor data.folds in it")
    shorts = short_names(list(values))
    members = []
    for chosen in itertools.islice(itertools.product(*values.values()), MOST_RUNS + 1):
        picked = dict(zip(values, chosen, strict=True))
        parts = [f"{shorts[key]}-{plain(values[key], value)}" for key, value in picked.items() if key != "variant"]
        variant = [picked["variant"]] if "variant" in picked else []
        name = "_".join([spec.name, *variant, *parts])
        settings = (spec.variants[variant[0]] if variant else {}) | picked
        own = ("sweep={}", "variants={}", f"name={name}", *(f"{key}={json.dumps(v)}" for key, v in settings.items()))
        # A member that is no experiment? Better said now than after the first run.
        members.append(Member(name, own, read_spec(path, [*assignments, *own])))
    if len(members) > MOST_RUNS:
        raise InputError(f"{path}: sweep: more than {MOST_RUNS:,} runs")
    if len({member.name for member in members}) < len(members):
        raise InputError(f"{path}: sweep: a value is listed twice, or two would name the same folder")
    return members


def short_names(keys: list[str]) -> dict[str, str]:
    """{"optim.lr": "lr"}, or the whole key where two end alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: end if last.count(end) == 1 else plain([], key) for key, end in zip(keys, last, strict=True)}


def plain(values: list, value: object) -> str:
    """A value as part of a folder's name: 0.0002, cosine; its number in the list where it is no plain value."""
    if isinstance(value, dict | list):
        return str(values.index(value))
    text = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"[^\w.+-]", ".", text)


def run_sweep(arguments, program: Path) -> int:
    """Train every member that is not finished yet, `arguments.jobs` at a time. arguments: train.py's. Returns the exit
    code: that of the member which could not be trained, or 0."""
    if arguments.resume_anyway:
        raise InputError("--sweep goes on with --resume; --resume-anyway is for one run")
    members = expand(arguments.exp, arguments.set)
    for member in members:
        check_folder(arguments.runs / member.name, arguments.resume, arguments.overwrite)
    commands, names = {}, {}
    for number, member in enumerate(members, 1):
        folder, label = arguments.runs / member.name, f"[{number} of {len(members)}] {member.name}"
        if arguments.resume and is_finished(folder, member.spec):
            say(f"{label}: is finished")
        else:
            commands[label], names[label] = command_of(member, arguments, program), member.name
    failed = []
    for label, code in side_by_side(commands, arguments.jobs):
        if code == 1:
            failed.append(names[label])
        elif code:
            say(f"train.py: the sweep stopped at {names[label]}; go on with --sweep --resume", sys.stderr)
            return code
    folders = " ".join(str(arguments.runs / member.name) for member in members)
    say(f"{len(members) - len(failed)} of {len(members)} runs done; compare: python eval.py summary {folders}")
    for name in failed:
        say(f"train.py: {name} could not go on, see above", sys.stderr)
    return 1 if failed else 0


def command_of(member: Member, arguments, program: Path) -> list[str]:
    """The command that trains one member. Members that run side by side share the cores."""
    settings = [*arguments.set, *member.assignments]
    if arguments.jobs > 1 and member.spec.runtime.threads is None:
        settings.append(f"runtime.threads={max(1, cores() // arguments.jobs)}")
    command = [sys.executable, str(program), "--exp", str(arguments.exp), "--runs", str(arguments.runs)]
    command += ["--data-root", str(arguments.data_root), "--set", *settings]
    flags = {"--resume": arguments.resume, "--overwrite": arguments.overwrite}
    return [*command, *(flag for flag, given in flags.items() if given)]


def side_by_side(commands: Mapping[str, list[str]], jobs: int) -> Iterator[tuple[str, int]]:
    """Run commands, `jobs` at a time, and yield (label, exit code) as each ends. What one of several prints is kept
    until it ends.

    Ctrl-C at a terminal reaches the commands too, and SIGTERM is passed on: they save, and we wait for that. If the
    caller stops listening, those that still run are terminated and waited for.
    """
    waiting, told = list(commands.items()), False
    running: dict[subprocess.Popen, tuple[str, IO[bytes] | None]] = {}
    with Signals() as signals:
        try:
            while running or (waiting and not signals.caught):
                while waiting and len(running) < jobs and not signals.caught:
                    label, command = waiting.pop(0)
                    say(label)
                    kept = tempfile.TemporaryFile() if jobs > 1 else None  # noqa: SIM115, closed when the process ends
                    process = subprocess.Popen(command, stdout=kept, stderr=subprocess.STDOUT if kept else None)
                    running[process] = (label, kept)
                time.sleep(0.1)
                if signals.caught == signal.SIGTERM and not told:
                    told = True
                    for process in running:
                        process.terminate()
                for process in [each for each in running if each.poll() is not None]:
                    label, output = running.pop(process)
                    if output:
                        output.seek(0)
                        say([f"{label}:", *output.read().decode(errors="replace").splitlines()])
                        output.close()
                    code = process.returncode
                    yield label, code if code >= 0 else 128 - code  # killed by a signal: as a shell has it
            if waiting:
                yield waiting[0][0], 128 + (signals.caught or 0)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()


def is_finished(folder: Path, spec: Spec) -> bool:
    """Whether the run in a folder, if there is one, has come to its end. Raises InputError where that one is of other
    settings than are asked for now."""
    if not (folder / FILE).is_file() or not read_records(folder).finished:
        return False
    changed = differences(json_safe(spec), json_safe(read_spec(folder / "spec.json")))
    changed = [text for text in changed if not text.startswith("runtime.")]
    if changed:
        raise InputError(
            f"{folder}: is a finished run of other settings: {'; '.join(changed)}; --overwrite replaces it"
        )
    return True
