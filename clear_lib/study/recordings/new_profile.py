"""The files of a profile that is made of rollouts: where the chapters look for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from clear_lib.predictor import Calibrated
from clear_lib.rollouts.store import SCHEMA
from clear_lib.study.recordings import recording
from clear_lib.study.recordings.forecasts import forecast_file
from clear_lib.study.setup import profiles

#: What a folder in ``artifacts`` has of its profile; all else in it (chapters that have run) stays.
REPLACED = ("profile.yaml", "rollouts", "predictor", "results", "import.txt")


def write_profile(
    fields: Mapping[str, Any],
    rollouts: Mapping[str, pd.DataFrame],
    forecasts: pd.DataFrame,
    artifacts: Path,
    model: Calibrated | None = None,
) -> tuple[Path, profiles.Profile]:
    """Write a profile, its rollouts by kind, its forecasts and their maker; the file and the profile.

    They take the place of an earlier profile when they are whole; whatever ends this early, the earlier one stays.
    """
    folder, aside = artifacts / fields["name"], artifacts / f"{fields['name']}.new"
    _settle(folder)
    shutil.rmtree(aside, ignore_errors=True)
    (aside / fields["name"]).mkdir(parents=True)
    plain = json.loads(json.dumps(fields))  # YAML has no tuples
    file = aside / fields["name"] / "profile.yaml"
    file.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")
    profile = profiles.load(file)
    for kind, rows in rollouts.items():
        recording.store(profile, kind, aside).append(rows[SCHEMA.names])
    path = forecast_file(profile, aside)
    path.parent.mkdir()
    forecasts.to_parquet(path)
    if model is not None:
        model.save(path.parent / profile.predictor.kind)
    if folder.exists():
        folder.rename(_earlier(folder))
    file.parent.rename(folder)
    _settle(folder)
    aside.rmdir()
    return folder / file.name, profile


def _earlier(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.earlier")


def _settle(folder: Path) -> None:
    """End a replacement, also one that was killed: take the earlier profile back, or what does not belong to it."""
    earlier = _earlier(folder)
    if not earlier.exists():
        return
    if not folder.exists():
        earlier.rename(folder)
        return
    for path in earlier.iterdir():
        if path.name not in REPLACED and not (folder / path.name).exists():
            path.rename(folder / path.name)
    shutil.rmtree(earlier)
