"""Killed at any point, a state ends as one that was not, and loses nothing that was acknowledged.

Two dozen kills run with the other tests; more than two hundred with::

    python -m pytest -m slow tests/online/test_online_faults.py
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_signed.live.events import TYPES
from recbole_signed.live.store.line_files import DeadLetterFile

CHILD = Path(__file__).with_name("online_fault_child.py")
STEPS = [
    "log:tokens", "log:events", "log:before commit", "log:committed", "dead:written", "state:appended",
    "snapshot:tensors", "snapshot:written", "snapshot:renamed", "CURRENT:written", "CURRENT:replaced",
    "versions:trashed", "base:tensors", "base:written", "base:renamed", "base:switched", "base:vacuumed",
    "wal:emptied", "versions:removed", "backup:copied", "backup:moved", "backup:renamed", "state:closing",
    "state:closed",
]  # fmt: skip


def write_events(path: Path, n: int, seed: int) -> set[str]:
    """Write a stream with duplicates, late events, rows that are none, and users who leave; give the bad positions."""
    rng = np.random.default_rng(seed)
    names = [name for name in TYPES if name not in ("forget_user", "item", "user", "hide")]
    lines: list[str] = []
    bad: set[str] = set()
    place = 0
    for i in range(n):
        draw = rng.random()
        row: Any = {
            "event_id": f"e{i}",
            "user_id": f"user-{rng.integers(60)}",
            "item_id": f"item-{rng.integers(40)}",
            "type": names[rng.choice(len(names), p=[0.27, 0.18, 0.09, 0.09, 0.13, 0.13, 0.04, 0.03, 0.04])],
            "features": {"genre": f"genre-{rng.integers(4)}"},
            "timestamp": 1_000_000 + i + int(rng.integers(-30, 30)),
        }
        if draw < 0.01:
            row = {"event_id": f"e{i}", "user_id": row["user_id"], "type": "forget_user", "timestamp": 1_000_000 + i}
        elif draw < 0.02:
            row["type"] = "adore"
        elif draw > 0.9:
            row |= {"about": "genre", "duration": 500.0}
        if lines and 0.02 <= draw < 0.08:
            line = lines[int(rng.integers(max(0, len(lines) - 100), len(lines)))]
        else:
            line = json.dumps(row) + "\n"
        if "adore" in line:
            bad.add(f"byte {place}")
        lines.append(line)
        place += len(line)
    path.write_text("".join(lines), encoding="ascii")
    return bad


class Runner:
    """Starts the child on one state again and again, and holds each start against what was acknowledged."""

    def __init__(self, state: Path, events: Path, model: str = "small") -> None:
        self.state, self.events, self.model = state, events, model
        self.acknowledged = 0

    def run(self, *step: str, kill_after: float | None = None) -> tuple[list[str] | None, bool]:
        """Give what the child said at its end, and whether it was killed."""
        command = [sys.executable, str(CHILD), str(self.state), str(self.events), self.model, *step]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        first = b""
        if kill_after is not None:
            first = child.stdout.readline()
            time.sleep(kill_after)
            child.kill()
        out, err = child.communicate(timeout=600)
        said = [line.split() for line in (first + out).decode().splitlines()]
        assert child.returncode in (0, -signal.SIGKILL), err.decode()
        for words in said:
            if words[0] == "start":
                assert int(words[1]) >= self.acknowledged
            elif words[0] == "ack":
                self.acknowledged = int(words[1])
        done = said[-1][1:] if said and said[-1][0] == "done" else None
        return done, child.returncode != 0


def check(tmp_path: Path, n_events: int, seed: int, n_kills: int, steps: list[str], model: str = "small") -> None:
    events = tmp_path / "events.jsonl"
    bad = write_events(events, n_events, seed)
    expected, _ = Runner(tmp_path / "undisturbed", events, model).run()
    assert expected is not None
    draw = random.Random(seed)
    kills = round_ = 0
    remaining = list(steps)
    while kills < n_kills or remaining:
        runner = Runner(tmp_path / f"state-{round_}", events, model)
        round_ += 1
        done = None
        while done is None:
            if remaining:
                done, killed = runner.run(remaining.pop(0), str(draw.randint(1, 2)))
            elif kills < n_kills:
                done, killed = runner.run(kill_after=draw.uniform(0.0, 0.25))
            else:
                done, killed = runner.run()
            kills += killed
        assert done == expected
        if killed:  # while it closed
            done, _ = runner.run()
            assert done == expected
        found = {letter["position"] for letter in DeadLetterFile(runner.state / "dead_letters.jsonl")}
        assert found - {""} <= bad  # those of users forgotten since have lost their position
        assert round_ < n_kills + 50
    assert kills >= n_kills


def test_killed_at_each_step_and_at_random_times(tmp_path: Path) -> None:
    check(tmp_path, n_events=2500, seed=1, n_kills=22, steps=STEPS)


def test_killed_again_and_again_before_the_first_version(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    write_events(events, 500, 8)
    expected, _ = Runner(tmp_path / "undisturbed", events).run()
    runner = Runner(tmp_path / "state", events)
    for _ in range(4):
        assert runner.run("log:committed", "3") == (None, True)
    assert runner.run()[0] == expected


@pytest.mark.parametrize("model", ["SSF", "BPR"])
def test_a_model_that_is_killed_ends_as_one_that_was_not(tmp_path: Path, model: str) -> None:
    """Counters, fold-ins and refreshes, parameters and steps of training: to the last bit."""
    check(tmp_path, 700, 12, 2, ["snapshot:written", "state:appended"], model)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["SSF", "BPR", "SGCN"])
def test_a_model_that_is_killed_forty_times(tmp_path: Path, model: str) -> None:
    check(tmp_path, 3000 if model == "SSF" else 1300, 13, 40, STEPS, model)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_killed_two_hundred_times(tmp_path: Path, seed: int) -> None:
    check(tmp_path, n_events=6000, seed=seed, n_kills=22, steps=random.Random(seed).sample(STEPS, 8))
