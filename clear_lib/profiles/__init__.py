"""Profiles: everything that differs between a smoke test and a study of the paper's size, in one YAML file each.

>>> from clear_lib import profiles
>>> profiles.load("tiny").stream_size
500
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from numbers import Real
from pathlib import Path
from typing import Any

import yaml

from ..streams import STREAMS, TIERS

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Forecaster:
    """How the predictor or the teacher of a profile is made.

    Attributes
    ----------
    kind : str
        ``"encoder"``, ``"ridge"`` or ``"constant"``.
    label : str
        What captions call it.
    tiers : tuple of str
        Tiers of the predictor split whose rollouts it is fitted to.
    rollouts : str
        ``"all"`` or only the ``"correct"`` ones.
    options : mapping
        Settings of the kind, by name; those left out have its defaults.
    """

    kind: str
    label: str
    tiers: tuple[str, ...]
    rollouts: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Profile:
    """A validated profile; the fields are the keys of the YAML files.

    Attributes
    ----------
    name : str
        Also the folder of its artifacts.
    model : str
        ``"embedded"``, or the name of a model.
    revision : str
        Version of the model.
    model_parameters : int
        Weights of the model; turns the cost of predictors into tokens of the model.
    engine, dtype : str
        What decodes, and in which precision. The engine ``"none"`` has only what was imported.
    batch_size : int
        Sequences decoded together.
    prompts : mapping
        Template with ``{question}`` of the rung ``free`` and of every rung of the ladder.
    rungs : mapping
        The ladder of soft instructions, shortest first: mean length of a solution as a multiple of the free one.
    cap : int
        Most new tokens of a rollout.
    tiers : tuple of str
        Tiers in play, easiest first.
    pool_per_tier : mapping
        Evaluation questions of each tier; one number in the file if all tiers have as many.
    predictor_per_tier : mapping
        Questions of each tier of the predictor split.
    sampled_per_tier, samples : int
        Evaluation questions of each tier that are sampled, and samples of each.
    temperature : float
        Of the sampling.
    seed : int
        Root of every seed of the profile.
    stream_size, stream_seeds : int
        Queries of a stream (``N``), and streams drawn.
    stream_shares : mapping
        Four tier shares of each stream. The paper prints none: these are ours.
    scarcities : tuple of float
        Budgets per query, as fractions of the reference length (the pool's mean length).
    floor_fraction, epsilon_fraction : float
        The floor of the proportional rules and CLEAR's ``ε``, as fractions of the reference length.
    predictor, teacher : Forecaster
        Who predicts thresholds, and who estimates tokens for TALE-EP.
    """

    name: str
    model: str
    revision: str
    model_parameters: int
    engine: str
    dtype: str
    batch_size: int
    prompts: Mapping[str, str]
    rungs: Mapping[str, float]
    cap: int
    tiers: tuple[str, ...]
    pool_per_tier: Mapping[str, int]
    predictor_per_tier: Mapping[str, int]
    sampled_per_tier: int
    samples: int
    temperature: float
    seed: int
    stream_size: int
    stream_seeds: int
    stream_shares: Mapping[str, tuple[float, ...]]
    scarcities: tuple[float, ...]
    floor_fraction: float
    epsilon_fraction: float
    predictor: Forecaster
    teacher: Forecaster

    def prompt(self, question: str, rung: str = "free") -> str:
        """The prompt of a question on a rung (``"free"``: no instruction); ``ValueError`` if unknown."""
        if rung not in self.prompts:
            raise ValueError(f"unknown rung {rung!r}; profile {self.name!r} has: {', '.join(self.prompts)}")
        return self.prompts[rung].replace("{question}", question)

    def artifacts(self, root: str | Path = "artifacts") -> Path:
        """Folder of everything that is made under this profile."""
        return Path(root) / self.name


# ---- what a value must be: each check returns the value in its final type or raises ValueError ----------------


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be text")
    return value


def _whole(low: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"must be a whole number of at least {low}")
        return value

    return check


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < float("inf"):
        raise ValueError("must be a number above 0")
    return float(value)


def _one_of(*known: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in known:
            raise ValueError(f"must be one of: {', '.join(known)}")
        return value

    return check


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value or not all(isinstance(key, str) for key in value):
        raise ValueError("must be a mapping with text keys")
    return dict(value)


def _tiers(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not value or list(value) != [tier for tier in TIERS if tier in value]:
        raise ValueError(f"must be a list of tiers, in the order: {', '.join(TIERS)}")
    return tuple(value)


def _prompts(value: Any) -> dict[str, str]:
    for rung, template in (prompts := _mapping(value)).items():
        if not isinstance(template, str) or template.count("{question}") != 1:
            raise ValueError(f"the template {rung!r} must contain {{question}} once")
    if "free" not in prompts:
        raise ValueError("must have a template 'free'")
    return prompts


def _rungs(value: Any) -> dict[str, float]:
    rungs = {rung: _number(ratio) for rung, ratio in _mapping(value).items()}
    if list(rungs.values()) != sorted(rungs.values()):
        raise ValueError("must go from the shortest to the longest rung")
    return rungs


def _counts(value: Any) -> dict[str, int]:
    counts = {tier: _whole(0)(count) for tier, count in _mapping(value).items()}
    _tiers(list(counts))
    return counts


def _shares(value: Any) -> dict[str, tuple[float, ...]]:
    for stream, shares in (streams := _mapping(value)).items():
        _one_of(*STREAMS)(stream)
        fine = isinstance(shares, (list, tuple)) and len(shares) == len(TIERS)
        fine = fine and all(isinstance(share, Real) and share >= 0 for share in shares)
        if not fine or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"{stream!r} needs one share for each of {', '.join(TIERS)}, summing to 1")
    return {stream: tuple(map(float, shares)) for stream, shares in streams.items()}


def _numbers(value: Any) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError("must be a list of numbers above 0")
    return tuple(_number(number) for number in value)


def _forecaster(value: Any) -> Forecaster:
    given = {"options": {}} | _mapping(value)
    names = [field.name for field in fields(Forecaster)]
    if set(given) != set(names):
        raise ValueError(f"must have the keys {', '.join(names)}")
    return Forecaster(
        kind=_one_of("encoder", "ridge", "constant")(given["kind"]),
        label=_text(given["label"]),
        tiers=_tiers(given["tiers"]),
        rollouts=_one_of("all", "correct")(given["rollouts"]),
        options=dict(given["options"]),
    )


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": _text,
    "model": _text,
    "revision": _text,
    "model_parameters": _whole(1),
    "engine": _one_of("transformers", "none"),
    "dtype": _one_of("float32", "bfloat16", "float16"),
    "batch_size": _whole(1),
    "prompts": _prompts,
    "rungs": _rungs,
    "cap": _whole(1),
    "tiers": _tiers,
    "pool_per_tier": lambda value: _counts(value) if isinstance(value, Mapping) else _whole(1)(value),
    "predictor_per_tier": _counts,
    "sampled_per_tier": _whole(0),
    "samples": _whole(1),
    "temperature": _number,
    "seed": _whole(0),
    "stream_size": _whole(1),
    "stream_seeds": _whole(1),
    "stream_shares": _shares,
    "scarcities": _numbers,
    "floor_fraction": _number,
    "epsilon_fraction": _number,
    "predictor": _forecaster,
    "teacher": _forecaster,
}


def names() -> list[str]:
    """The profiles that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str | Path, **overrides: Any) -> Profile:
    """Read and check a profile.

    Parameters
    ----------
    name : str or Path
        A profile of the package (``"tiny"``), or the path of a ``.yaml`` file of your own.
    **overrides
        Fields to change, as they would be written in YAML.

    Returns
    -------
    Profile

    Raises
    ------
    ValueError
        If there is no such profile, or a key is unknown, missing or has a bad value; names file, key and value.
    """
    path = Path(name) if str(name).endswith(".yaml") else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"no profile {str(name)!r}; known: {', '.join(names())}, or give a .yaml file")
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: not readable as YAML: {error}") from None
    if not isinstance(given, Mapping):
        raise ValueError(f"{path.name}: must be a mapping of fields, got {given!r}")
    source = dict.fromkeys(given, path.name) | dict.fromkeys(overrides, f"{path.name}, overridden")
    given = {**given, **overrides}
    values = {}
    for key in given:
        if key not in _CHECKS:
            raise ValueError(f"{source[key]}: unknown key {key!r}; known: {', '.join(_CHECKS)}")
    for key, check in _CHECKS.items():
        if key not in given:
            raise ValueError(f"{path.name}: the key {key!r} is missing")
        try:
            values[key] = check(given[key])
        except ValueError as error:
            raise ValueError(f"{source[key]}: {key} {error}, got {given[key]!r}") from None
    if isinstance(values["pool_per_tier"], int):
        values["pool_per_tier"] = dict.fromkeys(values["tiers"], values["pool_per_tier"])
    for rung in values["rungs"]:
        if rung not in values["prompts"]:
            raise ValueError(f"{source['rungs']}: rungs names {rung!r}, which has no template in prompts")
    for who in ("predictor", "teacher"):
        for tier in values[who].tiers:
            if not values["predictor_per_tier"].get(tier):
                raise ValueError(f"{source[who]}: {who} trains on tier {tier!r}, but predictor_per_tier has none")
    return Profile(**values)
