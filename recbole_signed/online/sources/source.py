"""Where events come from: the interface of a source, and which one a path or an address means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from recbole_signed.errors import UsageError
from recbole_signed.online import DeadLetter, EventBatch


@dataclass(frozen=True)
class Polled:
    """What a source gave: events, rows that were none, how far it is read now, and whether there is no more to come.

    ``position`` is the source's own text; None for a source that can't be put back.
    """

    batch: EventBatch
    rejected: list[DeadLetter]
    position: str | None
    exhausted: bool


class EventSource(Protocol):
    """A stream of events that gives an event at least once: again, where it was not told that it is durable.

    ``name`` is the key under which the log keeps the position; two sources of one state have two names. A source that
    holds nothing open, or has nobody to tell, inherits the methods that do nothing.
    """

    name: str

    def seek(self, position: str | None) -> None:
        """Go on after a position that `poll` gave; None is the start. Called once, before the first `poll`."""
        return

    def poll(self, max_events: int) -> Polled:
        """Give up to ``max_events`` rows; an empty batch where there is none now."""

    def commit(self, position: str | None) -> None:
        """Take note that all up to a position that `poll` gave is durable."""
        return

    def close(self) -> None:
        """Let go of files and connections."""
        return


def open_source(address: str, **options: Any) -> EventSource:
    """Open the source that an address means.

    ``-`` is standard input (JSON lines); ``redis://host:port/db?stream=S&group=G`` a Redis stream; a folder a data set
    of atomic files; a file what its suffix says: ``.jsonl``, ``.ndjson``, ``.csv``, ``.tsv``, ``.parquet``, ``.inter``.

    Raises:
        UsageError: no such kind of source, or no such file.

    """
    from recbole_signed.online.sources.dataset_source import AtomicSource
    from recbole_signed.online.sources.file_source import CsvSource, JsonLinesSource, ParquetSource, StdinSource

    if address == "-":
        return StdinSource(**options)
    if address.split("://", 1)[0] in ("redis", "rediss"):
        from recbole_signed.online.sources.redis_source import RedisSource

        return RedisSource.of_address(address, **options)
    path = Path(address)
    if path.is_dir() or path.suffix == ".inter":
        return AtomicSource(path, **options)
    if path.suffix in (".jsonl", ".ndjson"):
        return JsonLinesSource(path, **options)
    if path.suffix in (".csv", ".tsv"):
        return CsvSource(path, separator="\t" if path.suffix == ".tsv" else ",", **options)
    if path.suffix == ".parquet":
        return ParquetSource(path, **options)
    raise UsageError(
        f"'{address}' is not a source of events; give a .jsonl, .csv, .tsv, .parquet or .inter file, a data set "
        "folder, redis://... or - for standard input."
    )
