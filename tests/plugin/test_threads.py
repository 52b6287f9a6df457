"""How many threads torch gets, and that they sleep at barriers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from recbole_signed.errors import UsageError
from recbole_signed.plugin import configuration, set_threads


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(configuration, "_threads_at_first", lambda: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_small_data_gets_one_thread_and_large_data_what_torch_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.inter").write_bytes(b"x" * 1000)
    set_threads(None, tmp_path)
    assert torch.get_num_threads() == 1
    monkeypatch.setattr(configuration, "SMALL_BYTES", 1000)
    set_threads(None, tmp_path)
    assert torch.get_num_threads() == 2
    set_threads(1, tmp_path)
    assert torch.get_num_threads() == 1


def test_the_environment_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    (tmp_path / "small.inter").write_bytes(b"x")
    set_threads(None, tmp_path)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "two", True])
def test_wrong_numbers_are_refused(wrong: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be a whole number of 1 or more"):
        set_threads(wrong, tmp_path)


def test_threads_wait_passively_where_nobody_says_otherwise() -> None:
    code = "import os, recbole_signed; print(os.environ['OMP_WAIT_POLICY'])"
    for given, wanted in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        path = str(Path(configuration.__file__).parents[2])
        done = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": path, **given}, capture_output=True, text=True
        )
        assert done.stdout.strip() == wanted, done.stderr
