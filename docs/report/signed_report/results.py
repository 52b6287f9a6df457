"""All committed results as one document, which the figures and the report's sources read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from recbole_signed.convert.sources.watched import ZvukOptions
from recbole_signed.errors import UsageError
from recbole_signed.lab.analysis.tradeoff_curve import chosen_points, gamma_in, of_each_gamma, read_curves
from recbole_signed.lab.analysis.tradeoff_tables import values_of
from recbole_signed.lab.significance.pairwise_lines import kept_outcomes
from recbole_signed.plugin.registry import PROPERTIES
from recbole_signed.runs.stored import stored_table
from recbole_signed.yaml_spec import read_yaml
from signed_report.measure import RESULTS
from signed_report.streams import read_stream
from signed_report.tables import table_values

MAIN = "first-pass"
"""The table of the published splits with all models."""


@dataclass(frozen=True)
class Results:
    """What was measured; each mapping goes from the name of a file to what it holds."""

    tables: dict[str, dict[str, Any]]
    """Of ``yaml/bench``, see :func:`signed_report.tables.table_values`."""
    streams: dict[str, dict[str, Any]]
    """Of ``yaml/online``, see :func:`signed_report.streams.read_stream`."""
    statistics: dict[str, dict[str, Any]]
    """Data set -> what ``recbole-signed stats`` found."""
    tradeoffs: dict[str, dict[str, Any]]
    """Data set -> what ``recbole-signed tradeoff`` found, for SSF."""
    verdicts: dict[str, dict[str, Any]]
    """Data set -> how verdicts are ordered by estimates for an item alone and for a user, too."""
    kuairand: dict[str, Any]
    """The raw signals of KuaiRand's log."""
    published: dict[str, Any]
    """Numbers of other authors, each with its source."""
    significance: dict[str, dict[str, dict[str, Any]]]
    """Table -> the model that is compared with the others -> what ``recbole-signed significance`` found."""
    signed: dict[str, dict[str, dict[str, Any]]]
    """Data set -> model -> gamma -> its SignedNDCG and more on the test part, with the dislike aversion that is best on
    validation; the file's order of models."""
    splits: dict[str, dict[str, Any]]
    """Data -> its fresh splits together: ``n_splits``, the names of the ``models``, and ``standings`` by gamma."""
    even_splits: dict[str, dict[str, Any]]
    """The same for splits whose validation part is as large as the test part."""
    responses: dict[str, dict[str, dict[str, Any]]]
    """Data set -> model -> the means of its audit by ``recbole-signed respond``."""
    defaults: dict[str, dict[str, Any]]
    """Model -> the settings of its default yaml; source of data -> the options of its converter."""

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return asdict(self)


def read_results(root: Path) -> Results:
    """Read the committed results of a clone of the repository.

    Raises:
        UsageError: ``root`` is no clone, or a result file is damaged.
    """
    bench, online, results = root / "yaml" / "bench", root / "yaml" / "online", root / RESULTS
    signed = root / "results" / "bench" / "signed"
    if not bench.is_dir() or not results.is_dir():
        raise UsageError(f"{root.resolve()} has no yaml/bench or no {RESULTS}; give --root, a clone of the repository.")
    tables = {file.stem: stored_table(file) for file in sorted(bench.glob("*.yaml"))}
    streams = {file.stem: read_stream(file) for file in sorted(online.glob("*.yaml"))}
    return Results(
        tables={name: table_values(table) for name, table in tables.items() if table is not None},
        streams={name: stream for name, stream in streams.items() if stream is not None},
        statistics=_documents(results, "stats-"),
        tradeoffs=_documents(results, "tradeoff-SSF-"),
        verdicts=_documents(results, "verdicts-"),
        kuairand=_document(results / "kuairand-log.json"),
        published=_document(results / "published.json"),
        significance={
            file.stem: outcomes for file in sorted(bench.glob("*.yaml")) if (outcomes := kept_outcomes(file))
        },
        signed={file.stem: read_chosen(file) for file in sorted(signed.glob("sigformer-*.jsonl"))},
        splits=_pools(signed, "resplits-"),
        even_splits=_pools(signed, "even-splits-"),
        responses={
            file.stem.removeprefix("respond-"): {row["model"]: row["summary"] for row in _lines(file)}
            for file in sorted(signed.glob("respond-*.jsonl"))
        },
        defaults={
            **{path.stem: _plain(read_yaml(path)) for path in sorted(PROPERTIES.glob("*.yaml"))},
            "zvuk": asdict(ZvukOptions()),
        },
    )


def read_chosen(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what :func:`chosen_table` shows of the curves in a file of rows, and what else is known there.

    Returns:
        model -> gamma, as in ``signedndcg@20[gamma 0.5]`` -> the point at the g that is best by it on validation, and
        ``value``, the SignedNDCG there.
    """
    chosen: dict[str, dict[str, dict[str, Any]]] = {}
    for curve in read_curves(path):
        for name, point in chosen_points(curve).items():
            if gamma := gamma_in(name):
                chosen.setdefault(curve["model"], {})[gamma] = {**point, "value": point[name]}
    return chosen


def _pools(signed: Path, start: str) -> dict[str, dict[str, Any]]:
    return {
        file.stem.removeprefix(start): _standings(_document(file)) for file in sorted(signed.glob(f"{start}*.json"))
    }


def _standings(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "n_splits": len(result["datasets"]),
        "models": [model["model"] for model in result["models"]],
        "standings": standings(result),
    }


def standings(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return which of two models or more is first by the mean of the splits of :func:`over_splits`, by gamma."""
    standing = {}
    for name in of_each_gamma(result["models"][0]["splits"][0]["best"]):
        values = {model["model"]: values_of(model, name) for model in result["models"]}
        first, second = sorted(values, key=lambda model: -fmean(values[model]))[:2]
        others = [of_model for model, of_model in values.items() if model != first]
        ahead = [value > max(theirs) for value, *theirs in zip(values[first], *others, strict=True)]
        standing[gamma_in(name)] = {
            "model": first,
            "value": fmean(values[first]),
            "second": second,
            "second_value": fmean(values[second]),
            "splits": sum(ahead),
        }
    return standing


def _documents(folder: Path, prefix: str) -> dict[str, dict[str, Any]]:
    return {path.stem[len(prefix) :]: _document(path) for path in sorted(folder.glob(f"{prefix}*.json"))}


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"can't read the result file {path}: {error}.") from error
    if not isinstance(document, dict):
        raise UsageError(f"the result file {path} must hold one JSON object.")
    return document


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UsageError(f"can't read the result file {path}: {error}.") from error


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if isinstance(value, (bool, int, float, str))}
