"""What many tests share: where data lies, small signed data sets, and quiet runs that leave nothing behind."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

# the tests' matrices are small: a second thread only waits for the first, most of all on a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest
from warm_python import WarmPython

import recbole_signed  # noqa: F401  (installs the plugin before any test module imports RecBole)

# examples may take as long as they need on a busy machine; CI draws the same ones each time, developers new ones
hypothesis.settings.register_profile("developer", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "developer")

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
SIGNED_COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole writes log/, log_tensorboard/ and saved/ into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])  # RecBole reads the command line of whatever runs it


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ``run_recbole`` watches the processor for a whole second, for a line of its log."""
    monkeypatch.setattr("psutil.cpu_percent", lambda interval=None, percpu=False: 0.0)


@pytest.fixture(autouse=True)
def _warnings_are_logged() -> None:
    """RecBole's ``state`` sets the level of the root logger, and the next run in this process would keep it."""
    logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """Runs scripts in fresh processes that need not wait for torch."""
    process = WarmPython(tmp_path_factory.mktemp("warm"))
    yield process
    process.close()


@pytest.fixture
def repository() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """A folder of real data beside the repository; the test skips where it is not there."""

    def find(name: str) -> Path:
        folder = SHARED_DATA / name
        if not folder.exists():
            pytest.skip(f"the real data {name} is not beside the repository")
        return folder

    return find


@pytest.fixture
def toy_root() -> Path:
    """The folder that holds the committed toy set."""
    return ROOT / "atomic_files"


@pytest.fixture
def toy(tmp_path: Path) -> str:
    """The name of the planted set, which is where the converters write."""
    from recbole_signed.convert import convert

    convert("toy", None, tmp_path / "atomic_files")
    return "toy-signed"


@pytest.fixture
def write_inter(tmp_path: Path) -> Callable[..., Path]:
    """Write an atomic ``.inter`` file under ``tmp_path/dataset`` and return its folder."""

    def write(name: str, columns: Iterable[str], rows: Iterable[Iterable[Any]], part: str | None = None) -> Path:
        folder = tmp_path / "dataset" / name
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["\t".join(columns), *("\t".join(map(str, row)) for row in rows)]
        file = f"{name}.{part}.inter" if part else f"{name}.inter"
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder

    return write


@pytest.fixture
def signed_rows() -> list[tuple[int, int, int, int]]:
    """Rows (user, item, sign, time) of 60 users and 50 items, each pair once, in order of time."""
    rng = np.random.default_rng(5)
    keys = rng.permutation(60 * 50)[:1500]
    signs = rng.choice([1, -1, 0], len(keys), p=[0.5, 0.3, 0.2])
    times = np.sort(rng.integers(1_600_000_000, 1_600_900_000, len(keys)))
    return [
        (int(key // 50), int(key % 50), int(sign), int(time))
        for key, sign, time in zip(keys, signs, times, strict=True)
    ]


@pytest.fixture
def signed(write_inter: Callable[..., Path], signed_rows: list) -> str:
    """The name of a data set of :func:`signed_rows`, where RecBole looks for it."""
    write_inter("signed", SIGNED_COLUMNS, signed_rows)
    return "signed"


@pytest.fixture
def quick() -> dict[str, Any]:
    """Settings for a run of a second or two."""
    return {
        "epochs": 2, "show_progress": False, "state": "ERROR", "topk": [10, 20], "metrics": ["Recall", "NDCG"],
        "valid_metric": "NDCG@10",
    }  # fmt: skip


@pytest.fixture
def prepare_model(write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path) -> Callable[..., Any]:
    """Return a function of a model's name and RecBole's keys that gives the model, the configuration and the parts."""
    from prepared import prepared
    from recbole.utils import get_model

    def make(name: str, **config: Any) -> tuple[Any, Any, tuple[Any, Any, Any]]:
        write_inter("small", SIGNED_COLUMNS, signed_rows)
        given = {
            "data_path": str(tmp_path / "dataset"),
            "load_col": {"inter": ["user_id", "item_id", "sign", "timestamp"]},
            "state": "INFO",
            "checkpoint_dir": str(tmp_path / "saved"),
            **config,
        }
        settings, _, parts = prepared("small", name, **given)
        return get_model(name)(settings, parts[0]._dataset), settings, parts

    return make
