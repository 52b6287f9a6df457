"""What a raw table is, whatever its format: columns with names, read in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_signed.convert import rejects
from recbole_signed.convert.batch import Batch
from recbole_signed.errors import UsageError, ending, wrong_separator


@dataclass(frozen=True)
class RawTable:
    """A raw table whose column names are known and whose rows can be read in batches.

    Made by :func:`recbole_signed.convert.tables.open_table`. Text formats give every value as text ("" where there is
    none), parquet gives the types it has.
    """

    path: Path
    columns: tuple[str, ...]

    @property
    def is_text(self) -> bool:
        """Whether values come as text."""
        return True

    def hint(self, column: str | None = None) -> str:
        """Return what helps where a column is missing, None for one under a usual name; ``""`` for nothing."""
        return wrong_separator(self.columns)

    def has(self, column: str) -> bool:
        """Whether there is a column of this name."""
        return column in self.columns

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """Read these columns, in file order.

        Raises:
            UsageError: an unknown column, no rows at all, or a row that cannot be read (with file and row).
        """
        for column in columns:
            if not self.has(column):
                raise UsageError(
                    f"{self.path.name} has no column {column!r}; it has {', '.join(map(repr, self.columns))}"
                    f"{self.hint(column) or ending(column, self.columns)}"
                )
        rows = 0
        for batch in self._read(list(dict.fromkeys(columns))):
            rows += batch.frame.height
            yield batch
        taker = rejects.current()
        if rows == 0 and not (taker and self.path.name in taker.counts):
            raise UsageError(f"{self.path.name} holds no rows.")

    def _read(self, columns: list[str]) -> Iterator[Batch]:
        raise NotImplementedError
