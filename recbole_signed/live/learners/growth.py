"""Parameters and Adam's moments of a model, moved row by row to an instance with more users and items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

USER, ITEM = "user", "item"


def tables_of(model: Any) -> dict[str, str]:
    """Return the parameters with a row for each user or each item: name -> which of the two."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            side = _side(name, module.num_embeddings, model)
            if side is not None:
                found[f"{name}.weight"] = side
    return found


def _side(name: str, rows: int, model: Any) -> str | None:
    sides = [side for side, n in ((USER, model.n_users), (ITEM, model.n_items)) if n == rows]
    if len(sides) == 2:  # as many users as items: the name decides
        return USER if USER in name else ITEM
    return sides[0] if sides else None


@dataclass
class Weights:
    """What is known of a model between two instances: state, moments, and which tables have a row per node."""

    values: dict[str, np.ndarray] = field(default_factory=dict)
    moments: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    step: float = 0.0
    """Steps that Adam has taken."""

    @classmethod
    def of(cls, model: Any, optimizer: torch.optim.Optimizer | None = None) -> Weights:
        """Copy a model's state, and the moments of its optimizer."""
        values = {name: value.detach().cpu().numpy().copy() for name, value in model.state_dict().items()}
        found = cls(values, {}, tables_of(model))
        states: Mapping[Any, Any] = optimizer.state if optimizer is not None else {}
        for name, parameter in model.named_parameters():
            state = states.get(parameter)
            if state:
                first, second = (state[key].cpu().numpy().copy() for key in ("exp_avg", "exp_avg_sq"))
                found.moments[name] = first, second
                found.step = max(found.step, float(state["step"]))
        return found

    def forget(self, users: np.ndarray) -> None:
        """Set the rows of users to zero, moments too."""
        for name, side in self.tables.items():
            if side == USER:
                for table in (self.values[name], *self.moments.get(name, ())):
                    table[users[users < len(table)]] = 0.0

    def move_to(self, model: Any, starts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Give ``model`` these values.

        Args:
            model: an instance that may have more users and items.
            starts: table -> (rows ``[n]``, values ``[n, d]``) of users or items that are new.
        """
        state = model.state_dict()
        with torch.no_grad():
            for name, value in self.values.items():
                target = state.get(name)
                if target is None:
                    continue
                if target.shape == value.shape:
                    target.copy_(torch.from_numpy(value))
                elif name in self.tables:
                    target[: len(value)] = torch.from_numpy(value).to(target.device)
                elif target.dim() == 1 and not target.is_floating_point() and target.shape[0] > len(value):
                    # numbers of nodes, such as SIGformer's marks: new nodes go on counting
                    whole = np.concatenate([value, np.arange(len(value), target.shape[0])])
                    target.copy_(torch.from_numpy(whole))
            for name, (rows, values) in starts.items():
                state[name][torch.from_numpy(rows)] = torch.from_numpy(values).to(state[name])
        model.load_state_dict(state)

    def warm(self, optimizer: torch.optim.Optimizer, model: Any) -> None:
        """Give Adam its moments back; those of new rows are zero."""
        for name, parameter in model.named_parameters():
            if name not in self.moments:
                continue
            moments = [torch.zeros_like(parameter) for _ in range(2)]
            for moment, known in zip(moments, self.moments[name], strict=True):
                if moment.dim() and len(known) <= len(moment) and moment.shape[1:] == known.shape[1:]:
                    moment[: len(known)] = torch.from_numpy(known).to(moment)
                elif moment.shape == known.shape:
                    moment.copy_(torch.from_numpy(known))
            optimizer.state[parameter] = {
                "step": torch.tensor(self.step),
                "exp_avg": moments[0],
                "exp_avg_sq": moments[1],
            }

    def tensors(self) -> dict[str, np.ndarray]:
        """Return all arrays by names that :meth:`from_tensors` reads."""
        found = {f"value/{name}": value for name, value in self.values.items()}
        for name, (first, second) in self.moments.items():
            found[f"first/{name}"], found[f"second/{name}"] = first, second
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], tables: Mapping[str, str], step: float) -> Weights:
        """Make the weights again that :meth:`tensors` gave."""
        found = cls(tables=dict(tables), step=step)
        for key, value in tensors.items():
            kind, _, name = key.partition("/")
            if kind == "value":
                found.values[name] = np.array(value)
            elif kind == "first":
                found.moments[name] = np.array(value), np.array(tensors[f"second/{name}"])
        return found
