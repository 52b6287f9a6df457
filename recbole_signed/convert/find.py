"""Where the files of a source are: in a folder as its authors pack it, plain or compressed."""

from __future__ import annotations

import filecmp
import itertools
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from recbole_signed.convert.raw_files import COMPRESSIONS
from recbole_signed.errors import UsageError, ending

_AGAIN = re.compile(r" ?\(\d+\)(?=\.)")
"""What a browser adds to the name of a file that it fetches again."""


def plain_name(path: Path) -> str:
    """Name of a file without the suffix of its compression: ``ratings.csv`` for ``ratings.csv.xz``."""
    return path.stem if path.suffix.lower() in COMPRESSIONS else path.name


def find_files(folder: Path, patterns: Iterable[str], below: str | None = None) -> list[Path]:
    """List the files whose plain name matches one of the patterns (``log_*.csv``), in the order of their names.

    Args:
        folder: where to look.
        patterns: with ``*`` and ``?``, case and all.
        below: a folder in it that the authors put the files in; looked into if there are none above.

    Raises:
        UsageError: a file is there twice: plain and compressed, fetched again (``log (1).csv``), or under two names.
    """
    patterns = list(patterns)
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        name = plain_name(path)
        if path.is_file() and any(fnmatchcase(name, pattern) for pattern in patterns):
            found.setdefault(_AGAIN.sub("", name), []).append(path)
    if not found and below is not None and (folder / below).is_dir():
        return find_files(folder / below, patterns)
    files = list(itertools.chain.from_iterable(found.values()))
    same_name = (each for each in found.values() if len(each) > 1)
    of_pattern = ([each for each in files if fnmatchcase(plain_name(each), pattern)] for pattern in patterns)
    same_bytes = (pair for each in of_pattern for pair in itertools.combinations(each, 2) if _equal(*pair))
    for one, other, *_ in itertools.chain(same_name, same_bytes):
        raise UsageError(f"{folder} holds {one.name} and {other.name}; keep one of them.")
    return files


def _equal(one: Path, other: Path) -> bool:
    return 0 < one.stat().st_size == other.stat().st_size and filecmp.cmp(one, other, shallow=False)


def find_one(folder: Path, patterns: Iterable[str], what: str, below: str | None = None) -> Path:
    """Give the one file that :func:`find_files` finds.

    Raises:
        UsageError: there is none (with the nearest name there), or there are several.
    """
    patterns = list(patterns)
    found = find_files(folder, patterns, below)
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise UsageError(f"{folder} holds {names}; give the file that you want to use as the input.")
    if not found:
        beside = [path.name for path in folder.iterdir() if path.is_file()]
        wanted = " or ".join(patterns)
        raise UsageError(
            f"{folder} holds no {what}, {wanted} was expected (or .gz, .xz, .zst of it){ending(patterns[0], beside)}"
        )
    return found[0]
