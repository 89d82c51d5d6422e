"""The questions of the embedded reasoner and their worked solutions.

Five families of short maths questions, each with a difficulty ``level`` from 1 to 8, and for every question three
worked solutions: *quick* (results only), *normal* (one equation a step) and *careful* (what is done, the equation,
often a check). Only the draw is random, and no solution contains a mistake. Two things are planted on purpose: careful
solutions are longer than quick ones, and :data:`STYLE_SHARES` prefers longer styles on harder levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

STYLES = ("quick", "normal", "careful")

#: Families and levels of each tier, a level twice to draw it twice as often. Chosen after training, by the
#: accuracy on questions that are not in the training data, so that the tiers differ as those of Table 6 do.
TIER_LEVELS: dict[str, dict[str, tuple[int, ...]]] = {
    "easy": {"words": (1, 1, 2), "gcd": (1,)},
    "moderate": {"words": (3, 4), "equation": (2, 3), "gcd": (2, 3), "factor": (3, 4, 5, 6, 7, 8), "steps": (3, 4)},
    "hard": {"words": (5, 6), "equation": (4, 5), "gcd": (4, 5, 6), "steps": (7, 8)},
    "very hard": {"words": (7, 8), "equation": (6, 7, 8), "gcd": (7, 8)},
}
TIERS = tuple(TIER_LEVELS)

#: Share of quick, normal and careful solutions in the training data, by level.
STYLE_SHARES = {
    **dict.fromkeys((1, 2), (0.45, 0.35, 0.20)),
    **dict.fromkeys((3, 4), (0.30, 0.40, 0.30)),
    **dict.fromkeys((5, 6, 7, 8), (0.20, 0.40, 0.40)),
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
    question: str
    answer: str
    work: dict[str, str]

    def solution(self, style: str) -> str:
        """Text that the model learns to write after the prompt, from the opening style to the box."""
        return f"{style.capitalize()}. {self.work[style]} \\boxed{{{self.answer}}}"


#: What a family draws: a question, its answer, and the quick, normal and careful text of each step.
Draw = tuple[str, int, list[tuple[str, str, str]]]

NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivan", "Jo", "Kim", "Leo")
THINGS = ("apples", "books", "cards", "coins", "eggs", "pens", "shells", "stamps")
GAINS, LOSSES = ("buys", "finds", "wins", "gets"), ("sells", "loses", "gives", "eats")


def words(rng: np.random.Generator, level: int) -> Draw:
    """A story of gains, losses and multiplications: the level decides how many."""
    largest = (20, 40, 60, 90, 200, 400, 700, 900)[level - 1]
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    total = int(rng.integers(2, largest))
    story, steps = [f"{name} has {total} {thing}"], []
    for _ in range((1, 2, 3, 4, 5, 7, 9, 11)[level - 1]):
        amount, before = int(rng.integers(2, largest)), total
        if level >= 3 and rng.random() < 0.15 and total <= largest:
            amount = int(rng.integers(2, 4))
            total, event, sign, inverse = total * amount, ("doubles", "triples")[amount - 2], "*", ""
        elif total > amount and rng.random() < 0.5:
            total, event, sign, inverse = total - amount, f"{rng.choice(LOSSES)} {amount}", "-", "+"
        else:
            total, event, sign, inverse = total + amount, f"{rng.choice(GAINS)} {amount}", "+", "-"
        story.append(event)
        result = f"{before}{sign}{amount}={total}."
        check = f" check {total}{inverse}{amount}={before}." if inverse else ""
        steps.append((f"{total}.", result, f"{event}: {result}{check}"))
    return f"{', '.join(story)}. How many {thing} does {name} have?", total, steps


def _line(coefficient: int, constant: int) -> str:
    """A linear expression as it is written: ``3x-5``, ``-x``, ``7``."""
    x = {1: "x", -1: "-x", 0: ""}.get(coefficient, f"{coefficient}x")
    return x + (f"{constant:+}" if constant else "") if x else str(constant)


def _left_side(rng: np.random.Generator, level: int) -> list[tuple[int, int, int]]:
    """Terms ``(factor, coefficient, constant)`` of a left side; a factor of 1 has no bracket."""
    largest = (9, 9, 9, 9, 9, 12, 15, 19)[level - 1]
    terms = []
    for _ in range((0, 0, 0, 1, 1, 2, 3, 4)[level - 1]):
        factor = int(rng.integers(2, 10)) * int(rng.choice((1, 1, -1)))
        coefficient = int(rng.integers(1, 4))
        terms.append((factor, coefficient, int(rng.integers(1, largest)) * int(rng.choice((1, -1)))))
    if level <= 3 or level == 5:
        coefficient = int(rng.integers(2, 10)) if level > 1 or rng.random() < 0.5 else 1
        terms.append((1, coefficient, 0 if level == 1 and coefficient > 1 else int(rng.integers(1, 20))))
    return terms


def equation(rng: np.random.Generator, level: int) -> Draw:
    """A linear equation: more terms and brackets, on both sides, as the level rises."""
    solution = int(rng.integers(1, 10)) * (1 if level <= 3 else int(rng.choice((-1, 1))))
    net = 0
    while net == 0 or (level <= 3 and net < 0):
        terms = _left_side(rng, level)
        right_slope = 0 if level in (1, 2, 4) else int(rng.integers(1, 10))
        slope, intercept = sum(f * a for f, a, _ in terms), sum(f * b for f, _, b in terms)
        net = slope - right_slope
    right_constant = net * solution + intercept
    right = _line(right_slope, right_constant)
    parts = [_line(a, b) if f == 1 else f"{f}({_line(a, b)})" for f, a, b in terms]
    expanded = [f"{part}={_line(f * a, f * b)}" for part, (f, a, b) in zip(parts, terms, strict=True) if f != 1]
    collected = f"{_line(slope, intercept)}={right}"
    moved = [collected] if len(terms) > 1 else []
    if right_slope:
        moved.append(f"{_line(net, intercept)}={right_constant}")
    if intercept:
        moved.append(f"{_line(net, 0)}={right_constant - intercept}")
    if net != 1 or not moved:
        moved.append(f"x={solution}")
    sums, (x, c) = [], (terms[0][0] * terms[0][1], terms[0][0] * terms[0][2])
    for f, a, b in terms[1:]:  # collect term by term, which the other styles do in the head
        sums.append(f"{x}{f * a:+}={x + f * a}. {c}{f * b:+}={c + f * b}")
        x, c = x + f * a, c + f * b
    product = slope * solution
    check = f"check {slope}*{solution}={product}. {product}{intercept:+}={product + intercept}"
    quick = [collected, f"x={solution}"] if level > 3 else [f"x={solution}"]
    styles = quick, expanded + moved, [*expanded, *sums, *moved, check]
    work = tuple(" ".join(f"{line}." for line in lines) for lines in styles)
    return f"Solve {'+'.join(parts).replace('+-', '-')}={right} for x.", solution, [work]


def gcd(rng: np.random.Generator, level: int) -> Draw:
    """Euclid's algorithm: how many divisions it takes is hard to see from the two numbers."""
    largest = (30, 60, 99, 250, 600, 999, 2500, 9999)[level - 1]
    common = int(np.exp(rng.uniform(0, np.log(largest / 8))))
    a, b = (common * int(k) for k in rng.integers(2, max(4, largest // common), size=2))
    a, b = max(a, b) + common * (a == b), min(a, b)
    question, steps = f"Find the greatest common divisor of {a} and {b}.", []
    while b:
        quotient, rest = divmod(a, b)
        careful = f"{a} by {b}: {quotient}*{b}={quotient * b}. {a}-{quotient * b}={rest}."
        steps.append((f"{rest}.", f"{a}={quotient}*{b}+{rest}.", careful))
        a, b = b, rest
    return question, a, steps


PRIMES = tuple(p for p in range(2, 100) if all(p % q for q in range(2, p)))
SIZES = ((8, 100), (20, 200), (40, 300), (100, 500), (300, 999), (500, 1500), (900, 2500), (1500, 3600))


def factor(rng: np.random.Generator, level: int) -> Draw:
    """Trial division: a number with a small factor is done at once, a prime only at its square root."""
    number = int(rng.integers(*SIZES[level - 1]))
    while number % 2 == 0 and rng.random() < 0.8:
        number = int(rng.integers(*SIZES[level - 1]))
    question, steps = f"Find the smallest prime factor of {number}.", []
    answer = number
    for prime in PRIMES:
        if prime * prime > number:
            square = f"{prime}*{prime}={prime * prime}"
            steps.append(("prime.", f"{square}, prime.", f"{square}, more than {number}, so prime."))
            break
        quotient, rest = divmod(number, prime)
        careful = f"by {prime}: {long_division(number, prime)} rest {rest}."
        steps.append((f"{prime}: {rest}.", f"{number}={prime}*{quotient}+{rest}.", careful))
        if rest == 0:
            answer = prime
            break
    return question, answer, steps


def long_division(number: int, divisor: int) -> str:
    """The remainders of a division digit by digit: ``22-13=9, 91-91=0``."""
    rest, lines = 0, []
    for digit in str(number):
        value = 10 * rest + int(digit)
        rest = value % divisor
        if value >= divisor:
            lines.append(f"{value}-{value - rest}={rest}")
    return ", ".join(lines) or f"{number}"


def steps(rng: np.random.Generator, level: int) -> Draw:
    """The 3n+1 walk from one number to another: the two numbers hardly tell how many steps lie between."""
    low, high = ((1, 3), (2, 5), (4, 8), (6, 10), (8, 13), (11, 16), (14, 20), (18, 26))[level - 1]
    largest = (50, 99, 99, 200, 400, 600, 900, 999)[level - 1]
    length, walk = 0, [0, 0]
    while len(walk) != length + 1 or max(walk) >= 10_000:
        length = int(rng.integers(low, high + 1))
        walk = [int(rng.integers(4, largest))]
        while walk[-1] != 1 and len(walk) <= length:
            walk.append(3 * walk[-1] + 1 if walk[-1] % 2 else walk[-1] // 2)
    moves = []
    for count, (before, after) in enumerate(zip(walk, walk[1:], strict=False), start=1):
        rule = f"odd, 3*{before}={after - 1}, {after}" if before % 2 else f"even, {before}/2={after}"
        moves.append((f"{after}.", f"{count}: {after}.", f"{count}: {before} {rule}."))
    rules = "halves an even number and turns an odd number n into 3n+1"
    question = f"{rng.choice(NAMES)} starts at {walk[0]}, {rules}. How many steps to reach {walk[-1]}?"
    return question, length, moves


FAMILIES = {family.__name__: family for family in (words, equation, gcd, factor, steps)}


def belongs(question: str, split: str) -> bool:
    """Whether a question belongs to a split: by a hash of all but its letters, so that the same numbers with other
    names and things are in the same split."""
    numbers = "".join(character for character in question if not character.isalpha())
    return blake2b(numbers.encode(), digest_size=1).digest()[0] % 16 in SPLITS[split][1]


def draw(rng: np.random.Generator, split: str, family: str, level: int) -> Task:
    """One question of a family and level that belongs to ``split``."""
    question, answer, steps = FAMILIES[family](rng, level)
    while not belongs(question, split):
        question, answer, steps = FAMILIES[family](rng, level)
    work = {style: " ".join(texts) for style, texts in zip(STYLES, zip(*steps, strict=True), strict=True)}
    return Task(family, question, str(answer), work)


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
    """The first ``n`` questions of a tier (a key of :data:`TIER_LEVELS`) and split (a key of :data:`SPLITS`).

    Columns are ``question_id, dataset, tier, split, question, gold``; ``dataset`` is the family. No text occurs twice
    or in an easier tier, no numbers in another split, and a larger ``n`` extends the same list. ``ValueError`` for an
    unknown split or tier, or more than :data:`LONGEST_LIST` questions.
    """
    for what, given, known in (("split", split, SPLITS), ("tier", tier, TIER_LEVELS)):
        if given not in known:
            raise ValueError(f"unknown {what} {given!r}; known: {', '.join(known)}")
    if n > LONGEST_LIST:
        raise ValueError(f"a tier has at most {LONGEST_LIST} questions, {n} are asked for")
    return _listed(split, tier).head(n).copy()


@cache
def _listed(split: str, tier: str) -> pd.DataFrame:
    """All questions of a tier. A text that an easier tier has too stays there."""
    import pandas as pd

    rank, levels, families = TIERS.index(tier), TIER_LEVELS[tier], tuple(TIER_LEVELS[tier])
    rng = np.random.default_rng((SPLITS[split][0], rank))
    seen = {question for easier in TIERS[:rank] for question in _listed(split, easier)["question"]}
    rows: list[tuple[str, ...]] = []
    while len(rows) < LONGEST_LIST:
        family = families[rng.integers(len(families))]
        task = draw(rng, split, family, int(rng.choice(levels[family])))
        if task.question not in seen:
            seen.add(task.question)
            name = f"{split}-{tier.replace(' ', '-')}-{len(rows):05d}"
            rows.append((name, family, tier, split, task.question, task.answer))
    return pd.DataFrame(rows, columns=["question_id", "dataset", "tier", "split", "question", "gold"])
