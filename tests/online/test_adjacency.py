"""Rows that grow in place: what they hold, what they take in memory, and copies made while they change."""

import numpy as np

from recbole_signed.live.store.adjacency import KEY, Adjacency

Rows = list[dict[int, int]]


def loaded(n_rows: int, degree: int) -> tuple[Adjacency, Rows]:
    """Return rows of even keys, each with its double as its value."""
    rows, keys = Adjacency({"value": np.int64}), np.tile(2 * np.arange(degree), n_rows)
    rows.load(np.arange(n_rows + 1) * degree, {KEY: keys.astype(np.int32), "value": 2 * keys})
    return rows, [dict(zip(keys[:degree].tolist(), (2 * keys[:degree]).tolist(), strict=True)) for _ in range(n_rows)]


def insert(rows: Adjacency, wanted: Rows, row: int, keys: list[int]) -> None:
    """Add new keys to a row of both."""
    new = np.array(sorted(set(keys) - set(wanted[row])), dtype=np.int32)
    rows.keep(np.array([row]))
    rows.insert(np.full(len(new), row), new, {"value": new.astype(np.int64) * 2})
    wanted[row].update((key, 2 * key) for key in new.tolist())


def check(found: tuple[np.ndarray, list[np.ndarray]], wanted: Rows) -> None:
    indptr, (keys, values) = found
    np.testing.assert_array_equal(np.diff(indptr), [len(row) for row in wanted])
    np.testing.assert_array_equal(keys, [key for row in wanted for key in sorted(row)])
    np.testing.assert_array_equal(values, [row[key] for row in wanted for key in sorted(row)])


def test_memory_and_places_of_rows() -> None:
    rows, wanted = loaded(500, 50)
    before = rows._end
    assert before < 1.3 * rows.n_entries
    for row in range(500):
        insert(rows, wanted, row, [1, 3, 5])
    assert rows._end == before
    check(rows.gather([KEY, "value"]), wanted)
    rows, wanted = loaded(40, 30)
    for row in range(40):
        for key in range(1, 801, 2):
            insert(rows, wanted, row, [key])
    # the first row to grow leaves places of all sizes; the others go through them
    assert rows._end < 1.6 * rows.n_entries
    check(rows.gather([KEY, "value"]), wanted)
