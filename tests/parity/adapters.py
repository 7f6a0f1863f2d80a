"""Adapters that peft made, in our encoder and head; trained copies of them come from random numbers."""

from collections.abc import Iterator
from pathlib import Path

import peft
import torch
import transformers
from torch import nn

from data.labels import Outputs
from experiments.training.start import begin_with_adapter
from lora.peft import read_peft
from model.families import FAMILIES
from model.heads import SpanHead, TaskModel
from model.pretrained import load_encoder
from model.published_heads import take_over
from model.text_heads import TextHead, cross_entropy
from tests.parity import Row
from tests.parity.families import FEW_LAYERS, SMALL, some_batch, their_model

QA, TEXTS = "AutoModelForQuestionAnswering", "AutoModelForSequenceClassification"
LABELS = ("a", "b", "c")
# What each variant sets in LoraConfig. Layer names are BERT's.
VARIANTS: dict[str, dict] = {
    "list": {"target_modules": ["query", "value"], "modules_to_save": ["qa_outputs"]},
    "regex": {"target_modules": r".*layer\.1\..*(key|dense)", "modules_to_save": ["qa_outputs"]},
    "all-linear": {
        "target_modules": "all-linear",
        "exclude_modules": ["qa_outputs"],
        "modules_to_save": ["qa_outputs"],
    },
    "rank and alpha patterns": {
        "target_modules": ["query", "key", "intermediate.dense"],
        "rank_pattern": {"layer.1.attention.self.query": 2, "key": 5},
        "alpha_pattern": {"intermediate.dense": 3, "^bert.encoder.layer.0.attention.self.key": 40},
        "modules_to_save": ["qa_outputs"],
    },
    "rsLoRA": {"target_modules": ["query", "value"], "use_rslora": True, "modules_to_save": ["qa_outputs"]},
    "DoRA": {"target_modules": ["query", "output.dense"], "use_dora": True, "modules_to_save": ["qa_outputs"]},
    "bias all": {"target_modules": ["query"], "bias": "all", "modules_to_save": ["qa_outputs"]},
    "bias lora_only": {"target_modules": ["query"], "bias": "lora_only", "modules_to_save": ["qa_outputs"]},
    "embeddings saved whole": {"target_modules": ["query"], "modules_to_save": ["qa_outputs", "word_embeddings"]},
}
OTHERS = {  # the layers that the other families adapt
    "distilbert": ["q_lin", "lin1"],
    "roberta": ["query", "output.dense"],
    "electra": ["query", "embeddings_project"],
    "mpnet": ["attn.q", "attn.o"],
}


def trained_adapter(model: nn.Module, folder: Path, task: str, **settings) -> nn.Module:
    """A model of transformers with an adapter whose every saved number is random, saved to a folder."""
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=6, task_type=task, **settings)).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    adapted.save_pretrained(folder)
    return adapted


def difference(base: Path, folder: Path, theirs: nn.Module, family: str, keep: bool) -> float:
    """The largest difference of logits, with the adapter kept beside the weights or merged into them."""
    encoder, info = load_encoder(str(base))
    found = read_peft(folder, encoder, info)
    begin_with_adapter(encoder, found, keep)
    width, span = encoder.config.hidden_size, any(name.startswith("qa_outputs") for name in found.head)
    activation = FAMILIES[family].text_head[1]
    head = SpanHead(width) if span else TextHead(width, 3, cross_entropy, "cls_pooler", activation=activation)
    outputs = Outputs() if span else Outputs(LABELS)
    take_over(head, family, info.head, outputs, None)
    take_over(head, family, found.head, outputs, None)
    ours, batch = some_batch(family, 40, encoder.config.vocab_size)
    model = TaskModel(encoder, {"main": head}).eval()
    with torch.no_grad():
        # Not through PeftModelForQuestionAnswering.forward, which takes token_type_ids and drops them (peft 0.21.2).
        logits, expected = model(ours | {"task": "main"}), theirs.get_base_model()(**batch)
    if not span:
        return (logits - expected.logits).abs().max().item()
    answerable = logits > -1e8
    return (logits - torch.stack([expected.start_logits, expected.end_logits], 1))[answerable].abs().max().item()


def adapters(folder: Path) -> Iterator[Row]:
    """Every variant on a small BERT, and one on each other family, for span QA and for texts."""
    cases = [("bert", name, QA, settings) for name, settings in VARIANTS.items()]
    cases += [(f, "list", QA, {"target_modules": t, "modules_to_save": ["qa_outputs"]}) for f, t in OTHERS.items()]
    cases += [(f, "texts", TEXTS, {"target_modules": t}) for f, t in OTHERS.items() if f != "distilbert"]
    cases += [("bert", "texts, pooler saved", TEXTS, {"target_modules": ["query"], "modules_to_save": ["pooler"]})]
    cases += [("distilbert", "texts", TEXTS, {"target_modules": ["q_lin"], "modules_to_save": ["pre_classifier"]})]
    cases += [("bert", "texts, all-linear with its pooler", TEXTS, {"target_modules": "all-linear"})]
    for number, (family, name, kind, settings) in enumerate(cases):
        base, place = folder / f"base{number}", folder / f"adapter{number}"
        changes = SMALL[family] | FEW_LAYERS[family] | ({"num_labels": 3} if kind == TEXTS else {})
        their_model(family, kind, **changes).save_pretrained(base)
        model = getattr(transformers, kind).from_pretrained(base).eval()
        task = "QUESTION_ANS" if kind == QA else "SEQ_CLS"
        theirs = trained_adapter(model, place, task, **settings)
        worst = max(difference(base, place, theirs, family, keep) for keep in (True, False))
        yield Row(family, "in", f"peft adapter, {name}: logits, kept and merged", worst, 1e-5)
