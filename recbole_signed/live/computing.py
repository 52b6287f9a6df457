"""Where a fit or a refresh is computed: in this process, or in one of its own that leaves this one its interpreter."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from recbole_signed.live.learners.base import Learner
from recbole_signed.live.store.edges import EdgeArrays

Compute = Callable[[Learner, str, EdgeArrays, int, int], tuple[Learner, Any]]
"""Calls a learner's ``fit`` or ``refresh`` with edges and sizes; returns the learner then, and what the method did."""
LARGE = 2_000_000  # edges from which on a fit in this process would hold up its other threads for too long
NICE = 10  # how far a process that computes steps back behind those that answer


class ComputingEndedError(RuntimeError):
    """The process of a fit or a refresh was ended from outside; the model is what it was."""


def compute_here(learner: Learner, method: str, edges: EdgeArrays, n_users: int, n_items: int) -> tuple[Learner, Any]:
    """Compute in this process."""
    return learner, getattr(learner, method)(edges, n_users, n_items)


class ComputeBySize:
    """Computes in a process of its own where there are :data:`LARGE` edges or more, here where its start takes longer.

    The process has a low priority, and ends with this one.
    """

    def __init__(self) -> None:
        self._process: BaseProcess | None = None

    def __call__(
        self, learner: Learner, method: str, edges: EdgeArrays, n_users: int, n_items: int
    ) -> tuple[Learner, Any]:
        """Compute, see :data:`Compute`."""
        if len(edges.item) < LARGE:
            return compute_here(learner, method, edges, n_users, n_items)
        context = get_context("spawn")  # a fork would copy locks that other threads hold
        ours, theirs = context.Pipe()
        process = context.Process(target=_compute, args=(theirs,), name=method, daemon=True)
        process.start()
        self._process = process
        theirs.close()
        try:
            _send(ours, (learner, method, edges, n_users, n_items))
            done, result = _receive(ours)
        except (EOFError, OSError) as error:
            process.join()
            raise ComputingEndedError(f"the process of the {method} ended with status {process.exitcode}") from error
        finally:
            ours.close()
            process.join()
        if not done:
            raise result
        computed: tuple[Learner, Any] = result
        return computed

    def end(self) -> None:
        """End the process that computes, if there is one; its caller gets a :class:`ComputingEndedError`."""
        if self._process is not None:
            self._process.terminate()


def _compute(connection: Connection) -> None:
    """Compute what the other side sends, in the new process."""
    os.nice(NICE)
    learner, *rest = _receive(connection)
    try:
        answer = True, compute_here(learner, *rest)
    except Exception as error:  # is raised on the other side
        answer = False, error  # type: ignore[assignment]
    _send(connection, answer)


class _Pickler(pickle.Pickler):
    """Lets tensors pass as arrays do; by themselves they are copied into the pickle."""

    def reducer_override(self, content: Any) -> Any:
        plain = type(content) is torch.Tensor and content.device.type == "cpu" and content.layout is torch.strided
        if not plain or content.requires_grad or content.dtype is torch.bfloat16:
            return NotImplemented
        return torch.from_numpy, (content.numpy(),)


def _send(connection: Connection, content: object) -> None:
    """Send a pickle, its arrays beside it: writing them leaves the interpreter to others."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = io.BytesIO()
    _Pickler(pickled, protocol=5, buffer_callback=buffers.append).dump(content)
    connection.send(len(buffers))
    connection.send_bytes(pickled.getbuffer())
    for buffer in buffers:
        connection.send_bytes(buffer.raw())


def _receive(connection: Connection) -> Any:
    """Receive what :func:`_send` sent."""
    n = connection.recv()
    content = connection.recv_bytes()
    return pickle.loads(content, buffers=[bytearray(connection.recv_bytes()) for _ in range(n)])
