"""Assignment is sticky, independent and proportional; files are read and refused; interleaving is fair."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from refusals import check_refused
from scipy.stats import chi2_contingency, chisquare
from service_calls import experiments_of as of

from recbole_signed.errors import UsageError
from recbole_signed.live.learners import make_learner
from recbole_signed.live.serve.experiments import Experiments, Policy, merged_parameters, parse_experiment, team_draft
from recbole_signed.live.serve.schemas import Aversion
from recbole_signed.plugin import ranges
from recbole_signed.plugin.ranges import RANGES

USERS = [f"user {i}" for i in range(4000)]


def make(**changes: object) -> dict[str, object]:
    variants = {"control": {"share": 0.5}, "careful": {"share": 0.5, "parameters": {"dislike_aversion": 0.5}}}
    return {"variants": variants, **changes}


def changing(**parameters: float) -> dict[str, object]:
    return make(variants={"a": {"share": 0.5}, "b": {"share": 0.5, "parameters": parameters}})


def test_users_keep_their_variant_and_shares_hold() -> None:
    shares = {"a": 0.2, "b": 0.3, "c": 0.5}
    experiments = of(test=make(variants={name: {"share": share} for name, share in shares.items()}))
    first = [experiments.assign(user, True)[0] for user in USERS]
    again = [experiments.assign(user, True)[0] for user in USERS]
    assert first == again
    counts = [sum(each.variant == name for each in first) for name in shares]
    assert chisquare(counts, [share * len(USERS) for share in shares.values()]).pvalue > 1e-3
    assert {each.propensity for each in first if each.variant == "a"} == {0.2}


def test_experiments_are_independent_and_a_ramp_keeps_users() -> None:
    both = of(one=make(), other=make(variants={"x": {"share": 0.5}, "y": {"share": 0.5}}))
    pairs = [[each.variant for each in both.assign(user, True)] for user in USERS]
    table = [[sum(pair == [a, b] for pair in pairs) for b in "xy"] for a in ("control", "careful")]
    assert chi2_contingency(table).pvalue > 1e-3
    small = {user: of(one=make(share=0.1)).assign(user, True) for user in USERS}
    large = {user: of(one=make(share=0.6)).assign(user, True) for user in USERS}
    assert 0.07 < np.mean([bool(each) for each in small.values()]) < 0.13
    assert all(large[user] == small[user] for user in USERS if small[user])


def test_shares_hold_among_the_users_of_a_small_part() -> None:
    """Who takes part says nothing about the variant."""
    experiments = of(one=make(share=0.2))
    found = [each.variant for user in USERS for each in experiments.assign(user, True)]
    assert chisquare([found.count(name) for name in ("control", "careful")]).pvalue > 1e-3


def test_a_salt_and_not_the_name_decides_who_gets_what() -> None:
    plain = {"x": {"share": 0.5}, "y": {"share": 0.5}}
    experiments = of(one=make(variants=plain, salt="s"), two=make(variants=plain, salt="s"), s=make(variants=plain))
    for user in USERS[:100]:
        assert len({each.variant for each in experiments.assign(user, True)}) == 1


def test_only_running_experiments_and_segments_assign() -> None:
    assert of(one=make(status="stopped")).assign("u", True) == []
    assert of(one=make(segment="new")).assign("u", True) == []
    found = of(one=make(segment="new")).assign("u", False)
    assert merged_parameters(found) in ({}, {"dislike_aversion": 0.5})


def test_conflicts_are_refused() -> None:
    check_refused("both change dislike_aversion", of, one=make(), other=make())
    experiments = of(one=make())
    check_refused("both change dislike_aversion", experiments.put, "other", parse_experiment("other", make()))
    assert [name for name, _ in experiments] == ["one"]
    of(one=make(), other=make(status="draft"))
    young = {"plain": {"share": 0.5}, "young": {"share": 0.5, "young": 1.0}}
    check_refused("'one' and 'other' both change young", of, one=make(variants=young), other=make(variants=young))
    of(one=make(), other=make(variants=young))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (make(variants={"a": {"share": 0.5}}), "at least 2"),
        (make(variants={"a": {"share": 0.5}, "b": {"share": 0.4}}), "sum to 0.9"),
        (changing(dislike_aversio=1), "did you mean"),
        (changing(dislike_strength=-1), "0 or more"),
        (changing(dislike_strength=2), "at most 1"),
        (changing(dislike_aversion=101), "most 100"),
        (make(shares=1), "shares"),
        (make(status="started"), "draft"),
        (make(interleave=True, variants={n: {"share": s} for n, s in (("a", 0.2), ("b", 0.3), ("c", 0.5))}), "two"),
        ("no experiment", "experiment 'x'"),
    ],
)
def test_wrong_experiments_are_refused_in_a_sentence(raw: object, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        parse_experiment("x", raw)
    assert "\n" not in str(error.value)


def test_changes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    experiments = Experiments.read(path)
    experiments.put("one", parse_experiment("one", make()))
    experiments.change("one", share=0.25, status="stopped")
    again = Experiments.read(path)
    assert (again["one"].share, again["one"].status) == (0.25, "stopped")
    check_refused("did you mean 'one'", again.__getitem__, "onee")
    path.write_text("experiments: [1]")
    check_refused("must map names", Experiments.read, path)
    path.write_text("experiments: {a: !!python/object/apply:os.system ['true']}")
    check_refused("is not valid yaml", Experiments.read, path)


def test_what_somebody_else_writes_is_taken_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "experiments.yaml"
    writer, replica = Experiments.read(path), Experiments.read(path)
    writer.put("one", parse_experiment("one", make(status="draft")))
    path.write_text(path.read_text().replace("one:", "two:"))  # by hand
    for each in (writer, replica):
        each.reload()
        assert [name for name, _ in each] == ["two"]
    path.write_text(path.read_text().replace("two:", "three:"))
    writer.put("one", parse_experiment("one", make(status="draft")))
    assert [name for name, _ in Experiments.read(path)] == ["three", "one"]
    path.write_text(path.read_text().replace("three:", "three: ["))
    for _ in range(2):
        writer.reload()
        assert [name for name, _ in writer] == ["three", "one"]
        check_refused("is not valid yaml", writer.put, "two", parse_experiment("two", make(status="draft")))
    assert "The experiments stay as they were" in caplog.text
    assert "three: [" in path.read_text()
    path.write_text(path.read_text().replace("three: [", "four:"))
    writer.change("four", share=0.5)
    assert Experiments.read(path)["four"].share == 0.5


def test_changes_from_several_threads_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    experiments = Experiments(path=path)
    names = [f"e{i}" for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: experiments.put(name, parse_experiment(name, make(status="draft"))), names))
    assert {name for name, _ in Experiments.read(path)} == {name for name, _ in experiments} == set(names)


def test_what_can_not_be_kept_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    experiments = Experiments(path=tmp_path / "file" / "experiments.yaml")
    said = r"Keeping the experiments in .*experiments.yaml failed: Not a directory"
    check_refused(said, experiments.put, "one", parse_experiment("one", make()))
    assert list(experiments) == []


def test_running_experiments_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    def check(policy: Policy) -> None:
        if policy.parameters:
            raise UsageError("there is none.")

    experiments = of(one=make(status="draft"))
    experiments.refuse_by(check)
    with pytest.raises(UsageError, match="'careful' of the experiment 'one' does not fit the model: there is none"):
        experiments.change("one", status="running")
    assert experiments["one"].status == "draft"
    check_refused("'careful' of the experiment 'two' does not fit", of(two=make()).refuse_by, check)
    path = tmp_path / "experiments.yaml"
    followed = Experiments.read(path)
    followed.refuse_by(check)
    Experiments.read(path).put("one", parse_experiment("one", make()))
    followed.reload()
    assert list(followed) == []


@given(
    st.permutations(list("abcdefgh")), st.permutations(list("abcdefgh")), st.integers(1, 10), st.integers(0, 2**32 - 1)
)
def test_team_draft(one: list[str], other: list[str], k: int, seed: int) -> None:
    items, teams = team_draft([one, other], k, np.random.default_rng(seed))
    assert len(items) == len(teams) == min(k, 8)
    assert len(set(items)) == len(items)
    assert abs(teams.count(0) - teams.count(1)) <= 1
    for team, ranking in enumerate((one, other)):  # each picked its best items that were left
        picked = [item for item, who in zip(items, teams, strict=True) if who == team]
        assert picked == sorted(picked, key=ranking.index)


def test_team_draft_prefers_nobody() -> None:
    rng = np.random.default_rng(3)
    starts = [team_draft([["a"], ["b"]], 1, rng)[1][0] for _ in range(2000)]
    assert 0.45 < np.mean(starts) < 0.55


def test_a_request_has_the_range_of_dislike_aversion_that_all_have() -> None:
    allowed, request = RANGES["dislike_aversion"], TypeAdapter(Aversion)
    for value in (-0.1, 0.0, 3.0, 100.0, 100.1, float("inf"), float("nan")):
        with nullcontext() if allowed.holds(value) else pytest.raises(ValidationError):
            request.validate_python(value)


def test_the_push_of_an_older_file_warns_once_and_the_experiment_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """A file of before the strength had taken its place would have ended the service."""
    ranges._warn_once.cache_clear()
    old = {"share": 0.5, "parameters": {"dislike_push": 0.5, "dislike_aversion": 1.0}}
    found = [parse_experiment(name, make(variants={"a": {"share": 0.5}, "b": old})) for name in ("one", "two")]
    assert [each.variants["b"].parameters for each in found] == [{"dislike_aversion": 1.0}] * 2
    learner = make_learner("SSF", {"dislike_push": 1.0, "dislike_strength": 0.2})
    assert learner.dislike_strength == 0.2
    assert [each.getMessage() for each in caplog.records if "dislike_push" in each.getMessage()] == [
        "dislike_push has no effect any more: dislike_strength, 0 to 1, has taken its place."
    ]
