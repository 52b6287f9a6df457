"""Values per user as parquet files beside a table's rows: a column ``user``, and one for each test metric."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recbole_signed.files import replacing, sha256
from recbole_signed.plugin.assignments import draws
from recbole_signed.runs.metric_columns import smaller_is_better
from recbole_signed.runs.rows import NO_VALUES, RunRow

if TYPE_CHECKING:
    from recbole_signed.runs.spec import RunSpec

FloatArray = npt.NDArray[np.float64]
USER = "user"


def users_folder(rows_file: Path) -> Path:
    """Return the folder of the values per user of the runs in a rows' file."""
    return rows_file.with_suffix(".users")


def file_name(request: RunSpec) -> str:
    """Return the name of the file of a run: it changes with everything that changes the run."""
    return f"{request.model}-{request.dataset}-{request.seed}-{request.id}.parquet".replace(os.sep, "_")


def write(path: Path, users: Sequence[str], values: Mapping[str, FloatArray]) -> str:
    """Write the tokens of users and ``[n_users]`` values by metric as a whole, and return the sha256 of the file."""
    import polars as pl

    columns = {USER: pl.Series(list(map(str, users)), dtype=pl.String)}
    columns |= {name: pl.Series(array.astype(np.float32)).fill_nan(None) for name, array in values.items()}
    with replacing(path) as temporary:
        pl.DataFrame(columns).write_parquet(temporary, compression="zstd", compression_level=9)
        return sha256(temporary)


def is_there(row: RunRow, rows_file: Path) -> bool:
    """Whether the values per user of a finished run lie where its row says, with the checksum that it says."""
    if not row.ok or not row.per_user or row.per_user_sha256 is None:
        return False
    path = rows_file.parent / row.per_user
    if path.parent.parent != rows_file.parent or ".." in path.parts[-2:]:
        return False  # a row that somebody made names a file of another folder
    return path.is_file() and sha256(path) == row.per_user_sha256


def has_none(row: RunRow) -> bool:
    """Whether a finished run was asked for its values per user and has none, so that another one has none either."""
    return row.ok and row.per_user == NO_VALUES


def kept_metrics(rows: Iterable[RunRow], rows_file: Path) -> list[str]:
    """Return the metrics that any of the rows' files has."""
    import polars as pl

    names: dict[str, None] = {}
    for row in rows:
        assert row.per_user is not None
        names |= dict.fromkeys(pl.read_parquet_schema(rows_file.parent / row.per_user))
    return [name for name in names if name != USER]


def comparable_seeds(mine: Iterable[int], theirs: Iterable[int], drawn_by_seed: bool) -> tuple[list[int], list[int]]:
    """Return the seeds by which two models can be compared: all of each, or those in common of a random split."""
    mine, theirs = sorted(mine), sorted(theirs)
    if not drawn_by_seed:
        return mine, theirs
    common = [seed for seed in mine if seed in set(theirs)]
    return common, common


def drawn_by_seed(rows: Iterable[RunRow]) -> bool:
    """Whether the split of the rows is random: then runs with different seeds have different test items."""
    return any(isinstance(row.split, dict) and draws(row.split) for row in rows)


def grounds_of(rows: Mapping[str, Iterable[RunRow]]) -> dict[str, frozenset[str]]:
    """Return what the figures of each label rest on."""
    return {label: frozenset(row.ground for row in of_label) for label, of_label in rows.items()}


@dataclass(frozen=True)
class SectionValues:
    """The values per user of all models on one data set of a table."""

    section: str
    n_users: int  # how many users any run has ranked
    metrics: tuple[str, ...]
    runs: dict[str, dict[int, FloatArray]]  # label -> seed -> `[n_users, n_metrics]`, nan where one is missing
    drawn_by_seed: bool  # whether the split is random: then equal users of different seeds have different test items
    pooled: bool = False  # whether the keys of `runs` are numbers of splits, see `pooled_sections`, and not seeds
    users: tuple[str, ...] = ()  # their tokens, in the order of the rows
    grounds: Mapping[str, frozenset[str]] = field(default_factory=dict)  # label -> what its figures rest on

    def means(self, number: int) -> dict[str, float]:
        """Return each model's value of a metric as its table has it; without those of which a run has none."""
        columns = {label: [values[:, number] for values in runs.values()] for label, runs in self.runs.items()}
        return {
            label: float(np.mean([np.nanmean(column) for column in of_label]))
            for label, of_label in columns.items()
            if not any(np.isnan(column).all() for column in of_label)
        }

    def seeds_of(self, label: str, other: str) -> tuple[list[int], list[int]]:
        """Return the seeds by which two models can be compared: none if their figures rest on different things."""
        if self.grounds.get(label) != self.grounds.get(other):
            return [], []
        return comparable_seeds(self.runs[label], self.runs[other], self.drawn_by_seed)

    def pair(self, label: str, other: str) -> tuple[FloatArray, FloatArray]:
        """Return two models' values, ``[n_users, n_metrics]``, means over common seeds; nan where either has none."""
        from recbole_signed.evaluation.significance import mean_over_seeds

        seeds = self.seeds_of(label, other)
        if not all(seeds):
            nothing = np.full((self.n_users, len(self.metrics)), np.nan)
            return nothing, nothing.copy()
        mine, theirs = (
            np.stack([self.runs[name][seed] for seed in chosen])
            for name, chosen in zip((label, other), seeds, strict=True)
        )
        if self.drawn_by_seed:
            _leave_out_unpaired(mine, theirs)
        mine, theirs = mean_over_seeds(mine), mean_over_seeds(theirs)
        _leave_out_unpaired(mine, theirs)
        return mine, theirs


def _leave_out_unpaired(mine: FloatArray, theirs: FloatArray) -> None:
    """Make nan in both arrays, of one shape, what is nan in either."""
    missing = np.isnan(mine) | np.isnan(theirs)
    mine[missing] = theirs[missing] = np.nan


def read_section(
    section: str, rows: Mapping[str, Sequence[RunRow]], rows_file: Path, metrics: Sequence[str]
) -> SectionValues:
    """Read the files of a section's runs, which must all be there; a metric that a file does not have is nan."""
    import polars as pl

    frames: dict[tuple[str, int], Any] = {}
    for label, of_label in rows.items():
        for row in of_label:
            assert row.per_user is not None
            path = rows_file.parent / row.per_user
            known = set(pl.read_parquet_schema(path))
            frames[label, row.seed] = pl.read_parquet(path, columns=[USER, *(m for m in metrics if m in known)])
    users = pl.concat([frame.select(USER) for frame in frames.values()]).unique(maintain_order=True)
    runs: dict[str, dict[int, FloatArray]] = {label: {} for label in rows}
    for (label, seed), frame in frames.items():
        aligned = users.join(frame, on=USER, how="left", maintain_order="left")
        missing = [pl.lit(None, dtype=pl.Float64).alias(name) for name in metrics if name not in aligned.columns]
        table = aligned.with_columns(missing).select(pl.col(list(metrics)).cast(pl.Float64).fill_null(np.nan))
        runs[label][seed] = np.ascontiguousarray(table.to_numpy(), dtype=np.float64)
    drawn = drawn_by_seed(row for of_label in rows.values() for row in of_label)
    tokens = tuple(users[USER].to_list())
    return SectionValues(section, users.height, tuple(metrics), runs, drawn, False, tokens, grounds_of(rows))


def pooled_sections(name: str, sections: Sequence[SectionValues]) -> SectionValues:
    """Join several splits of one data set: each user's value on a split, the mean over seeds, stands for a seed."""
    from recbole_signed.evaluation.significance import mean_over_seeds

    users = list(dict.fromkeys(user for section in sections for user in section.users))
    place = {user: number for number, user in enumerate(users)}
    numbers: dict[tuple[int, int | None], int] = {}
    runs: dict[str, dict[int, FloatArray]] = {}
    for position, section in enumerate(sections):
        rows = np.array([place[user] for user in section.users], dtype=np.int64)
        for label, of_seed in section.runs.items():
            splits: list[tuple[int | None, FloatArray]] = [(seed, of_seed[seed]) for seed in of_seed]
            if not section.drawn_by_seed:
                splits = [(None, mean_over_seeds(np.stack(list(of_seed.values()))))]
            for seed, array in splits:
                values = np.full((len(users), len(section.metrics)), np.nan)
                values[rows] = array
                runs.setdefault(label, {})[numbers.setdefault((position, seed), len(numbers) + 1)] = values
    grounds = {label: frozenset().union(*(part.grounds.get(label, ()) for part in sections)) for label in runs}
    return SectionValues(name, len(users), sections[0].metrics, runs, True, True, tuple(users), grounds)


def best_of(means: Mapping[str, float], metric: str) -> str | None:
    """Return the label with the best mean of a metric, the first of equal ones; None for no labels."""
    toward = -1.0 if smaller_is_better(metric) else 1.0
    return max(means, key=lambda label: toward * means[label], default=None)
