"""Task heads: what turns hidden states into answers, and answers into a loss.

A head has `forward(hidden, batch) -> logits` and `loss(logits, batch) -> one loss per example [B]`. Losses stay per
example, because only the training loop knows how many examples share one optimizer step (a mean of means is wrong as
soon as the last batch is short).

Axes:  B batch   T tokens   C hidden width
"""

import torch
from torch import Tensor, nn

from model.bert import BertEncoder, Dropout, initialise

# What a position that cannot be an answer gets instead of its logit: finite, so that nothing meets inf - inf.
EXCLUDED = -1e9


class SpanHead(nn.Module):
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
        """hidden [B, T, C], batch["candidates"] bool [B, T] -> logits [B, 2, T] in fp32, start first"""
        logits = self.output(self.dropout(hidden)).float().transpose(1, 2)  # [B, 2, T]
        return logits.masked_fill(~batch["candidates"][:, None, :], EXCLUDED)

    def loss(self, logits: Tensor, batch: dict[str, Tensor], label_smoothing: float = 0.0) -> Tensor:
        """logits [B, 2, T], batch["span"] int [B, 2] -> cross-entropy averaged over start and end [B]

        Smoothing spreads its share over the candidate positions only. Example: 4 candidates, smoothing 0.1: the target
        is 0.925 at the answer and 0.025 at each of the three others; the excluded positions get nothing.
        """
        log_p = torch.log_softmax(logits, dim=-1)  # [B, 2, T]
        loss = -log_p.gather(2, batch["span"][:, :, None]).squeeze(2)  # [B, 2]
        if label_smoothing:
            candidates = batch["candidates"][:, None, :]  # [B, 1, T]
            uniform = -log_p.masked_fill(~candidates, 0.0).sum(2) / candidates.sum(2)  # [B, 2]
            loss = (1 - label_smoothing) * loss + label_smoothing * uniform
        return loss.mean(1)


class TaskModel(nn.Module):
    """An encoder with a head on top. Parameter names begin with `encoder.` or `head.`"""

    def __init__(self, encoder: BertEncoder, head: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """batch: tokens, types int [B, T], mask bool [B, T] or None, and what the head reads -> the head's logits"""
        return self.head(self.encoder(batch["tokens"], batch["types"], batch["mask"]), batch)
