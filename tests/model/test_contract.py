"""What every model of this package must do, whatever it is."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interrupted_training import interrupted
from prepared import instance, prepared
from recbole.data.interaction import Interaction
from recbole.utils import ModelType, get_model, init_seed

from recbole_signed.convert.sources.toy import planted
from recbole_signed.model import abstract_recommender
from recbole_signed.plugin import registry

OURS = sorted(name for name, entry in registry.models().items() if entry.module.startswith("recbole_signed."))
SEQUENTIAL = [name for name in OURS if get_model(name).type == ModelType.SEQUENTIAL]
general = pytest.mark.parametrize("name", [name for name in OURS if name not in SEQUENTIAL])
sequential = pytest.mark.parametrize("name", SEQUENTIAL)
every = pytest.mark.parametrize("name", OURS)
SHORT = {"hidden_size": 16, "inner_size": 32, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 8, "learning_rate": 0.01}
COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
PARTS = ("train", "valid", "test")

LIKES_ONLY = "likes only"
"""The model does not look at dislikes: with and without them it is the same."""

LIKES = """
BSPM ChebyCF ContentKNN DEQL DecayPop DirectAU EDLAE FeaturePop GFCF LightFM
LightGCL PCTM SGFCF SLIST SVDAE SimGCL TALE TurboCF UltraGCN XSimGCL
"""
WITHOUT_DISLIKES: dict[str, str | tuple[str, dict[str, Any], dict[str, Any]]] = {
    **dict.fromkeys(LIKES.split(), LIKES_ONLY),
    "DFGNN": "test_without_dislikes_or_likes_there_are_scores_and_losses",
    "LSGRec": "test_without_dislikes_scores_are_those_of_lightgcn",
    "PANEGNN": "test_without_dislikes_scores_are_those_of_lightgcn_filtered",
    "PoneGNN": "test_without_dislikes_disinterest_is_the_second_table",
    "SBGNN": "test_without_dislikes_half_of_the_messages_are_empty",
    "SGCN": "test_without_dislikes_only_the_node_itself_is_disliked",
    "SIGformer": ("SIGformer", {"alpha": 0.0, "beta": 0.0}, {"alpha": -0.5, "beta": -0.5}),
    "SLGNN": "test_without_dislikes_only_the_likes_are_summed",
    "SiGRec": "test_without_dislikes_it_is_lightgcn_and_a_factorisation",
    "SiReN": "test_few_users_and_no_dislikes_are_enough",
    # model: (parent, settings of the parent, settings of the model); the likes-only filter is SSF with w = 0
    "SSF": ("SSF", {"auto": False, "dislike_weight": 0.0}, {"auto": False, "dislike_aversion": 0.5}),
    "SSFL": ("SSFL", {"auto": False, "dislike_weight": 0.0}, {"auto": False, "dislike_aversion": 0.5}),
    "SSFT": ("SSFT", {"auto": False, "dislike_weight": 0.0}, {"auto": False, "dislike_aversion": 0.5}),
    "DualSpectralCF": ("ChebyCF", {}, {}),
    "SignedEASE": ("EASE", {"reg_weight": 50.0}, {"reg_weight": 50.0}),
    "SignedGFCF": ("GFCF", {}, {}),
    "SignedSGFCF": ("SGFCF", {}, {}),
    "SignedTurboCF": ("TurboCF", {}, {}),
    "SignediALS": "test_ials_without_dislikes_depends_on_no_seed",
}
"""What each model is, on data without dislikes: a parent whose scores it equals, ``LIKES_ONLY``, or the name of the
test in ``tests/model`` that holds it to the limit that its paper states."""

LIBRARIES = {"LightFM": "lightfm"}
"""The library that computes a model, where it is none of the package's dependencies."""

ONE_RANKING = {
    "DecayPop": "it has one ranking for all users",
    "FeaturePop": "it has one ranking for all users",
    "ContentKNN": "without features an item is near to itself alone",
    "PCTM": "without times it has one ranking for all users",
    "TALE": "without times it has one ranking for all users",
}
"""Models that can't rank the planted truth, which is one of users, and why."""

PLANTED_EPOCHS = 100
SETTINGS: dict[str, dict[str, Any]] = {
    "DirectAU": {"encoder": "LightGCN", "gamma": 0.2, "learning_rate": 0.05},
    "LightGCL": {"lambda1": 1e-5, "learning_rate": 0.05},
    "SIGformer": {"alpha": -0.5, "beta": -1.0, "sample_hop": 3},  # the signs with which a dislike is one
    "SignediALS": {"dislike_target": -0.5, "embedding_size": 8},  # a positive target puts dislikes above unknown items
    "SimGCL": {"lambda": 0.01, "learning_rate": 0.05},
    "SLGNN": {"dropout_prob": 0.0, "edge_dropout_prob": 0.0, "learning_rate": 0.02},
    "SVDAE": {"rank": 4},  # a rank that the data do not have is not a regularisation
    "SiReN": {"dislike_coefficient": -1.0},  # the sign with which a dislike is one; the paper's ranks it above unknown
    "UltraGCN": {"learning_rate": 0.05},
    "XSimGCL": {"lambda": 0.01, "learning_rate": 0.05},
    **dict.fromkeys(SEQUENTIAL, SHORT),
}
"""Settings that fit data this small, by model."""

N_CIRCLE = 24
Row = tuple[str, str, int, int]


@dataclass
class Fitted:
    """A model and what it was fitted to."""

    model: Any
    config: Any
    dataset: Any
    parts: tuple[Any, Any, Any]

    def scores(self, users: Sequence[str], items: Sequence[str]) -> torch.Tensor:
        """Scores by tokens, ``[len(users), len(items)]``."""
        rows = torch.tensor([self.dataset.token2id("user_id", user) for user in users])
        columns = torch.tensor([self.dataset.token2id("item_id", item) for item in items])
        batch = Interaction({"user_id": rows})
        if self.model.type == ModelType.SEQUENTIAL:  # after all that the users did
            latest = self.dataset.latest()
            batch = latest[torch.argsort(latest["user_id"])[torch.argsort(torch.argsort(rows))]]
            assert torch.equal(batch["user_id"], rows)
        with torch.no_grad():
            return self.model.full_sort_predict(batch).view(len(users), -1)[:, columns].cpu()


Build = Callable[..., Fitted]


@pytest.fixture
def rows(name: str) -> dict[str, list[Row]]:
    """Rows of 40 users and 30 items with a taste, each pair once, by part; of a sequential model those of a walk."""
    if name in SEQUENTIAL:
        return {"train": walks()}
    rng = np.random.default_rng(11)
    keys = rng.permutation(40 * 30)[:700]
    liked = rng.random(len(keys)) < np.where(keys // 30 % 3 == keys % 3, 0.9, 0.3)
    found: dict[str, list[Row]] = {part: [] for part in PARTS}
    for place, (key, like) in enumerate(zip(keys, liked, strict=True)):
        part = "train" if place < 550 else "valid" if place < 625 else "test"
        found[part].append((f"u{key // 30}", f"i{key % 30}", 1 if like else -1, place))
    return found


def walks() -> list[Row]:
    """Walks around a circle of items: a user likes one item after the other, and dislikes the one three further on."""
    rng = np.random.default_rng(3)
    found: list[Row] = []
    for user in range(40):
        start, clock = int(rng.integers(N_CIRCLE)), 0
        for step in range(9):
            clock += 2
            found.append((f"u{user}", f"i{(start + step) % N_CIRCLE:02}", 1, clock))
            if step % 3 == 0:
                found.append((f"u{user}", f"i{(start + step + 14) % N_CIRCLE:02}", -1, clock + 1))
    return found


@pytest.fixture
def build(write_inter: Callable[..., Path]) -> Build:
    """Write the rows, build a model on them, and fit it."""
    names = iter(range(100))

    def make(name: str, by_part: dict[str, list[Row]], *, fit: bool = True, **config: Any) -> Fitted:
        if name in LIBRARIES:
            pytest.importorskip(LIBRARIES[name])
        dataset_name = f"contract{next(names)}"
        columns = COLUMNS if name in SEQUENTIAL else COLUMNS[:3]
        given: dict[str, Any] = {"load_col": {"inter": [each.partition(":")[0] for each in columns]}}
        for part, rows in by_part.items():
            cut = [row[: len(columns)] for row in rows]
            write_inter(dataset_name, columns, cut, None if name in SEQUENTIAL else part)
        if name not in SEQUENTIAL:
            given["benchmark_filename"] = list(PARTS)
        given |= {"epochs": 5, "show_progress": False, **SETTINGS.get(name, {}), **config}
        settings, data, parts = prepared(dataset_name, name, **given)
        if name in SEQUENTIAL:
            init_seed(settings["seed"], settings["reproducibility"])
        return Fitted(instance(settings, parts, fit=fit), settings, data, parts)

    return make


def tokens(by_part: dict[str, list[Row]]) -> tuple[list[str], list[str]]:
    """Users and items that have a training row."""
    return sorted({row[0] for row in by_part["train"]}), sorted({row[1] for row in by_part["train"]})


@every
def test_scores_untrained_and_survives_a_deep_copy(name: str, rows: dict, build: Build) -> None:
    fitted = build(name, rows, fit=False)
    users, items = tokens(rows)
    assert torch.isfinite(fitted.scores(users, items)).all()
    copied = copy.deepcopy(fitted.model)
    pairs = fitted.parts[0]._dataset[torch.arange(3)]
    torch.testing.assert_close(copied.predict(pairs), fitted.model.predict(pairs))
    assert copied.predict(pairs).shape == (3,)


@general
def test_predict_is_the_gathered_full_sort(
    name: str, rows: dict, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, rng = build(name, rows), np.random.default_rng(0)
    users = torch.from_numpy(rng.integers(1, fitted.dataset.user_num, 200))
    items = torch.from_numpy(rng.integers(1, fitted.dataset.item_num, 200))
    full = fitted.model.full_sort_predict(Interaction({"user_id": users})).view(200, fitted.dataset.item_num)
    pairs = fitted.model.predict(Interaction({"user_id": users, "item_id": items}))
    torch.testing.assert_close(pairs, full[torch.arange(200), items])
    assert torch.isfinite(pairs).all()
    monkeypatch.setattr(abstract_recommender, "CELLS", 7 * fitted.dataset.item_num)
    torch.testing.assert_close(fitted.model.predict(Interaction({"user_id": users, "item_id": items})), pairs)


@general
def test_without_dislikes_it_is_what_it_should_be(name: str, rows: dict, build: Build) -> None:
    assert name in WITHOUT_DISLIKES, f"say in WITHOUT_DISLIKES what {name} is on data without dislikes"
    stated = WITHOUT_DISLIKES[name]
    likes = {part: [row for row in rows[part] if row[2] > 0] for part in PARTS}
    users, items = tokens(likes)
    if isinstance(stated, tuple):
        parent, of_parent, own = stated
        wanted = build(parent, likes, **of_parent).scores(users, items)
        torch.testing.assert_close(build(name, likes, **own).scores(users, items), wanted)
        assert not torch.allclose(build(name, rows, **own).scores(users, items), wanted)
    elif stated == LIKES_ONLY:
        assert not get_model(name).uses_dislikes
        whole = build(name, rows)
        assert set(whole.dataset.field2id_token["item_id"][1:]) == set(items), "the rows must have a like for each item"
        torch.testing.assert_close(build(name, likes).scores(users, items), whole.scores(users, items))
    else:
        tests = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")]
        assert any(f"\ndef {stated}(" in each for each in tests), f"no file of tests/model has the test {stated}"


@general
def test_rows_without_a_verdict_count_for_the_models_that_read_them(name: str, rows: dict, build: Build) -> None:
    users, items = tokens(rows)
    judged = {(user, item) for part in PARTS for user, item, *_ in rows[part]}
    views = [(user, item, 0, 0) for user in users[:10] for item in items[:10] if (user, item) not in judged]
    seen = {**rows, "train": [*rows["train"], *views]}
    plain, weighed = (
        build(name, seen, **({"auto": False} if name.startswith("SSF") else {}), epochs=2, neutral_weight=weight)
        for weight in (0.0, 0.5)
    )
    assert (weighed.model.graph.neutrals is not None) == weighed.model.reads_neutrals
    change = (weighed.scores(users, items) - plain.scores(users, items)).abs().max()
    assert (change > 1e-4) == weighed.model.reads_neutrals


@general
def test_turning_likes_into_dislikes_lowers_scores(name: str, rows: dict, build: Build) -> None:
    """One pair where the fit has no chance in it; all pairs of one item where it starts from a random place."""
    users, items = tokens(rows)
    trained = get_model(name).type != ModelType.TRADITIONAL
    before = build(name, rows, epochs=30).scores(users, items)
    user, item, *_ = next(row for row in rows["train"] if row[2] > 0)
    turned = [(*r[:2], -1, r[3]) if r[1] == item and (trained or r[0] == user) else r for r in rows["train"]]
    after = build(name, {**rows, "train": turned}, epochs=30).scores(users, items)
    row, column = users.index(user), items.index(item)
    assert not torch.allclose(after[row], before[row])
    if trained:
        assert _mean_place(after, column) < _mean_place(before, column)
    else:
        assert after[row, column] < before[row, column]


def _mean_place(scores: torch.Tensor, column: int) -> float:
    """How many items one item is above, over users: the scale of scores differs from training to training."""
    return float((scores[:, [column]] > scores).float().mean())


@general
def test_permuting_ids_permutes_scores(name: str, rows: dict, build: Build) -> None:
    """RecBole numbers by first appearance: other orders of rows are other ids."""
    rng = np.random.default_rng(2)
    if name in LIBRARIES:
        pytest.skip("the library draws its start by the numbers, and takes none from elsewhere")
    shuffled = {part: [rows[part][place] for place in rng.permutation(len(rows[part]))] for part in PARTS}
    users, items = tokens(rows)
    trained = get_model(name).type != ModelType.TRADITIONAL  # then the start depends on the numbers: it is carried over
    # a model that chooses its parameters looks at users in random order, which the numbers decide: here it does not
    config = {"auto": False} if name in ("SSF", "SSFL", "SSFT") else {}
    first, second = (build(name, each, fit=not trained, **config) for each in (rows, shuffled))
    assert list(first.dataset.field2id_token["item_id"]) != list(second.dataset.field2id_token["item_id"])
    if trained:
        second.model.load_state_dict(_renumbered(first, second))
    torch.testing.assert_close(second.scores(users, items), first.scores(users, items), rtol=1e-3, atol=1e-5)


def _renumbered(first: Fitted, second: Fitted) -> dict[str, torch.Tensor]:
    """The state of the first model, rows of users and items in the second one's order."""
    orders = {}
    for field in ("user_id", "item_id"):
        names = second.dataset.field2id_token[field]
        orders[len(names)] = torch.tensor([first.dataset.token2id(field, each) for each in names])
    state = first.model.state_dict()
    return {
        key: value[orders[len(value)]] if value.dim() and len(value) in orders else value
        for key, value in state.items()
    }


@every
def test_what_is_saved_is_what_is_loaded(name: str, rows: dict, build: Build, tmp_path: Path) -> None:
    fitted = build(name, rows)
    users, items = tokens(rows)
    path = tmp_path / "state.pt"
    torch.save(fitted.model.state_dict(), path)
    other = build(name, rows, fit=False)
    other.model.load_state_dict(torch.load(path, weights_only=True))
    other.model.eval()
    assert torch.equal(other.scores(users, items), fitted.scores(users, items))


@general
def test_the_planted_truth_is_ranked_right(name: str, build: Build) -> None:
    if name in ONE_RANKING:
        pytest.skip(ONE_RANKING[name])
    truth = planted()
    seen = list(truth.frame.select("user_id", "item_id", "sign").iter_rows())
    unseen = [
        (truth.users[user], truth.items[item], int(truth.verdict[user, item]))
        for user, item in zip(*np.nonzero(~truth.seen() & (truth.verdict != 0)), strict=True)
    ]
    fitted = build(name, {"train": seen, "valid": unseen[::2], "test": unseen[1::2]}, epochs=PLANTED_EPOCHS)
    scores = fitted.scores(truth.users, truth.items).numpy()
    hidden, right = truth.seen(), []
    for row, verdict, known in zip(scores, truth.verdict, hidden, strict=True):
        good, bad = row[(verdict > 0) & ~known], row[(verdict < 0) & ~known]
        unknown = row[(verdict == 0) & ~known]
        right.append([(good[:, None] > each).mean() for each in (bad, unknown)])
    above_disliked, above_unknown = np.mean(right, axis=0)
    hint = f"{name} ranks too few liked items above the others; a model with one ranking for all is in ONE_RANKING"
    assert above_disliked > 0.9, hint
    assert above_unknown > 0.9, hint


@every
def test_training_gives_no_warning(name: str, rows: dict, build: Build, recwarn: pytest.WarningsRecorder) -> None:
    build(name, rows, epochs=2)
    assert [str(each.message) for each in recwarn if not issubclass(each.category, DeprecationWarning)] == []


@every
def test_training_that_was_interrupted_gives_what_it_would_have_given(name: str, rows: dict, build: Build) -> None:
    if get_model(name).type == ModelType.TRADITIONAL:
        pytest.skip("it is fitted in one pass")
    users, items = tokens(rows)
    whole = build(name, rows, epochs=6).scores(users, items)
    assert torch.equal(interrupted(partial(build, name, rows, fit=False)).scores(users, items), whole)


@sequential
def test_predict_of_a_sequence_is_the_gathered_full_sort(name: str, rows: dict, build: Build) -> None:
    fitted = build(name, rows)
    batch = fitted.parts[2]._dataset[torch.arange(10)]
    full = fitted.model.full_sort_predict(batch).view(10, -1)
    torch.testing.assert_close(fitted.model.predict(batch), full[torch.arange(10), batch["item_id"]])


@sequential
def test_what_comes_next_is_ranked_first_and_what_is_disliked_last(name: str, rows: dict, build: Build) -> None:
    users, items = tokens(rows)
    scores = build(name, rows, epochs=60).scores(users, items)
    above_disliked, above_others = [], []
    for place, user in enumerate(users):
        last = int(max([row for row in rows["train"] if row[0] == user and row[2] > 0], key=lambda row: row[3])[1][1:])
        following = scores[place, (last + 1) % N_CIRCLE]
        above_disliked.append(float((following > scores[place, [(last + 14) % N_CIRCLE]]).float().mean()))
        above_others.append(float((following > scores[place]).float().sum()) / (N_CIRCLE - 1))
    assert np.mean(above_others) > 0.9
    assert np.mean(above_disliked) > 0.9


@sequential
def test_signs_of_a_sequence_change_the_scores(name: str, rows: dict, build: Build) -> None:
    turned = {"train": [(*row[:2], -row[2], row[3]) if row[3] == 9 else row for row in rows["train"]]}
    one, other = (build(name, each).scores(*tokens(rows)) for each in (rows, turned))
    assert not torch.allclose(one, other)
