"""The data set of many runs in one process: read once, and handed to each as if it had just been read."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from recbole.data import create_dataset
from recbole.utils import argument_list

from recbole_signed.compat.checkpoint import VOCABULARY
from recbole_signed.runs.provenance import data_sha256, digest
from recbole_signed.trainer.random_states import rng_state, set_rng_state


class DataCache:
    """Keeps the data set that was read last, before its split, and a copy of it goes to each run.

    RecBole's split shuffles the rows of a data set in place, so a run must never see what another has split. What was
    read is used again while all settings that reading and splitting depend on are equal.
    """

    def __init__(self) -> None:
        self._key: str | None = None
        self._data: Any = None
        self._random: dict[str, Any] = {}
        self._vocabulary: Any = None
        self._checksums: dict[tuple[str, str], str] = {}
        self.n_read = 0
        """How often files were read."""

    def read(self, config: Any) -> Any:
        """Return the data set of a configuration; the random generators are left as they are after a reading."""
        key = _key(config)
        if key != self._key:
            self._data = None  # there is never room for two
            self._data = create_dataset(config)
            self._key, self._random, self._vocabulary = key, rng_state(), config[VOCABULARY]
            self.n_read += 1
        else:
            set_rng_state(self._random)
        # the copy refers to the new configuration in every place where the original refers to its own
        data = copy.deepcopy(self._data, {id(self._data.config): config})
        config[VOCABULARY] = self._vocabulary
        return data

    def sha256(self, config: Any) -> str:
        """Return the checksum of the data set's files, see :func:`~recbole_signed.runs.data_sha256`."""
        place = (str(config["data_path"]), str(config["dataset"]))
        if place not in self._checksums:
            self._checksums[place] = data_sha256(Path(place[0]), place[1])
        return self._checksums[place]


def _key(config: Any) -> str:
    names = [*argument_list.dataset_arguments, "model", "dataset", "data_path", "seed", "eval_args", "repeatable"]
    return digest({name: config[name] for name in names})
