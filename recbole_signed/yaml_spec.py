"""The content of a yaml file as a pydantic model, and one sentence on what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from recbole_signed.errors import UsageError, nearest


class Spec(BaseModel):
    """What a file, or a part of it, may hold; the description of a field says what its value must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")


AnySpec = TypeVar("AnySpec", bound=Spec)


def checked(kind: type[AnySpec], content: Mapping[str, Any], where: str | Path) -> AnySpec:
    """Return content as a model.

    Args:
        kind: the model; its validators may raise UsageError with a sentence of their own.
        content: key -> value.
        where: the file, or the part of it, that the sentence begins with.

    Raises:
        UsageError: a key is unknown or missing, or its value is not what the model says it must be.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{where}: {_sentence(kind, error.errors()[0])}") from error


def _sentence(kind: Any, error: Any) -> str:
    place, inner = error["loc"], kind
    for part in place[:-1]:  # models and mappings within the model
        inner = inner.model_fields[part].annotation if _is_spec(inner) else (get_args(inner) or (None,))[-1]
    fields = inner.model_fields if _is_spec(inner) else {}
    where = ".".join(part for part in place if isinstance(part, str))
    if error["type"] == "value_error":
        message = str(error["ctx"]["error"])
        return message if message.endswith((".", "?")) else f"{message}."
    key = str(place[-1])
    if error["type"] == "extra_forbidden":
        return f"unknown key '{where}'{nearest(key, fields)} (expected {', '.join(fields)})."
    if error["type"] == "missing":
        return f"the key '{where}' is missing."
    if error["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        hint = nearest(str(error["input"]), known)
        return f"'{where}' has no '{error['input']}'{hint} (expected {', '.join(known)})."
    expected = error["msg"].removeprefix("Input should be ")
    if key in fields and fields[key].description:
        expected = fields[key].description
    elif expected == error["msg"]:
        return f"'{where}': {expected}."
    return f"'{where}' must be {expected}, but is {error['input']!r}."


def _is_spec(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Spec)
