"""Heads that need one vector per text: classification, multi-label and regression.

Axes:  B batch   T tokens   C hidden width   K outputs: classes, labels, or 1 for a number
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.bert import initialise
from model.dropout import Dropout
from model.heads import Head


def cross_entropy(logits: Tensor, batch: dict[str, Tensor], label_smoothing: float = 0.0) -> Tensor:
    """logits [B, K], batch["target"] int [B] -> -log p of the right class [B]. With smoothing s, the target is
    1 - s + s/K there and s/K at each other class."""
    log_p = torch.log_softmax(logits, dim=-1)
    loss = -log_p.gather(1, batch["target"][:, None]).squeeze(1)
    return (1 - label_smoothing) * loss - label_smoothing * log_p.mean(1)


def binary_cross_entropy(logits: Tensor, batch: dict[str, Tensor], label_smoothing: float = 0.0) -> Tensor:
    """logits [B, K], batch["target"] float [B, K] of 0 and 1 -> mean over the labels of -log p of the right answer [B].
    With smoothing s, the targets are s/2 and 1 - s/2."""
    target = batch["target"] * (1 - label_smoothing) + label_smoothing / 2
    # -log sigmoid(x) = softplus(-x), which does not overflow: t softplus(-x) + (1 - t) softplus(x), rearranged
    return (nn.functional.softplus(logits) - target * logits).mean(1)


def squared_error(logits: Tensor, batch: dict[str, Tensor], label_smoothing: float = 0.0) -> Tensor:
    """logits [B, 1], batch["target"] float [B] -> (prediction - target) squared [B]"""
    return (logits.squeeze(1) - batch["target"]) ** 2


ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu, "gelu": nn.functional.gelu}


class Pooler(nn.Module):
    """A function of a linear layer on [CLS]: tanh in BERT, where it is pretrained (Devlin et al. 2018), or what the
    family's head for texts has (model/families.py)."""

    def __init__(self, hidden_size: int, activation: str = "tanh"):
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.activation = ACTIVATIONS[activation]

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """hidden [B, T, C] -> [B, C]"""
        return self.activation(self.dense(hidden[:, 0]))


def first_token(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """hidden [B, T, C] -> that of [CLS] [B, C]"""
    return hidden[:, 0]


def masked_mean(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """hidden [B, T, C], mask bool [B, T] or None -> mean over the real tokens [B, C], [CLS] and [SEP] included
    (Reimers and Gurevych 2019)"""
    if mask is None:
        return hidden.mean(1)
    kept = mask[:, :, None].to(hidden.dtype)
    return (hidden * kept).sum(1) / kept.sum(1)


POOLING = {"mean": masked_mean, "cls": first_token, "cls_pooler": None}


class TextHead(Head):
    """Classification, multi-label or regression: pool, drop out, one linear layer (as transformers'
    BertForSequenceClassification does with pooling "cls_pooler"). `loss` is one of the functions above. activation:
    that of "cls_pooler"."""

    def __init__(
        self,
        hidden_size: int,
        outputs: int,
        loss: Callable[..., Tensor],
        pooling: str = "mean",
        dropout: float = 0.0,
        activation: str = "tanh",
    ):
        super().__init__()
        self._loss = loss
        self.pool = POOLING[pooling] or Pooler(hidden_size, activation)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(hidden_size, outputs)
        initialise(self)

    def forward(self, hidden: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """hidden [B, T, C], batch["mask"] bool [B, T] or None -> logits [B, K], computed in fp32: in bf16, a number
        around 5 could only be predicted in steps of 0.03"""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.output(self.dropout(self.pool(hidden.float(), batch["mask"])))

    def loss(self, logits: Tensor, batch: dict, label_smoothing: float = 0.0) -> Tensor:
        return self._loss(logits, batch, label_smoothing)
