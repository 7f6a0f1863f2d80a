"""model/machine.py: what "auto" comes to, and why it says so."""

import subprocess
import sys

import pytest
import torch

from data.files import InputError
from model.machine import choose_device, choose_machine, keep_freed_memory, peak_memory_mb

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "capabilities,name,reason",
    [
        ({"avx2": True, "amx_bf16": True}, "bf16", "auto: this CPU has amx_bf16"),
        ({"avx2": True, "avx512_bf16": False}, "fp32", "auto: this CPU has no native bf16"),
        ({}, "fp32", "auto: this CPU has no native bf16"),
    ],
)
def test_auto_takes_bf16_only_where_the_hardware_has_it(monkeypatch, capabilities, name, reason):
    """Trap 21. Fails where bf16 is taken wherever it runs."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    machine = choose_machine("cpu", "auto")
    assert (machine.precision, machine.reason) == (name, reason)


def test_a_torch_that_cannot_tell_is_not_reported_as_a_cpu_that_cannot(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    machine = choose_machine("cpu", "auto")
    assert machine.precision == "fp32" and "cannot tell what this CPU has" in machine.reason


@pytest.mark.parametrize("amp,name", [("off", "fp32"), ("bf16", "bf16"), ("fp16", "fp16")])
def test_what_was_asked_for_is_taken(amp, name):
    machine = choose_machine("cpu", amp)
    assert machine.precision == name and amp in machine.reason
    with machine.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (machine.dtype or torch.float32)


@pytest.mark.parametrize("name", ["cuda:99", "abacus", ""])
def test_a_device_that_is_not_there_is_an_input_error(name):
    with pytest.raises(InputError, match=r"runtime.device"):
        choose_device(name)


def test_peak_memory_is_that_of_this_process():
    """Not of the one that started it, which is larger by 400 MB."""
    kept = torch.ones(100_000_000)
    command = [sys.executable, "-c", "import torch, model.machine as m; print(m.peak_memory_mb(torch.device('cpu')))"]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 50 < int(child.stdout) < peak_memory_mb(CPU) - 300
    assert kept.sum() == 100_000_000


def test_the_allocator_can_be_told_and_told_back():
    for keep in (True, False):
        keep_freed_memory(keep)
        assert torch.ones(20_000_000).sum() == 20_000_000
