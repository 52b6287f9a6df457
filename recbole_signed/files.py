"""Files (figures too) that are there whole or not at all, whatever happens, and the lock of a directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import lzma
import os
import secrets
import shutil
import stat
import struct
import time
import weakref
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from recbole_signed.errors import MissingExtraError, UsageError, argument, ending

_BLOCK = 1 << 20
LOCK = "LOCK"
PRIVATE = 0o700  # mode of folders that hold what users did: their owner alone looks into them, whatever the umask says
ANOTHER_FILE = "make room, correct the permissions, or give the path of another file"  # for a file of the user's
_OF_STATE = "nothing that was acknowledged before is lost, so make room or correct the permissions and start again"


class DamagedError(UsageError):
    """What lies on the disk is not what was written; an older version may be whole."""


def _nothing(step: str) -> None:
    """Nothing happens at a step."""


reached: Callable[[str], None] = _nothing  # called with each step that a crash could follow, for tests of faults


def at(step: str) -> None:
    """Tell that a step of something durable has been reached."""
    reached(step)


@contextlib.contextmanager
def refusing(what: str, remedy: str = _OF_STATE) -> Iterator[None]:
    """Turn what the file system refuses (no room, no permission) into a sentence on what was to be done."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{what} failed: {error.strerror or error} ({error.filename or 'no file named'}); {remedy}."
        ) from error


def sha256(path: Path) -> str:
    """Return the hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_BLOCK):
            digest.update(chunk)
    return digest.hexdigest()


ARCHIVE_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError),
    *(LookupError, RuntimeError, TypeError, ValueError),
)
"""What reading a damaged zip archive, or one that somebody made by hand, may end in."""


def damage_of_archive(file: Path | BinaryIO) -> str | None:
    """Return what is wrong with a zip archive, by the checksums and the names in it; None where nothing is."""
    try:
        with zipfile.ZipFile(file) as archive:
            bad = archive.testzip()
    except ARCHIVE_DAMAGE as error:
        return str(error)
    return None if bad is None else f"the checksum of {bad} does not fit"


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_plain_name(name: Any) -> bool:
    """Whether a value names a file or folder within any folder: it can't lead out of it, nor into one below."""
    return isinstance(name, str) and name not in ("", ".", "..") and "\0" not in name and Path(name).name == name


def path_of(given: Any, name: str) -> Path:
    """Return the path that an argument of a public function is."""
    if not isinstance(given, (str, os.PathLike)) or not isinstance(os.fspath(given), str):
        raise UsageError(f"{argument(name)} is of type {type(given).__name__}; give a path, as text or pathlib.Path.")
    return Path(given)


def names_beside(path: Path) -> list[str]:
    """Return the names in the folder of a path, one of which may have been meant where there is nothing at the path."""
    return [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []


def require_file(path: Path, remedy: str = "one file in it") -> None:
    """Refuse a path at which there is no file; ``remedy`` is what to give in place of a folder."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give {remedy}.")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is a pipe or a device, which can't be read twice; write it to a file first.")
    if not path.is_file():
        raise UsageError(f"there is no file {path}{ending(path.name, names_beside(path))}")


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder with its parents, and make their names durable; ``mode`` is that of the folder, if it is made."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(mode, parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def open_like(path: Path, before: os.stat_result | None, mode: int) -> None:
    """Let those at a new file or folder who may be at the one whose place it takes, or by ``mode`` without one."""
    if before is not None:
        mode = stat.S_IMODE(before.st_mode)
        with contextlib.suppress(PermissionError):  # of another user, or a group that this process is not in
            os.chown(path, before.st_uid, before.st_gid)
    path.chmod(mode)


def stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what is another one once a file was changed; None where it is not there."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns


def write_file(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of a file: readers, and a crash, find the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        write_file(temporary, content)
        at(f"{path.name}:written")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    at(f"{path.name}:replaced")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside a file, whose place it takes if all goes well; nothing waits for the disk."""
    if not path.name or path.is_dir():  # with_name() fails on "."
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a file of text as a whole, and only if it says something new."""
    content = text.encode()
    if path.is_file() and path.read_bytes() == content:
        return
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a folder: of two who read, add and replace a file in it, neither loses the other's addition."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))  # BlockingIOError: it is held by another
        yield
    finally:
        os.close(held)


class RepeatedKeyError(ValueError):
    """An object of JSON has a key more than once."""


def keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, for ``object_pairs_hook``; a key that is there twice is a RepeatedKeyError."""
    made = dict(pairs)
    if len(made) < len(pairs):
        ((name, number),) = Counter(name for name, _ in pairs).most_common(1)
        raise RepeatedKeyError(f"the key '{name}' is given {number} times")
    return made


def parse_json(text: str | bytes) -> Any:
    """Return what JSON from a file says; raise RepeatedKeyError, or ValueError for no JSON or too deep nesting."""
    try:
        return json.loads(text, object_pairs_hook=keys_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


@contextlib.contextmanager
def replacing_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``target`` if all goes well, and vanishes otherwise."""
    for above in target.parents:
        if above.exists() and not above.is_dir():
            raise UsageError(f"{above} is a file, and a folder of data sets is written to; name another output folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(target)
    unique = f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}"
    folder, old = target.parent / f"{unique}.tmp", target.parent / f"{unique}.old"
    folder.mkdir()
    held = contextlib.ExitStack()
    try:
        with contextlib.suppress(OSError):  # a file system may have no locks
            held.enter_context(locked(folder, wait=False))
        yield folder
        if overwrite and target.exists():
            os.rename(target, old)
        try:
            os.rename(folder, target)
        except OSError as error:
            if target.exists():
                raise FileExistsError(f"{target} exists") from error
            if old.exists():
                os.rename(old, target)
            raise
    finally:
        held.close()
        shutil.rmtree(folder, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def _remove_left_over(target: Path) -> None:
    """Remove the temporary folders of killed processes; one that is alive holds the lock of its folder."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*-????????.tmp"):
        with contextlib.suppress(OSError), locked(left, wait=False):
            if time.time() - left.stat().st_mtime > 60:  # what was just made is not locked yet
                shutil.rmtree(left)


class DirectoryLock:
    """The right to write in a directory: one process, one holder; the kernel takes it back when the process dies."""

    def __init__(self, directory: Path) -> None:
        path = directory / LOCK
        self._file = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise UsageError(
                f"{directory} is being written by process {holder}; one state directory has one writer, so stop "
                "that one or name another directory."
            ) from None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()
        _held.add(self)

    def close(self) -> None:
        """Give the right back."""
        self._file.close()


_held: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()


def _release_in_child() -> None:
    """Close the locks that a forked process got: it would keep them after the death of the one that holds them."""
    for lock in list(_held):
        lock.close()


os.register_at_fork(after_in_child=_release_in_child)


@contextlib.contextmanager
def picture(path: Path, width: float, height: float, style: Mapping[Any, Any] | None = None) -> Iterator[Any]:
    """Yield an empty matplotlib figure of a size in inches, and write it as PNG once it is drawn, as a whole or not."""
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing figures", "plots") from error
    with rc_context(dict(style or {})):
        figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        with replacing(path) as unfinished:
            figure.savefig(unfinished, format="png", metadata={"Software": "recbole-signed"})
