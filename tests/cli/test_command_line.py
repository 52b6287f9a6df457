"""Whatever the words of a command are, it ends in a result or in one sentence.

A hundred command lines run with the other tests; two thousand with::

    python -m pytest -m slow tests/cli/test_command_line.py
"""

import os
import resource
import shlex
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import typer
from command_words import a_call, spoil, write_inputs
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from small_recommender import begin

from recbole_signed.cli import app as cli
from recbole_signed.convert import convert
from recbole_signed.runs import compare

SECONDS = 10
"""After which a command is interrupted, as by Ctrl-C."""
MEMORY = 3 << 30
"""Bytes of address space beside those of the process."""
INTERRUPTED = 130
COMMANDS: Any = typer.main.get_command(cli.app)
"""Built once: that takes longer than most commands that are refused."""
STOPPED: list[bool] = []
"""Whether the command at work was interrupted: Python 3.11 makes a SystemError of that inside its parser."""
MAY_FAIL = {("doctor",), ("data", "list"), ("synth",), ("compare",), ("state", "verify")}
"""Commands whose status is 1 where something is not as it should be."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with something of everything that a command reads."""
    import recbole_signed as rs

    folder = tmp_path_factory.mktemp("world")
    write_inputs(folder)
    convert("toy", None, folder / "atomic_files")
    begin(folder / "state").close()
    (folder / "state" / "experiments.yaml").write_text("test: {variants: {a: {share: 0.5}, b: {share: 0.5}}}\n")
    rs.fit("SSF", str(folder / "atomic_files" / "toy-signed"), rank=4, auto=False).save(folder / "model.rs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        compare("table.yaml")
    return folder


@pytest.fixture
def _bounded() -> Iterator[None]:
    """A command that takes too long is interrupted, one that takes too much memory gets none."""

    def stop(*_: Any) -> None:
        STOPPED.append(True)
        raise KeyboardInterrupt

    before, limits = signal.signal(signal.SIGALRM, stop), resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def prepare(folder: Path, world: Path, document: str, random: Random) -> None:
    """Make a copy of the world, now and then with a file in it that somebody changed."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(world, folder)
    (folder / "drawn.yaml").write_text(document, encoding="utf-8", errors="replace")
    if random.random() < 0.2:
        path = spoil(random, folder)
        note(f"changed: {path}\n{'' if path is None else path.read_text(encoding='utf-8')}")


def ends_well(words: list[str], folder: Path, capfd: pytest.CaptureFixture[str]) -> int:
    """Run a command in a folder; check its status and what it says where it refuses; return the status."""
    os.chdir(folder)
    capfd.readouterr()
    STOPPED.clear()
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with pytest.raises(SystemExit) as exit_:
            cli.main(words, COMMANDS)
    except SystemError:
        if STOPPED:
            return INTERRUPTED
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    status, output = exit_.value.code, capfd.readouterr()
    allowed = {0, 2, INTERRUPTED} | ({1} if tuple(words[:1]) in MAY_FAIL or tuple(words[:2]) in MAY_FAIL else set())
    assert status in allowed, output.err
    assert STOPPED or "Traceback (most recent call last)" not in output.err, output.err
    if status == 2:
        last = output.err.splitlines()[-1]
        assert last.startswith("recbole-signed: "), output.err
        assert len(last) < 2000, last
    return int(status)


def _check(count: int, world: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> dict[int, int]:
    seen: dict[int, int] = {}

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=True))
    def check(random: Random) -> None:
        words, document = a_call(random)
        note(shlex.join(words))
        note(document)
        prepare(folder, world, document, random)
        status = ends_well(words, folder, capfd)
        seen[status] = seen.get(status, 0) + 1

    check()
    return seen


@pytest.fixture(autouse=True)
def _no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service would answer until it is stopped."""
    for name in ("run_service", "run_replica"):
        monkeypatch.setattr(f"recbole_signed.live.serve.start.{name}", lambda *_, **__: None)


@pytest.mark.usefixtures("_bounded")
def test_a_hundred_commands_end_as_they_should(world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    seen = _check(100, world, tmp_path / "here", capfd)
    assert seen.get(0, 0) > 0
    assert seen[2] > 20


@pytest.mark.slow
@pytest.mark.usefixtures("_bounded")
def test_two_thousand_commands_end_in_a_result_or_a_sentence(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _check(2000, world, tmp_path / "here", capfd)[0] > 60
