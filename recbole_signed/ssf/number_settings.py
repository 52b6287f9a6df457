"""Settings of a filter as numbers: read from a configuration, kept in a checkpoint's tensor."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import torch

from recbole_signed.errors import UsageError

if TYPE_CHECKING:
    from typing_extensions import Self


class NumberSettings:
    """What frozen dataclasses share whose fields are numbers with defaults; the default's type is the field's."""

    @classmethod
    def from_mapping(cls, values: Any) -> Self:
        """Read the settings from anything with ``values[name]``; ``None`` stands for the default.

        Raises:
            UsageError: a value is no number, or out of its range.
        """
        given: dict[str, Any] = {}
        for name, kind in cls._kinds().items():
            value = values[name]
            if value is not None:
                try:
                    given[name] = kind(value)
                except (TypeError, ValueError) as error:
                    raise UsageError(f"{name} is {value!r}; it must be a number.") from error
        return cls(**given)

    def to_tensor(self) -> torch.Tensor:
        """Return the values in order, float64 ``[number of fields]``."""
        return torch.tensor(list(asdict(self).values()), dtype=torch.float64)  # type: ignore[call-overload]

    @classmethod
    def from_tensor(cls, values: torch.Tensor) -> Self:
        """Return the settings that :meth:`to_tensor` was given."""
        named = zip(cls._kinds().items(), values.tolist(), strict=True)
        return cls(**{name: kind(value) for (name, kind), value in named})

    @classmethod
    def _kinds(cls) -> dict[str, Any]:
        return {each.name: type(each.default) for each in fields(cls)}  # type: ignore[arg-type]
