"""A table of experiments as a yaml file: which models, on which data sets, with which seeds."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr, StrictBool, StrictInt, model_validator

from recbole_signed import __version__
from recbole_signed.atomic.signs import Settings, Sign
from recbole_signed.data.settings import GROUP_KEYS, bounds_of, inter_columns, labels_of, ranks_all, split_group
from recbole_signed.errors import UsageError, ending
from recbole_signed.plugin import registry
from recbole_signed.plugin.assignments import (
    DEFAULT_TOPK,
    RECBOLE_METRICS,
    SIGNED_METRICS,
    draws,
    eval_args_of,
    merged,
    split_dotted,
    with_dotted,
    yaml_if_there,
)
from recbole_signed.plugin.configuration import PROTOCOLS, refuse_unknown_keys
from recbole_signed.plugin.facts import STOCK, class_names, default_file, facts_of, foreign_code
from recbole_signed.plugin.ranges import without_removed
from recbole_signed.runs.metric_columns import BEST, COSTS, DEFAULT_COSTS, SERVED, has_k
from recbole_signed.runs.provenance import data_folder, data_sha256, digest
from recbole_signed.runs.rows import RunRow, request_id
from recbole_signed.runs.table_file import DEFAULT_SEEDS, POOL, Seeds, TableParts, keys_on, read_table_file, seeds_in
from recbole_signed.runs.tuned import how_in_row, tuned_for, tuned_path
from recbole_signed.yaml_spec import Spec, checked, read_yaml

DEFAULT_COLUMNS = ("recall@10", "ndcg@10", "recall@20", "ndcg@20")


@dataclass(frozen=True)
class RunSpec:
    """One run that a table asks for."""

    label: str  # row of the table: the model's class name, or another name for a variant of it
    section: str  # part of the table: the data set's name, or another name for a variant of it
    model: str
    dataset: str
    seed: int
    settings: dict[str, Any]
    request_hash: str
    data_sha256: str
    per_user: Path | None = None  # where the run's values per user go; they are not kept for None
    serving: bool = False  # whether it has to be measured too what the trained model costs in use; no part of the hash
    tuned: dict[str, Any] | None = None  # as `tuned`

    @property
    def key(self) -> tuple[str, str, int, str | None, str | None]:
        """As :attr:`recbole_signed.runs.rows.RunRow.key`."""
        return self.model, self.dataset, self.seed, self.request_hash, self.data_sha256

    def is_answered_by(self, row: RunRow | None) -> bool:
        """Whether a row of the same key has all that is asked for, so that nothing need be run."""
        return row is not None and row.ok and not (self.serving and row.serve_seconds is None)

    @property
    def id(self) -> str:
        """As :attr:`recbole_signed.runs.rows.RunRow.id`."""
        return request_id(self.request_hash, self.data_sha256)

    @property
    def title(self) -> str:
        """What a progress bar shows."""
        return f"{self.label} on {self.section}, seed {self.seed}"

    def refuse_unknown_keys(self) -> None:
        """Refuse keys that the run would refuse, without importing RecBole."""
        folder = data_folder(self.dataset, self.settings.get("data_path"))
        files = default_settings(self.model, folder / f"{self.dataset}.yaml")
        defaults = {**files.get("model", {}), **files.get("dataset", {})}
        if {**defaults, **self.settings}.get("allow_unknown_keys"):
            return
        plain, dotted = split_dotted(without_removed(dict(self.settings), self.model, defaults))
        try:
            refuse_unknown_keys({**plain, **with_dotted(dotted, plain)}, defaults)
        except UsageError as error:
            raise UsageError(f"{self.label} on {self.section}: {error}") from error


@dataclass(frozen=True)
class PlannedRow:
    """A model on a data set of a table."""

    label: str
    section: str
    model: str
    dataset: str
    settings: dict[str, Any]  # the table's RecBole keys
    start: dict[str, Any]  # values of keys with which `tune` begins, beside the defaults
    tuned: Any  # what the table's key `tuned` says, see `tuned_for`


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _columns(value: Any) -> tuple[str, ...]:
    columns = [str(name).lower() for name in value] if isinstance(value, (list, tuple)) else []
    for column in columns:
        plain, _ = split_group(column)
        _, at, k = plain.partition("@")
        if (at and not re.fullmatch("[1-9][0-9]{0,8}", k)) or "[" in plain:
            raise UsageError(f"the column '{column}' must read like recall@20, signauc or recall@20[users 1-5].")
    if not columns:
        raise UsageError(f"'columns' must be a list of metrics such as [recall@20, ndcg@20], but is {value!r}.")
    return tuple(columns)


class _Judged(Spec):
    """The keys of a run that say whether it fills the columns of a table."""

    metrics: Annotated[tuple[str, ...], BeforeValidator(_listed)]
    topk: Annotated[tuple[StrictInt, ...], BeforeValidator(_listed)]


class TableSpec(TableParts):
    """The content of a table's yaml file."""

    title: str
    seeds: Seeds = DEFAULT_SEEDS
    columns: Annotated[tuple[str, ...], BeforeValidator(_columns)] = DEFAULT_COLUMNS
    note: str | None = None
    per_user: StrictBool = Field(True, description="true or false")  # keep each user's values, for tests
    costs: tuple[str, ...] = Field(DEFAULT_COSTS, description=f"a list of names ({', '.join(COSTS)})")
    """Names of :data:`recbole_signed.runs.metric_columns.COSTS`."""
    relative_to: tuple[str, ...] = Field((), description=f"a list of models of the table, or of {BEST}")
    """Lines of the table, or "best": each cost is also given as a multiple of theirs."""
    serving: StrictBool = Field(False, description="true or false")  # measure what the trained models cost in use
    _file: Path = PrivateAttr(Path("TABLE"))
    _sources: tuple[TableSpec, ...] = PrivateAttr(())  # the tables whose rows it shows; none: it has rows of its own

    @classmethod
    def read(cls, path: Path) -> TableSpec:
        """Read and check a table's yaml file."""
        content = read_table_file(path, ("extends", "rows_from", *cls.model_fields))
        sources = [path.parent / name for name in content.pop("rows_from", ())]
        for key in ("datasets", "models"):
            if not content.get(key):
                raise UsageError(f"{path}: a table needs '{key}'.")
        given = {key: value for key, value in content.items() if value is not None}
        spec = checked(cls, {**given, "title": str(content.get("title") or path.stem)}, path)
        spec._file = path
        spec._sources = tuple(cls.read(file) for file in sources)
        return spec

    def pools(self) -> dict[str, list[str]]:
        """Return the parts of the table that are tested together, by their common name: mostly each by itself."""
        pools: dict[str, list[str]] = {}
        for section, settings in self.datasets.items():
            pools.setdefault(settings.get(POOL) or section, []).append(section)
        return pools

    @model_validator(mode="after")
    def _names_are_known(self) -> TableSpec:
        named = class_names(*(settings.get("model", label) for label, settings in self.models.items()))
        for label, model in zip(self.models, named, strict=True):
            if model != label:
                self.models[label] = {**self.models[label], "model": model}
        for label, settings in self.models.items():
            for section in settings.get("per_dataset") or {}:
                if section not in (known_places := (*self.datasets, *self.pools())):
                    hint = ending(str(section), known_places)
                    raise UsageError(f"{label} has settings on '{section}', which the table does not have{hint}")
        for key, names in (("costs", tuple(COSTS)), ("relative_to", (BEST, *self.models))):
            for name in getattr(self, key):
                if name not in names:
                    raise UsageError(f"'{key}' has no '{name}' (expected {', '.join(names)}){ending(name, names)}")
        unmeasured = [name for name in self.costs if name in SERVED and not self.serving]
        if unmeasured:
            raise UsageError(f"the costs {', '.join(unmeasured)} are measured under 'serving: true' alone; set it.")
        return self

    def only(self, labels: Sequence[str], datasets: Sequence[str] = ()) -> TableSpec:
        """Return the table with some of its models and data sets (or pools), in the table's order; all for none."""
        labels, datasets = ([names] if isinstance(names, str) else names for names in (labels, datasets))
        pools = self.pools()
        for name in datasets:
            if name not in (names := dict.fromkeys([*pools, *self.datasets])):
                raise UsageError(f"the table has no data set '{name}'; it has {', '.join(names)}{ending(name, names)}")
        for label in labels:
            if label not in self.models:
                raise UsageError(
                    f"the table has no model '{label}'; it has {', '.join(self.models)}{ending(label, self.models)}"
                )
        chosen = {label: settings for label, settings in self.models.items() if label in labels}
        here = {section for name in datasets for section in pools.get(name, [name])}
        left = {section: settings for section, settings in self.datasets.items() if section in here}
        update = {**({"models": chosen} if labels else {}), **({"datasets": left} if datasets else {})}
        return self.model_copy(update=update)

    def requests(self, possible: bool = False) -> Iterator[RunSpec]:
        """Yield the runs, data set by data set; ``possible`` leaves out what has no data or was not tuned."""
        checksums: dict[Path, str] = {}
        for section in self.datasets:
            for cell in self.planned_rows(section):
                model, dataset = cell.model, cell.dataset
                try:
                    folder = data_folder(dataset, cell.settings.get("data_path"))
                    checksum = checksums[folder] = checksums.get(folder) or data_sha256(folder, dataset)
                    words = ("tune", "--table", str(self._file), "-m", cell.label, "-d", section)
                    tuned = tuned_for(model, dataset, cell.tuned, checksum, shlex.join(["recbole-signed", *words]))
                except UsageError:
                    if possible:
                        continue
                    raise
                beside = folder / f"{dataset}.yaml"
                settings = cell.settings if tuned is None else merged(tuned.values, cell.settings)
                seeds = seeds_in(settings.pop("seeds", self._seeds_of(model, beside, settings)))
                code = registry.metric_code(self._check_columns(cell, beside, settings))
                for seed in seeds:
                    asked = {
                        "model": model,
                        "dataset": dataset,
                        "seed": seed,
                        "settings": {key: value for key, value in settings.items() if key != "data_path"},
                        "package": __version__,
                        "defaults": default_settings(model, beside),
                        **({"metrics": code} if code else {}),
                    }
                    yield RunSpec(
                        cell.label,
                        section,
                        model,
                        dataset,
                        seed,
                        settings,
                        digest(asked),
                        checksum,
                        tuned=how_in_row(tuned),
                        serving=self.serving,
                    )

    def planned_rows(self, section: str) -> Iterator[PlannedRow]:
        """Yield the models on one part of the table, with all that the table says of each there."""
        data_settings = self.datasets[section]
        for label, model_settings in self.models.items():
            settings = keys_on(section, self.common, data_settings, model_settings)
            if settings is None:
                continue
            if self._sources:
                source = next(table for table in self._sources if label in table.models)
                for row in source.only([label]).planned_rows(section) if section in source.datasets else ():
                    yield replace(row, settings=merged(row.settings, self.common))  # a folder of data, from a command
                continue
            start, tuned = settings.pop("start", None) or {}, settings.pop("tuned", None)
            for key in ("model", "dataset", "seed", POOL):
                settings.pop(key, None)
            model, dataset = model_settings.get("model", label), data_settings.get("dataset") or section
            yield PlannedRow(label, section, model, dataset, settings, start, tuned)

    def _seeds_of(self, model: str, beside: Path, settings: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the table's seeds; the first alone where neither the model nor the split draws anything."""
        if not facts_of(model).seedless:
            return self.seeds
        layers = {**yaml_if_there(beside), **settings}
        eval_args = eval_args_of(layers)
        if layers.get("benchmark_filename"):  # a split that is there, of which nothing but candidates can be drawn
            eval_args = {"order": "TO", "mode": eval_args.get("mode")}
        return self.seeds if draws(eval_args) else self.seeds[:1]

    def _check_columns(self, cell: PlannedRow, beside: Path, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """See that the metrics of a run are known and fill the columns, before anything is run; return them."""
        label = cell.label
        in_data_set = yaml_if_there(beside)
        protocol = settings.get("protocol", in_data_set.get("protocol"))
        given = {**in_data_set, **PROTOCOLS.get(str(protocol), {}), **settings}
        layers = {"metrics": _default_metrics(beside, given), "topk": list(DEFAULT_TOPK), **given}
        judged = checked(_Judged, {key: layers[key] for key in ("metrics", "topk")}, label)
        unnamed = ", or name the table's 'columns'" if self.columns == DEFAULT_COLUMNS else ""
        for column in self.columns:
            lacks = f"the column '{column}' is not evaluated for {label}: "
            plain, group = split_group(column)
            name, at, k = plain.partition("@")
            side = group.partition(" ")[0]
            if name.startswith("group") and (side not in GROUP_KEYS or name != "groupshare"):
                plain = plain if name == "groupshare" else plain.removeprefix("group")
                raise UsageError(f"the column '{column}' must name a group, such as {plain}[users 1-5].")
            if has_k(name) is not None and has_k(name) != bool(at):
                said, right = ("a", name) if at else ("no", f"{name}@{judged.topk[0]}")
                raise UsageError(f"the column '{column}' has {said} length; write {right}.")
            name = f"group{name}" if side in GROUP_KEYS and name != "groupshare" else name
            if name not in [metric.lower() for metric in judged.metrics]:
                if name in COSTS:
                    raise UsageError(f"the column '{column}' is a cost of a run; name it under 'costs'.")
                registry.check_metrics([name], lacks)
                raise UsageError(f"{lacks}add {name} to 'metrics'{unnamed}.")
            if at and int(k) not in judged.topk:
                raise UsageError(f"{lacks}add {k} to 'topk'{unnamed}.")
            if side in GROUP_KEYS:
                groups = labels_of(side, bounds_of(side, layers.get(GROUP_KEYS[side])))
            else:
                groups = [*_gamma_labels(layers.get("signed_gamma")), ""]
            if group not in groups:
                raise UsageError(f"the column '{column}' is of no group of {label}'s runs: {', '.join(groups)}.")
        chosen = str(layers.get("valid_metric") or "").partition("@")[0]
        registry.check_metrics([*judged.metrics, *([chosen] if chosen else [])], f"{label} on {cell.section}: ")
        return judged.metrics


def default_settings(model: str, beside: Path) -> dict[str, Any]:
    """Return the settings below a run's: the defaults of the model (and its code, if foreign), the data set's yaml."""
    files = {"model": default_file(model), "dataset": beside}
    settings = {name: read_yaml(path) for name, path in files.items() if path is not None and path.is_file()}
    code = foreign_code(model)
    return settings if code is None else {**settings, "code": code}


def _default_metrics(beside: Path, given: Mapping[str, Any]) -> list[str]:
    """Return what a run evaluates where no metrics are given: those of dislikes only where some are held out."""
    settings = Settings({**given, "data_path": str(beside.parent), "dataset": beside.stem})
    columns = inter_columns(settings)
    signed = columns is not None and Sign.find(settings, columns, beside.stem) is not None
    return [*RECBOLE_METRICS, *(SIGNED_METRICS if signed and ranks_all(eval_args_of(given)) else ())]


def _gamma_labels(signed_gamma: Any) -> list[str]:
    if signed_gamma is None:
        return []
    from recbole_signed.evaluation.sign_aware_metrics import (  # with torch, which a printed table can do without
        gamma_labels,
        signed_gammas,
    )

    return gamma_labels(signed_gammas(signed_gamma))


# ---- what a table says of its models on one data set, for a command that looks into each of them ----


def table_datasets(path: Path, name: str) -> list[str]:
    """Return the data sets of a table's pool, or the name itself where no pool has it."""
    parts = TableSpec.read(path).datasets.items()
    return [keys.get("dataset") or part for part, keys in parts if keys.get(POOL) == name] or [name]


def table_settings(
    path: Path, dataset: str, labels: Sequence[str] = (), data_path: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return the RecBole keys, by class name, with which a table runs its models on a data set, tuned ones included."""
    spec = TableSpec.read(path)
    named = {name: keys.get("dataset") or name for name, keys in spec.datasets.items()}
    parts = [name for name in named if named[name] == dataset]
    if not parts:
        has = ", ".join(dict.fromkeys(named.values()))
        raise UsageError(f"{path} has no part on '{dataset}', and one is needed; its data sets are {has}.")
    if len(parts) > 1:
        raise UsageError(
            f"{path} has {len(parts)} parts on '{dataset}', and one is needed; write a table that extends it and has "
            f"one of {', '.join(parts)} under 'datasets'."
        )
    if data_path is not None:
        spec = spec.model_copy(update={"common": {**spec.common, "data_path": data_path}})
    # a pool may have the name of the part, so it is not named to only()
    part = spec.only(labels).model_copy(update={"datasets": {parts[0]: spec.datasets[parts[0]]}})
    runs = {request.label: request for request in part.requests()}
    chosen: dict[str, RunSpec] = {}
    for label in labels or runs:
        if label not in runs:
            raise UsageError(f"{path} leaves {label} out on '{dataset}'; take it from the list of --model.")
        first = chosen.setdefault(runs[label].model, runs[label])
        if first.label != label:
            raise UsageError(
                f"{path}: {first.label} and {label} are both {first.model}; name one of them with --model."
            )
    return {model: request.settings for model, request in chosen.items()}


ALL = "all"


def asked_models(
    names: Sequence[str],
    dataset: str,
    suits: Callable[[str], bool],
    table: Path | None = None,
    tuned: Sequence[str] = (),
    data_path: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the models of ``-m A,B``, :data:`ALL` for all that suit, each with the keys of a table or a tuning."""
    if not names:
        raise UsageError("--model names no model; give one or more, as in SSF,EASE, or all.")
    if table is not None and tuned:
        raise UsageError("--tuned cannot be combined with --table, which says what was tuned; leave one of them out.")
    named = [name for name in names if name != ALL]
    if table is None:  # before the first of them is trained; a table knows its labels
        named = class_names(*named)
    chosen = _with_keys(named, dataset, table, tuned, data_path) if named else {}
    if ALL in names:
        everything = _with_keys([], dataset, table, tuned, data_path)
        chosen |= {model: keys for model, keys in everything.items() if model not in chosen and suits(model)}
    return chosen


def _with_keys(
    names: Sequence[str], dataset: str, table: Path | None, tuned: Sequence[str], data_path: str | None
) -> dict[str, dict[str, Any]]:
    """Return the models, all for none, in the order of their names."""
    if table is not None:
        return table_settings(table, dataset, names, data_path)
    for name in tuned:
        folder = tuned_path("", name).parent
        if not folder.is_dir():
            beside = [path.name for path in folder.parent.glob("*") if path.is_dir()]
            raise UsageError(f"--tuned names '{name}', but there is no folder {folder}{ending(name, beside)}")
    settings = {}
    installed = {name for name, _ in registry.stock_models()}  # RecBole 1.2.0 has fewer
    for model in names or (*registry.models(), *(name for name in STOCK if name in installed)):
        files = [file for file in (tuned_path(model, name) for name in tuned) if file.is_file()]
        settings[model] = read_yaml(files[0]) if files else {}
    return settings
