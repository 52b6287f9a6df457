"""Errors whose cause lies outside end in a sentence; those of this package keep their traceback."""

from __future__ import annotations

import errno

import polars as pl
import pytest

from recbole_signed.cli import app as cli
from recbole_signed.errors import TRACEBACK, outside_cause

RUN = ("run", "-m", "SGCN", "hidden=3", "-c", "a.yaml")


@pytest.mark.parametrize(
    ("error", "words", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a.pth"),
            ("convert",),
            "the file system refuses runs/a",
        ),
        (PermissionError(errno.EACCES, "Permission denied", b"runs"), ("stats",), "refuses runs: Permission denied."),
        (OSError(errno.ENOSPC, "No space left on device"), ("stats",), "refuses to write: No space left on device"),
        (OSError("No space left on device (os error 28)"), ("convert",), "refuses to write: No space left on device"),
        (
            pl.exceptions.ComputeError("underlying IO error: No space left on device (os error 28)"),
            ("recommend",),
            "refuses to write: No space left on device; make room.",
        ),
        (MemoryError("Unable to allocate 8 TiB"), ("synth",), "not enough memory (Unable to allocate 8 TiB)"),
        (RuntimeError("[enforce fail] can't allocate memory: you tried 8 TB"), ("models",), "not enough memory"),
        (ModuleNotFoundError("No module named 'faiss'", name="faiss"), ("run",), "needs the Python module 'faiss'"),
        (
            KeyError("nproc"),
            RUN,
            "KeyError ('nproc') under the settings hidden=3 of a.yaml; correct them",
        ),
        (ImportError("please install wandb"), ("run", "log_wandb=True"), "ImportError (please install wandb) under"),
    ],
)
def test_causes_outside(error: Exception, words: tuple[str, ...], said: str) -> None:
    sentence = outside_cause(error, words)
    assert sentence is not None
    assert said in sentence


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ZeroDivisionError(), ("models",)),
        (KeyError("nproc"), ("run", "-m", "SGCN")),
        (OSError("no number"), ("stats",)),
        (RuntimeError("No space left on device (os error 28)"), ("stats",)),
        (ModuleNotFoundError("No module", name="recbole_signed.nowhere"), ("run",)),
    ],
)
def test_faults_of_this_package(error: Exception, words: tuple[str, ...]) -> None:
    assert outside_cause(error, words) is None


def test_the_traceback_can_be_had(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise MemoryError

    monkeypatch.setattr("recbole_signed.runs.list_models", broken)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["models"])
    assert exit_.value.code == 2
    assert "not enough memory" in capsys.readouterr().err
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(MemoryError):
        cli.main(["models"])
