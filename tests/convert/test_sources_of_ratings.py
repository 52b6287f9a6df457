"""The sources of ratings on small files in the layout of their authors, and on real ones."""

import io
import json
import multiprocessing
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.io
from converted import Raw, manifest_of, rows_of, table_of, tuples_of
from refusals import check_refused

from recbole_signed.convert import convert
from recbole_signed.convert.sources import movielens
from recbole_signed.errors import UsageError


def csv(*rows: str, end: str = "\n") -> str:
    return "".join(f"{row}{end}" for row in rows)


def review(user: str, business: str, stars: Any, date: str) -> str:
    rest = {"review_id": "KU_O5udG6zpxOg-VcAEodg", "useful": 0, "text": 'Not "good",\n\tnot bad.'}
    return json.dumps({**rest, "user_id": user, "business_id": business, "stars": stars, "date": date}) + "\n"


YELP = "yelp_academic_dataset_review.json"
REVIEWS = (
    review("mh_-eMZ6K5RLWhZyISBhwA", "XQfwVwDr-v0ZS3_CbbE5Xw", 3.0, "2018-07-07 22:09:11")
    + review("OyoGAe7OKpv6SyGZT5g77Q", "7ATYjTIgM3jUlt4UM3IypQ", 5.0, "2012-01-03 15:28:18")
    + review("OyoGAe7OKpv6SyGZT5g77Q", "XQfwVwDr-v0ZS3_CbbE5Xw", 2.0, "1970-01-02 00:00:00")
)


@pytest.mark.parametrize("name", [YELP, f"{YELP}.gz"])
def test_yelp(tmp_path: Path, name: str) -> None:
    raw = Raw(tmp_path / "raw", "yelp", {name: REVIEWS})
    assert raw.rows() == [
        "OyoGAe7OKpv6SyGZT5g77Q|XQfwVwDr-v0ZS3_CbbE5Xw|2|-1|86400",
        "OyoGAe7OKpv6SyGZT5g77Q|7ATYjTIgM3jUlt4UM3IypQ|5|1|1325604498",
        "mh_-eMZ6K5RLWhZyISBhwA|XQfwVwDr-v0ZS3_CbbE5Xw|3|0|1531001351",
    ]
    assert raw.made(name).name == "yelp"
    raw.write({name: REVIEWS + "{broken\n"})
    raw.refuses(f"{name}, line 4: not a JSON object")
    raw.write({name: '{"user_id": "u", "stars": 5, "date": "2018-07-07"}\n'})
    raw.refuses("has no column 'business_id'")


# user, item, rating, unix seconds
AMAZON = [
    ("A39HTATAQ9V7YF", "0205616461", 5.0, 1369699200),
    ("A3JM6GV9MNOF9X", "B00005N7NQ", 3.0, 1369699201),
    ("A1Z513UWSAAO0F", "B00005N7NQ", 1.0, 1369699202),
]
TEXT = {"helpful": [0, 1], "reviewText": 'a "b",\tc', "images": [], "title": "x"}
HEADER = "user_id,parent_asin,rating,timestamp"


@pytest.mark.parametrize(
    ("name", "header", "line"),
    [
        ("ratings_Beauty.csv", "", lambda u, i, r, t: f"{u},{i},{r},{t}"),  # 2014
        ("ratings_Beauty.csv.gz", "", lambda u, i, r, t: f"{i},{u},{r},{t}"),  # 2018
        ("ratings_Beauty.csv.gz", HEADER, lambda u, i, r, t: f"{u},{i},{r},{t}000"),  # 2023
        ("ratings_Beauty.csv", f"{HEADER},history", lambda u, i, r, t: f"{u},{i},{r},{t}000,B1 B2"),  # 2023, 5-core
        (
            "ratings_Beauty.json.gz",
            "",
            lambda u, i, r, t: json.dumps({"reviewerID": u, "asin": i, **TEXT, "overall": r, "unixReviewTime": t}),
        ),
        (
            "ratings_Beauty.jsonl",
            "",
            lambda u, i, r, t: json.dumps(
                {"rating": r, **TEXT, "asin": "B1", "parent_asin": i, "user_id": u, "timestamp": t * 1000}
            ),
        ),
    ],
)
def test_editions_of_amazon(tmp_path: Path, name: str, header: str, line: Callable[..., str]) -> None:
    raw = Raw(tmp_path / "raw", "amazon", {name: csv(*([header] * bool(header)), *(line(*row) for row in AMAZON))})
    wanted = [f"{user}|{item}|{r:g}|{sign}|{t}" for (user, item, r, t), sign in zip(AMAZON, (1, 0, -1), strict=True)]
    assert raw.rows(name) == wanted
    assert raw.made(name).name == "ratings_Beauty"


def test_the_edition_of_amazon_can_be_given(tmp_path: Path) -> None:
    raw = Raw(tmp_path / "raw", "amazon", {"x.csv": "u1,i1,5.0,1369699200\nu1,i2,1.0,1369699200\n"})
    raw.refuses(r"x.csv, line 1: u1,i1,5.0,1369699200 is neither a header .* give edition=", "x.csv")
    assert raw.rows("x.csv", edition="2014")[0].startswith("u1|i1|")
    assert raw.rows("x.csv", edition="2018")[0].startswith("i1|u1|")
    raw.refuses("has no header user_id,parent_asin", "x.csv", edition="2023")
    raw.refuses("is a folder; give the file of one category")
    raw.write({"x.jsonl": '{"user": 1, "stars": 5}\n', "x.csv": "\n"})
    raw.refuses(r"x.jsonl has the columns user, stars; reviewerID, asin", "x.jsonl")
    raw.refuses(r"x.csv is empty", "x.csv")


# user, product, category, rating, helpfulness, time
EPINIONS = np.array([[1, 10, 8, 4, 5, 11], [2, 11, 8, 3, 5, 1], [2, 12, 8, 1, 4, 10]], dtype=np.int32)
CIAO = np.array([[1, 10, 8, 5, 5, 975542400], [7, 11, 8, 0, 5, 975542400], [2, 12, 8, 2, 4, 959644800]], dtype=float)


def packed(**variables: Any) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=True)
    return file.getvalue()


@pytest.mark.parametrize("key", ["rating", "rating_with_timestamp"])
def test_epinions(tmp_path: Path, key: str) -> None:
    raw = Raw(tmp_path / "raw", "epinions", {})
    for content in ({key: EPINIONS}, packed(**{key: EPINIONS})):
        raw.write({"rating_with_timestamp.mat": content})
        assert raw.rows() == ["2|11|3|0|1", "2|12|1|-1|10", "1|10|4|1|11"]
    record = manifest_of(raw.made())
    assert (record["name"], record["time"], record["warnings"]) == ("epinions", {"first_raw": 1, "last_raw": 11}, [])
    raw.write({"rating.mat": {key: EPINIONS[:, :5]}})
    assert raw.rows("rating.mat", dislike="else") == ["1|10|4|1", "2|11|3|-1", "2|12|1|-1"]


def test_ciao(tmp_path: Path) -> None:
    raw = Raw(tmp_path / "raw", "ciao", {"rating.mat.gz": packed(rating=CIAO)})
    assert raw.rows("rating.mat.gz") == ["2|12|2|-1|959644800", "1|10|5|1|975542400"]
    assert manifest_of(raw.made())["time"]["first"] == "2000-05-30T00:00:00Z"
    (raw.folder / "rating.mat.gz").unlink()
    whole = packed(rating=EPINIONS)
    for data in (b"not a matrix at all, " * 20, whole[:150], whole[: len(whole) - 9], whole[:60]):
        raw.write({"rating.mat": data})
        raw.refuses(r"rating.mat (is not a MATLAB file that can be read|has the variables)")
    raw.write({"rating.mat": b""})
    raw.refuses(r"rating.mat is empty")


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
    Raw(tmp_path / "raw", "epinions", {"rating.mat": content}).refuses(f"rating.mat,? {message}")


RATINGS = ["1::1193::5::978300760", "1::661::3::978302109", "6040::1193::1::978300760"]
MADE = ["1|1193|5|1|978300760", "6040|1193|1|-1|978300760", "1|661|3|0|978302109"]
MOVIES = csv("1193::Misérables, Les (1995)::Drama|Musical", "661::Don't \"Look\" Now::Children's", "7::Old (2001)::X")
ML_1M = {
    "ratings.dat": csv(*RATINGS, end="\r\n"),
    "movies.dat": MOVIES.encode("latin-1"),
    "users.dat": "1::F::1::10::48067\n6040::M::25::6::11106\n5::M::25::6::\n",
}


@pytest.fixture
def ml_1m(tmp_path: Path) -> Raw:
    return Raw(tmp_path / "ml-1m", "movielens", ML_1M)


def test_movielens_1m(ml_1m: Raw) -> None:
    made = ml_1m.made()
    assert made.name == "ml-1m"
    assert ml_1m.rows() == MADE
    assert table_of(made / "ml-1m.item") == [
        ["item_id:token", "movie_title:token_seq", "release_year:token", "genre:token_seq"],
        ["1193", "Misérables, Les", "1995", "Drama Musical"],
        ["661", '"Don\'t ""Look"" Now"', "unknown", "Children's"],
    ]
    assert table_of(made / "ml-1m.user") == [
        ["user_id:token", "gender:token", "age:token", "occupation:token", "zip_code:token"],
        ["1", "F", "1", "10", "48067"],
        ["6040", "M", "25", "6", "11106"],
    ]
    assert set(manifest_of(made)["inputs"]) == {"ratings.dat", "movies.dat", "users.dat"}
    ml_1m.write({"ratings.dat.xz": ML_1M["ratings.dat"]})
    alone = ml_1m.made("ratings.dat.xz")
    assert (alone / "ml-1m.inter").read_bytes() == (made / "ml-1m.inter").read_bytes()
    assert not (alone / "ml-1m.item").exists()


def test_movielens_10m_is_utf8(tmp_path: Path) -> None:
    ratings = "1::122::5::838985046\n1::185::2.5::838983525\n2::122::0.5::838983392\n"
    movies = "122::Boomerang (1992)::Comedy|Romance\n185::Élan (1995)::Action\n"
    files = {"ratings.dat": ratings, "movies.dat": movies, "tags.dat": "15::4973::excellent!::1215184630\n"}
    raw = Raw(tmp_path / "ml-10M100K", "movielens", files)
    assert raw.rows() == ["2|122|0.5|-1|838983392", "1|185|2.5|0|838983525", "1|122|5|1|838985046"]
    assert raw.rows(suffix="item") == ["122|Boomerang|1992|Comedy Romance", "185|Élan|1995|Action"]


HALVES = ["1,0,0.5,978300760", "1,1,2,978300761", "2,0,2.5,978300770", "2,1,3.5,978300771", "3,0,4,978300780"]


@pytest.mark.parametrize("folder", ["ml-20m", "ml-25m", "ml-32m", "ml-latest-small"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_movielens_of_half_stars(tmp_path: Path, folder: str, suffix: str) -> None:
    text = csv("userId,movieId,rating,timestamp", *HALVES, "3,1,4.5,978300781")
    movies = csv(
        "movieId,title,genres", '0,"""Great"" Film, The (Le, La) (2004)",Sci-Fi|IMAX', "1,Élan,(no genres listed)"
    )
    files = {f"ratings{suffix}": pl.read_csv(text.encode()) if suffix == ".parquet" else text, "movies.csv": movies}
    beside = {"tags.csv": "userId,movieId,tag,timestamp\n1,29,dark,1\n", "links.csv": "movieId,imdbId\n29,0112682\n"}
    raw = Raw(tmp_path / folder, "movielens", files | beside)
    made = raw.made()
    assert made.name == folder
    assert ["|".join(row) for row in rows_of(made / f"{folder}.inter")] == [
        *("1|0|0.5|-1|978300760", "1|1|2|-1|978300761", "2|0|2.5|0|978300770"),
        *("2|1|3.5|0|978300771", "3|0|4|1|978300780", "3|1|4.5|1|978300781"),
    ]
    assert table_of(made / f"{folder}.item") == [
        ["item_id:token", "movie_title:token_seq", "release_year:token", "genre:token_seq"],
        ["0", '"""Great"" Film, The (Le, La)"', "2004", "Sci-Fi IMAX"],
        ["1", "Élan", "unknown", "unknown"],
    ]
    assert raw.signs(dislike="rating <= 2.5") == "-1 -1 -1 0 1 1"
    assert raw.signs(dislike="none") == "0 0 0 0 1 1"


def test_movielens_latest_small(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    made = convert("movielens", shared_data("ml-latest-small"), tmp_path, dislike="else")
    assert made.name == "ml-latest-small"
    record = manifest_of(made)
    assert record["rows"] == {"total": 100_836, "like": 48_580, "dislike": 52_256, "neutral": 0}
    assert (record["users"], record["items"]) == (610, 9_724)


def test_bad_folders_of_movielens(tmp_path: Path, ml_1m: Raw) -> None:
    Raw(tmp_path / "empty", "movielens", {}).refuses("holds no ratings of MovieLens, ratings.dat or ratings.csv")
    Raw(tmp_path / "ml-100k", "movielens", {"u.data": "1\t2\t3\t4\n"}).refuses("which is the source 'movielens-100k'")
    ml_1m.write({"ratings.csv": "userId,movieId,stars,timestamp\n1,2,3,4\n"})
    ml_1m.refuses(r"ratings.csv and ratings.dat; give the file that you want to use")
    ml_1m.refuses(r"ratings.csv has no column 'rating'", "ratings.csv")
    (ml_1m.folder / "ratings.csv").unlink()
    ml_1m.write({"ratings.dat.xz": "1::2::5::978300760\n"})
    ml_1m.refuses(r"holds ratings.dat and ratings.dat.xz; keep one of them")
    (ml_1m.folder / "ratings.dat.xz").unlink()
    ml_1m.write({"movies.dat": "1193::A::B::C\n"})
    ml_1m.refuses(r"movies.dat, line 1: 4 columns where 3 were expected")


TWEETS = csv(
    "1::0054890::9::1381945744", "2::1408101::6::1382400295", "3::0068646::5::1381620027", "3::01::0::1381620028"
)


def test_movietweetings(tmp_path: Path) -> None:
    films = "0054890::Élan (1961)::Short|Sci-Fi\n1408101::Series (2010-)::\n0068646::Film (1972)::Film Noir\n"
    files = {"latest/ratings.dat.xz": TWEETS, "latest/movies.dat": films, "latest/users.dat": "1::999\n"}
    raw = Raw(tmp_path / "MovieTweetings", "movietweetings", files)
    made = ["3|0068646|5|-1|1381620027", "3|01|0|-1|1381620028", "1|0054890|9|1|1381945744", "2|1408101|6|0|1382400295"]
    assert raw.rows() == made
    films = ["0054890|Élan|1961|Short Sci-Fi", "1408101|Series|2010|unknown", "0068646|Film|1972|Film-Noir"]
    assert raw.rows(suffix="item") == films
    assert raw.signs("latest/ratings.dat.xz", dislike="else") == "-1 -1 1 -1"
    assert raw.made("latest/ratings.dat.xz").name == "movietweetings"
    Raw(tmp_path / "b", raw.source, {"rating.dat": TWEETS}).refuses("no ratings of .*did you mean 'rating.dat'")


@pytest.mark.parametrize(("dislike", "neutral"), [("else", 0), (None, None)])
def test_the_real_movietweetings(
    tmp_path: Path, shared_data: Callable[[str], Path], dislike: str | None, neutral: int | None
) -> None:
    rows = manifest_of(convert("movietweetings", shared_data("movietweetings"), tmp_path, dislike=dislike))["rows"]
    assert (rows["total"], rows["like"], rows["dislike"] + rows["neutral"]) == (141_695, 102_400, 39_295)
    assert neutral is None or rows["neutral"] == neutral


def film(number: int, title: str, *genres: str, rest: str = "01-Jan-1995||http://us.imdb.com/M/title-exact") -> str:
    return "|".join([str(number), title, rest, *("1" if genre in genres else "0" for genre in movielens._GENRES)])


U_DATA = "196\t242\t3\t881250949\n186\t302\t4\t881250948\n22\t377\t1\t878887116\n"
ML_100K = {
    "u.data": U_DATA,
    "u.user": "22|25|M|writer|40206\n186|39|F|executive|00000\n196|49|M|writer|55105\n9|1|M|x|1\n",
    "u.item": csv(
        film(242, "Kolya (1996)", "Comedy"),
        film(302, "Misérables, Les (1995)", "Drama", "Musical"),
        film(377, "Heavyweights", "Children's", "Comedy"),
        film(267, "unknown", "unknown", rest="||"),
    ).encode("latin-1"),
}


def test_movielens_100k_as_grouplens_packs_it(tmp_path: Path) -> None:
    raw = Raw(tmp_path / "ml-100k", "movielens-100k", ML_100K)
    wanted = ["22|377|1|-1|878887116", "186|302|4|1|881250948", "196|242|3|0|881250949"]
    made = raw.made()
    assert made.name == "ml-100k-signed"
    assert raw.rows() == wanted
    # the columns are those of the files in RecBole's wheel
    assert table_of(made / "ml-100k-signed.user") == [
        ["user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token"],
        ["22", "25", "M", "writer", "40206"],
        ["186", "39", "F", "executive", "00000"],
        ["196", "49", "M", "writer", "55105"],
    ]
    assert table_of(made / "ml-100k-signed.item") == [
        ["item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"],
        ["242", "Kolya", "1996", "Comedy"],
        ["302", "Misérables, Les", "1995", "Drama Musical"],
        ["377", "Heavyweights", "unknown", "Children's Comedy"],
    ]
    assert set(manifest_of(made)["inputs"]) == {"u.data", "u.user", "u.item"}
    assert raw.signs("u.data", like="rating >= 3", dislike="else", name="three") == "-1 1 1"
    assert raw.signs(dislike="none") == "0 1 0"
    raw.write({"u.item": film(242, "Kolya (1996)").replace("|0|", "|2|", 1)})
    raw.refuses(r"u.item, line 1: genre unknown is '2', 0 or 1 was expected")
    (raw.folder / "u.data").unlink()
    raw.refuses(r"holds neither ml-100k.inter nor u.data")
    alone = Raw(tmp_path / "alone", "movielens-100k", {"u.data.gz": U_DATA, "u.user.gz": ML_100K["u.user"]})
    assert sorted(path.name for path in alone.made().glob("*.[ui]*")) == ["ml-100k-signed.inter", "ml-100k-signed.user"]
    (alone.folder / "u.user.gz").unlink()
    assert not (alone.made() / "ml-100k-signed.user").exists()


def test_movielens_100k_with_a_header_that_was_not_made_by_recbole(tmp_path: Path) -> None:
    inter = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t5\t3\n1\t3\t1\t4\n"
    files = {"ml-100k.inter": inter, "ml-100k.item": "item_id\ttitle\n2\tHeat\n3\tKolya\n"}
    raw = Raw(tmp_path / "ml-100k", "movielens-100k", files)
    assert table_of(raw.made() / "ml-100k-signed.item")[0] == ["item_id:token", "title:token"]
    raw.write({"ml-100k.item": b"item_id:token\ttitle:token\n2\tAm\xe9lie\n"})
    raw.refuses(r"ml-100k.item, line 2: byte 0xe9 is not utf-8")


def test_movielens_100k_from_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = convert("movielens-100k", None, tmp_path)
    assert made.name == "ml-100k-signed"
    record = manifest_of(made)
    assert record["rows"] == {"total": 100_000, "like": 55_375, "dislike": 17_480, "neutral": 27_145}
    assert (record["users"], record["items"]) == (943, 1_682)
    assert record["time"]["first"] == "1997-09-20T03:05:10Z"
    assert set(record["inputs"]) == {"ml-100k.inter", "ml-100k.user", "ml-100k.item"}
    header = "user_id:token\titem_id:token\trating:float\tsign:float\ttimestamp:float"
    assert (made / "ml-100k-signed.inter").read_text().startswith(f"{header}\n")
    rows = tuples_of(made / "ml-100k-signed.inter")
    assert rows == sorted(rows, key=lambda row: int(row[4]))
    spec = find_spec("recbole")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    example = Path(spec.submodule_search_locations[0]) / "dataset_example" / "ml-100k"
    raw = tuples_of(example / "ml-100k.inter")
    assert [(row[0], row[1], row[2], row[4]) for row in rows] == sorted(raw, key=lambda row: int(row[3]))
    for kind in ("user", "item"):
        # RecBole 1.2.0 has them with the ends of lines of another system
        assert (made / f"ml-100k-signed.{kind}").read_text() == (example / f"ml-100k.{kind}").read_text()
    found = {genre for row in rows_of(made / "ml-100k-signed.item") for genre in row[3].split()}
    assert found == set(movielens._GENRES)
    monkeypatch.setattr(movielens, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"RecBole's example data .* was not found; install recbole"):
        convert("movielens-100k", None, tmp_path / "out")


def _ensure(output: str) -> str:
    return str(movielens.ensure_ml100k(output))


def test_ml100k_is_made_once_by_many_processes(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        folders = pool.map(_ensure, [str(tmp_path)] * 2, chunksize=1)
    assert set(folders) == {str(tmp_path / "ml-100k-signed")}
    assert [path.name for path in tmp_path.iterdir()] == ["ml-100k-signed"]
    before = (tmp_path / "ml-100k-signed" / "dataset.json").stat().st_mtime_ns
    _ensure(str(tmp_path))
    assert (tmp_path / "ml-100k-signed" / "dataset.json").stat().st_mtime_ns == before


def test_ml100k_does_not_take_a_strangers_folder(tmp_path: Path) -> None:
    (tmp_path / "ml-100k-signed").mkdir()
    (tmp_path / "ml-100k-signed" / "notes.txt").touch()
    check_refused("ml-100k-signed is already there", _ensure, str(tmp_path))
