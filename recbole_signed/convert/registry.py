"""Which sources there are. A new one is one more line here."""

from __future__ import annotations

from importlib import import_module

from recbole_signed.convert.base import Converter
from recbole_signed.errors import UsageError, ending

_BUILT_IN = {
    "amazon": "recbole_signed.convert.sources.amazon:Amazon",
    "ciao": "recbole_signed.convert.sources.epinions:Ciao",
    "csv": "recbole_signed.convert.sources.csv_table:CsvTable",
    "epinions": "recbole_signed.convert.sources.epinions:Epinions",
    "kuairand": "recbole_signed.convert.sources.kuairand:KuaiRand",
    "kuairec": "recbole_signed.convert.sources.kuairec:KuaiRec",
    "movielens": "recbole_signed.convert.sources.movielens:MovieLens",
    "movielens-100k": "recbole_signed.convert.sources.movielens_100k:MovieLens100K",
    "movietweetings": "recbole_signed.convert.sources.movietweetings:MovieTweetings",
    "signed-split": "recbole_signed.convert.sources.signed_split:SignedSplit",
    "steam": "recbole_signed.convert.sources.steam:Steam",
    "tenrec": "recbole_signed.convert.sources.tenrec:Tenrec",
    "toy": "recbole_signed.convert.sources.toy:Toy",
    "vk-lsvd": "recbole_signed.convert.sources.vk_lsvd:VkLsvd",
    "yambda": "recbole_signed.convert.sources.yambda:Yambda",
    "yelp": "recbole_signed.convert.sources.yelp:Yelp",
    "zvuk": "recbole_signed.convert.sources.zvuk:Zvuk",
}
_registered: dict[str, type[Converter]] = {}


def register_source(converter: type[Converter]) -> type[Converter]:
    """Make a converter of one's own known under its ``name``; usable as a class decorator."""
    _registered[converter.name] = converter
    return converter


def source_names() -> list[str]:
    """Names of all sources, without loading them."""
    return sorted({*_BUILT_IN, *_registered})


def source(name: str) -> type[Converter]:
    """Give the converter class of a source.

    Raises:
        UsageError: no source of that name.
    """
    if not isinstance(name, str):
        raise UsageError(f"the source is of type {type(name).__name__}; give a name, such as 'csv'.")
    if name in _registered:
        return _registered[name]
    if name not in _BUILT_IN:
        names = source_names()
        raise UsageError(f"There is no source '{name}'; there are {', '.join(names)}{ending(name, names)}")
    module, _, attribute = _BUILT_IN[name].partition(":")
    return getattr(import_module(module), attribute)


def all_sources() -> dict[str, type[Converter]]:
    """All sources by name; each class has ``summary``, ``licence`` and ``options_class``."""
    return {name: source(name) for name in source_names()}
