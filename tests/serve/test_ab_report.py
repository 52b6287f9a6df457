"""Statistics of experiments: false positives by simulation, also under continuous looking; power; interleaving."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from refusals import check_refused
from scipy.stats import binom, binomtest, ttest_ind

from recbole_signed.cli.service import report_text
from recbole_signed.live.serve import TrafficLog, ab_report, experiment_report
from recbole_signed.live.serve.ab_report import confidence_sequence, interleaving_report, report_of, users_needed
from recbole_signed.live.serve.experiments import parse_experiment
from recbole_signed.live.serve.traffic import Shown

SHARES = {"control": 0.5, "treated": 0.5}
COUNTS = ("impressions", "likes", "dislikes")


def simulate(n: int, rng: np.random.Generator, effect: float = 0.0, share: float = 0.5) -> pl.DataFrame:
    """Users with their own like rate, which their period before shares; the treated like more by ``effect``."""
    rate = rng.beta(3, 27, n)
    treated = rng.random(n) < share
    shown, before = rng.poisson(20, n) + 1, rng.poisson(20, n)
    return pl.DataFrame(
        {
            "variant": np.where(treated, "treated", "control"), "propensity": np.where(treated, share, 1 - share),
            "first": np.arange(n), "impressions": shown,
            "likes": rng.binomial(shown, np.where(treated, rate * (1 + effect), rate)),
            "dislikes": rng.binomial(shown, 0.05), "impressions_before": before,
            "likes_before": rng.binomial(before, rate), "dislikes_before": rng.binomial(before, 0.05),
        }
    )  # fmt: skip


def like_rate(report: dict[str, object]) -> dict[str, float]:
    return next(each for each in report["comparisons"] if each["metric"] == "like_rate")  # type: ignore[attr-defined]


def test_false_positives_of_a_thousand_tests_of_equal_variants() -> None:
    rng, n_tests = np.random.default_rng(11), 1000
    wrong = any_wrong = 0
    for _ in range(n_tests):
        report = experiment_report(simulate(300, rng), "control", SHARES)
        wrong += like_rate(report)["pvalue"] < 0.05
        any_wrong += min(each["pvalue_corrected"] for each in report["comparisons"]) < 0.05
    low, high = binom.interval(0.999, n_tests, 0.05)
    assert low <= wrong <= high
    assert any_wrong <= high  # over all metrics together


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("kind", ["alike", "rare", "heavy"])
def test_p_corrected_keeps_its_promise_whoever_carries_the_outcome(kind: str, share: float) -> None:
    """Where few users are shown most of the items, one in five tests of equal variants had a corrected p below .05."""
    rng = np.random.default_rng(8)
    tests, wrong, told = 300, 0, 0
    for _ in range(tests):
        n, busy = 1000, rng.normal(size=1000)
        if kind == "heavy":
            shown = np.ceil(np.exp(1.5 * busy + 2)).astype(np.int64)
            rate = 1 / (1 + np.exp(3 - 0.5 * busy - 1.5 * rng.normal(size=n)))
        elif kind == "rare":
            shown, rate = rng.geometric(1 / 8, n), rng.beta(0.2, 9.8, n)
        else:
            shown, rate = rng.poisson(20, n) + 1, rng.beta(3, 27, n)
        users = pl.DataFrame(
            {
                "variant": np.where(rng.random(n) < share, "treated", "control"), "propensity": 0.5,
                "first": np.arange(n), "impressions": shown, "likes": rng.binomial(shown, rate),
                "dislikes": rng.binomial(shown, rate / 2),
                **dict.fromkeys(("impressions_before", "likes_before", "dislikes_before"), 0),
            }
        )  # fmt: skip
        report = experiment_report(users, "control", {"control": 1 - share, "treated": share})
        found = [each["pvalue_corrected"] for each in report["comparisons"]]
        assert all((each is None) is row["few_users"] for each, row in zip(found, report["comparisons"], strict=True))
        wrong += min((each for each in found if each is not None), default=1.0) < 0.05
        told += None not in found
    assert wrong <= binom.ppf(0.999, tests, 0.06)
    assert told > 0.95 * tests if kind == "alike" else told < 0.1 * tests if (kind, share) == ("heavy", 0.1) else True


def test_power_is_what_was_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    rate, effect, shown = 0.1, 0.15, 21.0
    # a user's rate varies: its variance over that of independent impressions
    monkeypatch.setattr(ab_report, "OVERDISPERSION", 1 + (shown - 1) / 31)
    n, found = users_needed(rate, effect, shown), 0
    for _ in range(200):
        users = simulate(2 * n, rng, effect).with_columns(impressions_before=0, likes_before=0, dislikes_before=0)
        found += like_rate(experiment_report(users, "control", SHARES))["pvalue"] < 0.05
    low, high = binom.interval(0.999, 200, 0.8)
    assert low <= found <= high


def test_the_period_before_and_dislikes() -> None:
    users = simulate(4000, np.random.default_rng(2), 0.05)
    blind = users.with_columns(impressions_before=0, likes_before=0, dislikes_before=0)
    with_before, without = (experiment_report(each, "control", SHARES) for each in (users, blind))
    assert with_before["cuped"]
    assert not without["cuped"]
    alike = users.with_columns(impressions_before=20)  # by which nothing can be explained
    assert not experiment_report(alike, "control", SHARES)["cuped"]
    width = [like_rate(each)["high"] - like_rate(each)["low"] for each in (with_before, without)]
    assert width[0] < 0.95 * width[1]
    users = simulate(600, np.random.default_rng(2))
    names = {"likes": "dislikes", "dislikes": "likes"}
    names |= {f"{old}_before": f"{new}_before" for old, new in names.items()}
    found, turned = (
        {each["metric"]: each for each in experiment_report(table, "control", SHARES)["comparisons"]}
        for table in (users, users.rename(names))
    )
    for name in ("difference", "low", "high", "pvalue", "always_valid"):
        assert found["like_rate"][name] == turned["dislike_rate"][name]
        assert found["dislike_rate"][name] == turned["like_rate"][name]


@pytest.mark.parametrize(("rate", "effect"), [(0.1, 0.6), (0.1, -0.6), (0.05, 2.0)])
def test_power_is_as_planned_at_another_variance(monkeypatch: pytest.MonkeyPatch, rate: float, effect: float) -> None:
    """Against Welch's test of users with one impression each."""
    rng = np.random.default_rng(5)
    monkeypatch.setattr(ab_report, "OVERDISPERSION", 1.0)
    n = users_needed(rate, effect, 1)
    control, treated = (rng.binomial(1, each, (4000, n)) for each in (rate, rate * (1 + effect)))
    assert (ttest_ind(treated, control, axis=1, equal_var=False).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("earlier", [[1], [0, 2]])
def test_users_before_the_experiment_in_one_variant_alone_leave_the_rates_unadjusted(earlier: list[int]) -> None:
    users = simulate(400, np.random.default_rng(9)).sort("variant", descending=True)  # the treated come first
    before = pl.int_range(pl.len()).is_in(earlier)
    none = [pl.when(before).then(f"{name}_before").otherwise(0).alias(f"{name}_before") for name in COUNTS]
    report = experiment_report(users.with_columns(none), "control", SHARES)
    found, plain = like_rate(report), report["variants"]
    assert not report["cuped"]
    assert found["difference"] == pytest.approx(plain["treated"]["like_rate"] - plain["control"]["like_rate"])
    assert found["low"] < found["difference"] < found["high"]


@pytest.mark.parametrize("column", ["propensity", "likes_before"])
def test_users_without_a_column_are_refused(column: str) -> None:
    users = simulate(50, np.random.default_rng(1)).drop(column)
    check_refused(f"the users have no column '{column}'; give all columns of", experiment_report, users, "x", SHARES)


def test_intervals_hold_under_continuous_looking() -> None:
    rng = np.random.default_rng(7)
    n_tests, looks = 400, np.arange(200, 4001, 100)
    wrong = fixed_wrong = 0
    for _ in range(n_tests):
        draws = rng.normal(size=looks[-1])
        sums, squares = np.cumsum(draws)[looks - 1], np.cumsum(draws**2)[looks - 1]
        means = sums / looks
        variance = (squares / looks - means**2) / looks
        halves = np.array([confidence_sequence(v, int(n), tightest=2000) for v, n in zip(variance, looks, strict=True)])
        wrong += bool((np.abs(means) > halves).any())
        fixed_wrong += bool((np.abs(means) > 1.96 * np.sqrt(variance)).any())
    assert wrong <= binom.ppf(0.999, n_tests, 0.05)
    assert fixed_wrong > 0.15 * n_tests  # which is why they are there


def test_rates_are_those_of_all_impressions_of_a_variant() -> None:
    users = simulate(500, np.random.default_rng(8), share=0.3)
    report = experiment_report(users, "control", {"control": 0.7, "treated": 0.3})
    for name, found in report["variants"].items():
        group = users.filter(pl.col("variant") == name)
        shown, likes, dislikes = (int(group[each].sum()) for each in ("impressions", "likes", "dislikes"))
        counted = {"users": group.height, "impressions": shown, "likes": likes, "dislikes": dislikes}
        rates = {"like_rate": likes / shown, "dislike_rate": dislikes / shown, "likes_per_user": likes / group.height}
        assert found == pytest.approx({**counted, **rates})


def test_a_small_variant_that_has_few_likes_by_chance_is_no_evidence() -> None:
    """Where nobody of it has liked anything yet, its own users would say that the rate is 0 for certain."""
    rng, shares = np.random.default_rng(2), {"control": 0.95, "treated": 0.05}
    missed = 0
    for _ in range(40):
        users = simulate(600, rng, share=0.05).with_columns(
            pl.col("impressions")
            .map_elements(lambda shown: rng.binomial(shown, 0.004), return_dtype=pl.Int64)
            .alias("likes")
        )
        low, high = like_rate(experiment_report(users, "control", shares))["always_valid"]
        missed += not low <= 0 <= high
    assert missed <= binom.ppf(0.999, 40, 0.05)


def test_assignments_by_chance_and_of_many_variants() -> None:
    users, names = simulate(600, np.random.default_rng(3)), ["control"] * 274 + ["treated"] * 326
    found = experiment_report(users.with_columns(variant=pl.Series(names)), "control", SHARES)["sample_ratio"]
    assert 0.03 < found["pvalue"] < 0.04
    assert not found["suspicious"]
    # of many variants one has an odd number of users by chance more often
    users = simulate(1000, np.random.default_rng(3))
    names = ["control"] * 200 + ["a"] * 200 + ["b"] * 200 + ["c"] * 265
    shares = dict.fromkeys(("control", "a", "b", "c"), 0.25)
    users = users.head(len(names)).with_columns(variant=pl.Series(names), propensity=0.25)
    found = experiment_report(users, "control", shares)["sample_ratio"]
    assert found["pvalue"] == pytest.approx(3 * binomtest(265, 465).pvalue)


def test_broken_assignments_are_noticed() -> None:
    for planned, share in ((0.5, 0.5), (0.5, 0.42), (0.2, 0.2), (0.2, 0.5)):
        users = simulate(3000, np.random.default_rng(3), share=share)
        shares = {"control": 1 - planned, "treated": planned}
        assert experiment_report(users, "control", shares)["sample_ratio"]["suspicious"] == (planned != share)
    users = simulate(3000, np.random.default_rng(3))
    few = users.filter(pl.col("variant") == "treated").head(900).with_columns(variant=pl.lit("few"))
    users, few = (each.with_columns(propensity=1 / 3) for each in (users, few))
    shares = dict.fromkeys(("control", "treated", "few"), 1 / 3)
    assert experiment_report(pl.concat([users, few]), "control", shares)["sample_ratio"]["suspicious"]


def test_shares_that_were_changed_are_told_and_break_no_assignment() -> None:
    rng = np.random.default_rng(3)
    first, second = (
        simulate(2000, rng, share=share).with_columns(
            propensity=pl.when(pl.col("variant") == "treated").then(share).otherwise(1 - share)
        )
        for share in (0.1, 0.5)
    )
    users = pl.concat([first, second.with_columns(pl.col("first") + 2000)])
    report = {"experiment": "test", **experiment_report(users, "control", SHARES)}
    assert not report["sample_ratio"]["suspicious"]  # type: ignore[index]
    assert report["sample_ratio"]["other_shares"] == 2000  # type: ignore[index]
    assert "2,000 users came under other shares" in report_text(report)
    later = (pl.col("first") < 2000) | (pl.col("variant") == "control")
    assert experiment_report(users.filter(later), "control", SHARES)["sample_ratio"]["suspicious"]


def test_variants_that_are_gone_or_empty() -> None:
    users = simulate(600, np.random.default_rng(3))
    gone = users.head(200).with_columns(variant=pl.lit("gone"), propensity=0.2, first=pl.col("first") + 10_000)
    plain, found = (experiment_report(each, "control", SHARES) for each in (users, pl.concat([users, gone])))
    comparisons = zip(found.pop("comparisons"), plain.pop("comparisons"), strict=True)
    for one, other in comparisons:  # sums of groups come in no certain order
        assert one.keys() == other.keys()
        assert all(one[key] == pytest.approx(other[key]) for key in one)
    assert found == plain
    alone = simulate(50, np.random.default_rng(1), share=0.0)
    check_refused("the variant 'treated' has 0 users", experiment_report, alone, "control", SHARES)


@pytest.mark.parametrize(("metric", "under"), [("like_rate", "impressions"), ("likes_per_user", None)])
def test_always_valid_bounds_follow_from_the_users_of_each_variant(metric: str, under: str | None) -> None:
    """By the delta method, from variants that are not equally large; none varies less than all users together."""
    users = simulate(1000, np.random.default_rng(6), effect=0.5, share=0.1)
    report = experiment_report(users, "control", {"control": 0.9, "treated": 0.1})
    (found,) = (each["always_valid"] for each in report["comparisons"] if each["metric"] == metric)

    def ratio_and_variance(group: pl.DataFrame) -> tuple[float, float]:
        likes = group["likes"].to_numpy()
        of = np.ones(len(likes)) if under is None else group[under].to_numpy()
        ratio = likes.sum() / of.sum()
        return ratio, ((likes - ratio * of) / of.mean()).var(ddof=1)

    difference = variance = 0.0
    for sign, name in ((1, "treated"), (-1, "control")):
        group = users.filter(pl.col("variant") == name)
        ratio, own = ratio_and_variance(group)
        difference += sign * ratio
        variance += max(own, ratio_and_variance(users)[1]) / len(group)
    half = confidence_sequence(variance, 1000)
    assert found == pytest.approx((difference - half, difference + half))


def test_a_confidence_sequence_is_that_of_the_paper() -> None:
    """Waudby-Smith et al., equation (14), and as tight as can be at the sample size that it is made for."""
    rho2 = (2 * np.log(1 / 0.05) + np.log(2 * np.log(1 / 0.05) + 1)) / 5000
    sizes = np.array([100, 1000, 5000, 20_000, 100_000])
    found = np.array([confidence_sequence(4.0 / n, int(n)) for n in sizes])
    wanted = 2.0 * np.sqrt((sizes * rho2 + 1) / (sizes**2 * rho2) * np.log((sizes * rho2 + 1) / 0.05**2))
    assert found == pytest.approx(wanted)
    assert (found * np.sqrt(sizes)).argmin() == 2


@pytest.mark.parametrize("shown", [1, 30])
def test_users_who_are_all_alike_say_nothing_of_the_error_of_a_difference(shown: int) -> None:
    """One of eight pairs of two users so looks like a difference that is certain."""
    counts = {"impressions": [shown, 3 * shown] * 2, "likes": [0, 0, shown, 3 * shown], "dislikes": [0] * 4}
    before = dict.fromkeys(("impressions_before", "likes_before", "dislikes_before"), [0] * 4)
    users = pl.DataFrame({"variant": ["control"] * 2 + ["treated"] * 2, "first": range(4), **counts, **before})
    users = users.with_columns(propensity=0.5)
    report = experiment_report(users, "control", SHARES)
    bounds = {each["metric"]: each["always_valid"] for each in report["comparisons"]}
    assert "always valid: – to –" in report_text({"experiment": "x", **report})
    assert bounds["like_rate"] == bounds["dislike_rate"] == (None, None)
    varied = users.with_columns(likes=pl.Series([0, 0, shown, 2 * shown]))
    (found,) = (e["always_valid"] for e in experiment_report(varied, "control", SHARES)["comparisons"][:1])
    assert found[0] < 0 < found[1]


@pytest.mark.filterwarnings("error")
def test_a_metric_that_does_not_vary_is_told_as_unknown_and_leaves_the_others_corrected() -> None:
    users = simulate(2000, np.random.default_rng(4), effect=0.2).with_columns(dislikes=0, dislikes_before=0)
    report = experiment_report(users, "control", SHARES)
    json.dumps(report, allow_nan=False)
    found = {each["metric"]: each for each in report["comparisons"]}
    unknown = found.pop("dislike_rate")
    assert [unknown[name] for name in ("relative", "low", "pvalue", "pvalue_corrected")] == [None] * 4
    pvalues = sorted(each["pvalue"] for each in found.values())
    corrected = sorted(each["pvalue_corrected"] for each in found.values())
    assert corrected == pytest.approx([min(1 - (1 - pvalues[0]) ** 2, pvalues[1]), pvalues[1]])
    assert "dislike_rate         – [–, –]  p –" in report_text({"experiment": "x", **report})
    silent = experiment_report(users.with_columns(likes=0), "control", SHARES)
    assert {each["pvalue_corrected"] for each in silent["comparisons"]} == {None}


def test_interleaving() -> None:
    rows = {"user": [1, 1, 2, 2, 3, 4, 5, 5], "request": list("11223455"), "variant": list("ababbbab")}
    requests = pl.DataFrame({**rows, "likes": [0, 1, 1, 0, 1, 1, 1, 1], "dislikes": [0, 0, 0, 0, 0, 0, 0, 0]})
    found = interleaving_report(requests, ("a", "b"))
    assert (found["wins"], found["ties"]) == ({"a": 1, "b": 3}, 1)
    assert (found["request_wins"], found["request_ties"]) == (found["wins"], found["ties"])
    assert found["share"] == 0.75
    bounds = binomtest(3, 4).proportion_ci(0.95, method="wilson")
    assert (found["low"], found["high"]) == pytest.approx((bounds.low, bounds.high))
    assert interleaving_report(requests.head(0), ("a", "b"))["share"] is None


def test_what_is_reported_of_a_log_is_the_others_against_the_first_variant(tmp_path: Path) -> None:
    variants = {"z": {"share": 0.5}, "a": {"share": 0.5}}
    split = parse_experiment("split", {"variants": variants})
    mixed = parse_experiment("mixed", {"variants": variants, "interleave": True})
    log = TrafficLog(tmp_path / "traffic.sqlite")
    for n in range(12):
        user, both = f"u{n}", [[("mixed", "z", 0.5)], [("mixed", "a", 0.5)]]
        log.write([Shown(f"s{n}", user, ["x", "y"], n, "v1", [[("split", "za"[n % 2], 0.5)]])])
        log.write([Shown(f"m{n}", user, ["p", "q"], n, "v1", both)])
        log.outcome([(user, "q", 1, n), *([(user, "x", 1, n)] if n % 2 and n > 4 else [])])
    found = report_of(log, "mixed", mixed)
    assert (found["experiment"], found["wins"], found["share"]) == ("mixed", {"z": 0, "a": 12}, 1.0)
    found = report_of(log, "split", split)
    assert (found["experiment"], found["control"], found["variants"]["a"]["likes"]) == ("split", "z", 4)
    assert [(each["variant"], each["difference"] > 0) for each in found["comparisons"][::2]] == [("a", True)] * 2
    log.close()


def test_one_user_of_many_requests_is_one_vote() -> None:
    """A user that asks a hundred times is no evidence about others."""
    heavy = pl.DataFrame(
        {"user": [1] * 100, "request": [f"h{i}" for i in range(100)], "variant": ["b"] * 100, "likes": [1] * 100}
    )
    others = pl.DataFrame(
        {"user": [2, 3, 4, 4], "request": ["x", "y", "z", "w"], "variant": list("aaab"), "likes": [1] * 4}
    )
    found = interleaving_report(pl.concat([heavy, others]).with_columns(dislikes=0), ("a", "b"))
    assert (found["wins"], found["ties"]) == ({"a": 2, "b": 1}, 1)
    assert (found["request_wins"], found["request_ties"]) == ({"a": 3, "b": 101}, 0)
    assert found["share"] == pytest.approx(1 / 3)
    assert found["pvalue"] == 1


def test_a_dislike_speaks_against_a_ranking() -> None:
    rows = {"user": [1, 1, 2, 2, 3], "request": list("11223"), "variant": list("ababa")}
    requests = pl.DataFrame({**rows, "likes": [0, 0, 1, 1, 0], "dislikes": [1, 0, 1, 0, 2]})
    found = interleaving_report(requests, ("a", "b"))
    assert found["request_wins"] == found["wins"] == {"a": 0, "b": 3}


@pytest.mark.parametrize("wrong", [(0.0, 0.1, 10.0), (0.1, 0.0, 10.0), (0.1, 0.1, 0.0)])
def test_power_needs_sensible_values(wrong: tuple[float, float, float]) -> None:
    check_refused("power needs", users_needed, *wrong)
    check_refused(r"makes a rate of -0\.1 of 0\.1", users_needed, 0.1, -2.0, 10.0)
