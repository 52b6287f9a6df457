"""Alerts and dashboard ask for what a running service measures, and the files of compose hang together."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

METRIC = re.compile(r"recbole_signed_\w+")
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def rules(deploy: Path) -> list[dict[str, Any]]:
    document = yaml.safe_load((deploy / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def test_a_service_has_every_metric_asked_for(service: str, deploy: Path, ask: Callable[..., tuple[int, str]]) -> None:
    asked = {name for rule in rules(deploy) for name in METRIC.findall(rule["expr"])}
    dashboard = (deploy.parent / "docs" / "_static" / "grafana.json").read_text(encoding="utf-8")
    asked |= set(METRIC.findall(dashboard))
    assert len(asked) > 20
    asked.remove(
        "recbole_signed_stream_behind_events"
    )  # of services that follow a stream, see tests/serve/test_feed.py
    events = []
    for user, kind in (("1", "like"), ("2", "dislike"), ("3", "like"), ("4", "dislike")):
        shown = json.loads(ask(f"{service}/v1/users/{user}/recommendations?k=1")[1])
        events.append({"user_id": user, "item_id": shown["items"][0]["item"], "type": kind})
    deadline = time.monotonic() + 120
    missing = asked
    while missing and time.monotonic() < deadline:  # impressions are written, and the state maintained, beside it
        status, answer = ask(f"{service}/v1/events", json.dumps({"events": events}).encode())
        assert status == 200, answer
        time.sleep(1)
        families = text_string_to_metric_families(ask(f"{service}/metrics")[1])
        missing = asked - {sample.name for family in families for sample in family.samples}
    assert missing == set()


def test_alerts_have_labels_of_metrics_and_an_example_each(
    service: str, deploy: Path, ask: Callable[..., tuple[int, str]]
) -> None:
    ask(f"{service}/v1/users/1/recommendations?k=1")
    routes = {
        sample.labels["route"]
        for family in text_string_to_metric_families(ask(f"{service}/metrics")[1])
        for sample in family.samples
        if sample.name == "recbole_signed_request_seconds_count"
    }
    named = {name for rule in rules(deploy) for name in re.findall(r'route="([^"]+)"', rule["expr"])}
    assert named
    assert named <= routes
    document = yaml.safe_load(Path(__file__).with_name("alerts_test.yml").read_text(encoding="utf-8"))
    examples = {
        each["alertname"] for group in document["tests"] for each in group["alert_rule_test"] if each["exp_alerts"]
    }
    assert examples == {rule["alert"] for rule in rules(deploy)}


@promtool
def test_prometheus_takes_its_files(deploy: Path, tmp_path: Path) -> None:
    key = tmp_path / "prometheus_key"
    key.write_text("a key")
    text = (deploy / "prometheus.yml").read_text(encoding="utf-8")
    assert "credentials_file: /run/secrets/prometheus_key" in text
    (tmp_path / "prometheus.yml").write_text(text.replace("/run/secrets/prometheus_key", str(key)))
    shutil.copy(deploy / "alerts.yml", tmp_path)
    words = ["promtool", "check", "config", "--lint=all", "--lint-fatal", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_each_alert_fires_when_it_should(deploy: Path, tmp_path: Path) -> None:
    shutil.copy(deploy / "alerts.yml", tmp_path)
    tests = Path(__file__).with_name("alerts_test.yml")
    shutil.copy(tests, tmp_path)
    done = subprocess.run(["promtool", "test", "rules", str(tmp_path / tests.name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_of_compose_are_there(deploy: Path) -> None:
    text = (deploy / "compose.yaml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    services, secrets = document["services"], document["secrets"]
    for each in services.values():
        for volume in each["volumes"]:
            source = volume.split(":")[0]
            assert source in document["volumes"] or (deploy / source).exists(), source
        for secret in each["secrets"]:
            assert (secret if isinstance(secret, str) else secret["source"]) in secrets
    build = services["service"]["build"]
    assert (deploy / build["context"] / build["dockerfile"]).resolve() == deploy / "Dockerfile"
    arguments = set(re.findall(r"^ARG (\w+)=", (deploy / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(build["args"]) <= arguments
    scrape = yaml.safe_load((deploy / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"][0]
    assert scrape["static_configs"][0]["targets"] == ["service:8080"]
    assert scrape["authorization"] == {"credentials_file": "/run/secrets/prometheus_key"}
    assert {each["file"].split("/")[0] for each in secrets.values()} == {"secrets"}
    assert "/deploy/secrets/" in (deploy.parent / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_grafana_is_given_the_dashboard(deploy: Path) -> None:
    grafana = yaml.safe_load((deploy / "compose.yaml").read_text(encoding="utf-8"))["services"]["grafana"]
    mounted = dict(reversed(each.split(":")[:2]) for each in grafana["volumes"])
    dashboards = yaml.safe_load((deploy / "grafana" / "dashboards.yml").read_text(encoding="utf-8"))
    folder = dashboards["providers"][0]["options"]["path"]
    assert mounted[f"{folder}/recbole-signed.json"] == "../docs/_static/grafana.json"
    sources = yaml.safe_load((deploy / "grafana" / "datasources.yml").read_text(encoding="utf-8"))["datasources"]
    assert [each["type"] for each in sources] == ["prometheus"]
