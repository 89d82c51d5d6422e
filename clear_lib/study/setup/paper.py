"""The paper's printed tables (``paper.yaml``): accuracies in per cent, lengths and budgets in tokens."""

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

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

_PRINTED = yaml.safe_load(Path(__file__).with_name("paper.yaml").read_text(encoding="utf-8"))
_COLUMNS = ["use", "name", "split", "total", "correct", "pass_at_1", "mean_length", "tier"]


def _by_stream(rows: dict[str, Any], budgets: Iterable[int]) -> pd.DataFrame:
    """Accuracies with a row for each ``stream, budget`` (the index) and a column for each policy."""
    return pd.DataFrame(rows, pd.MultiIndex.from_product([STREAMS, budgets], names=["stream", "budget"]))


#: Accuracy by ``stream, budget`` (rows) and policy (columns), and the last printed row: what is gained over Uniform.
TABLE_1, TABLE_4 = _by_stream(_PRINTED["table 1"], BUDGETS), _by_stream(_PRINTED["table 4"], BUDGETS_30B)
TABLE_1_GAIN, TABLE_4_GAIN = TABLE_1.pop("gain"), TABLE_4.pop("gain")

#: Accuracy by benchmark or stream (rows) and policy or utility (columns).
TABLE_2, TABLE_3 = pd.DataFrame(_PRINTED["table 2"]), pd.DataFrame(_PRINTED["table 3"])

#: Settings by name.
TABLE_5 = SimpleNamespace(**_PRINTED["table 5"])

#: A row for each data set and its ``use``: ``evaluation``, or training of the ``predictor``.
TABLE_6, TABLE_7 = (pd.DataFrame(_PRINTED[name], columns=_COLUMNS) for name in ("table 6", "table 7"))


class Study(NamedTuple):
    """The paper's experiment with one model."""

    model: str
    number: int  #: of the table of accuracies
    table: pd.DataFrame
    sets: pd.DataFrame
    cap: int  #: most new tokens of a solution

    @property
    def budgets(self) -> list[int]:
        """Tokens per query of the table."""
        return self.table.index.unique("budget").tolist()

    @property
    def reference(self) -> float:
        """Mean solution length of the evaluation sets, tokens (derived; weighted by questions)."""
        rows = self.sets.query("use == 'evaluation'")
        return float(np.average(rows["mean_length"], weights=rows["total"]))

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
