"""Writes a fitted model as a zip archive: ``checkpoint.pth`` in RecBole's format, and atomic files under ``data/``."""

from __future__ import annotations

import copy
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from recbole.data import create_dataset

from recbole_signed.compat.checkpoint import TRAINED_VOCABULARY, VOCABULARY
from recbole_signed.compat.log import no_warnings, own_arguments_hidden
from recbole_signed.convert.dataset_versions import atomic_files
from recbole_signed.errors import UsageError
from recbole_signed.files import ANOTHER_FILE, path_of, refusing, replacing

FORMAT = 1
FORMAT_FILE, CHECKPOINT, DATA = "recbole-signed.json", "checkpoint.pth", "data"


def save(config: Any, model: Any, path: Path | str) -> None:
    """Write a fitted model with the data that it was fitted to; see :meth:`Recommender.save`."""
    path = path_of(path, "path")
    folder, name = Path(config["data_path"]), config["dataset"]
    if not folder.is_dir():
        raise UsageError(f"the data set folder {folder} that the model was fitted to is gone, so it can't be saved.")
    _refuse_other_ids(config)
    with (
        refusing(f"saving {path}", ANOTHER_FILE),
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
    ):
        archive.writestr(FORMAT_FILE, json.dumps({"format": FORMAT, "model": config["model"], "dataset": name}))
        with archive.open(CHECKPOINT, "w", force_zip64=True) as file:
            torch.save(_state(config, model), file, pickle_protocol=4)
        for atomic_file in atomic_files(folder, name):
            archive.write(atomic_file, f"{DATA}/{name}/{atomic_file.name}", zipfile.ZIP_DEFLATED, compresslevel=6)


def _refuse_other_ids(config: Any) -> None:
    """Read the data set as ``load`` will, which refuses files whose ids have changed since the fit."""
    now = copy.copy(config)
    with tempfile.TemporaryDirectory(prefix="recbole-signed-") as scratch, no_warnings():
        trained = {TRAINED_VOCABULARY: config[VOCABULARY]}
        now.final_config_dict = {**config.final_config_dict, **copies_in(scratch), **trained}
        with own_arguments_hidden():
            create_dataset(now)


def _state(config: Any, model: Any) -> dict[str, Any]:
    config = copy.copy(config)
    # nothing of the machine on which it was fitted
    config.final_config_dict = {**config.final_config_dict, **copies_in("."), "data_path": config["dataset"]}
    config.external_config_dict = {
        key: value for key, value in config.external_config_dict.items() if key not in ("data_path", "checkpoint_dir")
    }
    return {"config": config, "state_dict": model.state_dict(), "other_parameter": model.other_parameter()}


def copies_in(folder: str) -> dict[str, Any]:
    """Return the keys that say where RecBole writes and looks for copies of data sets."""
    none = ("dataset_save_path", "dataloaders_save_path", "save_dataset", "save_dataloaders")
    return {"checkpoint_dir": folder, **dict.fromkeys(none)}
