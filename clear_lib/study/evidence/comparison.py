"""Our numbers beside the paper's: accuracies cell by cell, and the data and settings that they were made with."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from clear_lib.allocation.policies import POLICIES
from clear_lib.study.experiments import gains, mean_interval, prediction_range
from clear_lib.study.experiments.forecasting import unfitted
from clear_lib.study.setup import paper
from clear_lib.study.setup.profiles import Profile
from clear_lib.study.setup.streams import TIERS

#: The paper's row that a policy is compared with, where it has another name: the paper reports one oracle.
PAPER_ROW = {"oracle-paper": "oracle"}

#: Verdicts on the gain over Uniform, on the number itself, on a setting, and where the paper has no number.
SAME, OPPOSITE, UNDECIDED, BASELINE = "same sign", "opposite sign", "undecided", "baseline"
NO_GAIN = "no gain in the paper"
INSIDE, HIGHER, LOWER = "inside", "paper higher", "paper lower"
EQUAL, OTHER = "same", "differs"
ABSENT = "not in the paper"

#: Options of a predictor that Table 5 has.
_FIT = ("learning_rate", "weight_decay", "batch_size", "epochs")


def compare(
    results: pd.DataFrame, study: paper.Study, printed: pd.DataFrame | None = None, *, at_scale: bool = False
) -> pd.DataFrame:
    """Results beside the study's table of accuracies (or ``printed``: Table 3), a row for each cell and policy.

    Accuracies of different models on different questions cannot agree, so the verdict is about the sign of the paired
    gain over Uniform; ``at_scale`` (a replica), about whether the paper's number is in the prediction range of a stream,
    ``low, high``. Accuracies are in per cent, gains in points with the 95% interval of their mean.
    """
    table = _in_per_cent(results)
    table["paper_tokens"] = table["scarcity"].map(study.budgets_of(table["scarcity"]))
    values = (study.table if printed is None else printed).stack()
    places = table[["stream", "paper_tokens"][: values.index.nlevels - 1]]  # Table 3 has one budget
    theirs, uniform = (places.assign(policy=policy) for policy in (table["policy"].replace(PAPER_ROW), "uniform"))
    table["paper"] = values.reindex(pd.MultiIndex.from_frame(theirs)).to_numpy()
    table["paper_gain"] = (table["paper"] - values.reindex(pd.MultiIndex.from_frame(uniform)).to_numpy()).round(1)
    table["difference"] = table["ours"] - table["paper"]
    table["verdict"] = _on_number(table) if at_scale else _on_gain(table)
    return table


def _in_per_cent(results: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy and gain over Uniform in per cent, with intervals; CLEAR's other utilities are policies (Table 3)."""
    rows, value = results.copy(), results.get("value", results["policy"])
    shapes = (rows["policy"] == "clear") & value.isin(["triangular", "quadratic"])
    rows.loc[shapes, "policy"] = value[shapes]
    rows = gains(rows) if (rows["policy"] == "uniform").any() else rows.assign(gain=np.nan)
    by = ["stream", "scarcity", "policy"]
    table = prediction_range(rows, ["accuracy"], by).merge(mean_interval(rows, "gain", by).drop(columns="seeds"), on=by)
    points = [column for column in table if column.startswith(("accuracy", "gain"))]
    table[points] = 100 * table[points]
    names = {"accuracy": "ours", "accuracy_low": "low", "accuracy_high": "high", "budget_per_query": "tokens"}
    sizes = rows.groupby(by, sort=False)[["budget_per_query", "n"]].first().reset_index()
    return table.merge(sizes, on=by).rename(columns=names)


def _on_gain(table: pd.DataFrame) -> np.ndarray:
    """Whether the gain over Uniform has the paper's sign, or an interval that contains zero."""
    unclear = (table["gain_low"] <= 0) & (table["gain_high"] >= 0)
    same = np.sign(table["gain"]) == np.sign(table["paper_gain"])
    cases = [table["policy"] == "uniform", table["paper"].isna(), unclear, table["paper_gain"] == 0, same]
    return np.select(cases, [BASELINE, ABSENT, UNDECIDED, NO_GAIN, SAME], OPPOSITE)


def _on_number(table: pd.DataFrame) -> np.ndarray:
    """Whether ``paper`` is between ``low`` and ``high``."""
    sides = [table["paper"].isna(), table["paper"] > table["high"] + 1e-9, table["paper"] < table["low"] - 1e-9]
    return np.select(sides, [ABSENT, HIGHER, LOWER], INSIDE)


def data(rollouts: pd.DataFrame, sets: pd.DataFrame, use: str) -> pd.DataFrame:
    """Counts, pass rates and mean lengths of Table 6 or 7 beside ours: by data set, or by tier if ours are others.

    ``use`` is ``"evaluation"`` or ``"predictor"``. Intervals: Wilson's of a share, 1.96 standard errors of a mean.
    """
    printed = sets[sets["use"] == use]
    by_set = "dataset" in rollouts and rollouts["dataset"].isin(printed["name"]).any()
    theirs, ours = (printed["name"], rollouts["dataset"]) if by_set else (printed["tier"], rollouts["tier"])
    rows = []
    for group in (*(dict.fromkeys([*theirs, *ours]) if by_set else TIERS), "all"):
        there, part = printed[theirs.eq(group) | (group == "all")], rollouts[ours.eq(group) | (group == "all")]
        if len(there) or len(part):
            rows += [(group, *row) for row in quantities(there, part)]
    names = ["set" if by_set else "tier", "what", "paper", "ours", "low", "high", "n"]
    table = pd.DataFrame(rows, columns=names, dtype=object)  # counts stay whole numbers
    table["difference"] = table["ours"] - table["paper"]
    table["verdict"] = np.where(table["low"].isna(), "", _on_number(table))
    return table


def share_interval(right: int, n: int) -> tuple[float, float]:
    """The 95% interval (Wilson) of a share in per cent; NaN of nothing."""
    low, high = binomtest(right, n).proportion_ci(method="wilson") if n else (np.nan, np.nan)
    return 100 * low, 100 * high


def quantities(printed: pd.DataFrame, rollouts: pd.DataFrame) -> list[tuple[Any, ...]]:
    """``what, paper, ours, low, high, n`` of some of the paper's sets and of rollouts."""
    n, right, mean = len(rollouts), int(rollouts["verdict"].eq("correct").sum()), rollouts["length"].mean()
    total = int(printed["total"].sum()) or np.nan
    passed = 100 * printed["correct"].sum() / total
    length = (printed["total"] * printed["mean_length"]).sum() / total
    low, high = share_interval(right, n)
    solved = 100 * right / n if n else np.nan
    error = 1.96 * rollouts["length"].std() / np.sqrt(n) if n > 1 else np.nan
    return [
        ("questions", total, n or np.nan, np.nan, np.nan, n),
        ("Pass@1 (%)", passed, solved, low, high, n),
        ("mean length (tokens)", length, mean, mean - error, mean + error, n),
    ]


def settings(profile: Profile) -> pd.DataFrame:
    """Table 5 beside the settings of a profile: ``setting, paper, ours, verdict`` and empty columns of numbers."""
    study, five = paper.study_of(profile.model), paper.TABLE_5
    options = unfitted(profile.predictor).options
    training, evaluation = _questions(profile)
    decoded = profile.engine != "none" or profile.recorded
    weights = "4-bit, computed with in " if "q4" in (profile.weights or {}).get("file", "") else ""
    rows = {
        "model": (study.model, profile.label),
        "weights": ("", weights + profile.dtype if decoded else None),
        "most new tokens": (study.cap, profile.cap),
        "decoding": (five.decoding, five.decoding if decoded else "as recorded"),
        "predictor": (five.predictor, profile.predictor.label),
        "it learns from": (five.training, training),
        "most tokens of a question": (five.predictor_context, options.get("context")),
        **{name.replace("_", " "): (getattr(five, name), options.get(name)) for name in _FIT},
        "halvings of the bisection": (five.bisection_iterations, POLICIES["clear"].settings["iterations"]),
        "queries of a stream": (paper.STREAM_SIZE, profile.stream_size),
        "evaluation": (five.evaluation, evaluation),
    }
    texts = [(what, *map(_text, pair)) for what, pair in rows.items()]
    table = pd.DataFrame(texts, columns=["setting", "paper", "ours"])
    verdict = np.select([table["setting"] == "weights", table["paper"] == table["ours"]], [ABSENT, EQUAL], OTHER)
    return table.assign(difference=np.nan, low=np.nan, high=np.nan, n=np.nan, verdict=verdict)


def _text(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else f"{value:,.6g}"


def _questions(profile: Profile) -> tuple[str, str]:
    """The questions that the predictor learns from and those of the evaluation, and how many of them are recorded."""
    if not profile.recorded:
        count = f"{sum(profile.pool_per_tier.values()):,} questions, {len(profile.tiers)} tiers"
        return f"tiers {', '.join(profile.predictor.tiers)}", count
    there, wanted = profile.recorded["evaluation"]
    part = f"the same sets: {there:,} of {wanted:,} questions recorded"
    evaluation = paper.TABLE_5.evaluation if there == wanted else part
    there, wanted = profile.recorded["predictor"]
    return f"GSM8K, MATH (train): {there:,} of {wanted:,} questions recorded", evaluation
