"""Commands in forks of one process: what they print, how they end, and that none is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recbole_signed.experiments.runs import PROGRAM, ForkServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands are forked on Linux alone")


DATA = Path(__file__).resolve().parents[2] / "atomic_files"
TOY = ("-d", "toy-signed", f"data_path={DATA}")

ENDLESS = ("run", "-m", "LightGCN", *TOY, "epochs=100000")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ForkServer]:
    server = ForkServer(tmp_path / "server.log", threads=1)
    yield server
    server.close()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def start(server: ForkServer, folder: Path, name: str, *words: str):
    return server.start([*PROGRAM, *words], folder / f"{name}.log", folder / f"{name}.out")


def test_a_forked_command_prints_and_ends_as_one_with_a_process_of_its_own(server: ForkServer, tmp_path: Path) -> None:
    words = ["run", "-m", "SSF", *TOY, "--no-save", "--verbose", "--json"]
    assert start(server, tmp_path, "fork", *words).wait(120) == 0
    forked = json.loads((tmp_path / "fork.out").read_text())
    alone = json.loads(subprocess.run([*PROGRAM, *words], check=True, capture_output=True, text=True).stdout)
    for key in ("test", "valid", "config_hash", "data_sha256", "threads"):
        assert forked.get(key) == alone.get(key), key
    assert "SSF" in (tmp_path / "fork.log").read_text(), "the log is that of the command"


def test_statuses_are_those_of_the_command(server: ForkServer, tmp_path: Path) -> None:
    wrong = start(server, tmp_path, "wrong", "run", "-m", "Nope", *TOY, "--json")
    right = start(server, tmp_path, "right", "--version")
    assert (wrong.wait(60), right.wait(60), wrong.poll()) == (2, 0, 2)
    assert "no model named 'Nope'" in (tmp_path / "wrong.out").read_text()


def test_a_killed_command_gives_its_signal_and_the_server_goes_on(server: ForkServer, tmp_path: Path) -> None:
    first = start(server, tmp_path, "first", *ENDLESS)
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait(60) == -signal.SIGKILL
    assert start(server, tmp_path, "second", "--version").wait(60) == 0


def test_a_dead_server_takes_its_commands_along_and_is_replaced(server: ForkServer, tmp_path: Path) -> None:
    running = start(server, tmp_path, "running", *ENDLESS)
    os.kill(server.pid, signal.SIGKILL)
    assert running.wait(60) == -signal.SIGKILL
    until = time.monotonic() + 30
    while is_alive(running.pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_alive(running.pid)
    assert start(server, tmp_path, "again", "--version").wait(60) == 0


def test_another_command_line_has_a_process_of_its_own(server: ForkServer, tmp_path: Path) -> None:
    process = server.start([sys.executable, "-c", "print(7)"], tmp_path / "log", tmp_path / "out")
    assert (process.wait(60), (tmp_path / "out").read_text()) == (0, "7\n")


def test_closing_ends_what_runs(tmp_path: Path) -> None:
    server = ForkServer(tmp_path / "server.log", threads=1)
    running = start(server, tmp_path, "running", *ENDLESS)
    server.close()
    assert running.wait(10) < 0 or running.poll() == 130
    assert not is_alive(running.pid)


def test_a_command_ends_with_the_process_that_asked_for_it(server: ForkServer, tmp_path: Path) -> None:
    """A process that is killed closes nothing but its pipes."""
    running = start(server, tmp_path, "running", *ENDLESS)
    assert server._process is not None
    assert server._process.stdin is not None
    server._process.stdin.close()
    assert running.wait(30) == -signal.SIGKILL
    assert server._process is None or server._process.wait(30) == 0
