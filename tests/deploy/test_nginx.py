"""The real nginx with the file of the deployment, in front of a real service."""

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

NAME = "ratings.example"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/sbin:/bin")
pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]
Ask = Callable[..., tuple[int, dict[str, str], bytes]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def proxy(service: str, deploy: Path, tmp_path: Path, new_caller: Callable[[], str]) -> Iterator[Ask]:
    """Ask through nginx; the file of the deployment with ports, paths and the address of the service replaced."""
    plain, secure = free_port(), free_port()
    words = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}", "-keyout", "tls.key"]
    names = ["-addext", f"subjectAltName=DNS:{NAME}", "-out", "tls.crt"]
    subprocess.run(["openssl", "req", *words, *names], cwd=tmp_path, check=True, capture_output=True)
    text = (deploy / "nginx.conf").read_text(encoding="utf-8")
    for old, new in {
        "127.0.0.1:8080": urlsplit(service).netloc,
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "listen 443 ssl;": f"listen 127.0.0.1:{secure} ssl;",
        "listen [::]:80;": "",
        "listen [::]:443 ssl;": "",
        f"/etc/nginx/tls/{NAME}": str(tmp_path / "tls"),
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    (tmp_path / "site.conf").write_text(text)
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "main.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log {tmp_path}/access.log;\n{temporary}include {tmp_path}/site.conf;\n}}\n"
    )
    command = [str(NGINX), "-p", str(tmp_path), "-c", str(tmp_path / "main.conf"), "-e", str(tmp_path / "error.log")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr
    process = subprocess.Popen(command)
    trusted = ssl.create_default_context(cafile=str(tmp_path / "tls.crt"))

    def ask(
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        host: str = NAME,
        source: str | None = None,
        tls: bool = True,
        **headers: str,
    ) -> tuple[int, dict[str, str], bytes]:
        raw = socket.create_connection(("127.0.0.1", secure if tls else plain), 60, (source or new_caller(), 0))
        connection = http.client.HTTPConnection(NAME, timeout=60)
        connection.sock = trusted.wrap_socket(raw, server_hostname=NAME) if tls else raw
        given = {"Host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, path, body, {"Content-Type": "application/json", **given})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content

    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                ask("GET", "/healthz")
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "error.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield ask
    finally:
        process.terminate()
        process.wait(30)


def test_a_slash_in_an_id_survives(proxy: Ask) -> None:
    """And so do two of them, a dot between slashes, and a percent sign."""
    for item, path in (("a/b", "a%2Fb"), ("a//b", "a%2F%2fb"), ("a/../b", "a%2F..%2Fb"), ("a%2Fb", "a%252Fb")):
        events = {"events": [{"user_id": "u/1", "item_id": item, "type": "like"}]}
        status, _, body = proxy("POST", "/v1/events", json.dumps(events).encode())
        assert (status, json.loads(body)["accepted"]) == (200, 1)
        tags = json.dumps({"tags": [item]}).encode()
        assert proxy("PUT", f"/v1/items/{path}", tags)[0] == 200
        assert json.loads(proxy("GET", f"/v1/items/{path}")[2])["tags"] == [item]
    assert json.loads(proxy("GET", "/v1/users/u%2F1/recommendations?k=3")[2])["known_user"]


def test_no_log_of_the_proxy_names_a_user(proxy: Ask, tmp_path: Path) -> None:
    for tls in (True, False):
        proxy("GET", "/v1/users/somebody/recommendations?k=1", tls=tls)
    assert not any(b"somebody" in path.read_bytes() for path in tmp_path.rglob("*.log"))


def test_a_caller_is_limited_by_its_own_address(proxy: Ask) -> None:
    """Whatever address it says that it has."""
    caller, other = "127.0.0.2", "127.0.0.3"
    assert proxy("GET", "/v1/popular?k=1", source=caller)[0] == 200
    status, headers, _ = proxy("GET", "/v1/popular?k=1", source=caller, X_Forwarded_For="10.0.0.1")
    assert (status, "retry-after" in headers) == (429, True)
    assert proxy("GET", "/v1/popular?k=1", source=other)[0] == 200


def test_what_the_proxy_lets_through(proxy: Ask) -> None:
    assert proxy("GET", "/v1/popular?k=1")[0] == 200
    assert proxy("GET", "/v1/popular?k=1", host="evil.example")[0] == 421
    status, headers, _ = proxy("GET", "/v1/users/a%2Fb/recommendations?k=1", tls=False)
    assert (status, headers["location"]) == (308, f"https://{NAME}/v1/users/a%2Fb/recommendations?k=1")
    for path in ("/metrics", "/%6Detrics", "//metrics", "/x/../metrics"):
        assert proxy("GET", path)[0] == 404
    # one of the largest size reaches the service, which finds no events in it
    assert proxy("POST", "/v1/events", b" " * ((1 << 20) + 1))[0] == 413
    status, headers, _ = proxy("POST", "/v1/events", b" " * (1 << 20))
    assert (status, headers["content-type"]) == (422, "application/problem+json")
