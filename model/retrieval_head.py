"""A head for ranking: one unit vector per text, so that a question's passage has the nearest one.

Axes:  B examples of a batch   T tokens   C hidden width
"""

import torch
from torch import Tensor, nn

from model.dropout import Dropout
from model.heads import EXCLUDED, Head
from model.text_heads import masked_mean


class RetrievalHead(Head):
    """The mean over the real tokens, of length 1. It has no parameters: what trains is the encoder, which questions and
    passages share (Reimers and Gurevych 2019; Karpukhin et al. 2020 have one for each)."""

    def __init__(self, temperature: float = 0.05, dropout: float = 0.0):
        super().__init__()
        self.temperature = temperature
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor, batch: dict) -> Tensor:
        """hidden [B, T, C], batch["mask"] bool [B, T] or None -> unit vectors [B, C] in fp32.

        Where the batch has a "pair" (the passages' vectors [B, C]), the logits of a question among the passages of the
        batch [B, B]: cosine over temperature. The other passages are what it learns to tell its own from. One that
        answers this question too is none of them: the same passage (int [B]), or one of the same question (int [B])."""
        with torch.autocast(hidden.device.type, enabled=False):
            pooled = self.dropout(masked_mean(hidden.float(), batch["mask"]))
            vectors = nn.functional.normalize(pooled, dim=1)
            if "pair" not in batch:
                return vectors
            logits = vectors @ batch["pair"].T / self.temperature
        passage, question = batch["passage"], batch["question"]
        also = (passage[:, None] == passage) | (question[:, None] == question)  # [B, B]
        return logits.masked_fill(also.fill_diagonal_(False), EXCLUDED)

    def loss(self, logits: Tensor, batch: dict, label_smoothing: float = 0.0) -> Tensor:
        """logits [B, B] -> -log p of its own passage [B] (InfoNCE: van den Oord et al. 2018). 0 for a pair alone."""
        return -torch.log_softmax(logits, dim=1).diagonal()
