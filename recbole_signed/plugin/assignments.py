"""Configuration keys as a user writes them: ``key=value``, dotted keys, yaml files, and what ``eval_args`` say."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from recbole_signed.data.settings import COLD, ranks_all
from recbole_signed.errors import UsageError
from recbole_signed.plugin.ranges import check_entries
from recbole_signed.plugin.registry import PROPERTIES
from recbole_signed.yaml_spec import Loader, one_line, read_yaml, yaml_text

RECBOLE_METRICS = ("Recall", "MRR", "NDCG", "Hit", "Precision")  # RecBole's own default of `metrics`
RECBOLE_TOPK = (10,)
SIGNED_METRICS = ("DislikeRecall", "DislikeShare", "SignAUC")  # beside RecBole's five, on signed data

DEFAULT_TOPK = (10, 20)
RUNS = "runs"  # folder, under the current one, of checkpoints and of the logs of a table's runs
TUNED = "yaml/model"  # folder, under the current one, of what `tune` chose: `<data set>/<Model>.yaml`
SPACES = "yaml/tune"  # folder, under the current one, of a user's own search spaces: `<Model>.yaml`


def space_file(model: str) -> Path:
    """Return the file of what ``tune`` tries of a model: the user's own in :data:`SPACES`, else this package's."""
    own = Path(SPACES) / f"{model}.yaml"
    bundled = PROPERTIES.parent / "tune" / own.name
    return own if own.is_file() or not bundled.is_file() else bundled


def yaml_if_there(path: Path) -> dict[str, Any]:
    """Return the content of a yaml file, an empty mapping if the file does not exist."""
    return read_yaml(path) if path.is_file() else {}


def parse_assignments(words: Iterable[str]) -> dict[str, Any]:
    """Parse ``key=value`` words (RecBole's ``--key=value`` too), with values in yaml."""
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key = key[2:] if key.startswith("--") else key
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.\-]*", key):
            raise UsageError(f"expected key=value, got '{word}'.")
        if key in settings:
            raise UsageError(f"'{key}' is given twice; give it once.")
        if key.endswith("_FIELD") and text == str(Path.home()):  # what a shell makes of KEY=~
            text = "~"
        if key.endswith("_num_interval"):  # [5,inf) is an interval to RecBole, and no list
            settings[key] = text
            continue
        try:
            settings[key] = yaml.load(text, Loader=Loader)
        except yaml.YAMLError as error:
            raise UsageError(f"the value of '{key}' is not valid yaml: {one_line(error)}") from error
    return settings


def as_word(key: str, value: Any) -> str:
    """Return the ``key=value`` that :func:`parse_assignments` reads back."""
    # ASCII alone: yaml takes some other characters (U+0085, U+2028) for line breaks and reads them back as spaces
    text = yaml_text(value, flow=True)
    return f"{key}={text.removesuffix(chr(10)).removesuffix('...').strip()}"


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return all keys, later layers win; mappings are joined one level deep, dotted keys applied after all others."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            said = [f"{key}.{name}" for name in value] if isinstance(value, Mapping) else [key]
            over = [old for old in result if any(old == path or old.startswith(f"{path}.") for path in said)]
            for old in over:
                if old != key and old not in layer:
                    del result[old]
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = {**result[key], **value} if both else copy.deepcopy(value)
    return result


def layered(
    values: Mapping[str, Any] | None, config_files: Sequence[str | Path], overrides: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the keys of ``values``, RecBole yaml files and ``overrides``; later ones win."""
    return merged(values or {}, *(read_yaml(Path(file)) for file in config_files), overrides or {})


def split_dotted(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the plain keys and the dotted ones."""
    dotted = {key: value for key, value in settings.items() if "." in key}
    return {key: value for key, value in settings.items() if key not in dotted}, dotted


def with_dotted(dotted: Mapping[str, Any], *bases: Mapping[str, Any]) -> dict[str, Any]:
    """Return the top-level keys that dotted ones change, each taken from the first base that has it."""
    result: dict[str, Any] = {}
    for key, value in dotted.items():
        top, *inner = key.split(".")
        if not all((top, *inner)):
            raise UsageError(f"'{key}' is not a key; write it like eval_args.order=TO.")
        if top not in result:
            inherited = next((base[top] for base in bases if top in base), None)
            result[top] = {} if inherited is None else copy.deepcopy(inherited)
        place = result[top]
        path = top
        for name in inner[:-1]:
            _check_mapping(path, place, key)
            place = place.setdefault(name, {})
            path = f"{path}.{name}"
        _check_mapping(path, place, key)
        check_entries(path, inner[-1:])
        place[inner[-1]] = value
    return result


def eval_args_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return RecBole's ``eval_args`` as far as they are given, single entries of it above the whole."""
    whole = given.get("eval_args")
    single = {key.partition(".")[2]: value for key, value in given.items() if key.startswith("eval_args.")}
    return {**(whole if isinstance(whole, Mapping) else {}), **single}


def draws(eval_args: Mapping[str, Any]) -> bool:
    """Whether it depends on the seed what RecBole's ``eval_args`` hold out, or which candidates they rank."""
    split = eval_args.get("split")
    cold = isinstance(split, Mapping) and bool(COLD.keys() & split)
    return cold or eval_args.get("order") != "TO" or not ranks_all(eval_args)


def _check_mapping(path: str, place: Any, key: str) -> None:
    if not isinstance(place, dict):
        raise UsageError(
            f"'{key}' can't be set, because {path} is {place!r} and has no entries; give {path} as a whole."
        )
