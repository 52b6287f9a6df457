"""What a source is, which there are, and where their files lie.

A converter reads raw files and yields interactions; everything else (checking, sorting, writing, counting,
renaming into place) is done once, for all of them, by :mod:`recbole_signed.convert.build`.

A new source is one class, and one entry in the table of names below::

    @dataclass(frozen=True)
    class Options:
        signal: Literal["click", "long_view"] = option("click", "what makes a like")

    class Shop(Converter):
        name = "shop"
        summary = "the log of a shop"
        licence = "CC BY-SA 4.0"
        options_class = Options
        files, what = ("log.csv",), "log of a shop"     # in a folder

        def batches(self): ...                          # user_id, item_id, sign and further columns
"""

from __future__ import annotations

import filecmp
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from recbole_signed.convert.batch import Batch, Frame
from recbole_signed.convert.options import NoOptions
from recbole_signed.convert.raw_files import COMPRESSIONS, plain_name
from recbole_signed.convert.sign_rule import SignRule
from recbole_signed.errors import UsageError, argument, ending
from recbole_signed.files import names_beside

_DATA_SUFFIXES = (
    *(".csv", ".tsv", ".tab", ".txt", ".dat", ".data"),
    *(".jsonl", ".ndjson", ".json", ".parquet", ".pq"),
)
_SOURCES = "recbole_signed.convert.sources"
_BUILT_IN = {
    "amazon": "ratings:Amazon",
    "ciao": "ratings:Ciao",
    "csv": "csv_table:CsvTable",
    "epinions": "ratings:Epinions",
    "kuairand": "kuairand:KuaiRand",
    "kuairec": "watched:KuaiRec",
    "movielens": "movielens:MovieLens",
    "movielens-100k": "movielens:MovieLens100K",
    "movietweetings": "movielens:MovieTweetings",
    "signed-split": "signed_split:SignedSplit",
    "steam": "steam:Steam",
    "tenrec": "watched:Tenrec",
    "toy": "toy:Toy",
    "vk-lsvd": "vk_lsvd:VkLsvd",
    "yambda": "yambda:Yambda",
    "yelp": "ratings:Yelp",
    "zvuk": "watched:Zvuk",
}
"""Module of the sources and class, by name of the source."""
_registered: dict[str, type[Converter]] = {}
_AGAIN = re.compile(r" ?\(\d+\)(?=\.)")  # what a browser adds to the name of a file that it fetches again


@dataclass(frozen=True)
class Part:
    """The interactions of one ``.inter`` file: ``user_id``, ``item_id``, ``sign``, ``rating``, ``timestamp``..."""

    name: str | None  # None for NAME.inter, else NAME.<name>.inter, in RecBole's order of parts
    frames: Iterable[Batch | Frame]
    types: Mapping[str, str] = field(default_factory=dict)  # RecBole's types of raw columns; `guess`: by the values


@dataclass(frozen=True)
class Features:
    """Raw features of users (column ``user_id``) or items (``item_id``); those without interactions are left out."""

    frame: Batch | Frame | Iterable[Batch | Frame]
    types: Mapping[str, str] = field(default_factory=dict)
    blanks: bool = False  # whether a cell may be blank, and stays so


class Converter:
    """One source of raw data; a subclass declares what it is, and gives :meth:`batches` or :meth:`parts`.

    Args:
        input: the raw file or folder; None only if ``input_needed`` is false.
        options: an instance of ``options_class``.
    """

    name: ClassVar[str]
    """As in ``recbole-signed convert NAME``."""
    summary: ClassVar[str]
    """One line for ``--help``."""
    licence: ClassVar[str]
    """Under which terms the data comes, for ``dataset.json``."""
    options_class: ClassVar[type] = NoOptions
    input_needed: ClassVar[bool] = True
    unix_time: ClassVar[bool] = True
    """False where timestamps count from an unknown moment, so that they have no date."""
    files: tuple[str, ...] = ()
    """Names of its file in a folder, plain or compressed; none where the input is what is read."""
    what: ClassVar[str] = ""
    """What that file is, for the message that there is none."""
    below: ClassVar[str | None] = None
    """A folder in the input that the authors put the file in."""
    feature_files: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Names of files beside it that hold the features of ``item`` or ``user``, by that word."""
    data_name: ClassVar[str | None] = None
    """Name of the data set where the user gives none; None for that of the input."""
    types: Mapping[str, str] = {}
    """RecBole's types of raw columns, as of :class:`Part`."""

    def __init__(self, input: Path | None, options: Any) -> None:
        if input is None and self.input_needed:
            raise UsageError(f"The source '{self.name}' needs an input; give {argument('input', 'PATH')}.")
        if input is not None and not input.exists():
            raise UsageError(f"There is no input {input}{ending(input.name, names_beside(input))}")
        self.given = input  # None where no input is needed and none was given
        self.options = options

    @property
    def input(self) -> Path:
        """The raw file or folder, for sources that have one."""
        assert self.given is not None
        return self.given

    @property
    def rule(self) -> SignRule | None:
        """The rule that makes the sign, None where the source brings the sign itself."""
        return None

    def batches(self) -> Iterable[Batch | Frame]:
        """Give the interactions of the only part.

        Raises:
            UsageError: raw data that cannot be read, with file and row.
        """
        raise NotImplementedError

    def parts(self) -> Iterable[Part]:
        """Give the interactions, part after part; one part by default."""
        return [Part(None, self.batches(), self.types)]

    @cached_property
    def file(self) -> Path:
        """What is read, the input or the one file in it that is called as ``files`` say."""
        if not self.files or self.input.is_file():
            return self.input
        return find_one(self.input, self.files, self.what, self.below)

    def beside(self, *patterns: str, folder: Path | None = None) -> Path | None:
        """Return the first file of these names in a folder (that of the ratings by default); None for a single file."""
        if self.given is None or self.given.is_file():
            return None
        return next(iter(find_files(folder or self.file.parent, patterns)), None)

    def feature_file(self, kind: str) -> Path | None:
        """Return the file of the features of ``item`` or ``user``, None where there is none."""
        return self.beside(*self.feature_files.get(kind, ()))

    def inputs(self) -> list[Path]:
        """Give the raw files that are read; their names and sha256 go to ``dataset.json``."""
        read = [self.file] if self.files else [] if self.given is None else [self.given]
        return [*read, *filter(None, map(self.feature_file, self.feature_files))]

    def user_features(self) -> Features | None:
        """Features for NAME.user."""
        return None

    def item_features(self) -> Features | None:
        """Features for NAME.item."""
        return None

    def settings(self) -> dict[str, Any]:
        """Further keys for NAME.yaml."""
        return {}

    def default_name(self) -> str:
        """Name the data set where the user does not: as the input, without the suffixes of data files."""
        if self.data_name is not None:
            return self.data_name
        path = self.input.resolve()
        name = path.name
        while path.is_file() and Path(name).suffix.lower() in (*COMPRESSIONS, *_DATA_SUFFIXES) and Path(name).stem:
            name = Path(name).stem
        return name


def register_source(converter: type[Converter]) -> type[Converter]:
    """Make a converter of one's own known under its ``name``; usable as a class decorator."""
    _registered[converter.name] = converter
    return converter


def source_names() -> list[str]:
    """Names of all sources, without loading them."""
    return sorted({*_BUILT_IN, *_registered})


def source(name: str) -> type[Converter]:
    """Return the converter class of a source."""
    if not isinstance(name, str):
        raise UsageError(f"the source is of type {type(name).__name__}; give a name, such as 'csv'.")
    if name in _registered:
        return _registered[name]
    if name not in _BUILT_IN:
        names = source_names()
        raise UsageError(f"There is no source '{name}'; there are {', '.join(names)}{ending(name, names)}")
    module, _, attribute = _BUILT_IN[name].partition(":")
    return getattr(import_module(f"{_SOURCES}.{module}"), attribute)


def all_sources() -> dict[str, type[Converter]]:
    """All sources by name; each class has ``summary``, ``licence`` and ``options_class``."""
    return {name: source(name) for name in source_names()}


def find_files(folder: Path, patterns: Iterable[str], below: str | None = None) -> list[Path]:
    """List the files of a folder, or of its folder ``below``, whose plain name matches a pattern, each but once."""
    patterns = list(patterns)
    by_name: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        name = plain_name(path)
        if path.is_file() and any(fnmatchcase(name, pattern) for pattern in patterns):
            by_name.setdefault(_AGAIN.sub("", name), []).append(path)
    if not by_name and below is not None and (folder / below).is_dir():
        return find_files(folder / below, patterns)
    files = list(itertools.chain.from_iterable(by_name.values()))
    same_name = (paths for paths in by_name.values() if len(paths) > 1)
    of_pattern = ([path for path in files if fnmatchcase(plain_name(path), pattern)] for pattern in patterns)
    same_bytes = (pair for paths in of_pattern for pair in itertools.combinations(paths, 2) if _equal(*pair))
    for one, other, *_ in itertools.chain(same_name, same_bytes):
        raise UsageError(f"{folder} holds {one.name} and {other.name}; keep one of them.")
    return files


def _equal(one: Path, other: Path) -> bool:
    return 0 < one.stat().st_size == other.stat().st_size and filecmp.cmp(one, other, shallow=False)


def find_one(folder: Path, patterns: Iterable[str], what: str, below: str | None = None) -> Path:
    """Return the one file that :func:`find_files` finds."""
    patterns = list(patterns)
    files = find_files(folder, patterns, below)
    if len(files) > 1:
        names = " and ".join(path.name for path in files)
        raise UsageError(f"{folder} holds {names}; give the file that you want to use as the input.")
    if not files:
        beside = [path.name for path in folder.iterdir() if path.is_file()]
        expected = " or ".join(patterns)
        raise UsageError(
            f"{folder} holds no {what}, {expected} was expected (or .gz, .xz, .zst of it){ending(patterns[0], beside)}"
        )
    return files[0]
