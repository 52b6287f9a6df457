"""Files that are there whole or not at all, whatever happens while they are written, and the lock of a directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import secrets
import shutil
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from recbole_signed.errors import UsageError, ending

_BLOCK = 1 << 20
_BEFORE = 256
"""Bytes of a file of lines by which its end is known again."""
_DTYPES = {
    "f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u8": "U64", "u4": "U32",
    "u2": "U16", "u1": "U8", "b1": "BOOL",
}  # fmt: skip
MANIFEST = "manifest.json"
SUM = "sum"
LOCK = "LOCK"
FORMAT = 1
ANOTHER_FILE = "make room, correct the permissions, or give the path of another file"
"""What to do where a file that the user named can't be written."""


_OF_STATE = "nothing that was acknowledged before is lost, so make room or correct the permissions and start again"


class DamagedError(UsageError):
    """What lies on the disk is not what was written; an older version may be whole."""


def _nothing(step: str) -> None:
    """Nothing happens at a step."""


reached: Callable[[str], None] = _nothing
"""Called with the name of each step that a crash could follow; the tests of faults put a killer here."""


def at(step: str) -> None:
    """Tell that a step of something durable has been reached."""
    reached(step)


@contextlib.contextmanager
def refusing(what: str, remedy: str = _OF_STATE) -> Iterator[None]:
    """Turn what the file system refuses (no room, no permission) into one sentence.

    Args:
        what: was to be done.
        remedy: what the user is to do; that of a state directory by default.

    Raises:
        UsageError: in place of an OSError.
    """
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


def names_beside(path: Path) -> list[str]:
    """Return the names in the folder of a path, one of which may have been meant where there is nothing at the path."""
    return [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []


def require_file(path: Path, wanted: str = "one file in it") -> None:
    """Refuse a path at which there is no file.

    Args:
        path: of the file.
        wanted: what to give in place of a folder.

    Raises:
        UsageError: a folder, or nothing (with the nearest name beside it).
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give {wanted}.")
    if not path.is_file():
        raise UsageError(f"there is no file {path}{ending(path.name, names_beside(path))}")


def make_folder(folder: Path) -> None:
    """Make a folder with its parents, and make their names durable."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)


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
    """Give a temporary path beside a file, for whatever writes it; it takes the file's place if all goes well.

    Readers find the old file or the new one. A folder is refused with IsADirectoryError. Nothing waits for the disk:
    what must survive a loss of power is for `replace_file`.
    """
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
def changing(path: Path) -> Iterator[None]:
    """Wait for others who change a file of this folder: of two who read, add and replace, neither loses the other's."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def parse_json(text: str | bytes) -> Any:
    """Return what JSON from a file says.

    Raises:
        ValueError: it is no JSON, no UTF-8, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


@contextlib.contextmanager
def replacing_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder that becomes ``target`` if all goes well, and vanishes otherwise.

    Raises:
        FileExistsError: ``target`` came to be meanwhile, and is not to be replaced.
        UsageError: a file stands where a folder above ``target`` is to be.
    """
    for above in target.parents:
        if above.exists() and not above.is_dir():
            raise UsageError(f"{above} is a file, and a folder of data sets is written to; name another output folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    unique = f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}"
    folder, old = target.parent / f"{unique}.tmp", target.parent / f"{unique}.old"
    folder.mkdir()
    try:
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
        shutil.rmtree(folder, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def write_folder(
    folder: Path, files: Mapping[str, Mapping[str, np.ndarray]], meta: Mapping[str, Any], what: str
) -> None:
    """Write a folder of tensor files with a manifest, durable and whole: a temporary name, fsync, rename.

    Args:
        folder: must not be there yet.
        files: tensors by name, by the name of their file (without ``.safetensors``).
        meta: JSON that the manifest holds beside the checksums.
        what: the steps' prefix, for the tests of faults.
    """
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        sums = {}
        for name, tensors in files.items():
            path = temporary / f"{name}.safetensors"
            sums[path.name] = _write_tensors(path, tensors)
            at(f"{what}:tensors")
        manifest = {"format": FORMAT, **meta, "sha256": sums}
        text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
        manifest_sum = hashlib.sha256(text.encode()).hexdigest()
        write_file(temporary / MANIFEST, f"{text}\n{manifest_sum}\n".encode())
        sync_folder(temporary)
        at(f"{what}:written")
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder.parent)
    at(f"{what}:renamed")


def _write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> str:
    """Write a file of the format safetensors, durable, in blocks during which other threads run; return its SHA-256.

    https://huggingface.co/docs/safetensors/index#format
    """
    arrays = {name: np.ascontiguousarray(each) for name, each in tensors.items()}
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    ends = list(itertools.accumulate((arrays[name].nbytes for name in order), initial=0))
    head: dict[str, Any] = {
        name: {"dtype": _DTYPES[arrays[name].dtype.str[1:]], "shape": arrays[name].shape, "data_offsets": list(span)}
        for name, span in zip(order, itertools.pairwise(ends), strict=True)
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        contents = [arrays[name].reshape(-1).view(np.uint8).data for name in order]
        for view in (memoryview(len(text).to_bytes(8, "little") + text), *contents):
            for start in range(0, len(view), _BLOCK):
                file.write(view[start : start + _BLOCK])
                digest.update(view[start : start + _BLOCK])
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder that `write_folder` made.

    Raises:
        DamagedError: it is absent or not as it was written.
        UsageError: a newer version of this package wrote it.
    """
    path = folder / MANIFEST
    try:
        text, _, rest = path.read_bytes().rpartition(b"\n}\n")
    except OSError as error:
        raise DamagedError(f"{folder} can't be read: {error.strerror} ({path.name}).") from error
    body = text + b"\n}"
    if hashlib.sha256(body).hexdigest().encode() != rest.strip():
        raise DamagedError(f"{path} is damaged: its checksum does not fit.")
    try:
        manifest: dict[str, Any] = parse_json(body)
        sound = isinstance(manifest.get("sha256"), dict) and "format" in manifest
    except (ValueError, AttributeError) as error:
        raise DamagedError(f"{path} is damaged: it is not a manifest ({error}).") from error
    if not sound:
        raise DamagedError(f"{path} is damaged: it is not a manifest.")
    if manifest["format"] != FORMAT:
        raise UsageError(
            f"{folder} has format {manifest['format']}, and this version of recbole-signed reads format {FORMAT}; "
            "read it with the version that wrote it."
        )
    return manifest


def read_tensors(folder: Path, manifest: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
    """Read one tensor file of a folder and hold it against its checksum.

    Raises:
        DamagedError: it is absent or not as it was written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / f"{name}.safetensors"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{folder} can't be read: {error.strerror} ({path.name}).") from error
    if hashlib.sha256(content).hexdigest() != manifest["sha256"].get(path.name):
        raise DamagedError(f"{path} is damaged: its checksum does not fit.")
    try:
        return {key: value.copy() for key, value in load(content).items()}  # load gives views that can't be written
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{path} is damaged: it holds no tensors ({error}).") from error


# ---- files of lines, which grow


def is_torn(file: BinaryIO) -> bool:
    """Return whether a file of lines, open for reading, ends with a part of a line, as a crash leaves it."""
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def append_lines(path: Path, contents: Iterable[Mapping[str, Any]]) -> int:
    """Append JSON objects to a file, each on a line with a checksum; they are on the disk when this returns.

    What a crash left of a line is cut off first.

    Returns:
        the size of the file before, for `cut`.

    Raises:
        OSError: the disk is full or can't be written; then none of the lines is there.
    """
    left = memoryview(b"".join(map(summed_line, contents)))
    with path.open("ab+", buffering=0) as file:  # a buffer would be written again when the file is closed
        if is_torn(file):
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        before = file.seek(0, os.SEEK_END)
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                file.truncate(before)
            raise
        return before


def cut(path: Path, size: int) -> None:
    """Take lines back that were appended to a file: it needs no room, as on a full disk.

    Raises:
        OSError: the disk can't be written.
    """
    with path.open("rb+", buffering=0) as file:
        file.truncate(size)
        os.fsync(file.fileno())


def summed_line(content: Mapping[str, Any]) -> bytes:
    """Return a JSON object as a line with its checksum."""
    return (json.dumps({**content, SUM: _sum_of(content)}) + "\n").encode()


def read_lines(path: Path, after: tuple[int, bytes] = (0, b"")) -> tuple[list[Any], tuple[int, bytes], bool]:
    """Read what `append_lines` wrote, but for a line that is being written or that a crash cut off.

    Lines without a checksum, of earlier versions of this package, are returned as they are.

    Args:
        path: of the file, which need not be there.
        after: what the last call returned as its end: only lines after it are read, if the same stands before it still.

    Returns:
        the contents; their end, as its place and the bytes before it; whether these are all contents.

    Raises:
        DamagedError: a line is not what was written.
    """
    try:
        with path.open("rb") as file:
            start, before = after
            file.seek(start - len(before))
            if file.read(len(before)) != before:  # written again since; the number of the file may be the same
                start, before = 0, b""
                file.seek(0)
            content = file.read()
    except FileNotFoundError:
        return [], (0, b""), True
    *lines, rest = content.split(b"\n")
    found = [_parsed_line(line) for line in lines]
    # a whole line behind whose end another character stands: the end was damaged
    if _Broken in found or (len(rest) > 1 and _parsed_line(rest[:-1]) is not _Broken):
        raise DamagedError(f"{path} is damaged: a line is not as it was written; put a copy of it in its place.")
    whole = before + content.removesuffix(rest)
    return found, (start + len(content) - len(rest), whole[-_BEFORE:]), not start


class _Broken:
    """Stands for a line that can't be read."""


def _parsed_line(line: bytes) -> Any:
    try:
        content = parse_json(line)
    except ValueError:
        return _Broken
    if isinstance(content, dict) and SUM in content:
        told = content.pop(SUM)
        return content if told == _sum_of(content) else _Broken
    return content


def _sum_of(content: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(content).encode())


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

    def release(self) -> None:
        """Give the right back."""
        self._file.close()


_held: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()


def _release_in_child() -> None:
    """Close the locks that a forked process got: it would keep them after the death of the one that holds them."""
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_release_in_child)
