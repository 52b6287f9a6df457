"""What a source is: the interface every converter implements, one source per file.

A converter reads raw files and yields interactions; everything else (checking, sorting, writing, counting,
renaming into place) is done once, for all of them, by :mod:`recbole_signed.convert.build`.

A new source is one module with one class, and one line in :mod:`recbole_signed.convert.registry`::

    @dataclass(frozen=True)
    class Options:
        signal: Literal["click", "long_view"] = option("click", "what makes a like")

    class KuaiRand(Converter):
        name = "kuairand"
        summary = "KuaiRand's logs (pure, 1k, 27k)"
        licence = "CC BY-SA 4.0 (Gao et al., CIKM 2022)"
        options_class = Options

        def inputs(self): ...          # the files it reads
        def parts(self): ...           # Part(None, batches)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from recbole_signed.convert.batch import Batch, Frame
from recbole_signed.convert.find import find_one
from recbole_signed.convert.options import NoOptions
from recbole_signed.convert.raw_files import COMPRESSIONS
from recbole_signed.convert.sign_rule import SignRule
from recbole_signed.errors import UsageError, argument, ending
from recbole_signed.files import names_beside

_DATA_SUFFIXES = (
    ".csv",
    ".tsv",
    ".tab",
    ".txt",
    ".dat",
    ".data",
    ".jsonl",
    ".ndjson",
    ".json",
    ".parquet",
    ".pq",
)


@dataclass(frozen=True)
class Part:
    """The interactions of one ``.inter`` file.

    ``frames`` have the columns ``user_id`` and ``item_id`` (text or whole numbers), ``sign`` (-1, 0, 1), where
    the source has them ``rating`` and ``timestamp`` (unix seconds), and any further raw columns. All frames of
    a source have the same columns; a generator of frames is read once and never held whole.
    """

    name: str | None
    """None for NAME.inter, else NAME.<name>.inter; RecBole's ``benchmark_filename`` lists them in this order."""
    frames: Iterable[Batch | Frame]
    types: Mapping[str, str] = field(default_factory=dict)
    """RecBole's types of raw columns: ``token``, ``float``, ``token_seq``, ``float_seq`` (sequences are text
    with blanks between) or ``guess`` (text that is ``float`` if every value is a number, without leading zeros). By
    default text is ``token`` and numbers are ``float``."""


@dataclass(frozen=True)
class Features:
    """Raw features of users (id column ``user_id``) or items (``item_id``), as columns of one frame or of several.

    Rows of users or items without interactions are left out. Blank cells are the converter's to fill.
    """

    frame: Batch | Frame | Iterable[Batch | Frame]
    types: Mapping[str, str] = field(default_factory=dict)
    blanks: bool = False
    """Whether a cell may be blank, and stays so."""


class Converter(ABC):
    """One source of raw data.

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

    def __init__(self, input: Path | None, options: Any) -> None:
        if input is None and self.input_needed:
            raise UsageError(f"The source '{self.name}' needs an input; give {argument('input', 'PATH')}.")
        if input is not None and not input.exists():
            raise UsageError(f"There is no input {input}{ending(input.name, names_beside(input))}")
        self.input = input
        self.options = options

    @property
    def rule(self) -> SignRule | None:
        """The rule that makes the sign, None where the source brings the sign itself."""
        return None

    @abstractmethod
    def parts(self) -> Iterable[Part]:
        """Give the interactions, part after part.

        Raises:
            UsageError: raw data that cannot be read, with file and row.
        """

    def the_file(self, patterns: Iterable[str], what: str, below: str | None = None) -> Path:
        """Give the input if it is a file, else the one file in it that :func:`find_one` finds."""
        assert self.input is not None
        return self.input if self.input.is_file() else find_one(self.input, patterns, what, below)

    def inputs(self) -> list[Path]:
        """Give the raw files that are read; their names and sha256 go to ``dataset.json``."""
        return [] if self.input is None else [self.input]

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
        assert self.input is not None
        path = self.input.resolve()
        name = path.name
        while path.is_file() and Path(name).suffix.lower() in (*COMPRESSIONS, *_DATA_SUFFIXES) and Path(name).stem:
            name = Path(name).stem
        return name
