"""The questions of the embedded reasoner and their worked solutions.

Five families of short maths questions, each with a difficulty ``level`` from 1 to 8, and for every
question three worked solutions: *quick* (results only), *normal* (one equation a step) and *careful*
(what is done, the equation, often a check). The tiers of the study are ranges of levels.

Nothing here is random but the draw: the text of a solution is a function of its question and style, and no
solution contains a mistake. Two things are planted on purpose: careful solutions are longer than quick
ones, and :data:`STYLE_SHARES` makes the training data prefer longer styles on harder levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

TIERS = ("easy", "moderate", "hard", "very hard")
STYLES = ("quick", "normal", "careful")
LEVELS = range(1, 9)

#: Families and levels of each tier, a level twice to draw it twice as often. Chosen after training, by the
#: accuracy on questions that are not in the training data, so that the tiers differ as those of Table 6 do.
TIER_LEVELS: dict[str, dict[str, tuple[int, ...]]] = {
    "easy": {"words": (1, 1, 2), "gcd": (1,)},
    "moderate": {"words": (3, 4), "equation": (2, 3), "gcd": (2, 3), "factor": (3, 4, 5, 6, 7, 8), "steps": (3, 4)},
    "hard": {"words": (5, 6), "equation": (4, 5), "gcd": (4, 5, 6), "steps": (7, 8)},
    "very hard": {"words": (7, 8), "equation": (6, 7, 8), "gcd": (7, 8)},
}

#: Share of quick, normal and careful solutions in the training data, by level.
STYLE_SHARES = {
    level: shares
    for levels, shares in (
        ((1, 2), (0.45, 0.35, 0.20)),
        ((3, 4), (0.30, 0.40, 0.30)),
        ((5, 6, 7, 8), (0.20, 0.40, 0.40)),
    )
    for level in levels
}

LONGEST_LIST = 1000  # questions of a tier and split; fixed, so that a shorter list is the start of a longer one

#: Share of each level in the training data: long solutions are rarer, since they hold more tokens.
LEVEL_SHARES = np.array((1.0, 1.0, 1.0, 1.0, 0.8, 0.7, 0.6, 0.5)) / 6.6

#: Seed of each split, and the part (in sixteenths) of all questions that belongs to it, see :func:`belongs`.
SPLITS = {
    "train": (1_000_000_000, range(0, 10)),
    "predictor": (2_000_000_000, range(10, 13)),
    "evaluation": (3_000_000_000, range(13, 16)),
}


@dataclass(frozen=True)
class Task:
    """A question, its answer and one worked solution (without the boxed answer) for each style."""

    family: str
    level: int
    question: str
    answer: str
    work: dict[str, str]

    def solution(self, style: str) -> str:
        """Text that the model learns to write after the prompt, from the opening style to the box."""
        return f"{style.capitalize()}. {self.work[style]} \\boxed{{{self.answer}}}"


NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivan", "Jo", "Kim", "Leo")
THINGS = ("apples", "books", "cards", "coins", "eggs", "pens", "shells", "stamps")
GAINS, LOSSES = ("buys", "finds", "wins", "gets"), ("sells", "loses", "gives", "eats")


def words(rng: np.random.Generator, level: int) -> Task:
    """A story of gains, losses and multiplications: as many steps as the level says."""
    operations = (1, 2, 3, 4, 5, 7, 9, 11)[level - 1]
    largest = (20, 40, 60, 90, 200, 400, 700, 900)[level - 1]
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    total = int(rng.integers(2, largest))
    story, steps = [f"{name} has {total} {thing}"], []
    for _ in range(operations):
        amount, before = int(rng.integers(2, largest)), total
        if level >= 3 and rng.random() < 0.15 and total <= largest:
            factor = int(rng.integers(2, 4))
            total, event, sign, amount = total * factor, ("doubles", "triples")[factor - 2], "*", factor
        elif total > amount and rng.random() < 0.5:
            total, event, sign = total - amount, f"{rng.choice(LOSSES)} {amount}", "-"
        else:
            total, event, sign = total + amount, f"{rng.choice(GAINS)} {amount}", "+"
        story.append(event)
        steps.append(
            (
                event,
                f"{before}{sign}{amount}={total}",
                total,
                f"{total}-{amount}={before}" if sign == "+" else f"{total}+{amount}={before}" if sign == "-" else "",
            )
        )
    question = f"{', '.join(story)}. How many {thing} does {name} have?"
    return Task(
        "words",
        level,
        question,
        str(total),
        {
            "quick": " ".join(f"{value}." for _, _, value, _ in steps),
            "normal": " ".join(f"{equation}." for _, equation, _, _ in steps),
            "careful": " ".join(
                f"{event}: {equation}." + (f" check {check}." if check else "") for event, equation, _, check in steps
            ),
        },
    )


def signed(value: int) -> str:
    """A number with its sign, as the next term of a sum."""
    return f"+{value}" if value >= 0 else f"{value}"


def equation(rng: np.random.Generator, level: int) -> Task:
    """A linear equation: more terms and brackets, on both sides, as the level rises."""
    largest = (9, 9, 9, 9, 9, 12, 15, 19)[level - 1]
    brackets = (0, 0, 0, 1, 1, 2, 3, 4)[level - 1]
    sides = 1 if level in (1, 2, 4) else 2
    solution = int(rng.integers(1, 10)) * (1 if level <= 3 else int(rng.choice((-1, 1))))
    while True:
        terms = []  # factor, x coefficient, constant; factor 0: no bracket
        for _ in range(brackets):
            terms.append(
                (
                    int(rng.integers(2, 10)) * int(rng.choice((1, 1, -1))),
                    int(rng.integers(1, 4)),
                    int(rng.integers(1, largest)) * int(rng.choice((1, -1))),
                )
            )
        if level <= 3 or level == 5:
            coefficient = int(rng.integers(2, 10)) if level > 1 or rng.random() < 0.5 else 1
            constant = 0 if level == 1 and coefficient > 1 else int(rng.integers(1, 20))
            terms.append((0, coefficient, constant))
        slope = sum((f or 1) * a for f, a, _ in terms)
        intercept = sum((f or 1) * b for f, _, b in terms)
        right_slope = int(rng.integers(1, 10)) if sides == 2 else 0
        if slope - right_slope not in (0,) and (level > 3 or slope > right_slope):
            break
    right_constant = slope * solution + intercept - right_slope * solution

    def line(coefficient: int, constant: int) -> str:
        x = {1: "x", -1: "-x", 0: ""}.get(coefficient, f"{coefficient}x")
        return (x + (signed(constant) if constant else "")) if x else str(constant)

    left = ""
    for f, a, b in terms:
        text = f"{f}({line(a, b)})" if f else line(a, b)
        left += text if not left or text[0] == "-" else f"+{text}"
    right = line(right_slope, right_constant) if right_slope else str(right_constant)
    net, constant = slope - right_slope, right_constant - intercept
    expanded = [(f"{f}({line(a, b)})", line(f * a, f * b)) for f, a, b in terms if f]
    collected = f"{line(slope, intercept)}={right}"
    moved = [f"{line(slope, intercept)}={right}"] * (len(terms) > 1)
    if right_slope:
        moved.append(f"{line(net, intercept)}={right_constant}")
    if intercept:
        moved.append(f"{line(net, 0)}={constant}")
    if net != 1:
        moved.append(f"x={solution}")
    sums = []
    if len(terms) > 1:  # collect term by term, which the other styles do in the head
        x, c = (terms[0][0] or 1) * terms[0][1], (terms[0][0] or 1) * terms[0][2]
        for f, a, b in terms[1:]:
            f = f or 1
            sums.append(f"{x}{signed(f * a)}={x + f * a}. {c}{signed(f * b)}={c + f * b}")
            x, c = x + f * a, c + f * b
    check = (
        f"{slope}*{solution}={slope * solution}. {slope * solution}{signed(intercept)}={slope * solution + intercept}"
    )
    if not moved:
        moved = [f"x={solution}"]
    expansions = [f"{a}={b}" for a, b in expanded]
    return Task(
        "equation",
        level,
        f"Solve {left}={right} for x.",
        str(solution),
        {
            "quick": f"{collected}. x={solution}." if level > 3 else f"x={solution}.",
            "normal": " ".join(f"{part}." for part in expansions + moved),
            "careful": " ".join(f"{part}." for part in [*expansions, *sums, *moved]) + f" check {check}.",
        },
    )


def gcd(rng: np.random.Generator, level: int) -> Task:
    """Euclid's algorithm: how many divisions it takes is hard to see from the two numbers."""
    largest = (30, 60, 99, 250, 600, 999, 2500, 9999)[level - 1]
    common = int(np.exp(rng.uniform(0, np.log(largest / 8))))
    a, b = (common * int(k) for k in rng.integers(2, max(4, largest // common), size=2))
    a, b = max(a, b) + common * (a == b), min(a, b)
    question = f"Find the greatest common divisor of {a} and {b}."
    quick, normal, careful = [], [], []
    while b:
        quotient, rest = divmod(a, b)
        quick.append(f"{rest}.")
        normal.append(f"{a}={quotient}*{b}+{rest}.")
        careful.append(f"{a} by {b}: {quotient}*{b}={quotient * b}. {a}-{quotient * b}={rest}.")
        a, b = b, rest
    return Task(
        "gcd",
        level,
        question,
        str(a),
        {"quick": " ".join(quick), "normal": " ".join(normal), "careful": " ".join(careful)},
    )


PRIMES = tuple(p for p in range(2, 100) if all(p % q for q in range(2, p)))


def factor(rng: np.random.Generator, level: int) -> Task:
    """Trial division: a number with a small factor is done at once, a prime only at its square root."""
    low, high = ((8, 100), (20, 200), (40, 300), (100, 500), (300, 999), (500, 1500), (900, 2500), (1500, 3600))[
        level - 1
    ]
    number = int(rng.integers(low, high))
    while number % 2 == 0 and rng.random() < 0.8:
        number = int(rng.integers(low, high))
    quick, normal, careful = [], [], []
    answer = number
    for prime in PRIMES:
        if prime * prime > number:
            quick.append("prime.")
            normal.append(f"{prime}*{prime}={prime * prime}, prime.")
            careful.append(f"{prime}*{prime}={prime * prime}, more than {number}, so prime.")
            break
        quotient, rest = divmod(number, prime)
        quick.append(f"{prime}: {rest}.")
        normal.append(f"{number}={prime}*{quotient}+{rest}.")
        careful.append(f"by {prime}: {long_division(number, prime)} rest {rest}.")
        if rest == 0:
            answer = prime
            break
    return Task(
        "factor",
        level,
        f"Find the smallest prime factor of {number}.",
        str(answer),
        {"quick": " ".join(quick), "normal": " ".join(normal), "careful": " ".join(careful)},
    )


def long_division(number: int, divisor: int) -> str:
    """The remainders of a division digit by digit: ``22-13=9, 91-91=0``."""
    rest, lines = 0, []
    for digit in str(number):
        value = 10 * rest + int(digit)
        multiple = value // divisor * divisor
        rest = value - multiple
        if value >= divisor:
            lines.append(f"{value}-{multiple}={rest}")
    return ", ".join(lines) or f"{number}"


def steps(rng: np.random.Generator, level: int) -> Task:
    """The 3n+1 walk from one number to another: the two numbers hardly tell how many steps lie between."""
    low, high = ((1, 3), (2, 5), (4, 8), (6, 10), (8, 13), (11, 16), (14, 20), (18, 26))[level - 1]
    largest = (50, 99, 99, 200, 400, 600, 900, 999)[level - 1]
    while True:
        length = int(rng.integers(low, high + 1))
        walk = [int(rng.integers(4, largest))]
        while walk[-1] != 1 and len(walk) <= length:
            walk.append(3 * walk[-1] + 1 if walk[-1] % 2 else walk[-1] // 2)
        if len(walk) == length + 1 and max(walk) < 10_000:
            break
    moves = list(zip(range(1, length + 1), walk, walk[1:], strict=False))
    question = (
        f"{rng.choice(NAMES)} starts at {walk[0]}, halves an even number and turns an odd number n into 3n+1. "
        f"How many steps to reach {walk[-1]}?"
    )
    return Task(
        "steps",
        level,
        question,
        str(length),
        {
            "quick": " ".join(f"{after}." for _, _, after in moves),
            "normal": " ".join(f"{count}: {after}." for count, _, after in moves),
            "careful": " ".join(
                f"{count}: {before} odd, 3*{before}={after - 1}, {after}."
                if before % 2
                else f"{count}: {before} even, {before}/2={after}."
                for count, before, after in moves
            ),
        },
    )


FAMILIES: dict[str, Callable[[np.random.Generator, int], Task]] = {
    "words": words,
    "equation": equation,
    "gcd": gcd,
    "factor": factor,
    "steps": steps,
}


def numbers(question: str) -> str:
    """A question without its letters: its numbers and signs."""
    return "".join(character for character in question if not character.isalpha())


def belongs(question: str, split: str) -> bool:
    """Whether a question belongs to a split: by a hash of its numbers and signs, so that the same sum told of
    other people and things is in the same split too."""
    return blake2b(numbers(question).encode(), digest_size=1).digest()[0] % 16 in SPLITS[split][1]


def draw(rng: np.random.Generator, split: str, family: str, level: int) -> Task:
    """One question of a family and level that belongs to ``split``."""
    while not belongs((task := FAMILIES[family](rng, level)).question, split):
        pass
    return task


def training_stream(seed: int, largest_level: int = 8) -> Iterator[tuple[str, str]]:
    """Endless training examples: the question and one worked solution, its style drawn by level."""
    rng = np.random.default_rng((SPLITS["train"][0], seed))
    families = tuple(FAMILIES)
    shares = LEVEL_SHARES[:largest_level] / LEVEL_SHARES[:largest_level].sum()
    while True:
        level = 1 + int(rng.choice(largest_level, p=shares))
        task = draw(rng, "train", families[rng.integers(len(families))], level)
        yield task.question, task.solution(STYLES[rng.choice(3, p=STYLE_SHARES[level])])


def questions(split: str, tier: str, n: int) -> pd.DataFrame:
    """The first ``n`` questions of a tier: no text twice, none that an easier tier has, no numbers of other splits.

    Parameters
    ----------
    split : {"train", "predictor", "evaluation"}
        Each split has a seed and a part of the hash space of question texts to itself.
    tier : {"easy", "moderate", "hard", "very hard"}
        Range of families and levels, see :data:`TIER_LEVELS`.
    n : int
        Number of questions; a larger ``n`` extends the same list.

    Returns
    -------
    pandas.DataFrame
        Columns ``question_id, dataset, tier, split, question, gold``; ``dataset`` is the family.

    Raises
    ------
    ValueError
        For an unknown split or tier, or more questions than :data:`LONGEST_LIST`.
    """
    import pandas as pd

    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    if tier not in TIER_LEVELS:
        raise ValueError(f"unknown tier {tier!r}; known: {', '.join(TIER_LEVELS)}")
    if n > LONGEST_LIST:
        raise ValueError(f"a tier has at most {LONGEST_LIST} questions, {n} are asked for")
    rows = [
        (f"{split}-{tier.replace(' ', '-')}-{row:05d}", task.family, tier, split, task.question, task.answer)
        for row, task in enumerate(_listed(split, tier)[:n])
    ]
    return pd.DataFrame(rows, columns=["question_id", "dataset", "tier", "split", "question", "gold"])


@cache
def _listed(split: str, tier: str) -> tuple[Task, ...]:
    """All questions of a tier. A text that an easier tier has too stays there."""
    rng = np.random.default_rng((SPLITS[split][0], TIERS.index(tier)))
    levels, families = TIER_LEVELS[tier], tuple(TIER_LEVELS[tier])
    seen = {task.question for easier in TIERS[: TIERS.index(tier)] for task in _listed(split, easier)}
    listed: list[Task] = []
    while len(listed) < LONGEST_LIST:
        family = families[rng.integers(len(families))]
        task = draw(rng, split, family, int(rng.choice(levels[family])))
        if task.question not in seen:
            seen.add(task.question)
            listed.append(task)
    return tuple(listed)
