"""Scripts run in forks as they would in processes of their own, and like the tests on one thread."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from warm_python import Done, WarmPython

THREADS = "import torch; print(torch.get_num_threads())"


@pytest.fixture
def run(warm_python: WarmPython, tmp_path: Path) -> Callable[[str], Done]:
    def write_and_run(code: str) -> Done:
        (tmp_path / "script.py").write_text(code)
        return warm_python.run(tmp_path / "script.py", cwd=tmp_path)

    return write_and_run


def test_a_script_is_a_program_of_one_thread_and_its_end_is_told(run: Callable[[str], Done], tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("import sys\nsys.beside = 'imported'\n")
    done = run("import beside, os, sys\nprint(__name__, sys.beside, sys.argv == [__file__], os.getcwd())")
    assert (done.status, done.out.split(), done.err) == (0, ["__main__", "imported", "True", str(tmp_path)], "")
    done = run("import sys\nprint(hasattr(sys, 'beside'), 'recbole' in sys.modules, 'recbole_signed' in sys.modules)")
    assert done.out.split() == ["False"] * 3
    failed = run("print('before')\nraise ValueError('no luck')")
    assert (failed.status, failed.out) == (1, "before\n")
    assert failed.err.splitlines()[-1] == "ValueError: no luck"
    assert run("raise SystemExit(3)").status == 3
    assert run("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)").status == -9
    assert run("print('still there')").out == "still there\n"
    assert torch.get_num_threads() == 1
    assert run(THREADS).out == "1\n"
