"""From a source to a data set folder: everything is written under a temporary name and renamed into place."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from recbole_signed.convert import dataset_versions as versions
from recbole_signed.convert import manifest
from recbole_signed.convert.atomic import STANDARD, Schema, write_atomic
from recbole_signed.convert.base import Converter, Features
from recbole_signed.convert.base import source as find_source
from recbole_signed.convert.batch import Rejects, as_batches, current, using
from recbole_signed.convert.cleaning import Cleaned, Spool, clean
from recbole_signed.convert.options import Common, as_json, read
from recbole_signed.errors import UsageError, argument, counted
from recbole_signed.files import path_of, replacing_folder, sha256
from recbole_signed.progress import report_progress
from recbole_signed.yaml_spec import yaml_text

_FORMAT_VERSION = 1
_SPOOL = ".spool"
_LONGEST_NAME = 200  # bytes; a file's name has 255 at most, and those of a data set have more than its own
_YAML_HEADER = """\
# RecBole settings that belong to this data set; recbole_signed reads them before the model's and the user's.
# Raw columns and features are loaded if they are added to load_col, e.g. load_col: {inter: [...], user: '*'}.
"""


class AlreadyThere(UsageError):  # noqa: N818  # it is a UsageError
    """The data set folder exists and is not to be replaced."""


def convert(
    source: str,
    input: Path | str | None,
    output: Path | str,
    name: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Make a data set of atomic files from raw data.

    It is the folder ``output/NAME`` with ``NAME.inter``, ``NAME.yaml`` and ``dataset.json``. The same input, options
    and package version give the same bytes. Nothing is left behind on failure.

    Args:
        source: one of :func:`recbole_signed.convert.base.source_names`.
        input: the raw file or folder; None for sources that need none.
        output: folder of data sets, RecBole's ``data_path``; made if absent.
        name: of the data set; after the input if None.
        overwrite: replace a data set of that name.
        options: of the source, and those that every source has (:class:`recbole_signed.convert.options.Common`), as
            values or as text.

    Returns:
        The data set folder.

    Raises:
        UsageError: unknown source or option, bad raw data (with file and row), or a data set in the way.
    """
    if not isinstance(overwrite, bool):  # the text "no" counts as true
        raise UsageError(f"overwrite is {overwrite!r}; give True or False.")
    converter_class = find_source(source)
    shared, own = read(converter_class.options_class, options, source)
    converter = converter_class(None if input is None else path_of(input, "input"), own)
    name = name if name is not None else converter.default_name()
    check_name(name)
    return write_dataset(converter, source, path_of(output, "output") / name, shared, overwrite)


def write_dataset(converter: Converter, source: str, target: Path, shared: Common, overwrite: bool = False) -> Path:
    """Write what a converter gives as the data set folder ``target``, at once or not at all."""
    may_replace(target, overwrite)
    try:
        with replacing_folder(target, overwrite=overwrite) as folder:
            taker = Rejects(folder / f"{target.name}{versions.REJECTED}") if shared.on_error == "skip" else None
            with using(taker):
                _build(converter, source, target.name, folder, shared)
            may_replace(target, overwrite)  # it may have come meanwhile
    except FileExistsError as error:
        raise AlreadyThere(f"{target} is already there; another process made it just now.") from error
    return target


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a data set."""
    wrong = not isinstance(name, str) or not name or name.startswith(".") or name != name.strip()
    if wrong or any(c in name for c in "/\\:\t\n\r\0"):
        raise UsageError(f"{name!r} can't be the name of a data set; give another {argument('name')}.")
    if (size := len(os.fsencode(name))) > _LONGEST_NAME:
        raise UsageError(
            f"the name of the data set has {size} bytes; give {argument('name')} of {_LONGEST_NAME} at most."
        )


def may_replace(target: Path, overwrite: bool) -> None:
    """Refuse a folder that is there, unless it is a data set and is to be replaced."""
    if not target.exists():
        return
    if not overwrite:
        raise AlreadyThere(
            f"{target} is already there; give {argument('overwrite', 'True')} to replace it, or another "
            f"{argument('name')}."
        )
    if not (target / versions.MANIFEST).is_file():
        raise UsageError(
            f"{target} is not a data set that recbole-signed made ({versions.MANIFEST} is missing); remove it first."
        )


def _build(converter: Converter, source: str, name: str, folder: Path, shared: Common) -> None:
    schema = Schema()
    spools = _read(converter, schema, folder / _SPOOL)
    cleaned = clean(spools, shared, folder / _SPOOL / "cleaned") if shared.cleans else Cleaned(spools, {})
    spools = cleaned.spools
    rows = manifest.describe_rows(spools, unix_time=converter.unix_time)
    _require_signs(converter, rows, " that cleaning left" if cleaned.report else "")
    fields, warnings = {"inter": schema.fields}, manifest.warnings(rows, unix_time=converter.unix_time)
    for part_name, spool in spools.items():
        path = folder / ".".join(filter(None, [name, part_name, "inter"]))
        write_atomic(path, spool.in_time_order(), schema.fields)
    for kind, features in (("user", converter.user_features()), ("item", converter.item_features())):
        if features is not None:
            new_ids = cleaned.renumbered.get(f"{kind}_id")
            fields[kind], n_known, n = _write_features(folder / f"{name}.{kind}", kind, features, spools, new_ids)
            if 2 * n_known < n:
                warnings.append(f"only {n_known:,} of {counted(n, kind)} have features; write ids alike in both files")
    for id_column, ids in cleaned.renumbered.items():
        ids.select(pl.col("new").alias(id_column), pl.col("raw").alias(f"raw_{id_column}")).write_csv(
            folder / f"{name}.{id_column}s{versions.NOT_ATOMIC}", separator="\t"
        )
    shutil.rmtree(folder / _SPOOL, ignore_errors=True)
    settings = _settings(converter, schema.fields, list(spools))
    (folder / f"{name}.yaml").write_text(_YAML_HEADER + yaml_text(settings), encoding="utf-8")
    taker = current()
    if taker is not None:
        taker.close()
    made = sorted(folder.iterdir())
    outputs = {path.name: sha256(path) for path in made}
    record = {
        "format_version": _FORMAT_VERSION,
        "name": name,
        "version": versions.version_of(outputs),
        "source": source,
        "options": as_json(converter.options),
        "on_error": shared.on_error,
        "sign_rule": converter.rule.as_dict() if converter.rule else None,
        # no import of the package itself, which would tie the converters to RecBole's plugin
        "package_version": sys.modules[__name__.partition(".")[0]].__version__,
        "licence": converter.licence,
        **rows,
        "rejected": (taker or Rejects(None)).as_dict(),
        "cleaning": cleaned.report or None,
        "warnings": warnings,
        "fields": fields,
        "inputs": {_label(path, converter.given): sha256(path) for path in converter.inputs()},
        "outputs": outputs,
        "bytes": {path.name: path.stat().st_size for path in made},
    }
    versions.write_manifest(folder, record)


def _read(converter: Converter, schema: Schema, folder: Path) -> dict[str | None, Spool]:
    """Check the rows of each part and hold them until they can be sorted."""
    spools: dict[str | None, Spool] = {}
    for part in converter.parts():
        spool = spools[part.name] = Spool(folder / str(len(spools)))
        origin = converter.name if part.name is None else part.name
        with report_progress(f"reading {converter.given.name if converter.given else origin}") as say:
            for batch in as_batches(part.frames, origin):
                spool.add(schema.conform(batch, part.types).frame)
                say(f"{spool.rows:,} rows")
        if spool.rows == 0:
            of_part = "" if part.name is None else f" for the part '{part.name}'"
            raise UsageError(f"{converter.given or converter.name} gives no interactions{of_part}{_left_out()}.")
    if not spools:
        raise UsageError(f"{converter.given or converter.name} gives no interactions.")
    return spools


def _left_out() -> str:
    """What is to be added to a complaint about too few rows."""
    taker = current()
    if taker is None or not taker.rows:
        return ""
    return f" ({counted(taker.rows, 'bad row was', 'bad rows were')} left out, the first: {taker.first})"


def _require_signs(converter: Converter, rows: dict[str, Any], left: str) -> None:
    rule, count = converter.rule, rows["rows"]
    what = f"{converter.given or converter.name}: the {f'sign rule ({rule})' if rule else 'sign column'}"
    among = f"among {counted(count['total'], 'row')}{left}{_left_out()}"
    exact = (
        "; words are compared letter by letter, 'Like' is not 'like'" if rule is not None and rule.text_columns else ""
    )
    if count["like"] == 0:
        raise UsageError(f"{what} leaves no likes {among}; change the rule or the column{exact}.")
    if rule is not None and rule.has_dislikes and count["dislike"] == 0:
        raise UsageError(
            f"{what} leaves no dislikes {among}; change its dislike condition, or leave that out to have none{exact}."
        )


def _settings(converter: Converter, fields: dict[str, str], parts: list[str | None]) -> dict[str, Any]:
    settings: dict[str, Any] = {"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id"}
    if "rating" in fields:
        settings["RATING_FIELD"] = "rating"
    if "timestamp" in fields:
        settings["TIME_FIELD"] = "timestamp"
    settings["SIGN_FIELD"] = "sign"
    settings["load_col"] = {"inter": [field for field in STANDARD if field in fields]}
    if parts != [None]:
        settings["benchmark_filename"] = parts
    return settings | converter.settings()


def _label(path: Path, input: Path | None) -> str:
    return path.relative_to(input).as_posix() if input is not None and input.is_dir() else path.name


def _write_features(
    path: Path, kind: str, features: Features, spools: Mapping[str | None, Spool], new_ids: pl.DataFrame | None
) -> tuple[dict[str, str], int, int]:
    """Write the features of those who have interactions, by their ``new_ids``; return types, and how many have some."""
    id_column = f"{kind}_id"
    schema = Schema({id_column: "token"}, needed=[id_column], blanks=features.blanks)
    if new_ids is None:
        used = pl.concat([spool.scan().select(id_column) for spool in spools.values()]).unique().collect().to_series()
    else:
        used = new_ids["raw"]
    rows = pl.concat(_used_rows(schema, features, kind, id_column, used))
    if not rows.height:
        raise UsageError(
            f"no id of the {kind} features is in the interactions, whose first one is {used.min()!r}; give "
            f"features of the same {kind}s, or none."
        )
    if new_ids is not None:
        rows = rows.with_columns(pl.col(id_column).replace_strict(new_ids["raw"], new_ids["new"]))
    write_atomic(path, [rows.with_columns(pl.col(pl.Float64).fill_nan(None))], schema.fields)
    return schema.fields, rows.height, len(used)


def _used_rows(
    schema: Schema, features: Features, kind: str, id_column: str, used: pl.Series
) -> Iterator[pl.DataFrame]:
    """Rows of used ids, the first of each; a second one is refused, or left out where bad rows are."""
    seen = used.clear()
    for raw in as_batches(features.frame, f"{kind} features"):
        batch = schema.conform(raw, features.types)
        batch = batch.keep(batch.frame[id_column].is_in(used.implode()))
        ids = batch.frame[id_column]
        first = ids.is_first_distinct() & ~ids.is_in(seen.implode())
        batch = batch.require(
            first, "{column} {value!r} has several rows, one was expected; keep one of them", id_column
        )
        seen = pl.concat([seen, batch.frame[id_column]])
        yield batch.frame
