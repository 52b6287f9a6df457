"""Reports of experiments: rates per variant, differences with intervals, and bounds that hold however often one looks.

Statistics come from tea-tasting; always-valid intervals, interleaving and policies that never ran are written here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import binomtest, norm

from recbole_signed.errors import MissingExtraError, UsageError, counted
from recbole_signed.live.serve.experiments import SHARES, Experiment
from recbole_signed.live.serve.traffic import TrafficLog

FloatArray = npt.NDArray[np.float64]
# rates by name: numerator and denominator
METRICS = {"like_rate": ("likes", "impressions"), "dislike_rate": ("dislikes", "impressions")}
_COUNTS = ("impressions", "likes", "dislikes")
_COLUMNS = ("variant", "propensity", "first", *_COUNTS, *(f"{name}_before" for name in _COUNTS))  # read of a user
_NOTHING = 1e-20  # variance of rounding, as a part of the squared mean
# a p-value does not hold above this skewness of a difference, or with fewer users than this times their kurtosis
SKEWED, CARRIERS = 0.2, 2.0
SUSPICIOUS = 1e-3  # p-value of the sample-ratio check below which the assignment is broken
CONFIDENCE, POWER = 0.95, 0.8  # of every interval and test; the probability that a planned experiment finds the effect
OVERDISPERSION = 1.5  # variance of a user's rate over that of independent impressions, typically


def experiment_report(users: pl.DataFrame, control: str, shares: dict[str, float]) -> dict[str, Any]:
    """Compare variants with the control, from rows as in `TrafficLog.per_user`; None for what can't be told."""
    missing = [name for name in _COLUMNS if name not in users.columns]
    if missing:
        raise UsageError(f"the users have no column '{missing[0]}'; give all columns of TrafficLog.per_user.")
    try:
        import tea_tasting as tt
    except ImportError as error:
        raise MissingExtraError("the report of an experiment", "serve") from error
    groups = {name: users.filter(pl.col("variant") == name) for name in shares}
    few = [name for name, group in groups.items() if group.height < 2]
    if few:
        there = counted(groups[few[0]].height, "user")
        raise UsageError(f"the variant '{few[0]}' has {there}; a comparison needs 2 or more.")
    comparisons: list[dict[str, Any]] = []
    tested: dict[Any, Any] = {}  # a metric that does not vary has no p-value, and would break the order of the others
    cuped = False
    for name in shares:
        if name == control:
            continue
        pair = pl.concat([groups[control], groups[name]])
        covariates = {metric: _covariates(pair, *parts) for metric, parts in METRICS.items()}
        cuped = cuped or any(covariates.values())
        metrics: dict[str, Any] = {
            metric: tt.RatioOfMeans(over, under, **covariates[metric], confidence_level=CONFIDENCE)
            for metric, (over, under) in METRICS.items()
        }
        metrics["likes_per_user"] = tt.Mean("likes", confidence_level=CONFIDENCE)
        with np.errstate(divide="ignore", invalid="ignore"):  # of a metric that does not vary: it is None below
            results = tt.Experiment(metrics).analyze(pair, control=control)
        for metric in metrics:
            comparison: dict[str, Any] = {"variant": name, "metric": metric, **_numbers(results[metric])}
            comparison["always_valid"] = _always_valid_difference(groups[name], groups[control], metric)
            comparison["few_users"] = _few_carry(groups[name], groups[control], metric)
            comparisons.append(comparison)
            if comparison["pvalue"] is not None and not comparison["few_users"]:
                tested.setdefault((control, name), tt.experiment.ExperimentResult())[metric] = results[metric]
    # all metrics and variants together: Hochberg's step-up procedure with Sidak's levels
    corrected = tt.adjust_fwer(tested, alpha=1 - CONFIDENCE).to_dicts() if tested else ()
    adjusted = {(row["comparison"], row["metric"]): float(row["pvalue_adj"]) for row in corrected}
    for comparison in comparisons:
        comparison["pvalue_corrected"] = adjusted.get((str((control, comparison["variant"])), comparison["metric"]))
    return {
        "control": control,
        "variants": {name: _summary(group) for name, group in groups.items()},
        "sample_ratio": _sample_ratio(users, control, shares),
        "comparisons": comparisons,
        "cuped": cuped,
    }


def report_of(log: TrafficLog, name: str, experiment: Experiment) -> dict[str, Any]:
    """Return the report of an experiment from the log of impressions."""
    names = list(experiment.variants)
    if experiment.interleave:
        return {"experiment": name, **interleaving_report(log.interleaved(name), (names[0], names[1]))}
    shares = {label: variant.share for label, variant in experiment.variants.items()}
    drawn = {label: log.drawn(name, label) for label in experiment.all_policies}
    return {
        "experiment": name,
        **experiment_report(log.per_user(name), names[0], shares),
        "policies": {label: policy_rates(rows) for label, rows in drawn.items() if len(rows)},
    }


def policy_rates(drawn: pl.DataFrame) -> dict[str, Any]:
    """Estimate rates had everybody got a policy, from the rows of `drawn` (Swaminathan & Joachims, NeurIPS 2015)."""
    weights = (drawn["probability"] / drawn["propensity"]).to_numpy()
    # the intervals, by the delta method, take users as independent, not lists
    users, total = np.unique(drawn["user"].to_numpy(), return_inverse=True)[1], float(weights.sum())
    n_users = int(users.max()) + 1
    rates: dict[str, Any] = {
        "weight": total / len(weights),  # about 1 where the draws cover what the policy does
        "effective_size": total**2 / float(weights @ weights) if total else 0.0,  # Kish's number of lists
    }
    for outcome in ("like", "dislike"):
        value = low = high = None
        if total:
            rewards = drawn[outcome].cast(float).to_numpy()
            value = float(weights @ rewards) / total
            deviations = np.bincount(users, weights * (rewards - value))
            if n_users > 1:
                deviation = float(np.sqrt((deviations**2).sum() * n_users / (n_users - 1))) / total
                half = float(norm.ppf(0.5 + CONFIDENCE / 2)) * deviation
                low, high = value - half, value + half
        rates[f"{outcome}_rate"] = {"value": value, "low": low, "high": high}
    return rates


def _summary(group: pl.DataFrame) -> dict[str, float]:
    sums = {name: float(group[name].sum()) for name in _COUNTS}
    shown = max(sums["impressions"], 1.0)
    return {
        "users": group.height,
        **sums,
        "like_rate": sums["likes"] / shown,
        "dislike_rate": sums["dislikes"] / shown,
        "likes_per_user": sums["likes"] / group.height,
    }


def _sample_ratio(users: pl.DataFrame, control: str, shares: dict[str, float]) -> dict[str, Any]:
    """Hold the numbers of users against the shares: of those who came since the shares are what they are."""
    users = users.filter(pl.col("variant").is_in(list(shares)))
    planned = pl.col("variant").replace_strict(shares, return_dtype=pl.Float64)
    before = users.filter((pl.col("propensity") - planned).abs() > SHARES)
    changed = before["first"].max()
    if changed is not None:
        users = users.filter(pl.col("first") > changed)
    counts = {name: int((users["variant"] == name).sum()) for name in shares}
    pvalues = []
    for name in shares:
        both = counts[control] + counts[name]
        if name != control and both:
            expected = shares[name] / (shares[name] + shares[control])
            pvalues.append(float(binomtest(counts[name], both, expected).pvalue))
    worst = min(1.0, len(pvalues) * min(pvalues, default=1.0))  # Bonferroni: with more variants one is odd by chance
    return {"pvalue": worst, "suspicious": worst < SUSPICIOUS, "other_shares": before.height}


def _covariates(pair: pl.DataFrame, over: str, under: str) -> dict[str, str]:
    """Return a rate's columns before the experiment; none that do not vary, or leave a variant without a rate."""
    names = {"numer_covariate": f"{over}_before", "denom_covariate": f"{under}_before"}
    varying = all(pair[name].n_unique() > 1 for name in names.values())
    rated = (pair.group_by("variant").agg(pl.col(names["denom_covariate"]).sum())[names["denom_covariate"]] > 0).all()
    return names if varying and rated else {}


def _numbers(result: Any) -> dict[str, float | None]:
    numbers = {
        "control": float(result.control),
        "treatment": float(result.treatment),
        "difference": float(result.effect_size),
        "low": float(result.effect_size_ci_lower),
        "high": float(result.effect_size_ci_upper),
        "relative": float(result.rel_effect_size),
        "relative_low": float(result.rel_effect_size_ci_lower),
        "relative_high": float(result.rel_effect_size_ci_upper),
        "pvalue": float(result.pvalue),
    }
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def _always_valid_difference(
    treated: pl.DataFrame, control: pl.DataFrame, metric: str
) -> tuple[float, float] | tuple[None, None]:
    over, under = METRICS.get(metric, ("likes", None))
    a, b = (_linearised(group, over, under) for group in (treated, control))
    difference = a[0] - b[0]
    if max(a[1], b[1]) <= _NOTHING * max(a[0], b[0]) ** 2:  # such as two users who like all, and two who like nothing
        return None, None
    both = pl.concat([treated, control])
    least = _linearised(both, over, under)[1]  # else a small variant that has few likes by chance looks certain of it
    variance = max(a[1], least) / len(treated) + max(b[1], least) / len(control)
    half = confidence_sequence(variance, len(both))
    return difference - half, difference + half


def _few_carry(treated: pl.DataFrame, control: pl.DataFrame, metric: str) -> bool:
    """Whether few users, of both variants together, carry most of a metric: a t-test then does not hold."""
    deviations = _shares(pl.concat([treated, control]), *METRICS.get(metric, ("likes", None)))[1]
    variance = (deviations**2).mean()
    if not variance > 0:
        return False
    skewness, kurtosis = (deviations**3).mean() / variance**1.5, (deviations**4).mean() / variance**2
    a, b = treated.height, control.height
    skewness_of_difference = abs(skewness) * abs(1 / a**2 - 1 / b**2) / (1 / a + 1 / b) ** 1.5
    return bool(skewness_of_difference > SKEWED or min(a, b) / kurtosis < CARRIERS)


def _linearised(group: pl.DataFrame, over: str, under: str | None) -> tuple[float, float]:
    """Return a ratio of means and the variance of a user's share in it (delta method)."""
    ratio, shares = _shares(group, over, under)
    return ratio, float(shares.var(ddof=1))


def _shares(group: pl.DataFrame, over: str, under: str | None) -> tuple[float, FloatArray]:
    """Return a ratio of means, and the share of each user in its deviation, ``[users]``."""
    numerator = group[over].to_numpy().astype(np.float64)
    denominator = np.ones_like(numerator) if under is None else group[under].to_numpy().astype(np.float64)
    mean = denominator.mean()
    ratio = float(numerator.mean() / mean)
    return ratio, (numerator - ratio * denominator) / mean


def confidence_sequence(variance: float, n: int, tightest: int = 5000) -> float:
    """Return half the width of an interval for all n at once (Waudby-Smith et al., Ann. Stat. 2024, Theorem 2.2)."""
    # variance: sigma^2 / n; rho^2 is such that the interval is narrowest at `tightest` observations
    alpha = 1 - CONFIDENCE
    log = -2 * np.log(alpha)
    rho2 = (log + np.log(log + 1)) / tightest
    return float(np.sqrt(variance * 2 * (n * rho2 + 1) / (n * rho2) * np.log(np.sqrt(n * rho2 + 1) / alpha)))


def interleaving_report(requests: pl.DataFrame, names: tuple[str, str]) -> dict[str, Any]:
    """Tell which of two interleaved rankings users prefer: the second's ``share`` of users without a tie."""
    side = pl.when(pl.col("variant") == names[1]).then(1).otherwise(-1)
    by_request = requests.group_by("user", "request").agg(
        won=((pl.col("likes") - pl.col("dislikes")) * side).sum().sign()
    )
    # requests of one user are not independent: the test and the interval count users
    by_user = by_request.group_by("user").agg(pl.col("won").sum().sign())
    request_wins, request_ties = _wins(by_request["won"], names)
    wins, ties = _wins(by_user["won"], names)
    report: dict[str, Any] = {
        "wins": wins,
        "ties": ties,
        "request_wins": request_wins,
        "request_ties": request_ties,
        "share": None,
        "pvalue": None,
    }
    decided = sum(wins.values())
    if decided:
        test = binomtest(wins[names[1]], decided)
        low, high = test.proportion_ci(CONFIDENCE, method="wilson")
        report |= {
            "share": wins[names[1]] / decided,
            "low": float(low),
            "high": float(high),
            "pvalue": float(test.pvalue),
        }
    return report


def _wins(won: pl.Series, names: tuple[str, str]) -> tuple[dict[str, int], int]:
    """Count the -1 (the first) and 1 (the second), and the 0."""
    first, ties, second = (int((won == value).sum()) for value in (-1, 0, 1))
    return {names[0]: first, names[1]: second}, ties


def users_needed(rate: float, relative_effect: float, impressions_per_user: float) -> int:
    """Return how many users each of two equal variants needs to find a relative effect on a rate per impression."""
    given = (rate, relative_effect, impressions_per_user)
    if not (np.isfinite(given).all() and 0 < rate < 1 and relative_effect and impressions_per_user > 0):
        raise UsageError("power needs a rate in (0, 1), an effect other than 0, and impressions per user above 0.")
    changed = rate * (1 + relative_effect)
    if not 0 <= changed <= 1:
        raise UsageError(
            f"an effect of {relative_effect:g} makes a rate of {changed:g} of {rate:g}; give a nearer one."
        )
    level = norm.ppf(0.5 + CONFIDENCE / 2)
    variances = OVERDISPERSION * (rate * (1 - rate) + changed * (1 - changed)) / impressions_per_user
    with np.errstate(all="ignore"):
        users = variances * np.square((norm.ppf(POWER) + level) / np.float64(rate * relative_effect)) + level**2 / 4
    if not np.isfinite(users):
        raise UsageError(f"no number of users is enough to find an effect of {relative_effect:g}; give a larger one.")
    return int(np.ceil(users))
