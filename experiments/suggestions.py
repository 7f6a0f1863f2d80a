"""Advice, each tied to a figure of the summary: no advice without a number, and never more than five."""

MOST = 5


def suggest(s: dict) -> list[str]:
    """What to try next, the most pressing first. s: the summary (`analysis.summarise`) as far as it is made."""
    rules = (
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


def nonfinite(s: dict) -> str | None:
    stable = s["stability"]
    if stable and stable["nonfinite"]:
        return f"{stable['nonfinite']} steps had no finite loss or gradient: lower optim.lr, or raise warmup_ratio"
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
    if later and later["evaluations"] >= 2 and later["share"] > 0.2 and not s["evaluations"][0]["best"]:
        return (
            f"{later['share']:.0%} of the training came after the best evaluation: fewer epochs, or eval.patience="
            f"{max(1, later['evaluations'] - 1)}"
        )
    return None


def unfinished_learning(s: dict) -> str | None:
    found = s["generalisation"]
    if found and found["verdict"] == "underfitting" and s["status"] == "finished":
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
    """Where it bites now and then, single steps are too wild. Where it always bites, it only gives all steps the same
    length, and Adam divides by that again: nothing is wrong with the rate, but the limit keeps no outlier in check."""
    share, clip = s["stability"] and s["stability"]["clipped"], s["spec"].get("optim", {}).get("clip")
    if not share or share <= 0.5 or not clip:
        return None
    if share > 0.95 and s["stability"]["gradient"]:
        median = s["stability"]["gradient"]["p50"]
        return (
            f"clipping bit in {share:.0%} of the steps, the median norm being {median:.1f}: raise optim.clip "
            f"({clip:g}) above that, for it to hold outliers back"
        )
    return f"clipping bit in {share:.0%} of the steps: lower optim.lr, or raise optim.clip ({clip:g})"


def spiky(s: dict) -> str | None:
    stable = s["stability"]
    if stable and stable["spikes"] > max(2, 0.02 * stable["losses"]):
        return f"{stable['spikes']} of {stable['losses']} losses were spikes: lower optim.lr, or larger batches"
    return None


def noisy(s: dict) -> str | None:
    interval = s["coverage"] and s["coverage"]["intervals"].get(s["metric"])
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
