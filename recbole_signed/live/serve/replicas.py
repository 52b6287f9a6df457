"""Read replicas: they hand requests that change anything to the process that writes, which starts and watches them."""

from __future__ import annotations

import contextlib
import http.client
import logging
import string
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from recbole_signed.errors import UsageError
from recbole_signed.files import stamp
from recbole_signed.live.serve.problems import ProblemError, Turns

READING = frozenset(("GET", "HEAD", "OPTIONS"))  # change nothing; every route of another method needs a key
# a replica answers these itself although they are posted
READING_POSTS = frozenset(("/v1/recommendations", "/api/session/recommend"))
WRITER_ONLY = frozenset(("/v1/quality", "/v1/status", "/v1/models", "/v1/experiments"))  # what the writer alone knows
HANDED_ON = 8  # requests that are handed on at once; the writer takes what waits together
NO_WRITER = (
    "This is a read replica without a writer; ask the service that writes the state, or start the replica with "
    "--writer and its address."
)


def connection_to(address: str) -> http.client.HTTPConnection:
    """Return a connection to a service, which is made with its first request."""
    try:
        parts = urlsplit(address)
        kind = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}[parts.scheme]
        if parts.hostname:
            return kind(parts.hostname, parts.port, timeout=60)
    except (KeyError, ValueError, http.client.InvalidURL):
        pass
    raise UsageError(f"'{address}' is not an address; expected one like http://127.0.0.1:8080.")


class Forwarder:
    """Hands requests on to the writer; without an address it refuses them."""

    # metrics: whether the writer has those of this process too; wait: seconds until it is handed on
    def __init__(self, address: str | None, metrics: bool = False, wait: float = 2.0) -> None:
        self._address, self._metrics, self._turns = address, metrics, Turns(wait, HANDED_ON)
        if address is not None:
            connection_to(address)

    def wants(self, scope: Scope) -> bool:
        """Whether a request changes anything, or asks for what the writer alone knows."""
        path = scope["path"]
        if path in WRITER_ONLY or (path == "/metrics" and self._metrics) or path.startswith("/v1/experiments/"):
            return True
        return scope["method"] not in READING and path not in READING_POSTS

    async def send(self, request: Request) -> Response:
        """Return the writer's response."""
        if self._address is None:
            raise ProblemError(503, NO_WRITER)
        try:
            body = await request.body()
        except ClientDisconnect:  # nobody waits for the answer, which is the one of other routes then
            raise ProblemError(400, "The body did not come to its end.") from None
        scope = request.scope
        raw = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        target = quote(raw, safe=string.punctuation)  # as it came: 'a%2520b' and 'a%20b' are two ids
        names = ("x-api-key", "authorization", "content-type")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        if request.client is not None:  # else all callers without a key would share one limit of requests there
            headers["x-forwarded-for"] = request.client.host
        try:
            return await self._turns.take(lambda: self._exchange(request.method, target, body, headers))
        except (OSError, http.client.HTTPException) as error:
            raise ProblemError(503, f"The writer does not answer: {error}.", 1.0) from error

    def _exchange(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Response:
        with contextlib.closing(connection_to(str(self._address))) as connection:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            kept = {name: value for name in ("Content-Type", "Retry-After") if (value := answer.headers.get(name))}
            return Response(answer.read(), answer.status, kept)


_logger = logging.getLogger(__name__)
LOOK = 0.5  # seconds between looks at the processes
SILENT = 20.0  # seconds without a sign of life, after the first one, until a replica is killed
END = 30.0  # seconds in which a replica has to end once it is told to
# seconds until a replica is started again; twice as long after each that lived for less than the second
PAUSE, LONGEST_PAUSE = 1.0, 60.0


class ReplicaProcesses:
    """Replicas, each with a file for its metrics; a thread starts again those that end, and kills the silent ones."""

    def __init__(
        self,
        command: Sequence[str],
        files: Sequence[Path],  # written again and again by each while it answers
        restarted: Callable[[], None],
        stopping: Callable[[], bool],  # then none is started again: signals often reach all of them
    ) -> None:
        self._replicas = [_Replica([*command, "--metrics", str(file)], file) for file in files]
        self._restarted, self._stopping = restarted, stopping
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="replicas", daemon=True)

    def start(self) -> None:
        """Start them."""
        for replica in self._replicas:
            replica.start()
        self._thread.start()

    def stop(self) -> None:
        """End them, and wait until they have."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()  # nothing is started from here on
        running = [replica.process for replica in self._replicas if replica.process is not None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(END)
            except subprocess.TimeoutExpired:  # it only reads, so that nothing is lost
                process.kill()
                process.wait()

    def _watch(self) -> None:
        while not (self._stop.wait(LOOK) or self._stopping()):
            for replica in self._replicas:
                if replica.look():
                    self._restarted()


class _Replica:
    def __init__(self, command: Sequence[str], file: Path) -> None:
        self._command, self._file, self._pause = command, file, PAUSE
        self._started = self._due = 0.0  # by the monotonic clock; the second counts where there is no process
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process, self._started = subprocess.Popen(self._command), time.monotonic()
        self._newest, self._silent = stamp(self._file), -1  # looks without a sign of life since the first one

    def look(self) -> bool:
        """Look after the process; return whether it was started again."""
        if self.process is None:
            if time.monotonic() >= self._due:
                try:
                    self.start()
                    return True
                except OSError as error:
                    self._postpone(f"can't be started: {error.strerror or error}")
        elif self.process.poll() is not None:
            self._postpone(f"ended with status {self.process.returncode}")
        else:
            self._kill_silent(self.process)
        return False

    def _kill_silent(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a process after too long a silence; looks are counted, as the whole service may have been stopped."""
        newest = stamp(self._file)
        if newest != self._newest:
            self._newest, self._silent = newest, 0
        elif self._silent >= 0:  # else it has shown none yet: a large state takes long to open
            self._silent += 1
        if self._silent * LOOK >= SILENT:
            _logger.error("a read replica does not answer any more; it is killed")
            process.kill()
            self._silent = -1

    def _postpone(self, why: str) -> None:
        now = time.monotonic()
        if now - self._started >= LONGEST_PAUSE:
            self._pause = PAUSE
        _logger.error("a read replica %s; it is started again in %.0f s", why, self._pause)
        self.process, self._due = None, now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
