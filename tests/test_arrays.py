"""Sets of whole numbers as sorted arrays are those of NumPy."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recbole_signed.arrays import contains, distinct, first_rows, spans

numbers = st.lists(st.integers(-(2**62), 2**62) | st.integers(0, 5))


@given(numbers, st.sampled_from([np.int64, np.int32, np.int8]))
def test_distinct_is_numpys(values: list[int], dtype: type) -> None:
    keys: Any = np.array(values, dtype=np.int64).astype(dtype)
    before = keys.copy()
    found = distinct(keys)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.unique(keys))
    np.testing.assert_array_equal(keys, before)


@given(numbers, numbers)
def test_contains_is_numpys(known: list[int], wanted: list[int]) -> None:
    keys, asked = (np.array(each, dtype=np.int64) for each in (known, wanted))
    np.testing.assert_array_equal(contains(distinct(keys), asked), np.isin(asked, keys))
    assert contains(distinct(keys), asked[None]).shape == (1, len(wanted))


@given(st.lists(st.integers(0, 6)))
def test_first_rows_are_where_codes_occur_first(values: list[int]) -> None:
    found = first_rows(np.array(values, dtype=np.int64), 7)
    assert found.tolist() == [values.index(code) if code in values else len(values) for code in range(7)]


def test_spans_are_the_ranges_one_after_the_other() -> None:
    start, length = np.array([5, 0, 7, 2]), np.array([2, 3, 0, 1])
    expected = [place for first, n in zip(start, length, strict=True) for place in range(first, first + n)]
    assert spans(start, length).tolist() == expected
    assert spans(start[:0], length[:0]).tolist() == []
