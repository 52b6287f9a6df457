"""Measures by simulation what `experiment report` and `experiment power` promise; the page on variants has figures.

    python benchmarks/bench_experiment.py --runs 2000

Formulas of whole arrays stand for `experiment_report`, which would take hours; they are first held against it.
"""

from __future__ import annotations

import argparse
from unittest import mock

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import norm, t

from recbole_signed.live.serve import ab_report, experiment_report
from recbole_signed.live.serve.ab_report import confidence_sequence, interleaving_report

Array = npt.NDArray[np.float64]
KINDS = {
    "alike": "about 20 items a user, like rate 10 %",
    "rare": "geometric, 8 in the mean, like rate 2 %, most users like nothing",
    "heavy": "log-normal with sigma 1.5, like rates that grow with it",
}
COUNTS = ("impressions", "likes", "dislikes")


def draw(rng: np.random.Generator, kind: str, shape: tuple[int, int], share: float) -> tuple[Array, Array, Array]:
    """Return items shown, likes, and who is treated ``[runs, users]``; the variants are equal."""
    if kind == "alike":
        rate, shown = rng.beta(3, 27, shape), rng.poisson(20, shape) + 1
    elif kind == "rare":
        rate, shown = rng.beta(0.2, 9.8, shape), rng.geometric(1 / 8, shape)
    else:
        busy = rng.normal(size=shape)
        shown = np.ceil(np.exp(1.5 * busy + 2)).astype(np.int64)
        rate = 1 / (1 + np.exp(3 - 0.5 * busy - 1.5 * rng.normal(size=shape)))
    treated = rng.random(shape) < share
    return shown.astype(np.float64), rng.binomial(shown, rate).astype(np.float64), treated.astype(np.float64)


def rates(shown: Array, likes: Array, of: Array, looks: npt.NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Return users, like rate and the variance of a user's share in it of those ``of`` a variant, at each look."""

    def sums(values: Array) -> Array:
        return np.asarray(np.cumsum(values * of, axis=1)[:, looks - 1])

    n, a, b = sums(np.ones_like(shown)), sums(likes), sums(shown)
    with np.errstate(all="ignore"):
        rate = a / b
        spread = sums(likes**2) - 2 * rate * sums(likes * shown) + rate**2 * sums(shown**2)
        return n, rate, np.maximum(spread, 0) / (b / n) ** 2 / (n - 1)


def misses(
    shown: Array, likes: Array, treated: Array, looks: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return whether 0 lies outside the 95 % interval, and outside the always-valid one ``[runs, looks]``."""
    n, rate, variance = (
        np.stack(pair) for pair in zip(*(rates(shown, likes, of, looks) for of in (treated, 1 - treated)), strict=True)
    )
    pooled = rates(shown, likes, np.ones_like(shown), looks)[2]
    factor = np.array([confidence_sequence(1.0, int(look)) for look in looks])
    with np.errstate(all="ignore"):
        parts, difference = variance / n, np.abs(rate[0] - rate[1])
        degrees = parts.sum(0) ** 2 / (parts**2 / (n - 1)).sum(0)
        half = t.ppf(0.975, degrees) * np.sqrt(parts.sum(0))
        always = factor * np.sqrt((np.maximum(variance, pooled) / n).sum(0))
        known = (n >= 2).all(0) & (variance > 0).any(0)
        return {"fixed": known & (difference > half), "always": known & (difference > always)}


def check(rng: np.random.Generator) -> None:
    """Hold the formulas against the report."""
    for kind in KINDS:
        shown, likes, treated = draw(rng, kind, (1, 300), 0.3)
        columns = dict(zip(COUNTS, (shown[0], likes[0], 0 * shown[0]), strict=True))
        users = pl.DataFrame({**columns, **{f"{name}_before": 0 * shown[0] for name in COUNTS}}).with_columns(
            variant=pl.Series(np.where(treated[0] > 0, "b", "a")), propensity=0.5, first=pl.int_range(pl.len())
        )
        comparison = experiment_report(users, "a", {"a": 0.7, "b": 0.3})["comparisons"][0]
        _, rate, _ = rates(shown, likes, treated, np.array([300]))
        _, other, _ = rates(shown, likes, 1 - treated, np.array([300]))
        own = misses(shown, likes, treated, np.array([300]))
        assert np.isclose(comparison["difference"], rate - other)
        assert own["fixed"][0, 0] == (not comparison["low"] <= 0 <= comparison["high"])
        assert own["always"][0, 0] == (not comparison["always_valid"][0] <= 0 <= comparison["always_valid"][1])


def intervals(rng: np.random.Generator, runs: int) -> None:
    print("one look, 1,000 users: how often the 95 % interval of equal variants leaves out 0")
    for kind in KINDS:
        for share in (0.5, 0.1):
            rate = misses(*draw(rng, kind, (runs, 1000), share), np.array([1000]))["fixed"].mean()
            print(f"  {kind:6} share {share}: {rate:.1%} +- {np.sqrt(rate * (1 - rate) / runs):.1%}")
    looks = np.arange(20, 5001, 20)
    print("a look every 20 users up to 5,000: how often an interval of equal variants ever leaves out 0")
    for kind in KINDS:
        for share in (0.5, 0.1):
            wrong = [misses(*draw(rng, kind, (100, 5000), share), looks) for _ in range(max(runs // 400, 1))]
            ever = {name: np.concatenate([batch[name].any(1) for batch in wrong]) for name in ("fixed", "always")}
            always, fixed = (f"{missed.mean():.1%}" for missed in (ever["always"], ever["fixed"]))
            print(f"  {kind:6} share {share}: always valid {always}, 95 % {fixed}, of {len(ever['fixed'])}")


def power(rng: np.random.Generator, runs: int) -> None:
    print("power at the number of users of `experiment power` (80 %), of one p and of p corrected over three metrics")
    for rate, effect, shown in ((0.1, 0.05, 20), (0.1, 0.6, 1)):
        with mock.patch.object(ab_report, "OVERDISPERSION", 1.0):  # that of the draws below
            n = ab_report.users_needed(rate, effect, shown)
        control, treated = (rng.binomial(shown, chance, (runs, n)) / shown for chance in (rate, rate * (1 + effect)))
        z = (treated.mean(1) - control.mean(1)) / np.sqrt((treated.var(1, ddof=1) + control.var(1, ddof=1)) / n)
        pvalues = 2 * t.sf(np.abs(z), 2 * n - 2)
        alone, corrected = (f"{(p < 0.05).mean():.1%}" for p in (pvalues, 1 - (1 - pvalues) ** 3))
        print(f"  rate {rate}, effect {effect:+.0%}, {n:,} users: {alone}, corrected {corrected}")
    exact = norm.cdf(norm.ppf(0.8) + norm.ppf(0.975) - norm.isf((1 - 0.95 ** (1 / 3)) / 2))
    print(f"  by the normal distribution, corrected: {exact:.1%}")


def interleaving(rng: np.random.Generator, runs: int) -> None:
    print("interleaving, 200 users of 3 lists: how often p is below 5 %")
    for name, shares in (("equal", (0.1, 0.1)), ("the second is better", (0.1, 0.14))):
        low, sides = 0, []
        for _ in range(runs // 10):
            rows = {
                "user": np.repeat(np.arange(200), 6),
                "request": np.repeat(np.arange(600), 2),
                "variant": ["a", "b"] * 600,
            }
            likes = rng.binomial(5, np.tile(shares, 600))
            report = interleaving_report(pl.DataFrame({**rows, "likes": likes, "dislikes": 0 * likes}), ("a", "b"))
            low += report["pvalue"] < 0.05
            sides.append(report["share"])
        print(f"  {name}: {low / (runs // 10):.1%}, mean share {np.mean(sides):.3f}, of {runs // 10}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args().runs
    rng = np.random.default_rng(1)
    check(rng)
    intervals(rng, runs)
    power(rng, runs)
    interleaving(rng, runs)


if __name__ == "__main__":
    main()
