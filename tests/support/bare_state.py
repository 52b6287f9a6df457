"""A state without a model, and how it reads a source by itself."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

from recbole_signed.live.sources import EventSource
from recbole_signed.live.store.state import OnlineState
from recbole_signed.live.store.update import Update

_SOUGHT: weakref.WeakSet[EventSource] = weakref.WeakSet()


def ready(folder: Path, **options: Any) -> OnlineState:
    """Open a state and bring it to the end of its log."""
    state = OnlineState.open(folder, **options)
    state.recover()
    for _ in state.replay():
        pass
    return state


def take_from(state: OnlineState, source: EventSource, max_events: int = 1000) -> Update | None:
    """Take the next events, what is none aside, and tell the source; None once there is no more.

    A source is first put where the log says it was read to.
    """
    if source not in _SOUGHT:
        source.seek(state.log.position(source.name))
        _SOUGHT.add(source)
    polled = source.poll(max_events)
    if polled.exhausted and not len(polled.batch) and not polled.rejected:
        return None
    state.dead_letters.write(source.name, polled.rejected)
    update = state.ingest(polled.batch, source.name, polled.position)
    source.commit(polled.position)
    return update
