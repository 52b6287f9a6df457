"""Models, evaluation and live updates on a GPU against the same on the CPU.

``pytest -m gpu -n 0 tests/gpu``. ``RECBOLE_SIGNED_GPU_TESTS=cpu`` runs the same comparisons without a GPU, which shows
that a failure on a GPU is one of the GPU.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.utils import ModelType, get_model, get_trainer, init_seed

from recbole_signed.live import Event
from recbole_signed.plugin import make_config, registry

DEVICE = os.environ.get("RECBOLE_SIGNED_GPU_TESTS", "cuda")
OURS = sorted(name for name, entry in registry.models().items() if entry.module.startswith("recbole_signed."))
ATOMIC_FILES = Path(__file__).resolve().parents[2] / "atomic_files"
IN_EPOCHS = [name for name in OURS if get_model(name).type != ModelType.TRADITIONAL]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="torch sees no GPU here"),
]


class Prepared:
    """A model on toy-signed with its data and its trainer, on one device."""

    def __init__(self, name: str, device: str, folder: Path, **settings: Any) -> None:
        """Build it, untrained."""
        overrides = {
            "data_path": str(ATOMIC_FILES), "checkpoint_dir": str(folder), "use_gpu": device == "cuda", "epochs": 1,
            "show_progress": False, "state": "ERROR", "seed": 3, **settings,
        }  # fmt: skip
        self.config = make_config(name, "toy-signed", overrides=overrides)
        assert self.config["device"].type == device
        init_seed(3, reproducibility=True)
        self.parts = data_preparation(self.config, create_dataset(self.config))
        self.model = get_model(name)(self.config, self.parts[0]._dataset).to(self.config["device"])
        self.trainer = get_trainer(self.config["MODEL_TYPE"], name)(self.config, self.model)

    def fit(self) -> Prepared:
        """Train it for an epoch."""
        self.trainer.fit(self.parts[0], None, saved=False, show_progress=False)
        self.model.eval()
        return self

    def scores(self) -> torch.Tensor:
        """Return the scores of 50 users, ``[50, n_items]``, on the CPU."""
        users = torch.arange(1, 51, device=self.config["device"])
        with torch.no_grad():
            return self.model.full_sort_predict(Interaction({"user_id": users})).view(50, -1).cpu()

    def loss(self, seed: int) -> tuple[float, dict[str, torch.Tensor]]:
        """Return the loss of the first batch and its gradients, with torch's generators at a seed."""
        init_seed(7, reproducibility=True)
        batch = next(iter(self.parts[0])).to(self.config["device"])
        torch.manual_seed(seed)
        self.model.train()
        self.model.zero_grad()
        parts = self.model.calculate_loss(batch)
        total = sum(parts) if isinstance(parts, tuple) else parts
        total.backward()
        gradients = {key: each.grad.cpu() for key, each in self.model.named_parameters() if each.grad is not None}
        self.model.eval()
        return float(total.detach()), gradients


@pytest.mark.parametrize("name", OURS)
def test_an_epoch_trains_and_its_scores_are_those_of_the_cpu(name: str, tmp_path: Path) -> None:
    """The trained state gives the same scores on both devices; a closed form is fitted on each."""
    if name in IN_EPOCHS:
        here, there = Prepared(name, DEVICE, tmp_path).fit(), Prepared(name, "cpu", tmp_path)
        there.model.load_state_dict({key: value.cpu() for key, value in here.model.state_dict().items()})
        there.model.eval()
    else:
        here, there = (Prepared(name, device, tmp_path).fit() for device in (DEVICE, "cpu"))
    torch.testing.assert_close(here.scores(), there.scores(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", IN_EPOCHS)
def test_loss_and_gradients_are_those_of_the_cpu(name: str, tmp_path: Path) -> None:
    here, there = (Prepared(name, device, tmp_path) for device in (DEVICE, "cpu"))
    there.model.load_state_dict({key: value.cpu() for key, value in here.model.state_dict().items()})
    (loss, gradients), (expected, wanted) = here.loss(seed=1), there.loss(seed=1)
    assert np.isfinite(loss)
    if there.loss(seed=2)[0] != expected:
        return  # it draws noise on its device, and the devices draw differently
    assert loss == pytest.approx(expected, rel=1e-3)
    assert gradients.keys() == wanted.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[key], rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("name", ["SSF", "LightGCN", "EASE", "Pop"])
def test_evaluation_gives_the_metrics_of_the_cpu(name: str, tmp_path: Path) -> None:
    results = []
    for device in (DEVICE, "cpu"):
        prepared = Prepared(name, device, tmp_path, metrics=["Recall", "NDCG", "DislikeRecall", "SignAUC"])
        if name == "LightGCN":
            state = {key: torch.full_like(value, 0.1) for key, value in prepared.model.state_dict().items()}
            generator = torch.Generator().manual_seed(5)
            state |= {key: torch.rand(value.shape, generator=generator) for key, value in state.items()}
            prepared.model.load_state_dict(state)
        else:
            prepared.fit()
        results.append(prepared.trainer.evaluate(prepared.parts[2], load_best_model=False))
    assert dict(results[0]) == pytest.approx(dict(results[1]), abs=2e-3)


@pytest.mark.parametrize("name", ["SSF", "SSFL", "SSFT"])
def test_a_state_that_was_fitted_on_the_gpu_follows_events(name: str, tmp_path: Path) -> None:
    lists = []
    for number, device in enumerate((DEVICE, "cpu")):
        live = Prepared(
            name, device, tmp_path, auto=False, trainer="OnlineTrainer", online_state=str(tmp_path / str(number))
        )
        live.trainer.fit(live.parts[0], None, saved=False, show_progress=False)
        try:
            item = live.trainer.recommend("u1", 10)[0][0]
            live.trainer.update([Event("e1", "u1", item, "dislike", 1_750_000_000_000)])
            lists.append([shown for shown, _ in live.trainer.recommend("u1", 10)])
        finally:
            live.trainer.close()
        assert item not in lists[-1]
    assert lists[0] == lists[1]
