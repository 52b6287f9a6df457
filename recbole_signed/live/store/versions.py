"""Versions: what a model and its edges were at a ``seq``, saved whole, listed, pinned, gone back to, thrown away.

``versions/v000001/`` holds ``model.safetensors``, ``edges.safetensors`` and a manifest; ``CURRENT`` names the one to
start from. No token of a user or item may be in a version: what a forgotten user leaves, ``erasure.py`` removes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.errors import NotFoundError, UsageError, ending
from recbole_signed.files import (
    DamagedError,
    at,
    make_folder,
    parse_json,
    refusing,
    replace_file,
    sha256,
    sync_folder,
    write_file,
)
from recbole_signed.live.store.event_log import EventLog

_NAME = re.compile(r"v\d{6,}")
CURRENT, PINNED = "CURRENT", "PINNED"
_RENEWED = ".renewed"
_ABOUT: dict[str, type] = {
    **dict.fromkeys(("applied_seq", "n_users", "n_items", "erased_seq"), int),
    **dict.fromkeys(("users_hash", "items_hash", "model", "data", "created"), str),
    "meta": dict,
}
"""What a manifest says of a version, and of which type."""

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
    """Write a folder of tensor files with a manifest, durable and whole: a temporary name, fsync, rename."""
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
    """Write a safetensors file, durable, in blocks during which other threads run; return its SHA-256."""
    arrays = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
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


@dataclass(frozen=True)
class Snapshot:
    """A version as it was read and verified, with the sizes, padding included, and hashes of its vocabularies."""

    name: str
    applied_seq: int
    n_users: int
    n_items: int
    users_hash: str
    items_hash: str
    model: str
    meta: dict[str, Any]
    tensors: dict[str, np.ndarray]
    edges: dict[str, np.ndarray]


@dataclass(frozen=True)
class VersionInfo:
    """A line of the list of versions; ``damage`` says what is wrong with one that can't be used."""

    name: str
    current: bool
    pinned: bool
    applied_seq: int | None
    model: str
    data: str
    created: str
    bytes: int
    damage: str | None = None


class Versions:
    """The versions of one state directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Names of all versions, oldest first."""
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted(filter(_NAME.fullmatch, names), key=_number)

    def current(self) -> str | None:
        """Name of the version to start from; None where none is named."""
        try:
            name = (self.folder / CURRENT).read_text(encoding="ascii").strip()
        except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
            return None
        return name if _NAME.fullmatch(name) else None

    def pointer_is_damaged(self) -> bool:
        """Whether the file that names the current version is there, and names none; another process may write."""
        if not (self.folder / CURRENT).is_file():
            return False
        named = self.current()
        while named not in self.names():
            before, named = named, self.current()
            if named == before:
                return True
        return False

    def candidates(self) -> list[str]:
        """Names to start from, best first: the current one, then those before it."""
        names, current = self.names(), self.current()
        if current is not None:
            names = [name for name in names if _number(name) <= _number(current)]
        return names[::-1]

    def save(self, tensors: Mapping[str, np.ndarray], edges: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> str:
        """Save a version, make it the current one, and give its name; ``about`` holds the fields of `Snapshot`."""
        names = self.names()
        name = f"v{(_number(names[-1]) if names else 0) + 1:06d}"
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with refusing(f"Saving version {name}"):
            make_folder(self.folder)
            write_folder(
                self.folder / name, {"model": tensors, "edges": edges}, {**about, "created": created}, "snapshot"
            )
            self._point(name)
        return name

    def load(self, name: str) -> Snapshot:
        """Read a version and verify it."""
        manifest = self.manifest(name)
        about = {key: value for key, value in manifest.items() if key in Snapshot.__dataclass_fields__}
        tensors, edges = (read_tensors(self.folder / name, manifest, part) for part in ("model", "edges"))
        return Snapshot(name=name, tensors=tensors, edges=edges, **about)

    def existing(self, name: str) -> Snapshot:
        """Read a version that a user named, and verify it."""
        self._existing(name)
        return self.load(name)

    def edges(self, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Read the manifest and the edges of a version alone; raises as `load`."""
        manifest = self.manifest(name)
        return manifest, read_tensors(self.folder / name, manifest, "edges")

    def describe(self) -> list[VersionInfo]:
        """Describe all versions, oldest first; the manifest of each is verified, its tensors are not read."""
        current = self.current()
        versions = (self._describe(name, name == current) for name in self.names())
        return [version for version in versions if version is not None]

    def _describe(self, name: str, current: bool) -> VersionInfo | None:
        """Describe a version; None where a writer threw it away meanwhile."""
        folder = self.folder / name
        try:
            size = sum(file.stat().st_size for file in folder.iterdir())
            pinned = (folder / PINNED).exists()
            about = self.manifest(name)
        except FileNotFoundError:
            return None
        except UsageError as error:
            if not folder.exists():
                return None
            return VersionInfo(name, current, pinned, None, "", "", "", size, str(error))
        return VersionInfo(
            name, current, pinned, about["applied_seq"], about["model"], about["data"], about["created"], size
        )

    def is_pinned(self, name: str) -> bool:
        """Return whether a version is pinned."""
        return (self.folder / name / PINNED).exists()

    def remove(self, name: str) -> None:
        """Throw a version away, whatever it is."""
        with refusing(f"Throwing version {name} away"):
            trash = self.folder / f"{name}.trash"
            (self.folder / name).rename(trash)
            at("versions:trashed")
            shutil.rmtree(trash)
            sync_folder(self.folder)  # or a loss of power brings it back, with users who were forgotten

    def replace(
        self,
        name: str,
        tensors: Mapping[str, np.ndarray],
        edges: Mapping[str, np.ndarray],
        meta: Mapping[str, Any],
        erased_seq: int,
    ) -> None:
        """Put a model and edges without users forgotten up to ``erased_seq`` in the place of a pinned version."""
        about = {key: value for key, value in self.manifest(name).items() if key not in ("sha256", "format")}
        meta = {**meta, "scratch_seq": max(erased_seq, int(meta.get("scratch_seq", 0)))}
        about |= {"meta": meta, "erased_seq": erased_seq}
        renewed = self.folder / f"{name}{_RENEWED}"
        with refusing(f"Writing version {name} again"):
            shutil.rmtree(renewed, ignore_errors=True)
            write_folder(renewed, {"model": tensors, "edges": edges}, about, "snapshot")
            (renewed / PINNED).touch()
            sync_folder(renewed)
            self.remove(name)
            at("versions:removed")
            renewed.rename(self.folder / name)
            sync_folder(self.folder)

    def pin(self, name: str, pinned: bool = True) -> None:
        """Keep a version from being thrown away, or no longer."""
        mark = self._existing(name) / PINNED
        with refusing(f"Pinning version {name}"):
            if pinned:
                mark.touch()
            else:
                mark.unlink(missing_ok=True)
            sync_folder(mark.parent)

    def rollback(self, name: str) -> None:
        """Make an older version the one to start from; the events since then are replayed on it, none is lost."""
        self.existing(name)
        with refusing(f"Going back to version {name}"):
            self._point(name)

    def collect(self, keep: int) -> list[str]:
        """Throw away all but the newest ``keep``, the pinned and the current version; give the names of those gone."""
        if keep < 1:
            raise UsageError(f"At least 1 version is kept, got {keep}.")
        names = self.names()
        stays = {*names[-keep:], self.current()}
        gone = [name for name in names if name not in stays and not self.is_pinned(name)]
        with refusing("Throwing versions away"):
            for name in gone:
                self.remove(name)
            self.clean()
        return gone

    def clean(self) -> None:
        """Remove what a crash left of versions half written and half thrown away."""
        if self.folder.is_dir():
            for renewed in self.folder.glob(f"v*{_RENEWED}"):
                name = self.folder / renewed.name.removesuffix(_RENEWED)
                if name.exists() or not (renewed / PINNED).exists():
                    shutil.rmtree(renewed)
                else:  # a crash came between the two renamings
                    renewed.rename(name)
            for path in list(self.folder.iterdir()):
                if path.suffix in (".tmp", ".trash"):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def manifest(self, name: str) -> dict[str, Any]:
        """Read the manifest of a version; raises as `load`."""
        manifest = {"erased_seq": 0, **read_manifest(self.folder / name)}
        for key, kind in _ABOUT.items():
            value = manifest.get(key)
            if type(value) is not kind or (isinstance(value, int) and value < 0):
                raise DamagedError(
                    f"{self.folder / name} is damaged: its manifest does not describe a version ('{key}' is {value!r})."
                )
        return manifest

    def _point(self, name: str) -> None:
        replace_file(self.folder / CURRENT, f"{name}\n".encode())

    def _existing(self, name: str) -> Path:
        names = self.names()
        if name not in names:
            there = f"there are {', '.join(names)}" if names else "there is none"
            raise NotFoundError(f"There is no version '{name}' in {self.folder}; {there}{ending(name, names)}")
        return self.folder / name


def _number(name: str) -> int:
    return int(name[1:])


def refuse_mismatch(snapshot: Snapshot, log: EventLog, directory: Path, model: str | None) -> None:
    """Hold a version against the log of its directory, and against the model that is wanted."""
    where = f"Version {snapshot.name} in {directory}"
    if model is not None and snapshot.model != model:
        raise UsageError(
            f"{where} is of the model '{snapshot.model}', and '{model}' was expected; roll back to a version of that "
            "model, or name another state directory."
        )
    if snapshot.applied_seq > log.last_seq:
        raise UsageError(
            f"{where} reflects events up to seq {snapshot.applied_seq}, and the log ends at {log.last_seq}: the "
            "log was cut short or belongs elsewhere; restore it from a backup."
        )
    for what, vocabulary, size, expected in (
        ("users", log.users, snapshot.n_users, snapshot.users_hash),
        ("items", log.items, snapshot.n_items, snapshot.items_hash),
    ):
        if size > len(vocabulary) or vocabulary.hash(size) != expected:
            raise UsageError(
                f"{where} was made with another vocabulary of {what} than the log has, so its rows would be "
                "assigned to the wrong ones; it belongs to another state directory."
            )
