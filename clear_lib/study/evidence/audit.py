"""What the paper's own numbers imply: arithmetic without a model and without data, its assumptions named."""

import math
from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import binom

from clear_lib.study.setup import paper
from clear_lib.study.setup.benchmarks import SETS
from clear_lib.study.setup.questions import same_text

#: Policies that see no true lengths.
PRACTICAL = [name for name in paper.TABLE_1 if name != "oracle"]

#: Tasks of the public sets of Table 2: Liu et al. 2023 (version 0.2 of MBPP+), Zhuo et al. 2024.
CODE_TASKS = {"HumanEval+": 164, "MBPP+": 378, "BigCodeBench": 1140}

#: Greedy accuracies (%) of Qwen2.5-Math-7B-Instruct in its report (Yang et al. 2024; chain of thought; MATH's test split).
REPORTED_7B = {
    "GSM8K": 95.2,
    "MATH": 83.6,
    "MATH 500": 83.6,
    "Minerva": 37.1,
    "OlympiadBench": 41.6,
    "AMC-23": 100 * 25 / 40,
    "AIME 2024": 100 * 5 / 30,
}


def fits(value: float, n: int) -> bool:
    """Whether some whole number of ``n`` queries is the printed percentage, once rounded to a decimal."""
    counts = round(value * n / 100) + np.array([-1, 0, 1])
    # A tolerance of 1e-9, since ways to round a half differ.
    near = np.abs(100 * counts / n - value) <= 0.05 + 1e-9
    return bool((near & (counts >= 0)).any())


def sizes_that_fit(values: Iterable[float], most: int = 1000) -> list[int]:
    """All ``N`` up to ``most`` of which every printed percentage is a rounded count; assumes one ``N`` and one run."""
    values = set(values)
    return [n for n in range(1, most + 1) if all(fits(value, n) for value in values)]


def runs_needed(value: float, tasks: int, most: int = 100) -> int | None:
    """Fewest runs of ``tasks`` tasks whose mean accuracy can be the printed one; None if more than ``most``."""
    return next((runs for runs in range(1, most + 1) if fits(value, runs * tasks)), None)


def gains(cells: pd.DataFrame, printed: pd.Series) -> pd.DataFrame:
    """CLEAR beside Uniform: ``stream, budget``, the gain as ``printed`` and ``recomputed``, and the ``ratio``."""
    gain, ratio = (cells["clear"] - cells["uniform"]).round(1), cells["clear"] / cells["uniform"]
    return pd.DataFrame({"printed": printed, "recomputed": gain, "ratio": ratio}).reset_index()


def better_than_clear(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells in which a practical policy is above CLEAR (Lambert): ``stream, budget, policy, theirs, clear, by``."""
    theirs = cells.filter(PRACTICAL).melt(ignore_index=False, var_name="policy", value_name="theirs")
    found = theirs.join(cells["clear"]).query("theirs > clear").reset_index()
    return found.assign(by=(found["theirs"] - found["clear"]).round(1))


def coincidences(cells: pd.DataFrame) -> pd.DataFrame:
    """In how many streams two practical policies have the same number: ``first, second``, then a column a budget."""
    pairs = combinations(cells.filter(PRACTICAL), 2)
    same = {(one, other): (cells[one] == cells[other]).groupby("budget").sum() for one, other in pairs}
    counts = pd.DataFrame(same).T.rename_axis(["first", "second"]).rename_axis(columns=None)
    return counts[counts.any(axis=1)].reset_index()


def least_bought(counts: Mapping[int, int], budget: int, beyond: tuple[int, int] | None = None) -> int:
    """Fewest queries that a true oracle solves if ``counts[b]`` are solved under a common cap of ``b`` tokens.

    ``beyond``: how many are solvable at all, and the longest solution, tokens. ValueError if a larger cap solves fewer.
    """
    # Under greedy decoding a cap yields the beginning of the uncapped solution, so counts[b] queries have a solution of
    # at most b tokens, and the i-th cheapest costs no more than the smallest cap whose count reaches i. Buying the
    # cheapest first buys the most, and higher prices never buy more: buying at these upper ends is a lower bound.
    bought = spent = known = 0
    for cap, count in [*sorted(counts.items()), *([beyond[::-1]] if beyond else [])]:
        if count < known and cap in counts:
            raise ValueError(f"under a cap of {cap} tokens {count} queries are solved, under a smaller one {known}")
        more = min(max(count - known, 0), (budget - spent) // cap)
        bought, spent, known = bought + more, spent + more * cap, max(count, known)
    return bought


def oracle_bounds(cells: pd.DataFrame, n: int, longest: int | None = None) -> pd.DataFrame:
    """The reported Oracle (%) beside what the Uniform row lets a true oracle buy, and the points by which it is short.

    With ``longest``, the most tokens of a solution, what the Oracle solves at the largest budget counts as solvable.
    """
    counts, bounds = (cells * n / 100).round().astype(int), []
    for stream, budget in cells.index:
        solved = counts.loc[stream]
        beyond = None if longest is None else (solved["oracle"].iloc[-1], longest)
        bounds.append(100 * least_bought(solved["uniform"].to_dict(), n * budget, beyond) / n)
    found = cells["oracle"].rename("reported").reset_index().assign(bound=bounds)
    return found.assign(short=(found["bound"] - found["reported"]).clip(lower=0).round(1))


def pass_rates(sets: pd.DataFrame) -> pd.DataFrame:
    """The printed columns, Pass@1 ``recomputed`` from the counts, and whether it ``agrees`` to the printed decimal."""
    recomputed = 100 * sets["correct"] / sets["total"]
    return sets.assign(recomputed=recomputed, agrees=(recomputed - sets["pass_at_1"]).abs() <= 0.05 + 1e-9)


def split_sizes(sets: pd.DataFrame) -> pd.DataFrame:
    """Rows that are called a *train* split, beside the published sizes of that set's splits."""
    found = []
    for row in sets.query("split == 'train'").itertuples():
        train, test = SETS[row.name].rows["train"], SETS[row.name].rows["test"]
        known = {"train": train, "test": test, "train and test": train + test, "80% of test": int(0.8 * test)}
        match = [split for split, size in known.items() if size == row.total]
        found.append((row.name, row.total, train, test, ", ".join(match) or "none of these"))
    return pd.DataFrame(found, columns=["set", "printed as train", "published train", "published test", "equals"])


def share_trained_on(sets: pd.DataFrame) -> float:
    """Share of the evaluation questions trained on (MATH 500), if MATH is whole, as its printed size says."""
    whole = "test" in split_sizes(sets).set_index("set")["equals"]["MATH"]
    asked = sets.query("use == 'evaluation'").set_index("name")["total"]
    return asked["MATH 500"] / asked.sum() if whole else 0.0


def most_solved_within(sets: pd.DataFrame, longest: float, budget: float) -> pd.DataFrame:
    """Most (%) of each evaluation set that ``budget`` tokens can solve, if no response is longer than ``longest``."""
    sets = sets.query("use == 'evaluation'").reset_index(drop=True).rename(columns={"name": "set"})
    # With a share w within the budget, mean <= w·budget + (1 - w)·longest.
    within = 100 * ((longest - sets["mean_length"]) / (longest - budget)).clip(0, 1)
    sets = sets.assign(within=within, most=np.minimum(within, sets["pass_at_1"]))
    return sets[["set", "mean_length", "within", "pass_at_1", "most"]]


def tail_probability(accuracy: float, share: float, n: int) -> float:
    """P(at least ``accuracy`` per cent of ``n`` queries drawn with replacement are of a kind that is ``share`` per cent)."""
    return float(binom.sf(math.ceil(accuracy * n / 100 - 1e-9) - 1, n, share / 100))


def compare_with_model_report() -> pd.DataFrame:
    """Table 6 beside :data:`REPORTED_7B`; ``errors``: the difference in standard errors, as if the report were exact."""
    table = paper.TABLE_6.rename(columns={"name": "set", "pass_at_1": "printed"})[["set", "total", "printed"]]
    table = table[table["set"].isin(REPORTED_7B)].reset_index(drop=True)
    reported = table["set"].map(REPORTED_7B)
    difference = table["printed"] - reported
    error = 100 * np.sqrt(reported / 100 * (1 - reported / 100) / table["total"])
    return table.assign(reported=reported, difference=difference, errors=difference / error)


def overlap(evaluation: pd.DataFrame, predictor: pd.DataFrame) -> pd.DataFrame:
    """Questions of each evaluation set that the predictor learns from, whatever their case, spacing and punctuation."""
    shared = same_text(evaluation["question"]).isin(same_text(predictor["question"]))
    table = shared.groupby(evaluation["dataset"], sort=False).agg(["size", "sum"]).reset_index()
    table.columns = ["set", "questions", "shared"]
    return table.assign(share=100 * table["shared"] / table["questions"])
