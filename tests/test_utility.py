import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clear_lib.utility import Surge

velocities = st.floats(1e-3, 1e3)
decays = st.floats(1e-5, 1.0)


def test_peak_is_at_one_over_decay():
    # Eq. 1: the peak is at s = 1/β with value v0/(eβ).
    utility = Surge(velocity=2.0, decay=0.01)
    assert utility.peak == 100.0
    assert utility.value(100.0) == pytest.approx(2.0 / (np.e * 0.01))
    assert utility.marginal(100.0) == pytest.approx(0.0)
    assert utility.value([-5.0, 0.0, 99.0, 101.0]) == pytest.approx([0, 0, *(2 * s * np.exp(-s / 100) for s in (99, 101))])
    assert utility.marginal([-5.0, 0.0]) == pytest.approx([0.0, 2.0])


@given(velocities, decays, st.floats(0.01, 10.0))
def test_marginal_is_the_derivative_of_value(velocity, decay, peaks):
    utility = Surge(velocity, decay)
    surge, step = peaks / decay, 1e-5 / decay
    slope = (utility.value(surge + step) - utility.value(surge - step)) / (2 * step)
    assert utility.marginal(surge) == pytest.approx(slope, rel=1e-6, abs=1e-8 * velocity)


@given(velocities, decays, st.floats(0.0, 1.0))
def test_best_response_meets_the_price(velocity, decay, part):
    utility = Surge(velocity, decay)
    surge = utility.best_response(part * velocity)
    assert 0 <= surge <= utility.peak
    assert utility.marginal(surge) == pytest.approx(part * velocity, rel=1e-7, abs=1e-9 * velocity)


@given(velocities, decays, st.floats(0.0, 0.999))
def test_best_response_beats_every_other_surge(velocity, decay, part):
    utility = Surge(velocity, decay)
    price = part * velocity
    others = np.linspace(0, 5, 400) / decay
    best = utility.best_response(price)
    surplus = utility.value(best) - price * best
    assert surplus >= (utility.value(others) - price * others).max() - 1e-9 * velocity / decay


def test_best_response_is_vectorised_and_ends_at_the_reservation_price():
    utility = Surge(velocity=np.array([1.0, 2.0]), decay=np.array([0.01, 0.02]))
    assert utility.best_response(0.0) == pytest.approx([100.0, 50.0])
    assert utility.best_response(1.5)[0] == 0.0
    assert 0 < utility.best_response(1.5)[1] < 50
    falling = Surge(1.0, 0.01).best_response(np.linspace(0, 1, 50))
    assert (np.diff(falling) < 0).all()


@pytest.mark.parametrize(("name", "value"), [("velocity", 0.0), ("velocity", np.nan), ("decay", -1.0), ("decay", np.inf)])
def test_parameters_must_be_positive(name, value):
    with pytest.raises(ValueError, match=name):
        Surge(**{"velocity": 1.0, "decay": 1.0, name: value})


@pytest.mark.parametrize("price", [-0.1, np.nan])
def test_price_must_not_be_negative(price):
    with pytest.raises(ValueError, match="price"):
        Surge(1.0, 1.0).best_response(price)
