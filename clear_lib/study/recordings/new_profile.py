"""The files of a profile that is made of rollouts: where the chapters look for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from clear_lib.rollouts.store import SCHEMA
from clear_lib.study.recordings import recording
from clear_lib.study.recordings.forecasts import forecast_file
from clear_lib.study.setup import profiles


def write_profile(
    fields: Mapping[str, Any], rollouts: Mapping[str, pd.DataFrame], forecasts: pd.DataFrame, artifacts: Path
) -> tuple[Path, profiles.Profile]:
    """Write a profile, its rollouts by kind and its forecasts, in place of an earlier one; returns file and profile."""
    folder = artifacts / fields["name"]
    for earlier in ("rollouts", "predictor", "results"):
        shutil.rmtree(folder / earlier, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    plain = json.loads(json.dumps(fields))  # YAML has no tuples
    file = folder / "profile.yaml"
    file.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")
    profile = profiles.load(file)
    for kind, rows in rollouts.items():
        recording.store(profile, kind, artifacts).append(rows[SCHEMA.names])
    path = forecast_file(profile, artifacts)
    path.parent.mkdir()
    forecasts.to_parquet(path)
    return file, profile
