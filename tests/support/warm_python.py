"""A Python that has imported what takes seconds, but neither RecBole nor this package; it runs each script in a fork.

What a script finds is what it would find in a process of its own, as long as it doesn't ask how long torch takes to
import, or whether it was imported. Run as a program this file is the process that forks; `WarmPython` talks to it.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# without polars: its threads don't survive a fork, and a child that has it from its parent may wait for them as it ends
SLOW_IMPORTS = (
    "torch",
    "torch._dynamo",  # the first optimiser imports it
    "torch.utils.tensorboard",
    "pandas",
    "scipy.stats",
    "sklearn.metrics",
)
TIMEOUT = 240
"""Seconds after which a script is ended by SIGALRM."""


@dataclass(frozen=True)
class Done:
    """How a script ended: its exit status (minus the signal if one ended it) and what it wrote."""

    status: int
    out: str
    err: str


class WarmPython:
    """The process, from the first script on; ``close`` ends it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._count = 0

    def run(self, script: Path, *, cwd: Path, path: Sequence[Path] = ()) -> Done:
        """Run a script as ``python script`` would, with folders more on the module path."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        self._count += 1
        out, err = (self._folder / f"{self._count}.{name}" for name in ("out", "err"))
        words = {"script": script, "cwd": cwd, "out": out, "err": err}
        request = {**{key: str(value) for key, value in words.items()}, "path": [str(each) for each in path]}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that forks has ended"
        return Done(int(answer), out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate(timeout=TIMEOUT)


def _become(script: str, cwd: str, out: str, err: str, path: list[str]) -> None:
    """Be the child: run the script as the program of this process, which ends with it."""
    signal.alarm(TIMEOUT)
    for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        opened = os.open(name, flags | (os.O_CREAT if flags else 0), 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    sys.argv = [script]
    sys.path[:1] = [str(Path(script).parent), *path]
    runpy.run_path(script, run_name="__main__")


def _serve() -> None:
    """Fork for each request that is read, and answer with the status of the child."""
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    assert not [name for name in sys.modules if name.partition(".")[0] in ("recbole", "recbole_signed")]
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            _become(**json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
