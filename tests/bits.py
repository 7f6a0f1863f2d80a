"""The bits of three short runs, to compare before and after a change that must not change them.

    python -m tests.bits > before.txt        and again afterwards; then diff

Prints a line for each tensor (the sha256 of its bytes, sorted: names may change) and for the numbers of each train and
eval record. Times and anything else that depends on the machine's speed are left out. One thread, so that two machines
of one kind agree too.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

from safetensors.numpy import load_file

import train

ROOT = Path(__file__).resolve().parents[1]
RUNS = {
    "bert_phase2": ["data.train_limit=400", "data.dev_limit=100"],
    "sentiment": ["data.train_limit=300", "data.dev_limit=100"],
    "multitask_qa_sentiment": [
        *("tasks.qa.data.train_limit=120", "tasks.qa.data.dev_limit=40"),
        *("tasks.sentiment.data.train_limit=120", "tasks.sentiment.data.dev_limit=40"),
    ],
}
NUMBERS = ("step", "epoch", "loss", "examples", "tokens", "lr", "grad_norm", "grad_norm_max", "clipped", "padding")


def bits_of(folder: Path) -> list[str]:
    """Lines that two equal runs share."""
    lines = []
    for file in sorted(folder.glob("*/*.safetensors")):
        digests = sorted(hashlib.sha256(tensor.tobytes()).hexdigest()[:16] for tensor in load_file(file).values())
        lines += [f"{file.relative_to(folder)} {digest}" for digest in digests]
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "train":
            lines.append(json.dumps([record[key] for key in NUMBERS]))
        if record["kind"] == "eval":
            lines.append(json.dumps([record["step"], record["split"], record["best"], record["metrics"]]))
    return lines


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in RUNS.items():
            command = ["--exp", str(ROOT / "experiments" / f"{name}.json"), "--runs", folder]
            stdout, sys.stdout = sys.stdout, sys.stderr
            code = train.main([*command, "--set", "runtime.threads=1", *settings])
            sys.stdout = stdout
            if code:
                return code
            print("\n".join(f"{name} {line}" for line in bits_of(Path(folder) / name)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
