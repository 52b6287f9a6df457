import re
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from refusals import check_refused

from recbole_signed.convert import convert
from recbole_signed.lab.tuning.space import Space
from recbole_signed.lab.tuning.task import Task, facts_of
from recbole_signed.plugin import registry
from recbole_signed.runs.runner import DataCache

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_space(text: str) -> Path:
        path = tmp_path / "Model.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_space


ALL = """
encoder: [MF, LightGCN]
mlp_hidden_size: [[300], [600, 200]]
dropout_prob: {uniform: [0, 0.5], step: 0.1}
learning_rate: {log_uniform: [1e-4, 1e-2]}
embedding_size: {int: [16, 64], step: 16}
rank: {log_int: [16, 512]}
"""


def test_each_form_draws_what_it_says(write: Write) -> None:
    space = Space.read(write(ALL))
    drawn = optuna.create_study(sampler=RandomSampler(1)).ask(dict(space.parameters)).params
    drawn |= {"encoder": '"MF"', "mlp_hidden_size": "[600, 200]", "learning_rate": 0.00123456}
    found = space.values(drawn)
    assert (found["encoder"], found["mlp_hidden_size"], found["learning_rate"]) == ("MF", [600, 200], 0.001235)
    assert all(space.contains(key, value) for key, value in found.items())
    dropout, rate, size, rank = (
        space.parameters[key] for key in ("dropout_prob", "learning_rate", "embedding_size", "rank")
    )
    assert dropout == FloatDistribution(0.0, 0.5, step=0.1)
    assert rate == FloatDistribution(1e-4, 1e-2, log=True)
    assert size == IntDistribution(16, 64, step=16)
    assert rank == IntDistribution(16, 512, log=True)


def test_points_of_a_space(write: Write) -> None:
    space = Space.read(write("a: {uniform: [0.123462, 0.234568]}"))
    for value, tried in ((0.123463, 0.1235), (0.123449, 0.123462), (0.2, 0.2), (0.234568, 0.234568)):
        assert space.values({"a": value}) == {"a": tried}
    space = Space.read(write("a: {uniform: [-0.8, 0.8], step: 0.2}"))
    tried = [space.values({"a": -0.8 + step * 0.2})["a"] for step in range(9)]
    assert tried == [-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8]
    assert all(space.point({"a": value}) is not None for value in tried)
    space = Space.read(
        write("a: {uniform: [-0.3, 0.3], step: 0.1}\nb: {int: [1, 6], step: 2}\nc: {int: [1, 4]}\nd: [x, y]")
    )
    points = list(space.points())
    assert len(points) == 7 * 3 * 4 * 2
    assert points[0] == {"a": -0.3, "b": 1, "c": 1, "d": '"x"'}
    assert {space.values(each)["a"] for each in points} == {-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3}
    assert list(Space.read(write("a: [1, 2, 3]\nb: {uniform: [0, 1]}")).points()) == [], "there are too many"


def test_a_point_of_the_space_is_told_from_others(write: Write) -> None:
    space = Space.read(write(ALL))
    inside = {
        "encoder": "LightGCN", "mlp_hidden_size": [300], "dropout_prob": 0.3, "learning_rate": 1e-4,
        "embedding_size": 48, "rank": 17,
    }  # fmt: skip
    coded = space.point(inside)
    assert coded is not None
    assert space.values(coded) == inside
    outside = {
        "encoder": "GCN", "mlp_hidden_size": 300, "dropout_prob": 0.35, "learning_rate": 0.02, "embedding_size": 40,
        "rank": 17.5,
    }  # fmt: skip
    for key, value in outside.items():
        assert space.point({**inside, key: value}) is None, key
    assert Space.read(write("auto: [0, 2]")).point({"auto": False}) is None, "False is not 0"


def test_keys_that_are_given_or_have_no_default(write: Write) -> None:
    space = Space.read(write("a: [1]\nb: [2]"))
    assert set(space.without({"a": 5, "seed": 1}).parameters) == {"b"}
    check_refused("every key of .*Model.yaml is given a value", space.without, ["a", "b"])
    Space.read(write("weight_decay: [0.0, 0.1]")).check("EASE", {"weight_decay": None}, set())
    # a default of 1 is one of the choices 0.1, 1.0 and 10.0, and is coded as that one is
    space = Space.read(write("w: [0.1, 1.0, 10.0]"))
    assert space.point({"w": 1}) == space.point({"w": 1.0}) == {"w": "1.0"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no key to tune"),
        ("a: 3", "write a list of choices, or a range such as"),
        ("a: []", "has no choices"),
        ("a: [1, 1.0]", "the choice 1.0 twice"),
        ("a: [2020-01-01]", "that is no number, word, list or mapping"),
        ("a: {loguniform: [1, 2]}", "with a 'step' or without); did you mean 'log_uniform'?"),
        ("a: {step: 1}", "must have one of uniform, log_uniform, int, log_int, but has none"),
        ("a: {uniform: [1, 2], int: [1, 2]}", "but has uniform, int"),
        ("a: {uniform: [1]}", "must be the two ends of a range, numbers"),
        ("a: {uniform: [.nan, 1]}", "must be the two ends of a range, numbers"),
        ("a: {int: [1.5, 2]}", "must be the two ends of a range, whole numbers"),
        ("a: {uniform: [2, 1]}", "the low end must be the smaller one"),
        ("a: {log_uniform: [0, 1]}", "for a 'log' range above 0"),
        ("a: {log_int: [1, 8], step: 2}", "only uniform and int have a step"),
        ("a: {int: [1, 8], step: 0.5}", "above 0 and within the range"),
        ("a: {uniform: [0, 1], step: 2}", "is {'uniform': [0, 1], 'step': 2}"),
    ],
)
def test_a_wrong_space_is_one_sentence(text: str, said: str, write: Write) -> None:
    check_refused(f"Model.yaml.*{re.escape(said)}", Space.read, write(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("reg_wieght: [1.0]", "EASE has no key 'reg_wieght'; did you mean 'reg_weight'?"),
        ("topk: [5, 10]", "'topk' decides how trials are judged"),
        ("reg_weight: [small]", "'reg_weight' has the value 'small'; it must be a number"),
        ("auto: [1, 0]", "'auto' has the value 1; it must be True or False"),
        ("reg_weight: [True]", "it must be a number"),
    ],
)
def test_a_space_of_another_model_is_one_sentence(text: str, said: str, write: Write) -> None:
    space = Space.read(write(text))
    defaults = {"reg_weight": 250.0, "auto": True, "topk": [10], "weight_decay": None}
    check_refused(re.escape(said), space.check, "EASE", defaults, {"topk"})


def test_what_lies_on_an_edge(write: Write) -> None:
    space = Space.read(write(ALL + "weight_decay: [0.0, 1.0e-4]\n"))
    inside = {"encoder": "MF", "mlp_hidden_size": [300], "dropout_prob": 0.2, "learning_rate": 1e-3, "rank": 64}
    assert space.edges({**inside, "embedding_size": 32, "weight_decay": 0.0}) == {}, "0 leaves a term out"
    ends = {"dropout_prob": 0.5, "learning_rate": 1.1e-4, "embedding_size": 64, "rank": 16, "weight_decay": 1e-4}
    lowest = {"learning_rate": "lowest", "rank": "lowest"}
    assert space.edges(ends) == lowest | dict.fromkeys(("dropout_prob", "embedding_size", "weight_decay"), "highest")
    assert space.edges({"learning_rate": 0.5, "dropout_prob": 0.0}) == {}, "outside, and nothing beyond"
    assert space.edges({"learning_rate": 9e-3}) == {"learning_rate": "highest"}, "a twentieth of the range is its edge"
    assert space.edges({"learning_rate": 7.5e-3}) == space.edges({"learning_rate": 1.3e-4}) == {}
    unordered = Space.read(write("w: [10.0, 0.1, 1.0]"))
    assert [unordered.edges({"w": each}).get("w") for each in (10.0, 0.1, 1.0)] == ["highest", "lowest", None]


FOLDER = registry.PROPERTIES.parent / "tune"
BASELINES = {"BPR", "EASE", "GRU4Rec", "ItemKNN", "LightGCN", "MultiVAE", "NCL", "SASRec", "SGL"}


def test_every_bundled_model_and_baseline_has_a_space() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == BASELINES | {
        path.stem for path in registry.PROPERTIES.glob("*.yaml")
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    convert("toy", None, folder)
    return folder


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_a_space_fits_its_model(name: str, root: Path) -> None:
    facts = facts_of(Task(name, "toy-signed", settings={"data_path": str(root), "state": "ERROR"}))
    space = Space.read(FOLDER / f"{name}.yaml")
    space.check(name, facts.defaults, facts.judging, facts.ranges)
    text = space.path.read_text(encoding="utf-8")
    assert text.startswith("# "), "where the ranges come from"
    outside = [key for key in space.parameters if not space.contains(key, facts.defaults[key])]
    # so the search learns from the default; SSF, SSF-L and SSF-T choose by themselves, which no point of a space does
    assert outside == (["auto", "dislike_weight"] if name in ("SSF", "SSFL", "SSFT") else [])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_drawn_values_can_be_run(name: str) -> None:
    if name == "NCL":
        pytest.importorskip("faiss", reason="RecBole's NCL clusters with faiss")
    one_epoch = {"epochs": 1, "eval_step": 1, "state": "ERROR", "valid_metric": "NDCG@10"}
    task, cache = Task(name, "ml-100k-signed", settings=one_epoch), DataCache()
    space = Space.read(FOLDER / f"{name}.yaml")
    for seed in range(2):
        drawn = optuna.create_study(sampler=RandomSampler(seed)).ask(dict(space.parameters))
        values = space.values(drawn.params)
        assert task.run(values, cache).valid["ndcg@10"] is not None, values
