"""RecBole's entry points under a name whose import installs the plugin, as Ray and spawned processes need it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

PICKLED_FUNCTIONS = ("run", "run_recbole", "run_recboles", "objective_function", "load_data_and_model")


def __getattr__(name: str) -> Any:
    if name not in PICKLED_FUNCTIONS:
        raise AttributeError(f"module 'recbole_signed.quick_start' has no attribute {name!r}")
    return getattr(import_module("recbole.quick_start.quick_start"), name)
