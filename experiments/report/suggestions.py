"""Advice, each tied to a figure of the summary: no advice without a number, and never more than five."""

from experiments.config.spec import NOT_PERCENT
from experiments.report.health import LEARNT

MOST = 5


def suggest(s: dict) -> list[str]:
    """What to try next, the most pressing first. s: the summary (`analysis.summarise`) as far as it is made."""
    rules = (
        diverged,
        nonfinite,
        best_first,
        wasted,
        unfinished_learning,
        overfit,
        clipping,
        spiky,
        noisy,
        padded,
        busy_elsewhere,
    )
    return [text for text in (rule(s) for rule in rules) if text][:MOST]


def highest_rate(s: dict, words: str) -> str:
    """ " (highest here: 0.002)", nothing where no rate is known"""
    highest = max((rate["highest"] for phase in s["phases"] for rate in phase["lr"].values()), default=None)
    return "" if highest is None else f" ({words}{highest:.2g})"


def diverged(s: dict) -> str | None:
    if s["status"] != "diverged":
        return None
    rate = highest_rate(s, "highest here: ")
    return f"the run diverged at step {s['steps']}: lower optim.lr{rate}, set optim.clip, or raise warmup_ratio"


def nonfinite(s: dict) -> str | None:
    count = s["stability"]["nonfinite"]
    if count and s["status"] != "diverged":
        return f"{count} steps had no finite loss or gradient: lower optim.lr, or raise warmup_ratio"
    return None


def best_first(s: dict) -> str | None:
    if s["best"] and len(s["evaluations"]) > 1 and s["evaluations"][0]["best"]:
        return (
            f"the best of {len(s['evaluations'])} evaluations was the first, at step {s['best']['step']}: evaluate "
            "more often (eval.every_epochs), or lower optim.lr"
        )
    return None


def wasted(s: dict) -> str | None:
    later = s["after_best"]
    long = later and later["evaluations"] >= 2 and later["share"] > 0.2 and not s["evaluations"][0]["best"]
    if long and s["status"] == "finished":
        return (
            f"{later['share']:.0%} of the training came after the best evaluation: fewer epochs, or eval.patience="
            f"{max(1, later['evaluations'] - 1)}"
        )
    return None


def unfinished_learning(s: dict) -> str | None:
    found = s["generalisation"]
    if found and found["verdict"] == "underfitting" and found["learnt"] is not None and found["learnt"] < LEARNT:
        rate = highest_rate(s, "this was ")
        longer = ", or more epochs" if s["best"] is s["final"] else ""
        return f"the training loss fell by {found['learnt']:.0%} only: another optim.lr{rate}{longer}"
    if found and found["verdict"] == "underfitting" and s["best"] is s["final"]:
        return f"the dev loss still fell by {found['last_fall']:.3f} in the last interval: train for more epochs"
    return None


def overfit(s: dict) -> str | None:
    found = s["generalisation"]
    if found and found["verdict"] == "overfitting" and not (s["after_best"] and s["after_best"]["share"] > 0.2):
        return (
            f"the dev loss has risen by {found['change']['loss']:.3f} since step {found['since']}: more dropout, "
            "weight decay or data.mask_tokens, or fewer epochs"
        )
    return None


def clipping(s: dict) -> str | None:
    """A limit that bites in every step gives all of them the same length, and Adam divides by that again: only one that
    bites in many steps, not in all, says that some are wild."""
    share, clip = s["stability"]["clipped"], s["spec"].get("optim", {}).get("clip")
    if share and clip and 0.5 < share < 0.95:
        return f"clipping bit in {share:.0%} of the steps: lower optim.lr, or raise optim.clip ({clip:g})"
    return None


def spiky(s: dict) -> str | None:
    stable = s["stability"]
    if stable["spikes"] and stable["spikes"] > max(2, 0.02 * stable["losses"]):
        return f"{stable['spikes']} of {stable['losses']} losses were spikes: lower optim.lr, or larger batches"
    return None


def noisy(s: dict) -> str | None:
    interval = s["coverage"] and s["coverage"]["intervals"].get(s["metric"])
    if s["metric"].rpartition(".")[2] in NOT_PERCENT:
        return None
    if interval and interval["high"] - interval["low"] > 4:
        half = (interval["high"] - interval["low"]) / 2
        return f"{s['metric']} is only sure to about ± {half:.1f}: judge on more examples, or over several seeds"
    return None


def padded(s: dict) -> str | None:
    share = s["throughput"]["padding"]
    if share and share > 0.2:
        return f"{share:.0%} of the computed tokens were padding: larger batches, or data.batch_tokens"
    return None


def busy_elsewhere(s: dict) -> str | None:
    clock = s["seconds"]
    if "eval" in clock and clock["total"] and clock["eval"] > 0.3 * clock["total"]:
        share = clock["eval"] / clock["total"]
        return f"evaluation took {share:.0%} of the time: evaluate less often, or on fewer examples"
    return None
