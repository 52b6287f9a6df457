import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import spearmanr

from recbole_signed.atomic import read_rows
from recbole_signed.atomic.inter_file import RawRows
from recbole_signed.data.settings import DEFAULT_BOUNDS, bounds_of, in_group, labels_of, split_group
from recbole_signed.errors import UsageError, counted
from recbole_signed.lab.stats import analyse, statistics_table
from recbole_signed.lab.stats.figures import describe_features, draw
from recbole_signed.lab.stats.report import findings, gini, intraclass, quantiles, similarity, spearman
from recbole_signed.table import to_text

Event = tuple[int, int, int, int]
events = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 5), st.sampled_from([1, -1, 0]), st.integers(0, 30)),
    min_size=1,
    max_size=60,
)


def rows_of(found: list[Event], *, timed: bool = True, cuts: tuple[float, ...] = ()) -> RawRows:
    users, items, signs, times = (np.array(column) for column in zip(*found, strict=True))
    bounds = [0, *(int(cut * len(found)) for cut in cuts), len(found)]
    names = ("train", "valid", "test")
    parts = {name: slice(a, b) for name, a, b in zip(names, bounds, bounds[1:], strict=False)} if cuts else {}
    return RawRows(
        users.astype(np.int32), items.astype(np.int32), signs.astype(np.int8), times if timed else None, 5, 6, parts
    )


def contradictions(found: list[Event]) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    liked = {(user, item) for user, item, sign, _ in found if sign > 0}
    return liked, {(user, item) for user, item, sign, _ in found if sign < 0}


@given(found=events)
def test_pairs_are_those_of_a_plain_count(found: list[Event]) -> None:
    rows = rows_of(found, cuts=(0.6, 0.8))
    report = analyse(rows)
    count = Counter((user, item) for user, item, _, _ in found)
    liked, disliked = contradictions(found)
    assert report["rows"]["total"] == len(found)
    assert report["pairs"] == len(count)
    assert report["density"] == len(count) / 30
    assert report["repeated_rows"] == len(found) - len(count)
    assert report["repeated_pairs"] == sum(times > 1 for times in count.values())
    assert report["contradicting_pairs"] == len(liked & disliked)
    pieces = {name: found[where] for name, where in rows.parts.items()}
    for name, piece in pieces.items():
        part = report["parts"][name]
        own = {(user, item) for user, item, _, _ in piece}
        assert part["repeated_rows"] == len(piece) - len(own)
        assert (part["users"], part["items"]) == (len({u for u, _ in own}), len({i for _, i in own}))
        liked, disliked = contradictions(piece)
        earlier = list(pieces)[: list(pieces).index(name)]
        assert list(part["pairs_also_in"]) == earlier
        for other in earlier:
            assert part["pairs_also_in"][other] == len(own & {(u, i) for u, i, _, _ in pieces[other]})
            liked_there, disliked_there = contradictions(pieces[other])
            assert part["contradicted_by"][other] == len((liked & disliked_there) | (disliked & liked_there))


@settings(max_examples=25)
@given(found=events)
def test_whatever_the_rows_the_report_is_json_and_text(found: list[Event]) -> None:
    for cuts in ((), (0.5, 0.75)):
        for timed in (True, False):
            report = analyse(rows_of(found, timed=timed, cuts=cuts))
            assert json.loads(json.dumps(report, allow_nan=False)) == report
            assert f"name: {counted(len(found), 'row')}, " in to_text(statistics_table("name", report))


def test_numbers_of_degrees_and_signs_are_plain_counts() -> None:
    rng, n_users = np.random.default_rng(0), 250
    users, items = (rng.integers(n_users, size=900) * rng.random(900)).astype(np.int32), rng.integers(6, size=900)
    signs = rng.choice([1, 0, -1], 900, p=[0.3, 0.5, 0.2]).astype(np.int8)
    report = analyse(RawRows(users, items.astype(np.int32), signs, np.arange(900), n_users, 6, {}))
    assert report["time"]["last_fifth"]["rows"] == 180
    assert report["item"]["degree"]["all"]["max"] == np.bincount(items).max()
    found = report["user"]
    rows, likes, dislikes = (
        np.array([((users == user) & of).sum() for user in range(n_users)])
        for of in (np.ones(900, dtype=bool), signs > 0, signs < 0)
    )
    judged = likes + dislikes > 0
    rate = (likes / np.maximum(likes + dislikes, 1))[judged]
    assert 0 < (rows == 0).sum() < (~judged).sum()
    assert found["log_degree_sd"] == pytest.approx(np.std(np.log(rows[rows > 0])))
    assert found["share_of_top_percent"] == pytest.approx(np.sort(rows)[-2:].sum() / 900), "1 % of 250, rounded to even"
    assert found["likes_to_dislikes"] == pytest.approx(spearmanr(likes, dislikes).statistic)
    assert found["degree_to_like_rate"] == pytest.approx(spearmanr((likes + dislikes)[judged], rate).statistic)
    assert (found["without_likes"], found["without_dislikes"]) == ((likes == 0).mean(), (dislikes == 0).mean())
    assert [found["like_rate"][name] for name in ("mean", "median")] == pytest.approx([rate.mean(), np.median(rate)])
    for name, of in (("all", rows), ("like", likes), ("dislike", dislikes)):
        assert [found["degree"][name][each] for each in ("mean", "max")] == pytest.approx([of.mean(), of.max()])


@settings(max_examples=30)
@given(seed=st.integers(0, 9999), ties=st.booleans())
def test_bins_are_those_of_a_plain_count(seed: int, ties: bool) -> None:
    rng, n = np.random.default_rng(seed), 700
    times = rng.integers(0, 12 if ties else 10**6, n)
    items = (rng.random(n) * (1 + 5 * times / times.max())).astype(np.int64)  # they come one after the other
    found = list(
        zip(
            rng.integers(0, 5, n).tolist(), items.tolist(), rng.choice([1, -1, 0], n).tolist(),
            times.tolist(), strict=True,
        )
    )  # fmt: skip
    report = analyse(rows_of(found))["time"]
    assert (report["first_raw"], report["last_raw"]) == (min(times), max(times))
    count = Counter(times.tolist())
    assert report["moments"] == len(count)
    assert report["tied_rows_share"] == pytest.approx(sum(c for c in count.values() if c > 1) / n)
    begins = [each["first_raw"] for each in report["bins"]]
    assert begins == sorted(set(begins)), "no moment in two bins"
    ends = [*begins[1:], 10**9]
    seen_users: set[int] = set()
    seen_items: set[int] = set()
    popularity: list[np.ndarray] = []
    for each, begin, end in zip(report["bins"], begins, ends, strict=True):
        inside = [event for event in found if begin <= event[3] < end]
        assert each["rows"] == len(inside)
        likes, dislikes = (sum(sign == wanted for _, _, sign, _ in inside) for wanted in (1, -1))
        assert each["like_rate"] == pytest.approx(likes / (likes + dislikes))
        users, these = {u for u, _, _, _ in inside}, {i for _, i, _, _ in inside}
        assert each["new_users"] == len(users - seen_users)
        assert each["new_items"] == len(these - seen_items)
        assert each["rows_of_new_users"] == pytest.approx(
            sum(u not in seen_users for u, _, _, _ in inside) / len(inside)
        )
        assert each["rows_on_new_items"] == pytest.approx(
            sum(i not in seen_items for _, i, _, _ in inside) / len(inside)
        )
        seen_users |= users
        seen_items |= these
        popularity.append(np.bincount([i for _, i, _, _ in inside], minlength=6))
        before, now = popularity[-2:] if len(popularity) > 1 else (None, None)
        known = sorted(seen_items)
        assert each["similarity"] == (None if before is None else similarity(before, now))
        assert each["rank_correlation"] == (None if before is None else spearman(before[known], now[known]))
    assert report["first_to_last_similarity"] == similarity(popularity[0], popularity[-1])


def test_drift_is_seen() -> None:
    """Popularity turns round, likes become rare."""
    rng = np.random.default_rng(0)
    n, half = 6000, 3000
    weights = np.array([0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
    items = np.concatenate([rng.choice(6, half, p=weights), rng.choice(6, half, p=weights[::-1])])
    signs = np.where(rng.random(n) < np.where(np.arange(n) < half, 0.8, 0.2), 1, -1)
    found = list(zip(rng.integers(0, 5, n).tolist(), items.tolist(), signs.tolist(), range(n), strict=True))
    time = analyse(rows_of(found))["time"]
    rates = [each["like_rate"] for each in time["bins"]]
    assert rates[0] == pytest.approx(0.8, abs=0.1)
    assert rates[-1] == pytest.approx(0.2, abs=0.1)
    assert time["last_fifth"]["like_rate"] < time["last_fifth"]["like_rate_before"] - 0.2
    correlations = [each["rank_correlation"] for each in time["bins"][1:]]
    assert min(correlations) == correlations[9], "at the turn"
    assert correlations[9] < 0 < correlations[3]
    assert time["first_to_last_similarity"] < 0.5


def test_findings_are_sentences() -> None:
    said = findings(analyse(rows_of([(0, 0, 1, 0), (0, 0, -1, 1), (0, 0, -1, 2), (1, 1, 1, 3)], cuts=(0.5, 0.75))))
    assert said == [
        "train: 1 repeated row (of 1 pair)",
        "train: 1 pair with both signs",
        "1 valid pair is also in train, 1 of them with the opposite sign",
    ]
    assert findings(analyse(rows_of([(0, 0, 1, 0)]))) == [
        "no dislikes: signed models have nothing to learn from beyond the likes"
    ]


@pytest.mark.parametrize(("signs", "timed"), [([1], True), ([0], False), ([1, -1, 0], True)])
def test_figures_are_drawn_whatever_is_missing(signs: list[int], timed: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    found = [(int(u), int(i), int(s), t) for t, (u, i, s) in enumerate(
        zip(rng.integers(0, 5, 400), rng.integers(0, 6, 400), rng.choice(signs, 400), strict=True))]  # fmt: skip
    rows = rows_of(found, timed=timed, cuts=(0.6, 0.8))
    draw("a set", rows, analyse(rows), tmp_path / "new" / "page.png")
    from matplotlib.image import imread

    height, width, _ = imread(tmp_path / "new" / "page.png").shape
    assert (width, height) == (1320, 1155 if timed else 770)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.png"]


counts = st.lists(st.integers(0, 30), min_size=2, max_size=40)


@given(a=counts, seed=st.integers(0, 99))
def test_spearman_is_scipys(a: list[int], seed: int) -> None:
    b = np.random.default_rng(seed).integers(0, 5, len(a))
    found = spearman(np.array(a), b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(a, b).statistic)


@given(a=counts)
def test_gini_is_the_mean_difference(a: list[int]) -> None:
    values = np.array(a)
    if not values.sum():
        assert gini(values) is None
        return
    expected = np.abs(values[:, None] - values[None, :]).mean() / (2 * values.mean())
    assert gini(values) == pytest.approx(expected, abs=1e-12)


@given(sizes=st.lists(st.integers(0, 6), min_size=2, max_size=12), seed=st.integers(0, 999))
def test_intraclass_is_that_of_the_analysis_of_variance(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [rng.integers(0, 2, size) for size in sizes]
    found = intraclass(np.array([each.sum() for each in groups]), np.array(sizes))
    groups = [each for each in groups if len(each)]
    total = sum(map(len, groups))
    if len(groups) < 2 or total <= len(groups):
        assert found is None
        return
    everything = np.concatenate(groups)
    between = sum(len(each) * (each.mean() - everything.mean()) ** 2 for each in groups) / (len(groups) - 1)
    within = sum(((each - each.mean()) ** 2).sum() for each in groups) / (total - len(groups))
    size = (total - sum(len(each) ** 2 for each in groups) / total) / (len(groups) - 1)
    spread = between + (size - 1) * within
    if spread <= 1e-12:
        assert found is None or spread > 0
    else:
        assert found == pytest.approx((between - within) / spread, abs=1e-9)


def test_similarity_does_not_depend_on_how_much_is_seen() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.lognormal(0, 1, (2, 100_000))
    y = 0.5 * x + 0.5 * y
    truth = x @ y / np.sqrt((x @ x) * (y @ y))
    for rate in (0.5, 20.0):
        assert similarity(rng.poisson(rate * x), rng.poisson(rate * y)) == pytest.approx(truth, abs=0.03)
    assert similarity(np.array([1, 1]), np.array([1, 1])) is None


def test_quantiles_and_a_planted_intraclass() -> None:
    found = quantiles(np.arange(101))
    assert found is not None
    assert (found["mean"], found["min"], found["p25"], found["median"], found["max"]) == (50, 0, 25, 50, 100)
    assert quantiles(np.array([])) is None
    rng = np.random.default_rng(0)
    size, share = rng.integers(2, 40, 20_000), rng.beta(2, 3, 20_000)
    assert intraclass(rng.binomial(size, share), size) == pytest.approx(1 / (2 + 3 + 1), abs=0.01)


def test_labels_of_groups_and_names_of_results_in_them() -> None:
    assert labels_of("users", (0, 5, 20)) == ["users 0", "users 1-5", "users 6-20", "users 21+"]
    assert labels_of("items", (5, 6)) == ["items 0-5", "items 6", "items 7+"]
    for label in labels_of("users", DEFAULT_BOUNDS["users"]) + labels_of("items", DEFAULT_BOUNDS["items"]):
        assert split_group(in_group("recall@20", label)) == ("recall@20", label)
    for name in ("recall@20", "recall@20[]", "recall@20[users]", "recall@20[people 0]", "[users 0]"):
        assert split_group(name) == (name, "")


@pytest.mark.parametrize("value", [[], [5, 5], [5, 1], [-1, 5], [0.5], [True], 5, "5"])
def test_wrong_bounds_are_refused(value: object) -> None:
    with pytest.raises(UsageError, match=r"user_groups is .* ascending whole numbers"):
        bounds_of("users", value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "toy"
    made.mkdir()
    rows = ["user_id:token\titem_id:token\tsign:float", "u1\ti1\t1", "u2\ti2\t-1", "u1\ti3\t1", "u2\ti4\t1"]
    (made / "toy.inter").write_text("\n".join(rows) + "\n")
    items = ["item_id:token\tgenre:token\tyear:float", "i1\tdrama\t1990", "i2\tunknown\t", "i3\tcrime\t1990", "x\ta\t1"]
    (made / "toy.item").write_text("\n".join(items) + "\n")
    return made


def test_a_reader_is_told_coverage_and_missing_values(folder: Path) -> None:
    found = describe_features(folder, read_rows(folder))
    assert list(found) == ["item"]
    item = found["item"]
    assert (item["covered"], item["unknown_ids"]) == (0.75, 1)
    assert item["columns"]["genre"] == {"kind": "token", "distinct": 2, "missing": pytest.approx(1 / 3)}
    assert item["columns"]["year"] == {"kind": "bins", "distinct": 1, "missing": pytest.approx(1 / 3)}
    rows = read_rows(folder)
    text = to_text(statistics_table("toy", analyse(rows) | {"features": describe_features(folder, rows)}))
    assert "features of items" in text
    assert "75.0% of the items have a row; 1 row is of items without interactions" in text
