"""Names of tensors and settings in published checkpoints, and ours for them."""

import re

# Our module path -> the module path in Hugging Face checkpoints. Loading, exporting and adapter keys read these tables.
EMBEDDING_NAMES = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
}
LAYERS = {"bert": "encoder.layer", "distilbert": "transformer.layer"}
LAYER_NAMES = {  # below layers.0 here and encoder.layer.0 there
    "attention.query": {"bert": "attention.self.query", "distilbert": "attention.q_lin"},
    "attention.key": {"bert": "attention.self.key", "distilbert": "attention.k_lin"},
    "attention.value": {"bert": "attention.self.value", "distilbert": "attention.v_lin"},
    "attention.output": {"bert": "attention.output.dense", "distilbert": "attention.out_lin"},
    "attention.norm": {"bert": "attention.output.LayerNorm", "distilbert": "sa_layer_norm"},
    "mlp.up": {"bert": "intermediate.dense", "distilbert": "ffn.lin1"},
    "mlp.down": {"bert": "output.dense", "distilbert": "ffn.lin2"},
    "mlp.norm": {"bert": "output.LayerNorm", "distilbert": "output_layer_norm"},
}

# config.json key -> BertConfig field. A key that is absent is an error, so that no default can hide a mismatch.
CONFIG_KEYS = {
    "bert": {
        "vocab_size": "vocab_size",
        "hidden_size": "hidden_size",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "intermediate_size": "intermediate_size",
        "max_position_embeddings": "max_positions",
        "type_vocab_size": "token_types",
        "layer_norm_eps": "norm_eps",
        "hidden_dropout_prob": "dropout",
    },
    "distilbert": {
        "vocab_size": "vocab_size",
        "dim": "hidden_size",
        "n_layers": "num_layers",
        "n_heads": "num_heads",
        "hidden_dim": "intermediate_size",
        "max_position_embeddings": "max_positions",
        "dropout": "dropout",
    },
}
# BertConfig field -> smallest and largest value that makes sense; 1 to 2^20 for all others.
CONFIG_RANGES = {"num_layers": (1, 1000), "norm_eps": (1e-20, 0.1), "dropout": (0, 0.99)}
ACTIVATION_KEY = {"bert": "hidden_act", "distilbert": "activation"}

# Tensors that checkpoints carry and an encoder does not need: they are reported by name, anything else is an error.
UNUSED = re.compile(
    r"(pooler|cls|qa_outputs|classifier|pre_classifier|vocab_transform|vocab_layer_norm|vocab_projector)\."
)


def hugging_face_name(module_path: str, family: str) -> str:
    """ "layers.3.mlp.up" -> "encoder.layer.3.intermediate.dense". Raises KeyError for a path not in the table."""
    layer = re.fullmatch(r"layers\.(\d+)\.(.+)", module_path)
    if layer is None:
        return EMBEDDING_NAMES[module_path]
    return f"{LAYERS[family]}.{layer[1]}.{LAYER_NAMES[layer[2]][family]}"
