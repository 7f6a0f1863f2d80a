"""What the tests share: the real checkpoint and tokenizer, and small random models in Hugging Face layout."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.bert import BertConfig, BertEncoder, initialise
from model.families import FAMILIES, published_parameter
from model.hub import packaged_folder
from model.machine import cores
from model.tokenizer import load_tokenizer

# Tests that run side by side share the cores, and so do the processes that they start.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
if WORKERS > 1:
    torch.set_num_threads(max(1, cores() // WORKERS))
    os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """The folder of the real all-MiniLM-L6-v2."""
    return packaged_folder()


@pytest.fixture(scope="session")
def tokenizer(checkpoint):
    return load_tokenizer(checkpoint)


def small_encoder(seed: int = 0, **shape) -> BertEncoder:
    """A random encoder; 2 layers, 64 wide unless the shape says otherwise. Deliberately not at its initialisation:
    with weights this size every term matters."""
    torch.manual_seed(seed)
    defaults = {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "intermediate_size": 128, "max_positions": 128}
    config = BertConfig(**{**defaults, **shape})
    encoder = BertEncoder(config)
    initialise(encoder, std=0.8 / config.hidden_size**0.5)
    for name, parameter in encoder.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=1.0 if "norm.weight" in name else 0.0, std=0.1)
    return encoder


def write_checkpoint(folder: Path, encoder: BertEncoder, tokenizer_from: Path, family: str = "bert") -> Path:
    """An encoder as a folder in Hugging Face layout."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = dict(vars(encoder.config))
    if fields["position_offset"]:
        fields["max_positions"] += fields["position_offset"]
        fields["position_offset"] -= 1  # config.json has pad_token_id
    config = {"model_type": family, **{key: fields[ours] for key, ours in FAMILIES[family].keys.items()}}
    config[FAMILIES[family].activation] = "gelu"
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {}
    for name, tensor in encoder.state_dict().items():
        tensors[published_parameter(name, family)] = tensor
    save_file(tensors, folder / "model.safetensors")
    shutil.copy(tokenizer_from / "tokenizer.json", folder / "tokenizer.json")
    return folder


@pytest.fixture
def small_checkpoint(tmp_path, checkpoint) -> Path:
    """A small random model with the real vocabulary and tokenizer."""
    return write_checkpoint(tmp_path / "small", small_encoder(), checkpoint)


@pytest.fixture
def experiment(tmp_path, small_checkpoint):
    """Writes an experiment file: two short phases over 80 generated questions. Returns its path."""

    def write(**changes) -> Path:
        raw = {
            "model": {"pretrained": str(small_checkpoint)},
            "lora": {"rank": 4, "alpha": 8},
            "task": "span_qa",
            "data": {
                "source": "synthetic_qa",
                "train_limit": 80,
                "dev_limit": 24,
                "max_length": 96,
                "doc_stride": 48,
                "max_query_length": 24,
                "batch_size": 8,
            },
            "phases": [
                {"name": "one", "epochs": 1, "train": ["head", "lora"]},
                {"name": "two", "epochs": 1, "train": ["head", "lora", "layers.1"], "lr": {"layers.1": 1e-4}},
            ],
            "eval": {"every_epochs": 0.5},
            "runtime": {"log_every": 3, "device": "cpu", "threads": 1},
        }
        path = tmp_path / "tiny.json"
        path.write_text(json.dumps(raw | changes))
        return path

    return write
