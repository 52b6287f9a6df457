import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import check_refused
from scipy import sparse
from scipy.optimize import brentq
from scipy.sparse.linalg import svds
from scipy.special import expit, ndtri

from recbole_signed.atomic import read_rows
from recbole_signed.lab.synth import PROFILES, edge_model, generate, generator, write, writer
from recbole_signed.lab.synth.edge_model import (
    Items,
    Users,
    _aligned,
    degrees,
    draw_signs,
    item_stubs,
    make_items,
    make_users,
    match_tastes,
    stream,
    user_stubs,
)
from recbole_signed.lab.synth.generator import (
    SyntheticGraph,
    as_rows,
    check,
    make_distinct,
    size_of,
    smallest,
    statistics,
)
from recbole_signed.lab.synth.profile import DAY, Degrees, Profile, find_profile


def pairs_of(graph: SyntheticGraph) -> np.ndarray:
    return graph.users.astype(np.int64) * graph.n_items + graph.items


def assert_sound(graph: SyntheticGraph, profile: str, edges: int) -> None:
    shapes = {"users": np.int32, "items": np.int32, "signs": np.int8, "times": np.int64}
    for name, dtype in shapes.items():
        array = getattr(graph, name)
        assert array.dtype == dtype, name
        assert array.shape == (edges,), name
    assert (graph.n_users, graph.n_items) == size_of(find_profile(profile), edges)
    assert len(np.unique(pairs_of(graph))) == edges, "every pair once"
    assert np.bincount(graph.users, minlength=graph.n_users).min() >= 1
    assert np.bincount(graph.items, minlength=graph.n_items).min() >= 1
    assert set(np.unique(graph.signs)) == {-1, 1}
    assert (np.diff(graph.times) >= 0).all()
    window = find_profile(profile)
    assert graph.times[0] >= window.start
    assert graph.times[-1] < window.start + window.days * DAY


@given(
    profile=st.sampled_from(sorted({*PROFILES} - {"yambda"})),  # whose smallest graph has a million edges
    more=st.integers(0, 40_000),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=6)
def test_every_graph_is_sound(profile: str, more: int, seed: int) -> None:
    edges = smallest(find_profile(profile)) + more
    assert_sound(generate(profile, edges, seed), profile, edges)


def test_sizes_of_profiles_and_distinct_items_of_a_hub() -> None:
    n_users, n_items = size_of(find_profile("kuairand"), 10_000_000)
    assert n_users == pytest.approx(645_000, rel=0.01)
    assert n_items == pytest.approx(168_000, rel=0.01)
    who, what = np.zeros(30, np.int32), np.zeros(30, np.int32)
    make_distinct(who, what, np.zeros(40, np.int16), 0, threads=1)
    assert len(np.unique(what)) == 30


def test_a_graph_depends_on_the_seed_and_not_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (edge_model, generator):
        monkeypatch.setattr(module, "BLOCK", 1 << 12)  # many blocks, as a graph of many millions has
    edges = 30_001
    one, four = (generate("kuairand", edges, 7, threads=threads) for threads in (1, 4))
    for name in ("users", "items", "signs", "times"):
        np.testing.assert_array_equal(getattr(one, name), getattr(four, name))
    assert_sound(one, "kuairand", edges)
    other = generate("kuairand", edges, 8)
    assert len(np.intersect1d(pairs_of(one), pairs_of(other))) < edges // 20


@pytest.mark.parametrize(("profile", "expected"), [("kuairand", "0b3d67b4f6900260"), ("epinions", "54ca9c5eb48a2b5c")])
def test_a_graph_is_the_same_with_every_version_of_numpy(profile: str, expected: str) -> None:
    """Made with NumPy 1.26.4, 2.2.6, 2.4.6 and 2.5.5, with and without AVX; another one is a change that users see."""
    graph = generate(profile, 20_000, seed=7)
    arrays = (np.ascontiguousarray(getattr(graph, name)) for name in ("users", "items", "signs", "times"))
    assert hashlib.sha256(b"".join(each.tobytes() for each in arrays)).hexdigest()[:16] == expected


def test_no_block_draws_what_another_one_has_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (edge_model, generator):
        monkeypatch.setattr(module, "BLOCK", 1 << 12)
    drawn: list[tuple[int, ...]] = []
    sequence = np.random.SeedSequence

    def noted(entropy: list[int]) -> np.random.SeedSequence:
        drawn.append(tuple(entropy))
        return sequence(entropy)

    monkeypatch.setattr(np.random, "SeedSequence", noted)
    generate("kuairand", 30_001, 7)
    blocks = -(-30_001 // (1 << 12))
    assert len(drawn) == len(set(drawn)) > 3 * blocks


@pytest.mark.parametrize(
    ("profile", "edges"), [("kuairand", 263_100), ("epinions", 413_774), ("ml-1m", 1_000_209), ("yambda", 1_500_000)]
)
def test_statistics_match_the_profile(profile: str, edges: int) -> None:
    assert not [each for each in check(generate(profile, edges, 11), find_profile(profile)) if not each.ok]


def test_wrong_requests_and_unlike_graphs() -> None:
    graph = generate("kuairand", 200_000, 0)
    wrong = {each.statistic for each in check(graph, find_profile("epinions")) if not each.ok}
    assert {"like_share", "user_degree_mean", "item_degree_mean", "item_intraclass"} < wrong
    twice = replace(graph, users=np.append(graph.users, graph.users[0]), items=np.append(graph.items, graph.items[0]))
    twice = replace(twice, signs=np.append(graph.signs, graph.signs[0]), times=np.append(graph.times, graph.times[-1]))
    assert "repeated_pairs" in {each.statistic for each in check(twice, find_profile("kuairand")) if not each.ok}
    check_refused(r"no profile 'kuairnd'.*did you mean 'kuairand'\?", generate, "kuairnd", 100_000)
    check_refused(r"9,999 edges were asked for; .* 'kuairand' has 10,000 to", generate, "kuairand", 9_999)
    check_refused("'ml-1m' has 179,", generate, "ml-1m", 100_000)
    check_refused("the seed is -1", generate, "kuairand", 100_000, -1)


def test_tastes_can_be_learnt_and_dislikes_carry_them() -> None:
    """As on the real data, a spectral filter beats popularity, and by more if it sees the dislikes too."""
    graph = generate("kuairand", 150_000, 3)
    held_out = np.random.default_rng(0).random(len(graph)) < 0.2

    def matrix(where: np.ndarray) -> sparse.csr_array:
        ones = np.ones(where.sum(), np.float32)
        return sparse.csr_array((ones, (graph.users[where], graph.items[where])), (graph.n_users, graph.n_items))

    train, test = matrix(~held_out & (graph.signs > 0)), matrix(held_out & (graph.signs > 0)).toarray()
    exposed = matrix(~held_out)

    def recall(scores: np.ndarray) -> float:
        scores[exposed.nonzero()] = -np.inf
        hits = np.take_along_axis(test, np.argpartition(-scores, 20, axis=1)[:, :20], axis=1).sum(axis=1)
        judged = test.sum(axis=1) > 0
        return float((hits[judged] / test.sum(axis=1)[judged]).mean())

    def filtered(signal: sparse.csr_array) -> np.ndarray:
        by_user, by_item = (sparse.diags_array(1 / np.sqrt(signal.sum(axis=axis) + 5)) for axis in (1, 0))
        normal = (by_user @ signal @ by_item).tocsr()
        _, strength, items = svds(normal, k=32, random_state=0)
        return (normal @ (items.T * (strength / strength.max()) ** 2)) @ items

    popularity = recall(np.tile(train.sum(axis=0), (graph.n_users, 1)))
    likes, both = recall(filtered(train)), recall(filtered(train + 0.5 * (exposed - train)))
    assert likes > 1.15 * popularity
    assert both > 1.05 * likes


def test_tastes_drift() -> None:
    """Where all tastes change, a user's late edges lie less often in the cluster of its early ones."""

    def share_in_early_cluster(drift: float) -> float:
        profile = replace(find_profile("kuairand"), taste_drift=drift, taste_exposure=0.9)
        n_users, n_items = size_of(profile, 100_000)
        items = make_items(profile, n_items, n_users, 100_000, 1)  # as generate draws them
        users = make_users(profile, n_users, items, 100_000, 1)
        graph = generate(profile, 100_000, 1)
        late = graph.times > profile.start + 0.9 * profile.days * DAY
        return float((items.cluster[graph.items[late]] == users.home[graph.users[late]]).mean())

    assert share_in_early_cluster(0.0) > 0.3, "far above that of chance, 1 in 32 clusters"
    assert share_in_early_cluster(1.0) < 0.75 * share_in_early_cluster(0.0)


def test_popularity_drifts_and_items_appear() -> None:
    def last_and_first(**changes: float) -> tuple[float | None, float | None]:
        profile = replace(find_profile("epinions"), **changes)  # type: ignore[arg-type]
        found = statistics(as_rows(generate(profile, 200_000, 2)))
        return found["first_to_last_popularity_similarity"], found["last_fifth_rows_on_new_items"]

    steady, none_new = last_and_first(item_drift=0.0, item_births=0.0)
    moving, some_new = last_and_first(item_drift=3.0, item_births=0.5)
    assert steady is not None
    assert moving is not None
    assert steady == pytest.approx(1, abs=0.1)
    assert moving < 0.5
    assert none_new == pytest.approx(0, abs=0.01)
    assert some_new is not None
    assert some_new > 0.05


@given(
    shape=st.sampled_from(
        [Degrees("lognormal", 1.3, 3, 20), Degrees("weibull", 0.7, 1, 15), Degrees("lognormal", 2.5, 1, 8)]
    ),
    n=st.integers(1, 500),
    mean=st.floats(3.5, 40),
    seed=st.integers(0, 1000),
)
def test_degrees_have_their_sum_and_their_bounds(shape: Degrees, n: int, mean: float, seed: int) -> None:
    total = int(mean * n)
    found = degrees(shape, n, total, partners=500, rng=np.random.default_rng(seed))
    assert found.sum() == total
    assert found.min() >= 1
    assert found.max() <= min(shape.ceiling * total / n, 300) + 1


@given(a=st.lists(st.integers(0, 4), min_size=1, max_size=60), seed=st.integers(0, 99))
def test_as_many_kinds_meet_as_can(a: list[int], seed: int) -> None:
    kinds = np.array(a)
    others = np.random.default_rng(seed).integers(0, 5, len(a))
    left, right = _aligned(kinds, others, 5)
    assert sorted(left) == sorted(right) == list(range(len(a)))
    possible = sum(min(a.count(kind), list(others).count(kind)) for kind in range(5))
    assert (kinds[left] == others[right]).sum() == possible


@given(users=st.integers(20, 60), items=st.integers(40, 80), share=st.floats(0.05, 0.4), seed=st.integers(0, 999))
def test_repeated_pairs_are_resolved_and_degrees_stay(users: int, items: int, share: float, seed: int) -> None:
    rng, n = np.random.default_rng(seed), max(10, int(users * items * share))
    who, what = rng.integers(0, users, n).astype(np.int32), rng.integers(0, items, n).astype(np.int32)
    before = np.bincount(what, minlength=items)
    make_distinct(who, what, rng.integers(0, 3, items), seed, threads=2)
    assert len(set(zip(who.tolist(), what.tolist(), strict=True))) == n
    assert np.abs(np.bincount(what, minlength=items) - before).sum() <= n // 10


SECONDS = 1_000_000


def users(**arrays: list[float]) -> Users:
    n = len(next(iter(arrays.values())))
    plain = {"degree": [1] * n, "start": [0] * n, "life": [9] * n, "home": [0] * n, "second": [0] * n}
    given = {**plain, "switch": [2] * n, "effect": [0] * n, **arrays}
    whole = {"degree": np.int64, "home": np.int16, "second": np.int16}
    return Users(**{name: np.array(values, whole.get(name, np.float32)) for name, values in given.items()})


def items(**arrays: list[float]) -> Items:
    n = len(next(iter(arrays.values())))
    given = {"degree": [1] * n, "cluster": [0] * n, "fading": [0] * n, "born": [0] * n, "effect": [0] * n, **arrays}
    whole = {"degree": np.int64, "cluster": np.int16}
    return Items(**{name: np.array(values, whole.get(name, np.float32)) for name, values in given.items()})


def profile(**changes: float) -> Profile:
    return replace(find_profile("kuairand"), **changes)  # type: ignore[arg-type]


def test_users_live_for_their_time() -> None:
    made = users(degree=[20_000, 20_000], start=[0.2, 0.9], life=[0.1, 5.0])
    who, when = user_stubs(made, SECONDS, seed=1, threads=1)
    assert (np.diff(when) >= 0).all()
    for user, (first, last) in enumerate([(0.2, 0.3), (0.9, 1.0)]):
        moments = when[who == user] / SECONDS
        assert first - 1e-6 <= moments.min() <= moments.max() < last + 1e-6
        assert moments.mean() == pytest.approx((first + last) / 2, abs=0.002), "evenly"
    popular = items(degree=[500] * 200)
    made = make_users(profile(user_life=1.0, clusters=1), 2_000, popular, 40_000, 1)
    assert (made.start[made.life >= 1] == 0).all()
    assert (made.start[made.life < 1] > 0).all()
    assert (made.life >= 1).mean() == pytest.approx(np.exp(-1), abs=0.04)


@pytest.mark.parametrize(("born", "fading"), [(0.0, 3.0), (0.5, 3.0), (0.5, -2.0), (0.25, 0.0)])
def test_an_item_fades_from_its_birth_on(born: float, fading: float) -> None:
    """Beside an item that is as popular throughout, a place in the order is a moment."""
    owners = item_stubs(items(degree=[2_000_000, 40_000], born=[0, born], fading=[0, fading]), seed=1, threads=1)
    steady, moment = np.cumsum(owners == 0) / 2_000_000, np.linspace(born, 1, 100_001)
    density = np.exp(-fading * moment)
    assert steady[owners == 1].mean() == pytest.approx((moment * density).sum() / density.sum(), abs=0.005)


def test_two_thirds_of_a_users_tastes_are_of_its_main_cluster() -> None:
    """Items are as many in each cluster as are wanted, so that all get what they want."""
    n = 60_000
    who = np.repeat([0, 1], n // 2).astype(np.int32)
    what = np.tile([0, 1, 2], n // 3).astype(np.int32)
    edges = (np.random.default_rng(0).permutation(who).astype(np.int32), what, np.zeros(n, np.int64))
    made = users(home=[0, 2], second=[1, 1])
    match_tastes(profile(taste_exposure=1.0, clusters=3), made, items(cluster=[0, 1, 2]), edges, SECONDS, 1, 1)
    for user, wanted in ((0, [2 / 3, 1 / 3, 0]), (1, [0, 1 / 3, 2 / 3])):
        shares = np.bincount(edges[1][edges[0] == user], minlength=3) / (edges[0] == user).sum()
        assert shares == pytest.approx(wanted, abs=0.02)


def test_signs_are_those_of_the_logistic_model() -> None:
    """A cell for each user, item and moment; user 1 changes its taste in between."""
    n, clusters, seed = 40_000, 2, 4
    likes = profile(clusters=clusters, taste_effect=0.7, like_drift=-0.9, like_share=0.6)
    made_users = users(home=[0, 1], second=[1, 0], switch=[2, 0.5], effect=[0.5, -1.0])
    made_items = items(cluster=[0, 1], effect=[0.3, -0.2])
    cells = [(user, item, moment) for user in (0, 1) for item in (0, 1) for moment in (0.1, 0.9)]
    who, what, when = (np.tile([cell[place] for cell in cells], n) for place in range(3))
    edges = (who.astype(np.int32), what.astype(np.int32), (when * SECONDS).astype(np.int64))
    signs = draw_signs(likes, made_users, made_items, edges, SECONDS, seed, threads=1)
    affinity = 0.7 * (ndtri(stream(seed, "affinity").random((clusters, clusters))) + 2.0 * np.eye(clusters))

    def logit(user: int, item: int, moment: float) -> float:
        taste = user if moment < (2, 0.5)[user] else 1 - user
        return (0.5, -1.0)[user] + (0.3, -0.2)[item] + float(affinity[taste, item]) - 0.9 * moment

    logits: npt.NDArray[np.float64] = np.array([logit(*cell) for cell in cells])
    constant = brentq(lambda c: expit(logits + c).mean() - 0.6, -20, 20)
    found = (signs.reshape(n, len(cells)) > 0).mean(axis=0)
    assert set(np.unique(signs)) == {-1, 1}
    assert found == pytest.approx(expit(logits + constant), abs=0.013)


ORIGIN = ("kuairand", 5)


@pytest.fixture(scope="module")
def graph() -> SyntheticGraph:
    return generate("kuairand", 12_000, 5)


@pytest.mark.parametrize(("piece", "pieces"), [(2_000_000, [12_000]), (5_000, [5_000, 5_000, 2_000])])
def test_atomic_files_hold_the_graph(
    piece: int, pieces: list[int], graph: SyntheticGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_CHUNK", piece)
    written: list[int] = []
    record = write(graph, tmp_path / "g", *ORIGIN, progress=written.append)
    assert written == pieces
    content = (tmp_path / "g" / "g.inter").read_bytes()
    head, *lines = content.decode().splitlines()
    assert head == "user_id:token\titem_id:token\tsign:float\ttimestamp:float"
    table = np.array([line.split("\t") for line in lines], dtype=np.int64)
    np.testing.assert_array_equal(table, np.stack([graph.users, graph.items, graph.signs, graph.times], axis=1))
    assert record == json.loads((tmp_path / "g" / "dataset.json").read_text(encoding="utf-8"))
    assert record["options"] == {"profile": "kuairand", "edges": 12_000, "seed": 5}
    likes = int((graph.signs > 0).sum())
    assert record["rows"] == {"total": 12_000, "like": likes, "dislike": 12_000 - likes, "neutral": 0}
    assert record["outputs"]["g.inter"] == hashlib.sha256(content).hexdigest()
    rows = read_rows(tmp_path / "g")
    assert (len(rows), rows.n_users, rows.n_items) == (12_000, graph.n_users, graph.n_items)


def test_recbole_reads_the_atomic_files(graph: SyntheticGraph, tmp_path: Path) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset

    write(graph, tmp_path / "sets" / "g", *ORIGIN)
    config = Config(model="BPR", dataset="g", config_dict={"data_path": str(tmp_path / "sets"), "state": "ERROR"})
    dataset = create_dataset(config)
    assert len(dataset.inter_feat) == int((graph.signs > 0).sum()), "RecBole sees the likes"
    assert dataset.user_num - 1 == graph.n_users


def test_the_same_graph_gives_the_same_bytes_and_arrays(graph: SyntheticGraph, tmp_path: Path) -> None:
    for how in ("inter", "npz"):
        for folder in ("a", "b"):
            write(graph, tmp_path / folder / how, *ORIGIN, how)
        first, second = (sorted((tmp_path / folder / how).iterdir()) for folder in ("a", "b"))
        assert [each.read_bytes() for each in first] == [each.read_bytes() for each in second]
    write(graph, tmp_path / "g", *ORIGIN, "npz")
    with np.load(tmp_path / "g" / "g.npz") as found:
        assert (int(found["n_users"]), int(found["n_items"])) == (graph.n_users, graph.n_items)
        for name in ("users", "items", "signs", "times"):
            np.testing.assert_array_equal(found[name], getattr(graph, name))
            assert found[name].dtype == getattr(graph, name).dtype


def test_what_is_in_the_way_is_refused(graph: SyntheticGraph, tmp_path: Path) -> None:
    write(graph, tmp_path / "g", *ORIGIN)
    check_refused("already there; give overwrite=True", write, graph, tmp_path / "g", *ORIGIN)
    write(graph, tmp_path / "g", *ORIGIN, "npz", overwrite=True)
    assert sorted(path.name for path in (tmp_path / "g").iterdir()) == ["dataset.json", "g.npz"]
    (tmp_path / "mine").mkdir()
    check_refused("not a data set that recbole-signed made", write, graph, tmp_path / "mine", *ORIGIN, overwrite=True)
    check_refused(r"--format is 'intr'.*did you mean 'inter'", write, graph, tmp_path / "other", *ORIGIN, "intr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g", "mine"], "nothing is left behind"


def test_a_failure_leaves_what_was(graph: SyntheticGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(graph, tmp_path / "g", *ORIGIN)
    before = (tmp_path / "g" / "g.inter").read_bytes()

    def full_disk(rows: int) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write(graph, tmp_path / "g", *ORIGIN, overwrite=True, progress=full_disk)
    assert (tmp_path / "g" / "g.inter").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["g"]
