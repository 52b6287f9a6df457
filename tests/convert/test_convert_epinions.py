"""The sources ``epinions`` and ``ciao`` on files in their raw format."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from converted import manifest_of, rows_of

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError

# user, product, category, rating, helpfulness, time
EPINIONS = np.array([[1, 10, 8, 4, 5, 11], [2, 11, 8, 3, 5, 1], [2, 12, 8, 1, 4, 10]], dtype=np.int32)
CIAO = np.array([[1, 10, 8, 5, 5, 975542400], [7, 11, 8, 0, 5, 975542400], [2, 12, 8, 2, 4, 959644800]], dtype=np.int32)


@pytest.mark.parametrize("key", ["rating", "rating_with_timestamp"])
@pytest.mark.parametrize("compressed", [False, True])
def test_epinions(tmp_path: Path, key: str, compressed: bool) -> None:
    scipy.io.savemat(tmp_path / "rating_with_timestamp.mat", {key: EPINIONS}, do_compression=compressed)
    made = convert("epinions", tmp_path, tmp_path / "out")
    assert rows_of(made / "epinions.inter") == [
        ["2", "11", "3", "0", "1"],
        ["2", "12", "1", "-1", "10"],
        ["1", "10", "4", "1", "11"],
    ]
    record = manifest_of(made)
    assert record["time"] == {"first_raw": 1, "last_raw": 11}
    assert record["warnings"] == []


def test_ciao(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "rating.mat", {"rating": CIAO.astype(float)})
    (tmp_path / "rating.mat.gz").write_bytes(gzip.compress((tmp_path / "rating.mat").read_bytes()))
    made = convert("ciao", tmp_path / "rating.mat.gz", tmp_path / "out")
    assert rows_of(made / "ciao.inter") == [["2", "12", "2", "-1", "959644800"], ["1", "10", "5", "1", "975542400"]]
    assert manifest_of(made)["time"]["first"] == "2000-05-30T00:00:00Z"


def test_without_time(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "rating.mat", {"rating": EPINIONS[:, :5]})
    made = convert("epinions", tmp_path, tmp_path / "out", dislike="else")
    assert rows_of(made / "epinions.inter") == [["1", "10", "4", "1"], ["2", "11", "3", "-1"], ["2", "12", "1", "-1"]]


def changed(row: int, column: int, value: float) -> np.ndarray:
    matrix = EPINIONS.astype(float)
    matrix[row, column] = value
    return matrix


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"trust": EPINIONS}, "has the variables trust; rating or rating_with_timestamp was expected"),
        ({"rating": EPINIONS[:, :3]}, r"holds int32 of shape \[3, 3\]; numbers in 5 or 6 columns"),
        ({"rating": "text"}, "holds <U4 of shape"),
        ({"rating": changed(0, 3, 0)}, "row 1: rating 0, ratings here go from 1 to 5"),
        ({"rating": changed(1, 3, 6)}, "row 2: rating 6, ratings here go from 1 to 5"),
        ({"rating": changed(2, 3, np.nan)}, "row 3: no value in column 'rating'"),
        ({"rating": changed(1, 0, 1.5)}, "row 2: the id 1.5 in column 'user_id' is not a whole number"),
        ({"rating": changed(0, 5, np.nan)}, "row 1: no time in column 'timestamp'"),
    ],
)
def test_bad_matrices(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    scipy.io.savemat(tmp_path / "rating.mat", content)
    with pytest.raises(UsageError, match=f"rating.mat,? {message}"):
        convert("epinions", tmp_path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_broken_files(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "rating.mat", {"rating": EPINIONS}, do_compression=True)
    whole = (tmp_path / "rating.mat").read_bytes()
    for data in (b"not a matrix at all, " * 20, whole[:150], whole[: len(whole) - 9], whole[:60]):
        (tmp_path / "rating.mat").write_bytes(data)
        with pytest.raises(UsageError, match=r"rating.mat (is not a MATLAB file that can be read|has the variables)"):
            convert("ciao", tmp_path, tmp_path / "out")
    (tmp_path / "rating.mat").write_bytes(b"")
    with pytest.raises(UsageError, match=r"rating.mat is empty"):
        convert("ciao", tmp_path, tmp_path / "out")
