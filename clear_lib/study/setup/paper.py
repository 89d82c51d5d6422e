"""The numbers that the paper prints, as data: accuracies in per cent, lengths and budgets in tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from clear_lib.study.setup.streams import STREAMS

#: Tokens per query of Table 1 and Table 4.
BUDGETS = (256, 512, 1024, 2048)
BUDGETS_30B = (1024, 4096)

#: Least grant of the proportional rule, tokens (A.2.2: "e.g., 32").
FLOOR = 32

#: Context of Qwen2.5-Math-7B-Instruct, tokens (``max_position_embeddings`` of its configuration).
CONTEXT_7B = 4096

#: Queries of a stream. Inferred: all accuracies of Tables 1 and 4 are multiples of 0.2.
STREAM_SIZE = 500

#: Accuracy by stream and tokens per query; and rows of a table by policy.
Row = Mapping[str, Mapping[int, float]]
Cells = Mapping[str, Row]


def _row(budgets: tuple[int, ...], text: str) -> Row:
    """A printed row: for each stream, the numbers of all budgets."""
    numbers = iter(map(float, text.split()))
    return {stream: {budget: next(numbers) for budget in budgets} for stream in STREAMS}


def _rows(budgets: tuple[int, ...], rows: Mapping[str, str]) -> Cells:
    return {policy: _row(budgets, text) for policy, text in rows.items()}


#: Table 1: accuracy of Qwen2.5-Math-7B-Instruct by policy, stream and tokens per query.
TABLE_1 = _rows(
    BUDGETS,
    {
        "uniform": "3.0 12.4 17.4 21.6  9.0 33.8 45.6 49.0  1.0 5.0 6.8 11.4  4.4 18.4 25.4 27.2",
        "predictor": "0.6 4.6 18.8 22.8  1.8 17.6 46.0 49.0  0.0 1.6 8.2 12.8  0.8 9.0 26.4 27.6",
        "tale-ep": "3.8 6.8 16.0 22.2  7.2 10.8 22.4 39.8  4.2 5.8 9.2 12.0  7.2 10.4 24.6 29.0",
        "clear-heuristic": "11.0 17.0 18.8 22.8  31.6 37.8 46.0 49.0  4.0 7.2 8.2 12.8  17.8 20.6 26.4 27.6",
        "clear-auction": "14.2 15.6 18.8 22.8  32.8 39.2 46.0 49.0  6.0 6.6 8.2 12.8  18.4 22.2 26.4 27.6",
        "clear": "14.6 16.4 18.8 22.8  33.0 40.4 47.6 49.0  6.2 6.8 8.2 12.8  18.6 23.2 26.8 27.6",
        "oracle": "19.0 21.6 23.6 26.0  42.2 48.4 49.8 49.8  9.6 11.4 12.8 16.6  26.4 27.6 30.2 32.8",
    },
)

#: The last row of Table 1: accuracy gained over Uniform, as printed.
TABLE_1_GAIN = _row(BUDGETS, "11.6 4.0 1.4 1.2  24.0 6.6 2.0 0.0  5.2 1.8 1.4 1.4  14.2 4.8 1.4 0.4")

#: Table 2: accuracy of Qwen2.5-Coder-7B, best of n, by policy and benchmark.
TABLE_2: Mapping[str, Mapping[str, float]] = {
    "uniform": {"HumanEval+": 36.8, "MBPP+": 39.4, "BigCodeBench": 16.2},
    "clear": {"HumanEval+": 43.1, "MBPP+": 45.9, "BigCodeBench": 19.8},
}

#: Table 3: accuracy under other utility shapes, "in the most resource-constrained regime".
TABLE_3: Mapping[str, Mapping[str, float]] = {
    "uniform": {"balanced": 5.4, "mostly-hard": 2.2, "u-shaped": 8.2},
    "clear": {"balanced": 19.4, "mostly-hard": 13.4, "u-shaped": 23.8},
    "triangular": {"balanced": 18.8, "mostly-hard": 13.0, "u-shaped": 21.6},
    "quadratic": {"balanced": 19.4, "mostly-hard": 13.4, "u-shaped": 23.6},
}

#: Table 4: accuracy of Qwen3-30B-A3B-Instruct by policy, stream and tokens per query.
TABLE_4 = _rows(
    BUDGETS_30B,
    {
        "uniform": "16.4 26.4  46.6 54.4  6.4 14.2  26.6 30.0",
        "predictor": "8.0 28.0  32.4 55.6  1.8 15.2  13.4 31.6",
        "clear-heuristic": "18.4 28.0  37.2 55.6  9.8 15.2  23.4 31.6",
        "clear-auction": "16.2 24.8  41.0 54.2  7.0 13.0  24.4 29.6",
        "clear": "18.8 26.8  47.4 54.6  8.6 14.8  27.2 30.6",
        "oracle": "28.8 38.0  55.4 57.8  17.4 27.8  33.2 38.0",
    },
)

#: The last row of Table 4: accuracy gained over Uniform, as printed.
TABLE_4_GAIN = _row(BUDGETS_30B, "2.4 0.4  0.8 0.2  2.2 0.6  0.6 0.6")


class Settings(NamedTuple):
    """What Table 5 prints (Appendix; ``v0``, ``β`` and the tolerance of the bisection are lost in our text)."""

    max_new_tokens_7b: int = 8192
    max_new_tokens_30b: int = 16384
    predictor_parameters: int = 86_000_000
    predictor_context: int = 512
    learning_rate: float = 2e-5
    weight_decay: float = 0.01
    batch_size: int = 32
    epochs: int = 10
    bisection_iterations: int = 40
    decoding: str = "greedy"
    predictor: str = "DeBERTa-v3-base"
    training: str = "GSM8K, MATH"
    evaluation: str = "MATH-500, OlympiadBench, AIME 24 and 25, AMC-23, Minerva"


TABLE_5 = Settings()


class DataSet(NamedTuple):
    """A row of Table 6 or 7; ``pass_at_1`` is a percentage, ``mean_length`` tokens, both as printed."""

    use: str
    name: str
    split: str
    total: int
    correct: int
    pass_at_1: float
    mean_length: float
    tier: str


#: Table 6: the data of Qwen2.5-Math-7B-Instruct.
TABLE_6 = (
    DataSet("predictor", "GSM8K", "train", 1319, 1025, 78.5, 77.71, "easy"),
    DataSet("predictor", "MATH", "train", 12500, 9477, 75.8, 658, "moderate"),
    DataSet("evaluation", "MATH 500", "test", 500, 354, 70.8, 1074, "moderate"),
    DataSet("evaluation", "OlympiadBench", "test", 675, 88, 13.0, 1059, "hard"),
    DataSet("evaluation", "AMC-23", "test", 40, 19, 47.5, 1490, "hard"),
    DataSet("evaluation", "AIME 2024", "test", 30, 8, 26.7, 1369, "very hard"),
    DataSet("evaluation", "AIME 2025", "test", 30, 2, 6.7, 1886, "very hard"),
    DataSet("evaluation", "Minerva", "test", 272, 35, 12.9, 2274, "very hard"),
)

#: Table 7: the data of Qwen3-30B-A3B-Instruct.
TABLE_7 = (
    DataSet("predictor", "GSM8K", "train", 1055, 935, 88.6, 1254, "easy"),
    DataSet("predictor", "MATH", "train", 12500, 8246, 66.0, 3763, "moderate"),
    DataSet("evaluation", "MATH 500", "test", 500, 288, 57.6, 9887, "moderate"),
    DataSet("evaluation", "OlympiadBench", "test", 675, 179, 26.5, 9450, "hard"),
    DataSet("evaluation", "AMC-23", "test", 40, 14, 35.0, 13958, "hard"),
    DataSet("evaluation", "AIME 2024", "test", 30, 3, 10.0, 14428, "very hard"),
    DataSet("evaluation", "AIME 2025", "test", 30, 14, 46.7, 14425, "very hard"),
    DataSet("evaluation", "Minerva", "test", 272, 37, 13.6, 10771, "very hard"),
)


class Study(NamedTuple):
    """The paper's experiment with one model."""

    model: str
    number: int  #: of the table of accuracies
    table: Cells
    sets: tuple[DataSet, ...]
    cap: int  #: most new tokens of a solution

    @property
    def budgets(self) -> list[int]:
        """Tokens per query of the table."""
        return list(next(iter(self.table["uniform"].values())))

    @property
    def reference(self) -> float:
        """Mean solution length of the evaluation sets, tokens (derived; weighted by questions)."""
        rows = [row for row in self.sets if row.use == "evaluation"]
        return sum(row.total * row.mean_length for row in rows) / sum(row.total for row in rows)

    def budgets_of(self, scarcities: Iterable[float]) -> dict[float, int]:
        """The printed budget, in tokens, that each budget of ours (a fraction of our mean length) is compared with.

        As many budgets as are printed are those in order; else it is the one nearest as a fraction of the mean length.
        """
        found = sorted(set(scarcities))
        if len(found) == len(self.budgets):
            return dict(zip(found, self.budgets, strict=True))
        return {each: min(self.budgets, key=lambda tokens: abs(tokens / self.reference - each)) for each in found}


#: The two experiments of the paper, by the size of their model.
STUDIES = {
    "7b": Study("Qwen2.5-Math-7B-Instruct", 1, TABLE_1, TABLE_6, TABLE_5.max_new_tokens_7b),
    "30b": Study("Qwen3-30B-A3B-Instruct", 4, TABLE_4, TABLE_7, TABLE_5.max_new_tokens_30b),
}

#: Mean solution length of the evaluation pool of Table 6, tokens.
REFERENCE_LENGTH = STUDIES["7b"].reference


def study_of(model: str) -> Study:
    """The study that a model's results are compared with: that of the 30B model if the name says so, else the 7B."""
    return STUDIES["30b" if "30b" in model.casefold() else "7b"]
