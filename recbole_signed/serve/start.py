"""How a service starts: a first state from a fitted model, and the process that answers."""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recbole_signed.errors import MissingExtraError, UsageError
from recbole_signed.online import OnlineRecommender, OnlineTrainer
from recbole_signed.serve.settings import ServeSettings

EXPERIMENTS = "experiments.yaml"
BACKLOG = 1024
"""Connections that may wait to be accepted."""
_logger = logging.getLogger(__name__)


def init_state(model: str, dataset: str, directory: Path, parameters: Mapping[str, Any] | None = None) -> None:
    """Fit a model to all of a data set and begin a state with it.

    Args:
        model: name of a model.
        dataset: name or folder of a data set.
        directory: of the state, which must not be there yet.
        parameters: of the model; what they leave open is chosen on held-out likes first.

    Raises:
        UsageError: the state is there already, or the model or the data set are not.
    """
    from recbole_signed import api

    if directory.exists() and any(directory.iterdir()):
        raise UsageError(f"{directory} is not empty; serve it without --init, or name another folder.")
    fitted = api.fit(model, dataset, **(parameters or {}))
    fitted.config["online_state"] = str(directory)
    trainer = OnlineTrainer(fitted.config, fitted.model)
    try:
        trainer.start(fitted.dataset)
    finally:
        trainer.close()


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens; with port 0 to any that is free.

    Raises:
        UsageError: the address can't be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise UsageError(f"can't listen on {host}:{port}: {error.strerror or error}.") from error
    return made


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run_service(
    directory: Path,
    host: str = "127.0.0.1",
    port: int = 8080,
    settings: ServeSettings | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Answer until the process is told to stop (Ctrl-C or SIGTERM); what waits is finished first.

    Args:
        directory: of the state.
        host: address to listen on; without API keys a loopback address.
        port: 0 for any that is free.
        settings: of the service.
        ready: called with the address once it answers.

    Raises:
        UsageError: the state, the keys or the address are not usable.
        MissingExtraError: the extra ``serve`` is not installed.
    """
    started = time.perf_counter()
    try:
        import uvicorn

        from recbole_signed.serve.app import make_app
        from recbole_signed.serve.engine import Engine
        from recbole_signed.serve.maintenance import Maintenance
    except ImportError as error:
        raise MissingExtraError("the service", "serve") from error
    from recbole_signed.serve.experiments import Experiments
    from recbole_signed.serve.keys import ApiKeys

    settings = settings or ServeSettings()
    keys = ApiKeys(settings.keys)
    if not keys.required and not is_loopback(host):
        raise UsageError(
            f"without API keys the service listens on a loopback address alone, not on {host}; make a key with "
            "'recbole-signed api-key' and name its file under 'keys' in the service's yaml."
        )
    experiments = Experiments.read(settings.experiments or directory / EXPERIMENTS)
    trainer = OnlineRecommender.open(directory)
    bound = None
    try:
        bound = listening_socket(host, port)
        engine = Engine(trainer, settings, experiments, directory)
        maintenance = Maintenance(engine, settings.schedule)
        server = uvicorn.Server(
            uvicorn.Config(make_app(engine, keys, maintenance), log_level="warning", access_log=False, lifespan="off")
        )
        maintenance.start()
        address = f"http://{host}:{bound.getsockname()[1]}"
        _logger.info("started in %.1f s", time.perf_counter() - started)
        if ready is not None:
            ready(address)
        try:
            server.run(sockets=[bound])
        finally:
            maintenance.stop()
            engine.close()
    finally:
        if bound is not None:
            bound.close()
        trainer.close()


def announce(address: str, keys: bool) -> None:
    """Say on standard error where the service answers."""
    guard = "" if keys else " Without API keys everybody on this machine may use it."
    sys.stderr.write(f"Serving on {address} (documentation: {address}/docs).{guard} Stop with Ctrl-C.\n")
    sys.stderr.flush()
