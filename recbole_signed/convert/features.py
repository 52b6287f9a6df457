"""Features of the users or items that occur: ``NAME.user`` and ``NAME.item``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from recbole_signed.convert.atomic import Schema, write_atomic
from recbole_signed.convert.base import Features
from recbole_signed.convert.batch import Batch, as_batches
from recbole_signed.convert.spool import Spool
from recbole_signed.errors import UsageError


def write_features(
    path: Path, kind: str, features: Features, spools: Mapping[str | None, Spool], new_ids: pl.DataFrame | None
) -> dict[str, str]:
    """Write the features of those who have interactions; give the fields of the file and their types.

    Args:
        path: of the file.
        kind: ``user`` or ``item``.
        features: as the converter gives them.
        spools: the interactions, by part.
        new_ids: where ids were numbered again, their columns ``raw`` and ``new``.

    Raises:
        UsageError: a cell that is not fit, an id with several rows, or no row of an id that has interactions.
    """
    id_column = f"{kind}_id"
    schema = Schema({id_column: "token"}, needed=[id_column], blanks=features.blanks)
    used = pl.concat([spool.scan().select(id_column) for spool in spools.values()]).unique().collect()
    if new_ids is not None:
        used = used.join(new_ids.rename({"new": id_column}), on=id_column).select(pl.col("raw").alias(id_column))
    rows = pl.concat(_used_rows(schema, features, kind, id_column, used), how="vertical")
    if not rows.height:
        raise UsageError(
            f"no id of the {kind} features is in the interactions, whose first one is {used[id_column].min()!r}; give "
            f"features of the same {kind}s, or none."
        )
    if new_ids is not None:
        rows = rows.with_columns(pl.col(id_column).replace_strict(new_ids["raw"], new_ids["new"]))
    write_atomic(path, [rows.with_columns(pl.col(pl.Float64).fill_nan(None))], schema.fields)
    return schema.fields


def _used_rows(
    schema: Schema, features: Features, kind: str, id_column: str, used: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """Rows of used ids, the first of each; a second one is refused, or left out where bad rows are."""
    seen = used.clear()
    for raw in as_batches(features.frame, f"{kind} features"):
        batch = schema.conform(raw, features.types)
        batch = batch.keep(_is_in(batch, used, id_column))
        ids, shown = batch.frame[id_column], batch.called(id_column)
        first = ids.is_first_distinct() & ~_is_in(batch, seen, id_column)
        batch = batch.require(
            first,
            lambda i, ids=ids, shown=shown: f"{shown} {ids[i]!r} has several rows, one was expected",  # type: ignore[misc]
            id_column,
        )
        seen = pl.concat([seen, batch.frame.select(id_column)])
        yield batch.frame


def _is_in(batch: Batch, ids: pl.DataFrame, id_column: str) -> pl.Series:
    known = ids.with_columns(pl.lit(True).alias("\0known"))
    joined = batch.frame.select(id_column).join(known, on=id_column, how="left", maintain_order="left")
    return joined["\0known"].fill_null(False)
