"""A process with stock RecBole in which recbole_signed cannot be imported: runs the jobs of a JSON file.

Beside that, only what RecBole 1.2 needs to start on a current stack at all.
"""

import importlib.abc
import json
import sys
import types


class _Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] == "recbole_signed":
            raise ImportError("recbole_signed is blocked in this process")
        return None


sys.meta_path.insert(0, _Blocked())

import numpy as np  # noqa: E402

for _name, _value in {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}.items():
    if _name not in vars(np):
        setattr(np, _name, _value)
_ray = types.ModuleType("ray")
_ray.tune = types.ModuleType("ray.tune")
sys.modules.update({"ray": _ray, "ray.tune": _ray.tune})


def run(job):
    from logging import getLogger

    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.data.interaction import Interaction
    from recbole.utils import ModelType, get_model, get_trainer, init_seed

    config = Config(model=job["model"], dataset=job["dataset"], config_dict=job["config"])
    getLogger().setLevel("ERROR")
    init_seed(config["seed"], True)
    train, valid, test = data_preparation(config, create_dataset(config))
    model = get_model(config["model"])(config, train._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, valid, show_progress=False)
    losses = [float(each) for each in trainer.train_loss_dict.values()]
    result = {name: float(value) for name, value in trainer.evaluate(test, show_progress=False).items()}
    common = {"class": type(model).__module__, "result": result, "losses": losses}
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        return {**common, "dislikes": int((model.with_signs(train._dataset.inter_feat)["sign_list"] < 0).sum())}
    users = torch.arange(1, model.n_users)
    scores = model.full_sort_predict(Interaction({model.USER_ID: users})).reshape(len(users), -1)
    dataset = train._dataset
    return {
        **common,
        "dislikes": int(model.graph.dislikes.nnz),
        "users": [str(each) for each in dataset.field2id_token[model.USER_ID][1:]],
        "scores": torch.where(scores.isinf(), torch.tensor(-1e30, dtype=scores.dtype), scores).tolist(),
    }


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        jobs = json.load(file)
    sys.argv[1:] = []  # RecBole reads the command line
    done = [run(job) for job in jobs]
    assert "recbole_signed" not in sys.modules
    sys.stdout.write("\n" + json.dumps(done) + "\n")
