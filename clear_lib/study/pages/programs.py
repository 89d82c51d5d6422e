"""Tables, the figure and the sentences of the chapter about Table 2: programs, run against their tests."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from clear_lib.study.code import protocol, shipping
from clear_lib.study.code.recording import KINDS, SAMPLES
from clear_lib.study.code.tasks import SETS
from clear_lib.study.evidence import comparison
from clear_lib.study.pages import tables
from clear_lib.study.pages.figures import style
from clear_lib.study.setup import paper, profiles
from clear_lib.study.setup.profiles import Profile

#: Greedy pass rates (%) that the makers publish for the unquantised weights, by profile, data set and tests: Table 16
#: of the Qwen2.5-Coder report (arXiv:2409.12186), whose MBPP+ is the later release, with 378 tasks.
PUBLISHED = {
    "qwen-1.5b": {"HumanEval": {"base": 70.7, "plus": 66.5}, "MBPP+": {"base": 69.2, "plus": 59.4}},
    "qwen-0.5b": {"HumanEval": {"base": 61.6, "plus": 57.3}, "MBPP+": {"base": 52.4, "plus": 43.7}},
}


def label(policy: str) -> str:
    """A policy's name on the page."""
    return "Samples at one price" if policy == protocol.BUY else tables.label(policy)


def models(profile: Profile) -> dict[str, Profile]:
    """The profiles whose programs are recorded, by the size of their model; the book's own first if it is one of them."""
    names = sorted(PUBLISHED, key=lambda name: (name != profile.name, name != "qwen-1.5b"))
    known = [profile if name == profile.name else profiles.load(name) for name in names]
    return {re.search(r"[\d.]+B", each.label)[0]: each for each in known}


def recorded(shown: Mapping[str, Profile]) -> pd.DataFrame:
    """What is shipped: tasks with a greedy program, and tasks with all samples, by model and data set."""
    rows = []
    for model, profile in shown.items():
        for kind, (dataset, sampled) in KINDS.items():
            if sampled:
                continue
            one, many = (shipping.read(profile.name, [each]) for each in (kind, f"{kind}-samples"))
            wanted, whole = SETS[dataset].rows[-1], shipping.whole(many)["question_id"].nunique()
            tests = "base and plus" if pd.concat([one, many])["plus"].isin(["correct", "wrong"]).any() else "base"
            rows.append([model, dataset, f"{len(one)} of {wanted}", f"{whole} of {wanted}", tests])
    return pd.DataFrame(rows, columns=["model", "tasks", "greedy", f"{SAMPLES} samples", "tests"])


def _share(right: pd.Series) -> dict[str, float]:
    """A share in per cent, with its interval."""
    low, high = comparison.share_interval(int(right.sum()), len(right))
    return {"ours": 100 * right.mean(), "low": low, "high": high, "n": len(right)}


def greedy(shown: Mapping[str, Profile]) -> pd.DataFrame:
    """Greedy pass rates beside the published ones, by model, data set and tests."""
    rows = []
    for model, profile in shown.items():
        found = shipping.read(profile.name, [kind for kind in KINDS if not KINDS[kind].sampled])
        for dataset, rates in PUBLISHED[profile.name].items():
            for tests, published in rates.items():
                graded = found[(found["dataset"] == dataset) & found[tests].isin(["correct", "wrong"])]
                if len(graded):
                    ours = _share(graded[tests] == "correct")
                    sides = published > ours["high"], published < ours["low"]
                    side = np.select(sides, ["published higher", "published lower"], "inside").item()
                    row = {"model": model, "tasks": dataset, "tests": tests, "published": published}
                    rows.append(row | ours | {"verdict": side})
    names = ["model", "tasks", "tests", "published", "ours", "low", "high", "n", "verdict"]
    return pd.DataFrame(rows, columns=names)


def lengths(pools: Mapping[str, Sequence[protocol.Pool]]) -> pd.DataFrame:
    """How well the forecasts order the tasks, by model and data set: rank correlations with what the samples did."""
    rows = [
        {
            "model": name,
            "tasks": pool.dataset,
            "n": len(pool.lengths),
            "mean tokens": pool.mean_length,
            "length, rank correlation": spearmanr(pool.forecasts.threshold, pool.lengths.mean(axis=1)).statistic,
            "share right, rank correlation": spearmanr(pool.forecasts.solvable, pool.plus.mean(axis=1)).statistic,
            "one sample solves": 100 * pool.plus.mean(),
            f"one of {SAMPLES} solves": 100 * pool.plus.any(axis=1).mean(),
        }
        for name, each in pools.items()
        for pool in each
    ]
    return pd.DataFrame(rows)


def sizes(pools: Sequence[protocol.Pool]) -> str:
    """The data sets of a model and their numbers of tasks, in words."""
    return ", ".join(f"{pool.dataset}: n = {len(pool.lengths)}" for pool in pools)


def accuracies(results: pd.DataFrame, reading: str, choice: str = protocol.CHOICES[0]) -> pd.DataFrame:
    """Share of solved tasks (per cent): a row a policy, a column for each data set and budget."""
    chosen = results[(results["reading"] == reading) & (results["choice"] == choice)]
    means = 100 * chosen.groupby(["policy", "dataset", "scarcity"])["solved"].mean().unstack(["dataset", "scarcity"])
    order = [name for name in protocol.CODE_POLICIES if name in means.index]
    means = means.sort_index(axis=1).rename(columns="{:g}".format, level="scarcity")
    return means.loc[order].rename(index=label).rename_axis(index=None, columns=["tasks", "budget"])


def leads(gains: Mapping[str, pd.DataFrame], reading: str, policies: Sequence[str]) -> pd.DataFrame:
    """Leads by all tests in points, with their intervals: a row for each model, data set and budget, a column a policy."""
    chosen = pd.concat([table.assign(model=name) for name, table in gains.items()])
    chosen = chosen.query("reading == @reading and choice == 'all tests' and policy in @policies")
    texts = [f"{row.gain:+.1f} ({row.gain_low:+.1f} to {row.gain_high:+.1f})" for row in chosen.itertuples()]
    chosen["model"] = pd.Categorical(chosen["model"], list(gains))  # in this order
    rows = {"model": "model", "dataset": "tasks", "n": "n", "scarcity": "budget"}
    wide = chosen.assign(lead=texts).pivot(index=list(rows), columns="policy", values="lead")
    wide.index = wide.index.set_levels(wide.index.levels[3].map("{:g}".format), level=3)
    return wide[list(policies)].rename(columns=label).reset_index().rename(columns=rows).rename_axis(columns=None)


def _printed(dataset: str) -> dict[str, float]:
    """What the paper's Table 2 has for a data set, and the gain."""
    values = {policy: paper.TABLE_2[policy][dataset] for policy in ("uniform", "clear")}
    return values | {"Gain": values["clear"] - values["uniform"]}


def table_2(
    results: Mapping[str, pd.DataFrame], gains: Mapping[str, pd.DataFrame], scarcity: float, reading: str = "queries"
) -> pd.DataFrame:
    """The paper's Table 2 beside ours, for ``tables.beside_paper``; results and their gains by the label of the model."""
    rows, cell = [], "reading == @reading and choice == 'all tests' and scarcity == @scarcity"
    for name, result in results.items():
        for dataset, chosen in result.query(cell).groupby("dataset"):
            (gain,) = gains[name].query(f"{cell} and dataset == @dataset and policy == 'clear'").to_dict("records")
            sides = gain["gain_low"] > 0, gain["gain_high"] < 0
            verdict = np.select(sides, [comparison.SAME, comparison.OPPOSITE], comparison.UNDECIDED).item()
            ours = {each: _share(chosen.loc[chosen["policy"] == each, "solved"]) for each in ("uniform", "clear")}
            ours["uniform"]["verdict"], ours["clear"]["verdict"] = comparison.BASELINE, ""
            ours["Gain"] = {"ours": gain["gain"], "low": gain["gain_low"], "high": gain["gain_high"], "n": gain["n"]}
            ours["Gain"]["verdict"] = verdict
            # HumanEval alone, its base tests, stands beside HumanEval+
            for policy, value in _printed(f"{dataset.removesuffix('+')}+").items():
                rows.append({"model": name, "tasks": dataset, "policy": policy, "paper": value} | ours[policy])
    there = {row["tasks"].removesuffix("+") for row in rows}
    for dataset in paper.TABLE_2.index:
        if dataset.removesuffix("+") not in there:
            same = {"model": "", "tasks": dataset, "verdict": "not run"}
            rows += [same | {"policy": policy, "paper": value} for policy, value in _printed(dataset).items()]
    columns = ["model", "tasks", "policy", "paper", "ours", "low", "high", "n", "verdict"]
    table = pd.DataFrame(rows, columns=columns).astype({"n": "Int64"})
    return table.assign(difference=table["ours"] - table["paper"])


def tally(gains: Mapping[str, pd.DataFrame], policy: str, reading: str, most: float = np.inf) -> str:
    """In how many cells (data sets of 30 tasks or more, budgets up to ``most``) a policy is ahead or behind, in words."""
    said = []
    for name, table in gains.items():
        rows = table.query("policy == @policy and reading == @reading and choice == 'all tests'")
        rows = rows[(rows["scarcity"] <= most) & (rows["n"] >= 30)]
        if len(rows):
            n, ahead, behind = len(rows), (rows["gain_low"] > 0).sum(), (rows["gain_high"] < 0).sum()
            rest = n - ahead - behind
            said.append(f"the {name} model ahead in {ahead} of {n} cells, behind in {behind}, undecided in {rest}")
    return "; ".join(said)


def checked(table: pd.DataFrame, tasks: str = "HumanEval") -> str:
    """Greedy pass rates of a table of :func:`greedy` by the base tests, in words."""
    rows = table[(table["tasks"] == tasks) & (table["tests"] == "base")]
    said = (f"the {r.model} model passes {r.ours:.1f}% (published: {r.published:.1f}%)" for r in rows.itertuples())
    return "; ".join(said)


def cost_of_choice(results: Mapping[str, pd.DataFrame]) -> str:
    """What choosing by the base tests costs Uniform at the largest budget, where the plus tests are at hand, in words."""
    said = []
    for name, table in results.items():
        rows = table[table["dataset"].str.endswith("+").astype(bool)]
        rows = rows.query("policy == 'uniform' and reading == 'queries' and scarcity == scarcity.max()")
        for dataset, shares in rows.groupby(["dataset", "choice"])["solved"].mean().mul(100).unstack().iterrows():
            said.append(f"{shares['all tests']:.1f}% become {shares['base tests']:.1f}% on {dataset} ({name} model)")
    return "; ".join(said)


def by_budget(results: pd.DataFrame) -> Figure:
    """Share of solved tasks by budget: a row of panels a data set, a panel a reading, a line a policy."""
    chosen = results[results["choice"] == protocol.CHOICES[0]]
    cells = [(dataset, reading) for dataset in sorted(set(chosen["dataset"])) for reading in protocol.READINGS]
    figure, axes = style.panels(len(cells), len(protocol.READINGS), height=2.6, sharey="row")
    looks = style.looks(protocol.CODE_POLICIES)
    looks[protocol.BUY] |= {"color": "#CC79A7", "marker": "*"}
    for ax, (dataset, reading) in zip(axes, cells, strict=True):
        rows = chosen[(chosen["dataset"] == dataset) & (chosen["reading"] == reading)]
        means = rows.groupby(["policy", "scarcity"])["solved"].mean().mul(100)
        for name in (each for each in protocol.CODE_POLICIES if each in means.index):
            ax.plot(means[name].index, means[name], **looks[name] | {"label": label(name)})
        style.log_ticks(ax, protocol.SCARCITIES)
        ax.set(title=f"{dataset}: {reading}", xlabel="budget / mean length")
        ax.set_ylabel("solved (%)" if reading == next(iter(protocol.READINGS)) else "")
    return style.legend(figure, 3)
