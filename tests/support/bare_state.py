"""A state without a model, and how it reads a source by itself."""

import io
import itertools
import weakref
from pathlib import Path
from typing import Any

from recbole_signed.files import parse_json
from recbole_signed.live.events import Limits, parse_rows
from recbole_signed.live.sources import EventSource
from recbole_signed.live.sources.source import Polled, unreadable
from recbole_signed.live.store.results import Update
from recbole_signed.live.store.state import OnlineState

_SOUGHT: weakref.WeakSet[EventSource] = weakref.WeakSet()


class JsonLines(EventSource):
    """The rows of a file, a JSON object a line; a position counts bytes."""

    def __init__(self, path: Path | str, limits: Limits | None = None) -> None:
        self.name = f"jsonl:{path}"
        self._file, self._limits = io.BytesIO(Path(path).read_bytes()), limits

    def seek(self, position: str | None) -> None:
        self._file.seek(int(position or 0))

    def poll(self, max_events: int) -> Polled:
        rows, places, dead, place = [], [], [], self._file.tell()
        for line in itertools.islice(self._file, max_events):
            try:
                rows.append(parse_json(line))
                places.append(f"byte {place}")
            except ValueError as error:
                dead.append(unreadable("line", line, f"byte {place}", error))
            place += len(line)
        batch, invalid = parse_rows(rows, places, self._limits)
        return Polled(batch, dead + invalid, str(place))


def ready(folder: Path, **options: Any) -> OnlineState:
    """Open a state and bring it to the end of its log."""
    state = OnlineState.open(folder, **options)
    try:
        state.recover()
        for _ in state.replay():
            pass
    except BaseException:
        state.close()
        raise
    return state


def take_from(state: OnlineState, source: EventSource, max_events: int = 1000) -> Update | None:
    """Take the next events, what is none aside, and tell the source; None once there is no more.

    A source is first put where the log says it was read to.
    """
    if source not in _SOUGHT:
        source.seek(state.log.position(source.name))
        _SOUGHT.add(source)
    polled = source.poll(max_events)
    if isinstance(source, JsonLines) and not len(polled.batch) and not polled.rejected:
        return None
    state.dead_letters.write(source.name, polled.rejected)
    update = state.ingest(polled.batch, source.name, polled.position)
    source.commit(polled.position)
    return update
