"""Recommendation on signed graphs as a RecBole plugin: importing this package is the whole installation.

After ``import recbole_signed`` RecBole's own ``run_recbole`` (and RecBole-GNN's ``run_recbole_gnn``) know the
models, data sets, trainers and metrics of this package. The import takes a few milliseconds: it only leaves hooks
that act when RecBole itself is imported, before or after.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recbole_signed.plugin import hooks as plugin
from recbole_signed.plugin import registry

if TYPE_CHECKING:
    from recbole_signed.data import SignedDataset
    from recbole_signed.graph import SignedGraph

__version__ = "0.1.0"
__all__ = ["SignedDataset", "SignedGraph", "UsageError", "__version__", "register_model"]

register_model = registry.register_model

_LAZY = {
    "SignedDataset": "recbole_signed.data.dataset",
    "SignedGraph": "recbole_signed.graph",
    "UsageError": "recbole_signed.errors",
}

plugin.install()


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'recbole_signed' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
