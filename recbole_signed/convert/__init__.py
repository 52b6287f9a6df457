"""Raw files as RecBole atomic files with a sign.

``convert("csv", "ratings.csv", "atomic_files", like="rating >= 4", dislike="rating <= 2")`` makes a data set: a
folder with ``NAME.inter`` (or one file per published part), ``NAME.yaml`` (the RecBole settings that belong to
it) and ``dataset.json`` (where it came from and what is in it).
"""

from __future__ import annotations

from recbole_signed.convert.base import Converter, Features, Part
from recbole_signed.convert.batch import Batch
from recbole_signed.convert.build import convert
from recbole_signed.convert.options import OptionInfo, describe, option
from recbole_signed.convert.registry import register_source, source, source_names, sources
from recbole_signed.convert.sources.movielens_100k import ensure_ml100k

__all__ = [
    "Batch",
    "Converter",
    "Features",
    "OptionInfo",
    "Part",
    "convert",
    "describe",
    "ensure_ml100k",
    "option",
    "register_source",
    "source",
    "source_names",
    "sources",
]
