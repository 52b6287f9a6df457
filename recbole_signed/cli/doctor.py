"""What `recbole-signed doctor` finds out, in a child process and a temporary folder, where no harm is done."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

PACKAGES = (
    *("recbole-signed", "recbole", "torch", "torch-geometric", "numpy", "scipy", "pandas", "polars", "setuptools"),
    *("optuna", "hyperopt", "ray", "faiss", "lightgbm", "xgboost", "torch-sparse", "kmeans-pytorch", "psutil"),
)
"""Distributions whose versions are told; all but the first eight may be missing."""

TIMEOUT = 300.0  # seconds after which the examination counts as failed; it takes about ten

_DISTRIBUTIONS = {"faiss": ("faiss-cpu", "faiss-gpu", "faiss"), "ray": ("ray", "ray-cpp")}
_LEAST_AUC = 0.8  # of what training did not see; chance is 0.5


@dataclass(frozen=True)
class Finding:
    """Something about this installation that a user should know."""

    level: Literal["error", "warning", "info"]
    """``error``: results would be wrong or a run fails; ``info``: something optional is missing."""
    what: str
    cure: str


@dataclass(frozen=True)
class SelfTest:
    """The outcome of a short training on planted data."""

    status: Literal["ok", "failed", "skipped"]
    reason: str
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All that was found; ``ok`` is false where there is an error or the self test failed."""

    ok: bool
    python: str
    platform: str
    cores: int
    memory_bytes: int
    device: str | None
    versions: Mapping[str, str | None]
    recbole_gnn: str | None  # the folder of RecBole-GNN, where it is importable
    ray: str  # absent, working or broken (with the reason); RecBole runs with each of them
    repairs: Mapping[str, str]  # repair of `recbole_signed.compat.repairs` at work here -> why
    findings: tuple[Finding, ...]
    self_test: SelfTest

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


def diagnose(self_test: bool = True) -> Report:
    """Examine this installation; ``self_test`` also trains BPR. A broken one is an outcome, not an exception."""
    from recbole_signed.runs.provenance import cores

    installed = _versions()
    start = time.perf_counter()
    seen = _examine_in_child(self_test)
    seconds = time.perf_counter() - start
    findings = [*check(installed, sys.version_info[:2]), *(Finding(**entry) for entry in seen.get("findings", ()))]
    if "failure" in seen:
        test = SelfTest("failed", seen["failure"], seconds)
    elif self_test:
        test = SelfTest("ok", seen["outcome"], seconds, seen["metrics"])
    else:
        test = SelfTest("skipped", "not asked for; what RecBole imports was imported")
    return Report(
        ok=test.status != "failed" and all(finding.level != "error" for finding in findings),
        python=platform.python_version(),
        platform=platform.platform(),
        cores=cores(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        device=seen.get("device"),
        versions=installed,
        recbole_gnn=_folder("recbole_gnn"),
        ray=seen.get("ray", "absent" if installed["ray"] is None else "not examined"),
        repairs=seen.get("repairs", {}),
        findings=tuple(findings),
        self_test=test,
    )


def render(report: Report) -> str:
    """Return the report as plain text."""
    present = {name: number for name, number in report.versions.items() if number is not None}
    absent = [name for name, number in report.versions.items() if number is None]
    width = max(map(len, [*present, *report.repairs]), default=0)
    test = report.self_test
    lines = [
        f"recbole-signed doctor: {'everything works' if report.ok else 'something is wrong'}",
        "",
        f"Python {report.python}, {report.platform}, {report.cores} cores, "
        f"{report.memory_bytes / 2**30:.1f} GiB memory, device {report.device or 'unknown'}",
        *(f"  {name:{width}}  {number}" for name, number in present.items()),
        f"  not installed: {', '.join(absent) or '-'}",
        f"  ray: {report.ray}",
        f"  RecBole-GNN: {report.recbole_gnn or 'not importable'}",
        "",
        "Repairs of RecBole at work here" + ("" if report.repairs else ": none"),
        *(f"  {name:{width}}  {reason}" for name, reason in report.repairs.items()),
        "",
        "Findings" + ("" if report.findings else ": none"),
        *(f"  {finding.level}: {finding.what}; {finding.cure}." for finding in report.findings),
        "",
        f"Self test: {test.status} ({test.seconds:.1f} s): {test.reason}",
    ]
    if test.metrics:
        lines.append("  " + ", ".join(f"{name} {value:.4f}" for name, value in test.metrics.items()))
    return "\n".join(lines)


# ---- versions ----


def check(versions: Mapping[str, str | None], python: tuple[int, int]) -> list[Finding]:
    """Return what is known of a combination of versions (``PACKAGES`` -> version, or None if missing)."""
    parts = {name: re.findall(r"\d+", (number or "").partition("+")[0])[:3] for name, number in versions.items()}
    have = {name: None if versions[name] is None else tuple(map(int, part)) for name, part in parts.items()}
    recbole, pandas, hyperopt = have.get("recbole"), have.get("pandas"), have.get("hyperopt")
    findings: list[Finding] = []

    def add(level: Literal["error", "warning", "info"], what: str, cure: str) -> None:
        findings.append(Finding(level, what, cure))

    if not (3, 10) <= python < (3, 14):
        add("error", f"Python {python[0]}.{python[1]} is not supported", "use Python 3.10 to 3.13")
    if recbole is None:
        add("error", "RecBole is not installed", "pip install 'recbole>=1.2,<1.3'")
    elif not (1, 2) <= recbole < (1, 3):
        add("error", f"RecBole {versions['recbole']} is not supported", "pip install 'recbole>=1.2,<1.3'")
    elif recbole < (1, 2, 1):
        for name in ("kmeans-pytorch", "psutil"):
            if have.get(name) is None:
                add("error", f"RecBole 1.2.0 imports {name} without declaring it", f"pip install {name}")
        add(
            "warning",
            "RecBole 1.2.0 (all that pip finds for Python 3.12 and newer) lacks AsymKNN, and its NGCF keeps dropout "
            "on at evaluation",
            "use Python 3.10 or 3.11 with RecBole 1.2.1 for a table with these two",
        )
    if pandas is not None and pandas >= (3,):
        add("error", f"pandas {versions['pandas']} corrupts RecBole's data silently", "pip install 'pandas<3'")
    if python >= (3, 12) and have.get("setuptools") is None:
        add("error", "RecBole counts FLOPs with thop, which imports distutils", "pip install setuptools")
    if hyperopt is None:
        add("info", "hyperopt is missing: no recbole.trainer.HyperTuning", "pip install hyperopt to use it")
    elif hyperopt >= (0, 2, 7):
        what = f"RecBole's exhaustive search fails with hyperopt {versions['hyperopt']} by itself"
        add("info", what, "nothing to do, this package repairs it")
    for name, package, models in (
        ("faiss", "faiss-cpu", "NCL"),
        ("lightgbm", "lightgbm", "LightGBM"),
        ("xgboost", "xgboost", "XGBoost"),
    ):
        if have.get(name) is None:
            add("info", f"{name} is missing: RecBole's {models} cannot run", f"pip install {package} to use it")
    return findings


def _versions() -> dict[str, str | None]:
    installed: dict[str, str | None] = {}
    for name in PACKAGES:
        installed[name] = None
        for distribution in _DISTRIBUTIONS.get(name, (name,)):
            try:
                installed[name] = version(distribution)
                break
            except PackageNotFoundError:
                continue
        if installed[name] is None and find_spec(name.replace("-", "_")) is not None:
            own = name == "recbole-signed"  # on PYTHONPATH; others may break when they are imported
            installed[name] = import_module("recbole_signed").__version__ if own else "unknown"
    return installed


def _folder(package: str) -> str | None:
    spec = find_spec(package)
    return None if spec is None else next(iter(spec.submodule_search_locations or []), None)


# ---- the examination ----


def _examine_in_child(self_test: bool) -> dict[str, Any]:
    """Return what `examine` saw, or the ``failure`` of the process."""
    code = "import sys; from recbole_signed.cli.doctor import examine; examine(sys.argv[1] == 'True')"
    # the child finds what this process finds, a checkout in the current folder too
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    with tempfile.TemporaryDirectory(prefix="recbole-signed-doctor-") as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", code, str(self_test)],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": path},
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            return {"failure": f"the run did not end within {TIMEOUT:.0f} s"}
        result = Path(folder) / "result.json"
        if done.returncode == 0 and result.is_file():
            seen: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
            return seen
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no message")
    return {"failure": f"the process ended with status {done.returncode}: {last.strip()}"}


def examine(self_test: bool) -> None:
    """Import RecBole with the plugin, train if asked to, and write ``result.json`` to the current, temporary folder."""
    import recbole_signed  # noqa: F401  # installs the plugin
    from recbole_signed.compat import repairs as compat

    sys.argv[1:] = []  # RecBole reads the command line of whatever runs it
    seen: dict[str, Any] = {"findings": []}
    try:
        import recbole.model.abstract_recommender
        import recbole.quick_start
        import recbole.trainer  # noqa: F401
        import torch

        seen["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        if (finding := _list_indexing()) is not None:
            seen["findings"].append(asdict(finding))
        if self_test:
            seen["outcome"], seen["metrics"] = _train()
    except Exception as error:
        seen["failure"] = f"{type(error).__name__}: {error}"
    seen["repairs"] = compat.APPLIED
    seen["ray"] = _ray()
    Path("result.json").write_text(json.dumps(seen), encoding="utf-8")


def _list_indexing() -> Finding | None:
    """Whether torch still takes ``scores[[users, items]]`` for pairs: it has said that it will not."""
    import torch

    pair = torch.tensor([0, 1])
    if torch.zeros(2, 2)[[pair, pair]].shape == (2,):
        return None
    return Finding(
        "error",
        f"torch {torch.__version__} reads scores[[users, items]] differently, which RecBole's CDAE, MacridVAE, "
        "MultiDAE, MultiVAE, RaCT and RecVAE use to score single items",
        "evaluate these with mode: full, or install an older torch",
    )


def _train() -> tuple[str, dict[str, float]]:
    """Train BPR on the planted toy set; return the outcome and the metrics, or raise RuntimeError where it failed."""
    import logging

    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.data.transform import construct_transform
    from recbole.utils import get_environment, get_flops, get_model, get_trainer, init_seed

    from recbole_signed.convert import convert

    folder = convert("toy", None, "data")
    settings = {
        **{"data_path": "data", "state": "ERROR", "show_progress": False, "epochs": 10, "learning_rate": 0.05},
        **{"train_batch_size": 256, "metrics": ["Recall", "NDCG", "DislikeRecall", "SignAUC"], "topk": [10]},
        **{"valid_metric": "NDCG@10", "seed": 1},
    }
    config = Config("BPR", folder.name, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    _require(type(dataset).__name__ == "SignedDataset", "the plugin did not give RecBole its data set class")
    train, valid, test = data_preparation(config, dataset)
    model = get_model("BPR")(config, train._dataset).to(config["device"])
    get_flops(model, dataset, config["device"], logging.getLogger(), construct_transform(config))
    trainer = get_trainer(config["MODEL_TYPE"], "BPR")(config, model)
    trainer.fit(train, valid, verbose=False, saved=True)
    result = trainer.evaluate(test, load_best_model=True)
    get_environment(config)
    metrics = {name: float(value) for name, value in result.items()}

    auc = metrics["signauc"]
    _require(all(math.isfinite(value) for value in metrics.values()), f"a metric is not finite: {metrics}")
    _require(auc >= _LEAST_AUC, f"BPR ranks a held-out like above a held-out dislike in only {auc:.0%} of the pairs")
    return f"BPR ranks a held-out like above a held-out dislike in {auc:.0%} of the pairs", metrics


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise RuntimeError(otherwise)


def _ray() -> str:
    if find_spec("ray") is None:
        return "absent"
    try:
        import ray.tune
    except Exception as error:
        return f"broken ({type(error).__name__}: {error})"
    return f"working ({ray.__version__})"


def trusted() -> dict[str, str]:
    """Return what this installation trusts, and why; see SECURITY.md."""
    from importlib.metadata import entry_points

    from recbole_signed.compat.checkpoint import TRUSTED_ROOTS
    from recbole_signed.plugin.registry import ENTRY_POINT_GROUP

    points = [f"{point.name} = {point.value}" for point in entry_points(group=ENTRY_POINT_GROUP)]
    roots = ", ".join(sorted(TRUSTED_ROOTS))
    return {
        "settings": "texts of yaml files and command lines become values only where they are literals",
        "checkpoints": f"classes of {roots} are recreated empty and filled; nothing else of a file is called",
        "cached data sets": "read like checkpoints, or made again from the data",
        "state directories": "SQLite, JSON and safetensors with checksums; they name no code",
        "entry points": "; ".join(points) if points else f"no package adds models ({ENTRY_POINT_GROUP})",
        "registered code": "models and converters that you register run with your rights",
    }
