"""A stream experiment as its yaml file describes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError, nearest
from recbole_signed.experiments.runs import read_yaml

ARMS = ("none", "fold-in", "online", "refit")
"""What an arm does between windows: nothing; T0 and T1; the whole system; a fit from scratch."""
POP = "pop"


@dataclass(frozen=True)
class ModelSpec:
    """A model under test."""

    label: str
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    auto: bool = False
    """Choose the settings that are not given on the base alone."""
    arms: tuple[str, ...] = ARMS


@dataclass(frozen=True)
class StreamSpec:
    """What ``recbole-signed replay FILE`` runs."""

    path: Path
    title: str
    dataset: str
    cut: float | str
    windows: int | str
    models: tuple[ModelSpec, ...]
    note: str = ""
    sign_rule: dict[str, str] | None = None
    cutoffs: tuple[int, ...] = (10, 20, 50)
    batch: int = 500
    """Events that are taken together."""
    timed_events: int = 200
    """Events of each window that are taken one by one and timed, up to the user's new list."""
    max_windows: int | None = None
    seed: int = 2020

    @classmethod
    def read(cls, path: Path) -> StreamSpec:
        """Read a yaml file.

        Raises:
            UsageError: a key is unknown or missing, or a value does not fit.
        """
        content = read_yaml(path)
        known = [name for name in cls.__dataclass_fields__ if name != "path"]
        for key in content:
            if key not in known:
                raise UsageError(f"{path}: unknown key '{key}'{nearest(key, known)}")
        for key in ("title", "dataset", "cut", "windows", "models"):
            if key not in content:
                raise UsageError(f"{path}: the key '{key}' is missing.")
        cutoffs = content.get("cutoffs", [10, 20, 50])
        if not (isinstance(cutoffs, list) and all(isinstance(k, int) and k > 0 for k in cutoffs) and 20 in cutoffs):
            raise UsageError(f"{path}: 'cutoffs' must be a list of whole numbers with 20 in it, but is {cutoffs!r}.")
        for key in ("batch", "timed_events"):
            if not isinstance(content.get(key, 1), int) or content.get(key, 1) < (key == "batch"):
                raise UsageError(f"{path}: '{key}' must be a whole number, but is {content[key]!r}.")
        cut = content["cut"]
        values = {
            **content,
            "cut": cut if isinstance(cut, (float, str)) else str(cut),
            "cutoffs": tuple(sorted(cutoffs)),
            "models": _models(path, content["models"]),
        }
        return cls(path=path, **values)

    def hash(self) -> str:
        """Return a short hash of everything that the results depend on."""
        values = {key: value for key, value in asdict(self).items() if key not in ("path", "title", "note")}
        return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _models(path: Path, value: Any) -> tuple[ModelSpec, ...]:
    if isinstance(value, list):
        value = {str(name): {} for name in value}
    if not isinstance(value, Mapping) or not value:
        raise UsageError(f"{path}: 'models' must be a list of names, or a mapping from names to their settings.")
    found = []
    for label, given in value.items():
        given = dict(given or {})
        arms = tuple(given.pop("arms", ARMS))
        for arm in arms:
            if arm not in ARMS:
                raise UsageError(f"{path}: there is no arm '{arm}'{nearest(arm, ARMS)}")
        known = ("model", "settings", "auto")
        for key in given:
            if key not in known:
                raise UsageError(f"{path}: the model '{label}' has an unknown key '{key}'{nearest(key, known)}")
        found.append(
            ModelSpec(
                label=str(label),
                model=str(given.get("model", label)),
                settings=dict(given.get("settings") or {}),
                auto=bool(given.get("auto", False)),
                arms=arms,
            )
        )
    return tuple(found)
