"""Folders of tensor files with a manifest of their checksums, there whole or not at all: versions, bases of a log."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.files import DamagedError, at, parse_json, sha256, sync_folder, write_file

MANIFEST = "manifest.json"
FORMAT = 1
_BLOCK = 1 << 20
_DTYPES = {
    "f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u8": "U64", "u4": "U32",
    "u2": "U16", "u1": "U8", "b1": "BOOL",
}  # fmt: skip


def write_folder(
    folder: Path, files: Mapping[str, Mapping[str, np.ndarray]], meta: Mapping[str, Any], what: str
) -> None:
    """Write a folder of tensor files with a manifest, durable and whole: a temporary name, fsync, rename.

    Args:
        folder: must not be there yet.
        files: tensors by name, by the name of their file (without ``.safetensors``).
        meta: JSON that the manifest holds beside the checksums.
        what: the steps' prefix, for the tests of faults.
    """
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        sums = {}
        for name, tensors in files.items():
            path = temporary / f"{name}.safetensors"
            sums[path.name] = _write_tensors(path, tensors)
            at(f"{what}:tensors")
        manifest = {"format": FORMAT, **meta, "sha256": sums}
        text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
        manifest_sum = hashlib.sha256(text.encode()).hexdigest()
        write_file(temporary / MANIFEST, f"{text}\n{manifest_sum}\n".encode())
        sync_folder(temporary)
        at(f"{what}:written")
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder.parent)
    at(f"{what}:renamed")


def _write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> str:
    """Write a file of the format safetensors, durable, in blocks during which other threads run; return its SHA-256.

    https://huggingface.co/docs/safetensors/index#format
    """
    arrays = {name: np.ascontiguousarray(each) for name, each in tensors.items()}
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    ends = list(itertools.accumulate((arrays[name].nbytes for name in order), initial=0))
    head: dict[str, Any] = {
        name: {"dtype": _DTYPES[arrays[name].dtype.str[1:]], "shape": arrays[name].shape, "data_offsets": list(span)}
        for name, span in zip(order, itertools.pairwise(ends), strict=True)
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        contents = [arrays[name].reshape(-1).view(np.uint8).data for name in order]
        for view in (memoryview(len(text).to_bytes(8, "little") + text), *contents):
            for start in range(0, len(view), _BLOCK):
                file.write(view[start : start + _BLOCK])
                digest.update(view[start : start + _BLOCK])
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder that `write_folder` made."""
    path = folder / MANIFEST
    try:
        text, _, rest = path.read_bytes().rpartition(b"\n}\n")
    except OSError as error:
        raise DamagedError(f"{folder} can't be read: {error.strerror} ({path.name}).") from error
    body = text + b"\n}"
    if hashlib.sha256(body).hexdigest().encode() != rest.strip():
        raise DamagedError(f"{path} is damaged: its checksum does not fit.")
    try:
        manifest: dict[str, Any] = parse_json(body)
        sound = isinstance(manifest.get("sha256"), dict) and "format" in manifest
    except (ValueError, AttributeError) as error:
        raise DamagedError(f"{path} is damaged: it is not a manifest ({error}).") from error
    if not sound:
        raise DamagedError(f"{path} is damaged: it is not a manifest.")
    if manifest["format"] != FORMAT:
        raise UsageError(
            f"{folder} has format {manifest['format']}, and this version of recbole-signed reads format {FORMAT}; "
            "read it with the version that wrote it."
        )
    return manifest


def read_tensors(folder: Path, manifest: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
    """Read one tensor file of a folder and hold it against its checksum."""
    from safetensors import SafetensorError, safe_open

    path = folder / f"{name}.safetensors"
    try:
        if sha256(path) != manifest["sha256"].get(path.name):
            raise DamagedError(f"{path} is damaged: its checksum does not fit.")
        with safe_open(path, "np") as tensors:  # copies each from the pages that were just read, once
            return {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118
    except DamagedError:
        raise
    except OSError as error:  # also where a writer throws the folder away between the two
        raise DamagedError(f"{folder} can't be read: {error.strerror or error} ({path.name}).") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{path} is damaged: it holds no tensors ({error}).") from error
