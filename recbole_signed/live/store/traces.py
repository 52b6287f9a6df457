"""Looks for what is left of a forgotten user in a state directory, byte by byte."""

from __future__ import annotations

import contextlib
import json
import os
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recbole_signed.live import id_of
from recbole_signed.live.store.backup import noted
from recbole_signed.live.store.event_log import EventLog
from recbole_signed.live.store.owner import LOG

_BLOCK = 1 << 22


@dataclass
class Traces:
    """What was found: ``traces`` confirm the user to a reader of the directory; ``notes`` say what is still to come."""

    traces: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def traces_of(directory: Path, user: str, event_ids: Sequence[str] = ()) -> Traces:
    """Look for a user, as text in any file, as a digest of its events, and as rows that are still to be erased.

    Args:
        directory: of the state; it may be in use.
        user: id of the user.
        event_ids: ids of events of the user, to look for too.

    Raises:
        UsageError: ``user`` or one of ``event_ids`` is not an id, or the log is damaged.
    """
    found = Traces()
    token, events = id_of(user), [id_of(each, "event_id") for each in event_ids]
    spellings = list(dict.fromkeys(each for text in (token, *events) for each in _spellings(text)))
    found.traces += [f"{path} holds {spelling!r}." for path, spelling in _holding(directory, spellings)]
    log = EventLog(directory / LOG, read_only=True)
    try:
        if token in log.users:
            found.traces.append("The vocabulary has the user: it was not forgotten, or came back.")
        found.traces += [f"The event {each!r} is known by its digest." for each in events if log.known(each)]
        until = log.graves.until(token)
        if until is not None:
            day = time.strftime("%Y-%m-%d", time.gmtime(until))
            found.traces.append(
                f"Late events of the user are refused until {day}: a digest of its id and the key of that are kept "
                "until then."
            )
        rows, factors = log.connection.execute("SELECT sum(files), count(*) FROM erasures").fetchone()
        if rows:
            found.notes.append(f"Rows of {rows} forgotten users, under numbers, are still to be erased from files.")
            away = [each.path for each in noted(directory) if each.is_away]
            found.notes += [f"The backup {path} can't be reached, and may hold forgotten users." for path in away]
        if factors:
            found.notes.append(f"Factors that were learned from {factors} forgotten users go with the next refit.")
    finally:
        log.close()
    return found


def _spellings(text: str) -> list[bytes]:
    forms = {text: None, unicodedata.normalize("NFD", text): None}  # rejected rows are kept as they came
    return [
        each for form in forms for each in (form.encode(), json.dumps(form)[1:-1].encode(), form.encode("utf-16-le"))
    ]


def _holding(directory: Path, spellings: Sequence[bytes]) -> Iterator[tuple[Path, bytes]]:
    """Yield files with what each holds; those that a writer puts in place of others meanwhile are read, too."""
    looked: set[Path] = set()
    while files := [path for path in _files(directory) if path not in looked]:
        looked.update(files)
        yield from ((path, spelling) for path in files for spelling in _held(path, spellings))


def _files(directory: Path) -> list[Path]:
    # unlike rglob, which ends in an error where a folder has gone since its parent was read
    found = (Path(folder) / name for folder, _, names in os.walk(directory) for name in names)
    return sorted(path for path in found if path.is_file())


def _held(path: Path, spellings: Sequence[bytes]) -> list[bytes]:
    """Return the spellings that a file holds; it is read once."""
    sought, tail = set(spellings), b""
    longest = max(map(len, spellings))
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        while sought and (block := file.read(_BLOCK)):
            window = tail + block
            sought = {each for each in sought if each not in window}
            tail = window[-longest:]
    return [each for each in spellings if each not in sought]
