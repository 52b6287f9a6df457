"""The yaml file of a table, which may extend another one, or show the rows of others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from recbole_signed.errors import UsageError, ending
from recbole_signed.plugin.assignments import merged
from recbole_signed.plugin.ranges import RANGES
from recbole_signed.runs.tuned import tuned_choice
from recbole_signed.yaml_spec import Spec, checked, read_yaml

EXTENDS, ROWS_FROM = "extends", "rows_from"
NAMED = ("datasets", "models")
POOL = "pool"  # key of a data set: splits of the same data have one name here, and `significance` takes them together
IDENTITY = ("dataset", POOL)  # keys of a data set that say what it is, not how models run on it
DEFAULT_SEEDS = (2020,)
Content = TypeVar("Content", bound=Mapping[str, Any])


def seeds_in(value: Any) -> tuple[int, ...]:
    """Return what a table's key ``seeds`` says, if it may say that."""
    seeds = [value] if isinstance(value, int) else value
    whole = isinstance(seeds, (list, tuple)) and all(type(seed) is int for seed in seeds)
    if not whole or not seeds or len(set(seeds)) != len(seeds):
        raise UsageError(f"'seeds' must be different whole numbers such as [2020, 2021, 2022], but is {value!r}.")
    unfit = [seed for seed in seeds if not RANGES["seed"].holds(seed)]
    if unfit:
        raise UsageError(f"'seeds' holds {unfit[0]}; each must be {RANGES['seed']}.")
    return tuple(seeds)


Seeds = Annotated[tuple[int, ...], BeforeValidator(seeds_in)]


class _Keys(Spec):
    """RecBole keys, of which some are a table's own or read by it."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, JsonValue]
    elsewhere: ClassVar[tuple[str, ...]] = ("model", "dataset", POOL, "per_dataset")  # would be ignored here

    seeds: Seeds = DEFAULT_SEEDS
    tuned: Annotated[Any, BeforeValidator(tuned_choice)] = None
    start: dict[str, Any] | None = Field(None, description="a mapping of the keys with which 'tune' begins")

    @model_validator(mode="after")
    def _says_nothing_that_is_ignored(self) -> _Keys:
        given = self.__pydantic_extra__ or {}
        if "seed" in given:
            raise UsageError("'seed' is no key of a table; write 'seeds', a list such as [2020].")
        for key in self.elsewhere:
            if key in given:
                raise UsageError(
                    f"'{key}' can't be set here: 'model' and 'per_dataset' are keys of a model of the table, 'dataset' "
                    f"and '{POOL}' of a data set."
                )
        return self


class _DatasetKeys(_Keys):
    """What a table says of a data set."""

    elsewhere = ("model", "per_dataset")
    dataset: str | None = Field(None, description="a name")
    pool: str | None = Field(None, description="a name")


def _or_left_out(value: Any) -> Any:
    if value is False or value is None:
        return None
    if not isinstance(value, dict):
        raise UsageError("'per_dataset' must map data sets to RecBole keys, or to false, which leaves the model out.")
    return value


class _ModelKeys(_Keys):
    """What a table says of a model."""

    elsewhere = ("dataset", POOL)
    model: str | None = None
    per_dataset: dict[str, Annotated[_Keys | None, BeforeValidator(_or_left_out)]] | None = Field(
        None, description="a mapping from data sets of the table to RecBole keys, or to false"
    )


def _is_of(kind: type[Spec], value: Content, where: str) -> Content:
    checked(kind, value, where)
    return value


def _are_of(kind: type[Spec], value: Content) -> Content:
    for name, keys in value.items():
        checked(kind, keys, name)
    return value


class TableParts(Spec):
    """What a table says of its runs, whether it is joined with the one that it extends or not yet."""

    datasets: Annotated[dict[str, dict[str, Any]], AfterValidator(partial(_are_of, _DatasetKeys))] = Field({})
    models: Annotated[dict[str, dict[str, Any]], AfterValidator(partial(_are_of, _ModelKeys))] = Field({})
    common: Annotated[dict[str, Any], AfterValidator(partial(_is_of, _Keys, where="common"))] = Field(
        {}, description="a mapping of RecBole keys"
    )


def rows_file_of(yaml_file: Path) -> Path:
    """Return the place of the rows of a yaml file: below ``results`` as it is below ``yaml``, else beside it."""
    folder = yaml_file.parent if "yaml" in yaml_file.parent.parts else yaml_file.absolute().parent
    parts = list(folder.parts)
    if "yaml" not in parts:
        return yaml_file.with_suffix(".jsonl")
    parts[-1 - parts[::-1].index("yaml")] = "results"
    return Path(*parts, yaml_file.name).with_suffix(".jsonl")


def read_table_file(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the content of a table's file, joined with what it takes from the file that its ``extends`` names.

    Of data sets and models a file that lists any has those alone, in its order. A file with ``rows_from`` runs nothing
    of its own: each model is shown as the first of those tables that has it runs it; all other keys are those of the
    first.
    """
    return _read(path, keys, ())


def _read(path: Path, keys: tuple[str, ...], above: tuple[Path, ...]) -> dict[str, Any]:
    content = read_yaml(path)
    for key in content:
        if key not in keys:
            raise UsageError(f"{path}: unknown key '{key}' (a table has {', '.join(keys)}){ending(key, keys)}")
    for key in NAMED:
        if content.get(key):
            content[key] = _named(path, key, content[key])
    checked(TableParts, {key: content[key] for key in TableParts.model_fields if content.get(key)}, path)
    given = [key for key in (EXTENDS, ROWS_FROM) if key in content]
    if not given:
        return content
    names = _files(path, given[0], content, above)
    bases = {name: _read(path.parent / name, keys, (*above, path.resolve())) for name in names}
    if given == [ROWS_FROM]:
        return _view(path, bases, content)
    if ROWS_FROM in {*content, *bases[names[0]]}:
        raise UsageError(f"{path}: what has '{ROWS_FROM}' runs nothing, so it neither extends another nor is extended.")
    return _extended(bases[names[0]], _without(content, EXTENDS))


def _files(path: Path, key: str, content: Mapping[str, Any], above: tuple[Path, ...]) -> list[str]:
    """Return the names of the tables that a file takes something from."""
    names = [content[key]] if key == EXTENDS else content[key]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        what = "a table's file; 'rows_from' takes several" if key == EXTENDS else "a list of tables' files"
        raise UsageError(f"{path}: '{key}' must name {what}, but is {content[key]!r}.")
    for name in names:
        if (path.parent / name).resolve() in (path.resolve(), *above):
            raise UsageError(f"{path}: '{key}' leads back to {name}; a table can't extend itself.")
    return names


def _view(path: Path, others: Mapping[str, Mapping[str, Any]], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table that shows rows of others: their data sets and models, with a title and columns of its own."""
    if own.get("common"):
        raise UsageError(f"{path}: 'common' says how models run, as the tables under '{ROWS_FROM}' do; leave it out.")
    for label, keys in [*(own.get("datasets") or {}).items(), *(own.get("models") or {}).items()]:
        if set(keys) - {"per_dataset"} or any((keys.get("per_dataset") or {}).values()):
            raise UsageError(f"{path}: {label} runs as the tables under '{ROWS_FROM}' say; it may be left out alone.")
    datasets: dict[str, Any] = {}
    for file, other in others.items():
        for name, keys in (other.get("datasets") or {}).items():
            known = (datasets.get(name) or keys).get("dataset") or name
            identity = {key: keys[key] for key in IDENTITY if key in keys}
            datasets[name] = identity | datasets.get(name, {})
            if known != (keys.get("dataset") or name):
                raise UsageError(f"{path}: '{name}' in {file} is not the data set {known}, as in the table before it.")
    models: dict[str, Any] = {}
    for other in others.values():
        for label, keys in (other.get("models") or {}).items():
            models.setdefault(label, {"model": keys.get("model", label)})
    first = _without(next(iter(others.values())), "common", *NAMED)
    chosen = {"datasets": datasets, "models": models}
    for key, every in chosen.items():
        for name in own.get(key) or {}:
            if name not in every:
                raise UsageError(f"{path}: no table under '{ROWS_FROM}' has '{name}'{ending(str(name), every)}")
        chosen[key] = {name: {**every[name], **keys} for name, keys in (own.get(key) or {}).items()} or every
    return {**first, **own, **chosen}


def keys_on(
    section: str, common: Mapping[str, Any], data_keys: Mapping[str, Any], model_keys: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return all keys of a model on a data set, ``common`` first, ``per_dataset`` last; None where it is left out."""
    places = model_keys.get("per_dataset") or {}
    layers = [places.get(name) for name in (data_keys.get(POOL), section)]
    if False in layers:
        return None
    return _without(merged(common, data_keys, model_keys, *(layer or {} for layer in layers)), "per_dataset")


def _without(keys: Mapping[str, Any], *left_out: str) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if key not in left_out}


def _extended(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    result = {**base, **own}
    for key in NAMED:
        theirs = base.get(key) or {}
        result[key] = {name: _above(theirs.get(name, {}), keys) for name, keys in (own.get(key) or theirs).items()}
    if isinstance(base.get("common"), dict) and isinstance(own.get("common"), dict):
        result["common"] = merged(base["common"], own["common"])
    known, here = _places(base.get("datasets") or {}), _places(result["datasets"])
    for settings in result["models"].values():
        places = settings.get("per_dataset")
        if isinstance(places, dict):  # what the other table says of a data set, or of a pool, that this one leaves out
            settings["per_dataset"] = {name: keys for name, keys in places.items() if name in here or name not in known}
    return result


def _places(datasets: Mapping[str, Mapping[str, Any]]) -> set[Any]:
    """Return the names of data sets and of their pools."""
    return {*datasets, *(keys.get(POOL) for keys in datasets.values())}


def _above(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a model or a data set, ``own`` above those of the other table, also on each data set."""
    result = merged(base, own)
    theirs, places = base.get("per_dataset"), result.get("per_dataset")
    if isinstance(theirs, dict) and isinstance(places, dict):
        for name, keys in places.items():
            if isinstance(keys, dict) and isinstance(theirs.get(name), dict):
                places[name] = merged(theirs[name], keys)
    return result


def _named(path: Path, key: str, value: Any) -> dict[str, dict[str, Any]]:
    """Return name -> settings of a mapping or a list of names."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        for number, name in enumerate(value):
            if name in value[:number]:
                raise UsageError(f"{path}: '{key}' names {name} twice; give a variant a name of its own.")
        return {name: {} for name in value}
    if isinstance(value, dict) and all(keys is None or isinstance(keys, dict) for keys in value.values()):
        return {str(name): keys or {} for name, keys in value.items()}
    raise UsageError(f"{path}: '{key}' must be a list of names, or a mapping from names to RecBole keys.")
