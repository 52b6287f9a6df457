"""A small model that RecBole trains and that then follows events, for tests of the online trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

from recbole_signed.live import OnlineTrainer

FEW_STEPS = {"online_settings": {"refresh_steps": 2, "valid_share": 0.0}}  # after two epochs a model still moves fast
FIELDS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]


def train_online(model: str, folder: Path, **config: Any) -> OnlineTrainer:
    """Train on ``folder/dataset/stream`` and go online from ``folder/state``; the parts are its ``.parts``."""
    settings = Config(
        model=model,
        dataset="stream",
        config_dict={
            "data_path": str(folder / "dataset"),
            "load_col": {"inter": [field.split(":")[0] for field in FIELDS]},
            "eval_args": {"order": "TO", "split": {"RS": [0.8, 0.1, 0.1]}, "group_by": None, "mode": "full"},
            "trainer": "OnlineTrainer",
            "online_state": str(folder / "state"),
            "checkpoint_dir": str(folder / "saved"),
            **config,
        },
    )
    init_seed(settings["seed"], settings["reproducibility"])
    parts = data_preparation(settings, create_dataset(settings))
    made = get_model(model)(settings, parts[0]._dataset).to(settings["device"])
    trainer = get_trainer(settings["MODEL_TYPE"], model)(settings, made)
    trainer.fit(parts[0], parts[1], saved=False, show_progress=False)
    trainer.parts = parts
    return trainer
