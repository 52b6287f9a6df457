"""Whether a checkpoint's rows are those of the data at hand, and room for users and items that came since.

RecBole's checkpoints hold no vocabulary: with the same users and items in another order one loads without an error and
nearly every row is someone else's; with new ones it does not load at all (RecBole issues #1702, #1692, #1854).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from recbole_signed.compat.checkpoint import TRAINED_VOCABULARY, VOCABULARY
from recbole_signed.errors import UsageError
from recbole_signed.ids_and_times import hash_of


def vocabulary_of(dataset: Any) -> dict[str, list[Any]]:
    """Return field -> [number of ids with padding, hash of their tokens in order] for users and items."""
    fields = (dataset.uid_field, dataset.iid_field)
    return {field: [len(dataset.field2id_token[field]), _hash(dataset, field)] for field in fields}


def remember_vocabulary(dataset: Any) -> None:
    """Keep what :func:`vocabulary_of` says in the data set's configuration, and so in every checkpoint.

    Raises:
        UsageError: the configuration came from a checkpoint, and the data has other ids than in training.
    """
    config = dataset.config
    if any(field not in dataset.field2id_token for field in (dataset.uid_field, dataset.iid_field)):
        return
    config[VOCABULARY] = own = vocabulary_of(dataset)
    trained = config[TRAINED_VOCABULARY]
    if trained and trained != own:
        raise UsageError(
            f"the model was trained on other ids than '{dataset.dataset_name}' has now, so embeddings would be "
            "assigned to the wrong users and items; restore the files, or train the model again."
        )


def check_vocabulary(saved: Mapping[str, Any], dataset: Any, path: Any) -> None:
    """Refuse a checkpoint whose ids are not the first ids of ``dataset``.

    Raises:
        UsageError: a field is missing there, has fewer ids, or its first ids have other tokens.
    """
    for field, (n, wanted) in saved.items():
        tokens = dataset.field2id_token.get(field, ())
        if len(tokens) < n or _hash(dataset, field, n) != wanted:
            raise UsageError(
                f"{path} was made with other ids of '{field}' than '{dataset.dataset_name}' has now, so embeddings "
                "would be assigned to the wrong ones; keep the order of the rows, append new ones at the end, and "
                "switch filters off."
            )


def _hash(dataset: Any, field: str, n: int | None = None) -> str:
    return hash_of(str(token) for token in dataset.field2id_token[field][1:n])


def grown_parameters(saved: Mapping[str, torch.Tensor], fresh: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the saved tensors, those that are too short with the last rows of the fresh ones.

    Args:
        saved: a model's state.
        fresh: that of the same model, with as many rows or more for users and items.
    """
    return {name: _grown(value, fresh.get(name)) for name, value in saved.items()}


def grown_optimizer(saved: Mapping[str, Any], parameters: list[torch.Tensor]) -> dict[str, Any]:
    """Return an optimizer's state whose moments have a row of zeros for each row that the parameters have more."""
    state = {}
    for number, values in saved["state"].items():
        zeros = torch.zeros_like(parameters[int(number)], device="cpu")
        state[number] = {
            name: _grown(value, zeros) if isinstance(value, torch.Tensor) and value.dim() == zeros.dim() else value
            for name, value in values.items()
        }
    return {**saved, "state": state}


def _grown(value: torch.Tensor, fresh: torch.Tensor | None) -> torch.Tensor:
    if fresh is None or value.dim() == 0 or value.dim() != fresh.dim() or value.shape[1:] != fresh.shape[1:]:
        return value
    if len(value) >= len(fresh):
        return value
    # numbers of nodes, such as SIGformer's marks, are drawn for all: those of new nodes go on counting
    numbers = value.dim() == 1 and not value.is_floating_point()
    rest = torch.arange(len(value), len(fresh)) if numbers else fresh[len(value) :]
    return torch.cat([value, rest.to(value)])
