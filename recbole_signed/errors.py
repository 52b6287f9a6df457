"""What a user reads when something is wrong: one sentence on what was got, what was expected and how to fix it."""

from __future__ import annotations

import contextlib
import difflib
import errno
import itertools
import os
import re
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires
from typing import Any

_SEPARATORS = ("\t", ";", "|", "::", ",")  # of columns in text, as far as they are rare in the name of one


class UsageError(ValueError):
    """The input, the configuration or the command is wrong; the message is meant for the user as it stands.

    The command line prints it without a traceback and exits with status 2.
    """


class NotFoundError(UsageError):
    """What is asked for by its name does not exist."""


class MissingExtraError(ImportError):
    """An optional dependency is not installed; the message names the packages, which pip finds, and their extra."""

    def __init__(self, what: str, extra: str) -> None:
        packages = " ".join(f"'{package}'" for package in _packages(extra)) or f"'recbole-signed[{extra}]'"
        super().__init__(f"{what} needs an optional dependency: pip install {packages} (recbole-signed[{extra}]).")


class _Reader:
    """Who reads the messages of this process."""

    on_command_line = False


@contextlib.contextmanager
def options_named() -> Iterator[None]:
    """Let messages name options of the command line, not arguments of Python: for as long as a command runs."""
    before, _Reader.on_command_line = _Reader.on_command_line, True
    try:
        yield
    finally:
        _Reader.on_command_line = before


def argument(name: str, value: str = "", *, option: str | None = None) -> str:
    """Return how a reader writes an argument: ``prune_after=9`` in Python, else ``--prune-after 9``, or ``option``."""
    if not _Reader.on_command_line:
        return f"{name}={value}" if value else name
    words = [option or f"--{name.replace('_', '-')}", *([value] if value not in ("", "True") else [])]
    return " ".join(words)


def _packages(extra: str) -> list[str]:
    """Return the requirements of an extra, as the installed package declares them."""
    try:
        declared = requires("recbole-signed") or []
    except PackageNotFoundError:  # on PYTHONPATH rather than installed
        return []
    parts = (requirement.replace('"', "'").partition(";") for requirement in declared)
    return [name.strip() for name, _, marker in parts if f"extra == '{extra}'" in marker]


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return a number with what it counts: ``1 row``, ``2,000 rows``; ``several`` is ``one`` with an s by default."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def nearest(name: str, known: Iterable[str], shown: Mapping[str, str] | None = None) -> str:
    """Return ``"; did you mean 'X'?"`` for the known name nearest to ``name``, or ``""`` where none is near."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    given = str(name).lower()
    matches = difflib.get_close_matches(given, list(by_lower), n=5, cutoff=0.6)
    if not matches:
        return ""
    # the ratio by which these are near favours long names: of 'SFF' it says 'SGFCF' before 'SSF'
    best = by_lower[min(matches, key=lambda match: _edits(given, match))]
    return f"; did you mean '{(shown or {}).get(best, best)}'?"


def ending(name: str, known: Iterable[str], shown: Mapping[str, str] | None = None) -> str:
    """Return how a sentence on a wrong name ends: with the hint of :func:`nearest`, or with a full stop."""
    return nearest(name, known, shown) or "."


def wrong_separator(columns: Sequence[str]) -> str:
    """Return what to do where a column looks like several, as of a file read by a wrong separator, or ``""``."""
    several = 1 if len(columns) == 1 else 2  # a name may hold a comma
    mark = next((mark for mark in _SEPARATORS if any(name.count(mark) >= several for name in columns)), None)
    return "" if mark is None else f"; that looks like several columns: read the file with the separator {mark!r}."


def _edits(a: str, b: str) -> int:
    """Return by how many insertions, deletions and replacements of a letter two names differ."""
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        above, row = row, [i]
        for j, other in enumerate(b, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != other)))
    return row[-1]


# ---- causes that lie outside: disk, memory, a missing library, unfit settings; else an error keeps its traceback ----

TRACEBACK = "RECBOLE_SIGNED_TRACEBACK"  # an environment variable: where it is set, every error keeps its traceback

# fmt: off
_OF_DISK = frozenset((
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EMFILE, errno.EIO,
    errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ENOTEMPTY, errno.ELOOP, errno.EINVAL,
))
# fmt: on
_OF_WRITING = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG))
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how polars says it: the number is in the text alone
_OF_SETTINGS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError),
    *(ImportError, TypeError, ValueError, UnboundLocalError),
)
LONGEST = 1500  # characters of a sentence at most
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_TAKES_SETTINGS = ("run", "tradeoff", "segments", "respond", "serve", "tune")


def printable(text: str) -> str:
    """Escape control characters, which a terminal would obey; line ends and tabs stay."""
    return text.translate(_CONTROLS)


def one_sentence(message: str) -> str:
    """Return a message as one printable line, without the middle of what somebody made long."""
    sentence = printable(" ".join(message.split()))
    return sentence if len(sentence) <= LONGEST else f"{sentence[: LONGEST // 2]} ... {sentence[-LONGEST // 3 :]}"


def outside_cause(error: Exception, words: Sequence[str]) -> str | None:
    """Return a sentence for an error that this package can't help; None for its own, or with :data:`TRACEBACK`."""
    if os.environ.get(TRACEBACK):
        return None
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error):
        return f"there is not enough memory ({_brief(error)}); use a smaller model or batch, or a larger machine."
    if isinstance(error, OSError) and error.errno in _OF_DISK and error.filename is not None:
        return f"the file system refuses {os.fsdecode(error.filename)}: {error.strerror}."
    number = _number_of(error)
    if number in _OF_WRITING:  # of a file that is open, such as the output
        return f"the file system refuses to write: {os.strerror(number)}; make room."
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] not in ("recbole_signed", ""):
        return f"this needs the Python module '{error.name}', which is not installed; install the package that has it."
    given = _given(words)
    if given and isinstance(error, _OF_SETTINGS):
        return (
            f"it failed with {type(error).__name__} ({_brief(error)}) under the settings {given}; correct them or "
            f"leave them out ({TRACEBACK}=1 shows where)."
        )
    return None


def _number_of(error: Exception) -> int:
    """Return the number of an error of the operating system, 0 where it is none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    by_polars = isinstance(error, OSError) or type(error).__module__.partition(".")[0] == "polars"
    match = _OS_ERROR.search(str(error)) if by_polars else None
    return int(match[1]) if match else 0


def _brief(error: Exception) -> str:
    return _short(" ".join(str(error).split()))


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]}..."


def _given(words: Sequence[str]) -> str:
    """Return the words that set keys or name files of them."""
    if not words or words[0] not in _TAKES_SETTINGS:
        return ""
    files = [f"of {after}" for word, after in itertools.pairwise(words) if word in ("-c", "--config")]
    return _short(" ".join([*(word for word in words[1:] if "=" in word), *files]))


@contextlib.contextmanager
def raised_by_sigterm(error: type[BaseException], *arguments: Any) -> Iterator[None]:
    """Let SIGTERM raise an error, so that what is open is closed as after Ctrl-C; in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: Any) -> None:
        raise error(*arguments)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
