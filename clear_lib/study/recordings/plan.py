"""The cost of recording a profile, before anything runs: questions, tokens, hours on a named card, disk.

Hours are a roofline estimate: a decoding step reads all weights once and multiplies them with every sequence of the
batch, whichever takes longer, at a part of the card's peak. Expect it to be right to a factor of two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from clear_lib.study.recordings import recording
from clear_lib.study.setup.profiles import Profile


class Card(NamedTuple):
    """Peak figures: memory in GB, bandwidth in TB/s, bfloat16 in TFLOP/s; seconds of the shortest decoding step."""

    gigabytes: float
    bandwidth: float
    teraflops: float
    step: float = 0.005


#: By the makers' data sheets (dense). The last one is the order of magnitude of a laptop without a GPU.
CARDS: Mapping[str, Card] = {
    "H100": Card(80, 3.35, 989),
    "A100": Card(80, 2.04, 312),
    "L40S": Card(48, 0.864, 362),
    "RTX 4090": Card(24, 1.01, 165),
    "CPU": Card(16, 0.05, 0.5, 0.03),
}
EFFICIENCY = 0.4  #: part of the peak that decoding reaches
WEIGHTS_SHARE = 0.8  #: part of a card's memory that weights may take; the rest is for keys and values
BYTES_PER_TOKEN = 1.5  #: on disk, of recorded text, compressed


@dataclass(frozen=True)
class Plan:
    """The cost of recording a profile."""

    profile: Profile
    #: A row a kind of rollouts: ``questions``, ``rollouts``, how many are ``recorded``, and the completion tokens of the
    #: others, ``expected`` and ``at_most`` (all of them run to the cap).
    kinds: pd.DataFrame
    card: str
    cards: int  #: how many work together
    tokens_per_second: float  #: of all cards together
    hours: float  #: wall time for the expected tokens
    most_hours: float  #: wall time if every rollout runs to its cap
    disk: float  #: weights and rollouts, GB
    fits: bool  #: whether the weights fit the cards

    @property
    def row(self) -> dict[str, str | float]:
        """The plan as a row of a table of plans."""
        return {
            "profile": self.profile.name,
            "card": f"{self.cards} × {self.card}",
            "tokens": self.kinds["expected"].sum(),
            "tokens/s": self.tokens_per_second,
            "hours": self.hours,
            "at most": self.most_hours,
            "card hours": self.cards * self.hours,
            "disk, GB": self.disk,
        }

    def __str__(self) -> str:
        profile, total, cards = self.profile, self.kinds.sum(), self.row["card"]
        lines = [
            f"profile {profile.name!r}: {profile.model}, cap {profile.cap:,} tokens, engine {profile.engine}",
            self.kinds.astype("int64").map("{:,}".format).rename(columns={"at_most": "at most"}).to_string(),
            f"completion tokens still to decode: {total['expected']:,.0f} expected, at most {total['at_most']:,.0f}",
            f"on {cards}: {self.tokens_per_second:,.0f} tokens/s (an estimate, to a factor of two)",
            f"time: {_time(self.hours)} expected, at most {_time(self.most_hours)}; "
            f"card hours: {self.row['card hours']:.1f}",
            f"disk: {self.disk:.1f} GB, of which {profile.model_gigabytes:.1f} for the weights",
        ]
        if not self.fits:
            lines.append(
                f"THE WEIGHTS DO NOT FIT: {profile.model_gigabytes:.0f} GB on {cards} of "
                f"{CARDS[self.card].gigabytes:.0f} GB; name a larger card, or raise tensor_parallel_size"
            )
        return "\n".join(lines)


def _time(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"


def expected_tokens(profile: Profile, kind: str) -> tuple[int, int, float]:
    """Questions, rollouts and expected completion tokens of a kind of rollouts."""
    sizes = {"predictor": profile.predictor_per_tier, "easy": profile.easy}.get(kind, profile.pool_per_tier)
    if kind == "sampled" and isinstance(profile.sampled, dict):
        sizes = {tier: len(ids) for tier, ids in profile.sampled.items()}
    elif kind == "sampled":
        sizes = {tier: min(n, profile.sampled) for tier, n in sizes.items()}
    caps = recording.ladder(profile) if kind == "rungs" else {"free": profile.cap}
    in_tokens = kind == "rungs" and profile.rung_unit == "tokens"
    samples, tokens = profile.samples if kind == "sampled" else 1, 0.0
    for tier, n in sizes.items():
        free = profile.expected_length[tier]
        for rung, cap in caps.items():
            length = min(profile.rungs[rung], free) if in_tokens else profile.rungs.get(rung, 1.0) * free
            tokens += n * samples * min(cap, length)
    questions = sum(sizes.values())
    return questions, questions * len(caps) * samples, tokens


def plan(profile: Profile, card: str | None = None, artifacts: str | Path = "artifacts") -> Plan:
    """What recording a profile takes, less what is recorded; on an A100 for vLLM and else the CPU, unless named."""
    if profile.engine == "none":
        raise ValueError(f"profile {profile.name!r} runs no model: nothing to plan")
    card = card or ("A100" if profile.engine == "vllm" else "CPU")
    if card not in CARDS:
        raise ValueError(f"unknown card {card!r}; known: {', '.join(CARDS)}")
    rows = {}
    for kind in recording.kinds_of(profile):
        questions, rollouts, tokens = expected_tokens(profile, kind)
        recorded = min(len(recording.store(profile, kind, artifacts).read(["length"])), rollouts)
        left = (rollouts - recorded) / rollouts if rollouts else 0.0
        rows[kind] = (questions, rollouts, recorded, tokens * left, (rollouts - recorded) * profile.cap)
    kinds = pd.DataFrame.from_dict(rows, "index", columns=["questions", "rollouts", "recorded", "expected", "at_most"])
    one, cards = CARDS[card], int(profile.engine_options.get("tensor_parallel_size", 1))
    reading = profile.model_gigabytes / (1000 * one.bandwidth * cards)
    multiplying = 2e-12 * profile.model_parameters * profile.batch_size / (one.teraflops * cards)
    speed = profile.batch_size / max(one.step, max(reading, multiplying) / EFFICIENCY)
    return Plan(
        profile,
        kinds,
        card,
        cards,
        speed,
        hours=float(kinds["expected"].sum()) / speed / 3600,
        most_hours=float(kinds["at_most"].sum()) / speed / 3600,
        disk=profile.model_gigabytes + 1e-9 * BYTES_PER_TOKEN * float(kinds["expected"].sum()),
        fits=profile.model_gigabytes <= WEIGHTS_SHARE * one.gigabytes * cards,
    )
