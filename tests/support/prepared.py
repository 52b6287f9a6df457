"""What RecBole makes of a data set under ``dataset/`` of the current folder, up to a model that is trained on it."""

from typing import Any

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

Parts = tuple[Any, Any, Any]


def prepared(dataset: str, model: Any = "BPR", **settings: Any) -> tuple[Config, Any, Parts]:
    """Return the configuration, the data set and its parts."""
    config = Config(model=model, dataset=dataset, config_dict={"state": "ERROR", **settings})
    init_seed(config["seed"], config["reproducibility"])
    data = create_dataset(config)
    return config, data, data_preparation(config, data)


def instance(config: Config, parts: Parts, *, fit: bool = False) -> Any:
    """Return the model of a configuration, ready to score, fitted if that is asked for."""
    trainer = new_trainer(config, parts)
    if fit:
        trainer.fit(parts[0], parts[1], saved=False, show_progress=False)
    return trainer.model.eval()


def new_trainer(config: Config, parts: Parts) -> Any:
    """Return the trainer of a new model."""
    return trainer_of(config, get_model(config["model"])(config, parts[0]._dataset).to(config["device"]))


def trainer_of(config: Config, model: Any) -> Any:
    """Return a model's trainer."""
    return get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
