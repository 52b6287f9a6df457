"""Values out of range are refused in a sentence, for every model."""

import logging
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prepared import trainer_of
from recbole.config import Config
from refusals import check_refused

from recbole_signed.errors import UsageError
from recbole_signed.plugin import make_config, ranges, registry
from recbole_signed.plugin.assignments import parse_assignments
from recbole_signed.plugin.facts import facts_of
from recbole_signed.plugin.ranges import RANGES, Interval, declared_for, ranges_of, without_removed
from recbole_signed.yaml_spec import read_yaml

WRONG: dict[str, list[Any]] = {
    "n_layers": [-2],
    "embedding_size": [0, 4.5],
    "epochs": [-1, 2.7],
    "training_budget": [-1, "abc"],
    "weight_decay": [-1],
    "worker": [-1],
    "metric_decimal_place": [-3],
    "metrics": [[]],
    "topk": [[0], []],
    "MAX_ITEM_LIST_LENGTH": [0],
    "benchmark_filename": [[], "train"],
    "lr_milestones": [1, ["soon"]],
    "learner": ["foo"],
    "clip_grad_norm": [5.0, {"norm_type": 2}],
    "seed": [-1, 99999999999999],
    "learning_rate": [0, float("nan")],
    "stopping_step": [True],
    "eval_args": [
        {"split": {"RS": [0.5, 0.5, -0.1]}},
        {"mode": "uni"},
        {"mode": "uni0"},  # every held-out like would be the first of one candidate
        {"mode": {"valid": "full", "test": "full50"}},
        {"mode": {"tset": "uni50"}},
        {"order": "TO", "group-by": "none"},  # RecBole would split by user
    ],
    "train_neg_sample_args": [
        {"distribution": "uniform", "num": 5},
        {"distribution": "uniform", "sample_num": 0},
        {"distribution": "uniform", "sample_num": 1.5},
        {"distribution": "popularity", "alpha": "much"},
        {"distribution": "popularity", "alpha": float("inf")},
        {"distribution": "popularity", "alpha": float("nan")},
        {"distribution": "uniform", "dynamic": True, "candidate_num": 0},
    ],
}


@pytest.fixture
def configure(signed: str) -> Callable[..., Config]:
    return lambda model, **settings: Config(
        model=model, dataset=signed, config_dict={"data_path": "dataset", "state": "ERROR", **settings}
    )


def test_gradients_are_clipped_as_recbole_does(prepare_model: Callable[..., Any]) -> None:
    moved = []
    for clip in (None, {"max_norm": 1e-12}):
        model, config, parts = prepare_model("BPR", clip_grad_norm=clip, epochs=1, learning_rate=0.01)
        start = model.item_embedding.weight.detach().clone()
        trainer_of(config, model).fit(parts[0], saved=False)
        moved.append(float((model.item_embedding.weight.detach() - start).norm()))
    assert moved[1] < 0.01 * moved[0]


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values], ids=str)
@pytest.mark.parametrize("model", ["SGCN", "BPR"])
def test_wrong_values_are_refused(model: str, key: str, value: Any, configure: Callable[..., Config]) -> None:
    with pytest.raises(UsageError) as error:
        configure(model, **{key: value})
    sentence = str(error.value)
    assert key in sentence or "ratios" in sentence
    assert "\n" not in sentence


@given(st.sampled_from(sorted(RANGES)), st.integers() | st.floats() | st.text() | st.booleans() | st.lists(st.none()))
def test_a_range_holds_numbers_between_its_ends(key: str, value: Any) -> None:
    limits = RANGES[key]
    assert isinstance(limits, Interval)
    if limits.holds(value):
        assert isinstance(value, (int, float))
        assert not isinstance(value, bool)
        assert limits.low <= value <= limits.high
        assert limits.kind is float or value == int(value)


@pytest.mark.parametrize(
    ("text", "sentence", "inside", "outside"),
    [
        ("[0, inf)", "a number 0 or more", (0, 0.5, 1e300), (-1e-9, math.inf, math.nan)),
        ("(0, 1]", "a number above 0 and at most 1", (1e-9, 1), (0, 1.1)),
        ("int [1, 16]", "a whole number 1 or more and at most 16", (1, 16.0), (0, 1.5, 17, True)),
        ("(0, 1)", "a number above 0 and below 1", (0.5,), (0, 1)),
        ("(-inf, inf)", "a number", (-1e300, 0), ("1", None)),
        ("MF | LightGCN", "one of MF, LightGCN", ("MF", "LightGCN"), ("mf", "MF | LightGCN", 1)),
    ],
)
def test_a_declaration_is_an_interval_or_words(
    text: str, sentence: str, inside: tuple[Any, ...], outside: tuple[Any, ...]
) -> None:
    declared = Interval.parse(text)
    assert str(declared) == sentence
    assert [each for each in (*inside, *outside) if declared.holds(each)] == [*inside]


def test_defaults_of_recbole_are_in_the_ranges() -> None:
    folder = registry.recbole_folder()
    assert folder is not None
    for path in sorted((folder / "properties" / "model").glob("*.yaml")):
        for key, default in (read_yaml(path) or {}).items():
            if key in RANGES and default is not None:
                assert declared_for(RANGES[key], default).holds(default), f"{path.stem}: {key}"


@pytest.mark.parametrize(("model", "default"), [("HGN", [0.0, 0.0]), ("SHAN", [0.01, 0.0001])])
def test_each_value_of_a_list_has_the_range(model: str, default: list[float], configure: Callable[..., Config]) -> None:
    """RecBole's two models with more than one regularisation."""
    order = {"eval_args": {"order": "TO"}}
    assert configure(model, **order)["reg_weight"] == default
    assert configure(model, reg_weight=[0.1, 0.001], **order)["reg_weight"] == [0.1, 0.001]
    for wrong in ([0.1, -1.0], 0.1, ["small", 0.1]):
        with pytest.raises(UsageError, match=r"reg_weight is .* it must be a list, each of its values a number 0"):
            configure(model, reg_weight=wrong, **order)


SAMPLING = sorted({m for m in registry.models() if facts_of(m).trained_by_gradients} - {"DirectAU", "SignedSASRec"})
OF_MODELS = [
    ("BSPM", "solver_b", "leapfrog", "one of euler, rk4"),
    ("DecayPop", "half_life", 0, "a number above 0"),
    ("DirectAU", "encoder", "lightGCN", "one of MF, LightGCN"),
    ("PANEGNN", "removed_share", 1.5, "a number 0 or more and at most 1"),
    ("PoneGNN", "disinterest_every", 0, "a whole number 1 or more"),
    ("PoneGNN", "n_layers", 0, "a whole number 1 or more"),
    ("SIGformer", "alpha", -1, "a number above -1"),
    ("SIGformer", "sample_hop", 0, "a whole number 1 or more and at most 16"),
    ("SignedEASE", "reg_weight", 0, "a number above 0"),
    ("SiGRec", "dislike_margin", 2, "a number -1 or more and at most 1"),
    ("SiReN", "dropout_prob", 1, "a number 0 or more and below 1"),
    ("SSF", "degree_smoothing", -2, "a number 0 or more"),
    ("SSF", "rank", 0, "a whole number 1 or more"),
    ("SSFL", "cutoff", -1, "a whole number 0 or more"),
    ("SSFL", "learned_rank", 0, "a whole number 1 or more"),
    ("TurboCF", "filter_order", 4, "a whole number 1 or more and at most 3"),
    *((model, "n_layers", 0, "a whole number 1 or more") for model in ("SimGCL", "XSimGCL")),  # it is a mean of layers
    *((model, "n_negatives", 0, "a whole number 1 or more") for model in SAMPLING),
]


@pytest.mark.parametrize(("model", "key", "value", "wanted"), OF_MODELS)
def test_a_value_that_a_model_can_not_mean_is_refused(
    model: str, key: str, value: Any, wanted: str, configure: Callable[..., Config]
) -> None:
    check_refused(re.escape(f"{key} is {value!r}; it must be {wanted}."), configure, model, **{key: value})


@pytest.mark.parametrize("model", sorted(path.stem for path in registry.PROPERTIES.glob("*.yaml")))
def test_every_number_and_word_of_a_model_has_a_range(model: str, configure: Callable[..., Config]) -> None:
    defaults = yaml.safe_load((registry.PROPERTIES / f"{model}.yaml").read_text(encoding="utf-8"))
    ranges = ranges_of(configure(model).model_class)
    assert not [key for key, value in defaults.items() if type(value) in (int, float, str) and key not in ranges]
    wrong = {key: value for key, value in configure(model).final_config_dict.items() if key in defaults}
    assert [key for key, value in wrong.items() if key in ranges and not ranges[key].holds(value)] == []


def test_a_model_adds_ranges_and_a_gpu_that_is_not_there_is_named(
    configure: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from recbole.model.general_recommender import BPR

    monkeypatch.setattr(BPR, "parameter_ranges", {"embedding_size": "int [8, 16]"}, raising=False)
    check_refused("8 or more and at most 16", configure, "BPR", embedding_size=4)
    configure("BPR", embedding_size=8)
    with caplog.at_level(logging.WARNING):
        configure("BPR", gpu_id="5", use_gpu=True)
    assert "A GPU is asked for" in caplog.text


@pytest.fixture
def rated(write_inter: Callable[..., Path]) -> None:
    rows = [(user, item, (user + item) % 5 + 1) for user in range(9) for item in range(12)]
    write_inter("rated", ["user_id:token", "item_id:token", "rating:float"], rows)


@pytest.mark.usefixtures("rated")
@pytest.mark.parametrize(
    ("given", "warns"),
    [
        ([], True),
        (["SIGN_FIELD=null"], False),
        (["SIGN_FIELD=~"], False),
        ([f"SIGN_FIELD={Path.home()}"], False),  # what a shell makes of the line above
        (["sign_rule={like: rating >= 4, dislike: rating <= 2}"], False),
        (["threshold={rating: 4}"], False),
        (["val_interval={rating: '[4,inf)'}"], False),
    ],
)
def test_ratings_without_a_sign_are_named(given: list[str], warns: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        make_config("BPR", "rated", overrides={"data_path": "dataset", **parse_assignments(given)})
    found = [each.getMessage() for each in caplog.records if "no sign" in each.getMessage()]
    assert len(found) == warns
    assert all("counts as a like" in each and "sign_rule" in each and "SIGN_FIELD=null" in each for each in found)


@pytest.mark.parametrize(
    "given",
    [
        "val_interval={rating: 5}",
        "val_interval={rating: '4,5'}",
        "val_interval={rating: '[4;5]'}",
        "val_interval={rating: '[5,4]'}",
        "val_interval={rating: '[4,five]'}",
        "val_interval={rating: '[4,5];'}",
        "val_interval=5",
        "user_inter_num_interval=5",
        "item_inter_num_interval=5,inf",
    ],
)
@pytest.mark.usefixtures("rated")
def test_what_recbole_reads_as_no_interval_is_refused(given: str) -> None:
    name = given.partition("=")[0]
    with pytest.raises(UsageError, match=f"{name} (of 'rating' )?is .*; it must be "):
        make_config("BPR", "rated", overrides={"data_path": "dataset", **parse_assignments([given])})


@pytest.mark.parametrize("given", ["'[4,5]'", "[4, 5]", "'(0, 1];[3,inf)'", "[a, b]", "'(-inf,4)'"])
@pytest.mark.usefixtures("rated")
def test_intervals_and_lists_of_words_are_taken(given: str) -> None:
    words = [f"val_interval={{rating: {given}}}", "user_inter_num_interval=[5,inf)", "item_inter_num_interval=(0,9]"]
    config = make_config("BPR", "rated", overrides={"data_path": "dataset", **parse_assignments(words)})
    assert config["user_inter_num_interval"] == "[5,inf)"


def test_whole_numbers_as_floats_and_numbers_that_no_float_holds(configure: Callable[..., Config]) -> None:
    config = configure("SGCN", train_batch_size=1e4, n_layers=2.0, epochs="1e2", topk=20.0, valid_metric="MRR@20")
    found = [config[key] for key in ("train_batch_size", "n_layers", "epochs")]
    assert (found, config["topk"]) == ([10_000, 2, 100], [20])
    assert {type(each) for each in (*found, *config["topk"])} == {int}
    for key in ("rank", "dislike_weight", "seed"):
        check_refused(f"{key}'? is 1000", configure, "SSF", **{key: 10**400})
    check_refused("a whole number 0 or more and at most 4294967295", configure, "SSF", seed=2**32)


def test_values_of_numpy_are_those_of_python(configure: Callable[..., Config]) -> None:
    given = {
        "seed": np.int64(3), "rank": np.uint16(8), "dislike_weight": np.float32(0.25), "auto": np.bool_(False),
        "topk": np.array([5, 10]), "eval_args": {"split": {"RS": [np.float64(0.8), np.float32(0.125), 0.075]}},
        "valid_metric": "MRR@5",
    }  # fmt: skip
    plain = {**given, "seed": 3, "rank": 8, "dislike_weight": 0.25, "auto": False, "topk": [5, 10]}
    plain["eval_args"] = {"split": {"RS": [0.8, 0.125, 0.075]}}
    config = configure("SSF", **given)
    found = {key: config.external_config_dict[key] for key in plain}
    assert repr(found) == repr(plain), "and so are what rows and checkpoints hold"
    assert config["rank"] == 8
    check_refused("rank is 0; it must be a whole number 1 or more", configure, "SSF", rank=np.int64(0))


def test_all_rows_in_one_batch_are_for_the_models_that_can(configure: Callable[..., Config]) -> None:
    for model in ("SGCN", "SSF"):
        assert configure(model, train_batch_size=0)["train_batch_size"] == 0
    for model in ("BPR", "SignedSASRec"):
        check_refused("train_batch_size is 0", configure, model, train_batch_size=0)


def test_heads_divide_the_width(prepare_model: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="hidden_size is 64; it must be a multiple of n_heads"):
        prepare_model("SignedSASRec", n_heads=3, state="ERROR")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"topk": [20]}, "valid_metric is MRR@10, but topk is [20]; set it to MRR@20, say."),
        ({"metrics": ["Recall", "NDCG"]}, "valid_metric is MRR@10, but metrics are Recall, NDCG; add it to them."),
        ({"valid_metric": "NDCG@010"}, "valid_metric is NDCG@010, but topk is [10]; set it to NDCG@10, say."),
        ({"valid_metric": "NDCG"}, "valid_metric is NDCG, but topk is [10]; set it to NDCG@10, say."),
        (
            {"metrics": ["NDCG", "SignAUC"], "valid_metric": "SignAUC@10"},
            "valid_metric is SignAUC@10, but SignAUC is of no length; set it to SignAUC.",
        ),
        (
            {"metrics": ["ItemCoverage"], "valid_metric": "ItemCoverage"},
            "valid_metric is ItemCoverage, but topk is [10]; set it to ItemCoverage@10, say.",
        ),
        (
            {"metrics": ["GroupRecall"], "valid_metric": "GroupRecall@10"},
            "valid_metric is GroupRecall@10, which has a value for each group; choose another one.",
        ),
        (
            {"metrics": ["SignedNDCG"], "valid_metric": "SignedNDCG@10[gamma 3]", "signed_gamma": [1, 2]},
            "valid_metric is SignedNDCG@10[gamma 3], but topk is [10]; set it to SignedNDCG@10, say.",
        ),
    ],
)
def test_chosen_metrics_are_computed(settings: dict[str, Any], message: str, prepare_model: Callable[..., Any]) -> None:
    model, config, parts = prepare_model("BPR", epochs=1, state="ERROR", **settings)
    trainer = trainer_of(config, model)
    check_refused(re.escape(message), trainer.fit, parts[0], parts[1], saved=False)
    assert not trainer.train_loss_dict
    trainer.fit(parts[0], saved=False)  # nothing is chosen


@pytest.mark.parametrize("metric", ["Recall", "DislikeRecall"])
def test_lists_that_are_longer_than_the_catalogue_are_refused(metric: str, prepare_model: Callable[..., Any]) -> None:
    few = {"topk": [60], "metrics": [metric], "valid_metric": f"{metric}@60"}
    model, config, parts = prepare_model("SGCN", epochs=1, state="ERROR", **few)
    with pytest.raises(UsageError, match=re.escape("topk is [60], but 'small' has 50 items")):
        trainer_of(config, model).fit(parts[0], parts[1], saved=False)


def test_keys_of_earlier_versions_are_taken_out_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    ranges._warn_once.cache_clear()
    old = {"half_life": 3.0, "held": ["half_life"], "linear_weight": 0.0, "rank": 5}
    assert without_removed(dict(old), "DecayPop") == {key: old[key] for key in ("half_life", "held", "rank")}
    assert without_removed(dict(old), "SSFT", known=["half_life"]) == {"half_life": 3.0, "rank": 5}
    caplog.clear()
    for _ in range(2):
        assert without_removed(dict(old), "SSFT") == {"rank": 5}
    (said,) = caplog.messages
    assert said.startswith("half_life, held: of no effect any more")
