"""Raw files as text: compression, encoding, line ends, and blocks of whole records instead of a whole file."""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from recbole_signed.convert import rejects
from recbole_signed.convert.rejects import blank_lines, broken_quotes, undecodable
from recbole_signed.errors import UsageError
from recbole_signed.files import require_file

BLOCK_BYTES = 32 << 20  # text is read and parsed in blocks of about this size
_MAX_RECORD_BLOCKS = 8  # a record longer than this many blocks is a quote that is never closed
MAX_EXPANDED, MAX_RATIO = 1 << 28, 200  # see `open_bytes`
_STRAY_QUOTE = (
    "a quote ({}) stands inside a field that does not begin and end with one; double it and quote the field, or read "
    "the file with quote=none"
)
_NEWLINE = ord("\n")
_BOM = codecs.BOM_UTF8
_WIDE = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16's, which it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""What a file begins with, and the encoding that this tells of; each byte of its text is not a character."""
_STRUCTURE = "\n\t ,;|:\"'09AZaz"  # characters that most encodings write as ASCII does
_NOT_OF_FILES = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined")  # no file is written in them
_PACKED = (  # first bytes of a file, and what it is
    (b"PK\x03\x04", "a zip archive; extract it, and give the file that is in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; extract it, and give the file that is in it"),
    (b"\x1f\x8b", "compressed with gzip; give it a name that ends in .gz"),
    (b"\xfd7zXZ\x00", "compressed with xz; give it a name that ends in .xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; give it a name that ends in .zst"),
    (b"PAR1", "a parquet file; give it a name that ends in .parquet"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of an old Office program; save the sheet as CSV"),
    (b"ARROW1", "an Arrow or Feather file; save it as parquet"),
)
_SPREADSHEETS = (".xlsx", ".xlsm", ".ods")
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
_BROKEN = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)


def existing_file(path: Path) -> Path:
    """Return the path of a readable file with something in it."""
    require_file(path)
    if path.stat().st_size == 0:
        raise UsageError(f"{path.name} is empty.")
    return path


def plain_name(path: Path) -> str:
    """Name of a file without the suffix of its compression: ``ratings.csv`` for ``ratings.csv.xz``."""
    return path.stem if path.suffix.lower() in COMPRESSIONS else path.name


def plain_suffix(path: Path) -> str:
    """Lower-case suffix of the :func:`plain_name`."""
    return Path(plain_name(path)).suffix.lower()


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed according to its suffix; what grows beyond `MAX_RATIO` is refused."""
    suffix = path.suffix.lower()
    if suffix not in _OPENERS:
        return path.open("rb")
    return cast(IO[bytes], io.BufferedReader(_Bounded(_OPENERS[suffix](path), path), 1 << 18))


def check_expanded(path: Path, size: int) -> None:
    """Refuse an archive whose content, ``size`` bytes, is larger than what such a file can honestly hold."""
    if size > max(MAX_EXPANDED, MAX_RATIO * path.stat().st_size):
        raise UsageError(f"{path} expands to {size:,} bytes, more than {MAX_RATIO} times its size; it was not read.")


class _Bounded(io.RawIOBase):
    """A decompressed file that does not grow without end."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self._left = max(MAX_EXPANDED, MAX_RATIO * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise UsageError(
                f"{self._path.name} expands to more than {MAX_RATIO} times its size, as no text does; decompress it by "
                "hand if that is intended."
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _open_zstd(path: Path) -> IO[bytes]:
    for name in ("compression.zstd", "backports.zstd"):  # Python 3.14's own, and the same for older ones
        with suppress(ModuleNotFoundError):
            return cast(IO[bytes], import_module(name).open(path, "rb"))
    raise UsageError(
        f"{path.name} is compressed with zstd, which this Python cannot read; run pip install backports.zstd, or "
        "decompress it with the zstd command."
    )


_OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".xz": lzma.open, ".zst": _open_zstd}
COMPRESSIONS = tuple(_OPENERS)


def _recoder(file: IO[bytes], encoding: str, path: Path) -> Callable[[int], bytes]:
    """Return what reads the next characters of a file that does not write ASCII as it is, such as UTF-16, as UTF-8."""
    text = io.TextIOWrapper(file, encoding, newline="")

    def read(size: int) -> bytes:
        try:
            return text.read(size).encode()
        except UnicodeError as error:  # its subclass for what can't be decoded, or that the byte order is open
            reason = error.reason if isinstance(error, UnicodeDecodeError) else error
            raise UsageError(
                f"{path.name} is not a whole file in {encoding} ({reason}); save it as UTF-8, or give its encoding, "
                "for example encoding=utf-16-le."
            ) from error

    return read


def _writes_ascii(encoding: str) -> bool:
    """Tell whether an encoding writes the characters that make lines and columns as ASCII does."""
    try:
        if codecs.lookup(encoding).name.replace("_", "-") in _NOT_OF_FILES:
            raise LookupError
        return _STRUCTURE.encode().decode(encoding) == _STRUCTURE
    except UnicodeDecodeError:
        return False
    except (LookupError, ValueError) as error:  # ValueError: a null character in its name
        raise UsageError(
            f"There is no encoding {encoding!r}; use utf-8, utf-16, latin-1, cp1252 or the like."
        ) from error


def _refuse_packed(begin: bytes, path: Path) -> None:
    """Refuse what is no text by its first bytes: in many encodings any byte is a character."""
    found = next((what for mark, what in _PACKED if begin.startswith(mark)), None)
    if found is not None and path.suffix.lower() in _SPREADSHEETS:
        found = "a spreadsheet; save the sheet as CSV"
    if begin[257:262] == b"ustar":
        found = "a tar archive; extract it, and give the file that is in it"
    if _BZIP2.match(begin):
        found = "compressed with bzip2, which is not read; decompress it"
    if found is not None:
        raise UsageError(f"{path.name} is {found}.")


def _chunks(path: Path, size: int, encoding: str) -> Iterator[tuple[bytes, str]]:
    """Decompressed pieces of about ``size`` bytes in which every line ends in a plain newline, and their encoding."""
    try:
        with open_bytes(path) as opened:
            file = io.BufferedReader(cast(io.RawIOBase, opened))
            begin = file.peek(4)
            _refuse_packed(begin, path)
            encoding = next((name for mark, name in _WIDE.items() if begin.startswith(mark)), encoding)
            read: Callable[[int], bytes] = file.read
            if not _writes_ascii(encoding):
                read, encoding = _recoder(file, encoding, path), "utf-8"
            while chunk := read(size):
                while chunk.endswith(b"\r") and (more := read(1)):
                    chunk += more  # its newline, if it is half of a pair
                if b"\r" in chunk:
                    chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
                yield chunk, encoding
    except Exception as error:
        if isinstance(error, _BROKEN) or type(error).__name__ == "ZstdError":  # of whichever module reads zstd
            raise UsageError(f"{path.name} is not a whole {path.suffix} file ({error}); fetch it again.") from error
        raise


def blocks(
    path: Path, *, encoding: str = "utf-8", quote: str | None = None, size: int | None = None
) -> Iterator[tuple[bytes, int]]:
    """Yield UTF-8 blocks of whole records, without BOMs, ending in a newline, and the number of their first line."""
    size = size or BLOCK_BYTES
    skipping = rejects.current() is not None
    rest, line, given = b"", 1, encoding
    for chunk, encoding in _chunks(existing_file(path), size, given):
        rest = rest + chunk
        cut = _last_record_end(rest, quote)
        if cut == 0 and len(rest) > _MAX_RECORD_BLOCKS * size:
            cut = rest.rfind(b"\n") + 1 if skipping else 0
            if cut == 0:
                break
        if cut:
            yield _utf8(rest[:cut], encoding, path, line), line
            line += rest.count(b"\n", 0, cut)
            rest = rest[cut:]
    if not rest:
        return
    if not rest.endswith(b"\n"):
        rest += b"\n"
    if not skipping and _last_record_end(rest, quote) != len(rest):
        line += rest.count(b"\n", 0, rest.find((quote or "").encode()))
        raise UsageError(
            f"{path.name}, line {line}: a quote ({quote}) opened in this line or after it is never closed; "
            "fix it, or read the file with quote=none."
        )
    yield _utf8(rest, encoding, path, line), line


def _last_record_end(data: bytes, quote: str | None) -> int:
    """Offset just after the last newline that ends a record; 0 where there is none."""
    if quote is None or quote.encode() not in data:
        return data.rfind(b"\n") + 1
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero((raw == _NEWLINE) & ~_inside_quotes(raw, ord(quote)))
    return int(ends[-1]) + 1 if ends.size else 0


def _inside_quotes(raw: np.ndarray, quote: int) -> np.ndarray:
    """Bool ``[n]``: bytes from an opening quote up to, not including, its closing one."""
    return np.bitwise_xor.accumulate((raw == quote).view(np.uint8)).view(np.bool_)


def _utf8(block: bytes, encoding: str, path: Path, line: int) -> bytes:
    block = block.removeprefix(_BOM).replace(b"\n" + _BOM, b"\n")
    try:
        text = block.decode(encoding)
    except UnicodeDecodeError:
        problem = f"is not {encoding}; give the file's encoding, for example encoding=latin-1"
        bad = undecodable(block, encoding)
        rest = blank_lines(block, bad, line, path.name, lambda at: f"byte {block[at]:#04x} {problem}")
        return _utf8(rest, encoding, path, line)
    return block if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else text.encode()


@dataclass(frozen=True)
class Records:
    """What a block of delimited text holds, found without parsing it."""

    text: bytes  # the text that was scanned, with blank lines, also in place of lines that were left out
    block: bytes  # the text without its blank lines
    lines: np.ndarray  # int64 `[n]`: line number at which each record starts
    fields: np.ndarray  # int64 `[n]`: number of fields of each record
    ends: np.ndarray  # int64 `[n]`: offset in `block` of the newline that ends each record

    def only(self, wanted: np.ndarray) -> Records:
        """Give these records alone (bool ``[n]``)."""
        sizes = np.diff(self.ends, prepend=-1)
        block = np.frombuffer(self.block, np.uint8)[np.repeat(wanted, sizes)].tobytes()
        return Records(self.text, block, self.lines[wanted], self.fields[wanted], np.cumsum(sizes[wanted]) - 1)


def scan_records(block: bytes, first_line: int, separator: str, quote: str | None, origin: str) -> Records:
    """Find the records of a block: where they start and how many fields they have; blank lines are dropped."""
    raw = np.frombuffer(block, np.uint8)
    newlines, separators = raw == _NEWLINE, raw == ord(separator)
    every_newline = np.flatnonzero(newlines)
    if quote is not None and quote.encode() in block:
        inside = _inside_quotes(raw, ord(quote))
        stray = _stray_quotes(raw, inside, newlines | separators, quote)
        skipping = rejects.current() is not None
        if stray.size or (inside[-1] and skipping):
            bad = broken_quotes(block, separator, quote) if skipping else stray
            block = blank_lines(block, bad, first_line, origin, lambda _: _STRAY_QUOTE.format(quote))
            return scan_records(block, first_line, separator, quote, origin)
        newlines, separators = newlines & ~inside, separators & ~inside
    ends = np.flatnonzero(newlines)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    blank, text = starts == ends, block
    fields = np.diff(np.searchsorted(np.flatnonzero(separators), ends), prepend=0) + 1
    lines = first_line + np.searchsorted(every_newline, starts)
    if blank.any():
        block = np.delete(raw, ends[blank]).tobytes()
        ends = ends - np.cumsum(blank)
    return Records(text, block, lines[~blank], fields[~blank], ends[~blank])


def _stray_quotes(raw: np.ndarray, inside: np.ndarray, bounds: np.ndarray, quote: str) -> np.ndarray:
    """Offsets of quotes that neither begin nor end a field and are not doubled."""
    quotes = raw == ord(quote)
    touches = bounds | quotes  # beside a field's opening or closing quote: its bound, or the other half of a pair
    before = np.concatenate([np.ones(1, bool), touches[:-1]])
    after = np.concatenate([touches[1:], np.ones(1, bool)])
    return np.flatnonzero(quotes & ~np.where(inside, before, after))
