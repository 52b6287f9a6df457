"""The first lines of a file, and where the sign of a row comes from: a column, or a rule on other columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from recbole_signed.convert.sign_rule import SignRule
from recbole_signed.errors import UsageError, ending
from recbole_signed.yaml_spec import read_yaml

HOW_TO_SIGN = (
    "give its .inter file a column 'sign:float' of -1, 0 and 1, or set a rule such as "
    "sign_rule={like: 'rating >= 4', dislike: 'rating <= 2'}."
)


def columns_of(path: str | Path, separator: str, encoding: str) -> dict[str, str]:
    """Return column name -> type as the first line of an atomic file has them."""
    columns: dict[str, str] = {}
    for field in first_lines(path, separator, encoding, 1)[0]:
        column, colon, kind = field.partition(":")
        if not colon or ":" in kind:
            raise UsageError(
                f"the first line of {path} must name columns as 'name:type', with {separator!r} between them "
                f"(field_separator), but has '{field}'."
            )
        if column in columns:
            raise UsageError(f"the first line of {path} names the column '{column}' twice.")
        columns[column] = kind
    return columns


def first_lines(path: str | Path, separator: str, encoding: str, number: int) -> list[list[str]]:
    """Return the fields of the first line and of those after it that are not blank; a blank field for a missing one."""
    try:
        with open(path, encoding=encoding) as file:
            lines = [file.readline()]
            filled = (line for line in file if line.strip("\r\n "))
            lines += [next(filled, "") for _ in range(number - 1)]
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} does not hold {encoding} text ({error}); set 'encoding' to that of the file."
        ) from error
    except LookupError as error:
        raise UsageError(f"there is no encoding '{encoding}'; set 'encoding' to that of {path}.") from error
    return [line.removeprefix("\ufeff").rstrip("\r\n").split(separator) for line in lines]


class ConfigLike(Protocol):
    """The part of ``recbole.config.Config`` that is read here; an unknown key gives None."""

    def __getitem__(self, key: str) -> Any: ...
    def __contains__(self, key: str) -> bool: ...


class Settings(dict[str, Any]):
    """What the yaml of a data set says; None for a key that is not there, as in RecBole's ``Config``."""

    def __missing__(self, key: str) -> None:
        return None

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read a yaml file; one that is not there says nothing."""
        if not path.is_file():
            return cls()
        return cls(read_yaml(path))


@dataclass(frozen=True)
class Sign:
    """The sign of a data set: a ``field`` that holds -1, 0 or 1, or a ``rule`` that makes it from other columns."""

    field: str | None
    rule: SignRule | None

    @classmethod
    def find(cls, config: ConfigLike, columns: Mapping[str, str], name: str) -> Sign | None:
        """Return the sign of a data set by the types of its columns; None for none or by ``SIGN_FIELD: ~``."""
        given = config["SIGN_FIELD"]
        if config["sign_rule"]:
            return cls(None, _rule(config["sign_rule"], columns))
        if "SIGN_FIELD" in config and given in (None, "None"):
            return None
        field = given or "sign"
        if field not in columns:
            near = [] if given else [column for column in columns if column.strip().lower() == field]
            if near:
                raise UsageError(
                    f"'{name}' has a column '{near[0]}', and the sign is looked for under '{field}'; rename it, or set "
                    f"SIGN_FIELD to '{near[0]}', or to null for data without a sign."
                )
            if not given:
                return None
            raise UsageError(
                f"SIGN_FIELD is '{field}', but the data set '{name}' has the columns "
                f"{', '.join(columns)}{ending(field, columns)}"
            )
        if columns[field] != "float":
            raise UsageError(
                f"the sign column '{field}' of '{name}' has the type '{columns[field]}'; write it as '{field}:float'."
            )
        return cls(field, None)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the ``.inter`` file from which the sign comes."""
        if self.rule is not None:
            return self.rule.columns
        return () if self.field is None else (self.field,)

    def refuse_truth_values(self, path: str | Path, separator: str, encoding: str) -> None:
        """Refuse a sign column of true and false, which pandas reads as 1 and 0: false is no dislike then."""
        header, first = first_lines(path, separator, encoding, 2)
        place = header.index(f"{self.field}:float") if f"{self.field}:float" in header else len(first)
        if place < len(first) and first[place].strip('"').lower() in ("true", "false"):
            raise UsageError(
                f"the sign column '{self.field}' of {path} holds '{first[place]}', and a sign is -1 (dislike), 0 "
                f"(neutral) or 1 (like); set sign_rule={{like: '{self.field} == 1', dislike: '{self.field} == 0'}}."
            )

    def read(self, columns: Mapping[str, npt.NDArray[Any]], where: str) -> npt.NDArray[np.int8]:
        """Return 1 (like), -1 (dislike) or 0 for each row, ``[n_rows]``; ``where`` names the file in messages."""
        if self.rule is not None:
            return self.rule.apply({column: columns[column] for column in self.rule.columns})
        sign = columns[self.field or ""]
        wrong = np.flatnonzero((sign != 0) & (sign != 1) & (sign != -1))
        if len(wrong):
            raise UsageError(
                f"the sign column '{self.field}' of {where} holds {sign[wrong[0]]:g} in row {wrong[0] + 1}; it must "
                "hold -1 (dislike), 0 (neutral) or 1 (like)."
            )
        return sign.astype(np.int8)


def _rule(spec: Any, columns: Mapping[str, str]) -> SignRule:
    rule = SignRule.parse(spec)
    for column in rule.columns:
        if column not in columns:
            raise UsageError(
                f"sign_rule uses the column '{column}', but the data set has {', '.join(columns)}"
                f"{ending(column, columns)}"
            )
        if column in rule.text_columns:
            raise UsageError(
                f"sign_rule compares the column '{column}' with a word, which only 'convert' and from_frame can; give "
                "the .inter file a column 'sign:float' of -1, 0 and 1."
            )
        if columns[column] != "float":
            raise UsageError(
                f"sign_rule compares the column '{column}' with a number, but its type is '{columns[column]}'."
            )
    return rule
