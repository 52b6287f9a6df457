"""A stream as its yaml file describes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, PositiveInt, StrictInt, ValidationInfo

from recbole_signed.errors import UsageError
from recbole_signed.plugin.facts import class_name
from recbole_signed.runs.provenance import digest
from recbole_signed.yaml_spec import Spec, checked, read_yaml

ArmName = Literal["none", "fold-in", "online", "refit"]  # between windows: nothing, updates, all of it, fits
ARMS: tuple[ArmName, ...] = ("none", "fold-in", "online", "refit")
POP = "pop"
WINDOW = "window"  # the delay until the window ends
UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}  # milliseconds
MAX_WINDOWS = 1_000_000


def _each_once(value: tuple[Any, ...], about: ValidationInfo) -> tuple[Any, ...]:
    """Refuse a list with a repetition, whose rows could not be told apart."""
    if len(set(value)) < len(value):
        raise UsageError(f"'{about.field_name}' has an entry twice: {', '.join(map(str, value))}; give each once.")
    return value


class ModelSpec(Spec):
    """A model under test."""

    label: str
    model: Annotated[str, AfterValidator(class_name)]
    settings: dict[str, JsonValue] = Field({}, description="a mapping from parameters to values")
    auto: bool = Field(False, description="true or false")  # choose the settings that are not given on the base alone
    features: dict[str, JsonValue] | None = Field(None, description="a mapping such as {item: [genre]}")
    """Columns of the data set's ``.item`` file; all items of it are announced at the cut."""
    arms: Annotated[tuple[ArmName, ...], AfterValidator(_each_once)] = Field(
        ARMS, description=f"a list of {', '.join(ARMS)}"
    )
    aversions: Annotated[tuple[Annotated[float, Field(ge=0)], ...], AfterValidator(_each_once)] = Field(
        (), description="a list of numbers of 0 or more"
    )
    """The online arm ranks with each of these ``dislike_aversion``, too: rows of their own, without another fit."""


_LENGTH = re.compile("[0-9]{1,8}[smhd]")


def _models(value: Any) -> tuple[ModelSpec, ...]:
    if isinstance(value, list):
        value = {str(name): {} for name in value}
    if not isinstance(value, dict) or not value:
        raise UsageError("'models' must be a list of names, or a mapping from names to their settings.")
    for label, given in value.items():
        if given is not None and not isinstance(given, dict):
            raise UsageError(f"the settings of the model '{label}' must be a mapping, but are {given!r}.")
    return tuple(
        checked(ModelSpec, {"model": str(label), **(given or {}), "label": str(label)}, f"the model '{label}'")
        for label, given in value.items()
    )


def _with_20(value: tuple[int, ...]) -> tuple[int, ...]:
    if 20 not in value:
        raise UsageError(f"'cutoffs' must be a list of whole numbers with 20 in it, but is {list(value)}.")
    return tuple(sorted(value))


def milliseconds(delay: str) -> int:
    """Return a delay such as 1m in milliseconds."""
    if not _LENGTH.fullmatch(delay):
        raise UsageError(
            f"'freshness' holds '{delay}'; give a whole number and one of {', '.join(UNITS)}, or {WINDOW}."
        )
    return int(delay[:-1]) * UNITS[delay[-1]]


def window_length(text: str) -> int:
    """Return the length of a window such as 1d in milliseconds."""
    if not _LENGTH.fullmatch(text) or text[-1] not in "dh" or not int(text[:-1]):
        raise UsageError(f"windows is '{text}'; give a number of windows, or a length such as 1d or 6h.")
    return int(text[:-1]) * UNITS[text[-1]]


def _windows(value: Any) -> int | str:
    if isinstance(value, str):
        window_length(value)
    elif type(value) is not int or not 0 < value <= MAX_WINDOWS:
        raise UsageError(
            f"windows is {value!r}; give a number of windows, {MAX_WINDOWS:,} at most, or a length such as 1d or 6h."
        )
    return value


def _delays(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise UsageError(f"'freshness' must be a list of delays such as [0s, 1m, 1h, 1d], but is {value!r}.")
    for delay in value:
        if delay != WINDOW:
            milliseconds(str(delay))
    return tuple(map(str, value))


Whole = Annotated[StrictInt, Field(ge=0)]


class StreamSpec(Spec):
    """What ``recbole-signed replay FILE`` runs."""

    path: Path
    title: str
    dataset: str
    cut: Annotated[float | str, BeforeValidator(lambda cut: cut if isinstance(cut, (float, str)) else str(cut))]
    windows: Annotated[int | str, BeforeValidator(_windows)]
    models: Annotated[tuple[ModelSpec, ...], BeforeValidator(_models)]
    note: str = ""
    sign_rule: dict[str, str] | None = Field(None, description="a mapping of rules for like, dislike and neutral")
    cutoffs: Annotated[tuple[PositiveInt, ...], AfterValidator(_with_20)] = Field(
        (10, 20, 50), description="a list of whole numbers with 20 in it"
    )
    batch: Annotated[Whole, Field(ge=1, description="a whole number above 0")] = 500  # events that are taken together
    timed_events: Annotated[Whole, Field(description="a whole number")] = 200
    """Events of each window that are taken one by one and timed, up to the user's new list."""
    max_windows: Annotated[StrictInt, Field(ge=1)] | None = Field(None, description="a whole number above 0")
    freshness: Annotated[tuple[str, ...], BeforeValidator(_delays), AfterValidator(_each_once)] = ()
    """Predict each like at its moment, by models that see events after these delays (0s, 1m), or by ``window``."""
    seed: Whole = Field(2020, description="a whole number")

    @classmethod
    def read(cls, path: Path) -> StreamSpec:
        """Read a yaml file."""
        return checked(cls, {**read_yaml(path), "path": path}, path)

    def hash(self) -> str:
        """Return a short hash of everything that the results depend on."""
        left_out = {"path", "title", "note", *(() if self.freshness else ("freshness",))}
        values = self.model_dump(exclude=left_out)
        for model in values["models"]:  # without features or aversions it is what it was before there were any
            for name in ("features", "aversions"):
                if not model[name]:
                    del model[name]
        return digest(values)[:12]
