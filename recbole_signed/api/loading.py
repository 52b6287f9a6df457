"""Reads a fitted model, or a checkpoint of RecBole's trainers; what a pickle asks for is not run."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from recbole_signed.api.model_parts import UserSequences
from recbole_signed.api.recommender import Recommender, edges_of
from recbole_signed.api.saving import CHECKPOINT, DATA, FORMAT, FORMAT_FILE, copies_in
from recbole_signed.compat.log import no_training_curves, no_warnings
from recbole_signed.convert.dataset_versions import refuse_changed
from recbole_signed.convert.raw_files import check_expanded
from recbole_signed.errors import UsageError
from recbole_signed.files import ARCHIVE_DAMAGE, damage_of_archive, path_of, require_file
from recbole_signed.plugin.configuration import check_dataset_name
from recbole_signed.trainer.checkpoints import read_checkpoint, restored


def load(path: Path | str, *, data_path: Path | str | None = None, device: str = "cpu") -> Recommender:
    """Read a fitted model: one that :meth:`Recommender.save` wrote, or a checkpoint (``.pth``) of RecBole's trainers.

    A checkpoint needs the data set that it was trained on; its files must be those that ``dataset.json`` describes, and
    its ids those of the training where the checkpoint says them (this package's and RecBole's trainers write them while
    ``recbole_signed`` is imported). Items of the validation and test part count as seen, too.

    Args:
        path: the file.
        data_path: of a checkpoint: the folder of data sets, where it is not what it was in training.
        device: where the model computes its scores, such as ``cuda:0``.

    Returns:
        The model with raw ids.

    Raises:
        UsageError: no such file, no model in it, no such device, or the data set is missing or was changed.
    """
    path, place = path_of(path, "path"), _usable(device)
    require_file(path, "the file of a saved model, or a checkpoint (.pth) in it")
    scratch = tempfile.TemporaryDirectory(prefix="recbole-signed-")
    folder = Path(scratch.name)
    bundled = _unpack(path, folder)
    state = read_checkpoint(folder / CHECKPOINT if bundled else path, path)
    config = state["config"]
    # no data set that another process pickled is read in place of the files
    for key, value in {**copies_in(scratch.name), "device": place, "show_progress": False}.items():
        config[key] = value
    name = config["dataset"]
    check_dataset_name(name)
    if bundled:
        config["data_path"] = str(folder / DATA / name)
    elif data_path is not None:
        config["data_path"] = str(path_of(data_path, "data_path") / name)
    if not bundled and Path(config["data_path"]).is_dir():
        refuse_changed(Path(config["data_path"]), name)
    with no_training_curves(), no_warnings():
        model, data, loaders = restored(state)
    parts = [loader._dataset for loader in loaders if loader is not None]
    (folder / CHECKPOINT).unlink(missing_ok=True)
    sequences = UserSequences(data) if hasattr(data, "item_list_length_field") else None
    return Recommender(config, model, parts[0], edges_of(*parts), scratch, sequences)


def _usable(device: Any) -> torch.device:
    """Return a device on which tensors can be made."""
    try:
        place = torch.device(device)
        torch.zeros(1, device=place).item()  # 'meta' holds no values
    except (AssertionError, RuntimeError, TypeError) as error:  # torch raises any of them
        reason = str(error).splitlines()[0].partition(". ")[0].rstrip(".")
        raise UsageError(
            f"the device {device!r} can't be used here ({reason}); give 'cpu', or one that torch has, such as 'cuda:0'."
        ) from error
    return place


def _unpack(path: Path, folder: Path) -> bool:
    """Unpack a saved model; False where it is another file, as torch writes it."""
    try:
        version = _format(path)
    except UsageError:
        raise
    except ARCHIVE_DAMAGE as error:
        raise UsageError(f"{path} is damaged ({error}); save the model again.") from error
    if version is None:
        return False
    if version != FORMAT:
        raise UsageError(f"{path} has the format {version}, but {FORMAT} is read; update recbole-signed.")
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            parts = PurePosixPath(name).parts
            if name != CHECKPOINT and (len(parts) != 3 or parts[0] != DATA or ".." in parts):
                continue
            target = folder.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
    return True


def _format(path: Path) -> Any:
    """Return the format of a saved model that is whole; None for another file."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if FORMAT_FILE not in archive.namelist():
            return None
        check_expanded(path, sum(member.file_size for member in archive.infolist()))
        number = json.loads(archive.read(FORMAT_FILE))["format"]
    damage = damage_of_archive(path)  # of names, too: a file of another name would be passed over
    if damage is not None:
        raise ValueError(damage)
    return number
