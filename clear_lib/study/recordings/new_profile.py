"""The files of a profile that is made of rollouts: where the chapters look for them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from clear_lib import predictor
from clear_lib.rollouts.store import SCHEMA
from clear_lib.study.recordings import recording
from clear_lib.study.setup import profiles
from clear_lib.study.setup.profiles import Profile


def clear_folder(folder: Path) -> Path:
    """Remove what an earlier profile of the name left in its folder, and return the folder."""
    for made in ("rollouts", "predictor", "results"):
        shutil.rmtree(folder / made, ignore_errors=True)
    return folder


def write_profile(
    fields: Mapping[str, Any], rollouts: Mapping[str, pd.DataFrame], forecasts: pd.DataFrame, artifacts: Path
) -> tuple[Path, Profile]:
    """Write a profile, its rollouts by kind and its forecasts; returns the profile's file and the profile."""
    file = artifacts / fields["name"] / "profile.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(_as_lists(fields), sort_keys=False, allow_unicode=True), encoding="utf-8")
    profile = profiles.load(file)
    for kind, rows in rollouts.items():
        recording.store(profile, kind, artifacts).append(rows[SCHEMA.names])
    path = predictor.forecast_file(profile, artifacts)
    path.parent.mkdir(parents=True, exist_ok=True)
    forecasts.to_parquet(path)
    return file, profile


def _as_lists(value: Any) -> Any:
    """Tuples as lists, which YAML has."""
    if isinstance(value, Mapping):
        return {key: _as_lists(each) for key, each in value.items()}
    return [_as_lists(each) for each in value] if isinstance(value, (list, tuple)) else value
