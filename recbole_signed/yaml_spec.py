"""The content of a yaml file as a pydantic model, and one sentence on what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

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
        raise UsageError(f"{where}: {_sentence(kind, error.errors()[0], content)}") from error


def _sentence(kind: type[Spec], error: Any, content: Mapping[str, Any]) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    key, fields = str(error["loc"][0]), list(kind.model_fields)
    if error["type"] == "extra_forbidden":
        return f"unknown key '{key}'{nearest(key, fields)} (expected {', '.join(fields)})."
    if error["type"] == "missing":
        return f"the key '{key}' is missing."
    if error["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return f"'{key}' has no '{error['input']}'{nearest(str(error['input']), known)} (expected {', '.join(known)})."
    return f"'{key}' must be {kind.model_fields[key].description or 'something else'}, but is {content[key]!r}."
