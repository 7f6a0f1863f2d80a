"""Builds what a spec asks for: the model and its optimizer. (Its machine and pretrained encoder: base.py.)"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from data.files import InputError
from data.labels import Outputs
from experiments.config.optimizers import OPTIMIZERS
from experiments.config.spec import OptimSpec, Spec
from experiments.tasks.several import make_heads
from experiments.training.phases import Group
from lora.inject import PatternError, inject
from model.dropout import Dropout
from model.heads import TaskModel
from model.pretrained import Base


def build_model(spec: Spec, base: Base, outputs: Mapping[str, Outputs], fresh: bool = True) -> TaskModel:
    """The encoder of `base`, with LoRA where the spec asks for it, under a new head for each task. outputs: what each
    head's outputs mean. fresh: False where saved tensors will be filled in; it spares the work of `lora.init`. Random
    parts draw from torch's generator: seed it first. Every parameter is frozen until `set_trainable`."""
    if spec.lora is not None:
        lora, p = spec.lora, spec.lora.dropout
        variant: dict[str, Any] = {"rslora": lora.rslora, "dora": lora.dora, "init": lora.init, "fresh": fresh}
        try:
            names = inject(base.encoder, lora.targets, lora.rank, lora.alpha, lambda: Dropout(p), lora.ranks, **variant)
        except PatternError as error:
            raise InputError(str(error)) from None
        if lora.init == "pissa":
            base.encoder.changed |= {f"{name}.weight" for name in names}
    return TaskModel(base.encoder, make_heads(spec, outputs, base)).requires_grad_(False)


def make_optimizer(optim: OptimSpec, groups: list[Group], model: nn.Module) -> torch.optim.Optimizer:
    """One optimizer for the whole run, with every group that any phase trains. Rates are set before each step."""
    parameters = dict(model.named_parameters())
    settings = [
        {"params": [parameters[name] for name in group.names], "weight_decay": group.weight_decay} for group in groups
    ]
    kind = OPTIMIZERS[optim.name]
    return getattr(torch.optim, kind.torch_name)(settings, lr=optim.lr, **kind.arguments(optim))
