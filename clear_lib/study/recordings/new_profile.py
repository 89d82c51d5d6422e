"""The files of a profile that is made of rollouts: where the chapters look for them."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import yaml

from clear_lib.predictor import Calibrated
from clear_lib.rollouts.store import SCHEMA
from clear_lib.study.recordings import recording
from clear_lib.study.recordings.forecasts import forecast_file
from clear_lib.study.setup.profiles import Profile

#: What a folder in ``artifacts`` has of its profile; all else in it (chapters that have run) stays.
REPLACED = ("profile.yaml", "rollouts", "predictor", "results", "import.txt")


def write_profile(
    profile: Profile,
    rollouts: Mapping[str, pd.DataFrame],
    forecasts: pd.DataFrame,
    artifacts: Path,
    model: Calibrated | None = None,
) -> Path:
    """Write a profile, its rollouts by kind, its forecasts and their maker, and return the profile's file.

    They take the place of an earlier profile when they are whole; whatever ends this early, the earlier one stays.
    """
    folder, aside = profile.artifacts(artifacts), artifacts / f"{profile.name}.new"
    earlier = _settle(folder)
    shutil.rmtree(aside, ignore_errors=True)
    for kind, rows in rollouts.items():
        recording.store(profile, kind, aside).append(rows[SCHEMA.names])
    write_file(profile, aside)
    path = forecast_file(profile, aside)
    path.parent.mkdir()
    forecasts.to_parquet(path)
    if model is not None:
        model.save(path.parent / profile.predictor.kind)
    if folder.exists():
        folder.rename(earlier)
    profile.artifacts(aside).rename(folder)
    _settle(folder)
    aside.rmdir()
    return folder / "profile.yaml"


def write_file(profile: Profile, artifacts: str | Path) -> Path:
    """Write the file of a profile into the folder of its artifacts, which is there, and return it."""
    file = profile.artifacts(artifacts) / "profile.yaml"
    plain = json.loads(json.dumps(asdict(profile)))  # YAML has no tuples
    file.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file


def _settle(folder: Path) -> Path:
    """End a replacement, also one that was killed: take the earlier profile back, or what does not belong to it."""
    earlier = folder.with_name(f"{folder.name}.earlier")
    if earlier.exists() and not folder.exists():
        earlier.rename(folder)
    elif earlier.exists():
        for path in earlier.iterdir():
            if path.name not in REPLACED and not (folder / path.name).exists():
                path.rename(folder / path.name)
        shutil.rmtree(earlier)
    return earlier
