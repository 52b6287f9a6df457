"""Errors as one sentence, also those whose cause lies outside: disk, memory, a missing library, unfit settings.

Any other error is a fault of this package and keeps its traceback.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
from collections.abc import Sequence

TRACEBACK = "RECBOLE_SIGNED_TRACEBACK"
"""An environment variable: where it is set, every error keeps its traceback."""

# fmt: off
_OF_DISK = frozenset((
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EMFILE, errno.EIO,
    errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ENOTEMPTY, errno.ELOOP, errno.EINVAL,
))
# fmt: on
_OF_WRITING = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG))
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How polars says what the operating system said: the number is in the text alone."""
_OF_SETTINGS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError),
    *(ImportError, TypeError, ValueError, UnboundLocalError),
)
LONGEST = 1500
"""Characters of a sentence at most."""
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
    """Return a sentence for an error that this package can't help.

    Args:
        error: what escaped from a command.
        words: of the command line.

    Returns:
        None where it is a fault of this package, or where :data:`TRACEBACK` is set.
    """
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
    found = _OS_ERROR.search(str(error)) if by_polars else None
    return int(found[1]) if found else 0


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
