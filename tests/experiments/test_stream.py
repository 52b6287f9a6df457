"""Prequential evaluation: what is predicted before it is learned, and what is made of that."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from refusals import check_refused
from signed_report.streams import read_summary

from recbole_signed.live import LIKE, EventBatch
from recbole_signed.live.events import DISLIKE, VIEW
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.popular import PopularLearner
from recbole_signed.live.replay import stream_run, summarise
from recbole_signed.live.replay import summary as summaries
from recbole_signed.live.replay import windows as replay_windows
from recbole_signed.live.replay.stream_run import Arm, run_stream
from recbole_signed.live.replay.stream_spec import StreamSpec
from recbole_signed.live.replay.summary import plot, replay_table, retention, write
from recbole_signed.live.replay.windows import BASE, NEW, UNKNOWN, Cases, Replay, measure
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.state import OnlineState
from recbole_signed.runs import data_sha256
from recbole_signed.runs.provenance import versions
from recbole_signed.runs.table_file import rows_file_of
from recbole_signed.table import to_markdown

START = 1_600_000_000
DAY = 86_400
SIGNS = np.random.default_rng(0).choice([1, -1], 3000)
SETTINGS = {"rank": 8, "cutoff": 4, "dislike_weight": -0.5}
Run = Callable[..., Path]


@pytest.fixture
def data(write_inter: Callable[..., Path]) -> Path:
    """Users of three tastes, who come one after the other; items too; a day between two rows of a user."""
    rng = np.random.default_rng(3)
    rows = []
    for moment in range(6000):
        user = int(rng.integers(0, 40 + moment // 60))
        item = int(rng.integers(0, 120 + moment // 50))
        liked = rng.random() < (0.9 if user % 3 == item % 3 else 0.15)
        rows.append((f"u{user}", f"i{item}", 1 if liked else -1, START + moment * DAY // 100))
    return write_inter("tastes", ["user_id:token", "item_id:token", "sign:float", "timestamp:float"], rows)


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., StreamSpec]:
    def make(**changes: Any) -> StreamSpec:
        content = {
            "title": "Tastes",
            "dataset": "tastes",
            "cut": 0.5,
            "windows": 10,
            "timed_events": 3,
            "models": {"SSF": {"settings": {**SETTINGS, "dislike_strength": 0.0}}},
            **changes,
        }
        path = tmp_path / "tastes.yaml"
        path.write_text(yaml.safe_dump(content))
        return StreamSpec.read(path)

    return make


@pytest.fixture
def run(spec: Callable[..., StreamSpec], tmp_path: Path) -> Run:
    """Run an experiment on a folder of data, with changes of the one that ``spec`` gives."""

    def run_once(data: Path, where: str = "work", **changes: Any) -> Path:
        return run_stream(spec(dataset=data.name, **changes), data, tmp_path / where, progress=False)

    return run_once


@pytest.fixture
def noise(write_inter: Callable[..., Path]) -> Callable[..., Path]:
    """Write rows of users without taste, a minute between two, with given values in the column that says the sign."""

    def write(values: np.ndarray, column: str = "sign") -> Path:
        users, items = np.random.default_rng(0).integers(0, [[90], [99]], (2, 3000))
        rows = [(f"u{users[n]}", f"i{items[n]}", value, START + n * 60) for n, value in enumerate(values)]
        return write_inter("noise", ["user_id:token", "item_id:token", f"{column}:float", "timestamp:float"], rows)

    return write


def pooled(summary: dict[str, Any], arm: str, subset: str = "all") -> dict[str, Any]:
    return next(row for row in summary["pooled"] if (row["arm"], row["subset"]) == (arm, subset))


def test_popularity_is_that_without_a_personal_verdict(data: Path, run: Run) -> None:
    """The baseline is as it is published: near a dislike nothing falls."""
    models = {
        f"strength {strength}": {"model": "Pop", "settings": {"dislike_strength": strength}, "arms": ["online"]}
        for strength in (0.0, 0.7)
    }
    rows = {row["model"]: row for row in summarise(run(data, models=models))["pooled"] if row["subset"] == "all"}
    assert rows["Pop"]["ndcg@20"] == rows["strength 0.0"]["ndcg@20"] != rows["strength 0.7"]["ndcg@20"]


def test_updates_keep_what_retraining_has(data: Path, spec: Callable[..., StreamSpec], tmp_path: Path) -> None:
    experiment = spec()
    out = run_stream(experiment, data, tmp_path / "work", progress=False)
    summary = summarise(out)
    refit, online, none, pop = (pooled(summary, arm) for arm in ("refit", "online", "none", "pop"))
    assert refit["recall@20"] > pop["recall@20"] * 1.1
    assert online["retention of recall@20"]["low"] > 0.95
    assert none["retention of recall@20"]["high"] < 1.0
    assert summary["gate"]["SSF"]["informative"]
    assert pooled(summary, "online", "unknown users")["cases"] > 0
    cost = summary["cost"]["SSF"]
    assert cost["timed_events"] == 30
    assert 0 < cost["latency_p50_seconds"] <= cost["latency_p99_seconds"]

    (made,) = summary["made"]
    assert made["data_sha256"] == data_sha256(data, "tastes")
    assert made["versions"] == versions()
    text = to_markdown(replay_table(experiment, summary))
    assert f"Data sha256: {made['data_sha256'][:12]}.\n" in text
    assert f"Machine: {made['machine']}, {made['threads']} thread" in text
    assert "| SSF | informative |" in text
    assert all(each in text for each in ("| dislikerecall@20 |", "| retention of ndcg@20 |", "Retention: the sum"))
    written = write(experiment, summary, tmp_path / "report")
    assert [path.name for path in written] == ["tastes.md", "tastes.jsonl"]
    stored = read_summary(tmp_path / "report" / "tastes.yaml")
    assert stored is not None
    assert stored.pop("spec") == experiment.hash()
    assert stored == json.loads(json.dumps(summary)), "cost, gate and settings too"
    plot(summary, tmp_path / "report" / "tastes.png")
    assert (tmp_path / "report" / "tastes.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "yaml" / "online").glob("*.yaml")), ids=str)
def test_a_committed_stream_is_printed_from_its_rows(file: Path) -> None:
    summary = read_summary(file)
    assert summary is not None
    text = rows_file_of(file).with_suffix(".md").read_text("utf-8")
    assert text == to_markdown(replay_table(StreamSpec.read(file), summary))


def test_further_aversions_rank_as_models_of_their_own(data: Path, run: Run) -> None:
    """Without a fit of their own; the rest of the experiment is what it was."""
    one = {"SSF": {"settings": SETTINGS, "arms": ["none", "online"], "aversions": [0.7]}}
    other = {"settings": {**SETTINGS, "dislike_aversion": 0.7}, "arms": ["online"], "model": "SSF"}
    made = summarise(run(data, models=one))
    plain = {**one, "SSF": {**one["SSF"], "aversions": []}, "other": other}
    wanted = summarise(run(data, models=plain))
    rows, expected = ({(row["model"], row["arm"]): row for row in each["pooled"]} for each in (made, wanted))
    assert list(rows) == [("SSF", "none"), ("SSF", "online"), ("SSF, g = 0.7", "online"), ("Pop", "pop")]
    found, own = rows["SSF, g = 0.7", "online"], expected["other", "online"]
    for metric in ("recall@20", "ndcg@20", "dislikerecall@20", "dislikeshare@20"):
        assert found[metric] == pytest.approx(own[metric], rel=1e-6)
        assert rows["SSF", "online"][metric] == expected["SSF", "online"][metric]
    assert found["ndcg@20"] != rows["SSF", "online"]["ndcg@20"]
    without = {"DecayPop": {"settings": {"half_life": 3.0}, "arms": ["online"], "aversions": [0.7]}}
    check_refused("DecayPop has no dislike_aversion to vary", run, data, models=without)


REMEMBERS = {"SSF-T": {"model": "SSFT", "settings": SETTINGS, "arms": ["refit"]}}


@pytest.mark.parametrize(
    "changes",
    [{"cut": 0.9}, {"cut": 0.9, "freshness": ["0s", "1d", "window"]}, {"models": REMEMBERS, "timed_events": 0}],
    ids=["by window", "by event", "remembers"],
)
def test_an_interrupted_experiment_ends_as_one_that_was_not(
    data: Path, run: Run, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Also where a fit begins with the weights of those before it, as one of SSF-T does."""
    whole, part = run(data, "whole", **changes), run(data, "part", **changes)
    for name in ("window-004.parquet", "window-007.json"):
        (part / name).unlink()
    before = (part / "window-005.parquet").stat().st_mtime_ns
    assert run(data, "part", **changes) == part
    assert (part / "window-005.parquet").stat().st_mtime_ns == before
    for path in sorted(whole.glob("*.parquet")):
        assert pl.read_parquet(path).equals(pl.read_parquet(part / path.name)), path.name
    file = part / "window-000.json"  # of another machine
    about = json.loads(file.read_text())
    file.write_text(json.dumps(about | {"made": about["made"] | {"machine": "another"}}))
    machines = [each["machine"] for each in summarise(part)["made"]]
    assert machines == ["another", *{each["machine"] for each in summarise(whole)["made"]}]
    (part / "settings.json").unlink()  # which what learns writes
    assert run(data, "part", **changes) == part
    assert not (part / "settings.json").exists(), "no window was left"
    for content in (None, "[1]"):
        if content:
            (part / "settings.json").write_text(content)
        check_refused(r"is damaged .* remove it, and the stream is run again", summarise, part)


def test_windows_of_other_data_are_not_taken_over(noise: Callable[..., Path], run: Run) -> None:
    first = run(noise(SIGNS[:2000]))
    again = run(noise(SIGNS[:1500]))
    assert again != first
    assert summarise(again)["pooled"] == summarise(run(noise(SIGNS[:1500]), "alone"))["pooled"]


def test_windows_under_another_rule_of_signs_are_not_taken_over(noise: Callable[..., Path], run: Run) -> None:
    folder = noise(np.random.default_rng(1).integers(1, 6, 2000), "rating")
    cases = []
    for like in (4, 5):
        rule = {"sign_rule": {"like": f"rating >= {like}", "dislike": "rating <= 2"}}
        (folder / "noise.yaml").write_text(yaml.safe_dump(rule))
        cases.append(pooled(summarise(run(folder)), "pop")["n_likes"])
    assert cases[1] < 0.7 * cases[0]


@pytest.mark.parametrize("freshness", [[], ["0s", "window"]])
def test_a_window_without_likes_has_no_cases_and_is_a_window(
    noise: Callable[..., Path], run: Run, freshness: list[str]
) -> None:
    signs = SIGNS[:2000].copy()
    signs[1200:1300] = -1  # the third of ten windows of a hundred events
    summary = summarise(run(noise(signs), freshness=freshness))
    assert {row["window"] for row in summary["windows"]} == set(range(10)) - {2}
    arm = summary["pooled"][0]["arm"]
    last = sum(row["cases"] for row in summary["windows"] if row["arm"] == arm and row["window"] >= 8)
    assert pooled(summary, arm, "last fifth")["cases"] == last


def test_an_uninformative_stream_is_called_so(
    noise: Callable[..., Path], spec: Callable[..., StreamSpec], run: Run
) -> None:
    summary = summarise(run(noise(SIGNS)))
    assert not summary["gate"]["SSF"]["informative"]
    assert "uninformative" in to_markdown(replay_table(spec(dataset="noise"), summary))


def test_cases_are_the_likes_of_the_window_that_could_be_recommended(tmp_path: Path) -> None:
    with OnlineState.open(tmp_path / "state") as state:
        users, items, kinds = [1, 1, 2], [1, 2, 3], [LIKE, DISLIKE, VIEW]
        state.bulk_load(["a", "b"], ["x", "y", "z"], *map(np.array, (users, items, kinds, [1, 2, 3])))
        window = EventBatch.of_rows(
            [
                ("1", "a", "z", LIKE, 10, np.nan),  # to be found
                ("2", "a", "new", LIKE, 11, np.nan),  # counts, and can't be found
                ("3", "a", "y", LIKE, 12, np.nan),  # touched before: left out
                ("4", "b", "x", DISLIKE, 13, np.nan),
                ("5", "b", "x", LIKE, 14, np.nan),  # the later verdict
                ("6", "b", "y", DISLIKE, 15, np.nan),
                ("7", "c", "x", LIKE, 16, np.nan),  # nothing is known of this user
                ("8", "d", "x", DISLIKE, 17, np.nan),  # no like, no case
                ("9", "c", "x", VIEW, 18, np.nan),  # not a verdict: the like before it stands
            ]
        )
        cases = Cases.from_window(state, window, n_base_users=2)
    assert cases.token == ["a", "b", "c"]
    assert cases.user.tolist() == [1, 2, 0]
    assert cases.group.tolist() == [BASE, NEW, UNKNOWN]
    assert cases.n_likes.tolist() == [2, 1, 1]
    assert cases.n_unknown.tolist() == [1, 0, 0]
    assert cases.n_known_likes.tolist() == [1, 0, 0]
    assert list(zip(cases.like_case, cases.like_item, strict=True)) == [(0, 3), (1, 1), (2, 1)]
    assert list(zip(cases.dislike_case, cases.dislike_item, strict=True)) == [(1, 2)]
    assert sorted(zip(*cases.hidden, strict=True)) == [(0, 1), (0, 2), (1, 3)]


def test_a_model_that_is_never_updated_ranks_new_items_last_and_new_users_as_strangers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with OnlineState.open(tmp_path / "state") as state:
        user, item = np.repeat(np.arange(1, 9), 4), np.concatenate([1 + rng.permutation(12)[:4] for _ in range(8)])
        names = [f"u{each}" for each in range(8)], [f"i{each}" for each in range(12)]
        state.bulk_load(*names, user, item, np.full(32, LIKE), np.arange(32))
        learner = make_learner("SSF", {"rank": 3, "cutoff": 1})
        learner.fit(state.edges.export(), state.edges.n_users, state.edges.n_items)
        frozen = EdgeState.from_tensors(copy.deepcopy(state.edges.to_tensors()), state.edges.n_items)
        events = [("1", "newcomer", "i0", LIKE, 99, np.nan), ("2", "u0", "new item", LIKE, 99, np.nan)]
        state.ingest(EventBatch.of_rows(events))
        newcomer = state.users.id_of("newcomer")
        found = Arm("SSF", "none", learner, frozen).scores(state.edges, np.array([1, newcomer, 0]), 14)
    assert found.shape == (3, 14)
    assert (found[:, 13:] < found[:, 1:13]).all()
    assert found[1].tolist() == found[2].tolist() != found[0].tolist()


def test_a_dislike_near_an_earlier_one_is_a_repeated_one(tmp_path: Path) -> None:
    with OnlineState.open(tmp_path / "state") as state:
        user, item = np.array([1, 1, 2, 2, 3, 5, 4]), np.array([1, 2, 1, 2, 3, 3, 1])  # a and b have likers in common
        kinds = np.array([LIKE] * 5 + [DISLIKE] * 2)
        state.bulk_load([f"u{n}" for n in range(1, 6)], ["a", "b", "c"], user, item, kinds, np.arange(7))
        new = [("u4", "b", DISLIKE), ("u5", "b", DISLIKE), ("u7", "b", DISLIKE), ("u4", "c", DISLIKE)]
        new += [(user, "d", LIKE) for user in ("u4", "u5", "u7")]
        cases = Cases.from_window(
            state, EventBatch.of_rows([(f"n{n}", *row, 99, np.nan) for n, row in enumerate(new)]), 2
        )
        b, c = state.items.ids(["b", "c"]).tolist()
    found = {*zip(cases.dislike_case.tolist(), cases.dislike_item.tolist(), cases.repeated.tolist(), strict=True)}
    assert found == {(0, b, True), (1, b, False), (2, b, False), (0, c, False)}


@pytest.mark.parametrize("at_a_time", [1, 5, 100])
def test_cases_are_measured_alike_however_many_at_a_time(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is liked, disliked and hidden goes with its case; the reference ranks case by case."""
    rng = np.random.default_rng(0)
    n_cases, n_items, ks = 17, 12, (1, 3, 20)
    kinds = rng.integers(0, 4, (n_cases, n_items))
    kinds[:, 0], kinds[:, 1] = 0, 1  # no case is without a like
    likes, dislikes, hidden = (rng.permutation(np.argwhere(kinds == kind)).T for kind in (1, 2, 3))
    n_likes = (kinds == 1).sum(axis=1) + 1  # and one of an item that nobody knows
    cases = Cases(
        user=np.arange(n_cases),
        token=[str(number) for number in range(n_cases)],
        group=np.zeros(n_cases, dtype=np.int8),
        n_likes=n_likes,
        n_known_likes=n_likes,
        n_unknown=np.ones(n_cases, dtype=np.int64),
        like_case=likes[0],
        like_item=likes[1],
        dislike_case=dislikes[0],
        dislike_item=dislikes[1],
        repeated=dislikes[1] % 2 == 0,
        hidden=(hidden[0], hidden[1]),
    )
    scores = torch.from_numpy(rng.normal(size=(n_cases, n_items)))
    monkeypatch.setattr(replay_windows, "CELLS", at_a_time * n_items + 3)
    found = measure(cases, lambda rows: scores[rows].clone(), n_items, ks)
    for case, own in enumerate(kinds):
        open_ = [item for item in range(1, n_items) if own[item] != 3]
        ranked_items = sorted(open_, key=lambda item: -float(scores[case, item]))
        ranked = own[ranked_items]
        for k in ks:
            best = ranked[:k]
            ideal = sum(1 / np.log2(rank + 2) for rank in range(min(k, n_likes[case])))
            gained = sum(1 / np.log2(rank + 2) for rank, kind in enumerate(best) if kind == 1)
            assert found[f"recall@{k}"][case] == pytest.approx((best == 1).sum() / n_likes[case])
            assert found[f"ndcg@{k}"][case] == pytest.approx(gained / ideal)
            n_disliked, known = (own == 2).sum(), ((best == 1) | (best == 2)).sum()
            shown = (best == 2).sum()
            expected = [shown / n_disliked, shown / known if known else np.nan] if n_disliked else [np.nan] * 2
            repeated = [item for item in ranked_items[:k] if own[item] == 2 and item % 2 == 0]
            n_repeated = (own[::2] == 2).sum()
            expected.append(len(repeated) / n_repeated if n_repeated else np.nan)
            measured = [found[f"{name}@{k}"][case] for name in ("dislikerecall", "dislikeshare", "repeatdislike")]
            np.testing.assert_allclose(measured, expected)


def test_retention_is_a_ratio_of_sums_with_a_clustered_interval() -> None:
    rng = np.random.default_rng(1)
    reference, user = rng.random(4000), rng.integers(0, 200, 4000)
    same = retention(reference, reference, user)
    assert same == {"ratio": 1.0, "low": 1.0, "high": 1.0, "n_cases": 4000, "n_users": 200}
    noisy = retention(0.9 * reference + rng.normal(0, 0.2, 4000), reference, user)
    assert noisy["low"] < noisy["ratio"] < noisy["high"]
    assert noisy["ratio"] == pytest.approx(0.9, abs=0.02)
    one_user_each = retention(0.9 * reference + rng.normal(0, 0.2, 4000), reference, np.arange(4000))
    assert one_user_each["high"] - one_user_each["low"] > 0
    assert retention(np.zeros(0), np.zeros(0), np.zeros(0, dtype=int))["ratio"] is None


def test_bounds_of_retention_are_those_of_users_drawn_again() -> None:
    """The 5th and the 95th percentile, however many cases a user has."""
    n = 400
    arm, user = np.random.default_rng(2).exponential(0.5, n), np.arange(n)
    found = retention(arm, np.ones(n), user)
    error = arm.std() / np.sqrt(n)
    assert found["low"] == pytest.approx(arm.mean() - 1.645 * error, abs=0.2 * error)
    assert found["high"] == pytest.approx(arm.mean() + 1.645 * error, abs=0.2 * error)
    often = retention(np.repeat(arm, 10), np.ones(10 * n), np.repeat(user, 10))
    assert (often["low"], often["high"]) == pytest.approx((found["low"], found["high"]))


def figures_of(folder: Path, **arms: list[float]) -> dict[str, Any]:
    """Summarise a window in which each of these arms has these values of its cases, a user each."""
    folder.mkdir()
    cases = [
        pl.DataFrame(
            {
                "user": [f"u{number}" for number in range(len(values))],
                "model": "Pop" if arm == "pop" else "SSF",
                "arm": arm,
                "group": np.arange(len(values)) % 3,
                "known_likes": np.arange(len(values)) % 2,
                "n_likes": 1,
                "n_unknown": 0,
                "recall@20": values,
                "ndcg@20": values,
                "dislikerecall@20": [0.5, *[np.nan] * (len(values) - 1)],
            }
        )
        for arm, values in arms.items()
    ]
    pl.concat(cases).write_parquet(folder / "window-000.parquet")
    took = {f"{name}_seconds": {"SSF": 1.0} for name in ("refresh", "refit")}
    about = {"start": 0, "latency_seconds": {"SSF": [0.1]}, "staleness": {}, "peak_memory_bytes": 1, **took}
    (folder / "window-000.json").write_text(json.dumps(about))
    (folder / "settings.json").write_text("{}")
    return summarise(folder)


def test_a_stream_says_something_where_updates_are_needed_and_the_model_beats_popularity(tmp_path: Path) -> None:
    refit = [0.2, 0.8] * 20
    worse, noisy, pop = [0.1, 0.4] * 20, [0.0, 0.98] * 20, [0.1] * 40
    arms = {"clear": (worse, pop), "perhaps": (noisy, pop), "no better": (worse, refit)}
    found = {
        name: figures_of(tmp_path / name, refit=refit, none=none, pop=popular)["gate"]["SSF"]
        for name, (none, popular) in arms.items()
    }
    assert {name: each["informative"] for name, each in found.items()} == {
        "clear": True,
        "perhaps": False,
        "no better": False,
    }
    assert "not measurably worse" in found["perhaps"]["reasons"][0]
    assert "does not beat popularity" in found["no better"]["reasons"][0]


@pytest.mark.parametrize("metric", ["recall@20", "ndcg@20"])
def test_both_metrics_have_to_say_that_a_stream_is_informative(
    metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the other metric updates are needed, and the model beats popularity."""
    monkeypatch.setattr(summaries, "DRAWS", 100)
    folder, better = tmp_path / "work", np.array([0.2, 0.8] * 20)
    figures_of(folder, refit=list(better), none=list(better / 2), pop=[0.1] * 40)
    file = folder / "window-000.parquet"
    for arm, values, reason in (
        ("none", better, "is not measurably worse"),
        ("pop", better, "does not beat popularity"),
    ):
        cases = pl.read_parquet(file)
        other = cases.with_columns(
            pl.when(pl.col("arm") == arm).then(pl.Series([*values] * 3)).otherwise(metric).alias(metric)
        )
        other.write_parquet(file)
        (found,) = summarise(folder)["gate"]["SSF"]["reasons"]
        assert metric in found
        assert reason in found
        cases.write_parquet(file)


def test_costs_are_percentiles_of_all_events_and_means_of_windows(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    figures_of(folder, refit=[1.0])
    about = json.loads((folder / "window-000.json").read_text())
    window = pl.read_parquet(folder / "window-000.parquet")
    for number, latency in enumerate((np.arange(1, 61), np.arange(61, 102))):
        took = {"latency_seconds": {"SSF": latency.tolist()}, "staleness": {"SSF": number / 10}}
        took["refresh_seconds"], took["refit_seconds"] = {"SSF": 1.0 + number}, {} if number else {"SSF": 4.0}
        window.write_parquet(folder / f"window-{number:03d}.parquet")
        (folder / f"window-{number:03d}.json").write_text(json.dumps({**about, **took}))
    assert summarise(folder)["cost"]["SSF"] == {
        "timed_events": 101,
        **{f"latency_p{percent}_seconds": percent + 1 for percent in (50, 95, 99)},
        **{"mean_refresh_seconds": 1.5, "mean_refit_seconds": 4.0, "mean_staleness": 0.05},
    }


def test_means_are_over_the_cases_that_have_a_value(tmp_path: Path) -> None:
    summary = figures_of(tmp_path / "work", refit=[float(number) for number in range(12)])
    assert pooled(summary, "refit")["dislikerecall@20"] == 0.5
    assert pooled(summary, "refit")["recall@20"] == 5.5
    assert summary["windows"][0]["dislikerecall@20"] == 0.5
    first = pooled(summary, "refit", "after the first like")  # of users who came after the cut
    assert (first["cases"], first["recall@20"]) == (4, np.mean([1, 5, 7, 11]))


@pytest.mark.parametrize("windows", [12, "6h", "1d"])
def test_windows_cover_all_events_after_the_cut_once(data: Path, windows: Any) -> None:
    replay = Replay.read(data, 0.5, windows)
    assert replay.bounds[-1] == len(replay.events) == 6000
    assert (np.diff(replay.bounds) > 0).all()
    times = replay.events.timestamp
    assert all(times[bound - 1] < times[bound] for bound in replay.bounds[1:-1])
    dated = Replay.read(data, "2020-10-01", 10)
    assert times[dated.bounds[0] - 1] < 1_601_510_400_000 <= times[dated.bounds[0]]
    assert Replay.read(data, "2020-10-13T12:26:40", 10).bounds[0] == 3000, "of the moment of the cut"
    assert Replay.read(data, 0.5, windows, limit=11).bounds.tolist() == replay.bounds[:12].tolist()


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_a_cut_is_a_moment_of_utc_wherever_it_is_made(data: Path, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert Replay.read(data, "2020-10-13T12:26:40", 10).bounds[0] == 3000
        assert Replay.read(data, "2020-10-13T14:26:40+02:00", 10).bounds[0] == 3000
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("cut", [0.3, 0.5])
@pytest.mark.parametrize("windows", [10, 25, "1d", "36h"])
def test_events_of_one_moment_are_on_one_side_of_a_bound(
    cut: float, windows: Any, write_inter: Callable[..., Path]
) -> None:
    """Each is at the same time of a day, the last one too."""
    rng = np.random.default_rng(1)
    days = np.append(rng.choice(60, 40, replace=False), 60)  # some windows are empty
    moments = rng.permutation(np.append(rng.choice(days, 997), [59, 60, 60])) * DAY + START
    rows = [(f"u{n % 40}", f"i{n}", 1, moment) for n, moment in enumerate(moments)]
    folder = write_inter("moments", ["user_id:token", "item_id:token", "sign:float", "timestamp:float"], rows)
    replay = Replay.read(folder, cut, windows)
    times = np.sort(moments) * 1000
    assert (replay.events.timestamp == times).all()
    first = int((times < times[int(len(times) * cut)]).sum())
    assert (replay.bounds[0], replay.bounds[-1]) == (first, len(times))
    inner = replay.bounds[1:-1]
    assert (times[inner - 1] < times[inner]).all()
    if isinstance(windows, int):  # as even as moments let them be
        even = np.linspace(first, len(times), windows + 1).astype(int)[1:-1]
        assert set(inner) <= {int((times < times[place]).sum()) for place in even}
    else:
        length = {"1d": 24, "36h": 36}[windows] * 3_600_000
        number = (times[first:] - times[first]) // length
        assert (inner == first + 1 + np.flatnonzero(np.diff(number))).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cut": 1.5}, "share of the events"),
        ({"cut": "soon"}, "neither a share of the events nor a date"),
        ({"cut": "2050-01-01"}, "leaves nothing before it or nothing after it"),
        ({"windows": 3}, "at least 10 are needed"),
        ({"windows": 20, "max_windows": 9}, "max_windows is 9; at least 10 windows are needed"),
        ({"windows": "3w"}, "give a number of windows"),
        ({"windws": 3}, r"unknown key 'windws' \(expected .*\); did you mean 'windows'\?$"),
        ({"models": {"SSF": {"arms": ["onlin"]}}}, r"has no 'onlin' \(expected .*\); did you mean 'online'\?$"),
        ({"models": {"SSF": {"arms": ["online", "online"]}}}, "'arms' has an entry twice: online, online"),
        ({"models": {"SSF": {"aversions": [0.5, 1, 0.5]}}}, "'aversions' has an entry twice: 0.5, 1.0, 0.5"),
        ({"freshness": ["1h", "0s", "1h"]}, "'freshness' has an entry twice: 1h, 0s, 1h"),
        ({"freshness": "1h"}, "'freshness' must be a list of delays such as"),
        ({"freshness": ["1w"]}, "freshness"),
        ({"freshness": ["d"]}, "freshness"),
        ({"models": {"SSF": {"setings": {}}}}, "unknown key 'setings'"),
        ({"models": {"SSF": {"settings": {"rnk": 3}}}}, "no parameter 'rnk'"),
        ({"models": {"Pop": {"auto": True}}}, "can't choose its settings"),
        ({"models": []}, "'models' must be"),
        ({"models": {"SSF": "rank"}}, "the settings of the model 'SSF' must be a mapping"),
        ({"cutoffs": [10]}, "with 20 in it"),
        ({"batch": 0}, "'batch' must be"),
    ],
)
def test_a_wrong_experiment_is_refused(data: Path, run: Run, changes: dict[str, Any], message: str) -> None:
    check_refused(message, run, data, **changes)


def test_settings_are_chosen_before_the_cut(data: Path, run: Run) -> None:
    models = {"SSF": {"auto": True, "settings": {"dislike_aversion": 0.3, "dislike_strength": 0.2}}}
    out = run(data, models=models, max_windows=10, windows=20)
    chosen = json.loads((out / "settings.json").read_text())["SSF"]
    assert (chosen["dislike_aversion"], chosen["dislike_strength"]) == (0.3, 0.2)
    assert chosen["rank"] > 0
    assert len(list(out.glob("*.parquet"))) == 10


def test_each_like_is_predicted_at_its_own_moment_after_each_delay(
    data: Path, spec: Callable[..., StreamSpec], tmp_path: Path
) -> None:
    experiment = spec(freshness=["0s", "1d", "window"], windows=10)
    out = run_stream(experiment, data, tmp_path / "work", progress=False)
    summary = summarise(out)
    rows = [row for row in summary["pooled"] if row["subset"] == "all"]
    assert [row["arm"] for row in rows] == ["0s", "1d", "window"]
    assert all(row["n_likes"] == row["cases"] for row in rows)  # one like each
    events = Replay.read(data, 0.5, 10).events
    pairs = list(zip(events.user_id, events.item_id, strict=True))
    first = {pair: place for place, pair in reversed(list(enumerate(pairs)))}
    wanted = sum(events.type[place] == LIKE for place in first.values() if place >= len(pairs) // 2)
    assert {row["cases"] for row in rows} == {wanted}
    # users who have just come are known at once, the next day, or when the window ends
    fresh, late = (pooled(summary, arm, "new users")["ndcg@20"] for arm in ("0s", "window"))
    assert fresh > late
    [text, _] = write(experiment, summary, tmp_path / "report")
    printed = text.read_text()
    assert all(each in printed for each in ("events after 1d", "events of earlier windows"))
    # no case has a dislike, and nothing is retrained
    assert not [each for each in ("dislike", "retention") if each in printed.lower()]
    plot(summary, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_a_model_sees_what_lies_as_far_back_as_its_delay(
    write_inter: Callable[..., Path], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each run: the runs that ended that long before it began, and all of the windows before."""
    rng = np.random.default_rng(4)
    hours = np.sort(rng.integers(0, 100, 600))  # many events at the same moment
    rows = [(f"u{rng.integers(30)}", f"i{n}", 1, START + hour * 3600) for n, hour in enumerate(hours)]
    folder = write_inter("tastes", ["user_id:token", "item_id:token", "sign:float", "timestamp:float"], rows)
    seen: list[tuple[int, int, list[int]]] = []

    def predict(self: Any, run: Any) -> list[pl.DataFrame]:
        counts = [len(each.edges.export().user) for each in self.delays]
        assert len(set(run.user_id)) == len(run) <= 7
        seen.append((int(run.timestamp[0]), len(run), counts))
        return [pl.DataFrame({"n": [len(run)]})]

    monkeypatch.setattr(stream_run._ByEvent, "_predicted", predict)
    monkeypatch.setattr(stream_run, "RUN", 7)
    run(folder, freshness=["0s", "2h", "window"], windows=10, models=["Pop"])
    replay = Replay.read(folder, 0.5, 10)
    times = replay.events.timestamp
    place, ends = int(replay.bounds[0]), [(int(times[replay.bounds[0] - 1]), int(replay.bounds[0]))]
    for now, size, counts in seen:
        window = replay.bounds[np.searchsorted(replay.bounds, place, side="right") - 1]
        late = (end for time, end in reversed(ends) if time <= now - 2 * 3_600_000 or end == ends[0][1])
        assert counts == [place, next(late), window]
        place += size
        ends.append((int(times[place - 1]), place))
    assert place == len(times)


def test_models_are_refreshed_on_what_they_see_when_a_window_ends(
    write_inter: Callable[..., Path], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"u{n % 30}", f"i{n}", 1, START + n * 60) for n in range(600)]  # distinct items: an edge for each event
    folder = write_inter("tastes", ["user_id:token", "item_id:token", "sign:float", "timestamp:float"], rows)
    refreshed: list[int] = []

    def refresh(_: Any, edges: Any, *sizes: int) -> None:
        refreshed.append(len(edges.user))

    monkeypatch.setattr(PopularLearner, "refresh", refresh)
    run(folder, freshness=["0s", "window"], windows=10, models=["Pop"])
    ends = Replay.read(folder, 0.5, 10).bounds[1:]
    assert refreshed == np.repeat(ends, 2).tolist()


def test_windows_are_in_their_order_beyond_a_thousand(tmp_path: Path) -> None:
    """By their text, the name of window 1000 comes before that of window 101."""
    figures_of(tmp_path / "work", refit=[1.0])
    window = pl.read_parquet(tmp_path / "work" / "window-000.parquet")
    about = json.loads((tmp_path / "work" / "window-000.json").read_text())
    for number in range(1, 1002):
        window.write_parquet(tmp_path / "work" / f"window-{number:03d}.parquet")
        (tmp_path / "work" / f"window-{number:03d}.json").write_text(json.dumps({**about, "start": number}))
    found = summarise(tmp_path / "work")["windows"]
    assert [(row["window"], row["start"]) for row in found] == [(number, number) for number in range(1002)]


def test_a_model_may_be_named_as_tables_print_it(spec: Callable[..., StreamSpec]) -> None:
    assert [(each.label, each.model) for each in spec(models=["SSF-T", "SSF"]).models] == [
        ("SSF-T", "SSFT"),
        ("SSF", "SSF"),
    ]


def test_a_stream_without_a_like_is_refused_in_a_sentence(tmp_path: Path) -> None:
    figures_of(tmp_path / "work", refit=[1.0])
    file = tmp_path / "work" / "window-000.parquet"
    pl.read_parquet(file).clear().write_parquet(file)
    check_refused("has no like to predict in any window", summarise, tmp_path / "work")
    check_refused("holds no windows of a stream", summarise, tmp_path)


def test_lines_that_are_no_rows_of_a_stream_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text("5\n")
    check_refused("holds lines that are not rows of a stream", read_summary, tmp_path / "s.yaml")
