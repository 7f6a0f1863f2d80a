"""An experiment file: every setting, its meaning, its range, and which combinations make no sense.

`python -m experiments.spec` prints this file's settings as a reference.
"""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from experiments.parse import build, override, reference, setting
from inputs import InputError, read_json, shown

REQUIRED = dataclasses.MISSING


@dataclass(frozen=True)
class ModelSpec:
    pretrained: str = setting(
        "all-MiniLM-L6-v2", "a folder in Hugging Face layout, a name of our table, or a hub id with optional @revision"
    )
    task: str = setting("span_qa", "which head sits on the encoder", choices=("span_qa",))
    dropout: float | None = setting(
        None, "after the embeddings and each sub-layer; null: what config.json says", low=0, high=0.9
    )
    attention_dropout: float = setting(0.0, "on the attention probabilities", low=0, high=0.9)
    head_dropout: float = setting(0.0, "on the hidden states that the head reads", low=0, high=0.9)
    attention: str = setting(
        "auto", "auto: whichever is faster: eager for training on a CPU, else SDPA", choices=("auto", "eager", "sdpa")
    )


@dataclass(frozen=True)
class LoraSpec:
    rank: int = setting(8, "rank of the update", low=1)
    alpha: float = setting(16.0, "the update is scaled by alpha / rank", above=0, high=1e6)
    dropout: float = setting(0.0, "on the adapters' input", low=0, high=0.9)
    targets: tuple[str, ...] = setting(
        ("query", "value"), "which linear layers: names (query, key, value, attention.output, up, down) or globs"
    )
    ranks: dict[str, int] = setting(dict, "{pattern: rank} for layers with another rank", low=1)
    rslora: bool = setting(False, "scale by alpha / sqrt(rank) instead (rank-stabilised LoRA)")


@dataclass(frozen=True)
class DataSpec:
    source: str = setting("files", "files, or the question set we generate", choices=("files", "synthetic_qa"))
    train: tuple[str, ...] = setting((), "training files, relative to --data-root (source files)")
    dev: tuple[str, ...] = setting((), "development files, likewise")
    train_limit: int | None = setting(
        None, "use a sample of this many training examples, the same for every seed; null: all", low=1
    )
    dev_limit: int | None = setting(None, "the same for the development set", low=1)
    bad_answers: str = setting(
        "error", "an answer that is not at its answer_start: error, or skip it (files)", choices=("error", "skip")
    )
    max_length: int = setting(384, "tokens in a window, special ones included", low=16, high=512)
    doc_stride: int = setting(128, "tokens between the beginnings of two windows over one context", low=1)
    max_query_length: int = setting(64, "tokens of a question; longer ones are cut", low=1)
    batch_tokens: int = setting(2800, "tokens in a batch, padding included", low=1)
    batch_size: int | None = setting(None, "examples in a batch, instead of a token budget", low=1)


@dataclass(frozen=True)
class PhaseSpec:
    name: str = setting(REQUIRED, "shown in logs; unique")
    epochs: float = setting(
        REQUIRED, "passes over the training set, may be fractional; at most 1000 in all phases", above=0
    )
    train: tuple[str, ...] = setting(
        REQUIRED,
        "what trains: head, lora, embeddings, layers, layers.4, layers.4-5, all, or a glob over parameter names",
    )
    lr: dict[str, float] = setting(
        dict, "{name of `train`: its learning rate}; what is not listed uses optim.lr", above=0, high=1000
    )
    schedule: str = setting("linear", "of the learning rate within the phase", choices=("constant", "linear", "cosine"))
    warmup_ratio: float = setting(0.06, "share of the phase's steps that the rate climbs from 0", low=0, high=1)
    floor: float = setting(0.0, "the rate falls to this share of its peak", low=0, high=1)
    layer_decay: float = setting(
        1.0, "rate of encoder layer i: times layer_decay^(top - i); embeddings one below layer 0", above=0, high=1
    )
    gradual: str | None = setting(
        None, 'unfreeze one layer at a time: "layers.5-2" splits the phase into 4, each adding the next layer'
    )


@dataclass(frozen=True)
class OptimSpec:
    name: str = setting("adamw", "the optimizer", choices=("adamw", "adam", "sgd", "rmsprop"))
    lr: float = setting(1e-3, "peak learning rate of whatever a phase gives no rate of its own", above=0, high=1000)
    weight_decay: float = setting(0.01, "not on biases, LayerNorm and other vectors", low=0, high=100)
    beta1: float = setting(0.9, "adam(w): decay of the mean of gradients", low=0, high=0.9999)
    beta2: float = setting(0.999, "adam(w), rmsprop: decay of the mean of squared gradients", low=0, high=0.999999)
    eps: float = setting(1e-8, "adam(w), rmsprop: added to the denominator", above=0)
    momentum: float = setting(0.9, "sgd: share of the previous update", low=0, high=0.9999)
    clip: float | None = setting(1.0, "largest global gradient norm; null: none", above=0)
    accumulate: int = setting(1, "batches that share one optimizer step", low=1)
    label_smoothing: float = setting(0.0, "share of the target spread over all candidates", low=0, high=0.9)
    nonfinite_limit: int = setting(10, "stop after this many steps in a row with a loss or gradient not finite", low=1)


@dataclass(frozen=True)
class EvalSpec:
    every_epochs: float | None = setting(
        None, "evaluate this often (and at the end of each phase); with every_steps null too: once an epoch", low=0.001
    )
    every_steps: int | None = setting(None, "the same in optimizer steps", low=1)
    metric: str = setting(
        "f1",
        "decides which evaluation is best; best_*: at the best null threshold",
        choices=("f1", "exact", "loss", "best_f1", "best_exact"),
    )
    patience: int | None = setting(
        None, "end the run after this many evaluations without a new best, counted across phases; null: never", low=1
    )
    n_best: int = setting(20, "starts and ends considered in a window", low=1, high=100)
    max_answer_length: int = setting(30, "longest answer, in tokens", low=1)
    null_threshold: float = setting(
        0.0,
        'exact and f1 while training: answer "" where the null score exceeds the best span by more; unused where every '
        "training question has an answer",
    )


@dataclass(frozen=True)
class RuntimeSpec:
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps; auto takes the first accelerator there is")
    threads: int | None = setting(None, "CPU threads; null: PyTorch's choice", low=1, high=1024)
    log_every: int = setting(10, "optimizer steps between two train records", low=1)
    checkpoint_seconds: float | None = setting(
        120.0, "seconds between two checkpoints, beside those after evaluations", low=0
    )
    checkpoint_steps: int | None = setting(None, "the same in optimizer steps", low=1)
    deterministic: bool = setting(False, "torch.use_deterministic_algorithms: same bits on a GPU too, slower")


@dataclass(frozen=True)
class Spec:
    phases: tuple[PhaseSpec, ...] = setting(REQUIRED, "the training, phase after phase")
    name: str = setting("", "of the run folder; default: the experiment file's name")
    seed: int = setting(0, "fixes initialisation, data order and dropout", low=0, high=2**31 - 1)
    model: ModelSpec = setting(ModelSpec, "the encoder and its head")
    lora: LoraSpec | None = setting(None, "low-rank adapters; absent or null: none")
    data: DataSpec = setting(DataSpec, "what to train and evaluate on")
    optim: OptimSpec = setting(OptimSpec, "the optimizer")
    amp: str = setting(
        "auto", "mixed precision; auto: where the hardware has it natively", choices=("auto", "off", "bf16", "fp16")
    )
    eval: EvalSpec = setting(EvalSpec, "evaluation, best checkpoint, early stopping")
    runtime: RuntimeSpec = setting(RuntimeSpec, "machine and bookkeeping; does not change what is learnt")


# ---- combinations ----------------------------------------------------------------------------------------------------

LAYER_RANGE = re.compile(r"layers\.(\d{1,2})(?:-(\d{1,2}))?")
MOST_PHASES, MOST_EPOCHS, MOST_GENERATED = (
    100,
    1000,
    200_000,
)  # a slip of the keyboard beyond these would only seem to hang


def expand_gradual(phases: tuple[PhaseSpec, ...]) -> tuple[PhaseSpec, ...]:
    """Write the short form out. {"name": "thaw", "epochs": 2, "train": ["head"], "gradual": "layers.5-4"} becomes
    thaw-layers.5 (1 epoch, head and layers.5) and thaw-layers.4 (1 epoch, head, layers.5 and layers.4).
    A rate listed for "layers" then holds for each of the added layers."""
    expanded = []
    for i, phase in enumerate(phases):
        if phase.gradual is None:
            expanded.append(phase)
            continue
        found = LAYER_RANGE.fullmatch(phase.gradual)
        if not found:
            raise InputError(f'phases.{i}.gradual: {shown(phase.gradual)} is not of the form "layers.5-2"')
        if "layers" in phase.train or "all" in phase.train:
            raise InputError(f"phases.{i}.gradual: would add layers that the phase trains from its beginning")
        first, last = int(found[1]), int(found[2] or found[1])
        order = range(first, last - 1, -1) if first >= last else range(first, last + 1)
        rate = phase.lr.get("layers")
        others = {key: value for key, value in phase.lr.items() if key != "layers"}
        for count in range(1, len(order) + 1):
            added = [f"layers.{layer}" for layer in order[:count]]
            expanded.append(
                dataclasses.replace(
                    phase,
                    name=f"{phase.name}-{added[-1]}",
                    epochs=phase.epochs / len(order),
                    train=(*phase.train, *added),
                    lr=others | ({name: rate for name in added} if rate is not None else {}),
                    gradual=None,
                )
            )
    return tuple(expanded)


def check(spec: Spec) -> None:
    """Raise InputError for settings that are fine alone and impossible together."""
    if not re.fullmatch(r"[\w.+-]+", spec.name) or spec.name.startswith(".") or len(spec.name.encode()) > 100:
        raise InputError(
            f"name: {shown(spec.name)} cannot be a run folder's name; "
            "choose one of up to 100 bytes, of letters, digits, . _ + -, with --set name=..."
        )
    if not spec.phases:
        raise InputError("phases: at least one is needed")
    if sum(phase.epochs for phase in spec.phases) > MOST_EPOCHS:
        raise InputError(f"phases: more than {MOST_EPOCHS:,} epochs in all")
    names = [phase.name for phase in spec.phases]
    for i, phase in enumerate(spec.phases):
        if names.count(phase.name) > 1:
            raise InputError(f"phases.{i}.name: {shown(phase.name)} is there twice")
        if not phase.train:
            raise InputError(f"phases.{i}.train: nothing would train")
        if "lora" in phase.train and spec.lora is None:
            raise InputError(f"phases.{i}.train: 'lora' cannot train, because the experiment has no lora group")
        for key in phase.lr:
            if key not in phase.train:
                raise InputError(f"phases.{i}.lr.{key}: not in this phase's train list ({', '.join(phase.train)})")
    data = spec.data
    if data.source == "files" and not (data.train and data.dev):
        raise InputError('data.train, data.dev: name at least one file each, or set data.source to "synthetic_qa"')
    for key, limit in (("train_limit", data.train_limit), ("dev_limit", data.dev_limit)):
        if data.source == "synthetic_qa" and limit is not None and limit > MOST_GENERATED:
            raise InputError(f"data.{key}: {limit:,}; at most {MOST_GENERATED:,} questions are generated")
    if data.source != "files" and (data.train or data.dev):
        raise InputError(f"data.train, data.dev: not used with data.source {data.source!r}; remove them")
    for key in ("train", "dev"):
        if len(set(getattr(data, key))) < len(getattr(data, key)):
            raise InputError(f"data.{key}: a file is listed twice")
        for name in getattr(data, key):
            if not name or Path(name).is_absolute() or ".." in Path(name).parts:
                raise InputError(f"data.{key}: {name!r} is not inside the data root; point --data-root at its folder")
    room = data.max_length - data.max_query_length - 3  # for context, beside the longest question and [CLS] [SEP] [SEP]
    if room < 1:
        raise InputError(f"data.max_query_length: {data.max_query_length} fills a window of {data.max_length} tokens")
    if data.doc_stride > room:
        raise InputError(
            f"data.doc_stride: {data.doc_stride} could skip text: a window of {data.max_length} tokens holds {room} of "
            f"context beside a question of {data.max_query_length}"
        )
    if spec.eval.every_steps is not None and spec.eval.every_epochs is not None:
        raise InputError("eval.every_steps, eval.every_epochs: set one of them, not both")


def read_spec(path: Path, assignments: list[str] | None = None) -> Spec:
    """An experiment file with `--set` assignments applied -> the resolved spec. Raises InputError naming the file."""
    if not path.exists():
        own = ", ".join(sorted(f"experiments/{file.name}" for file in Path(__file__).parent.glob("*.json")))
        raise InputError(f"{path}: no such experiment; the project's own are {own}")
    raw = read_json(path)
    raw.setdefault("name", path.stem)
    for assignment in assignments or []:
        override(raw, assignment)
    try:
        spec = build(Spec, raw)
        if len(spec.phases) > MOST_PHASES:
            raise InputError(f"phases: {len(spec.phases):,} of them; at most {MOST_PHASES}")
        spec = dataclasses.replace(spec, phases=expand_gradual(spec.phases))
        check(spec)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return spec


def main() -> None:
    for key, default, meaning in reference(Spec):
        print(f"{key:26} {default:44} {meaning}" if default else f"\n{key:26} {meaning}")


if __name__ == "__main__":
    main()
