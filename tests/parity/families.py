"""Encoders of every family, and their tokenizers, as transformers reads them."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from torch import nn

from model.pretrained import load_encoder
from model.tokenizer import load_tokenizer
from tests.parity import Row
from tests.vocabularies import NASTY, write_vocabulary

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

# The published shapes: bert-base, distilbert-base, roberta-base, electra-small and mpnet-base.
SHAPES: dict[str, dict] = {
    "bert": {},
    "distilbert": {},
    "roberta": {
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    },
    "electra": {"embedding_size": 128, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024},
    "mpnet": {"vocab_size": 30527, "max_position_embeddings": 514, "layer_norm_eps": 1e-5},
}
FEW_LAYERS = {family: {"n_layers" if family == "distilbert" else "num_hidden_layers": 2} for family in SHAPES}
SMALL = {  # of a few seconds
    "bert": {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128},
    "distilbert": {"dim": 64, "n_heads": 4, "hidden_dim": 128},
}
for _family in ("roberta", "electra", "mpnet"):
    SMALL[_family] = SMALL["bert"] | ({"embedding_size": 32} if _family == "electra" else {})
TYPED = ("bert", "electra")  # families whose second text has a type of its own


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights at which every term matters: biases that are not zero, norms that are not one."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "relative" in name:
                parameter.normal_()
    return model.eval()


def their_model(family: str, kind: str = "AutoModel", **changes) -> nn.Module:
    """A random model of transformers. changes: of the published shape."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **{**SHAPES[family], **changes})
    return randomise(getattr(transformers, kind).from_config(config))


def some_batch(family: str, length: int, vocabulary: int) -> tuple[dict, dict]:
    """A padded batch of pairs, for our encoder and for theirs."""
    tokens = torch.randint(5, vocabulary, (2, length), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, length, dtype=torch.bool)
    mask[1, length // 2 :] = False
    types = (torch.arange(length) >= length // 3).long().expand(2, length) * mask
    tokens[~mask] = transformers.AutoConfig.for_model(family).pad_token_id
    theirs = {"input_ids": tokens, "attention_mask": mask.long()}
    if family in TYPED:
        theirs["token_type_ids"] = types
    return {"tokens": tokens, "types": types, "mask": mask}, theirs


def hidden_states(folder: Path, changes: dict[str, dict], lengths: tuple[int, ...]) -> Iterator[Row]:
    """Every family's last hidden states on random weights. changes: of the published shape, by family."""
    for family in SHAPES:
        model = their_model(family, **changes.get(family, {}))
        model.save_pretrained(folder / family)
        encoder, _ = load_encoder(str(folder / family))
        encoder.eval()
        worst = 0.0
        for length in lengths:
            ours, theirs = some_batch(family, length, encoder.config.vocab_size)
            with torch.no_grad():
                expected, found = model(**theirs).last_hidden_state, encoder(**ours)
            worst = max(worst, (expected - found)[ours["mask"]].abs().max().item())
        layers, parameters = encoder.config.num_layers, sum(p.numel() for p in encoder.parameters()) / 1e6
        compared = (
            f"hidden states, {layers} layers, {parameters:.0f} M parameters, {lengths[0]} to {lengths[-1]} tokens"
        )
        yield Row(family, "in", compared, worst, 1e-5)


# ---- tokenizers ------------------------------------------------------------------------------------------------------

SETTINGS = {
    "as it is": {},
    "cased": {"do_lower_case": False},
    "accents kept": {"strip_accents": False},
    "cased, accents gone": {"do_lower_case": False, "strip_accents": True},
    "Chinese unsplit": {"tokenize_chinese_chars": False},
    "prefix space": {"add_prefix_space": True},
}


def mismatches(ours, theirs) -> int:
    """How many of the nasty texts come out as other ids or offsets, alone or as the second of a pair."""
    wrong = 0
    for text in NASTY:
        expected = theirs(text, return_offsets_mapping=True)
        found = ours.encode(text)
        wrong += (found.ids, found.offsets) != (expected["input_ids"], expected["offset_mapping"])
        if text:  # they take an empty second text for none
            wrong += ours.encode("a question", text).ids != theirs("a question", text)["input_ids"]
    return wrong


def tokenizers(folder: Path) -> Iterator[Row]:
    """Every family's tokenizer, from plain files, from tokenizer.json, with settings and with added tokens."""
    for family in SHAPES:
        settings = [
            name for name in SETTINGS if (name == "prefix space") == (family == "roberta") or name == "as it is"
        ]
        wrong, count = 0, 0
        for form in ("plain", "json", "added"):
            for name in settings:
                place = folder / f"{family}-{form}-{name}".replace(" ", "-")
                write_vocabulary(place, family)
                (place / "config.json").write_text(json.dumps({"model_type": family}))
                class_name = {"distilbert": "DistilBert", "roberta": "Roberta", "electra": "Electra", "mpnet": "MPNet"}
                config = {"tokenizer_class": f"{class_name.get(family, 'Bert')}Tokenizer", **SETTINGS[name]}
                (place / "tokenizer_config.json").write_text(json.dumps(config))
                if form != "plain":
                    theirs = transformers.AutoTokenizer.from_pretrained(place)
                    if form == "added":
                        theirs.add_tokens(["quoted", "km/h", "Zoë"])
                    for file in place.iterdir():
                        if file.name != "config.json":
                            file.unlink()
                    theirs.save_pretrained(place)
                theirs = transformers.AutoTokenizer.from_pretrained(place)
                wrong += mismatches(load_tokenizer(place, family), theirs)
                count += 1
        yield Row(
            family, "in", f"tokenizer: {2 * len(NASTY)} nasty texts and pairs, {count} ways to write it", wrong, 0
        )
