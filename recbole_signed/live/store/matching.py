"""Whether a version belongs to a log, and to what the user runs."""

from __future__ import annotations

from pathlib import Path

from recbole_signed.errors import UsageError
from recbole_signed.live.store.event_log import EventLog
from recbole_signed.live.store.versions import Snapshot


def refuse_mismatch(snapshot: Snapshot, log: EventLog, directory: Path, model: str | None) -> None:
    """Hold a version against the log of its directory, and against the model that is wanted.

    Raises:
        UsageError: it is of another model or vocabulary, or reflects more than the log holds.
    """
    where = f"Version {snapshot.name} in {directory}"
    if model is not None and snapshot.model != model:
        raise UsageError(
            f"{where} is of the model '{snapshot.model}', and '{model}' was expected; roll back to a version of that "
            "model, or name another state directory."
        )
    if snapshot.applied_seq > log.last_seq:
        raise UsageError(
            f"{where} reflects events up to seq {snapshot.applied_seq}, and the log ends at {log.last_seq}: the "
            "log was cut short or belongs elsewhere; restore it from a backup."
        )
    for what, vocabulary, size, expected in (
        ("users", log.users, snapshot.n_users, snapshot.users_hash),
        ("items", log.items, snapshot.n_items, snapshot.items_hash),
    ):
        if size > len(vocabulary) or vocabulary.hash(size) != expected:
            raise UsageError(
                f"{where} was made with another vocabulary of {what} than the log has, so its rows would be "
                "assigned to the wrong ones; it belongs to another state directory."
            )
