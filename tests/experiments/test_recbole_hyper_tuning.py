"""RecBole's own way to tune, ``HyperTuning`` with ``objective_function``, on models that only the plugin knows."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hyperopt", reason="RecBole's HyperTuning stands on hyperopt, which RecBole does not install")

from recbole.quick_start import objective_function
from recbole.trainer import HyperTuning

from recbole_signed.runs import run

FIXED = "metrics: [Recall, NDCG, DislikeRecall]\ntopk: [5]\nvalid_metric: NDCG@5\nstate: ERROR\nshow_progress: False\n"


@pytest.fixture
def fixed(toy: str) -> Any:
    def write(model: str) -> list[str]:
        Path("fixed.yaml").write_text(f"model: {model}\ndataset: {toy}\n{FIXED}", encoding="utf-8")
        return ["fixed.yaml"]

    return write


def test_an_exhaustive_search_over_a_file_of_parameters(fixed: Any) -> None:
    Path("hyper.test").write_text("reg_weight choice [1.0,10.0]\ndislike_weight choice [-0.5,0.5]\n", encoding="utf-8")
    tuning = HyperTuning(
        objective_function,
        params_file="hyper.test",
        fixed_config_file_list=fixed("SignedEASE"),
        algo="exhaustive",
        early_stop=10,
    )
    tuning.run()
    assert len(tuning.params2result) == 4
    assert tuning.best_params.keys() == {"reg_weight", "dislike_weight"}
    best = max(tuning.params2result.values(), key=lambda each: each["best_valid_score"])
    assert best["best_valid_score"] == tuning.best_score
    assert "dislikerecall@5" in best["test_result"]
    row = run("SignedEASE", "toy-signed", ["fixed.yaml"], tuning.best_params, save=False)
    assert row.valid["ndcg@5"] == pytest.approx(tuning.best_score)
    tuning.export_result("result.txt")
    assert Path("result.txt").read_text(encoding="utf-8").count("Valid result") == 4


@pytest.mark.parametrize("algo", ["random", "bayes"])
def test_a_sampled_search_over_an_epoch_model(algo: str, fixed: Any) -> None:
    tuning = HyperTuning(
        objective_function,
        params_dict={"loguniform": {"learning_rate": [-6, -3]}, "choice": {"n_layers": [1, 2], "epochs": [1]}},
        fixed_config_file_list=fixed("SiGRec"),
        algo=algo,
        max_evals=2,
        early_stop=10,
    )
    tuning.run()
    assert len(tuning.score_list) == 2
    assert tuning.best_score == max(tuning.score_list)
