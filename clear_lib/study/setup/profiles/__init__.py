"""Profiles: everything that differs between a smoke test and a study of the paper's size, in one YAML file each."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo

from clear_lib import engines, predictor, reasoner
from clear_lib.study.setup.streams import STREAMS, TIERS

FOLDER = Path(__file__).parent

#: Sources of questions: the embedded reasoner's own, or the public sets (:mod:`clear_lib.study.setup.benchmarks`) with
#: the training questions held out of the evaluation, or as the counts of the paper's tables imply.
QUESTIONS = ("generated", "clean", "paper")


def _must(test: Callable[[Any], Any], message: str) -> AfterValidator:
    """A check that a value passes a test; the message says what it must be."""

    def check(value: Any) -> Any:
        if not test(value):
            raise ValueError(f"must {message}")
        return value

    return AfterValidator(check)


def _in_order(tiers: Iterable[str]) -> bool:
    return bool(tiers) and list(tiers) == [tier for tier in TIERS if tier in tiers]


def _read_template(value: Any) -> Any:
    """The text of a template; of a ``.txt`` file of this package, its contents."""
    if not isinstance(value, str) or not value.endswith(".txt"):
        return value
    known = sorted(path.name for path in FOLDER.glob("*.txt"))
    if value not in known:
        raise ValueError(f"names a file that is not there; known: {', '.join(known)}")
    return (FOLDER / value).read_text(encoding="utf-8").removesuffix("\n")


def _for_each_tier(value: Any, profile: ValidationInfo) -> Any:
    """One number stands for that many of each tier in play."""
    return dict.fromkeys(profile.data.get("tiers", ()), value) if isinstance(value, int) else value


_NOT_EMPTY = Field(min_length=1)
_OR_EMPTY = BeforeValidator(lambda value: value or {})

Text = Annotated[str, _must(str.strip, "not be empty")]
FolderName = Annotated[str, _must(re.compile(r"(?!\.)[\w.-]+").fullmatch, "be a name without spaces and slashes")]
Count = Annotated[int, Field(strict=True, ge=0)]
Size = Annotated[int, Field(strict=True, ge=1)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0)]
Tier = Literal[*TIERS]
_TIERS_IN_ORDER = _must(_in_order, f"have one or more tiers in the order: {', '.join(TIERS)}")
Tiers = Annotated[tuple[Tier, ...], _TIERS_IN_ORDER]
Counts = Annotated[dict[Tier, Count], _TIERS_IN_ORDER]
Shares = Annotated[
    tuple[Share, ...],
    _must(lambda each: len(each) == len(TIERS) and abs(sum(each) - 1) <= 1e-6, f"be {len(TIERS)} shares that sum to 1"),
]
Chat = Annotated[
    str, BeforeValidator(_read_template), _must(lambda text: text.count("{prompt}") == 1, "contain {prompt} once")
]
Prompt = Annotated[str, _must(lambda text: text.count("{question}") == 1, "contain {question} once")]
Weights = Annotated[
    dict[str, Text],
    _must(
        lambda given: set(given) == {"file", "sha256"} and re.fullmatch("[0-9a-f]{64}", given["sha256"]),
        "have a file and its sha256, 64 hexadecimal digits",
    ),
]
Rungs = Annotated[
    dict[str, Positive],
    _OR_EMPTY,
    _must(lambda rungs: list(rungs.values()) == sorted(rungs.values()), "go from the shortest to the longest rung"),
]


@dataclass(frozen=True)
class PredictorSpec:
    """How the predictor or the teacher of a profile is made."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    kind: Literal[*predictor.KINDS]
    label: Text  #: name in captions
    tiers: Tiers  #: tiers of the predictor split whose rollouts it is fitted to
    rollouts: Literal["all", "correct"]  #: verdicts that it is fitted to
    options: Annotated[dict[str, Any], _OR_EMPTY] = field(default_factory=dict)  #: settings of the kind, by name


@dataclass(frozen=True)
class Profile:
    """A validated profile; the fields are the keys of the YAML files. Lengths and budgets are in tokens."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    name: FolderName  #: also the folder of its artifacts
    model: Text  #: ``"embedded"``, or a name on the hub
    revision: Text
    weights: Weights | None  #: the one GGUF file of the repository that is used (:mod:`clear_lib.engines.gguf`)
    model_parameters: Size  #: weights active for a token: they turn a predictor's cost into tokens of the model
    model_gigabytes: Positive  #: size of the weights on disk
    engine: Literal[*engines.ENGINES, "none"]  #: ``"none"``: only rollouts that were imported or simulated
    engine_options: Annotated[dict[str, Any], _OR_EMPTY]
    dtype: Literal["float32", "bfloat16", "float16"]
    batch_size: Size  #: sequences decoded together
    chat: Chat  #: chat template with ``{prompt}``, or the ``.txt`` file of this package that holds it
    prompts: Annotated[dict[str, Prompt], _must(lambda prompts: "free" in prompts, "have a template 'free'")]
    rungs: Rungs  #: ladder of soft instructions: the length that each stands for; none: nothing was asked for
    rung_unit: Literal["free length", "tokens"]  #: of the rungs; multiples of the length without an instruction
    cap: Size  #: most new tokens of a rollout
    expected_length: Annotated[dict[Tier, Positive], _TIERS_IN_ORDER]  #: of a free solution, to plan a recording
    questions: Literal[*QUESTIONS]
    questions_folder: Text | None  #: question sets as JSON lines, relative to the profile's file; None: the hub
    tiers: Tiers  #: tiers in play
    pool_per_tier: Annotated[Counts, BeforeValidator(_for_each_tier)]  #: evaluation questions
    predictor_per_tier: Counts  #: questions of the predictor split
    easy: Annotated[dict[Tier, Count], _OR_EMPTY]  #: questions of GSM8K's test part recorded beside the evaluation
    sampled: Count | dict[Tier, tuple[Text, ...]]  #: evaluation questions that are sampled: number a tier, or their ids
    samples: Size  #: samples of each of them
    temperature: Positive  #: of the sampling
    seed: Count  #: root of every seed of the profile
    stream_size: Size  #: queries of a stream, N
    stream_seeds: Size  #: streams drawn
    stream_shares: Annotated[dict[Literal[*STREAMS], Shares], _NOT_EMPTY]  #: of the tiers; ours, none are printed
    reference_length: Positive | None  #: unit of the fractions that follow; None: the pool's mean length
    scarcities: Annotated[tuple[Positive, ...], _NOT_EMPTY]  #: budgets per query, fractions of the reference length
    floor_fraction: Positive  #: floor of the proportional rules, fraction of the reference length
    epsilon_fraction: Positive  #: CLEAR's ε, fraction of the reference length
    recorded: Annotated[dict[str, tuple[Count, Count]], _OR_EMPTY]  #: shipped and planned rollouts of each kind
    predictor: PredictorSpec  #: predicts thresholds
    teacher: PredictorSpec  #: estimates tokens for TALE-EP

    def prompt(self, question: str, rung: str = "free") -> str:
        """The prompt of a question on a rung (``"free"``: no instruction); ``ValueError`` if unknown."""
        if rung not in self.prompts:
            raise ValueError(f"unknown rung {rung!r}; profile {self.name!r} has: {', '.join(self.prompts)}")
        return self.chat.replace("{prompt}", self.prompts[rung].replace("{question}", question))

    @property
    def label(self) -> str:
        """The model's name on pages."""
        name = self.model.rpartition("/")[2].removesuffix("-GGUF")
        return "laboratory model" if self.model == reasoner.NAME else name

    def artifacts(self, root: str | Path = "artifacts") -> Path:
        """Folder of everything that is made under this profile."""
        return Path(root) / self.name


_FIELDS = tuple(each.name for each in fields(Profile))
_CHECKED = TypeAdapter(Profile)


def names() -> list[str]:
    """The profiles that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str | Path, /, **overrides: Any) -> Profile:
    """Read and check a profile of the package, or a ``.yaml`` file; overrides are fields as they are written in YAML."""
    given, source = _read(name)
    file = f"{Path(name).stem}.yaml"
    source |= dict.fromkeys(overrides, f"{file}, overridden")
    given |= overrides
    for key in given:
        if key not in _FIELDS:
            raise ValueError(f"{source[key]}: unknown key {key!r}; known: {', '.join(_FIELDS)}")
    try:
        profile = _CHECKED.validate_python(given)
    except ValidationError as caught:
        raise ValueError(_in_words(caught.errors()[0], source, file)) from None
    _check_together(profile, file)
    return profile


def _in_words(error: dict[str, Any], source: dict[str, str], file: str) -> str:
    """The first error that pydantic found, in one sentence: file, field, what it must be, value."""
    place = ".".join(str(part) for part in error["loc"] if part != "[key]")
    where = source.get(error["loc"][0], file)
    if error["type"] == "missing":
        return f"{where}: the key {place!r} is missing"
    if error["type"] == "unexpected_keyword_argument":
        return f"{where}: unknown key {place!r}"
    rule = re.sub(r"^(Value error, |\w+ should (?=\w))", "", error["msg"])
    return f"{where}: {place} {rule if error['type'] == 'value_error' else f'must {rule}'}, got {error['input']!r}"


def _check_together(profile: Profile, file: str) -> None:
    """Raise a ``ValueError`` if fields of a profile do not fit each other."""
    for rung in profile.rungs:
        if rung not in profile.prompts:
            raise ValueError(f"{file}: rungs names {rung!r}, which has no template in prompts")
    for tier in {*profile.pool_per_tier, *profile.predictor_per_tier} - set(profile.expected_length):
        raise ValueError(f"{file}: expected_length has no tier {tier!r}")
    for who, spec in (("predictor", profile.predictor), ("teacher", profile.teacher)):
        for tier in spec.tiers:
            if not profile.predictor_per_tier.get(tier):
                raise ValueError(f"{file}: {who} trains on tier {tier!r}, but predictor_per_tier has none")


def _read(name: str | Path, above: tuple[Path, ...] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """Fields of a profile as they are written, its base's first, and for each the file that it stands in."""
    own_file = str(name).endswith(".yaml")
    path = Path(name) if own_file else FOLDER / f"{name}.yaml"
    if not (path.is_file() if own_file else str(name) in names()):
        raise ValueError(f"no profile {str(name)!r}; known: {', '.join(names())}, or give a .yaml file")
    try:
        own = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: not readable as YAML: {error}") from None
    if not isinstance(own, dict):
        raise ValueError(f"{path.name}: must be a mapping of fields, got {own!r}")
    if path in above:
        raise ValueError(f"{path.name}: a profile cannot be its own base")
    given, source = _read(own.pop("base"), (*above, path)) if "base" in own else ({}, {})
    if isinstance(own.get("questions_folder"), str):
        own["questions_folder"] = str((path.parent / own["questions_folder"]).resolve())
    return given | own, source | dict.fromkeys(own, path.name)


def sources(name: str) -> dict[str, str]:
    """Where each field of a profile comes from, its base's first: its comment, or the one above its paragraph."""
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    base = re.search(r"^base: (\S+)$", text, re.M)
    found = sources(base[1]) if base else {}
    for block in text.split("\n\n"):
        above: list[str] = []
        for line in block.splitlines():
            key, comment = re.match(r"([a-z_0-9]*):?.*?(?:# (.*))?$", line).groups()
            if line.startswith("#"):
                above.append(comment or "")
            elif key in _FIELDS:
                found[key] = comment or " ".join(above)
    return found
