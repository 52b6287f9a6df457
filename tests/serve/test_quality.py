"""Live quality, and the dashboard that shows it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from service_calls import all_written, items, send
from sklearn.metrics import roc_auc_score

import recbole_signed
from recbole_signed.live.serve.maintenance import Maintenance
from recbole_signed.live.serve.quality import BINS, MINUTE, Case, LiveQuality, RecentShare

CASES = st.lists(
    st.builds(
        Case,
        sign=st.sampled_from([1, -1]),
        position=st.none() | st.integers(0, 19),
        percentile=st.integers(0, BINS - 1).map(lambda bin_: (bin_ + 0.5) / BINS),
        version=st.sampled_from(["v1", "v2"]),
        variant=st.sampled_from(["", "a=b"]),
        edges=st.integers(0, 30),
    ),
    min_size=1,
    max_size=60,
)


@given(CASES)
def test_figures(cases: list[Case]) -> None:
    quality = LiveQuality()
    for case in cases:
        quality.add([case], 5 * MINUTE)
    found = quality.figures(5 * MINUTE)["hour"]["all"]
    likes, dislikes = ([case for case in cases if case.sign == sign] for sign in (1, -1))
    assert (found["likes"], found["dislikes"]) == (len(likes), len(dislikes))
    if likes:
        gains = [0.0 if case.position is None else 1 / np.log2(case.position + 2) for case in likes]
        assert found["ndcg"] == pytest.approx(np.mean(gains))
        assert found["recall"] == pytest.approx(np.mean([case.position is not None for case in likes]))
    if dislikes:
        assert found["dislike_recall"] == pytest.approx(np.mean([case.position is not None for case in dislikes]))
    if likes and dislikes:
        truth, score = [case.sign > 0 for case in cases], [case.percentile for case in cases]
        assert found["sign_auc"] == pytest.approx(roc_auc_score(truth, score))
    else:
        assert found["sign_auc"] is None
    for by in ("version", "variant", "group"):
        parts = quality.figures(5 * MINUTE, by)["day"]
        assert sum(part["likes"] for part in parts.values()) == len(likes)


def test_windows_curves_and_groups() -> None:
    quality = LiveQuality()
    hit, miss = (Case(1, position, 0.5, "v", "", 3) for position in (0, None))
    quality.add([miss], 0)
    quality.add([hit], 90 * MINUTE)
    now = 95 * MINUTE
    assert quality.figures(now)["hour"]["all"]["recall"] == 1.0
    assert quality.figures(now)["day"]["all"]["recall"] == 0.5
    assert [(each["time"], each["recall"]) for each in quality.curve(now)] == [(0, 0.0), (90 * MINUTE, 1.0)]
    quality.add([hit], 24 * 60 * MINUTE)  # a day later the first is gone
    assert quality.figures(24 * 60 * MINUTE)["day"]["all"]["likes"] == 2
    assert [Case(1, None, 0, "", "", n).group for n in (0, 1, 9, 10)] == ["new", "light", "light", "heavy"]


@pytest.mark.parametrize(("window", "minutes"), [("hour", 60), ("day", 24 * 60)])
def test_a_window_is_so_many_minutes(window: str, minutes: int) -> None:
    quality = LiveQuality()
    quality.add([Case(1, 0, 0.5, "v", "", 3)], 7 * MINUTE)
    assert quality.figures((7 + minutes) * MINUTE - 1)[window]["all"]["likes"] == 1
    assert quality.figures((7 + minutes) * MINUTE)[window] == {}


def test_a_clock_that_was_ahead_leaves_nothing() -> None:
    quality = LiveQuality()
    hit, miss = (Case(1, position, 0.5, "v", "", 3) for position in (0, None))
    quality.add([miss], 10**6 * MINUTE)
    for minute in (3, 4, 5, 4):  # corrected, and set back by a minute once more
        quality.add([hit], minute * MINUTE)
    assert quality.figures(5 * MINUTE)["hour"]["all"] == {**quality.figures(5 * MINUTE)["day"]["all"], "likes": 4}
    assert quality.figures(5 * MINUTE)["hour"]["all"]["recall"] == 1.0
    assert [each["likes"] for each in quality.curve(5 * MINUTE)] == [4]
    assert quality.figures(4 * MINUTE)["hour"]["all"]["likes"] == 3
    for minute in range(5, 5000):
        quality.add([hit], minute * MINUTE)
    assert len(quality._buckets) == 24 * 60


def test_a_share_is_that_of_the_last_hour() -> None:
    now = 0.0
    share = RecentShare(lambda: now)
    assert share.update(0, 0)[0] is None
    assert share.update(1, 4) == (0.25, 4)
    part = whole = 0
    for _ in range(24 * 60):  # a day without, asked for each minute
        now, whole = now + 60, whole + 10
        assert share.update(part, whole)[0] == 0
    for minute in range(1, 121):  # then every second is one
        now, part, whole = now + 60, part + 5, whole + 10
        assert share.update(part, whole)[0] == pytest.approx(0.5 * min(minute, 60) / 60, abs=0.01)
    now += 86_400
    assert share.update(part, whole)[0] is None  # nothing since
    assert share.update(part + 1, whole + 2)[0] is None or share.update(part + 1, whole + 2)[0] == 0.5
    assert len(share._noted) <= 62
    assert share.update(0, 0)[0] is None  # a counter fell


@pytest.mark.parametrize(("cases", "alert"), [(2, 0.0), (1, 1.0)])
def test_a_single_verdict_is_no_alert(serve: Callable[..., TestClient], cases: int, alert: float) -> None:
    client = serve(quality={"alert_cases": cases})
    engine = client.engine  # type: ignore[attr-defined]
    client.post("/v1/events", json={"events": [{"user_id": "1", "item_id": "never seen", "type": "like"}]})
    engine._dislikes = lambda: (1.0, 1.0)
    gauges = {name: value for name, (_, value) in engine.gauges().items()}
    assert (gauges["unknown_item_share"], gauges["dislikes_per_impression"]) == (1.0, 1.0)
    assert (gauges["alert_unknown_items"], gauges["alert_dislike_rate"]) == (alert, alert)


def test_users_who_were_forgotten_are_not_counted(client: TestClient) -> None:
    before = client.get("/v1/status").json()["users"]
    client.post("/v1/events", json={"events": [{"user_id": "new", "item_id": "1", "type": "like"}]})
    assert client.get("/v1/status").json()["users"] == before + 1
    client.delete("/v1/users/1").raise_for_status()
    assert client.get("/v1/status").json()["users"] == before
    assert f"recbole_signed_users {before}.0" in client.get("/metrics").text


ROOT = Path(recbole_signed.__file__).parents[1]
DASHBOARD = ROOT / "docs" / "_static" / "grafana.json"
OF_PROMETHEUS = {"instance", "le", "process"}
"""Labels that Prometheus adds, those of a histogram's buckets, and what the processes of ``--workers`` add."""


def test_dashboard_and_alerts_name_only_metrics_that_exist(client: TestClient) -> None:
    engine = client.engine  # type: ignore[attr-defined]
    assert Maintenance(engine, engine.settings.schedule).run("snapshot").error is None
    for user, kind in (("1", "like"), ("2", "dislike"), ("3", "like")):
        send(client, user, items(client, user, k=1)[0], kind)
    all_written(engine)
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    content = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in content["panels"] for target in panel["targets"]]
    asked.append(content["templating"]["list"][1]["query"]["query"])
    assert len(asked) > 20
    alerts = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text(encoding="utf-8"))
    rules = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    elsewhere = ("up{", "recbole_signed_stream_behind_events")  # the latter of services with a stream: see test_feed.py
    asked += [each for each in rules if not each.startswith(elsewhere)]
    for expression in asked:
        names = re.findall(r"recbole_signed_\w+", expression)
        assert names, expression
        for name in names:
            assert name in labels, name
            used = set(re.findall(r"(\w+)=~?\"", expression)) | {
                each.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for each in group.split(",")
            }
            assert used - OF_PROMETHEUS <= labels[name], expression
    for panel in content["panels"]:
        for target in panel["targets"]:
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            name = re.findall(r"recbole_signed_\w+", target["expr"])[0]
            assert shown - OF_PROMETHEUS <= labels[name], target


def test_legends_tell_instances_and_processes_apart() -> None:
    content = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    for panel in content["panels"]:
        for target in panel["targets"]:
            summed = re.search(r"by \(([^)]*)\)", target["expr"])
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            if summed is None:  # one curve a process
                assert {"instance", "process"} <= shown, target
            else:
                assert {each.strip() for each in summed[1].split(",")} - {"le"} == shown, target
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends)) == len(legends)
