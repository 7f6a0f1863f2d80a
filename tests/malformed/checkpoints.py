"""Pretrained checkpoints: config.json, tokenizer files, safetensors, shard indexes."""

import json
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.malformed.place import Case, broken_json, drop_key, put, set_key, unusual_files

CONFIG, WEIGHTS, TOKENIZER = "small/config.json", "small/model.safetensors", "small/tokenizer.json"
INDEX = "small/model.safetensors.index.json"
QUERY = "encoder.layer.0.attention.self.query.weight"

# ---- config.json -----------------------------------------------------------------------------------------------------

BAD_VALUES = [
    ("model_type", "gpt2", "model_type is 'gpt2'; supported: bert, distilbert"),
    ("model_type", ["bert"], "model_type is ['bert']"),
    ("model_type", None, "model_type is None"),
    ("model_type", "distilbert", "dim is None"),
    ("hidden_size", 0, "hidden_size is 0, expected a whole number from 1"),
    ("hidden_size", -16, "hidden_size is -16"),
    ("hidden_size", "16", "hidden_size is '16', expected a whole number"),
    ("hidden_size", 16.5, "hidden_size is 16.5, expected a whole number"),
    ("hidden_size", True, "hidden_size is True"),
    ("hidden_size", 18, "18 wide cannot be split into 4 heads"),
    ("hidden_size", 32, "config.json asks for a floating-point"),
    ("hidden_size", 10**30, "hidden_size is 1000000"),
    ("num_hidden_layers", 0, "num_hidden_layers is 0"),
    ("num_hidden_layers", 10**9, "num_hidden_layers is 1000000000, expected a whole number from 1 to 1,000"),
    ("num_hidden_layers", 3, "16 missing tensor(s)"),
    ("num_hidden_layers", 1, "16 unexpected tensor(s)"),
    ("num_attention_heads", 0, "num_attention_heads is 0"),
    ("num_attention_heads", 5, "cannot be split into 5 heads"),
    ("intermediate_size", 17, "intermediate.dense"),
    ("vocab_size", 100, "word_embeddings.weight is torch.float32"),
    ("max_position_embeddings", 64, "position_embeddings.weight is"),
    ("type_vocab_size", 0, "type_vocab_size is 0"),
    ("layer_norm_eps", 0, "layer_norm_eps is 0, expected a number from 1e-20 to 0.1"),
    ("layer_norm_eps", "1e-12", "layer_norm_eps is '1e-12'"),
    ("layer_norm_eps", 1e999, "Infinity is not a number"),
    ("hidden_dropout_prob", 1, "hidden_dropout_prob is 1, expected a number from 0 to 0.99"),
    ("hidden_dropout_prob", -0.1, "hidden_dropout_prob is -0.1"),
    ("hidden_act", "relu", "hidden_act is 'relu'; only 'gelu' is supported"),
    ("hidden_act", {"name": "gelu"}, "hidden_act is {'name': 'gelu'}"),
    ("position_embedding_type", "relative_key", "position_embedding_type is 'relative_key'; only 'absolute'"),
]


def configurations() -> Iterator[Case]:
    yield from broken_json("config.json", CONFIG)
    yield from unusual_files("config.json", CONFIG, {"missing": "no such file", "a folder": "is a folder", "a pipe": "is a pipe",
                             "an endless device": "is a device", "no permission": "Permission denied",
                             "a link to itself": "symbolic links"})  # fmt: skip
    for key, value, answer in BAD_VALUES:
        yield Case("config.json", f"{key}: {value}", lambda p, k=key, v=value: set_key(p / CONFIG, k, v), answer)
    for key in ("hidden_size", "num_attention_heads", "layer_norm_eps", "hidden_act", "vocab_size"):
        yield Case("config.json", f"no {key}", lambda p, k=key: drop_key(p / CONFIG, k), "None")


# ---- tokenizers ------------------------------------------------------------------------------------------------------


def vocabulary(content: bytes) -> Callable[[Path], None]:
    """Replace tokenizer.json by a vocab.txt."""

    def damage(place: Path) -> None:
        (place / TOKENIZER).unlink()
        (place / "small/vocab.txt").write_bytes(content)

    return damage


def edited_tokenizer(edit: Callable[[dict], None]) -> Callable[[Path], None]:
    def damage(place: Path) -> None:
        raw = json.loads((place / TOKENIZER).read_bytes())
        edit(raw)
        put(place / TOKENIZER, raw)

    return damage


def tokenizers() -> Iterator[Case]:
    unreadable = "the tokenizer cannot be read"
    for name, content in (
        ("empty", b""),
        ("prose", b"dear sir or madam"),
        ("an empty object", b"{}"),
        ("a list", b"[]"),
        ("cut off", b'{"version": "1.0", "truncation"'),
        ("UTF-16", '{"version": "1.0"}'.encode("utf-16")),
        ("NUL bytes", bytes(100)),
        ("deep lists", b"[" * 100_000),
        ("a pickle", pickle.dumps([1])),
        ("a model of no known type", b'{"version": "1.0", "model": {"type": "Magic", "vocab": {}}}'),
    ):
        yield Case(
            "tokenizer", f"tokenizer.json: {name}", lambda p, c=content: put(p / TOKENIZER, c), "tokenizer.json: "
        )
    for name, edit, answer in (
        ("a BPE that makes the library panic", lambda raw: raw.update(model={
            "type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"], "continuing_subword_prefix": "####"}),
         unreadable),
        ("vocab is a number", lambda raw: raw["model"].update(vocab=7), unreadable),
        ("vocab ids are texts", lambda raw: raw["model"].update(vocab={"[CLS]": "0"}), unreadable),
        ("vocab ids are negative", lambda raw: raw["model"].update(vocab={"[CLS]": -1}), unreadable),
        ("the normalizer is a number", lambda raw: raw.update(normalizer=7), unreadable),
        ("no [CLS]", lambda raw: (raw["model"]["vocab"].pop("[CLS]"), raw.update(added_tokens=[], post_processor=None)),
         "the tokenizer has no [CLS]"),
        ("no [PAD] and no [SEP]", lambda raw: ([raw["model"]["vocab"].pop(t) for t in ("[SEP]", "[PAD]")],
         raw.update(added_tokens=[], post_processor=None, padding=None)), "the tokenizer has no [SEP], [PAD]"),
        ("an id beyond the encoder's", lambda raw: raw["model"]["vocab"].update({"zzzz": 10**6}), "go up to 1000000"),
        ("more tokens than the encoder", lambda raw: raw["model"]["vocab"].update(
            {f"zz{i}": 30522 + i for i in range(9)}), "they do not belong together"),
    ):  # fmt: skip
        yield Case("tokenizer", f"tokenizer.json: {name}", edited_tokenizer(edit), answer)
    for name, content, answer in (
        ("empty", b"", unreadable),
        ("not UTF-8", b"[CLS]\n\xff\xfe\n", "vocab.txt: line 2 is not UTF-8"),
        ("without [UNK]", b"[PAD]\n[CLS]\n[SEP]\nmilk\n", "the tokenizer has no [UNK]"),
        ("without special tokens", b"milk\nman\n", unreadable),
        ("NUL bytes", bytes(100), unreadable),
        ("one line of 1 MB", b"x" * 10**6, unreadable),
    ):
        yield Case("tokenizer", f"vocab.txt: {name}", vocabulary(content), answer)
    yield Case("tokenizer", "none", lambda p: (p / TOKENIZER).unlink(), "neither tokenizer.json nor vocab.txt")
    yield Case(
        "tokenizer",
        "a folder",
        lambda p: ((p / TOKENIZER).unlink(), (p / TOKENIZER).mkdir()),
        "is a folder; a file is needed",
    )


# ---- safetensors -----------------------------------------------------------------------------------------------------


def raw_safetensors(header: bytes | dict, data: bytes = b"", length: int | None = None) -> bytes:
    header = json.dumps(header).encode() if isinstance(header, dict) else header
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)) -> dict:
    return {"a": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


NOT_SAFETENSORS = [
    ("empty", b""),
    ("seven bytes", b"1234567"),
    ("prose", b"dear sir or madam, " * 50),
    ("a pickle", pickle.dumps({"a": 1})),
    ("a zip, as torch.save writes it", b"PK\x03\x04" + bytes(500)),
    ("a header of 8 EB", raw_safetensors(b"{}", length=2**63)),
    ("a header of 2^64 - 1 bytes", raw_safetensors(b"{}", length=2**64 - 1)),
    ("a header longer than the file", raw_safetensors(b"{}", length=1000)),
    ("a header of 0 bytes", raw_safetensors(b"")),
    ("a header that is no JSON", raw_safetensors(b"not json")),
    ("a header that is a list", raw_safetensors(b"[1, 2]")),
    ("a header that is not UTF-8", raw_safetensors(b'{"\xff": 1}')),
    ("a header nested deeply", raw_safetensors(b'{"a":' * 100_000)),
    ("an entry without a type", raw_safetensors({"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8))),
    ("an unknown type", raw_safetensors(entry(dtype="F31"), bytes(8))),
    ("a shape of texts", raw_safetensors(entry(shape=("2",)), bytes(8))),
    ("a negative shape", raw_safetensors(entry(shape=(-2,)), bytes(8))),
    ("a shape that overflows", raw_safetensors(entry(shape=(2**62, 2**62)), bytes(8))),
    ("a shape that is not its data", raw_safetensors(entry(shape=(3,)), bytes(8))),
    ("offsets beyond the end", raw_safetensors(entry(offsets=(0, 800), shape=(200,)), bytes(8))),
    ("offsets that go backwards", raw_safetensors(entry(offsets=(8, 0)), bytes(8))),
    ("negative offsets", raw_safetensors(entry(offsets=(-8, 0)), bytes(8))),
    ("a hole", raw_safetensors(entry(offsets=(8, 16)), bytes(16))),
    ("data that nobody owns", raw_safetensors(entry(), bytes(80))),
]


def edited_weights(edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(place: Path) -> None:
        tensors = {name: tensor.clone() for name, tensor in load_file(place / WEIGHTS).items()}
        edit(tensors)
        (place / WEIGHTS).unlink()
        save_file(tensors, place / WEIGHTS)

    return damage


def safetensors() -> Iterator[Case]:
    for name, content in NOT_SAFETENSORS:
        yield Case("safetensors", name, lambda p, c=content: put(p / WEIGHTS, c), "cannot be read as safetensors")
    for share in (0.1, 0.5, 0.9, 0.999999):
        yield Case("safetensors", f"cut off at {share:.4%}", lambda p, s=share: put(p / WEIGHTS, _first(p / WEIGHTS, s)),
                   "cannot be read as safetensors")  # fmt: skip
    for name, edit, answer in (
        ("no tensors", lambda t: t.clear(), "missing tensor(s)"),
        ("a tensor missing", lambda t: t.pop(QUERY), f"1 missing tensor(s) for a bert encoder: {QUERY}"),
        ("a tensor too many", lambda t: t.update(extra=torch.ones(2)), "1 unexpected tensor(s) for a bert encoder: extra"),
        ("a tensor twice", lambda t: t.update({f"bert.{QUERY}": t[QUERY].clone()}), "is there twice"),
        ("another width", lambda t: t.update({QUERY: torch.ones(8, 8)}), "is torch.float32 (8, 8), config.json asks"),
        ("transposed embeddings", lambda t: t.update(
            {"embeddings.word_embeddings.weight": t["embeddings.word_embeddings.weight"].T.contiguous()}), "config.json asks"),
        ("a scalar", lambda t: t.update({QUERY: torch.tensor(1.0)}), "is torch.float32 (), config.json asks"),
        ("whole numbers", lambda t: t.update({QUERY: t[QUERY].long()}), "is torch.int64 (16, 16)"),
        ("booleans", lambda t: t.update({QUERY: t[QUERY] > 0}), "is torch.bool (16, 16)"),
        ("NaN", lambda t: t[QUERY].fill_(torch.nan), f"{QUERY} holds NaN or infinity"),
        ("infinity", lambda t: t[QUERY][3].fill_(torch.inf), "holds NaN or infinity"),
        ("gamma outside of LayerNorm", lambda t: t.update({"encoder.gamma": torch.ones(2)}), "unexpected tensor(s)"),
        ("names with a path", lambda t: t.update({"../../evil": torch.ones(2)}), "unexpected tensor(s)"),
        ("a name with a newline", lambda t: t.update({"a\nb": torch.ones(2)}), "a\\nb"),
    ):  # fmt: skip
        yield Case("safetensors", name, edited_weights(edit), answer)
    yield from unusual_files(
        "safetensors", WEIGHTS, {"missing": "no model.safetensors", "no permission": "cannot be read"}
    )
    yield Case("safetensors", "only a pickled .bin", lambda p: (p / WEIGHTS).rename(p / "small/pytorch_model.bin"),
               "the pickled file is not read; convert it: python -c")  # fmt: skip


def _first(path: Path, share: float) -> bytes:
    data = path.read_bytes()
    return data[: int(len(data) * share)]


# ---- shard indexes ---------------------------------------------------------------------------------------------------


def index(weight_map) -> Callable[[Path], None]:
    """A checkpoint whose weights are found through an index; the real file is at hand under another name."""

    def damage(place: Path) -> None:
        (place / WEIGHTS).rename(place / "small/shard.safetensors")
        shutil.copy(place / "small/shard.safetensors", place / "outside.safetensors")
        put(place / INDEX, {"weight_map": weight_map})

    return damage


def indexes() -> Iterator[Case]:
    for case in [*broken_json("shard index", INDEX), *unusual_files("shard index", INDEX, {
        "missing": "no model.safetensors", "no permission": "Permission denied"})]:  # fmt: skip

        def damage(place: Path, case: Case = case) -> None:
            index({})(place)
            case.damage(place)

        yield Case(case.category, case.name, damage, case.answer)
    outside = "is not the name of a .safetensors file in this folder"
    for name in ("../outside.safetensors", "/etc/passwd", "sub/shard.safetensors", "..", ".", "", "shard.bin",
                 "~/shard.safetensors/x", "small/../shard.safetensors"):  # fmt: skip
        yield Case("shard index", f"a shard called {name!r}", index({QUERY: name}), outside)
    yield Case(
        "shard index", "a shard that is missing", index({QUERY: "none.safetensors"}), "none.safetensors is missing"
    )
    yield Case("shard index", "a NUL in a name", index({QUERY: "a\x00.safetensors"}), "is missing")
    for value in (None, [], "shard.safetensors", 7, {QUERY: None}, {QUERY: ["shard.safetensors"]}):
        yield Case("shard index", f"weight_map is {value}", index(value), "weight_map must map tensor names")
    yield Case("shard index", "no shards", index({}), "missing tensor(s)")


def cases() -> Iterator[Case]:
    yield from configurations()
    yield from tokenizers()
    yield from safetensors()
    yield from indexes()
