"""BERT's encoder, by hand: token ids in, one hidden vector per token out.

Source: Devlin et al. 2018 (arXiv 1810.04805), section 3. The numbers equal those of `transformers.BertModel`
(tests/model/test_bert.py), and, by settings of BertConfig, those of its relatives (model/families.py).
The block is "post-LayerNorm": each sub-layer computes `norm(x + dropout(sublayer(x)))`.

Axes:  B batch   T tokens   C hidden width   H heads   D width of one head (C / H)   I width inside the MLP
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.distances import distance_buckets
from model.dropout import Dropout

# Added to the attention score of a padding position. Large enough that exp() underflows to exactly 0 in every dtype, so
# padded and unpadded outputs are equal; small enough that adding a negative score stays finite even in fp16, whose
# smallest number is -65504. A row of nothing but padding therefore gives a finite (meaningless) vector, never NaN.
MASKED = -3e4


@dataclass(frozen=True)
class BertConfig:
    """Shape of an encoder. Field names and defaults are BERT-base's."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    max_positions: int = 512
    token_types: int = 2  # 0: the checkpoint has no token-type embedding (DistilBERT)
    norm_eps: float = 1e-12
    dropout: float = 0.1  # after the embeddings and after each sub-layer
    attention_dropout: float = 0.0  # on the attention probabilities
    attention: str = "auto"  # "eager", "sdpa", or "auto": whichever is faster (see `attend`)
    recompute: bool = False  # in the backward pass, compute attention and GELU again instead of keeping them
    # In what BERT's relatives differ (model/families.py):
    typed_pairs: bool = True  # whether the second text of a pair is of type 1
    position_offset: int = 0  # rows of the position embedding before that of the first token
    embedding_size: int | None = None  # width of the embeddings, where it is not hidden_size
    relative_buckets: int = 0  # of distances between tokens, each with a learnt attention score; 0: none


def padding_bias(mask: Tensor | None) -> Tensor | None:
    """mask [B, T] (True = real token) -> what is added to the scores [B, 1, 1, T], or None where nothing is padded."""
    if mask is None:
        return None
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, MASKED)[:, None, None, :]


def eager_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: Dropout) -> Tensor:
    """softmax(q k^T / sqrt(D) + bias) v, spelled out. q, k, v [B, H, T, D]; bias [B or 1, 1 or H, 1 or T, T], added
    to the scores -> [B, H, T, D]"""
    B, H, T, D = q.shape
    q, k, v = (x.reshape(B * H, T, D) for x in (q, k, v))  # one batch of B*H matrices for bmm
    if bias is None:
        bias = q.new_zeros(1, 1, 1)
    else:
        rows = bias.shape[2]  # 1, or T where it depends on the token that looks
        bias = bias.expand(B, H, rows, T).reshape(B * H, rows, T).to(q.dtype)
    scores = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=1 / math.sqrt(D))  # [B*H, T, T]
    probabilities = dropout(torch.softmax(scores, dim=-1))
    return torch.bmm(probabilities, v).view(B, H, T, D)


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: Dropout) -> Tensor:
    """`eager_attention` through PyTorch's fused kernel, which never stores the [T, T] matrix."""
    p = dropout.p if dropout.training else 0.0
    bias = None if bias is None else bias.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=p)


def attend(kind: str, q: Tensor, dropout: Dropout) -> Callable[..., Tensor]:
    """The attention function for a setting. "auto" is SDPA, except for training on a CPU in 16 bit or with dropout.

    On 2 CPU cores in bf16 at D = 32, SDPA's backward pass makes a whole training step twice as long. In fp32, and
    without gradients, SDPA is the faster one, and keeps less (experiments/LOG.md, "Attention on a CPU" and "The first
    hour"). With dropout it leaves its fused kernel.
    """
    if kind == "auto":
        slow = q.dtype != torch.float32 or (dropout.training and dropout.p > 0)
        kind = "eager" if slow and q.device.type == "cpu" and torch.is_grad_enabled() else "sdpa"
    return {"eager": eager_attention, "sdpa": sdpa_attention}[kind]


def compute(function: Callable[..., Tensor], *inputs, again: bool) -> Tensor:
    """function(*inputs). again: nothing that it computes is kept for the backward pass, which computes it again, up to
    the last value that it needs: the same bits, dropout included."""
    again = again and torch.is_grad_enabled()
    return checkpoint(function, *inputs, use_reentrant=False) if again else function(*inputs)


def embedding(rows: int, width: int) -> nn.Embedding:
    """An nn.Embedding without values: they come from a checkpoint or `initialise`. (Drawing some on the meta device,
    where `load_encoder` builds, would import PyTorch's compiler: 1.3 s of every start.)"""
    return nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)


class Embeddings(nn.Module):
    """Sum of word, position and token-type embeddings, normalised."""

    def __init__(self, config: BertConfig):
        super().__init__()
        C, E = config.hidden_size, config.embedding_size or config.hidden_size
        self.typed_pairs, self.offset = config.typed_pairs, config.position_offset
        self.word = embedding(config.vocab_size, E)
        self.position = embedding(config.position_offset + config.max_positions, E)
        self.token_type = embedding(config.token_types, E) if config.token_types else None
        self.norm = nn.LayerNorm(E, config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.project = nn.Linear(E, C) if E != C else None
        self.relative = embedding(config.relative_buckets, config.num_heads) if config.relative_buckets else None

    def forward(self, tokens: Tensor, types: Tensor | None) -> Tensor:
        T = tokens.shape[1]
        x = self.word(tokens) + self.position.weight[self.offset : self.offset + T]  # [B, T, E]
        if self.token_type is not None:
            typed = self.typed_pairs and types is not None
            x = x + (self.token_type(types) if typed else self.token_type.weight[0])
        x = self.dropout(self.norm(x))
        return x if self.project is None else self.project(x)  # [B, T, C]

    def attention_bias(self, mask: Tensor | None, T: int) -> Tensor | None:
        """mask [B, T] (True = real token), None where nothing is padded -> what is added to the attention scores,
        [B or 1, 1 or H, 1 or T, T], or None"""
        padding = padding_bias(mask)
        if self.relative is None:
            return padding
        buckets = distance_buckets(T, self.relative.num_embeddings).to(self.relative.weight.device)
        by_distance = self.relative(buckets).permute(2, 0, 1)[None]  # [1, H, T, T]
        return by_distance if padding is None else by_distance + padding


def cast_once(x: Tensor) -> Tensor:
    """Cast to autocast's dtype an input that several matrix products read; each of them would cast it anew."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class SelfAttention(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        C = config.hidden_size
        self.num_heads, self.kind, self.recompute = config.num_heads, config.attention, config.recompute
        self.query, self.key, self.value = nn.Linear(C, C), nn.Linear(C, C), nn.Linear(C, C)
        self.output = nn.Linear(C, C)
        self.norm = nn.LayerNorm(C, config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.attention_dropout = Dropout(config.attention_dropout)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        B, T, C = x.shape
        H, D = self.num_heads, C // self.num_heads
        y = cast_once(x)
        q, k, v = self.query(y), self.key(y), self.value(y)  # each [B, T, C]
        q, k, v = (p.view(B, T, H, D).transpose(1, 2) for p in (q, k, v))  # each [B, H, T, D]
        attention = attend(self.kind, q, self.attention_dropout)
        again = self.recompute and attention is eager_attention  # SDPA keeps no [T, T] matrix as it is
        mixed = compute(attention, q, k, v, bias, self.attention_dropout, again=again)  # [B, H, T, D]
        mixed = mixed.transpose(1, 2).reshape(B, T, C)
        return self.norm(x + self.dropout(self.output(mixed)))


class MLP(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.recompute = config.recompute

    def forward(self, x: Tensor) -> Tensor:
        y = compute(self.activate, self.up(x), again=self.recompute)  # [B, T, I] inside
        return self.norm(x + self.dropout(y))

    def activate(self, x: Tensor) -> Tensor:
        """[B, T, I] -> [B, T, C]"""
        return self.down(F.gelu(x))  # the exact erf form, as in BERT


class Layer(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = SelfAttention(config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return self.mlp(self.attention(x, bias))


class BertEncoder(nn.Module):
    """Token ids -> hidden states. There is no pooler here: the head that wants one brings it.

    Dropout is active in training mode in every layer, even if it is frozen: the reference libraries do the same, and
    under LoRA it regularises the adapters.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.changed: set[str] = set()  # parameters that are not the checkpoint's, although nothing trained them
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))

    def forward(
        self,
        tokens: Tensor,
        types: Tensor | None = None,
        mask: Tensor | None = None,
        below: tuple[int, Tensor] | None = None,
        depth: int | None = None,
    ) -> Tensor:
        """tokens, types int [B, T]; mask bool [B, T], True = real token, None = nothing padded -> [B, T, C]

        below: (k, output of the first k layers [B, T, C]), where that is known already.
        depth: stop after so many layers; None: after the last.
        Raises IndexError where T exceeds `config.max_positions`.
        """
        if tokens.shape[1] > self.config.max_positions:
            raise IndexError(f"{tokens.shape[1]} tokens, but the encoder has {self.config.max_positions} positions")
        bias = self.embeddings.attention_bias(mask, tokens.shape[1])
        first, x = (0, self.embeddings(tokens, types)) if below is None else below
        for layer in itertools.islice(self.layers, first, depth):
            x = layer(x, bias)
        return x


def initialise(module: nn.Module, std: float = 0.02) -> None:
    """BERT's initialisation, for new weights: normal(0, 0.02) for matrices, zero biases, LayerNorm at identity."""
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Embedding):
            nn.init.normal_(child.weight, std=std)
        if isinstance(child, nn.Linear) and child.bias is not None:
            nn.init.zeros_(child.bias)
        if isinstance(child, nn.LayerNorm):
            nn.init.ones_(child.weight)
            nn.init.zeros_(child.bias)
