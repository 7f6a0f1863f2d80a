"""Plain vocabularies of every family, nasty texts, and small random checkpoints with tokenizers of their own."""

import json
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer

from model.hub import packaged_folder
from model.tokenizer import load_tokenizer
from tests.conftest import small_encoder, write_checkpoint

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


def write_vocabulary(folder: Path, family: str, most: int | None = None) -> None:
    """A tokenizer's plain files: the real BERT vocabulary, or its first `most` words, or a byte-level BPE trained on
    the nasty texts."""
    folder.mkdir(parents=True, exist_ok=True)
    words = (packaged_folder() / "vocab.txt").read_text(encoding="utf-8").split("\n")[:most]
    if family == "roberta":
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        trained = ByteLevelBPETokenizer()
        trained.train_from_iterator(NASTY * 3, vocab_size=600, special_tokens=special, show_progress=False)
        trained.save_model(str(folder))
        return
    if family == "mpnet":  # BERT's vocabulary between its own special tokens
        words = ["<s>", "<pad>", "</s>", "<unk>", *filter(None, words), "<mask>"]
    (folder / "vocab.txt").write_text("\n".join(word for word in words if word) + "\n", encoding="utf-8")


# In what the small encoder of a family differs from BERT's.
SHAPES: dict[str, dict] = {
    "bert": {},
    "distilbert": {"token_types": 0},
    "roberta": {"token_types": 1, "typed_pairs": False, "position_offset": 2, "norm_eps": 1e-5},
    "electra": {"embedding_size": 16},
    "mpnet": {"token_types": 0, "position_offset": 2, "relative_buckets": 32, "norm_eps": 1e-5},
}


def write_family(folder: Path, family: str, **shape) -> Path:
    """A small random checkpoint of a family with its plain vocabulary, of 4,000 words. shape: of the encoder."""
    write_vocabulary(folder, family, 4000)
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    words = load_tokenizer(folder, family).get_vocab_size()
    small = {"hidden_size": 32, "intermediate_size": 48, "vocab_size": words}
    encoder = small_encoder(**small | SHAPES[family] | shape)
    write_checkpoint(folder, encoder, packaged_folder(), family)
    (folder / "tokenizer.json").unlink()  # of another family
    return folder
