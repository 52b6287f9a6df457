"""Off-policy estimates against known truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recbole_signed.errors import UsageError
from recbole_signed.live.serve import TrafficLog
from recbole_signed.live.serve.experiments import parse_experiment
from recbole_signed.live.serve.off_policy import policy_value, value_of_policy, value_of_variant
from recbole_signed.live.serve.traffic import Shown


def logged(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Contexts with three actions; the logging policy is skewed, the one in question prefers the last action."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.05, 0.6, (n, 3))
    logging = rng.dirichlet([16, 8, 6], n)
    target = np.tile([0.1, 0.2, 0.7], (n, 1))
    action = (rng.random(n)[:, None] > np.cumsum(logging, axis=1)).sum(axis=1).clip(max=2)
    rows = np.arange(n)
    reward = (rng.random(n) < truth[rows, action]).astype(float)
    return (
        reward,
        logging[rows, action],
        target[rows, action],
        truth[rows, action],
        (target * truth).sum(1),
        action,
    )


def test_estimates_cover_the_truth() -> None:
    covered = np.zeros(3)
    for seed in range(200):
        reward, propensity, target, predicted, expected, _ = logged(800, seed)
        truth = expected.mean()
        estimates = (
            policy_value(reward, propensity, target),
            policy_value(reward, propensity, target, self_normalised=True),
            policy_value(reward, propensity, target, model_reward=predicted, model_value=expected),
        )
        covered += [each.low <= truth <= each.high for each in estimates]
    assert (covered / 200 > 0.88).all()


def test_intervals_cover_the_truth_where_variants_are_assigned_to_users(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    variants = {"a": {"share": 0.5}, "b": {"share": 0.5}}
    experiment = parse_experiment("test", {"variants": variants})
    covered = dict.fromkeys(("like_rate_ips", "like_rate_snips"), 0)
    users, each, runs = 200, 50, 400
    log = TrafficLog(tmp_path / "traffic.sqlite")
    for _ in range(runs):
        rates = rng.normal(0.1, 0.03, users).clip(0, 1)
        rows = pl.DataFrame(
            {
                "user": np.repeat(np.arange(users), each),
                "variant": np.repeat(np.where(rng.random(users) < 0.5, "b", "a"), each),
                "like": (rng.random((users, each)) < rates[:, None]).ravel().astype(int),
                "dislike": 0,
                "propensity": 0.5,
            }
        )
        log.logged = lambda name, rows=rows, **_: rows  # type: ignore[misc,assignment]
        found = value_of_variant(log, "test", experiment, "b")
        for name in covered:
            covered[name] += found[name].low <= 0.1 <= found[name].high
    assert all(0.92 < count / runs < 0.98 for count in covered.values()), covered


@pytest.mark.parametrize(("activity", "told"), [(1, True), (3, False)])
def test_ips_is_not_told_where_a_variant_changes_how_much_is_shown(tmp_path: Path, activity: int, told: bool) -> None:
    rng = np.random.default_rng(3)
    experiment = parse_experiment("test", {"variants": {"a": {"share": 0.5}, "b": {"share": 0.5}}})
    log = TrafficLog(tmp_path / "traffic.sqlite")
    for user in range(200):
        variant = "b" if rng.random() < 0.5 else "a"
        for request in range(activity if variant == "b" else 1):
            exposures = [[("test", variant, 0.5)]]
            log.write([Shown(f"{user}-{request}", f"u{user}", ["x", "y"], request, "v1", exposures)])
    found = value_of_variant(log, "test", experiment, "b")
    assert set(found) == {
        f"{sign}_rate_{name}" for sign in ("like", "dislike") for name in ("ips", "snips")[not told :]
    }
    log.close()


def test_users_are_told_apart_in_what_was_logged(tmp_path: Path) -> None:
    log = TrafficLog(tmp_path / "traffic.sqlite")
    draws = [("test", "b", 0.5, 0.25)]
    for request, user in enumerate("uvu"):
        log.write([Shown(str(request), user, ["x", "y"], request, "v1", [[("test", "b", 0.5)]], draws=draws)])
    assert [number for number, _ in sorted(log.logged("test")["user"].value_counts().rows())] == [1, 2]
    for rows, each in ((log.logged("test"), 2), (log.drawn("test", "b"), 1)):
        u, v, again = rows["user"].to_numpy().reshape(3, each)[:, 0]
        assert u == again != v


def test_nothing_is_told_of_what_was_never_seen(tmp_path: Path) -> None:
    log = TrafficLog(tmp_path / "traffic.sqlite")
    variants = {"a": {"share": 0.5, "explore": 1.0}, "b": {"share": 0.5}}
    experiment = parse_experiment("test", {"variants": variants, "policies": {"c": {}}})
    with pytest.raises(UsageError, match="the variant 'a' has shown nothing yet"):
        value_of_variant(log, "test", experiment, "a")
    with pytest.raises(UsageError, match=r"no first place was drawn in 'test' .*'explore' above 0"):
        value_of_policy(log, "test", experiment, "c")
    for request, user in enumerate("uvw"):
        draws = [("test", "a", 0.5, 0.5), ("test", "c", 0.5, 0.0)]
        log.write([Shown(str(request), user, ["x"], request, "v1", [[("test", "a", 0.5)]], draws=draws)])
    assert value_of_variant(log, "test", experiment, "a")["like_rate_ips"].weight == 2.0
    with pytest.raises(UsageError, match="the variant 'b' has shown nothing yet"):
        value_of_variant(log, "test", experiment, "b")
    with pytest.raises(UsageError, match="the policy 'c' would have put first nothing of what was drawn"):
        value_of_policy(log, "test", experiment, "c")


def test_half_lists_tell_nothing_of_whole_ones(tmp_path: Path) -> None:
    log = TrafficLog(tmp_path / "traffic.sqlite")
    for user in "ab":
        log.write([Shown("r" + user, user, ["1", "2"], 1, "v", [[("x", "one", 0.5)], [("x", "two", 0.5)]])])
    variants = {"one": {"share": 0.5}, "two": {"share": 0.5}}
    split = parse_experiment("x", {"variants": variants})
    with pytest.raises(UsageError, match="'one' has shown nothing yet"):  # as long as the lists were interleaved
        value_of_variant(log, "x", split, "one")
    log.write([Shown("s" + user, user, ["1"], 2, "v", [[("x", "one", 0.5)]]) for user in "ab"])
    assert value_of_variant(log, "x", split, "one")["like_rate_ips"].weight == 2
    mixed = parse_experiment("x", {"variants": variants, "interleave": True})
    with pytest.raises(UsageError, match="'x' interleaves lists"):
        value_of_variant(log, "x", mixed, "one")


def test_clusters_by_hand() -> None:
    reward, same, users = np.array([1.0, 0.0, 1.0, 0.0]), np.full(4, 0.5), np.array([7, 3, 7, 3])
    found = policy_value(reward, same, same, clusters=users)
    # the users' sums of deviations are 1 and -1
    assert found.high - found.value == pytest.approx(1.959964 * np.sqrt(2 / 1 * (1 + 1)) / 4)
    own = policy_value(reward, same, same, clusters=np.arange(4))
    assert own.high - own.value == pytest.approx(np.sqrt(4 / 3) * (policy_value(reward, same, same).high - own.value))
    with pytest.raises(UsageError, match="of 2 users or more, got 1"):
        policy_value(reward, same, same, clusters=np.zeros(4, dtype=np.int64))


def test_formulas_by_hand() -> None:
    reward, propensity, target = np.array([1.0, 0.0, 1.0]), np.array([0.5, 0.25, 1.0]), np.array([0.25, 0.5, 0.5])
    assert policy_value(reward, propensity, target).value == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert policy_value(reward, propensity, target, self_normalised=True).value == pytest.approx(1 / 3)
    model, value = np.array([0.5, 0.5, 0.5]), np.array([0.4, 0.4, 0.4])
    doubly = policy_value(reward, propensity, target, model_reward=model, model_value=value)
    assert doubly.value == pytest.approx(0.4 + (0.5 * 0.5 - 2 * 0.5 + 0.5 * 0.5) / 3)
    assert policy_value(reward, propensity, target).effective_size == pytest.approx(9 / 4.5)
    seldom = policy_value(reward, propensity, target / 2, self_normalised=True)  # weights 1/4, 1, 1/4
    assert (seldom.weight, seldom.effective_size) == pytest.approx((0.5, 1.5**2 / 1.125))
    squares = (0.25 * 2 / 3) ** 2 * 2 + (1 / 3) ** 2
    assert seldom.high - seldom.value == pytest.approx(1.959964 * np.sqrt(squares) / 1.5)


def test_estimates_are_those_of_obp() -> None:
    """Against the Open Bandit Pipeline; off_policy_reference.py made the file."""
    reference = json.loads(Path(__file__).with_name("off_policy_reference.json").read_text(encoding="utf-8"))
    log = {name: np.array(column) for name, column in reference["log"].items()}
    plain = {name: log[name] for name in ("rewards", "propensities", "target")}
    ours = {
        "ips": policy_value(**plain),
        "snips": policy_value(**plain, self_normalised=True),
        "dr": policy_value(**log),
    }
    assert {name: each.value for name, each in ours.items()} == pytest.approx(reference["estimates"], rel=1e-9)


def test_the_same_policy_has_the_mean_reward() -> None:
    reward = np.array([1.0, 0.0, 1.0, 1.0])
    same = np.full(4, 0.3)
    for normalised in (False, True):
        assert policy_value(reward, same, same, self_normalised=normalised).value == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": np.ones(2)}, "one number a row"),
        ({"rewards": np.ones(0), "propensities": np.ones(0), "target": np.ones(0)}, "and a row"),
        *(({"propensities": np.array([0.5, wrong, 0.5])}, "propensities must be") for wrong in (0.0, -0.5, 1.5)),
        *(({"target": np.array([0.5, wrong, 0.5])}, "target probabilities") for wrong in (-0.5, 1.5)),
        ({"rewards": np.array([1.0, np.nan, 0.0])}, "must be finite numbers"),
        ({"clusters": np.ones(2)}, "one number a row"),
        ({"model_reward": np.ones(3)}, "both"),
        ({"model_reward": np.ones(3), "model_value": np.ones(2)}, "one number a row"),
        ({"model_reward": np.ones(3), "model_value": np.ones(3), "self_normalised": True}, "choose one"),
    ],
)
def test_wrong_input(change: dict[str, Any], message: str) -> None:
    arguments = {"rewards": np.ones(3), "propensities": np.full(3, 0.5), "target": np.full(3, 0.5), **change}
    with pytest.raises(UsageError, match=message):
        policy_value(**arguments)
