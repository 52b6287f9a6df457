"""Features as one sparse matrix, learned from ids that are known: indicators, and vectors of length 1 on average."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from recbole_signed.atomic.feature_file import FeatureTable
from recbole_signed.errors import UsageError

MAX_TOKENS = 2048  # tokens of all columns together
LEAST = 2  # known ids that must have a token
LEVELS = {"bins": (16,), "levels": (64, 16, 4)}  # quantile bins by kind; each number divides the one before
TEXT_BUCKETS = 1024  # buckets that words and pairs of words are hashed into, for each column of text
MAX_VECTOR = 1024  # longest vector of an embedding
_OF, _WORD = "/", "="  # separator between the number of a bin and its level; prefix of a word among numbers
BIAS = ""  # name of the first column


@dataclass(frozen=True)
class FeatureSpace:
    """What the columns of the matrix mean. JSON can hold it."""

    kinds: Mapping[str, str]  # how each column of the table is read
    tokens: Mapping[str, Sequence[str]]  # by column: the tokens or bins in the order of their places in the matrix
    edges: Mapping[str, Sequence[float]]  # by column of numbers: the bounds of its finest bins, ascending
    vectors: Mapping[str, tuple[int, float]]  # by column of vectors: their length, and what they are divided by

    @classmethod
    def learn(cls, table: FeatureTable, known: Sequence[str] | npt.NDArray[Any] | pl.Series) -> FeatureSpace:
        """Learn from the rows of known ids which tokens, bins and vectors there are."""
        rows = table.rows_of(known)
        rows = rows[rows >= 0]
        edges: dict[str, list[float]] = {}
        vectors: dict[str, tuple[int, float]] = {}
        counts: list[tuple[int, str, str]] = []
        for name, kind in table.kinds.items():
            values = table.columns[name].gather(rows)
            if kind in LEVELS:
                numbers = _numbers(values, name, table.origin, words=kind == "levels")
                present = numbers[np.isfinite(numbers)]
                shares = np.linspace(0, 1, LEVELS[kind][0] + 1)[1:-1]
                inner = np.quantile(present, shares) if len(present) else np.zeros(0)
                edges[name] = (np.unique(inner) if len(LEVELS[kind]) == 1 else inner).tolist()
            if kind == "vector":
                vectors[name] = _shape(values, name, table.origin)
            if kind in ("token", "tokens", *LEVELS):
                occurrences = _tokens(values, kind, edges.get(name, ()), name, table.origin)
                number = occurrences.unique().group_by("token").len().filter(pl.col("len") >= LEAST)
                counts += [(-count, name, token) for token, count in number.iter_rows()]
        tokens: dict[str, list[str]] = {name: [] for name in table.kinds}
        for _, name, token in sorted(counts)[:MAX_TOKENS]:
            tokens[name].append(token)
        return cls(dict(table.kinds), tokens, edges, vectors)

    @property
    def names(self) -> list[tuple[str, str]]:
        """Column and value of each feature, ``[n_features]``; text by the number of its bucket."""
        names = [(BIAS, BIAS)]
        for name, kind in self.kinds.items():
            if kind == "text":
                names += [(name, str(bucket)) for bucket in range(TEXT_BUCKETS)]
            elif kind == "vector":
                names += [(name, str(place)) for place in range(self.vectors[name][0])]
            elif kind in LEVELS:
                names += [(name, self._bin(name, token)) for token in self.tokens[name]]
            else:
                names += [(name, token) for token in self.tokens[name]]
        return names

    def _bin(self, name: str, token: str) -> str:
        if token.startswith(_WORD):
            return token.removeprefix(_WORD)
        number, _, level = token.partition(_OF)
        return self._bounds(_coarser(self.edges[name], self.kinds[name], int(level or 0)), int(number))

    @staticmethod
    def _bounds(edges: Sequence[float], number: int) -> str:
        low = f"{edges[number - 1]:g}" if number else ""
        high = f"{edges[number]:g}" if number < len(edges) else ""
        return f"{low} to {high}" if low and high else f"below {high}" if high else f"from {low}" if low else "any"

    @property
    def n_features(self) -> int:
        """Number of columns of the matrix."""
        return 1 + sum(self._width(name) for name in self.kinds)

    def _width(self, name: str) -> int:
        kind = self.kinds[name]
        return TEXT_BUCKETS if kind == "text" else self.vectors[name][0] if kind == "vector" else len(self.tokens[name])

    def matrix(self, table: FeatureTable, ids: Sequence[str] | npt.NDArray[Any] | pl.Series) -> sp.csr_matrix:
        """Return the features of ids, float32 ``[n_ids, n_features]``; zeros for ids without a row."""
        rows = table.rows_of(ids)
        has = np.flatnonzero(rows >= 0)
        parts = [sp.csr_matrix(np.ones((len(has), 1), dtype=np.float32))]
        for name, kind in self.kinds.items():
            values = table.columns[name].gather(rows[has])
            if kind == "vector":
                length, scale = self.vectors[name]
                parts.append(sp.csr_matrix(_vectors(values, length, name, table.origin) / scale, dtype=np.float32))
            elif kind == "text":
                parts.append(_text(values))
            else:
                occurrences = _tokens(values, kind, self.edges.get(name, ()), name, table.origin)
                parts.append(_indicators(occurrences, self.tokens[name], len(has)))
        own = sp.hstack(parts, format="csr", dtype=np.float32)
        lengths = np.zeros(len(rows), dtype=np.int64)
        lengths[has] = np.diff(own.indptr)
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        return sp.csr_matrix((own.data, own.indices, indptr), shape=(len(rows), self.n_features))

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` makes the same space of."""
        return {"kinds": self.kinds, "tokens": self.tokens, "edges": self.edges, "vectors": self.vectors}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FeatureSpace:
        """Return the space that :meth:`to_json` was called on."""
        vectors = {name: (int(length), float(scale)) for name, (length, scale) in content["vectors"].items()}
        return cls(content["kinds"], content["tokens"], content["edges"], vectors)


@dataclass(frozen=True)
class Features:
    """The features of the ids of a data set."""

    matrix: sp.csr_matrix  # float32 `[n_ids, n_features]`; zeros for ids without a row
    space: FeatureSpace

    @classmethod
    def from_table(cls, table: FeatureTable, ids: Sequence[str] | npt.NDArray[Any] | pl.Series) -> Features:
        """Learn the space from ids that are known, and return their features."""
        space = FeatureSpace.learn(table, ids)
        return cls(space.matrix(table, ids), space)


def _tokens(values: pl.Series, kind: str, edges: Sequence[float], name: str, origin: str) -> pl.DataFrame:
    """Return ``row`` and ``token`` of each value, or of the bin that it lies in; nothing for missing ones."""
    frame = pl.DataFrame({"row": np.arange(len(values)), "token": values}, schema={"row": pl.Int64, "token": pl.String})
    if kind == "tokens":
        frame = frame.with_columns(pl.col("token").str.split(" ")).explode("token").filter(pl.col("token") != "")
    elif kind in LEVELS:
        numbers = _numbers(values, name, origin, words=kind == "levels")
        words = pl.Series(np.isnan(numbers)) & values.is_not_null()
        levels = [frame.filter(words).with_columns((_WORD + pl.col("token")).alias("token"))]
        for level in range(len(LEVELS[kind])):
            bins = np.searchsorted(np.asarray(_coarser(edges, kind, level)), numbers, side="right")
            token = pl.Series(bins).cast(pl.String) + (f"{_OF}{level}" if level else "")
            levels.append(frame.with_columns(token.alias("token")).filter(pl.Series(np.isfinite(numbers))))
        frame = pl.concat(levels)
    return frame.drop_nulls()


def _coarser(edges: Sequence[float], kind: str, level: int) -> Sequence[float]:
    """Return the bounds of the bins of a level, 0 for the finest, from those of the finest."""
    step = LEVELS[kind][0] // LEVELS[kind][level]
    return edges[step - 1 :: step]


def _indicators(occurrences: pl.DataFrame, tokens: Sequence[str], n_rows: int) -> sp.csr_matrix:
    known = pl.DataFrame({"token": tokens}, schema={"token": pl.String}).with_row_index("place")
    pairs = occurrences.unique().join(known, on="token")
    entries = np.ones(pairs.height, dtype=np.float32), (pairs["row"].to_numpy(), pairs["place"].to_numpy())
    return sp.csr_matrix(entries, shape=(n_rows, len(tokens)))


def _numbers(values: pl.Series, name: str, origin: str, *, words: bool = False) -> npt.NDArray[np.float64]:
    """Return numbers, NaN where there is none; with ``words`` where there is something else, too."""
    numbers = values.cast(pl.Float64, strict=False)
    wrong = values.is_not_null() & ~numbers.is_finite().fill_null(False)
    if words:
        numbers = numbers.set(wrong, None)
    elif wrong.any():
        raise UsageError(
            f"{origin}: the column '{name}' holds {values.filter(wrong)[0]!r}, but a finite number was expected; read "
            f"it as '{name}:token', or correct the cell."
        )
    return numbers.fill_null(float("nan")).to_numpy()


def _shape(values: pl.Series, name: str, origin: str) -> tuple[int, float]:
    """Return the length of vectors, and the root mean square of their norms."""
    present = values.drop_nulls()
    length = len(present[0].split()) if len(present) else 0
    if length > MAX_VECTOR:
        raise UsageError(f"{origin}: the vectors of '{name}' have {length} numbers; at most {MAX_VECTOR} can be used.")
    norms = np.square(_vectors(present, length, name, origin)).sum(axis=1)
    return length, float(np.sqrt(norms.mean())) if norms.any() else 1.0


def _vectors(values: pl.Series, length: int, name: str, origin: str) -> npt.NDArray[np.float64]:
    """Return vectors ``[n, length]``; zeros where there is none."""
    vectors = np.zeros((len(values), length))
    split = pl.DataFrame({"row": np.arange(len(values)), "value": values.str.split(" ")}).drop_nulls().explode("value")
    split = split.filter(pl.col("value") != "")
    rows, counts = np.unique(split["row"].to_numpy(), return_counts=True)
    if (counts != length).any():
        wrong = int(counts[counts != length][0])
        raise UsageError(f"{origin}: a vector of '{name}' has {wrong} numbers, but others have {length}.")
    vectors[rows] = _numbers(split["value"], name, origin).reshape(len(rows), length)
    return vectors


def _text(values: pl.Series) -> sp.csr_matrix:
    """Return words and pairs of neighbouring words, hashed; rows have the length 1."""
    words = pl.DataFrame({"row": np.arange(len(values)), "gram": values.str.to_lowercase().str.extract_all(r"\w+")})
    words = words.drop_nulls().explode("gram").drop_nulls()
    after = pl.col("gram").shift(-1).over("row")
    pairs = words.with_columns((pl.col("gram") + " " + after).alias("gram")).drop_nulls()
    grams = pl.concat([words, pairs])
    distinct = grams["gram"].unique()
    buckets = [zlib.crc32(gram.encode()) % TEXT_BUCKETS for gram in distinct.to_list()]  # the same on every machine
    placed = grams.join(pl.DataFrame({"gram": distinct, "bucket": buckets}), on="gram")
    placed = placed.group_by("row", "bucket").len().sort("row", "bucket")
    entries = np.ones(placed.height, dtype=np.float32), (placed["row"].to_numpy(), placed["bucket"].to_numpy())
    matrix = sp.csr_matrix(entries, shape=(len(values), TEXT_BUCKETS))
    scale = 1 / np.sqrt(np.maximum(np.diff(matrix.indptr), 1))
    return sp.csr_matrix(sp.diags(scale.astype(np.float32)) @ matrix)
