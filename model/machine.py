"""The machine a run is on: device, precision, memory, versions."""

import contextlib
import ctypes
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from data.files import InputError


def choose_device(name: str) -> torch.device:
    """Device for a name; "auto" is the first accelerator, else the CPU. Raises InputError for one that is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise InputError(f"runtime.device: {name!r} is not one of auto, cpu, cuda, cuda:N, mps")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"runtime.device: {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device


@dataclass(frozen=True)
class Machine:
    """The device, the dtype of its matrix products (None: fp32 throughout), and why that one. Trained parameters are
    fp32 in any case."""

    device: torch.device
    dtype: torch.dtype | None
    reason: str

    @property
    def precision(self) -> str:
        return {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.dtype]

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    def place(self, batch: dict) -> dict:
        """A batch with its tensors on the device."""
        placed = {key: self.place(value) for key, value in batch.items() if isinstance(value, dict)}
        placed |= {key: value.to(self.device) for key, value in batch.items() if isinstance(value, torch.Tensor)}
        return batch | placed


def choose_machine(device: str, amp: str) -> Machine:
    """The machine for the settings runtime.device and amp. Raises InputError for a device that is not there."""
    chosen = choose_device(device)
    return Machine(chosen, *choose_precision(amp, chosen))


def choose_precision(amp: str, device: torch.device) -> tuple[torch.dtype | None, str]:
    """Dtype for the setting `amp` on this device, and why. "auto" takes 16 bit only where the hardware multiplies it
    natively: a CPU that emulates bf16 is slower than in fp32."""
    asked = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}
    if amp != "auto":
        return asked[amp], f'amp is "{amp}"'
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "auto: this GPU has native bf16"
        return torch.float16, "auto: this GPU has no native bf16"
    if device.type != "cpu":
        return None, f"auto: off on {device.type}"
    if not hasattr(torch.cpu, "get_capabilities"):
        return None, f'auto: torch {torch.__version__} cannot tell what this CPU has; try amp "bf16"'
    native = sorted(key for key, there in torch.cpu.get_capabilities().items() if "bf16" in key and there is True)
    if native:
        return torch.bfloat16, f"auto: this CPU has {native[0]}"
    return None, "auto: this CPU has no native bf16"


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory does not suffice. On a CPU PyTorch raises a plain RuntimeError."""
    on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return on_cpu or isinstance(error, MemoryError | torch.OutOfMemoryError)


def keep_freed_memory(keep: bool = True) -> None:
    """Ask glibc to keep freed memory for later, or to give large blocks back to the system at once.

    A block that was given back is mapped anew, and the kernel must zero its pages. Freed memory that is kept lies in
    pieces between what is in use, and the next tensor fits into none of them: a third of a run's memory
    (experiments/LOG.md, "The first hour"). Without glibc there is no effect.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # from malloc.h
    libc.mallopt(M_MMAP_MAX, 0 if keep else 65536)
    libc.mallopt(M_MMAP_THRESHOLD, 1 << 20)  # of what large means; without effect where nothing is mapped by itself
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1 if keep else 128 << 10)


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy_cores(seconds: float = 0.2) -> float | None:
    """How many of those cores other work keeps busy, watched for a moment; None where the system does not say."""

    def idle_and_all() -> tuple[int, int]:
        lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
        own = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        times = [list(map(int, fields[1:9])) for fields in lines if fields[0] in own]
        return sum(each[3] + each[4] for each in times), sum(map(sum, times))  # idle and waiting for the disk

    try:
        idle, total = idle_and_all()
        time.sleep(seconds)
        idle_then, total_then = idle_and_all()
        return cores() * (1 - (idle_then - idle) / (total_then - total))
    except (OSError, AttributeError, ValueError, IndexError, ZeroDivisionError):
        return None


def peak_memory_mb(device: torch.device) -> int:
    """Largest memory use so far, in MiB: of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    # On Linux, getrusage would count that of the process that started this one, too. Not every system says VmHWM.
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) >> 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10  # macOS counts bytes, others KiB


def describe(device: torch.device) -> dict:
    """Machine and software, as the `run` record names them."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    packages = ("torch", "numpy", "safetensors", "tokenizers")
    return {
        "device": str(device),
        "device_name": name,
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
    }


def git_state(folder: Path) -> dict:
    """{"git": commit, "git_dirty": bool}, both null outside a repository or without git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"git": git("rev-parse", "HEAD"), "git_dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {"git": None, "git_dirty": None}
