"""The first lines of an ``.inter`` file: its columns and their types. Nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path

from recbole_signed.errors import UsageError


def columns_of(path: str | Path, separator: str, encoding: str) -> dict[str, str]:
    """Return column name -> type as the first line of an atomic file has them.

    Raises:
        UsageError: the line is not made of ``name:type`` fields, names a column twice, or is not of this encoding.
    """
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
