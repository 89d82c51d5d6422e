"""The transcription of the paper's tables, held to its own sums."""

import pandas as pd
import pytest

from clear_lib.allocation.policies import POLICIES
from clear_lib.study.setup import paper
from clear_lib.study.setup.streams import STREAMS


@pytest.mark.parametrize("table", [paper.TABLE_1, paper.TABLE_4])
def test_names_are_the_librarys_and_accuracies_multiples_of_one_in_500(table):
    assert set(table) <= set(POLICIES)
    assert table.index.unique("stream").tolist() == list(STREAMS) and table.notna().all(axis=None)
    counts = (table * paper.STREAM_SIZE / 100).to_numpy()
    assert counts == pytest.approx(counts.round(), abs=1e-6)


def test_the_printed_gains_are_clear_minus_uniform():
    for table, gains in ((paper.TABLE_1, paper.TABLE_1_GAIN), (paper.TABLE_4, paper.TABLE_4_GAIN)):
        assert (table["clear"] - table["uniform"]).to_numpy() == pytest.approx(gains.to_numpy(), abs=0.05)


def test_pass_rates_are_correct_over_total_but_for_the_one_row_the_paper_gets_wrong():
    wrong = [
        row.name
        for row in pd.concat([paper.TABLE_6, paper.TABLE_7]).itertuples()
        if abs(100 * row.correct / row.total - row.pass_at_1) > 0.05001
    ]
    assert wrong == ["GSM8K"]  # 1,025 of 1,319 is 77.7%, not 78.5%


def test_reference_length_and_the_budgets_as_fractions_of_it():
    assert paper.REFERENCE_LENGTH == pytest.approx(1311, abs=0.5)
    small, large = paper.STUDIES.values()
    assert small.budgets_of((0.195, 0.39, 0.78, 1.56)) == dict(
        zip((0.195, 0.39, 0.78, 1.56), paper.BUDGETS, strict=True)
    )
    assert small.budgets_of([0.8, 0.2]) == {0.2: 256, 0.8: 1024}
    assert large.budgets_of([2.0, 0.5]) == {0.5: 1024, 2.0: 4096}


def test_a_model_has_its_study():
    assert paper.study_of("replica of Qwen3-30B-A3B-Instruct (simulated)").number == 4
    assert paper.study_of("embedded").number == 1
