"""What the first pages of the book take from the library: the verdicts in short, and pictures of the prerequisites."""

import re
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from scipy.special import lambertw

from clear_lib.allocation.market import demand, exit_price
from clear_lib.allocation.utility import Surge
from clear_lib.study.evidence.claims import CLAIMS
from clear_lib.study.pages.figures import style

#: The claims that the first page tells: whether CLEAR wins, where, against what; and what its theory rests on.
HEADLINES = ("C10", "C12", "C13", "C5", "C14")


def verdicts_in_short(readme: str) -> str:
    """How many claims got which verdict, and those of :data:`HEADLINES`, by the table of claims in the README."""
    words = dict(re.findall(r"^\| (C\d+) \|.*\| ([^|]+) \|$", readme, flags=re.MULTILINE))
    if list(words) != [claim.id for claim in CLAIMS]:
        raise ValueError("the README's table of claims is not that of claims.yaml; run `make readme`")
    counts = ", ".join(f"*{word}* {count}" for word, count in Counter(words.values()).most_common())
    lines = [f"[{len(words)} claims, judged](chapters/16_verdict.ipynb): {counts}. Five of them:", ""]
    chosen = (claim for name in HEADLINES for claim in CLAIMS if claim.id == name)
    lines += [f"- [{claim.title}](chapters/{claim.chapter}.ipynb): **{words[claim.id]}**" for claim in chosen]
    return "\n".join(lines) + "\n"


def branches() -> Figure:
    """The function ``z·exp(z)`` with both branches of its inverse, and a level that it takes twice."""
    figure, (ax,) = style.panels(height=2.9)
    lowest, level = -1 / np.e, -0.2
    for low, high, color, dashes, name in (
        (-4.5, -1, style.VERMILION, "--", "$W_{-1}$: z below −1"),
        (-1, 0.62, style.BLUE, "-", "$W_0$: z above −1"),
    ):
        z = np.linspace(low, high, 200)
        ax.plot(z, z * np.exp(z), dashes, color=color, label=name)
    crossed = [lambertw(level, branch).real for branch in (-1, 0)]
    ax.axhline(level, color="0.4", linestyle=":", label=f"level x = {level}")
    ax.plot(crossed, [level, level], "o", color="black")
    ax.plot(-1, lowest, "s", color="black")
    for z, text in zip(crossed, ("$W_{-1}(-0.2)$", "$W_0(-0.2)$"), strict=True):
        ax.annotate(text, (z, level), (-6, 7), textcoords="offset points", ha="right" if z > -1 else "left")
    ax.annotate("lowest: −1/e, at z = −1", (-1, lowest), (0, -13), textcoords="offset points", ha="center")
    ax.axhline(0, color="0.8", zorder=0)
    ax.set(xlabel="z", ylabel="z·exp(z)", ylim=(-0.5, 0.6))
    ax.legend(loc="upper left")
    return figure


def jump(thresholds: tuple[float, ...] = (60.0, 200.0), decay: float = 0.02, budget: float = 220.0) -> Figure:
    """Total demand of two queries by price, and a budget that lies in its jump."""
    figure, (ax,) = style.panels(height=2.9)
    utility, taus = Surge(1.0, decay), np.array(thresholds)
    exits = np.sort(exit_price(taus, utility))
    for low, high in zip([0.0, *exits], [*exits, 0.25], strict=True):
        prices = np.linspace(low + 1e-9, high - 1e-9, 80)
        ax.plot(prices, [demand(price, taus, utility).sum() for price in prices], "-", color="black")
    first, second = ([float(demand(price + side, taus, utility).sum()) for side in (-1e-9, 1e-9)] for price in exits)
    ax.vlines(exits, [first[1], second[1]], [first[0], second[0]], color="0.5", linestyle=":")
    ax.axhline(budget, color=style.BLUE, linestyle="--")
    for text, where in (
        ("both ask", (0.005, first[0] + 6)),
        ("the first asks alone", (exits[0] + 0.002, first[1] + 10)),
        ("nobody asks", (exits[1] + 0.01, 10)),
        ("the budget: at no price is just this asked for", (exits[0] + 0.01, budget + 8)),
    ):
        ax.annotate(text, where)
    ax.set(xlabel="price λ (utility per token)", ylabel="tokens asked for by both", ylim=(-8, None), xlim=(0, 0.25))
    return figure


#: The pictures of the prerequisites, by file.
PICTURES = {"two_branches.svg": branches, "jump.svg": jump}


def write(readme: Path) -> None:
    """Write ``verdicts_short.md`` and the pictures into the folder ``book`` beside the README."""
    book = readme.parent / "book"
    short = verdicts_in_short(readme.read_text(encoding="utf-8"))
    (book / "verdicts_short.md").write_text(short, encoding="utf-8")
    style.use_style()
    for name, draw in PICTURES.items():
        figure = draw()
        figure.savefig(book / name, metadata={"Date": None})
        plt.close(figure)
