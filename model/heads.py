"""Task heads: hidden states to logits, and logits to losses.

Losses stay per example, because only the training loop knows how many examples share one optimizer step: a mean of
means is wrong as soon as the last batch is short.

Axes:  B batch   T tokens   C hidden width   K outputs: classes, labels, or 1 for a number
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.bert import BertEncoder, initialise
from model.dropout import Dropout

# Logit of a position that cannot be an answer: finite, so that nothing meets inf - inf.
EXCLUDED = -1e9


def candidates(types: Tensor) -> Tensor:
    """types [B, T] -> whether an answer may start or end there, bool [B, T]: [CLS], for "no answer here", and context.

    Context is a token of type 1 that is followed by another one, which leaves out the [SEP] that closes it.
    [CLS] who [SEP] ann did [SEP] [PAD] has types 0 0 0 1 1 1 0; candidates are [CLS], ann and did.
    """
    context = torch.zeros_like(types, dtype=torch.bool)
    context[:, :-1] = (types[:, :-1] * types[:, 1:]).bool()
    context[:, 0] = True
    return context


class Head(nn.Module):
    """Interface of a head."""

    taken: tuple[str, ...] = ()  # names of published tensors that it began with (model/published_heads.py)

    def forward(self, hidden: Tensor, batch: dict) -> Tensor:
        """hidden [B, T, C] and what the batch holds beside tokens -> logits, float32 [B, ...]"""
        raise NotImplementedError

    def loss(self, logits: Tensor, batch: dict, label_smoothing: float = 0.0) -> Tensor:
        """One loss per example [B]"""
        raise NotImplementedError


class SpanHead(Head):
    """Span QA: one linear layer gives each token a start and an end logit (Devlin et al. 2018, section 4.2).

    Question, [SEP] and padding positions are taken out of the softmax: an answer is a span of the context, or [CLS]
    for "no answer here". (The original BERT keeps them in and learns to avoid them.)
    """

    def __init__(self, hidden_size: int, dropout: float = 0.0):
        super().__init__()
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(hidden_size, 2)
        initialise(self)

    def forward(self, hidden: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """hidden [B, T, C], batch["types"] int [B, T] -> logits [B, 2, T], start first. Computed in fp32: in bf16,
        logits around 5 come in steps of 0.03, and spans tie."""
        with torch.autocast(hidden.device.type, enabled=False):
            logits = self.output(self.dropout(hidden.float())).transpose(1, 2)  # [B, 2, T]
        return logits.masked_fill(~candidates(batch["types"])[:, None, :], EXCLUDED)

    def loss(self, logits: Tensor, batch: dict[str, Tensor], label_smoothing: float = 0.0) -> Tensor:
        """logits [B, 2, T], batch["span"] int [B, 2] -> cross-entropy averaged over start and end [B]

        Smoothing spreads its share over the candidate positions only. Example: 4 candidates, smoothing 0.1: the target
        is 0.925 at the answer and 0.025 at each of the three others; the excluded positions get nothing.
        """
        log_p = torch.log_softmax(logits, dim=-1)  # [B, 2, T]
        loss = -log_p.gather(2, batch["span"][:, :, None]).squeeze(2)  # [B, 2]
        if label_smoothing:
            allowed = candidates(batch["types"])[:, None, :]  # [B, 1, T]
            uniform = -log_p.masked_fill(~allowed, 0.0).sum(2) / allowed.sum(2)  # [B, 2]
            loss = (1 - label_smoothing) * loss + label_smoothing * uniform
        return loss.mean(1)


# ---- the whole model -------------------------------------------------------------------------------------------------


class Heads(nn.ModuleDict):
    """Each task's head, by the task's name: a batch goes to the one that batch["task"] names."""

    def forward(self, hidden: Tensor, batch: dict) -> Tensor:
        return self[batch["task"]](hidden, batch)


class TaskModel(nn.Module):
    """An encoder under the heads of one or more tasks. Parameter names begin with `encoder.` or `head.TASK.`"""

    def __init__(self, encoder: BertEncoder, heads: Mapping[str, Head]):
        super().__init__()
        self.encoder = encoder
        self.head = Heads(heads)

    def head_of(self, task: str) -> Head:
        head = self.head[task]
        assert isinstance(head, Head)
        return head

    def forward(self, batch: dict) -> Tensor:
        """batch: task; tokens, types int [B, T]; mask bool [B, T] or None; `below`, if the output of lower layers is
        known (see `BertEncoder.forward`); `pair`, a batch of second texts, read apart -> the task's logits"""
        hidden = self.encoder(batch["tokens"], batch["types"], batch["mask"], batch.get("below"))
        pair = {"pair": self(batch["pair"])} if "pair" in batch else {}
        return self.head(hidden, batch | pair)
