"""The families of encoders that load: what each calls its tensors and settings, and in what it differs from BERT.

One encoder (model/bert.py) computes them all. A family is one record here; there is no class for it.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.files import InputError, read_json, shown
from model.bert import BertConfig

# Our module path -> the module path in published checkpoints, below the family's prefix. A layer's begin at
# layers.N here and at `Family.layers` there.
EMBEDDINGS = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "embeddings.project": "embeddings_project",  # ELECTRA's
    "embeddings.relative": "encoder.relative_attention_bias",  # MPNet's
}
BERT_LAYER = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention.norm": "attention.output.LayerNorm",
    "mlp.up": "intermediate.dense",
    "mlp.down": "output.dense",
    "mlp.norm": "output.LayerNorm",
}
MPNET_LAYER = BERT_LAYER | {
    "attention.query": "attention.attn.q",
    "attention.key": "attention.attn.k",
    "attention.value": "attention.attn.v",
    "attention.output": "attention.attn.o",
    "attention.norm": "attention.LayerNorm",
}
DISTILBERT_LAYER = {
    "attention.query": "attention.q_lin",
    "attention.key": "attention.k_lin",
    "attention.value": "attention.v_lin",
    "attention.output": "attention.out_lin",
    "attention.norm": "sa_layer_norm",
    "mlp.up": "ffn.lin1",
    "mlp.down": "ffn.lin2",
    "mlp.norm": "output_layer_norm",
}

# config.json key -> BertConfig field. A key that is absent is an error, so that no default can hide a mismatch.
SHAPE = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_positions",
    "layer_norm_eps": "norm_eps",
    "hidden_dropout_prob": "dropout",
}
BERT_KEYS = SHAPE | {"type_vocab_size": "token_types"}
DISTILBERT_KEYS = {
    "vocab_size": "vocab_size",
    "dim": "hidden_size",
    "n_layers": "num_layers",
    "n_heads": "num_heads",
    "hidden_dim": "intermediate_size",
    "max_position_embeddings": "max_positions",
    "dropout": "dropout",
}
# BertConfig field -> smallest and largest value that makes sense; 1 to 2^20 for all others.
RANGES = {"num_layers": (1, 1000), "norm_eps": (1e-20, 0.1), "dropout": (0, 0.99), "position_offset": (0, 1000)}
# Options of config.json that change what is computed, and the one value of each that we compute.
OPTIONS: dict[str, Any] = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "pruned_heads": {},
    "quantization_config": None,
    "auto_map": None,  # code of the checkpoint's own
}


@dataclass(frozen=True)
class Tokens:
    """How a family's tokenizer is made where a folder has no tokenizer.json: the model, and its special tokens."""

    kind: str  # WordPiece over vocab.txt, or BPE over vocab.json and merges.txt
    cls: str
    sep: str
    pad: str
    mask: str
    unk: str
    separators: int  # between two texts


WORD_PIECE = Tokens("WordPiece", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]", separators=1)
BYTE_LEVEL = Tokens("BPE", "<s>", "</s>", "<pad>", "<mask>", "<unk>", separators=2)
MPNET_TOKENS = Tokens("WordPiece", "<s>", "</s>", "<pad>", "<mask>", "[UNK]", separators=2)


@dataclass(frozen=True)
class Family:
    class_name: str  # how the names of its classes in transformers begin
    prefix: str  # of the encoder's tensors in a checkpoint that has a head, too
    keys: dict[str, str] = field(default_factory=lambda: BERT_KEYS)
    activation: str = "hidden_act"  # the key that names it
    layers: str = "encoder.layer"
    layer: dict[str, str] = field(default_factory=lambda: BERT_LAYER)
    fixed: dict[str, Any] = field(default_factory=dict)  # BertConfig fields that are the same in all its checkpoints
    tokens: Tokens = WORD_PIECE
    # The library's own head for texts: what it calls the linear layer on [CLS], the function after that, and the
    # linear layer to the labels.
    text_head: tuple[str, str, str] = ("classifier.dense", "tanh", "classifier.out_proj")


FAMILIES = {
    "bert": Family("Bert", "bert", text_head=("bert.pooler.dense", "tanh", "classifier")),
    "distilbert": Family(
        "DistilBert",
        "distilbert",
        keys=DISTILBERT_KEYS,
        activation="activation",
        layers="transformer.layer",
        layer=DISTILBERT_LAYER,
        fixed={"token_types": 0},
        text_head=("pre_classifier", "relu", "classifier"),
    ),
    # Positions are counted from pad_token_id + 1. There is one token type, for both texts of a pair.
    "roberta": Family(
        "Roberta",
        "roberta",
        keys=BERT_KEYS | {"pad_token_id": "position_offset"},
        fixed={"typed_pairs": False},
        tokens=BYTE_LEVEL,
    ),
    # Its embeddings may be narrower than its layers.
    "electra": Family(
        "Electra",
        "electra",
        keys=BERT_KEYS | {"embedding_size": "embedding_size"},
        text_head=("classifier.dense", "gelu", "classifier.out_proj"),
    ),
    # No token types, positions as RoBERTa's, and a learnt term for the distance of two tokens in every attention score.
    "mpnet": Family(
        "MPNet",
        "mpnet",
        keys=SHAPE | {"pad_token_id": "position_offset", "relative_attention_num_buckets": "relative_buckets"},
        layer=MPNET_LAYER,
        fixed={"token_types": 0},
        tokens=MPNET_TOKENS,
    ),
}

# Tensors that checkpoints carry and an encoder does not need, where no prefix tells them from the encoder's.
UNUSED = re.compile(
    r"(pooler|cls|qa_outputs|classifier|pre_classifier|lm_head|vocab_transform|vocab_layer_norm|vocab_projector"
    r"|discriminator_predictions|generator_predictions|generator_lm_head)\."
)
# How the names of the heads that we may take over begin: span QA's, and each family's head for texts.
HEAD_NAMES = ("qa_outputs.", "pooler.", "classifier.", "pre_classifier.")


def hugging_face_name(module_path: str, family: str) -> str:
    """ "layers.3.mlp.up" -> "encoder.layer.3.intermediate.dense". Raises KeyError for a path not in the table."""
    layer = re.fullmatch(r"layers\.(\d+)\.(.+)", module_path)
    if layer is None:
        return EMBEDDINGS[module_path]
    return f"{FAMILIES[family].layers}.{layer[1]}.{FAMILIES[family].layer[layer[2]]}"


def published_parameter(name: str, family: str) -> str:
    """ "layers.3.mlp.up.weight" -> "encoder.layer.3.intermediate.dense.weight"; see `hugging_face_name`."""
    module_path, _, leaf = name.rpartition(".")
    return f"{hugging_face_name(module_path, family)}.{leaf}"


def read_labels(path: Path) -> tuple[str, ...]:
    """The names of a published head's labels, in order, from config.json; () where it has none."""
    names = read_json(path).get("id2label")
    if not isinstance(names, dict) or names.keys() != {str(i) for i in range(len(names))}:
        return ()
    return tuple(str(names[str(i)]) for i in range(len(names)))


def read_config(folder: Path) -> tuple[str, BertConfig]:
    """config.json -> (family, BertConfig). Raises InputError for what is not supported: family, shape or option."""
    path = folder / "config.json"
    raw = read_json(path)
    # The configurations of the first BERTs name neither their type nor the epsilon, which was the same for all.
    if "model_type" not in raw and "num_hidden_layers" in raw:
        raw = {"model_type": "bert", "layer_norm_eps": 1e-12, **raw}
    name = raw.get("model_type")
    if not isinstance(name, str) or name not in FAMILIES:
        raise InputError(f"{path}: model_type is {shown(name)}; supported: {', '.join(FAMILIES)}")
    family = FAMILIES[name]
    fields: dict[str, Any] = dict(family.fixed)
    for key, field_name in family.keys.items():
        value, (low, high) = raw.get(key), RANGES.get(field_name, (1, 2**20))
        kind = int | float if isinstance(high, float) else int
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            expected = "a number" if isinstance(high, float) else "a whole number"
            raise InputError(f"{path}: {key} is {shown(value)}, expected {expected} from {low:,} to {high:,}")
        fields[field_name] = value
    if "position_offset" in fields:  # of 514 rows, the first two are for padding and for nothing
        fields["position_offset"] += 1
        fields["max_positions"] -= fields["position_offset"]
    activation = raw.get(family.activation)
    if activation != "gelu":
        raise InputError(f"{path}: {family.activation} is {shown(activation)}; only 'gelu' is supported")
    for key, expected in OPTIONS.items():
        if raw.get(key) not in (expected, None):
            raise InputError(f"{path}: {key} is {shown(raw[key])}; only {expected!r} is supported")
    if fields["hidden_size"] % fields["num_heads"] or fields["max_positions"] < 1:
        raise InputError(f"{path}: {fields['hidden_size']} wide cannot be split into {fields['num_heads']} heads")
    return name, BertConfig(**fields)
