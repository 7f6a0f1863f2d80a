import pytest
import torch

from data.files import InputError
from experiments.config.optimizers import OPTIMIZERS
from experiments.config.spec import OptimSpec
from experiments.training.checkpoint import restore_training, training_tensors
from model.tensors import fill_parameters, read_tensors, write_tensors


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_continues_bit_for_bit(name, tmp_path):
    def make():
        torch.manual_seed(0)
        parameters = {"a": torch.nn.Parameter(torch.randn(4, 3)), "b": torch.nn.Parameter(torch.randn(4))}
        return parameters, getattr(torch.optim, OPTIMIZERS[name].torch_name)(
            parameters.values(), lr=0.01, **OPTIMIZERS[name].arguments(OptimSpec())
        )

    def steps(parameters, optimizer, count):
        for _ in range(count):
            for parameter in parameters.values():
                parameter.grad = torch.randn_like(parameter)  # the generator's state matters too
            optimizer.step()

    whole, optimizer = make()
    steps(whole, optimizer, 6)

    first, optimizer = make()
    steps(first, optimizer, 3)
    tensors = training_tensors(optimizer, {p: n for n, p in first.items()})
    weights = {n: p.detach().clone() for n, p in first.items()}

    second, optimizer = make()
    torch.manual_seed(99)
    with torch.no_grad():
        for n, p in second.items():
            p.copy_(weights[n])
    write_tensors(tmp_path / "t", tensors)
    restore_training(tmp_path / "t", optimizer, name, {p: n for n, p in second.items()})
    steps(second, optimizer, 3)
    assert all(torch.equal(whole[n], second[n]) for n in whole)


def test_filling_parameters_is_strict(tmp_path):
    parameters = {"a": torch.zeros(2)}
    for saved, message in (
        ({}, "1 missing tensor.* a"),
        ({"a": torch.ones(2), "b": torch.ones(1)}, "1 unexpected tensor.* b"),
        ({"a": torch.ones(3)}, r"a is \(3,\), the model has \(2,\)"),
    ):
        with pytest.raises(InputError, match=message):
            fill_parameters(parameters, saved, tmp_path)
    assert parameters["a"].sum() == 0


def test_a_pickled_file_is_refused_by_name(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "head.safetensors")
    with pytest.raises(InputError, match=r"head.safetensors: cannot be read as safetensors"):
        read_tensors(tmp_path / "head.safetensors")
