"""Requests with caps by `allocate --format openai-batch` through the real `vllm run-batch`."""

import json
import subprocess
import sys

from clear_lib.cli import main
from clear_lib.reasoner import CHECKPOINT

THRESHOLDS = [40, 60, 9000, 50]


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_vllm_reads_the_requests_and_keeps_their_caps(prompts, tmp_path):
    lines = [
        {
            "custom_id": f"id-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": str(CHECKPOINT),
                "messages": [{"role": "user", "content": prompt}],
                "temperature": 0,
                "max_tokens": 500,
            },
            "threshold": threshold,
        }
        for number, (prompt, threshold) in enumerate(zip(prompts, THRESHOLDS, strict=False))
    ]
    source, capped, left, out = (tmp_path / f"{name}.jsonl" for name in ("in", "capped", "left", "out"))
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = ["--format", "openai-batch", "--budget", "400", "--out", str(capped), "--abandoned", str(left)]
    assert main(["allocate", str(source), *given]) == 0
    caps = {row["custom_id"]: row["body"]["max_completion_tokens"] for row in rows(capped)}
    assert list(caps) == ["id-0", "id-1", "id-3"] and [row["custom_id"] for row in rows(left)] == ["id-2"]

    template = tmp_path / "template.jinja"
    template.write_text("{{ messages[0].content }}")
    # What `vllm run-batch` starts; the CPU build's own script asks for the version of a package of another name.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.run_batch", "-i", capped, "-o", out]
    command += ["--model", CHECKPOINT, "--dtype", "float32", "--enforce-eager", "--block-size", 32]
    command += ["--max-num-seqs", 8, "--chat-template", template]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    answers = {row["custom_id"]: row["response"] for row in rows(out)}
    assert answers.keys() == caps.keys()
    for name, cap in caps.items():
        body = answers[name]["body"]
        assert answers[name]["status_code"] == 200 and 0 < body["usage"]["completion_tokens"] <= cap
        ended = body["choices"][0]["finish_reason"]
        assert ended == "stop" or (ended == "length" and body["usage"]["completion_tokens"] == cap)
