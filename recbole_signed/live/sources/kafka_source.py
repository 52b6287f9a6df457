"""Events from a Kafka topic, all partitions of it; how far each is read is kept beside the events in the log."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from recbole_signed.errors import MissingExtraError, UsageError
from recbole_signed.files import parse_json
from recbole_signed.live.events import parse_rows
from recbole_signed.live.sources.source import EventSource, Polled, unreadable

_logger = logging.getLogger(__name__)
_OWN = ("bootstrap.servers", "group.id", "enable.auto.commit", "auto.offset.reset", "enable.partition.eof")
_LOOK = 60.0  # seconds after which partitions that were added are looked for
_PATIENCE = 5.0  # seconds for an answer of the brokers


class KafkaSource(EventSource):
    """A Kafka topic whose messages are events as JSON objects, in UTF-8.

    Each process reads all partitions. It begins where the log of its state says, so that nothing is read twice, and a
    restored backup gets what came after it, whatever the group; a state that has never read the topic begins at the
    offsets of the group, and without those at the oldest message. The group's offsets follow what is durable, for tools
    that watch the lag.
    Order holds within a partition: send the events of a user with the user's id as key.

    A message without an ``event_id`` gets its topic, partition and offset as such, one without a ``timestamp`` that of
    the message. What is no event is a dead letter.

    Args:
        brokers: ``host:port``, several separated by commas.
        topic: whose messages are read.
        group: under which offsets are kept in Kafka; one for each state.
        settings: a file of librdkafka's settings, ``name=value`` a line, such as ``security.protocol`` and passwords.
        skip_lost: whether to go on with the oldest message where messages were deleted before they were read.
        block: seconds that `poll` waits where there is nothing.

    Raises:
        MissingExtraError: the package confluent-kafka is not installed.
        UsageError: the brokers can't be reached, there is no such topic, or the settings are not valid.
    """

    def __init__(
        self,
        brokers: str,
        topic: str,
        group: str = "recbole-signed",
        *,
        settings: str | Path | None = None,
        skip_lost: bool = False,
        block: float = 1.0,
    ) -> None:
        try:
            import confluent_kafka
        except ImportError as error:
            raise MissingExtraError("A Kafka topic", "kafka") from error
        self._kafka: Any = confluent_kafka
        self.name = f"kafka:{topic}"  # without the group: a backup of one machine goes on on another
        self._topic, self._skip_lost, self._block = topic, skip_lost, block
        self._next: dict[int, int] = {}  # partition to the offset of what comes next; below 0 where that is not known
        self._from_log = self._assigned = False
        self._look_at = 0.0
        self._down: str | None = None
        own = {
            "bootstrap.servers": brokers,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",  # the default would pass over what is lost without a word
        }
        notes = {"error_cb": self._note, "on_commit": self._note_commit, "log_level": 2}
        try:
            self._consumer: Any = confluent_kafka.Consumer({**notes, **_read_settings(settings), **own}, logger=_logger)
        except (confluent_kafka.KafkaException, TypeError, ValueError) as error:
            raise UsageError(f"Kafka refuses the settings of {settings or self.name}: {_error_text(error)}.") from error
        try:
            self._partitions()
        except UsageError:
            self._consumer.close()
            raise

    @classmethod
    def of_address(cls, address: str, **options: Any) -> KafkaSource:
        """Make a source of ``kafka://host:port,host:port/TOPIC?group=G&settings=FILE&lost=skip``."""
        parts = urlsplit(address)
        words: dict[str, Any] = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        topic = unquote(parts.path.strip("/"))
        lost = words.pop("lost", "stop")
        wrong = "@" in parts.netloc or set(words) - {"group", "settings"} or lost not in ("stop", "skip")
        if wrong or not parts.netloc or not topic or "/" in topic:
            raise UsageError(
                f"'{address.rpartition('@')[2]}' names no topic or something unknown; write kafka://HOST:PORT/TOPIC, "
                "and ?group=NAME, &settings=FILE (which has names and passwords) or &lost=skip as needed."
            )
        return cls(parts.netloc, topic, skip_lost=lost == "skip", **words, **options)

    def seek(self, position: str | None) -> None:
        """Go on after what the log holds; raises UsageError where that is no position."""
        self._from_log, self._assigned, self._next = position is not None, False, {}
        if position is not None:
            try:
                self._next = {int(partition): int(offset) for partition, offset in parse_json(position).items()}
            except (AttributeError, TypeError, ValueError) as error:
                raise UsageError(f"the position of {self.name} in the log is {position!r}, and no offsets.") from error

    def poll(self, max_events: int) -> Polled:
        """Give up to ``max_events`` messages."""
        if not self._assigned or self._down or time.monotonic() > self._look_at:
            self._follow()
        messages = self._read(max_events)
        rows, places, instead, dead = [], [], [], []
        for message in messages:
            place = f"{self._topic}/{message.partition()}/{message.offset()}"
            self._next[message.partition()] = message.offset() + 1
            try:
                rows.append(parse_json(message.value() or b""))
                places.append(place)
                instead.append(self._known(message, place))
            except ValueError as error:
                dead.append(unreadable("message", message.value() or b"", place, error))
        batch, invalid = parse_rows(rows, places, instead=instead)
        position = {str(number): offset for number, offset in sorted(self._next.items()) if offset >= 0}
        return Polled(batch, dead + invalid, json.dumps(position))

    def commit(self, position: str | None) -> None:
        """Set the offsets of the group, without waiting for Kafka: the log knows them anyway."""
        if position is None or position == "{}":
            return
        parts = [self._part(int(number), offset) for number, offset in parse_json(position).items()]
        try:
            self._consumer.commit(offsets=parts, asynchronous=True)
        except self._kafka.KafkaException as error:
            self._note_commit(error, None)

    def behind(self) -> int | None:
        """Return how many messages were not given yet, as far as the brokers have told with those that were."""
        behind = 0
        for number, following in self._next.items():
            low, high = self._consumer.get_watermark_offsets(self._part(number), cached=True)
            if high >= 0:  # else nothing of it was fetched yet
                behind += max(high - max(following, low, 0), 0)
        return behind

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()

    # ---- partitions

    def _partitions(self) -> list[int]:
        """Return the numbers of all partitions, asking the brokers."""
        topic = self._asked(self._consumer.list_topics, self._topic).topics[self._topic]
        if topic.error is not None:
            raise self._refused(_error_text(topic.error))
        return list(topic.partitions)

    def _follow(self) -> None:
        """Read all partitions, those that were added too, each from the offset that comes next."""
        numbers = self._partitions()
        self._down, self._look_at = None, time.monotonic() + _LOOK
        new = [number for number in numbers if number not in self._next]
        if new:
            self._next |= dict.fromkeys(new, self._kafka.OFFSET_BEGINNING)
            if not self._from_log:
                committed = self._asked(self._consumer.committed, [self._part(number) for number in new])
                self._next |= {part.partition: part.offset for part in committed if part.offset >= 0}
        if new or not self._assigned:
            parts = [self._part(number, self._next[number]) for number in numbers]
            self._consumer.assign(parts)
            self._from_log = self._assigned = True  # a partition that is added later is read from its start

    def _part(self, number: int, *offset: int) -> Any:
        return self._kafka.TopicPartition(self._topic, number, *offset)

    # ---- messages

    def _read(self, n: int) -> list[Any]:
        """Wait for a message, then take what has arrived behind it, up to ``n``."""
        first = self._consumer.poll(self._block)
        if first is None:
            return []
        try:
            more = self._consumer.consume(n - 1, timeout=0) if n > 1 else []
        except BaseException:
            self._assigned = False  # the consumer is past the first message, which is asked for again
            raise
        messages, failed = [], None
        for message in [first, *more]:
            if message.error() is None:
                messages.append(message)
            else:
                failed = failed or message
        if failed is not None:
            self._assigned = False  # what comes next is asked for again, from there
            if not messages:
                self._raise(failed)
        return messages

    def _known(self, message: Any, place: str) -> dict[str, Any]:
        """Return what is known of fields that a message does not hold."""
        kind, stamp = message.timestamp()
        return {"event_id": place, **({} if kind == self._kafka.TIMESTAMP_NOT_AVAILABLE else {"timestamp": stamp})}

    # ---- what goes wrong

    def _raise(self, message: Any) -> None:
        """Raise the error that a message stands for, but for lost messages that are to be passed over."""
        if message.error().code() != self._kafka.KafkaError._AUTO_OFFSET_RESET:
            raise self._refused(_error_text(message.error()))
        number, offset = message.partition(), self._next[message.partition()]
        low, high = self._asked(self._consumer.get_watermark_offsets, self._part(number))
        lost = f"message {offset} of partition {number} of '{self._topic}' is gone: it holds {low} to {high - 1}"
        if not self._skip_lost:
            raise UsageError(
                f"{lost}; send what is missing to another topic, or write lost=skip in the address to go on without it."
            )
        self._next[number] = low
        _logger.warning("%s; going on with the oldest.", lost)

    def _asked(self, ask: Callable[..., Any], about: Any) -> Any:
        """Return what the brokers answer; raises UsageError where they do not."""
        try:
            return ask(about, timeout=_PATIENCE)
        except self._kafka.KafkaException as error:
            raise self._refused(_error_text(error)) from error

    def _refused(self, why: str) -> UsageError:
        return UsageError(
            f"The Kafka topic '{self._topic}' can't be read ({why}); see that the brokers run and that the topic is "
            "there: what was not taken comes again."
        )

    def _note(self, error: Any) -> None:
        self._down = _error_text(error)

    def _note_commit(self, error: Any, _: Any) -> None:
        if error is not None:
            _logger.warning("the offsets of %s could not be set: %s", self.name, _error_text(error))


def _error_text(error: Any) -> str:
    """Return what an error of the client says, on one line."""
    inner = error.args[0] if isinstance(error, Exception) and error.args else error
    return " ".join((inner.str() if hasattr(inner, "str") else str(inner)).split()).rstrip(".")


def _read_settings(path: str | Path | None) -> dict[str, str]:
    """Read a file of settings, ``name=value`` a line."""
    if path is None:
        return {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't read the settings of Kafka in {path}: {error}.") from error
    settings = {}
    for number, line in enumerate(lines, 1):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not name or name.startswith("#"):
            continue
        if not equals or name in _OWN:
            raise UsageError(f"{path}:{number}: write name=value, with a name other than {', '.join(_OWN)}.")
        settings[name] = value
    return settings
