"""A real Redis server for a test, on a port that is free."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Give the address of a server that runs in a folder until the block ends; skip the test where there is none."""
    pytest.importorskip("redis")
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed (Debian package redis-server)")
    import redis

    for _ in range(5):  # a port that was free may be another's by the time the server wants it
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        server = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        try:
            if _answers(redis.Redis(port=port), server):
                yield f"redis://127.0.0.1:{port}/0"
                return
        finally:
            server.terminate()
            server.wait(timeout=20)
    pytest.fail("redis-server did not start")


def _answers(client: Any, server: subprocess.Popen[bytes]) -> bool:
    """Wait for the answer of this very server."""
    import redis

    deadline = time.monotonic() + 30
    while server.poll() is None and time.monotonic() < deadline:
        try:
            return client.info("server")["process_id"] == server.pid
        except redis.ConnectionError:
            time.sleep(0.05)
    return False
