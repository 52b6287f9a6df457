"""Raw files as text: compression, encoding, line ends, and blocks of whole records instead of a whole file."""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.convert.batch import blank_lines, current
from recbole_signed.errors import UsageError
from recbole_signed.files import require_file

BLOCK_BYTES = 32 << 20  # text is read and parsed in blocks of about this size
_MAX_RECORD_BLOCKS = 8  # a record longer than this many blocks is a quote that is never closed
MAX_EXPANDED, MAX_RATIO = 1 << 28, 200  # see `most_expanded`
_NEWLINE = ord("\n")
_BOM = codecs.BOM_UTF8
_UNDECODED = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")  # a lone surrogate: in UTF-8 there is none
_WIDE = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16's, which it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""What a file begins with, and the encoding that this tells of."""
_NOT_OF_FILES = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined")  # no file is written in them
_PACKED = (  # what a file has at a place, and what it is then
    (0, b"PK\x03\x04", "a zip archive; extract it, and give the file that is in it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive; extract it, and give the file that is in it"),
    (257, b"ustar", "a tar archive; extract it, and give the file that is in it"),
    (0, b"\x1f\x8b", "compressed with gzip; give it a name that ends in .gz"),
    (0, b"\xfd7zXZ\x00", "compressed with xz; give it a name that ends in .xz"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd; give it a name that ends in .zst"),
    (4, b"1AY&SY", "compressed with bzip2, which is not read; decompress it"),
    (0, b"PAR1", "a parquet file; give it a name that ends in .parquet"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of an old Office program; save the sheet as CSV"),
    (0, b"ARROW1", "an Arrow or Feather file; save it as parquet"),
)
_SPREADSHEETS = (".xlsx", ".xlsm", ".ods")
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


def open_bytes(path: Path) -> io.BufferedReader:
    """Open a file for reading, decompressed according to its suffix."""
    return io.BufferedReader(_OPENERS.get(path.suffix.lower(), io.FileIO)(path), 1 << 18)


def most_expanded(path: Path) -> int:
    """Return how many bytes an archive's content may have: no more than what such a file can honestly hold."""
    return max(MAX_EXPANDED, MAX_RATIO * path.stat().st_size)


def check_expanded(path: Path, size: int, remedy: str = "") -> None:
    """Refuse an archive whose content has ``size`` bytes or more, and those are too many."""
    if size > most_expanded(path):
        of = f"{size:,} bytes, more than {MAX_RATIO} times its size"
        raise UsageError(f"{path} expands to {of}; it was not read{remedy}.")


def _open_zstd(path: Path) -> Any:
    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd").open(path, "rb")


_OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".xz": lzma.open, ".zst": _open_zstd}
COMPRESSIONS = tuple(_OPENERS)


def _decoder(encoding: str) -> io.IncrementalNewlineDecoder:
    """Return what decodes a file piece by piece; line ends become newlines, bytes of no character lone surrogates."""
    try:
        if codecs.lookup(encoding).name.replace("_", "-") in _NOT_OF_FILES:
            raise LookupError
        "".encode(encoding)  # a codec that is not of text has no such method
        decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
    except (LookupError, ValueError) as error:  # ValueError: a null character in its name
        raise UsageError(
            f"There is no encoding {encoding!r}; use utf-8, utf-16, latin-1, cp1252 or the like."
        ) from error
    return io.IncrementalNewlineDecoder(decoder, translate=True)


def _refuse_packed(begin: bytes, path: Path) -> None:
    """Refuse what is no text by its first bytes: in many encodings any byte is a character."""
    kind = next((what for place, mark, what in _PACKED if begin.startswith(mark, place)), None)
    if kind is not None and path.suffix.lower() in _SPREADSHEETS:
        kind = "a spreadsheet; save the sheet as CSV"
    if kind is not None:
        raise UsageError(f"{path.name} is {kind}.")


def _chunks(path: Path, size: int, encoding: str) -> Iterator[tuple[bytes, str]]:
    """Decompressed pieces of about ``size`` bytes as UTF-8 in which lines end in a newline, and their encoding."""
    try:
        with open_bytes(path) as file:
            begin = file.peek(4)
            _refuse_packed(begin, path)
            encoding = next((name for mark, name in _WIDE.items() if begin.startswith(mark)), encoding)
            decoder = _decoder(encoding)
            expanded = 0
            while chunk := file.read(size):
                check_expanded(path, expanded := expanded + len(chunk), "; decompress it by hand if that is intended")
                yield decoder.decode(chunk).encode("utf-8", "surrogatepass"), encoding
            yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass"), encoding
    except UnicodeError as error:  # its subclass for what can't be decoded, or that the byte order is open
        reason = error.reason if isinstance(error, UnicodeDecodeError) else error
        raise UsageError(
            f"{path.name} is not a whole file in {encoding} ({reason}); save it as UTF-8, or give its encoding, "
            "for example encoding=utf-16-le."
        ) from error
    except Exception as error:
        if isinstance(error, _BROKEN) or type(error).__name__ == "ZstdError":  # of whichever module reads zstd
            raise UsageError(f"{path.name} is not a whole {path.suffix} file ({error}); fetch it again.") from error
        raise


def blocks(
    path: Path, *, encoding: str = "utf-8", quote: str | None = None, size: int | None = None
) -> Iterator[tuple[bytes, int]]:
    """Yield UTF-8 blocks of whole records, without BOMs, ending in a newline, and the number of their first line."""
    size = size or BLOCK_BYTES
    skipping = current() is not None
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
    """Refuse the lines that hold a byte of no character, or blank them; take out the marks of joined files."""
    block = block.removeprefix(_BOM).replace(b"\n" + _BOM, b"\n")
    if _UNDECODED.search(block) is None:
        return block

    def reason(match: re.Match[bytes]) -> str:
        byte = ord(match[0].decode("utf-8", "surrogatepass")) & 0xFF
        return f"byte {byte:#04x} is not {encoding}; give the file's encoding, for example encoding=latin-1"

    return blank_lines(block, _UNDECODED, line, path.name, reason)


def records_of(text: bytes, first_line: int, separator: str, quote: str | None) -> tuple[bytes, np.ndarray, int] | None:
    """Find the records of a text: itself without blank lines, the line at which each begins, and their separators.

    None where quotes are not where those of fields are.
    """
    raw = np.frombuffer(text, np.uint8)
    newlines, separators = raw == _NEWLINE, raw == ord(separator)
    every_newline = np.flatnonzero(newlines)
    if quote is not None and quote.encode() in text:
        inside = _inside_quotes(raw, ord(quote))
        if inside[-1] or _has_stray_quotes(raw, inside, newlines | separators, quote):
            return None
        newlines, separators = newlines & ~inside, separators & ~inside
    ends = np.flatnonzero(newlines)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    blank = starts == ends
    lines = first_line + np.searchsorted(every_newline, starts)
    if blank.any():
        text = np.delete(raw, ends[blank]).tobytes()
    return text, lines[~blank], int(separators.sum())


def _has_stray_quotes(raw: np.ndarray, inside: np.ndarray, bounds: np.ndarray, quote: str) -> bool:
    """Whether a quote neither begins nor ends a field and is not doubled."""
    quotes = raw == ord(quote)
    touches = bounds | quotes  # beside a field's opening or closing quote: its bound, or the other half of a pair
    before = np.concatenate([np.ones(1, bool), touches[:-1]])
    after = np.concatenate([touches[1:], np.ones(1, bool)])
    return bool((quotes & ~np.where(inside, before, after)).any())
