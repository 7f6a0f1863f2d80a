"""Every optimizer: its class in torch.optim, the settings that it takes, and what it keeps of each parameter.

A new one is a new row here. (No torch is needed to read the table: a report does not wait for it.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Optimizer:
    torch_name: str
    arguments: Callable[[Any], dict]  # from the settings under `optim` to the constructor's, lr and weight_decay apart
    state: frozenset[str]  # what it keeps of each parameter that it has stepped on; a checkpoint must hold it


# The fused kernels update a tensor in one pass; on a CPU that is five times as fast as the default.
def _adam(optim) -> dict:
    return {"betas": (optim.beta1, optim.beta2), "eps": optim.eps, "fused": True}


_MOMENTS = frozenset({"step", "exp_avg", "exp_avg_sq"})
OPTIMIZERS = {
    "adamw": Optimizer("AdamW", _adam, _MOMENTS),
    "adam": Optimizer("Adam", _adam, _MOMENTS),
    "sgd": Optimizer("SGD", lambda o: {"momentum": o.momentum, "fused": True}, frozenset({"momentum_buffer"})),
    "rmsprop": Optimizer("RMSprop", lambda o: {"alpha": o.beta2, "eps": o.eps}, frozenset({"step", "square_avg"})),
}
