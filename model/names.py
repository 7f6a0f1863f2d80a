"""What published checkpoints call things, and what we call them."""

import re

# Our module path -> the module path in Hugging Face checkpoints. "{i}" stands for the layer number. This table serves
# loading, exporting and adapter keys alike.
BERT_NAMES = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "layers.{i}.attention.query": "encoder.layer.{i}.attention.self.query",
    "layers.{i}.attention.key": "encoder.layer.{i}.attention.self.key",
    "layers.{i}.attention.value": "encoder.layer.{i}.attention.self.value",
    "layers.{i}.attention.output": "encoder.layer.{i}.attention.output.dense",
    "layers.{i}.attention.norm": "encoder.layer.{i}.attention.output.LayerNorm",
    "layers.{i}.mlp.up": "encoder.layer.{i}.intermediate.dense",
    "layers.{i}.mlp.down": "encoder.layer.{i}.output.dense",
    "layers.{i}.mlp.norm": "encoder.layer.{i}.output.LayerNorm",
}
DISTILBERT_NAMES = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "layers.{i}.attention.query": "transformer.layer.{i}.attention.q_lin",
    "layers.{i}.attention.key": "transformer.layer.{i}.attention.k_lin",
    "layers.{i}.attention.value": "transformer.layer.{i}.attention.v_lin",
    "layers.{i}.attention.output": "transformer.layer.{i}.attention.out_lin",
    "layers.{i}.attention.norm": "transformer.layer.{i}.sa_layer_norm",
    "layers.{i}.mlp.up": "transformer.layer.{i}.ffn.lin1",
    "layers.{i}.mlp.down": "transformer.layer.{i}.ffn.lin2",
    "layers.{i}.mlp.norm": "transformer.layer.{i}.output_layer_norm",
}
NAMES = {"bert": BERT_NAMES, "distilbert": DISTILBERT_NAMES}

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
    layer = re.match(r"layers\.(\d+)\.", module_path)
    if layer is None:
        return NAMES[family][module_path]
    number = layer.group(1)
    generic = "layers.{i}." + module_path[layer.end() :]
    return NAMES[family][generic].replace("{i}", number)
