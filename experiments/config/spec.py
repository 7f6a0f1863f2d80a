"""Every setting of an experiment: type, default, range, meaning. `python -m experiments.config.spec` prints them all.

parse.py reads JSON into these classes; check.py knows which combinations make no sense. A kind of task has a class of
its own, so a setting that means nothing to it is an unknown key.
"""

import re
from dataclasses import dataclass
from typing import Any

from experiments.config.metrics import MANY, NUMBER, ONE, RANKING, SPAN
from experiments.config.optimizers import OPTIMIZERS
from experiments.config.parse import REQUIRED, print_reference, setting

LAYER_RANGE = re.compile(r"layers\.(\d{1,2})(?:-(\d{1,2}))?")  # layers.4, layers.4-5


@dataclass(frozen=True)
class ModelSpec:
    pretrained: str = setting("all-MiniLM-L6-v2", "a folder in Hugging Face layout, a known name, or hub id[@revision]")
    adapter: str | None = setting(None, "a folder or hub id of PEFT's adapters to begin with")
    start_from: str | None = setting(None, "a run folder whose best model to begin with")
    dropout: float | None = setting(None, "after embeddings and sub-layers; null: as in config.json", low=0, high=0.9)
    attention_dropout: float = setting(0.0, "on the attention probabilities", low=0, high=0.9)
    head_dropout: float = setting(0.0, "on the hidden states that the head reads", low=0, high=0.9)
    attention: str = setting("auto", "eager, sdpa, or auto: whichever is faster", choices=("auto", "eager", "sdpa"))
    trunk_mb: int | None = setting(None, "MiB to keep what frozen lower layers compute; no dropout there", low=1)


@dataclass(frozen=True)
class LoraSpec:
    rank: int = setting(8, "rank of the update", low=1)
    alpha: float = setting(16.0, "the update is scaled by alpha / rank", above=0, high=1e6)
    dropout: float = setting(0.0, "on the adapters' input", low=0, high=0.9)
    targets: tuple[str, ...] = setting(("query", "value"), "linear layers: query, up, ..., globs, or all-linear")
    ranks: dict[str, int] = setting(dict, "{pattern: rank} for layers with another rank", low=1)
    rslora: bool = setting(False, "scale by alpha / sqrt(rank) instead (rank-stabilised LoRA)")
    dora: bool = setting(False, "train the length of each row of the weights apart from its direction (DoRA)")
    init: str = setting("default", "pissa: of the weights' largest singular directions", choices=("default", "pissa"))
    b_rate: float = setting(1.0, "rate of B as a multiple of A's (LoRA+)", above=0, high=1000)


# ---- tasks: data and loss of each kind -------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataSpec:
    """The data settings that every kind of task has."""

    train: tuple[str, ...] = setting((), "training files, relative to --data-root (source files)")
    dev: tuple[str, ...] = setting((), "development files, likewise")
    train_limit: int | None = setting(None, "a sample of the training examples, the same for every seed", low=1)
    dev_limit: int | None = setting(None, "the same for the development set", low=1)
    max_length: int = setting(384, "tokens in a window or text, special ones included", low=16, high=512)
    batch_tokens: int = setting(2800, "tokens in a batch, padding included", low=1)
    batch_size: int | None = setting(None, "examples in a batch, instead of a token budget", low=1)
    mask_tokens: float = setting(0.0, "share of the tokens shown as [MASK], new ones each time", low=0, high=0.9)


@dataclass(frozen=True)
class SpanQAData(DataSpec):
    source: str = setting("files", "files, or generated questions", choices=("files", "synthetic_qa"))
    dev_fraction: float | None = setting(None, "share of training that is dev instead, by passage", above=0, high=0.9)
    doc_stride: int = setting(128, "tokens between the beginnings of two windows over one context", low=1)
    max_query_length: int = setting(64, "tokens of a question; longer ones are cut", low=1)
    bad_answers: str = setting("error", "of answers not at their answer_start", choices=("error", "skip", "fix"))


@dataclass(frozen=True)
class RetrievalData(DataSpec):
    source: str = setting("files", "SQuAD's JSON or tables, or generated questions", choices=("files", "synthetic_qa"))
    question: str = setting("question", "column of the question, in CSV, TSV and JSONL files")
    passage: str = setting("passage", "column of the passage that answers it")


@dataclass(frozen=True)
class TextData(DataSpec):
    """The data settings of labelled texts."""

    source: str = setting("files", "files", choices=("files",))
    dev_fraction: float | None = setting(None, "share of training that is dev instead, stratified", above=0, high=0.9)
    folds: int | None = setting(None, "of cross-validation: parts of training instead of dev", low=2, high=100)
    fold: int | None = setting(None, "which of the folds, from 0, is the development set; --sweep runs all", low=0)
    text: str = setting("text", "column of the text, or its number from 0 in files without a header")
    pair: str | None = setting(None, "column of a second text, likewise")
    label: str = setting("label", "column of the label, or of the number to predict")
    header: bool = setting(True, "whether CSV and TSV files begin with the columns' names")


@dataclass(frozen=True)
class LabelData(TextData):
    source: str = setting("files", "files, or generated reviews", choices=("files", "synthetic_sentiment"))
    label_names: dict[str, str] = setting(dict, '{label in the files: name to show}, for example {"0": "negative"}')


@dataclass(frozen=True)
class LabelsData(TextData):
    label_names: dict[str, str] = setting(dict, "{label in the files: name to show}")
    label_separator: str = setting("|", "between the labels of one text in CSV and TSV files")


@dataclass(frozen=True)
class NumberData(TextData):
    source: str = setting("files", "files, or generated reviews", choices=("files", "synthetic_rating"))


@dataclass(frozen=True)
class LossSpec:
    label_smoothing: float = setting(0.0, "share of the target spread over all candidates", low=0, high=0.9)


@dataclass(frozen=True)
class LabelLoss(LossSpec):
    class_weights: str = setting("none", "balanced: n / (classes x n of the class)", choices=("none", "balanced"))
    class_weight_cap: float | None = setting(None, "no balanced weight is above this", low=1)
    label_weights: dict[str, float] = setting(dict, "{label: weight of its examples}, by hand", above=0, high=1000)


@dataclass(frozen=True)
class DecodingSpec:
    n_best: int = setting(20, "starts and ends considered in a window", low=1, high=100)
    max_answer_length: int = setting(30, "longest answer, in tokens", low=1)
    null_threshold: float = setting(0.0, 'while training: "" is answered where the null odds exceed it')


def _pooling() -> str:
    return setting("mean", "one vector per text: mean, [CLS], or the pooler's", choices=("mean", "cls", "cls_pooler"))


def _weight() -> float:
    return setting(1.0, "factor of this task's losses, where there are several tasks", above=0, high=1000)


@dataclass(frozen=True)
class SpanQATask:
    """Answers that are spans of a text, or none."""

    task: str = setting(SPAN, "the kind of task", choices=(SPAN,))
    data: SpanQAData = setting(SpanQAData, "what to train and evaluate on")
    decoding: DecodingSpec = setting(DecodingSpec, "from logits to answers")
    loss: LossSpec = setting(LossSpec, "what is minimised")
    weight: float = _weight()


@dataclass(frozen=True)
class ClassificationTask:
    """One label for each text."""

    task: str = setting(ONE, "the kind of task", choices=(ONE,))
    data: LabelData = setting(LabelData, "what to train and evaluate on")
    pooling: str = _pooling()
    loss: LabelLoss = setting(LabelLoss, "what is minimised")
    weight: float = _weight()


@dataclass(frozen=True)
class MultiLabelTask:
    """Any number of labels for each text."""

    task: str = setting(MANY, "the kind of task", choices=(MANY,))
    data: LabelsData = setting(LabelsData, "what to train and evaluate on")
    pooling: str = _pooling()
    loss: LossSpec = setting(LossSpec, "what is minimised")
    weight: float = _weight()


@dataclass(frozen=True)
class RegressionTask:
    """A number for each text."""

    task: str = setting(NUMBER, "the kind of task", choices=(NUMBER,))
    data: NumberData = setting(NumberData, "what to train and evaluate on")
    pooling: str = _pooling()
    weight: float = _weight()


@dataclass(frozen=True)
class RetrievalTask:
    """The passage that answers a question, found among others."""

    task: str = setting(RANKING, "the kind of task", choices=(RANKING,))
    data: RetrievalData = setting(RetrievalData, "what to train and evaluate on")
    temperature: float = setting(
        0.05, "divides cosines; lower: the nearest wrong passages count more", low=1e-3, high=9
    )
    weight: float = _weight()


TextTask = ClassificationTask | MultiLabelTask | RegressionTask
TaskSpec = SpanQATask | ClassificationTask | MultiLabelTask | RegressionTask | RetrievalTask  # told apart by `task`
ONLY = "main"  # the name of the one task of an experiment whose settings stand at the top of the file

# ---- training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PhaseSpec:
    name: str = setting(REQUIRED, "shown wherever the phase is; unique")
    epochs: float = setting(REQUIRED, "passes over the training set, may be fractional", above=0)
    train: tuple[str, ...] = setting(REQUIRED, "head, lora, embeddings, layers, layers.4, layers.4-5, all, or a glob")
    lr: dict[str, float] = setting(dict, 'by entry of train: {"head": 1e-3}; others use optim.lr', above=0, high=1000)
    schedule: str = setting("linear", "how the rate goes within the phase", choices=("constant", "linear", "cosine"))
    warmup_ratio: float = setting(0.06, "share of the phase's steps in which the rate climbs", low=0, high=1)
    floor: float = setting(0.0, "the rate falls to this share of its peak", low=0, high=1)
    layer_decay: float = setting(1.0, "rate of layer i: times this^(top - i); embeddings: layer -1", above=0, high=1)
    gradual: str | None = setting(None, 'unfreeze layer by layer: "layers.5-2" makes 4 phases, each with one more')


@dataclass(frozen=True)
class OptimSpec:
    name: str = setting("adamw", "the optimizer", choices=tuple(OPTIMIZERS))
    lr: float = setting(1e-3, "peak learning rate where a phase gives none", above=0, high=1000)
    weight_decay: float = setting(0.01, "not on biases, LayerNorm and other vectors", low=0, high=100)
    beta1: float = setting(0.9, "adam(w): decay of the mean of gradients", low=0, high=0.9999)
    beta2: float = setting(0.999, "adam(w), rmsprop: decay of the mean of squared gradients", low=0, high=0.999999)
    eps: float = setting(1e-8, "adam(w), rmsprop: added to the denominator", above=0)
    momentum: float = setting(0.9, "sgd: share of the previous update", low=0, high=0.9999)
    clip: float | None = setting(1.0, "largest global gradient norm; null: none", above=0)
    accumulate: int = setting(1, "batches that share one optimizer step", low=1)
    l1: float = setting(0.0, "times the sum of absolute values of the parameters that l1_on names", low=0, high=100)
    l1_on: tuple[str, ...] = setting(("head",), "which parameters, as in a phase's train list; not frozen ones")
    nonfinite_limit: int = setting(10, "stop after so many steps in a row without a finite loss and gradient", low=1)


@dataclass(frozen=True)
class EvalSpec:
    every_epochs: float | None = setting(None, "epochs between evaluations; each phase ends with one, too", low=0.001)
    every_steps: int | None = setting(None, "the same in steps, skipped ones included", low=1)
    metric: str = setting("", "chooses the best evaluation (config/metrics.py); with several tasks: mean, TASK.metric")
    train_sample: int | None = setting(None, "also evaluate so many training examples, always the same", low=1)
    patience: int | None = setting(None, "end the run after so many evaluations without a new best", low=1)


@dataclass(frozen=True)
class RuntimeSpec:
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps; auto takes the first accelerator there is")
    threads: int | None = setting(None, "CPU threads; null: PyTorch's choice", low=1, high=1024)
    log_every: int = setting(10, "steps between two train records, skipped ones included", low=1)
    checkpoint_seconds: float | None = setting(120.0, "between two checkpoints, beside those of evaluations", low=0)
    checkpoint_steps: int | None = setting(None, "the same in steps, skipped ones included", low=1)
    save_memory: bool = setting(False, "keep less for the backward pass, which computes it again: same bits, slower")
    deterministic: bool = setting(False, "torch.use_deterministic_algorithms: same bits on a GPU too, slower")


@dataclass(frozen=True)
class Spec:
    tasks: dict[str, TaskSpec] = setting(REQUIRED, "what is learnt, by name; a single one may stand at the top")
    phases: tuple[PhaseSpec, ...] = setting(REQUIRED, "the training, phase after phase")
    name: str = setting("", "of the run folder; default: the experiment file's name")
    seed: int = setting(0, "fixes initialisation, data order and dropout", low=0, high=2**31 - 1)
    model: ModelSpec = setting(ModelSpec, "the encoder")
    lora: LoraSpec | None = setting(None, "low-rank adapters; absent or null: none")
    optim: OptimSpec = setting(OptimSpec, "the optimizer")
    amp: str = setting("auto", "mixed precision; auto: where it is native", choices=("auto", "off", "bf16", "fp16"))
    eval: EvalSpec = setting(EvalSpec, "evaluation, best checkpoint, early stopping")
    runtime: RuntimeSpec = setting(RuntimeSpec, "machine and bookkeeping; changes what is learnt by rounding at most")
    sweep: dict[str, Any] = setting(dict, '{setting: values}: every combination is a run, {"optim.lr": [1e-4, 2e-4]}')
    variants: dict[str, dict[str, Any]] = setting(dict, "{name: {setting: value}}: each is a run, or many with sweep")
    variant: str | None = setting(None, "which of them a run is; reports call it so")

    def prefix(self, task: str) -> str:
        """The beginning of the names of a task's metrics: "qa." in a run with several tasks, nothing in others."""
        return f"{task}." if len(self.tasks) > 1 else ""


if __name__ == "__main__":
    print_reference(Spec)
