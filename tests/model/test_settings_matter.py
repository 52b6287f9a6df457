"""Each key of a model's properties changes what the model is, what it learns from, or how it ranks."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from signed_reference import FIELDS, N_USERS, SmallData, defaults, small_data

from recbole_signed.plugin import registry

NAMES = (
    *("DFGNN", "DirectAU", "LSGRec", "LightGCL", "PANEGNN", "PoneGNN", "SBGNN", "SGCN", "SLGNN", "SiGRec", "SiReN"),
    *("SimGCL", "UltraGCN", "XSimGCL"),
)
OF_TRAINING = {
    *("embedding_size", "epochs", "eval_step", "learning_rate", "lr_gamma", "lr_milestones", "n_negatives"),
    *("negative_exponent", "sift_positives", "stopping_step", "train_batch_size", "weight_decay"),
}
"""Keys that the trainer or the loader of training batches reads, or that change the shape of all."""
BASE: dict[str, dict[str, Any]] = {
    "DirectAU": {"encoder": "LightGCN"},
    "LightGCL": {"q": 3},
    "UltraGCN": {"w1": 0.2, "w3": 0.3, "lambda": 0.5, "negative_weight": 2.0, "ii_neighbor_num": 4, "gamma": 0.1},
    "XSimGCL": {"n_layers": 3},
}
"""Values with which the other keys count for something on small data."""
OTHERS: dict[tuple[str, str], Any] = {("DirectAU", "encoder"): "MF", ("PoneGNN", "disinterest_every"): 1}
"""Other values, where half as much and a bit, or one more, would not do."""


def properties(name: str) -> dict[str, Any]:
    return {**FIELDS, "show_progress": False, **defaults(name), "embedding_size": 6, **BASE.get(name, {})}


def other(name: str, key: str, value: Any) -> Any:
    if (name, key) in OTHERS:
        return OTHERS[name, key]
    return value + 1 if isinstance(value, int) else 0.5 * float(value) + 0.17


def signature(name: str, data: SmallData, config: dict[str, Any]) -> list[torch.Tensor]:
    """The start, the scores, and the losses of two epochs, with dropout and noise, and without."""
    torch.manual_seed(0)
    model = registry.load_object(f"recbole_signed.model.{name.lower()}:{name}")(config, data).double()
    start = [each.detach().clone() for each in model.parameters()]
    with torch.no_grad():
        for each in model.parameters():
            each.copy_(0.7 * torch.randn(each.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    batch = data.batch(3)
    if type(model).batches == "likes":
        batch = {key: column[batch["sign"] > 0] for key, column in batch.items()}
    scores = model.eval().score(torch.arange(N_USERS))
    losses = []
    for epoch, mode in product((0, 1), (False, True)):
        if hasattr(model, "start_epoch"):
            model.start_epoch(epoch)
        torch.manual_seed(2)
        losses.append(model.train(mode).loss(batch).detach())
    return [*start, scores, *losses]


KEYS = [
    (name, key) for name in NAMES for key in properties(name) if key not in {*OF_TRAINING, *FIELDS, "show_progress"}
]


@pytest.mark.parametrize(("name", "key"), KEYS, ids=["-".join(each) for each in KEYS])
def test_a_key_has_an_effect(name: str, key: str) -> None:
    data, config = small_data(), properties(name)
    changed = {**config, key: other(name, key, config[key])}
    assert changed[key] != config[key]
    before, again, after = (signature(name, data, each) for each in (config, config, changed))
    assert all(torch.equal(*pair) for pair in zip(before, again, strict=True)), "what is compared repeats itself"
    same = [one.shape == two.shape and torch.equal(one, two) for one, two in zip(before, after, strict=False)]
    assert not all(same), f"{name} does not read {key}"
