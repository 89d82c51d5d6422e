import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clear_lib.allocation.utility import LogNormal, Quadratic, Surge, Triangular

velocities = st.floats(1e-3, 1e3)
decays = st.floats(1e-5, 1.0)

#: Every shape, scaled so that 100 tokens are about its width.
SHAPES = {
    "surge": Surge(2.0, 0.01),
    "triangular": Triangular(7.0, 90.0, 200.0),
    "quadratic": Quadratic(7.0, 200.0),
    "log-normal": LogNormal(4.5, 0.6, 0.8),
    "log-normal, narrow": LogNormal(4.5, 0.01, 0.8),
}
every_shape = pytest.mark.parametrize("utility", SHAPES.values(), ids=SHAPES)


def test_peak_is_at_one_over_decay():
    # Eq. 1: the peak is at s = 1/β with value v0/(eβ).
    utility = Surge(velocity=2.0, decay=0.01)
    assert utility.peak == 100.0
    assert utility.value(100.0) == pytest.approx(2.0 / (np.e * 0.01))
    assert utility.marginal(100.0) == pytest.approx(0.0)
    assert utility.value([-5.0, 0.0, 99.0, 101.0]) == pytest.approx(
        [0, 0, *(2 * s * np.exp(-s / 100) for s in (99, 101))]
    )
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


@pytest.mark.parametrize(
    ("name", "value"), [("velocity", 0.0), ("velocity", np.nan), ("decay", -1.0), ("decay", np.inf)]
)
def test_parameters_must_be_positive(name, value):
    with pytest.raises(ValueError, match=name):
        Surge(**{"velocity": 1.0, "decay": 1.0, name: value})


@pytest.mark.parametrize("price", [-0.1, np.nan])
def test_price_must_not_be_negative(price):
    with pytest.raises(ValueError, match="price"):
        Surge(1.0, 1.0).best_response(price)


# ---- every shape --------------------------------------------------------------------------------------------


def before_the_peak(utility):
    return np.geomspace(1e-3, min(utility.peak, 2000.0), 4001)[:-1]


@every_shape
def test_every_marginal_is_the_derivative(utility):
    surge = before_the_peak(utility)
    step = 1e-6 * surge
    slope = (utility.value(surge + step) - utility.value(surge - step)) / (2 * step)
    assert utility.marginal(surge) == pytest.approx(slope, rel=1e-4, abs=1e-6)
    assert (utility.marginal(surge) <= utility.steepest * (1 + 1e-9)).all()
    assert (utility.value(surge) <= utility.value(utility.peak)).all()


@every_shape
def test_every_best_response_is_the_best(utility):
    grid = np.concatenate([[0.0], before_the_peak(utility)])
    for price in utility.steepest * np.array([1e-6, 1e-3, 0.1, 0.5, 0.9, 0.999]):
        best = utility.best_response(price)
        surplus = utility.value(best) - price * best
        best_of_grid = (utility.value(grid) - price * grid).max()
        # The response of a log-normal is the top of its hump; no tokens at all may be better still.
        assert max(surplus, 0.0) >= best_of_grid - 1e-9 * utility.value(utility.peak)
    assert utility.best_response(0.0) == utility.peak
    assert utility.best_response(1.001 * utility.steepest) == 0.0
    assert np.shape(utility.best_response(np.array([0.1, 0.2]))) == (2,)


@every_shape
def test_the_least_surge_has_the_most_value_per_token(utility):
    grid = before_the_peak(utility)
    for threshold in [0.0] if isinstance(utility, LogNormal) else [1e-3, 1.0, 100.0, 1e6]:
        least = utility.least_surge(threshold)
        per_token = utility.value(least) / (threshold + least)
        assert per_token >= (utility.value(grid) / (threshold + grid)).max() * (1 - 1e-9)


@every_shape
def test_before_the_threshold_there_is_nothing(utility):
    assert utility.value(np.array([-5.0, 0.0])).tolist() == [0.0, 0.0]
    assert utility.marginal(np.array([-5.0])).tolist() == [0.0]


def test_shapes_by_example():
    tent = Triangular(10.0, 50.0, 150.0)
    assert tent.value([0, 25, 50, 100, 150, 200]).tolist() == [0, 5, 10, 5, 0, 0]
    assert tent.best_response([0.0, 0.19, 0.2]).tolist() == [50, 50, 0]
    hill = Quadratic(10.0, 100.0)
    assert hill.value([0, 25, 50, 100, 120]).tolist() == [0, 7.5, 10, 0, 0]
    assert hill.best_response([0.0, 0.2, 0.4]).tolist() == [50, 25, 0]
    chance = LogNormal(np.log(100.0), 0.5, 0.6)
    assert chance.value([100.0, np.inf]) == pytest.approx([0.3, 0.6])


def test_the_other_shapes_have_the_peak_of_the_surge_that_they_are_like():
    surge = Surge(np.array([1.0, 3.0]), np.array([0.01, 0.02]))
    for shape in (Triangular, Quadratic):
        utility = shape.like(surge)
        assert utility.peak == pytest.approx(surge.peak)
        assert utility.value(utility.peak) == pytest.approx(surge.value(surge.peak))


def test_the_roots_of_the_log_normal():
    # The response solves U'(t) = λ, to the right of the mode exp(μ - σ²).
    utility = LogNormal(np.array([3.0, 5.0, 7.0]), np.array([0.2, 0.6, 1.5]), np.array([1.0, 0.5, 0.1]))
    price = 0.5 * utility.steepest
    tokens = utility.best_response(price)
    assert utility.marginal(tokens) == pytest.approx(price)
    assert (tokens > np.exp(utility.log_median - utility.spread**2)).all()


def test_a_log_normal_at_its_ends():
    utility = LogNormal(np.log([100.0, 100.0, 100.0]), np.array([0.0, 0.5, 0.5]), np.array([1.0, 0.0, 1.0]))
    assert utility.best_response(1e-3)[0] == pytest.approx(100, rel=1e-4)
    assert utility.value(100.01)[0] == 1.0 and utility.value(99.99)[0] == 0.0
    assert utility.best_response(1e-3)[1] == 0.0 and utility.best_response(0.0)[1] == 0.0
    assert utility.best_response(0.0)[2] == np.inf and utility.value(np.inf)[2] == 1.0
    with pytest.raises(ValueError, match="thresholds must be 0"):
        utility.least_surge(5.0)


def test_parts_of_a_utility():
    utility = Surge(np.array([1.0, 2.0, 3.0]), 0.01)
    assert not utility.shared and Surge(1.0, 0.01).shared
    assert utility.at(np.array([2, 0])).velocity.tolist() == [3.0, 1.0]
    assert utility.at(slice(2)).value(100.0) == pytest.approx(utility.value(100.0)[:2])
    assert utility.at(slice(2)).decay == 0.01


@pytest.mark.filterwarnings("error")
@given(
    st.floats(-9, 1),
    st.floats(0, 7),
    st.floats(-6, 6),
    st.one_of(st.floats(0, 1), st.floats(-300, 0).map(lambda x: 10**x)),
)
def test_nothing_overflows_at_the_ends(log_decay, log_threshold, log_velocity, part):
    surge = Surge(10**log_velocity, 10**log_decay)
    threshold = 10**log_threshold
    chance = LogNormal(np.log(threshold), 0.5, 0.5)
    for utility in (surge, Triangular.like(surge), Quadratic.like(surge), chance):
        for price in (part * utility.steepest, np.nextafter(utility.steepest, part)):
            best = utility.best_response(price)
            least = utility.least_surge(0.0 if utility is chance else threshold)
            numbers = [
                least,
                utility.value(least),
                utility.marginal(least),
                utility.value(best),
                utility.marginal(best),
            ]
            assert np.isfinite(numbers).all()
            assert (np.asarray(numbers[:2]) >= 0).all()
            assert 0 <= best <= utility.peak
            if utility is surge and price < utility.steepest:
                assert utility.marginal(best) == pytest.approx(price, rel=1e-6, abs=1e-9 * utility.steepest)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Triangular(1.0, 50.0, 50.0), "support must be above peak"),
        (lambda: Triangular(0.0, 50.0, 60.0), "height must be positive"),
        (lambda: Quadratic(1.0, np.nan), "support must be positive"),
        (lambda: LogNormal(np.inf, 1.0), "log_median must be finite"),
        (lambda: LogNormal(1.0, -1.0), "spread must be finite and at least 0"),
        (lambda: LogNormal(1.0, 1.0, 1.5), "solvable must be between 0 and 1"),
    ],
)
def test_bad_shapes(make, message):
    with pytest.raises(ValueError, match=message):
        make()
