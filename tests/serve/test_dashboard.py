"""The Grafana dashboard asks for metrics that the service has, with labels that these have."""

import json
import re
from pathlib import Path

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

import recbole_signed

DASHBOARD = Path(recbole_signed.__file__).parents[1] / "docs" / "_static" / "grafana.json"
OF_PROMETHEUS = {"instance", "le", "process"}
"""Labels that Prometheus adds, those of a histogram's buckets, and what the processes of ``--workers`` add."""


def test_it_names_only_metrics_that_exist(client: TestClient) -> None:
    maintenance = client.engine.telemetry  # type: ignore[attr-defined]
    maintenance.maintenance_seconds.labels("refit").set(1)
    maintenance.maintenance_failed.labels("refit").set(0)
    for user, kind in (("1", "like"), ("2", "dislike"), ("3", "like")):
        item = client.get(f"/v1/users/{user}/recommendations?k=1").json()["items"][0]["item"]
        client.post("/v1/events", json={"events": [{"user_id": user, "item_id": item, "type": kind}]})
    client.engine.impressions.close()  # type: ignore[attr-defined]
    client.engine.impressions = None  # type: ignore[attr-defined]
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    content = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in content["panels"] for target in panel["targets"]]
    asked.append(content["templating"]["list"][1]["query"]["query"])
    assert len(asked) > 20
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
