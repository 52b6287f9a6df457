"""Settings of runs that stock RecBole and this package make alike, and RecBole's repository in small."""

from collections.abc import Callable
from typing import Any

COMMON = {
    "benchmark_filename": ["train", "valid", "test"], "metrics": ["Recall", "NDCG"], "topk": [10],
    "valid_metric": "NDCG@10", "metric_decimal_place": 12, "show_progress": False, "state": "ERROR", "eval_step": 1,
    "learner": "adam",
}  # fmt: skip
LIKES = {"load_col": {"inter": ["user_id", "item_id"]}}
DISLIKES = {
    "load_col": {"inter": ["user_id", "item_id"], "dislike": ["dislike_user_id", "dislike_item_id"]},
    "additional_feat_suffix": ["dislike"],
    "alias_of_user_id": ["dislike_user_id"],
    "alias_of_item_id": ["dislike_item_id"],
}
TIMED_LIKES = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
TIMED_DISLIKES = {
    **DISLIKES,
    "load_col": {**TIMED_LIKES["load_col"], "dislike": ["dislike_user_id", "dislike_item_id", "dislike_timestamp"]},
}
SEQUENCES = {
    "benchmark_filename": None,
    "eval_args": {"order": "TO", "split": {"LS": "valid_and_test"}, "group_by": "user", "mode": "full"},
    "train_neg_sample_args": None,
    "MAX_ITEM_LIST_LENGTH": 10,
}
"""Settings of sequential models, on data with times."""
Runner = Callable[..., list[dict[str, Any]]]

_ROW = """{
          "category": "General Recommendation",
          "model": "NAME",
          "model_link": "/docs/user_guide/model/PATH.html",
          "repository": "RecBole",
          "repo_link": "https://github.com/RUCAIBox/RecBole"
      }"""
_ROWS = ",\n      ".join(
    _ROW.replace("NAME", name).replace("PATH", path)
    for name, path in (("Pop", "general/pop"), ("LR", "context/lr"), ("SASRec", "sequential/sasrec"))
)
REPOSITORY = {
    "tests/model/test_model_auto.py": (
        "import unittest\n\n\nclass TestGeneralRecommender(unittest.TestCase):\n"
        '    def test_pop(self):\n        config_dict = {\n            "model": "Pop",\n        }\n'
        "        quick_test(config_dict)\n\n\nclass TestContextRecommender(unittest.TestCase):\n"
        "    def test_lr(self):\n        pass\n\n\nclass TestSequentialRecommender(unittest.TestCase):\n"
        "    def test_sasrec(self):\n        pass\n\n\nif __name__ == '__main__':\n    unittest.main()\n"
    ),
    "docs/source/user_guide/model_intro.rst": (
        "Model Introduction\n==================\nWe implement 94 recommendation models.\n\n"
        ".. toctree::\n   :maxdepth: 1\n\n   model/general/pop\n\n\n.. toctree::\n\n   model/context/lr\n\n\n"
        ".. toctree::\n\n   model/sequential/sasrec\n"
    ),
    "docs/source/recbole/recbole.model.general_recommender.rst": (
        "Title\n=====\n\n.. toctree::\n   :maxdepth: 4\n\n   recbole.model.general_recommender.pop\n"
    ),
    "docs/source/recbole/recbole.model.sequential_recommender.rst": (
        "Title\n=====\n\n.. toctree::\n   :maxdepth: 4\n\n   recbole.model.sequential_recommender.sasrec\n"
    ),
    "asset/model_list.json": f'{{\n  "data": [\n      {_ROWS}\n  ]\n}}',
}
"""Files of RecBole's repository in small."""
