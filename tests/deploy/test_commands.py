"""What ``deploy/`` holds: the image, the unit, the proxy, the rules of the monitoring."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from prometheus_client.parser import text_string_to_metric_families

from recbole_signed.cli.app import app
from recbole_signed.live.serve.settings import ServeSettings
from recbole_signed.live.serve.start import GRACE

STATE, SETTINGS, KEYS = (
    "/var/lib/recbole-signed/state",
    "/etc/recbole-signed/service.yaml",
    "/etc/recbole-signed/keys.txt",
)


def options(words: list[str]) -> dict[str, Any]:
    """What a command line of the program gives; a wrong word raises."""
    root: Any = typer.main.get_command(app)
    return dict(root.commands[words[0]].make_context(words[0], words[1:]).params)


def instructions(text: str) -> dict[str, list[str]]:
    """Instructions of a Dockerfile by name, continued lines joined."""
    found: dict[str, list[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            found.setdefault(name, []).append(rest.strip())
    return found


def kubernetes(deploy: Path) -> dict[str, Any]:
    documents = yaml.safe_load_all((deploy / "kubernetes.yaml").read_text(encoding="utf-8"))
    return {each["kind"]: each for each in documents}


def test_the_image_and_the_unit_serve_a_state(deploy: Path) -> None:
    lines = instructions((deploy / "Dockerfile").read_text(encoding="utf-8"))
    assert json.loads(lines["ENTRYPOINT"][0]) == ["recbole-signed"]
    given = options(json.loads(lines["CMD"][0]))
    assert (str(given["state"]), str(given["config"])) == (STATE, SETTINGS)
    assert (given["host"], given["port"]) == ("0.0.0.0", int(lines["EXPOSE"][0]))
    assert STATE.startswith(lines["VOLUME"][0])
    assert lines["USER"] == ["10001:10001"]
    check = json.loads(lines["HEALTHCHECK"][0].split("CMD ")[1])
    assert check[:2] == ["python3", "-c"]
    compile(check[2], "healthcheck", "exec")
    assert f"http://127.0.0.1:{lines['EXPOSE'][0]}/healthz" in check[2]
    text = (deploy / "recbole-signed.service").read_text(encoding="utf-8")
    unit = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    program, *words = shlex.split(unit["ExecStart"])
    assert program == "/opt/recbole-signed/bin/recbole-signed"
    given = options(words)
    assert str(given["state"]) == f"/var/lib/{unit['StateDirectory']}/state" == STATE
    assert (str(given["config"]), given["host"], given["port"]) == (SETTINGS, "127.0.0.1", 8080)
    assert int(unit["TimeoutStopSec"]) > GRACE


def test_the_image_copies_what_it_needs_and_settings_are_valid(deploy: Path) -> None:
    # and no data, state or key that lies in the clone
    root = deploy.parent
    lines = instructions((deploy / "Dockerfile").read_text(encoding="utf-8"))
    copied = {word for line in lines["COPY"] if "--from" not in line for word in line.split()[:-1]}
    ignore = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied == {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert [name for name in copied if not (root / name).exists()] == []
    settings = ServeSettings.read(deploy / "service.yaml")
    assert str(settings.keys) == KEYS
    nginx = (deploy / "nginx.conf").read_text(encoding="utf-8")
    assert re.findall(r"client_max_body_size (\d+);", nginx) == [str(settings.limits.body_bytes)]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit(deploy: Path, tmp_path: Path) -> None:
    program = tmp_path / "recbole-signed"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = (deploy / "recbole-signed.service").read_text(encoding="utf-8")
    unit = tmp_path / "recbole-signed.service"
    unit.write_text(text.replace("/opt/recbole-signed/bin/recbole-signed", str(program)))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert (done.returncode, [line for line in done.stderr.splitlines() if unit.name in line]) == (0, [])
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    safe = subprocess.run(words, capture_output=True, text=True)  # a threshold of 20 is an exposure of 2.0
    assert safe.returncode == 0, safe.stdout


def test_kubernetes_runs_one_writer(deploy: Path) -> None:
    found = kubernetes(deploy)
    spec = found["StatefulSet"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["replicas"] == 1
    assert spec["serviceName"] == found["Service"]["metadata"]["name"]
    assert (
        spec["selector"]["matchLabels"]
        == spec["template"]["metadata"]["labels"]
        == found["Service"]["spec"]["selector"]
    )
    given = options(container["args"])
    assert (str(given["state"]), str(given["config"]), given["host"]) == (STATE, SETTINGS, "0.0.0.0")
    (port,) = container["ports"]
    assert given["port"] == port["containerPort"] == found["Service"]["spec"]["ports"][0]["port"]
    assert port["name"] == found["Service"]["spec"]["ports"][0]["targetPort"]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: each["path"] for name, each in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {each["port"] for each in probes.values()} == {port["name"]}
    assert pod["terminationGracePeriodSeconds"] > GRACE


def test_kubernetes_mounts_what_the_command_names(deploy: Path, tmp_path: Path) -> None:
    found = kubernetes(deploy)
    spec = found["StatefulSet"]["spec"]
    pod = spec["template"]["spec"]
    mounts = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    volumes = {each["name"] for each in pod["volumes"]} | {
        each["metadata"]["name"] for each in spec["volumeClaimTemplates"]
    }
    assert set(mounts) == volumes
    assert str(Path(STATE).parent) == mounts["state"]
    assert str(Path(SETTINGS).parent) == mounts["settings"]
    (sources,) = [each["projected"]["sources"] for each in pod["volumes"] if "projected" in each]
    assert {"configMap": {"name": found["ConfigMap"]["metadata"]["name"]}} in sources
    assert {"secret": {"name": "recbole-signed-keys"}} in sources
    assert "Secret" not in found, "keys do not belong into a file that is kept with the code"
    (tmp_path / "service.yaml").write_text(found["ConfigMap"]["data"]["service.yaml"])
    assert str(ServeSettings.read(tmp_path / "service.yaml").keys) == KEYS


promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def rules(deploy: Path) -> list[dict[str, Any]]:
    document = yaml.safe_load((deploy / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


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
    examples = {each["alertname"] for g in document["tests"] for each in g["alert_rule_test"] if each["exp_alerts"]}
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
