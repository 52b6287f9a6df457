"""The calls of the page on serving run, in its order, against the demo."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pages import blocks
from service_process import served

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "http://127.0.0.1:8080"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_calls_of_the_page_on_serving_work(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "guides" / "serving.md").read_text(encoding="utf-8")
    strict = 'set -euo pipefail\ncurl() { command curl --fail --silent --show-error "$@"; echo; }\n'
    script = strict + next(block.body for block in blocks(page) if ADDRESS in block.body)
    with served(tmp_path, "--demo") as port:
        words = ["bash", "-c", script.replace(ADDRESS, f"http://127.0.0.1:{port}")]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    *answers, metric = [line for line in done.stdout.splitlines() if line]
    first, event, near, after, effect, why, undone, again, forgotten, stranger, session, withdrawn = map(
        json.loads, answers
    )

    def listed(answer: dict[str, Any]) -> list[str]:
        return [each["item"] for each in answer["items"]]

    disliked = listed(first)[0]
    assert (event["accepted"], undone["accepted"], forgotten["accepted"]) == (1, 1, 1)
    assert disliked not in listed(after)
    assert effect["item"] == disliked
    neighbours = set(listed(near))
    assert neighbours
    assert neighbours & set(listed(first)) - set(listed(after)) or not neighbours & set(listed(first))
    assert why["sentence"]
    assert listed(again) == listed(first)
    assert not stranger["known_user"]
    assert len(listed(session["answers"][0])) == 5
    assert withdrawn == {"withdrawn": True, "tags": [], "name": "Star Wars"}
    assert metric.split()[1] != "0.0"
