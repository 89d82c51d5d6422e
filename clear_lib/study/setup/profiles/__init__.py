"""Profiles: everything that differs between a smoke test and a study of the paper's size, in one YAML file each.

>>> from clear_lib import profiles
>>> profiles.load("tiny").stream_size
500
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from numbers import Real
from pathlib import Path
from typing import Any

import yaml

from clear_lib.study.setup.streams import STREAMS, TIERS

FOLDER = Path(__file__).parent

#: Kinds of predictors (:mod:`clear_lib.predictor`).
FORECASTERS = ("deberta", "encoder", "ridge", "sentence", "constant")

#: Engines (:mod:`clear_lib.engines`); ``"none"`` has only rollouts that were imported or simulated.
ENGINES = ("transformers", "vllm", "openai", "ray", "none")

#: Where questions come from: the embedded reasoner's own, or the public sets (:mod:`clear_lib.study.setup.benchmarks`), with
#: training questions apart from what is evaluated, or as the counts of the paper's tables imply.
QUESTIONS = ("generated", "clean", "paper")


@dataclass(frozen=True)
class Forecaster:
    """How the predictor or the teacher of a profile is made.

    Attributes
    ----------
    kind : str
        One of :data:`FORECASTERS`.
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
    weights : mapping or None
        ``file`` and ``sha256`` of the one GGUF file of the repository that is used (:mod:`clear_lib.hub`).
    model_parameters : int
        Weights of the model that a token is multiplied with; turns the cost of predictors into tokens of the model.
    model_gigabytes : float
        The weights on disk.
    engine, dtype : str
        What decodes (:data:`ENGINES`), and in which precision.
    engine_options : mapping
        Further arguments of the engine.
    batch_size : int
        Sequences decoded together.
    chat : str
        What the model reads: text with ``{prompt}``, or the name of a ``.txt`` file of this package that holds it.
    prompts : mapping
        Text with ``{question}`` of the rung ``free`` and of every rung of the ladder.
    rungs : mapping
        The ladder of soft instructions, shortest first: the length that each stands for.
    rung_unit : str
        ``"free length"``: rungs are multiples of the length without an instruction; ``"tokens"``.
    cap : int
        Most new tokens of a rollout.
    expected_length : mapping
        Tokens of a free solution of each tier, to plan with before anything is recorded.
    questions : str
        One of :data:`QUESTIONS`.
    questions_folder : str or None
        Folder with the question sets as JSON lines, as seen from the profile's file; from the hub without it.
    tiers : tuple of str
        Tiers in play, easiest first.
    pool_per_tier : mapping
        Evaluation questions of each tier; one number in the file if all tiers have as many.
    predictor_per_tier : mapping
        Questions of each tier of the predictor split.
    easy : mapping
        ``easy``: how many of GSM8K's test questions stand beside the evaluation, and are not evaluated on; or empty.
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
    reference_length : float or None
        Tokens that budgets, floor and ``ε`` are fractions of; the pool's mean length without it.
    scarcities : tuple of float
        Budgets per query, as fractions of the reference length.
    floor_fraction, epsilon_fraction : float
        The floor of the proportional rules and CLEAR's ``ε``, as fractions of the reference length.
    recorded : mapping
        Of a profile made of shipped recordings (:mod:`clear_lib.rollouts.shipped`): for each kind, how many rollouts there
        are and how many were wanted. Empty otherwise.
    predictor, teacher : Forecaster
        Who predicts thresholds, and who estimates tokens for TALE-EP.
    """

    name: str
    model: str
    revision: str
    weights: Mapping[str, str] | None
    model_parameters: int
    model_gigabytes: float
    engine: str
    engine_options: Mapping[str, Any]
    dtype: str
    batch_size: int
    chat: str
    prompts: Mapping[str, str]
    rungs: Mapping[str, float]
    rung_unit: str
    cap: int
    expected_length: Mapping[str, float]
    questions: str
    questions_folder: str | None
    tiers: tuple[str, ...]
    pool_per_tier: Mapping[str, int]
    predictor_per_tier: Mapping[str, int]
    easy: Mapping[str, int]
    sampled_per_tier: int
    samples: int
    temperature: float
    seed: int
    stream_size: int
    stream_seeds: int
    stream_shares: Mapping[str, tuple[float, ...]]
    reference_length: float | None
    scarcities: tuple[float, ...]
    floor_fraction: float
    epsilon_fraction: float
    recorded: Mapping[str, tuple[int, int]]
    predictor: Forecaster
    teacher: Forecaster

    def prompt(self, question: str, rung: str = "free") -> str:
        """The prompt of a question on a rung (``"free"``: no instruction); ``ValueError`` if unknown."""
        if rung not in self.prompts:
            raise ValueError(f"unknown rung {rung!r}; profile {self.name!r} has: {', '.join(self.prompts)}")
        asked = self.prompts[rung].replace("{question}", question)
        return self.chat.replace("{prompt}", asked)

    @property
    def label(self) -> str:
        """What pages call the model."""
        name = self.model.rpartition("/")[2].removesuffix("-GGUF")
        return "laboratory model" if self.model == "embedded" else name

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


def _options(value: Any) -> dict[str, Any]:
    return _mapping(value) if value else {}


def _or_null(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def _chat(value: Any) -> str:
    if _text(value).endswith(".txt"):
        path = FOLDER / value
        if not path.is_file():
            known = ", ".join(sorted(file.name for file in FOLDER.glob("*.txt")))
            raise ValueError(f"names a file that is not there; known: {known}")
        value = path.read_text(encoding="utf-8").removesuffix("\n")
    if value.count("{prompt}") != 1:
        raise ValueError("must contain {prompt} once")
    return value


def _prompts(value: Any) -> dict[str, str]:
    for rung, template in (prompts := _mapping(value)).items():
        if not isinstance(template, str) or template.count("{question}") != 1:
            raise ValueError(f"the template {rung!r} must contain {{question}} once")
    if "free" not in prompts:
        raise ValueError("must have a template 'free'")
    return prompts


def _weights(value: Any) -> dict[str, str]:
    if set(given := _mapping(value)) != {"file", "sha256"} or not re.fullmatch("[0-9a-f]{64}", str(given["sha256"])):
        raise ValueError("must have a file and its sha256, 64 hexadecimal digits")
    return {"file": _text(given["file"]), "sha256": given["sha256"]}


def _rungs(value: Any) -> dict[str, float]:
    rungs = {rung: _number(ratio) for rung, ratio in _mapping(value).items()}
    if list(rungs.values()) != sorted(rungs.values()):
        raise ValueError("must go from the shortest to the longest rung")
    return rungs


def _by_tier(check: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    def each(value: Any) -> dict[str, Any]:
        found = {tier: check(one) for tier, one in _mapping(value).items()}
        _tiers(list(found))
        return found

    return each


_counts = _by_tier(_whole(0))


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
        kind=_one_of(*FORECASTERS)(given["kind"]),
        label=_text(given["label"]),
        tiers=_tiers(given["tiers"]),
        rollouts=_one_of("all", "correct")(given["rollouts"]),
        options=dict(given["options"]),
    )


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": _text,
    "model": _text,
    "revision": _text,
    "weights": _or_null(_weights),
    "model_parameters": _whole(1),
    "model_gigabytes": _number,
    "engine": _one_of(*ENGINES),
    "engine_options": _options,
    "dtype": _one_of("float32", "bfloat16", "float16"),
    "batch_size": _whole(1),
    "chat": _chat,
    "prompts": _prompts,
    "rungs": _rungs,
    "rung_unit": _one_of("free length", "tokens"),
    "cap": _whole(1),
    "expected_length": _by_tier(_number),
    "questions": _one_of(*QUESTIONS),
    "questions_folder": _or_null(_text),
    "tiers": _tiers,
    "pool_per_tier": lambda value: _counts(value) if isinstance(value, Mapping) else _whole(1)(value),
    "predictor_per_tier": _counts,
    "easy": lambda value: _counts(value) if value else {},
    "sampled_per_tier": _whole(0),
    "samples": _whole(1),
    "temperature": _number,
    "seed": _whole(0),
    "stream_size": _whole(1),
    "stream_seeds": _whole(1),
    "stream_shares": _shares,
    "reference_length": _or_null(_number),
    "scarcities": _numbers,
    "floor_fraction": _number,
    "epsilon_fraction": _number,
    "recorded": lambda value: {kind: tuple(map(_whole(0), pair)) for kind, pair in _options(value).items()},
    "predictor": _forecaster,
    "teacher": _forecaster,
}


def names() -> list[str]:
    """The profiles that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def _read(name: str | Path, above: tuple[Path, ...] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """Fields of a profile as they are written, its base's first, and for each the file that it stands in."""
    path = Path(name) if str(name).endswith(".yaml") else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"no profile {str(name)!r}; known: {', '.join(names())}, or give a .yaml file")
    try:
        own = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: not readable as YAML: {error}") from None
    if not isinstance(own, Mapping):
        raise ValueError(f"{path.name}: must be a mapping of fields, got {own!r}")
    if path in above:
        raise ValueError(f"{path.name}: a profile cannot be its own base")
    given, source = _read(own["base"], (*above, path)) if "base" in own else ({}, {})
    own = {key: value for key, value in own.items() if key != "base"}
    if isinstance(own.get("questions_folder"), str):
        own["questions_folder"] = str((path.parent / own["questions_folder"]).resolve())
    return given | own, source | dict.fromkeys(own, path.name)


def sources(name: str) -> dict[str, str]:
    """Where each field of a profile of the package comes from: its comment in the file, or the one above it.

    A comment above fields goes with all of them, down to the next empty line. Fields of the base come first.
    """
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    base = re.search(r"^base: (\S+)$", text, re.M)
    found = sources(base[1]) if base else {}
    for block in text.split("\n\n"):
        above: list[str] = []
        for line in block.splitlines():
            field, comment = re.match(r"([a-z_0-9]*):?.*?(?:# (.*))?$", line).groups()
            if line.startswith("#"):
                above.append(comment or "")
            elif field in _CHECKS:
                found[field] = comment or " ".join(above)
    return found


def load(name: str | Path, **overrides: Any) -> Profile:
    """Read and check a profile.

    A profile with the key ``base`` has the fields of that profile, but for those that it names itself.

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
    file = f"{Path(name).stem}.yaml"
    given, source = _read(name)
    source |= dict.fromkeys(overrides, f"{file}, overridden")
    given |= overrides
    values = {}
    for key in given:
        if key not in _CHECKS:
            raise ValueError(f"{source[key]}: unknown key {key!r}; known: {', '.join(_CHECKS)}")
    for key, check in _CHECKS.items():
        if key not in given:
            raise ValueError(f"{file}: the key {key!r} is missing")
        try:
            values[key] = check(given[key])
        except ValueError as error:
            raise ValueError(f"{source[key]}: {key} {error}, got {given[key]!r}") from None
    if isinstance(values["pool_per_tier"], int):
        values["pool_per_tier"] = dict.fromkeys(values["tiers"], values["pool_per_tier"])
    for rung in values["rungs"]:
        if rung not in values["prompts"]:
            raise ValueError(f"{file}: rungs names {rung!r}, which has no template in prompts")
    for tier in {*values["pool_per_tier"], *values["predictor_per_tier"]} - set(values["expected_length"]):
        raise ValueError(f"{file}: expected_length has no tier {tier!r}")
    for who in ("predictor", "teacher"):
        for tier in values[who].tiers:
            if not values["predictor_per_tier"].get(tier):
                raise ValueError(f"{file}: {who} trains on tier {tier!r}, but predictor_per_tier has none")
    return Profile(**values)
