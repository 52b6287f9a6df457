"""Models on a small data set with likes, dislikes and times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, init_seed

COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]


@pytest.fixture
def prepare_model(write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path) -> Callable[..., Any]:
    """Return a function of a model's name and RecBole's keys that gives the model, the configuration and the parts."""

    def make(name: str, **config: Any) -> tuple[Any, Any, tuple[Any, Any, Any]]:
        write_inter("small", COLUMNS, signed_rows)
        settings = Config(
            model=name,
            dataset="small",
            config_dict={
                "data_path": str(tmp_path / "dataset"),
                "load_col": {"inter": ["user_id", "item_id", "sign", "timestamp"]},
                "state": "INFO",
                "checkpoint_dir": str(tmp_path / "saved"),
                **config,
            },
        )
        init_seed(settings["seed"], settings["reproducibility"])
        parts = data_preparation(settings, create_dataset(settings))
        return get_model(name)(settings, parts[0]._dataset), settings, parts

    return make
