"""Events from a Redis stream, read by a consumer group: an entry is acknowledged once it is durable in the log."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from recbole_signed.errors import MissingExtraError, UsageError, counted
from recbole_signed.live.events import parse_rows
from recbole_signed.live.sources.source import EventSource, Polled

_logger = logging.getLogger(__name__)


class RedisSource(EventSource):
    """A Redis stream (6.2 or newer, for ``XAUTOCLAIM``) whose entries hold the fields of an event.

    At least once: what was given and not acknowledged is given again, first that of this consumer's name, from before a
    crash or an error, then that of other consumers of the group who have been silent for ``idle`` milliseconds. An
    entry without an ``event_id`` gets the name of the stream and its own id. Entries that are not events are dead
    letters, and acknowledged with the rest.

    Args:
        url: ``redis://host:port/db``.
        stream: key of the stream.
        group: consumer group; made, from the start of the stream on, where it is not there.
        consumer: name of this consumer; the same one after a restart.
        block: milliseconds that `poll` waits where there is nothing.
        idle: see above.

    Raises:
        MissingExtraError: the package redis is not installed.
        UsageError: the server can't be reached, or the key holds something else.
    """

    def __init__(
        self,
        url: str,
        stream: str,
        group: str = "recbole-signed",
        consumer: str = "trainer",
        *,
        block: int = 1000,
        idle: int = 60_000,
    ) -> None:
        try:
            import redis
        except ImportError as error:
            raise MissingExtraError("A Redis stream", "redis") from error
        self._errors = redis.RedisError
        self.name = f"redis:{stream}:{group}"
        self._stream, self._group, self._consumer = stream, group, consumer
        self._block, self._idle = block, idle
        self._own = "0"  # the next of our own pending entries; ">" once there are none
        self._others: str | None = "0-0"
        self._given: list[bytes] = []
        try:
            self._redis: Any = redis.Redis.from_url(url)
            self._make_group()
            self._tell_trimmed()
        except ValueError as error:
            raise UsageError(f"'{url}' is not an address of a Redis server: {error}.") from error

    @classmethod
    def of_address(cls, address: str, **options: Any) -> RedisSource:
        """Make a source of ``redis://host:port/db?stream=S&group=G&consumer=C``."""
        parts = urlsplit(address)
        words = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        mine: dict[str, Any] = {key: words[key] for key in ("stream", "group", "consumer") if key in words}
        if "stream" not in mine or set(words) - set(mine):
            raise UsageError(
                f"'{address}' names no stream or something unknown; write redis://host:port/0?stream=NAME, and "
                "&group=NAME or &consumer=NAME as needed."
            )
        return cls(urlunsplit(parts._replace(query="")), **mine, **options)

    def poll(self, max_events: int) -> Polled:
        """Give up to ``max_events`` entries: own pending ones, others' abandoned ones, then new ones."""
        try:
            entries = self._pending(max_events) or self._abandoned(max_events)
            entries = entries or self._read(">", max_events, self._block)
            positions = [entry.decode() for entry, _ in entries]
            rows = [_row(fields) for _, fields in entries]
        except (self._errors, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:  # or no such reply
            if "NOGROUP" in str(error):  # the server has lost its data
                self._make_group()
            raise self._refused(error) from error
        self._given = [entry for entry, _ in entries]
        instead = [{"event_id": f"{self._stream}/{place}"} for place in positions]
        batch, dead = parse_rows(rows, positions, instead=instead)
        return Polled(batch, dead, positions[-1] if positions else None)

    def commit(self, position: str | None) -> None:
        """Acknowledge what the last `poll` gave."""
        if self._given:
            try:
                self._redis.xack(self._stream, self._group, *self._given)
            except self._errors as error:
                raise self._refused(error) from error
            self._given = []

    def behind(self) -> int | None:
        """Return how many entries the group was not given yet; None before Redis 7, and where it can't tell."""
        try:
            groups = self._redis.xinfo_groups(self._stream)
        except self._errors as error:
            raise self._refused(error) from error
        lag = next((group.get("lag") for group in groups if group["name"] == self._group.encode()), None)
        return None if lag is None else int(lag)

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def _make_group(self) -> None:
        try:
            self._redis.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except self._errors as error:
            if "BUSYGROUP" not in str(error):  # it is there already
                raise self._refused(error) from error

    def _tell_trimmed(self) -> None:
        """Warn of entries that were trimmed before the group was given them; before Redis 7 none are known."""
        try:
            stream, groups = self._redis.xinfo_stream(self._stream), self._redis.xinfo_groups(self._stream)
        except self._errors:
            return
        read = next((group.get("entries-read") for group in groups if group["name"] == self._group.encode()), None)
        lost = 0 if read is None else stream.get("entries-added", 0) - stream["length"] - read
        if lost > 0:
            _logger.warning(
                "%s of the Redis stream '%s' were trimmed before the group '%s' read them, and are missing in this "
                "state; restore a backup of a machine that has them.",
                counted(lost, "entry", "entries"),
                self._stream,
                self._group,
            )

    def _pending(self, n: int) -> list[tuple[bytes, Any]]:
        if self._own == ">":
            return []
        entries = self._read(self._own, n, None)
        self._own = entries[-1][0].decode() if entries else ">"
        return entries

    def _abandoned(self, n: int) -> list[tuple[bytes, Any]]:
        while self._others is not None:
            reply = self._redis.xautoclaim(
                self._stream, self._group, self._consumer, self._idle, start_id=self._others, count=n
            )
            following, entries = reply[0].decode(), reply[1]
            self._others = None if following == "0-0" else following
            if entries:
                return entries
        self._others = "0-0"  # look again the next time
        return []

    def _read(self, start: str, n: int, block: int | None) -> list[tuple[bytes, Any]]:
        reply = self._redis.xreadgroup(self._group, self._consumer, {self._stream: start}, count=n, block=block)
        if isinstance(reply, dict):  # what newer versions of the client give
            blocks: list[Any] = next(iter(reply.values()), [])
            return [entry for part in blocks for entry in part] if blocks and isinstance(blocks[0], list) else blocks
        return reply[0][1] if reply else []

    def _refused(self, error: Exception) -> UsageError:
        self._own = "0"  # the server may have given what did not arrive here
        text = " ".join(str(error).split())
        return UsageError(
            f"The Redis stream '{self._stream}' can't be read ({text}); see that the server runs and that the key is "
            "a stream, then start again: what was not acknowledged comes again."
        )


def _row(fields: Any) -> dict[str, Any]:
    return {
        name.decode(errors="surrogateescape"): value.decode(errors="surrogateescape")
        for name, value in (fields or {}).items()  # an entry trimmed since has no fields
    }
