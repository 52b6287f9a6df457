"""What tells that a state directory, and its log, are there and are those that were opened."""

from __future__ import annotations

import os
from pathlib import Path

from recbole_signed.errors import UsageError

LOG = "log.sqlite"


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file or folder from another one at its place; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def existing_log(directory: Path) -> Path:
    """Return the log of a state directory."""
    log = directory / LOG
    if not log.exists():
        raise UsageError(
            f"{directory} holds no online state ({LOG} is not there); 'recbole-signed serve --init MODEL --dataset "
            "NAME --state DIR' or an OnlineTrainer begins one."
        )
    return log


def refuse_missing_log(log: Path, versions: Path) -> None:
    """Refuse to begin from nothing where versions say that there was a log."""
    if log.exists() and log.stat().st_size:
        return
    left = [log.with_name(f"{log.name}-wal"), *log.parent.glob("base-*"), *versions.glob("v*")]
    found = next((each for each in left if each.exists() and not (each.is_file() and not each.stat().st_size)), None)
    if found is not None:
        raise UsageError(
            f"{log} is missing or empty, but {found.name} was made from one, so events would be lost without a word; "
            "restore the log from a backup, or name an empty directory."
        )
