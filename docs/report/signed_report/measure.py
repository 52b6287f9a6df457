"""Makes the small result files of the report: statistics of data sets, trade-off curves, verdicts, KuaiRand's signals.

Each is a JSON document with the command that made it. What needs long runs is made by ``compare`` and ``online``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError
from recbole_signed.files import replace_text
from recbole_signed.runs import data_sha256
from recbole_signed.runs.provenance import versions

RESULTS = Path("docs/report/results")
DIGITS = 6


def measure_statistics(dataset: str, data_path: Path, output: Path) -> Path:
    """Write ``stats-DATASET.json``: what ``recbole-signed stats`` finds.

    Raises:
        UsageError: there is no such data set.
    """
    from recbole_signed.atomic import read_rows
    from recbole_signed.lab.stats import analyse

    folder = data_path / dataset
    return _write(
        output / f"stats-{dataset}.json",
        {
            "command": f"python docs/report measure {dataset}",
            "dataset": dataset,
            "data_sha256": data_sha256(folder, dataset),
            **analyse(read_rows(folder)),
        },
    )


def measure_tradeoff(dataset: str, data_path: Path, output: Path, model: str = "SSF") -> Path:
    """Write ``tradeoff-MODEL-DATASET.json``: what ``recbole-signed tradeoff`` finds, one deterministic fit.

    Raises:
        UsageError: there is no such data set, or the model has no dislike aversion.
    """
    from recbole_signed.lab.analysis import tradeoff

    curve = tradeoff(model, dataset, overrides={"data_path": str(data_path)})
    command = f"python docs/report measure {dataset} --tradeoff {model}"
    checked = {"data_sha256": data_sha256(data_path / dataset, dataset), "versions": versions()}
    return _write(output / f"tradeoff-{model}-{dataset}.json", {"command": command, **checked, **curve})


def measure_verdicts(dataset: str, data_path: Path, output: Path) -> Path:
    """Write ``verdicts-DATASET.json``: how much better a verdict is predicted for a user than for the item alone.

    Raises:
        UsageError: there is no such data set, or it has no parts.
    """
    from recbole_signed.atomic import read_rows
    from signed_report.verdicts import personal_verdicts

    folder = data_path / dataset
    command = f"python docs/report measure {dataset} --verdicts"
    checked = {"data_sha256": data_sha256(folder, dataset), "versions": versions()}
    return _write(
        output / f"verdicts-{dataset}.json", {"command": command, **checked, **personal_verdicts(read_rows(folder))}
    )


def measure_kuairand(folder: Path, output: Path) -> Path:
    """Write ``kuairand-log.json``: the raw signals of the standard log of KuaiRand-Pure in ``folder``.

    Raises:
        UsageError: there is not exactly one such log.
    """
    from signed_report.kuairand import describe_log

    logs = sorted(folder.glob("log_standard_4_2*"))
    if len(logs) != 1:
        raise UsageError(f"{folder} holds {len(logs)} files log_standard_4_2*; one was expected.")
    command = "python docs/report measure --kuairand FOLDER"
    return _write(output / "kuairand-log.json", {"command": command, "file": logs[0].name, **describe_log(logs[0])})


def _write(path: Path, document: dict[str, Any]) -> Path:
    text = json.dumps(_rounded(document), ensure_ascii=False, indent=1, allow_nan=False)
    replace_text(path, text + "\n")
    return path


def _rounded(value: Any) -> Any:
    """Return the document with floats of :data:`DIGITS` significant digits: the files are read in diffs."""
    if isinstance(value, float):
        return value if value.is_integer() and abs(value) < 1e15 else float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_rounded(part) for part in value]
    return value
