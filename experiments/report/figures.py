"""All figures of a report, and their documentation: `python -m experiments.report.figures` prints every name.

ONE_RUN is what `eval.py summary --json` says of one run, SEVERAL what it says of several. In a name, dots separate
keys, [] is each item of a list, and <...> stands for names that depend on the run. What could not be known is null.
The formula of a figure is in the docstring of the function that computes it.
"""

from experiments.report.comparison import Comparison
from experiments.report.cost import COST
from experiments.report.declaration import Figure, Section, look_up, names, values
from experiments.report.health import COVERAGE, GENERALISATION
from experiments.report.progress import EPOCHS, EVALUATIONS, PHASES
from experiments.report.rows import SEVERAL
from experiments.report.run import Run
from experiments.report.stability import STABILITY
from experiments.report.suggestions import suggestions

SCHEMA = 2  # goes up whenever a name goes away or means something else; new names may appear without
MOST_EVENTS = 5  # of one kind that are shown


def task_kinds(run: Run) -> str:
    return " and ".join(dict.fromkeys(task["task"] for task in run.spec["tasks"].values()))


def data_in_words(run: Run) -> dict[str, dict[str, str]]:
    """{task: {split: "5,000 questions"}}"""
    return {
        task: {split: f"{counts['examples']:,} {counts['kind']}" for split, counts in splits.items()}
        for task, splits in run.start["data"]["splits"].items()
    }


def data_text(data: dict, _) -> dict[str, str]:
    """A line for each task."""
    return {f"data of {task}": ", ".join(f"{split} {count}" for split, count in data[task].items()) for task in data}


def events(run: Run) -> list[str]:
    found = [(record, record.get("message") or "") for record in run.records.of_kind("event")]
    return [f"{record['event']} at step {record['step']}: {message}".rstrip(": ") for record, message in found]


def first_events(found: list[str], _) -> list[str]:
    """The first few events of each kind, and how many more there were."""
    kinds: dict[str, list[str]] = {}
    for event in found:
        kinds.setdefault(event.partition(" at step ")[0], []).append(event)
    shown = [event for each in kinds.values() for event in each[:MOST_EVENTS]]
    more = {kind: len(each) - MOST_EVENTS for kind, each in kinds.items()}
    return shown + [f"{kind}: {count} more" for kind, count in more.items() if count > 0]


HEAD = Section("", (
    Figure("schema", "the version of these names", lambda _: SCHEMA),
    Figure("name", "the run's name", lambda run: run.spec["name"]),
    Figure("folder", "where it is, as given", lambda run: str(run.records.folder)),
    Figure("spec", "the resolved experiment, see `python -m experiments.config.spec`", lambda run: run.spec),
    Figure("program", "what trained it: train.py, or other libraries", lambda run: run.start.get("program")),
    Figure("status", "finished, stopped early or diverged; unfinished where the run has not ended", lambda run:
           run.status),
    Figure("last_written", "when its records were last written, UTC", lambda run: run.records.written),
    Figure("seed", "its seed", lambda run: run.spec["seed"]),
    Figure("metric", "eval.metric, which chooses the best evaluation", lambda run: run.metric),
    Figure("steps", "optimizer steps done", lambda run: run.records.step),
    Figure("steps_planned", "optimizer steps to be done in all", lambda run: run.start["steps_planned"]),
    Figure("task", "what it trains: span_qa, classification, multi_label, regression; several joined by ' and '",
           task_kinds, "{}", "run"),
    Figure("pretrained", "the name of the pretrained weights", lambda run: run.start["pretrained"]["name"], "{}",
           "run"),
    Figure("device", "cpu, cuda, mps", lambda run: run.start["device"], "{}", "run"),
    Figure("precision", "bf16, fp16, fp32", lambda run: run.start["precision"], "{}", "run"),
    Figure("data.<task>.<split>", "how much each split of a task has, in words", data_in_words, data_text),
    Figure("fingerprints.<task>.<split>", "sha256 of what each split of a task was made from",
           lambda run: look_up(run.start, "data.fingerprints") or {}),
))  # fmt: skip

NEXT = Section("Suggestions", (
    Figure("suggestions[]", "up to five, each with its figure", suggestions,
           lambda found, _: {str(number): text for number, text in enumerate(found, 1)}),
))  # fmt: skip

NOTES = Section("Events and notes", (
    Figure("events[]", "what happened", events, first_events, "event"),
    Figure("remarks[]", "what the metrics file lacks", lambda run: run.records.remarks, lambda found, _: found, "note"),
))  # fmt: skip

HEALTH = Section("Health", (GENERALISATION, STABILITY, COVERAGE))
SECTIONS = (HEAD, EVALUATIONS, EPOCHS, PHASES, HEALTH, COST, NEXT, NOTES)

ONE_RUN = tuple(figure for section in SECTIONS for figure in section.figures)
SEVERAL_RUNS = (HEAD.figures[0], *SEVERAL)


def summary_of(run: Run) -> dict:
    """All figures of one run."""
    return values(ONE_RUN, run)


def compare(summaries: list[dict]) -> dict:
    """All figures of several runs, given those of each."""
    return values(SEVERAL_RUNS, Comparison(summaries))


def main() -> None:
    for title, figures in (("One run", ONE_RUN), ("Several runs", SEVERAL_RUNS)):
        print(f"{title} (schema {SCHEMA})\n")
        print("\n".join(f"  {name:40} {meaning}" for name, meaning in names(figures)) + "\n")


if __name__ == "__main__":
    main()
