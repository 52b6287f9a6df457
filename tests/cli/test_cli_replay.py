"""The command that runs a stream."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from command_line import end_by_sigterm, outcome


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A small one on the data that makes itself."""
    content = {
        "title": "MovieLens",
        "dataset": "ml-100k-signed",
        "cut": 0.9,
        "windows": 10,
        "timed_events": 1,
        "models": {"SSF": {"settings": {"rank": 8, "cutoff": 4}, "arms": ["none", "online", "refit"]}},
    }
    path = tmp_path / "online" / "small.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(content))
    return path


def test_it_writes_its_report_beside_the_yaml(experiment: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, _ = outcome(capfd, "replay", experiment, "--json")
    assert status == 0
    summary = json.loads(out)
    assert {row["arm"] for row in summary["pooled"]} == {"none", "online", "refit", "pop"}
    assert {each.name for each in experiment.parent.iterdir()} == {"small.yaml", "small.md", "small.jsonl", "small.png"}
    table = (experiment.parent / "small.md").read_text()
    assert outcome(capfd, "replay", experiment)[:2] == (0, table)  # from what is there


def test_a_replay_that_is_terminated_leaves_no_events_behind(experiment: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    end_by_sigterm("replay", experiment, once=lambda: list(temporary.rglob("log.sqlite")), TMPDIR=str(temporary))
    assert not list(temporary.iterdir())


def test_an_unknown_data_set_is_refused(experiment: Path, capfd: pytest.CaptureFixture[str]) -> None:
    experiment.write_text(experiment.read_text().replace("ml-100k-signed", "ml-100k-singed"))
    status, _, err = outcome(capfd, "replay", experiment)
    assert status == 2
    assert "in atomic_files ('recbole-signed convert' makes one); did you mean 'ml-100k-signed'" in err
    experiment.write_text(f"# convert makes its data set\n{experiment.read_text()}")
    assert f"({experiment} says how to make it)" in outcome(capfd, "replay", experiment)[2]
