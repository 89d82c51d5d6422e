"""The allocation policies of the paper, in one registry, under one call.

:func:`allocate` checks its input, asks a policy for real-valued shares and rounds them to whole tokens. All
numbers are tokens. No policy looks at an engine, and only the oracles see true lengths.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clear_lib.allocation.forecasts import Array, Forecasts, vector
from clear_lib.allocation.market import ROUNDING, adaptive_decay, clear_market, dual_bound, solve, solve_shared
from clear_lib.allocation.stages import Stages, stages
from clear_lib.allocation.utility import LogNormal, Quadratic, Surge, Triangular, Utility


@dataclass(frozen=True, eq=False)
class Allocation:
    """What every query of a batch is granted.

    Attributes
    ----------
    tokens : int64 array of shape (n,)
        Tokens granted; the sum is at most ``budget``.
    active : bool array of shape (n,)
        Whether a query gets any.
    price : float or None
        Shadow price, utility per token; None where no market was run.
    budget, unspent : int
        Tokens to give, and tokens left.
    bound : float or None
        Certificate: no allocation has more utility. None where there is none.
    policy : str
        Name of the policy.
    settings : mapping
        The settings it ran with, defaults included; ``decay`` is the rate that was used.
    shortfall : int
        Tokens by which a policy with a floor (``predictor``, ``tale-ep``) cannot keep ``Σ t = B`` within floor
        and cap: what is missing for the floors, or what the caps leave over.
    """

    tokens: NDArray[np.int64]
    active: NDArray[np.bool_]
    price: float | None
    budget: int
    unspent: int
    bound: float | None
    policy: str
    settings: Mapping[str, Any]
    shortfall: int = 0


@dataclass(frozen=True, eq=False)
class Request:
    """The checked input of a policy: forecasts, budget, cap (infinite if none) and what only some need."""

    forecasts: Forecasts
    budget: int
    cap: float = math.inf
    lengths: Array | None = None
    correct: NDArray[np.bool_] | None = None
    estimates: Array | None = None


@dataclass(frozen=True, eq=False)
class Grant:
    """The answer of a policy before rounding: tokens of shape ``(n,)``, price, shortfall, bound and settings found."""

    tokens: Array
    price: float | None = None
    shortfall: float = 0.0
    bound: float | None = None
    found: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Policy:
    """An entry of the registry.

    Attributes
    ----------
    name, label : str
        Name in code and in results, and name in the paper's tables.
    kind : str
        ``"cap"``: one decision for the whole batch before it runs; ``"sequential"``: decides as it runs.
    needs : tuple of str
        Inputs that it cannot do without: ``"thresholds"``, ``"spread"``, ``"solvable"``, ``"estimates"``,
        ``"lengths"``, ``"correct"``.
    equation : str
        Where the paper defines it.
    function : callable
        ``function(request, **settings) -> Grant``, or ``-> Stages`` of a sequential policy.
    """

    name: str
    label: str
    kind: str
    needs: tuple[str, ...]
    equation: str
    function: Callable[..., Grant | Stages]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the policy knows, with their defaults."""
        parameters = list(inspect.signature(self.function).parameters.values())[1:]
        return {parameter.name: parameter.default for parameter in parameters}


def share(
    budget: float, weights: Array, *, base: Array | float = 0.0, low: float = 0.0, high: float = math.inf
) -> Array:
    """Split a budget as ``base + c·weights``, within ``[low, high]``, with the ``c`` that uses it all.

    Clipping changes the sum, so what it takes or adds is settled with the others until the rule holds for all
    who are within the limits: a cap is reached exactly, and its excess goes to the rest. Uses all of the
    budget if ``n·low <= budget <= n·high``; above, all get ``high``. Without any positive weight the shares
    are equal.

    Parameters
    ----------
    budget : float
        Tokens, at least ``n·low``.
    weights, base : array of shape (n,)
        Tokens, not negative.
    low, high : float
        Least and most tokens for each.

    Returns
    -------
    array of shape (n,)
        Tokens, before rounding.
    """
    largest = weights.max(initial=0.0)
    weights = np.maximum(weights / largest, ROUNDING) if largest > 0 else np.ones(weights.size)
    base = np.broadcast_to(np.asarray(base, dtype=float), weights.shape)
    tokens, free, left = np.zeros(weights.size), np.arange(weights.size), float(budget)
    while free.size:
        level = (left - base[free].sum()) / weights[free].sum()
        wanted = base[free] + level * weights[free]
        tokens[free] = np.clip(wanted, low, high)
        # If the clipping adds tokens on balance, the level must fall, so those below the floor stay there;
        # if it takes tokens, those above the cap stay there. Settle them and solve for the rest.
        added = tokens[free] - wanted
        balance = added.sum()
        settled = added > 0 if balance > 0 else added < 0
        if balance == 0 or not settled.any():
            break
        left -= tokens[free[settled]].sum()
        free = free[~settled]
    return tokens


def whole_tokens(tokens: Array, budget: int) -> NDArray[np.int64]:
    """Round shares to whole tokens by largest remainder, ties by position; the sum is kept, rounded down."""
    floors = np.floor(tokens)
    total = min(float(tokens.sum()) + 1e-6 + ROUNDING * budget, budget)
    spare = int(math.floor(total) - floors.sum())
    rounded = floors.astype(np.int64)
    if spare > 0:
        rounded[np.argsort(floors - tokens, kind="stable")[:spare]] += 1
    return rounded


def uniform(request: Request) -> Grant:
    """The same for everyone: ``B/N`` (eq. 19), or the cap if that is less."""
    n = request.forecasts.n
    return Grant(np.full(n, min(request.budget / n, request.cap)))


def _proportional(request: Request, weights: Array, floor: float) -> Grant:
    """Share the budget in proportion to ``weights`` between floor and cap."""
    n, budget, floor = weights.size, request.budget, min(floor, request.cap)
    shortfall = max(n * floor - budget, budget - n * request.cap, 0.0)
    return Grant(share(budget, weights, low=min(floor, budget / n), high=request.cap), shortfall=shortfall)


def predictor(request: Request, floor: float = 32.0) -> Grant:
    """In proportion to the threshold, ``B·τ̂_i/Σ τ̂`` (eq. 20), between a floor and the cap.

    The paper clips to the two limits and does not say what becomes of the sum. Ours rescales those within the
    limits, so that the budget is met. A budget below ``n`` floors lowers the floor to ``B/n``.
    """
    return _proportional(request, request.forecasts.threshold, floor)


def tale_ep(request: Request, floor: float = 32.0) -> Grant:
    """In proportion to a teacher's estimates ``r_i`` (eq. 21), clipped (eq. 22), summing to ``B`` (eq. 23).

    The paper's residual correction is not legible to us. Ours rescales those within the limits and rounds by
    largest remainder: the sum is exactly ``B`` whenever ``n·floor <= B <= n·cap``, and the shortfall is
    reported otherwise.
    """
    return _proportional(request, request.estimates, floor)


def _affine(request: Request, selected: NDArray[np.bool_], affine: str) -> Array:
    """Share the budget among the selected by eq. 25: ``α·(τ̂_i + mean)`` or ``τ̂_i + α·mean``, α from the sum."""
    tokens = np.zeros(selected.size)
    if selected.any():
        threshold = request.forecasts.threshold[selected]
        if affine == "sum":
            weights, base = threshold + threshold.mean(), 0.0
        else:
            weights, base = np.ones(threshold.size), threshold
        tokens[selected] = share(request.budget, weights, base=base, high=request.cap)
    return tokens


def _ample(request: Request, kappa: float = 1.0) -> bool:
    """Whether the mean budget reaches ``κ`` times the mean threshold."""
    return request.budget * (1 + ROUNDING) >= kappa * math.fsum(request.forecasts.threshold)


def clear_heuristic(request: Request, kappa: float = 1.0, affine: str = "sum", floor: float = 32.0) -> Grant:
    """If ``B̄ < κ·mean τ̂``, drop the queries above the median threshold; the rest share affinely (eq. 25).

    Otherwise the proportional rule of :func:`predictor` (inferred: the paper's two rows are equal wherever
    budgets are ample). ``κ`` is open, and so is which affine rule is meant: ``affine="sum"`` shares in
    proportion to ``τ̂_i + mean``, ``"shift"`` gives ``τ̂_i`` and the same to or from everyone, at least 0.
    """
    if _ample(request, kappa):
        return predictor(request, floor)
    threshold = request.forecasts.threshold
    return Grant(_affine(request, threshold <= np.median(threshold), affine))


def clear_auction(request: Request, affine: str = "sum", fallback: bool = False, floor: float = 32.0) -> Grant:
    """Admit the queries with the smallest thresholds while their sum fits ``B``; they share it (eq. 26).

    ``affine`` as in :func:`clear_heuristic`. With ``fallback`` a budget that fits all thresholds is shared by
    :func:`predictor` (inferred from equal rows in Table 1; open).
    """
    if fallback and _ample(request):
        return predictor(request, floor)
    threshold = request.forecasts.threshold
    order = np.argsort(threshold, kind="stable")
    admitted = np.cumsum(threshold[order]) <= request.budget * (1 + ROUNDING)
    selected = np.zeros(threshold.size, dtype=bool)
    selected[order[admitted]] = True
    return Grant(_affine(request, selected, affine))


#: What a query may be worth past its threshold, made from a surge: its shape and the name of the shape.
SHAPES: dict[str, Callable[[Surge], Utility]] = {
    "surge": lambda surge: surge,
    "triangular": Triangular.like,
    "quadratic": Quadratic.like,
}


def _curve(
    request: Request, velocity: float, decay: float | None, epsilon: float, utility: str, stretch: float = 1.0
) -> tuple[float, Utility]:
    """The decay rate, adaptive if it is None, and the utility of that shape."""
    if decay is None:
        mean = math.fsum(request.forecasts.threshold) / request.forecasts.n
        decay = adaptive_decay(request.budget / request.forecasts.n, mean, epsilon) / stretch
    return decay, SHAPES[utility](Surge(velocity, decay))


def clear(
    request: Request,
    velocity: float = 1.0,
    decay: float | None = None,
    epsilon: float = 32.0,
    iterations: int = 40,
    fallback: bool = False,
    floor: float = 32.0,
    utility: str = "surge",
    stretch: float = 1.0,
) -> Grant:
    """The Lambert W policy at the price found by Algorithm 1 (eqs. 5, 14 and 16).

    ``decay=None`` takes the adaptive rate with slack ``epsilon`` tokens; ``velocity`` only scales the price.
    With ``fallback`` a budget that fits all thresholds is shared by :func:`predictor` (inferred from equal
    rows in Table 1; open). ``utility`` is the shape of the curve: ``"surge"``, or ``"triangular"`` and
    ``"quadratic"`` with the same peak (section 7.4; their widths are ours). ``stretch`` multiplies the adaptive ``1/β``
    and with it the widths of all shapes: the constants of eqs. 16 to 18 are open.
    """
    if fallback and _ample(request):
        return predictor(request, floor)
    decay, curve = _curve(request, velocity, decay, epsilon, utility, stretch)
    threshold, budget = request.forecasts.threshold, request.budget
    price, tokens = clear_market(threshold, budget, curve, cap=request.cap, iterations=iterations)
    bound = dual_bound(price, threshold, budget, curve, cap=request.cap)
    return Grant(tokens, price, bound=bound, found={"decay": decay})


def clear_exact(
    request: Request, velocity: float = 1.0, decay: float | None = None, epsilon: float = 32.0, utility: str = "surge"
) -> Grant:
    """The problem that CLEAR's price is for (eq. 2), solved: sort, cumulative sum, argmax (ours).

    Settings as of :func:`clear`. Where the cap binds, the general solver takes over; its bound says how near it is.
    """
    decay, curve = _curve(request, velocity, decay, epsilon, utility)
    solution = solve_shared(request.forecasts.threshold, request.budget, curve, cap=request.cap)
    return Grant(solution.tokens, solution.price, bound=solution.bound, found={"decay": decay})


def clear_lognormal(request: Request, use_solvable: bool = True) -> Grant:
    """Most expected correct answers, if log lengths are normal (ours): the market of chances, not of potential.

    A query's utility is ``p·Φ((log t - μ)/σ)`` with the forecasts' ``solvable``, ``spread`` and ``log_median`` (of at
    least one token). Without ``use_solvable`` all are taken to be solvable.
    """
    forecasts = request.forecasts
    if use_solvable and forecasts.solvable is None:
        raise ValueError(
            "policy 'clear-lognormal' needs forecasts with solvable: Forecasts(threshold, solvable=…), or use_solvable=False"
        )
    chances = LogNormal(
        np.maximum(forecasts.log_median, 0.0), forecasts.spread, forecasts.solvable if use_solvable else 1.0
    )
    solution = solve(np.zeros(forecasts.n), request.budget, chances, cap=request.cap)
    return Grant(solution.tokens, solution.price, bound=solution.bound)


def _fill(request: Request, order: NDArray[np.int64]) -> Grant:
    """Pay true lengths, at most the cap each, in the given order until the next would exceed the budget."""
    cost = np.minimum(request.lengths, request.cap)
    paid = order[np.cumsum(cost[order]) <= request.budget]
    tokens = np.zeros(cost.size)
    tokens[paid] = cost[paid]
    return Grant(tokens)


def oracle(request: Request) -> Grant:
    """The shortest *solvable* queries first, each exactly its true length (A.2.6, in its words).

    A query whose solution does not fit the cap is not solvable under it.
    """
    order = np.argsort(request.lengths, kind="stable")
    solvable = request.correct & (request.lengths <= request.cap)
    return _fill(request, order[solvable[order]])


def oracle_paper(request: Request) -> Grant:
    """The shortest queries first, solvable or not, each its true length or the cap (A.2.6, its steps; eq. 27)."""
    return _fill(request, np.argsort(request.lengths, kind="stable"))


def clear_sequential(request: Request, detour: float = 1.0) -> Stages:
    """Serve what has the highest index, token by token, until the budget is used (ours; Gittins-like).

    The index of a query is its chance to end correctly over the tokens that this is expected to use, given that it
    has not ended yet (:mod:`clear_lib.allocation.stages`; ``detour`` as there). The budget plays no part in it:
    it decides when to stop.
    """
    return stages(request.forecasts, request.cap, detour)


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy("uniform", "Uniform", "cap", (), "eq. 19", uniform),
        Policy("predictor", "Predictor", "cap", ("thresholds",), "eq. 20", predictor),
        Policy("tale-ep", "TALE-EP", "cap", ("estimates",), "eqs. 21-24", tale_ep),
        Policy("clear-heuristic", "CLEAR (Heuristic)", "cap", ("thresholds",), "eq. 25", clear_heuristic),
        Policy("clear-auction", "CLEAR (Auction)", "cap", ("thresholds",), "eq. 26", clear_auction),
        Policy("clear", "CLEAR (Lambert)", "cap", ("thresholds",), "eqs. 5, 14, 16 and Algorithm 1", clear),
        Policy("clear-exact", "CLEAR (exact)", "cap", ("thresholds",), "ours, for eq. 2", clear_exact),
        Policy("clear-lognormal", "CLEAR (log-normal)", "cap", ("thresholds", "spread"), "ours", clear_lognormal),
        Policy(
            "clear-sequential",
            "CLEAR (sequential)",
            "sequential",
            ("thresholds", "spread", "solvable"),
            "ours",
            clear_sequential,
        ),
        Policy("oracle", "Oracle", "cap", ("lengths", "correct"), "A.2.6, prose", oracle),
        Policy("oracle-paper", "Oracle (paper's steps)", "cap", ("lengths",), "eq. 27", oracle_paper),
    )
}

#: The policies of the paper's tables, and the second reading of its oracle.
OF_THE_PAPER = (
    "uniform",
    "predictor",
    "tale-ep",
    "clear-heuristic",
    "clear-auction",
    "clear",
    "oracle",
    "oracle-paper",
)


def _number(name: str, value: Any, *, low: float, above: bool = False, whole: bool = False) -> float:
    """Check one number: at least ``low`` (or above it), finite, whole if asked."""
    fine = isinstance(value, Real) and not isinstance(value, (bool, np.bool_)) and math.isfinite(value)
    fine = fine and (value > low if above else value >= low) and (not whole or value == int(value))
    if not fine:
        what = f"a {'whole ' if whole else ''}number {'above' if above else 'of at least'} {low:g}"
        raise ValueError(f"{name} must be {what}, got {value!r}")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def _affine_name(name: str, value: Any) -> str:
    if value not in ("sum", "shift"):
        raise ValueError(f"{name} must be 'sum' or 'shift', got {value!r}")
    return value


def _shape_name(name: str, value: Any) -> str:
    if value not in SHAPES:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, SHAPES))}, got {value!r}")
    return value


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "velocity": lambda name, value: _number(name, value, low=0, above=True),
    "decay": lambda name, value: value if value is None else _number(name, value, low=0, above=True),
    "epsilon": lambda name, value: _number(name, value, low=0, above=True),
    "stretch": lambda name, value: _number(name, value, low=0, above=True),
    "iterations": lambda name, value: int(_number(name, value, low=1, whole=True)),
    "floor": lambda name, value: _number(name, value, low=0),
    "kappa": lambda name, value: _number(name, value, low=0),
    "detour": lambda name, value: _number(name, value, low=0, above=True),
    "fallback": _flag,
    "affine": _affine_name,
    "use_solvable": _flag,
    "utility": _shape_name,
}


def _policy(name: str, kind: str) -> Policy:
    if name not in POLICIES:
        raise ValueError(f"unknown policy {name!r}; known: {', '.join(POLICIES)}")
    if POLICIES[name].kind != kind:
        how = "serve it step by step with clear_lib.serving.batch.serve" if kind == "cap" else "use allocate"
        raise ValueError(f"policy {name!r} is of kind {POLICIES[name].kind!r}: {how}")
    return POLICIES[name]


def _settings(policy: Policy, given: Mapping[str, Any]) -> dict[str, Any]:
    """The policy's settings with the given ones in place of the defaults, checked."""
    known = policy.settings
    for name in given:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise ValueError(f"unknown setting {name!r} for policy {policy.name!r}; known: {listed}")
    return {name: _CHECKS[name](name, given.get(name, default)) for name, default in known.items()}


def _request(
    policy: Policy, forecasts: Any, budget: Any, cap: Any, lengths: Any, correct: Any, estimates: Any
) -> Request:
    """Check the input of a policy."""
    if not isinstance(forecasts, Forecasts):
        forecasts = Forecasts(forecasts)
    given = {"lengths": lengths, "correct": correct, "estimates": estimates}
    for need in policy.needs:
        if need in given and given[need] is None:
            raise ValueError(f"policy {policy.name!r} needs {need}=, one value per query")
        if need in ("spread", "solvable") and getattr(forecasts, need) is None:
            raise ValueError(f"policy {policy.name!r} needs forecasts with {need}: Forecasts(threshold, {need}=…)")
    n = forecasts.n
    if correct is not None:
        correct = vector("correct", correct, n=n, high=1.0, whole=True).astype(bool)
    return Request(
        forecasts,
        budget=int(_number("budget", budget, low=0, whole=True)),
        cap=math.inf if cap is None else int(_number("cap", cap, low=1, whole=True)),
        lengths=None if lengths is None else vector("lengths", lengths, n=n, whole=True),
        correct=correct,
        estimates=None if estimates is None else vector("estimates", estimates, n=n),
    )


def unrounded(
    forecasts: Forecasts | Any,
    budget: int,
    policy: str = "clear",
    *,
    cap: int | None = None,
    lengths: Any = None,
    correct: Any = None,
    estimates: Any = None,
    **settings: Any,
) -> Grant:
    """The shares of :func:`allocate` before they are rounded to whole tokens; same parameters and errors."""
    entry = _policy(policy, "cap")
    checked = _settings(entry, settings)
    return entry.function(_request(entry, forecasts, budget, cap, lengths, correct, estimates), **checked)


def staged(
    forecasts: Forecasts | Any,
    budget: int,
    policy: str = "clear-sequential",
    *,
    cap: int | None = None,
    **settings: Any,
) -> Stages:
    """The stages of a sequential policy and their prices, for :func:`clear_lib.serving.batch.serve`.

    Parameters and errors as of :func:`allocate`.
    """
    entry = _policy(policy, "sequential")
    checked = _settings(entry, settings)
    return entry.function(_request(entry, forecasts, budget, cap, None, None, None), **checked)


def allocate(
    forecasts: Forecasts | Any,
    budget: int,
    policy: str = "clear",
    *,
    cap: int | None = None,
    lengths: Any = None,
    correct: Any = None,
    estimates: Any = None,
    **settings: Any,
) -> Allocation:
    """Split a budget of tokens over the queries of a batch.

    Parameters
    ----------
    forecasts : Forecasts or array_like of shape (n,)
        What is predicted of the queries, or just their thresholds ``τ̂``, tokens.
    budget : int
        Tokens for the whole batch, ``B``.
    policy : str
        A name in :data:`POLICIES`.
    cap : int, optional
        Most tokens that one query can get (context limit).
    lengths, correct : array_like of shape (n,), optional
        True length in tokens and correctness of each query's solution; for the oracles.
    estimates : array_like of shape (n,), optional
        A teacher's estimate of the tokens needed; for ``tale-ep``.
    **settings
        Settings of the policy; ``POLICIES[policy].settings`` lists them with their defaults.

    Returns
    -------
    Allocation
        Whole tokens for each query, with a sum of at most ``budget``.

    Raises
    ------
    ValueError
        If a value is NaN, infinite, negative or not a number (with its position), an array is empty or not
        one-dimensional, the budget is not a whole number of at least 0, or the policy, a setting or its value
        is unknown (with the known ones).

    Examples
    --------
    >>> import clear_lib
    >>> clear_lib.allocate([100, 200, 4000], budget=500).tokens
    array([132, 231,   0])
    """
    grant = unrounded(
        forecasts, budget, policy, cap=cap, lengths=lengths, correct=correct, estimates=estimates, **settings
    )
    tokens = whole_tokens(grant.tokens, int(budget))
    tokens.setflags(write=False)
    active = tokens > 0
    active.setflags(write=False)
    return Allocation(
        tokens=tokens,
        active=active,
        price=grant.price,
        budget=int(budget),
        unspent=int(budget) - int(tokens.sum()),
        bound=grant.bound,
        policy=policy,
        settings=_settings(POLICIES[policy], settings) | grant.found,
        shortfall=math.ceil(grant.shortfall),
    )
