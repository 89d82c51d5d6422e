"""What the paper's own numbers imply: arithmetic on :mod:`clear_lib.study.setup.paper`, without a model and without data.

Every function takes printed numbers and says what follows from them. What follows is not always what was meant:
each docstring names the assumptions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import binom

from clear_lib.study.setup import paper
from clear_lib.study.setup.benchmarks import SETS
from clear_lib.study.setup.questions import same_text

#: Rows that see no true lengths.
PRACTICAL = tuple(name for name in paper.TABLE_1 if name != "oracle")


#: Tasks of the public sets of Table 2: Liu et al. 2023 (version 0.2 of MBPP+), Zhuo et al. 2024.
CODE_TASKS = {"HumanEval+": 164, "MBPP+": 378, "BigCodeBench": 1140}

#: Context length of Qwen2.5-Math-7B-Instruct, tokens (``max_position_embeddings`` of its configuration).
CONTEXT_7B = 4096

#: Greedy accuracies of Qwen2.5-Math-7B-Instruct in its own report (Yang et al. 2024; chain of thought), per cent.
#: The report's MATH is the test split of 5,000, of which MATH 500 is a part.
REPORTED_7B = {
    "GSM8K": 95.2,
    "MATH": 83.6,
    "Minerva": 37.1,
    "OlympiadBench": 41.6,
    "AMC-23": 100 * 25 / 40,
    "AIME 2024": 100 * 5 / 30,
}


def cells(table: paper.Cells) -> Iterator[tuple[str, str, int, float]]:
    """Policy, stream, tokens per query and printed number of each cell."""
    for policy, streams in table.items():
        for stream, row in streams.items():
            for budget, value in row.items():
                yield policy, stream, budget, value


def frame(table: paper.Cells) -> pd.DataFrame:
    """A table of accuracies in long form: ``policy, stream, budget, accuracy``."""
    return pd.DataFrame(cells(table), columns=["policy", "stream", "budget", "accuracy"])


# ---- how many queries -------------------------------------------------------------------------------------------


def fits(value: float, n: int, decimals: int = 1) -> bool:
    """Whether some whole number of ``n`` queries is the printed percentage, once rounded to its decimals."""
    count = round(value * n / 100)
    near = range(max(count - 1, 0), count + 2)
    # Half a unit of the last digit, and a hair: ways to round a half differ.
    return any(abs(100 * k / n - value) <= 0.5 * 10.0**-decimals + 1e-9 for k in near)


def sizes_that_fit(values: Iterable[float], most: int = 1000) -> list[int]:
    """All ``N`` up to ``most`` for which every printed percentage is a count of ``N``, rounded.

    Assumes one stream size for all values, and one run.
    """
    values = sorted(set(values))
    return [n for n in range(1, most + 1) if all(fits(value, n) for value in values)]


def runs_needed(value: float, tasks: int, most: int = 100) -> int | None:
    """Fewest runs of ``tasks`` tasks whose mean accuracy can be the printed one; None if more than ``most``."""
    return next((runs for runs in range(1, most + 1) if fits(value, runs * tasks)), None)


# ---- the gains and the winners ----------------------------------------------------------------------------------


def gains(table: paper.Cells, printed: Mapping[str, Mapping[int, float]]) -> pd.DataFrame:
    """The gain row, worked out again: ``stream, budget, printed, recomputed, ratio`` (CLEAR over Uniform)."""
    rows = []
    for stream, row in printed.items():
        for budget, gain in row.items():
            clear, uniform = table["clear"][stream][budget], table["uniform"][stream][budget]
            rows.append((stream, budget, gain, round(clear - uniform, 1), clear / uniform))
    return pd.DataFrame(rows, columns=["stream", "budget", "printed", "recomputed", "ratio"])


def better_than_clear(table: paper.Cells) -> pd.DataFrame:
    """Cells in which a practical row has more than CLEAR (Lambert): ``stream, budget, policy, theirs, clear, by``."""
    rows = [
        (stream, budget, policy, value, table["clear"][stream][budget])
        for policy, stream, budget, value in cells(table)
        if policy in PRACTICAL and value > table["clear"][stream][budget]
    ]
    found = pd.DataFrame(rows, columns=["stream", "budget", "policy", "theirs", "clear"])
    return found.assign(by=(found["theirs"] - found["clear"]).round(1))


def coincidences(table: paper.Cells) -> pd.DataFrame:
    """In how many streams two practical rows have the same number: ``first, second``, then a column a budget."""
    names = [name for name in PRACTICAL if name in table]
    budgets = list(next(iter(table["uniform"].values())))
    rows = []
    for position, first in enumerate(names):
        for second in names[position + 1 :]:
            same = {
                budget: sum(table[first][stream][budget] == table[second][stream][budget] for stream in table[first])
                for budget in budgets
            }
            if any(same.values()):
                rows.append({"first": first, "second": second} | same)
    return pd.DataFrame(rows)


# ---- what an oracle could buy -----------------------------------------------------------------------------------


def least_bought(counts: Mapping[int, int], budget: int, beyond: tuple[int, int] | None = None) -> int:
    """Queries that a true oracle solves at least with ``budget`` tokens.

    If ``counts[b]`` queries of a stream are solved under a cap of ``b`` tokens each, then that many have a
    solution of at most ``b`` tokens. So the i-th cheapest solution costs no more than the smallest cap whose
    count reaches ``i``. The oracle that buys the cheapest solutions first buys the most that any choice can, and
    dearer prices never let it buy more: buying at these upper ends is a lower bound.

    Assumes one stream for all caps, greedy decoding (a cap yields the beginning of the uncapped solution), and
    nothing else.

    Parameters
    ----------
    counts : mapping
        Solved queries by cap (tokens), under the same cap for all.
    budget : int
        Tokens for the whole stream.
    beyond : tuple of int, optional
        How many queries are solvable at all, and the most tokens that a solution can have.

    Raises
    ------
    ValueError
        If a larger cap solves fewer queries.
    """
    bought = spent = known = 0
    for cap, count in [*sorted(counts.items()), *([(beyond[1], beyond[0])] if beyond else [])]:
        if count < known and cap in counts:
            raise ValueError(f"under a cap of {cap} tokens {count} queries are solved, under a smaller one {known}")
        more = min(max(count - known, 0), (budget - spent) // cap)
        bought, spent, known = bought + more, spent + more * cap, max(count, known)
    return bought


def oracle_bounds(table: paper.Cells, n: int, longest: int | None = None) -> pd.DataFrame:
    """The reported Oracle beside what the Uniform row lets a true oracle buy, cell by cell.

    Parameters
    ----------
    table : mapping
        With the rows ``uniform`` and ``oracle``.
    n : int
        Queries of a stream.
    longest : int, optional
        Most tokens of a solution. With it, the reported Oracle at the largest budget counts the queries that are
        solvable at all (it is at least that many), and the bound grows.

    Returns
    -------
    DataFrame
        ``stream, budget, reported, bound`` (per cent), ``short`` (points by which the reported row falls short of
        the bound; 0 if it does not).
    """

    def count(value: float) -> int:
        return round(value * n / 100)

    rows = []
    for stream, reported in table["oracle"].items():
        counts = {cap: count(value) for cap, value in table["uniform"][stream].items()}
        beyond = None if longest is None else (count(reported[max(reported)]), longest)
        for budget, value in reported.items():
            rows.append((stream, budget, value, 100 * least_bought(counts, n * budget, beyond) / n))
    found = pd.DataFrame(rows, columns=["stream", "budget", "reported", "bound"])
    return found.assign(short=(found["bound"] - found["reported"]).clip(lower=0).round(1))


# ---- the data sets ----------------------------------------------------------------------------------------------


def pass_rates(rows: Sequence[paper.DataSet]) -> pd.DataFrame:
    """Pass@1 worked out again: the printed columns and ``recomputed`` and ``agrees`` (to the printed decimal)."""
    found = pd.DataFrame(rows)
    found["recomputed"] = 100 * found["correct"] / found["total"]
    found["agrees"] = (found["recomputed"] - found["pass_at_1"]).abs() <= 0.05 + 1e-9
    return found


def split_sizes(rows: Sequence[paper.DataSet]) -> pd.DataFrame:
    """Rows that are called a *train* split, beside the published sizes of that set's splits."""
    found = []
    for row in rows:
        if row.split == "train":
            train, test = (SETS[row.name].rows[part] for part in ("train", "test"))
            known = {"train": train, "test": test, "train and test": train + test, "80% of test": int(0.8 * test)}
            match = [what for what, size in known.items() if size == row.total]
            found.append((row.name, row.total, train, test, ", ".join(match) or "none of these"))
    return pd.DataFrame(found, columns=["set", "printed as train", "published train", "published test", "equals"])


def most_within(mean: float, longest: float, budget: float) -> float:
    """Largest share of a set whose length is at most ``budget``, if its mean is ``mean`` and none is above ``longest``.

    The mean is at most ``share·budget + (1 - share)·longest``. Assumes that the mean is over all responses.
    """
    return float(np.clip((longest - mean) / (longest - budget), 0, 1))


def most_solved_within(rows: Sequence[paper.DataSet], longest: float, budget: float) -> pd.DataFrame:
    """Most of each evaluation set that a cap of ``budget`` tokens can solve, by its mean length and its Pass@1.

    Returns
    -------
    DataFrame
        ``set, mean_length, within, pass_at_1, most``, per cent. No mix of the sets can be above the largest
        ``most`` on average; a drawn stream can be, by the luck of the draw.
    """
    found = [
        (row.name, row.mean_length, 100 * most_within(row.mean_length, longest, budget), row.pass_at_1)
        for row in rows
        if row.use == "evaluation"
    ]
    table = pd.DataFrame(found, columns=["set", "mean_length", "within", "pass_at_1"])
    return table.assign(most=table[["within", "pass_at_1"]].min(axis=1))


def luck(accuracy: float, share: float, n: int) -> float:
    """Chance that at least ``accuracy`` per cent of ``n`` drawn queries have what a ``share`` (per cent) of all have.

    Assumes draws with replacement, which gives luck the most room.
    """
    return float(binom.sf(math.ceil(accuracy * n / 100 - 1e-9) - 1, n, share / 100))


def against_the_models_report(rows: Sequence[paper.DataSet] = paper.TABLE_6) -> pd.DataFrame:
    """Pass@1 of Table 6 beside the model's own report (:data:`REPORTED_7B`), in the order of the table.

    Returns
    -------
    DataFrame
        ``set, total, printed, reported, difference``, per cent; ``errors`` is the difference in standard errors of
        a share of ``total`` questions, as if the model's report were exact.
    """
    found = []
    for row in rows:
        reported = REPORTED_7B.get(row.name, REPORTED_7B["MATH"] if row.name == "MATH 500" else None)
        if reported is not None:
            error = 100 * math.sqrt(reported / 100 * (1 - reported / 100) / row.total)
            difference = row.pass_at_1 - reported
            found.append((row.name, row.total, row.pass_at_1, reported, difference, difference / error))
    return pd.DataFrame(found, columns=["set", "total", "printed", "reported", "difference", "errors"])


def overlap(evaluation: pd.DataFrame, predictor: pd.DataFrame) -> pd.DataFrame:
    """How many questions of each evaluation set are among those that the predictor learns from.

    Parameters
    ----------
    evaluation, predictor : DataFrame
        Of :func:`clear_lib.study.setup.benchmarks.study`.

    Returns
    -------
    DataFrame
        ``set, questions, shared``, and ``share`` in per cent; case, spacing and punctuation aside.
    """
    shared = same_text(evaluation["question"]).isin(same_text(predictor["question"]))
    table = shared.groupby(evaluation["dataset"], sort=False).agg(["size", "sum"]).reset_index()
    table.columns = ["set", "questions", "shared"]
    return table.assign(share=100 * table["shared"] / table["questions"])
