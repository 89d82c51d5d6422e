"""The generated questions: right answers, right equations, no text shared between splits."""

import re
from itertools import islice
from math import gcd

import numpy as np
import pytest

from clear_lib.reasoner import tasks


def drawn(family, level, n=25):
    rng = np.random.default_rng(level)
    return [tasks.draw(rng, "train", family, level) for _ in range(n)]


@pytest.mark.parametrize("family", tasks.FAMILIES)
@pytest.mark.parametrize("level", tasks.STYLE_SHARES)
def test_every_equation_in_a_solution_without_letters_is_true(family, level):
    checked = 0
    for task in drawn(family, level):
        for style in tasks.STYLES:
            for left, right in re.findall(
                r"(?<![\dx)+*/-])(-?\d[-\d+*/]*)=(-?\d[-\d+*]*)(?=[.,: ]|$)", task.work[style]
            ):
                assert eval(left.replace("/", "//")) == eval(right), (task.question, style, left, right)
                checked += 1
    assert checked > 0


def independent_answer(task):
    numbers = [int(number) for number in re.findall(r"\d+", task.question)]
    if task.family == "gcd":
        return gcd(*numbers)
    if task.family == "factor":
        return next(k for k in range(2, numbers[0] + 1) if numbers[0] % k == 0)
    if task.family == "steps":
        number, count = numbers[0], 0
        while number != numbers[-1]:
            number, count = (number // 2 if number % 2 == 0 else 3 * number + 1), count + 1
        return count
    if task.family == "equation":
        left, right = re.fullmatch(r"Solve (.*)=(.*) for x\.", task.question).groups()
        value = [[eval(re.sub(r"(?<=[\d)])(?=[x(])", "*", side), {"x": x}) for side in (left, right)] for x in (0, 1)]
        (l0, r0), (l1, r1) = value
        return (r0 - l0) / ((l1 - l0) - (r1 - r0))
    total = None
    for part in task.question.split(". ")[0].split(", "):
        amount = int(re.search(r"\d+", part).group()) if re.search(r"\d", part) else 0
        if total is None:
            total = amount
        elif "doubles" in part or "triples" in part:
            total *= 2 if "doubles" in part else 3
        else:
            total += amount if part.split()[0] in tasks.GAINS else -amount
    return total


@pytest.mark.parametrize("family", tasks.FAMILIES)
@pytest.mark.parametrize("level", tasks.STYLE_SHARES)
def test_the_answer_is_the_questions_answer(family, level):
    for task in drawn(family, level):
        assert float(task.answer) == independent_answer(task), task.question


@pytest.mark.parametrize("family", tasks.FAMILIES)
def test_careful_solutions_are_longer_than_quick_ones(family):
    for level in tasks.STYLE_SHARES:
        mean = {style: np.mean([len(task.work[style]) for task in drawn(family, level)]) for style in tasks.STYLES}
        assert mean["quick"] <= mean["normal"] < mean["careful"]


def test_no_question_is_in_two_splits():
    texts = {
        split: {text for tier in tasks.TIERS for text in tasks.questions(split, tier, 400).question}
        for split in tasks.SPLITS
    }
    texts["training"] = {question for question, _ in islice(tasks.training_stream(1), 20_000)}
    assert not texts["evaluation"] & texts["predictor"]
    assert not texts["training"] & (texts["evaluation"] | texts["predictor"])
    assert all(tasks.belongs(text, "train") for text in texts["training"])


@pytest.mark.parametrize("tier", tasks.TIERS)
def test_questions_are_distinct_and_a_longer_list_extends_a_shorter_one(tier):
    long = tasks.questions("evaluation", tier, 300)
    assert long.question.is_unique and long.question_id.is_unique
    assert long.head(50).equals(tasks.questions("evaluation", tier, 50))


def test_unknown_split_and_tier_are_named():
    with pytest.raises(ValueError, match="'validation'.*train, predictor, evaluation"):
        tasks.questions("validation", "easy", 1)
    with pytest.raises(ValueError, match="'simple'.*very hard"):
        tasks.questions("train", "simple", 1)
