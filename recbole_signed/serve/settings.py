"""What a service is told in its yaml file: limits, schedule, sampling, keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recbole_signed.errors import UsageError, nearest


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Section):
    """What a request may ask for.

    Attributes:
        body_bytes: largest request body.
        id_length: longest id, in characters.
        k: longest list.
        batch: most events, or users, in one request.
        queue: most events that wait for the writer; beyond it requests get 429.
        commit: most events that become durable together.
        lag: seconds behind the log after which a replica says that it is not ready.
        requests_per_second: of one key (or address, without keys); 0 for no limit.
    """

    body_bytes: int = Field(default=1 << 20, ge=1024)
    id_length: int = Field(default=256, ge=1)
    k: int = Field(default=1000, ge=1)
    batch: int = Field(default=1000, ge=1)
    queue: int = Field(default=10_000, ge=1)
    commit: int = Field(default=500, ge=1)
    lag: float = Field(default=5.0, gt=0)
    requests_per_second: float = Field(default=0.0, ge=0)


class Schedule(_Section):
    """Seconds between rounds of maintenance; 0 switches one off.

    Attributes:
        refresh: of the item side.
        refit: from scratch, in the background.
        snapshot: of the model and the edges; skipped where nothing happened.
        compact: of the log.
    """

    refresh: float = Field(default=600.0, ge=0)
    refit: float = Field(default=86_400.0, ge=0)
    snapshot: float = Field(default=3_600.0, ge=0)
    compact: float = Field(default=86_400.0, ge=0)


class Quality(_Section):
    """Live quality.

    Attributes:
        k: length of the list that a verdict is looked up in.
        sample: share of verdicts that are ranked before they are learned.
        per_commit: most verdicts of one commit that are, drawn at random, so that bulk loads are not held up.
        alert_dislike_rate: dislikes per impression above which the alert gauge is 1.
        alert_unknown_items: share of events about unknown items above which it is 1.
    """

    k: int = Field(default=20, ge=1)
    sample: float = Field(default=1.0, ge=0, le=1)
    per_commit: int = Field(default=20, ge=1)
    alert_dislike_rate: float = Field(default=0.2, gt=0)
    alert_unknown_items: float = Field(default=0.2, gt=0)


class ServeSettings(_Section):
    """Everything that ``serve --config FILE`` may hold.

    Attributes:
        keys: file of hashed API keys; without it the service listens on the loopback interface alone.
        experiments: file of experiments; by default ``experiments.yaml`` in the state's folder.
        impressions: whether answers are logged.
        allow_origins: origins of pages that may call the service (CORS); none by default.
    """

    limits: Limits = Limits()
    schedule: Schedule = Schedule()
    quality: Quality = Quality()
    keys: Path | None = None
    experiments: Path | None = None
    impressions: bool = True
    allow_origins: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path | None) -> ServeSettings:
        """Read a yaml file; None gives the defaults.

        Raises:
            UsageError: it can't be read or holds a key or value that is not valid.
        """
        if path is None:
            return cls()
        try:
            content: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(f"can't read {path}: {error}.") from error
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            names = [*cls.model_fields, *Limits.model_fields, *Schedule.model_fields, *Quality.model_fields]
            hint = nearest(str(first["loc"][-1]), names) if first["loc"] and first["type"] == "extra_forbidden" else "."
            raise UsageError(f"{path}{f', {where}' if where else ''}: {first['msg']}{hint}") from error
