"""A checkpoint's tokenizer, as transformers would read it, offsets included."""

import json
import re
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders
from tokenizers.implementations import BertWordPieceTokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import RobertaProcessing, TemplateProcessing

from data.files import InputError, decode_text, read_bytes, read_json, reason, shown
from data.special_tokens import special_tokens
from model.families import FAMILIES, Tokens

# Classes that tokenizer_config.json may name: those of the families, and those that are what tokenizer.json says.
CLASSES = re.compile(
    rf"(({'|'.join(family.class_name for family in FAMILIES.values())})Tokenizer|PreTrainedTokenizer)(Fast)?"
    "|TokenizersBackend"
)

# tokenizer_config.json's names for what a BertNormalizer does, and its own.
NORMALIZING = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",  # null: where it lowercases
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def read_settings(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, empty where there is none. Raises InputError for a tokenizer that is not supported."""
    path = folder / "tokenizer_config.json"
    config = read_json(path) if path.exists() else {}
    name = config.get("tokenizer_class")
    if name is not None and not (isinstance(name, str) and CLASSES.fullmatch(name)):
        raise InputError(f"{path}: tokenizer_class {shown(name)} is not supported")
    if config.get("add_prefix_space") not in (None, False, True):
        raise InputError(f"{path}: add_prefix_space is {shown(config['add_prefix_space'])}, expected true or false")
    return config


def normalizing(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """The arguments of a BertNormalizer that tokenizer_config.json sets. path: that file's, for messages."""
    found = {key: value for key, value in config.items() if key in NORMALIZING}
    for key, value in found.items():
        if not isinstance(value, bool) and (key, value) != ("strip_accents", None):
            raise InputError(f"{path}: {key} is {shown(value)}, expected true or false")
    return {NORMALIZING[key]: value for key, value in found.items()}


def read_vocabulary(path: Path) -> dict[str, int]:
    """vocab.txt, a token a line -> {token: its line from 0}"""
    lines = decode_text(read_bytes(path), path).removesuffix("\n").split("\n")
    return {line.rstrip("\r"): number for number, line in enumerate(lines)}


def word_piece(folder: Path, settings: dict[str, Any], tokens: Tokens) -> Tokenizer:
    """A WordPiece tokenizer over vocab.txt."""
    special = {"cls_token": tokens.cls, "sep_token": tokens.sep, "pad_token": tokens.pad, "mask_token": tokens.mask}
    arguments: dict[str, Any] = {"unk_token": tokens.unk, **special, **settings}
    return BertWordPieceTokenizer(read_vocabulary(folder / "vocab.txt"), **arguments)._tokenizer


def byte_level(folder: Path, prefix_space: bool, tokens: Tokens) -> Tokenizer:
    """A byte-level BPE tokenizer over vocab.json and merges.txt, as RoBERTa's."""
    vocabulary = read_json(folder / "vocab.json")
    lines = decode_text(read_bytes(folder / "merges.txt"), folder / "merges.txt").split("\n")
    pairs = (line.rstrip("\r").split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#version"))
    merges = [(first, second) for first, second in pairs]
    tokenizer = Tokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()  # not used here; whoever loads an export turns tokens into text again
    tokenizer.add_special_tokens([tokens.cls, tokens.pad, tokens.sep, tokens.unk, tokens.mask])
    return tokenizer


def add_tokens(tokenizer: Tokenizer, folder: Path) -> None:
    """Add what added_tokens.json lists beside a plain vocabulary."""
    path = folder / "added_tokens.json"
    added = read_json(path) if path.exists() else {}
    if not all(isinstance(number, int) for number in added.values()):
        raise InputError(f"{path}: must map tokens to their numbers")
    tokenizer.add_tokens(sorted(added, key=lambda token: added[token]))
    for token, number in added.items():
        if tokenizer.token_to_id(token) != number:
            raise InputError(f"{path}: {shown(token)} cannot be token {number}; numbers go on from the vocabulary's")


def from_json(file: Path, settings: dict[str, Any], prefix_space: bool | None) -> Tokenizer:
    """tokenizer.json, with what tokenizer_config.json says put into it."""
    raw = read_json(file)
    model = raw["model"] if isinstance(raw.get("model"), dict) else {"type": None}
    kind = model.get("type", "WordPiece")
    if kind not in ("WordPiece", "BPE"):
        raise InputError(f"{file}: is {shown(kind)}, neither a WordPiece nor a BPE tokenizer")
    if kind == "BPE" and model.get("continuing_subword_prefix"):  # with one, the library may panic
        raise InputError(f"{file}: the tokenizer cannot be read: a BPE with continuing_subword_prefix is not supported")
    own = raw.get("normalizer")
    if isinstance(own, dict) and own.get("type") == "BertNormalizer":
        raw["normalizer"] = own | settings
    for part, of_type in (("pre_tokenizer", "ByteLevel"), ("post_processor", "RobertaProcessing")):
        if prefix_space is not None and isinstance(raw.get(part), dict) and raw[part].get("type") == of_type:
            raw[part] = raw[part] | {"add_prefix_space": prefix_space}
    return Tokenizer.from_str(json.dumps(raw))


def read_tokenizer(folder: Path, tokens: Tokens, config: dict[str, Any]) -> Tokenizer:
    """The tokenizer of a folder, before its frame is seen to. config: see `read_settings`."""
    settings = normalizing(config, folder / "tokenizer_config.json")
    prefix_space = config.get("add_prefix_space")
    if (folder / "tokenizer.json").exists():
        return from_json(folder / "tokenizer.json", settings, prefix_space)
    wanted = ["vocab.txt"] if tokens.kind == "WordPiece" else ["vocab.json", "merges.txt"]
    if not all((folder / name).exists() for name in wanted):
        raise InputError(f"{folder}: neither tokenizer.json nor {' and '.join(wanted)}")
    if tokens.kind == "WordPiece":
        tokenizer = word_piece(folder, settings, tokens)
    else:
        tokenizer = byte_level(folder, bool(prefix_space), tokens)
    add_tokens(tokenizer, folder)
    tokenizer.post_processor = None  # so that `load_tokenizer` sets the family's
    return tokenizer


def frame(tokenizer: Tokenizer, tokens: Tokens, prefix_space: bool) -> Any:
    """What puts a family's special tokens around one text or two: [CLS] a [SEP] b [SEP], or <s> a </s> </s> b </s>.
    Its offsets leave out the space that a byte-level token begins with."""
    cls, sep = ((token, tokenizer.get_vocab()[token]) for token in (tokens.cls, tokens.sep))
    if tokens.separators == 2:
        return RobertaProcessing(sep, cls, trim_offsets=True, add_prefix_space=prefix_space)
    single = f"{tokens.cls}:0 $A:0 {tokens.sep}:0"
    return TemplateProcessing(single=single, pair=f"{single} $B:1 {tokens.sep}:1", special_tokens=[cls, sep])


def load_tokenizer(folder: Path, family: str = "bert") -> Tokenizer:
    """tokenizer.json, or a tokenizer over a plain vocabulary -> a tokenizer that neither truncates nor pads. What
    tokenizer_config.json says about case, accents and Chinese characters holds for both, as in transformers.

    (Published tokenizer.json files carry a truncation of their own; all-MiniLM-L6-v2 cuts at 128 tokens.)
    Raises InputError for one that cannot be read, of a class that is not supported, or without special tokens.
    """
    tokens = FAMILIES[family].tokens
    try:
        config = read_settings(folder)
        tokenizer = read_tokenizer(folder, tokens, config)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        absent = [t for t in (tokens.cls, tokens.sep, tokens.pad, tokens.unk) if tokenizer.token_to_id(t) is None]
        if absent:
            raise InputError(f"{folder}: the tokenizer has no {', '.join(absent)}")
        if tokenizer.post_processor is None:
            tokenizer.post_processor = frame(tokenizer, tokens, bool(config.get("add_prefix_space")))
        special_tokens(tokenizer)
    except InputError:
        raise
    except BaseException as error:  # of the library: plain Exception, and PanicException, which is none
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{folder}: the tokenizer cannot be read: {reason(error)}") from None
    return tokenizer
