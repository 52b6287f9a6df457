"""What a run reports unless it is told otherwise, in a module that is light to import."""

from __future__ import annotations

from pathlib import Path

from recbole_signed.plugin.registry import PROPERTIES

RECBOLE_METRICS = ("Recall", "MRR", "NDCG", "Hit", "Precision")
"""RecBole's own default of ``metrics``."""

RECBOLE_TOPK = (10,)

SIGNED_METRICS = ("DislikeRecall", "DislikeShare", "SignAUC")
"""What a run on signed data reports besides RecBole's five metrics."""

DEFAULT_TOPK = (10, 20)

RUNS = "runs"
"""Folder, under the current one, of checkpoints and of the logs of a table's runs."""

TUNED = "yaml/model"
"""Folder, under the current one, of what ``tune`` chose: ``<data set>/<Model>.yaml``."""

SPACES = "yaml/tune"
"""Folder, under the current one, of a user's own search spaces: ``<Model>.yaml``."""


def space_file(model: str) -> Path:
    """Return the file of what ``tune`` tries of a model: the user's own in :data:`SPACES`, else this package's."""
    own = Path(SPACES) / f"{model}.yaml"
    bundled = PROPERTIES.parent / "tune" / own.name
    return own if own.is_file() or not bundled.is_file() else bundled
