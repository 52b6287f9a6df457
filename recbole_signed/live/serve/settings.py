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
    """What a request may ask for."""

    body_bytes: int = Field(default=1 << 20, ge=1024)
    connections: int = Field(default=2000, ge=1)  # of a process; beyond it the one waiting longest is closed, or 503
    id_length: int = Field(default=256, ge=1, le=MAX_ID)  # in characters; of what is stored any is read
    k: int = Field(default=1000, ge=1)  # longest list
    explained: int = Field(default=100, ge=1)  # longest list with explanations: each tells of all the user's edges
    batch: int = Field(default=1000, ge=1)  # events, or users, in one request
    items: int = Field(default=50_000, ge=1)  # in all lists of one request
    queue: int = Field(default=10_000, ge=1)  # events that wait for the writer; beyond it 429
    commit: int = Field(default=500, ge=1)  # most events that become durable together
    lag: float = Field(default=5.0, gt=0)  # seconds behind the log from which a replica is not ready
    wait: float = Field(default=2.0, gt=0)  # seconds that a request may wait for its turn; beyond it 503
    requests_per_second: float = Field(default=0.0, ge=0)  # of one key, or address without one; 0 for no limit


class Schedule(Spec):
    """Seconds between rounds of maintenance; 0 switches one off."""

    refresh: float = Field(default=600.0, ge=0)  # of the item side
    refit: float = Field(default=86_400.0, ge=0)  # from scratch, in the background
    snapshot: float = Field(default=3_600.0, ge=0)  # of the model and the edges
    compact: float = Field(default=86_400.0, ge=0)  # of the log
    backup: float = Field(default=86_400.0, ge=0)  # counted from the copy that is there; due at once without one


class Quality(Spec):
    """Live quality."""

    k: int = Field(default=20, ge=1)  # length of the list that a verdict is looked up in
    sample: float = Field(default=1.0, ge=0, le=1)  # share of verdicts that are ranked before they are learned
    per_commit: int = Field(default=20, ge=1)  # most of them in one commit, so that bulk loads are not held up
    alert_dislike_rate: float = Field(default=0.2, gt=0)  # dislikes per impression above which the alert is 1
    alert_unknown_items: float = Field(default=0.2, gt=0)  # share of events above which it is 1
    alert_cases: int = Field(default=50, ge=1)  # impressions or verdicts of the last hour below which none is 1


class NewItems(Spec):
    """Places of each list that are kept for new items."""

    slots: int = Field(default=0, ge=0, le=100)  # at the end of each list; 0 for none
    verdicts: int = Field(default=20, ge=1)  # likes and dislikes from which on an item is no longer new


class ServeSettings(Spec):
    """Everything that ``serve --config FILE`` may hold."""

    limits: RequestLimits = RequestLimits()
    schedule: Schedule = Schedule()
    quality: Quality = Quality()
    new_items: NewItems = NewItems()
    keys: Path | None = None  # hashed API keys; without them the service listens on the loopback interface alone
    experiments: Path | None = None  # by default `experiments.yaml` in the state's folder
    impressions: bool = True
    keep_impressions: float = Field(default=90.0, ge=0, le=36_500)  # days; 0 keeps them
    backup: Path | None = None  # folder of the copy by schedule, in the place of the one before
    source: str | None = None  # Redis stream or Kafka topic whose events take the place of those of requests
    dislike_strength: float | None = Field(default=None, ge=0, le=1)  # None: as the state has it; variants first
    half_life: float = Field(default=7.0, gt=0)  # days after which a like counts half in `/v1/trending`
    allow_origins: tuple[str, ...] = ()  # of pages that may call the service (CORS)
    allow_hosts: tuple[str, ...] = ()  # answered without keys, beside those of the loopback interface

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
        """Read a yaml file; None gives the defaults; UsageError for a key or value that is not valid."""
        if path is None:
            return cls()
        return checked(cls, read_yaml(path), path)


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return re.fullmatch(r"[\w.-]+", text) is not None
    return True
