"""The source ``movietweetings`` on a file in its raw format and on the real one."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from converted import manifest_of, rows_of

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError

LINES = [
    "1::0054890::9::1381945744",
    "2::1408101::6::1382400295",
    "3::0068646::5::1381620027",
    "3::0000001::0::1381620028",
]


def test_folder_and_file(tmp_path: Path) -> None:
    latest = tmp_path / "MovieTweetings" / "latest"
    latest.mkdir(parents=True)
    (latest / "ratings.dat.xz").write_bytes(lzma.compress("\n".join(LINES).encode()))
    films = "0054890::Élan (1961)::Short|Sci-Fi\n1408101::Series (2010-)::\n0068646::Film (1972)::Film Noir\n"
    (latest / "movies.dat").write_text(films, encoding="utf-8")
    made = convert("movietweetings", latest.parent, tmp_path / "out")
    assert rows_of(made / "MovieTweetings.inter") == [
        ["3", "0068646", "5", "-1", "1381620027"],
        ["3", "0000001", "0", "-1", "1381620028"],
        ["1", "0054890", "9", "1", "1381945744"],
        ["2", "1408101", "6", "0", "1382400295"],
    ]
    assert rows_of(made / "MovieTweetings.item") == [
        ["0054890", "Élan", "1961", "Short Sci-Fi"],
        ["1408101", "Series", "2010", "unknown"],
        ["0068646", "Film", "1972", "Film-Noir"],
    ]
    made = convert("movietweetings", latest / "ratings.dat.xz", tmp_path / "else", dislike="else")
    assert [row[3] for row in rows_of(made / "movietweetings.inter")] == ["-1", "-1", "1", "-1"]


@pytest.mark.parametrize(("dislike", "counts"), [("else", (39_295, 0)), (None, None)])
def test_the_real_file(
    tmp_path: Path, shared_data: Callable[[str], Path], dislike: str | None, counts: tuple[int, int] | None
) -> None:
    made = convert("movietweetings", shared_data("movietweetings"), tmp_path, dislike=dislike)
    rows = manifest_of(made)["rows"]
    assert (rows["total"], rows["like"]) == (141_695, 102_400)
    assert rows["dislike"] + rows["neutral"] == 39_295
    if counts is not None:
        assert (rows["dislike"], rows["neutral"]) == counts


@pytest.mark.parametrize(
    ("row", "message"),
    [("1::2::11::1381945744", "rating 11, ratings here go from 0 to 10"), ("1::2::3", "3 columns where 4")],
)
def test_bad_rows(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "ratings.dat").write_text("\n".join([*LINES, row]))
    with pytest.raises(UsageError, match=f"ratings.dat, line 5: {message}"):
        convert("movietweetings", tmp_path, tmp_path / "out")
    (tmp_path / "ratings.dat").rename(tmp_path / "rating.dat")
    with pytest.raises(UsageError, match=r"holds no ratings of MovieTweetings.*did you mean 'rating.dat'"):
        convert("movietweetings", tmp_path, tmp_path / "out")
