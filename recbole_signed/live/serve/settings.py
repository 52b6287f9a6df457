"""What a service is told in its yaml file: limits, schedule, sampling, keys."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path

from pydantic import Field, field_validator

from recbole_signed.errors import UsageError
from recbole_signed.ids_and_times import MAX_ID
from recbole_signed.live.sources.source import STREAMS
from recbole_signed.yaml_spec import Spec, checked, read_yaml


class RequestLimits(Spec):
    """What a request may ask for.

    Attributes:
        body_bytes: largest request body.
        connections: most of a process at once, or fewer where the system allows fewer open files; beyond it the one
            that has waited longest for a request is closed, and where none waits new ones get 503.
        id_length: longest id of an event, in characters; what is stored can be read and forgotten in any case.
        k: longest list.
        explained: longest list with explanations, each of which takes milliseconds.
        batch: most events, or users, in one request.
        items: most items in the lists of one request for several users: their number times the length of each list.
        queue: most events that wait for the writer; beyond it requests get 429.
        commit: most events that become durable together.
        lag: seconds since a replica's last look at the log after which it says that it is not ready.
        wait: seconds that a request may wait for its turn; beyond it the answer is 503.
        requests_per_second: of one valid key, or of one address where a request has none; 0 for no limit.
    """

    body_bytes: int = Field(default=1 << 20, ge=1024)
    connections: int = Field(default=2000, ge=1)
    id_length: int = Field(default=256, ge=1, le=MAX_ID)
    k: int = Field(default=1000, ge=1)
    explained: int = Field(default=100, ge=1)
    batch: int = Field(default=1000, ge=1)
    items: int = Field(default=50_000, ge=1)
    queue: int = Field(default=10_000, ge=1)
    commit: int = Field(default=500, ge=1)
    lag: float = Field(default=5.0, gt=0)
    wait: float = Field(default=2.0, gt=0)
    requests_per_second: float = Field(default=0.0, ge=0)


class Schedule(Spec):
    """Seconds between rounds of maintenance; 0 switches one off.

    Attributes:
        refresh: of the item side.
        refit: from scratch, in the background.
        snapshot: of the model and the edges; skipped where nothing happened.
        compact: of the log.
        backup: to the folder that the key ``backup`` names; counted from the copy that is there, also after a restart,
            and due at once where there is none.
    """

    refresh: float = Field(default=600.0, ge=0)
    refit: float = Field(default=86_400.0, ge=0)
    snapshot: float = Field(default=3_600.0, ge=0)
    compact: float = Field(default=86_400.0, ge=0)
    backup: float = Field(default=86_400.0, ge=0)


class Quality(Spec):
    """Live quality.

    Attributes:
        k: length of the list that a verdict is looked up in.
        sample: share of verdicts that are ranked before they are learned.
        per_commit: most verdicts of one commit that are, drawn at random, so that bulk loads are not held up.
        alert_dislike_rate: dislikes per impression above which the alert gauge is 1.
        alert_unknown_items: share of events about unknown items above which it is 1.
        alert_cases: impressions, or verdicts, of the last hour below which neither gauge is 1, whatever the share.
    """

    k: int = Field(default=20, ge=1)
    sample: float = Field(default=1.0, ge=0, le=1)
    per_commit: int = Field(default=20, ge=1)
    alert_dislike_rate: float = Field(default=0.2, gt=0)
    alert_unknown_items: float = Field(default=0.2, gt=0)
    alert_cases: int = Field(default=50, ge=1)


class NewItems(Spec):
    """Places of each list that are kept for new items.

    Attributes:
        slots: how many of each list, at its end; 0 for none.
        verdicts: likes and dislikes from which on an item is no longer new.
    """

    slots: int = Field(default=0, ge=0, le=100)
    verdicts: int = Field(default=20, ge=1)


class ServeSettings(Spec):
    """Everything that ``serve --config FILE`` may hold.

    Attributes:
        new_items: places of each list for them.
        keys: file of hashed API keys; without it the service listens on the loopback interface alone.
        experiments: file of experiments; by default ``experiments.yaml`` in the state's folder.
        impressions: whether answers are logged.
        keep_impressions: days after which they are deleted; 0 keeps them.
        backup: folder that the state is copied to by schedule, in the place of the copy before; none by default.
        source: address of a Redis stream or a Kafka topic, from which events come in the place of requests.
        dislike_strength: how far what is near to a dislike falls, from 0 to 1, for users whose variant says nothing of
            it; None: as the state has it.
        half_life: days after which a like counts half in ``/v1/trending``; that of DecayPop by default.
        allow_origins: origins of pages that may call the service (CORS); none by default.
        allow_hosts: names that a service without keys answers to, beside those of the loopback interface.
    """

    limits: RequestLimits = RequestLimits()
    schedule: Schedule = Schedule()
    quality: Quality = Quality()
    new_items: NewItems = NewItems()
    keys: Path | None = None
    experiments: Path | None = None
    impressions: bool = True
    keep_impressions: float = Field(default=90.0, ge=0, le=36_500)
    backup: Path | None = None
    source: str | None = None
    dislike_strength: float | None = Field(default=None, ge=0, le=1)
    half_life: float = Field(default=7.0, gt=0)
    allow_origins: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()

    @field_validator("allow_hosts")
    @classmethod
    def _are_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if host != "*" and not _is_host(host):
                raise UsageError(
                    f"allow_hosts has '{host}'; give names alone, such as ratings.example, without a scheme, a port or "
                    "a path."
                )
        return hosts

    @field_validator("source")
    @classmethod
    def _is_a_stream(cls, source: str | None) -> str | None:
        if source is not None and not source.startswith(tuple(f"{scheme}://" for scheme in STREAMS)):
            raise UsageError(
                f"source is '{source}'; it must be the address of a Redis stream, redis://HOST:PORT/DB?stream=NAME, or "
                "of a Kafka topic, kafka://HOST:PORT/TOPIC; send the events of a file to POST /v1/events."
            )
        return source

    @classmethod
    def read(cls, path: Path | None) -> ServeSettings:
        """Read a yaml file; None gives the defaults."""
        if path is None:
            return cls()
        return checked(cls, read_yaml(path), path)


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return re.fullmatch(r"[\w.-]+", text) is not None
    return True
