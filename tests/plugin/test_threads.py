"""How many threads torch gets, that they sleep at barriers, and that large tensors get large pages."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from refusals import check_refused

from recbole_signed.plugin import configuration
from recbole_signed.plugin.configuration import set_threads


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(configuration, "_threads_at_first", lambda: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_small_data_gets_one_thread_large_what_torch_chose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    check_refused("must be a whole number of 1 or more", set_threads, wrong, tmp_path)


@pytest.mark.parametrize(
    ("name", "ours", "theirs"), [("OMP_WAIT_POLICY", "PASSIVE", "ACTIVE"), ("THP_MEM_ALLOC_ENABLE", "1", "0")]
)
def test_waiting_and_pages_are_set_where_nobody_says_otherwise(name: str, ours: str, theirs: str) -> None:
    code = f"import os, recbole_signed; print(os.environ[{name!r}])"
    for given, wanted in (({}, ours), ({name: theirs}, theirs)):
        path = str(Path(configuration.__file__).parents[2])
        done = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": path, **given}, capture_output=True, text=True
        )
        assert done.stdout.strip() == wanted, done.stderr
