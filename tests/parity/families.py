"""Encoders of every family, and their tokenizers, as transformers reads them."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from torch import nn

from model.hub import packaged_folder
from model.pretrained import load_encoder
from model.tokenizer import load_tokenizer
from tests.parity import Row

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

NASTY = [
    "Hello, World! it's 3.14 — “quoted” ‘single’…",
    "Café naïve Zoë résumé ÅNGSTRÖM straße ǅ İstanbul ﬁn",
    "日本語と中文と한국어 mixed with English漢字",
    "emoji 😀🎉👩‍👩‍👧‍👦 flags 🇩🇪 and\u200bzero\u200dwidth\ufeff",
    "tabs\tand\nnewlines\r\n\xa0no-break\u2003em space  ",
    "control \x00\x07\x1b characters \ufffd replaced",
    "[CLS] special [SEP] tokens [MASK] in <s> text </s> <mask> <pad> [PAD] [UNK]",
    "supercalifragilisticexpialidocious" * 8,
    "U.S.-based (1995–2003), 400km/h; e-mail: a_b@c.de https://x.org/?q=1&r=%20",
    "ÀÉÎÕÜ àéîõü ẞ ŉ ǰ ΐ",
    " leading and trailing ",
    "",
    " ",
    "العربية עברית हिन्दी ไทย",
    "a" * 300,
]


def write_vocabulary(folder: Path, family: str) -> None:
    """A tokenizer's plain files: the real BERT vocabulary, or a byte-level BPE trained on the nasty texts."""
    folder.mkdir(parents=True, exist_ok=True)
    words = (packaged_folder() / "vocab.txt").read_text(encoding="utf-8").split("\n")
    if family == "roberta":
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        trained = ByteLevelBPETokenizer()
        trained.train_from_iterator(NASTY * 3, vocab_size=600, special_tokens=special)
        trained.save_model(str(folder))
        return
    if family == "mpnet":  # BERT's vocabulary between its own special tokens
        words = ["<s>", "<pad>", "</s>", "<unk>", *filter(None, words), "<mask>"]
    (folder / "vocab.txt").write_text("\n".join(word for word in words if word) + "\n", encoding="utf-8")


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
