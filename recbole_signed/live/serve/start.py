"""How a service starts: a first state from a fitted model, and the process that answers."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np  # noqa: F401  # its BLAS has to be loaded before it can be limited
import scipy.linalg  # noqa: F401
import torch
from threadpoolctl import threadpool_limits

from recbole_signed.errors import MissingExtraError, UsageError
from recbole_signed.files import LOCK, DirectoryLock, require_file
from recbole_signed.live import OnlineRecommender
from recbole_signed.live.replica import OnlineReplica
from recbole_signed.live.serve.catalogue import FILE, Catalogue
from recbole_signed.live.serve.keys import ApiKeys, is_loopback
from recbole_signed.live.serve.settings import ServeSettings
from recbole_signed.live.store.backup import refuse_target
from recbole_signed.live.store.database import LOG
from recbole_signed.live.store.event_log import EventLog
from recbole_signed.live.store.settings import StateSettings
from recbole_signed.live.store.state import VERSIONS
from recbole_signed.live.store.versions import Versions
from recbole_signed.memory import hold_memory_down
from recbole_signed.progress import report_progress

try:
    import uvicorn

    from recbole_signed.live.serve.app import make_app
    from recbole_signed.live.serve.connections import BeatingServer, bounded
    from recbole_signed.live.serve.engine import Engine
    from recbole_signed.live.serve.experiments import Experiments
    from recbole_signed.live.serve.maintenance import Maintenance
    from recbole_signed.live.serve.middleware import LocalHosts
    from recbole_signed.live.serve.replicas import ReplicaProcesses
    from recbole_signed.live.serve.telemetry import METRICS_SUFFIX
except ImportError:  # the extra 'serve', which run_service names
    uvicorn = None  # type: ignore[assignment]

_logger = logging.getLogger(__name__)
EXPERIMENTS = "experiments.yaml"
# a state has these files before its first version
_BEGUN = re.compile(rf"{LOCK}|SEQ|{re.escape(LOG)}(-\w+)?|{VERSIONS}|base-.*")
SWITCH = 0.0005  # seconds after which a thread hands the interpreter on: Python's 5 ms are much of an answer's time
METRICS_INTERVAL = 2.0  # seconds between the writes of metrics by a replica
BACKLOG = 1024  # connections that may wait to be accepted
GRACE = 10  # seconds that requests under way have at the end; one whose body never comes would hold it up


def init_state(
    model: str,
    dataset: Any,
    directory: Path,
    parameters: Mapping[str, Any] | None = None,
    names: str | None = None,  # column of the `.item` file with what people call items; `title` or `name` if None
) -> None:
    """Fit a model to all of a data set and begin a state; open ``parameters`` are chosen on held-out likes first."""
    from recbole_signed import api  # imports RecBole, which a service of most states does without

    refuse_directory(directory)
    called = api.read_item_names(dataset, names)
    _begin(api.fit(model, dataset, **(parameters or {})), directory, called)


def init_from_model(file: Path, directory: Path, names: str | None = None) -> None:
    """Begin a state with a fitted model that ``save`` wrote, or a checkpoint; ``names`` as in :func:`init_state`."""
    from recbole_signed import api

    refuse_directory(directory)
    fitted = api.load(file)
    _begin(fitted, directory, api.read_item_names(fitted, names))


def _begin(fitted: Any, directory: Path, called: Mapping[str, str]) -> None:
    if directory.exists():
        _clear(directory)
    with report_progress(f"beginning the state {directory}"):
        fitted.online(directory).close()
    if called:
        with contextlib.closing(Catalogue(directory / FILE)) as catalogue:
            catalogue.put_names(called)


def can_begin(directory: Path) -> bool:
    """Whether a state can begin in a folder: it is empty, or holds one without a first version, which took no event."""
    if not directory.exists():
        return True
    if not directory.is_dir() or any(not _BEGUN.fullmatch(path.name) for path in directory.iterdir()):
        return False
    if Versions(directory / VERSIONS).names():
        return False
    if not (directory / LOG).exists():
        return True
    with contextlib.closing(EventLog(directory / LOG, read_only=True)) as log:
        return log.last_seq == log.base_seq == 0


def refuse_directory(directory: Path) -> None:
    """Refuse a folder in which no state can begin, before anything is read or fitted for it."""
    if not can_begin(directory):
        raise UsageError(f"{directory} is not empty; serve it without --init and --model, or name another folder.")
    there = next(folder for folder in (directory.absolute(), *directory.absolute().parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{there} can't be written by this user, so no state can begin in {directory}.")


def _clear(directory: Path) -> None:
    """Remove what the beginning of a state has left, unless another process is at it, or has come first."""
    with contextlib.closing(DirectoryLock(directory)):
        refuse_directory(directory)
        for path in directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()


def listening_socket(host: str, port: int, shared: bool = False) -> socket.socket:
    """Return a socket that listens, with port 0 to any that is free; ``shared``: with other processes of this user."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # with the protocol named, asyncio turns Nagle's algorithm off, which costs 40 ms an answer beside delayed ACKs
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise UsageError(
            f"can't listen on {host}:{port}: {error.strerror or error}; give another --host or --port."
        ) from error
    return made


def run_service(
    directory: Path,
    host: str = "127.0.0.1",
    port: int = 8080,
    settings: ServeSettings | None = None,
    ready: Callable[[str], None] | None = None,
    *,
    workers: int = 1,  # processes behind the port: this one, and read replicas
    config: Path | None = None,  # the yaml file of the settings, which replicas read too
) -> None:
    """Write and answer until told to stop (Ctrl-C or SIGTERM, then SystemExit); what waits is finished first."""
    settings, keys = _checked(host, settings)
    if settings.backup is not None:  # else each round of the schedule would fail
        refuse_target(directory, settings.backup)
    if workers > 1 and ServeSettings.read(config) != settings:
        raise UsageError(
            f"read replicas read their settings from {config or 'no file'}, and would have others than this process, "
            "such as no keys; give as config the yaml file that the settings were read from."
        )
    hold_memory_down()
    compute_on_one_thread()
    with contextlib.ExitStack() as stack:
        state = StateSettings(max_id_length=settings.limits.id_length)
        recommender = OnlineRecommender.open(directory, settings=state)
        stack.callback(recommender.close)
        if workers > 1:  # a shared port would be given to a second service too, and each would get a part of the events
            listening_socket(host, port).close()
        sockets = [stack.enter_context(listening_socket(host, port, workers > 1))]
        port = sockets[0].getsockname()[1]
        engine = stack.enter_context(contextlib.closing(_engine(recommender, settings, directory)))
        maintenance = Maintenance(engine, settings.schedule)
        stack.callback(maintenance.stop)
        server = _server(make_app(engine, keys, maintenance), keys, settings)
        if workers > 1:  # once catalogue and impressions have their files: only one process can make them
            sockets.append(stack.enter_context(listening_socket("127.0.0.1", 0)))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recbole-signed-metrics-")))
            engine.telemetry.others = folder
            words = ["--state", str(directory), "--host", host, "--port", str(port), "--follow"]
            words += ["--writer", f"http://127.0.0.1:{sockets[1].getsockname()[1]}", "--parent", str(os.getpid())]
            words += [] if config is None else ["--config", str(config)]
            replicas = ReplicaProcesses(
                [sys.executable, "-m", "recbole_signed", "serve", *words],
                [folder / f"replica-{number}{METRICS_SUFFIX}" for number in range(1, workers)],
                engine.telemetry.replica_restarts.inc,
                lambda: server.should_exit,
            )
            stack.callback(replicas.stop)
            replicas.start()
        maintenance.start()
        _run(server, sockets, host, port, ready)


def run_replica(
    directory: Path,
    host: str = "127.0.0.1",
    port: int = 8080,
    settings: ServeSettings | None = None,
    ready: Callable[[str], None] | None = None,
    writer: str | None = None,
    parent: int | None = None,
    metrics: Path | None = None,  # from which the process ``parent`` reads them; else this process shows them
) -> None:
    """Answer from a state that another process writes, until told to stop; no changes are taken without ``writer``."""
    settings, keys = _checked(host, settings)
    hold_memory_down()
    compute_on_one_thread()
    with contextlib.ExitStack() as stack:
        replica = stack.enter_context(contextlib.closing(OnlineReplica(directory)))
        bound = stack.enter_context(listening_socket(host, port, shared=parent is not None))
        engine = stack.enter_context(contextlib.closing(_engine(replica, settings, directory)))
        app = make_app(engine, keys, writer=writer, hand_metrics_on=metrics is not None)
        server = _server(app, keys, settings)
        if metrics is not None and parent is not None:
            attend = partial(_attend, engine, server, metrics, parent)
            threading.Thread(target=attend, name="metrics", daemon=True).start()
        _run(server, [bound], host, bound.getsockname()[1], ready)


def _attend(engine: Engine, server: Any, metrics: Path, parent: int) -> None:
    """Write the metrics of a replica every few seconds while its event loop runs; end it with its parent process."""
    failed, beat = False, -1
    while not server.should_exit:
        try:
            if server.beat != beat:
                beat = server.beat
                engine.telemetry.write(metrics)
            failed = False
        except Exception as error:  # the folder goes with the writer; whatever it is, answers go on
            if not failed:
                _logger.warning("The metrics of a read replica are not up to date: %s", error)
            failed = True
            with contextlib.suppress(OSError):
                os.utime(metrics)  # a full disk is no reason to be killed
        time.sleep(METRICS_INTERVAL)
        if os.getppid() != parent:
            server.should_exit = True


def refuse_address(host: str, port: int, settings: ServeSettings | None = None) -> None:
    """Refuse what :func:`run_service` would refuse, before a first state is made for it."""
    _checked(host, settings)
    listening_socket(host, port).close()


def _checked(host: str, settings: ServeSettings | None) -> tuple[ServeSettings, ApiKeys]:
    if uvicorn is None:
        raise MissingExtraError("the service", "serve")
    settings = settings or ServeSettings()
    if settings.experiments is not None:  # that of the state is made with the first experiment
        require_file(settings.experiments, "the file of experiments")
        Experiments.read(settings.experiments)
    keys = ApiKeys(settings.keys)
    if not keys.required and not is_loopback(host):
        raise UsageError(
            f"without API keys the service listens on a loopback address alone, not on {host}; make a key with "
            "'recbole-signed api-key' and name its file under 'keys' in the service's yaml."
        )
    return settings, keys


def _engine(source: OnlineRecommender | OnlineReplica, settings: ServeSettings, directory: Path) -> Engine:
    experiments = Experiments.read(settings.experiments or directory / EXPERIMENTS)
    return Engine(source, settings, experiments, directory)


def _server(app: Any, keys: ApiKeys, settings: ServeSettings) -> Any:
    if not keys.required:
        app.add_middleware(LocalHosts, also=settings.allow_hosts)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=bounded(settings.limits.connections),
        ws="none",
        lifespan="off",
        log_level="error",  # what callers do wrong is told to them, and would fill the log
        access_log=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE,
    )
    return BeatingServer(config)


def _run(server: Any, sockets: list[socket.socket], host: str, port: int, ready: Callable[[str], None] | None) -> None:
    """Serve until told to stop."""
    sys.setswitchinterval(SWITCH)
    gc.collect()
    gc.freeze()  # what is there now stays; looking through it again and again would hold up answers
    if ready is not None:
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    server.run(sockets=sockets)


def announce(address: str, keys: bool) -> None:
    """Say on standard error where the service answers."""
    guard = "" if keys else " Without API keys everybody on this machine may use it."
    sys.stderr.write(f"Serving on {address} (documentation: {address}/docs).{guard} Stop with Ctrl-C.\n")
    sys.stderr.flush()


def compute_on_one_thread() -> None:
    """Let matrix products run on the calling thread: a request took 6.1 ms of processor time with two, 2.8 with one."""
    torch.set_num_threads(1)
    threadpool_limits(limits=1)
