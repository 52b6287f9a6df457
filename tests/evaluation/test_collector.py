"""What the collector of signed batches does to RecBole's own resources, and where it keeps ours."""

import importlib
import importlib.util
import inspect
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import signed_batch
import torch
from recbole.data.interaction import Interaction
from signed_batch import SignedBatch, pairs
from warm_python import WarmPython

from recbole_signed.errors import UsageError
from recbole_signed.evaluation import collector as our_collector
from recbole_signed.evaluation.metrics import METRICS, SIGN_AUC, VERDICTS

STOCK = ["Recall", "MRR", "NDCG", "Hit", "MAP", "Precision", "GAUC"]
OURS = ["DislikeRecall", "DislikeShare", "DeltaNDCG", "SignAUC"]
N_USERS, N_ITEMS = 24, 30
pytestmark = pytest.mark.usefixtures("recbole_ready")


@pytest.fixture
def stock() -> ModuleType:
    """RecBole's collector module as shipped, in a copy that nobody wraps."""
    return copied()


@pytest.fixture
def signed() -> ModuleType:
    """Another copy, with ours installed and nothing else."""
    our_collector.install(module := copied())
    return module


def copied() -> ModuleType:
    source = inspect.getsourcefile(importlib.import_module("recbole.evaluator.collector"))
    spec: Any = importlib.util.spec_from_file_location("untouched_collector", source or "")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Data:
    """Random scores and held-out items; ``rows`` chooses users."""

    def __init__(self, seed: int = 0, likeless: tuple[int, ...] = (0, 5, 6, 23), repeats: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.scores = torch.from_numpy(rng.normal(size=(N_USERS, N_ITEMS))).float()
        self.scores[torch.from_numpy(rng.random((N_USERS, N_ITEMS)) < 0.2)] = -math.inf
        self.scores[:, 0] = -math.inf
        items = [rng.permutation(np.arange(1, N_ITEMS)) for _ in range(N_USERS)]
        self.likes = [x[: 0 if u in likeless else rng.integers(1, 7)].tolist() for u, x in enumerate(items)]
        self.dislikes = [x[7 : 7 + rng.integers(0, 6)].tolist() for x in items]
        self.extra = torch.from_numpy(rng.integers(0, 3, N_USERS)) if repeats else torch.zeros(N_USERS).long()

    def batch(self, rows: list[int]) -> tuple[torch.Tensor, SignedBatch, torch.Tensor, torch.Tensor]:
        count = torch.tensor([len(self.likes[u]) for u in rows], dtype=torch.int64)
        count = torch.where(count > 0, count + self.extra[rows], 0)
        dislikes = pairs([self.dislikes[u] for u in rows])
        scores, _, like_u, like_i = self.plain(rows)
        return scores, SignedBatch(torch.tensor(rows), dislikes, count, scores.shape[1]), like_u, like_i

    def plain(self, rows: list[int]) -> tuple[torch.Tensor, Interaction, torch.Tensor, torch.Tensor]:
        like_u, like_i = pairs([self.likes[u] for u in rows])
        return self.scores[rows].clone(), Interaction({"user_id": torch.tensor(rows)}), like_u, like_i

    @property
    def with_likes(self) -> list[int]:
        return [u for u in range(N_USERS) if self.likes[u]]


def config(metrics: list[str], **other: Any) -> dict[str, Any]:
    return signed_batch.config(metrics, **{"topk": [3, 10], "LABEL_FIELD": "label", **other})


def split(rows: list[int], size: int) -> list[list[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def run(module: ModuleType, batches: list[Any], metrics: list[str]) -> Any:
    collector = module.Collector(config(metrics))
    for batch in batches:
        collector.eval_batch_collect(*batch)
    return collector.get_data_struct()


def result(struct: Any, metrics: list[str]) -> dict[str, float]:
    return signed_batch.result(struct, config(metrics))


def tensors(struct: Any) -> dict[str, torch.Tensor]:
    return dict(struct._data_dict)


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert set(left) == set(right)
    for name in left:
        assert left[name].dtype == right[name].dtype or name == "rec.topk"
        assert torch.equal(left[name].nan_to_num(nan=-9), right[name].nan_to_num(nan=-9)), name


# ---- RecBole's own resources ----


@pytest.mark.parametrize("size", [1, 5, N_USERS])
def test_recboles_resources_are_those_of_users_with_likes(stock: ModuleType, signed: ModuleType, size: int) -> None:
    data = Data()
    everybody = [data.batch(rows) for rows in split(list(range(N_USERS)), size)]
    likers = [data.plain(rows) for rows in split(data.with_likes, size)]
    got, wanted = run(signed, everybody, STOCK), run(stock, likers, STOCK)
    assert_same(tensors(got), tensors(wanted))
    assert result(got, STOCK) == result(wanted, STOCK)


def test_our_metrics_beside_recboles_change_none_of_them(stock: ModuleType, signed: ModuleType) -> None:
    data = Data()
    got = tensors(run(signed, [data.batch(list(range(N_USERS)))], STOCK + OURS))
    for name in (VERDICTS, SIGN_AUC):
        assert len(got.pop(name)) == len(data.with_likes)
    assert_same(got, tensors(run(stock, [data.plain(data.with_likes)], STOCK)))


def test_repeated_likes_count_in_denominators(signed: ModuleType) -> None:
    data = Data(repeats=True)
    struct = run(signed, [data.batch(rows) for rows in split(list(range(N_USERS)), 5)], ["Recall", "NDCG"])
    got = result(struct, ["Recall", "NDCG"])
    recalls, ndcgs = [], []
    for u in data.with_likes:
        shown, n = data.scores[u].topk(10).indices.tolist(), len(data.likes[u]) + int(data.extra[u])
        recalls.append(sum(item in data.likes[u] for item in shown) / n)
        gain = sum(1 / math.log2(rank + 2) for rank, item in enumerate(shown) if item in data.likes[u])
        ndcgs.append(gain / sum(1 / math.log2(rank + 2) for rank in range(min(10, n))))
    assert got["recall@10"] == pytest.approx(np.mean(recalls), abs=1e-11)
    assert got["ndcg@10"] == pytest.approx(np.mean(ndcgs), abs=1e-11)
    assert data.extra.any()


def test_batches_without_likes_add_no_row_and_all_without_are_an_error(signed: ModuleType) -> None:
    data = Data(likeless=(0, 1, 2, 22, 23))
    split_up = [data.batch([0, 1, 2]), data.batch(list(range(3, 22))), data.batch([22, 23])]
    whole = [data.batch(list(range(N_USERS)))]
    assert_same(tensors(run(signed, split_up, STOCK + OURS)), tensors(run(signed, whole, STOCK + OURS)))
    data = Data(likeless=tuple(range(N_USERS)))
    with pytest.raises(UsageError, match="no user of the data set 'toy' has a like"):
        run(signed, [data.batch(list(range(N_USERS)))], STOCK + OURS)


# ---- ours ----


@pytest.mark.parametrize("size", [1, 2, 7])
def test_batch_size_does_not_matter(signed: ModuleType, size: int) -> None:
    data = Data(repeats=True)
    parts = [data.batch(rows) for rows in split(list(range(N_USERS)), size)]
    whole = [data.batch(list(range(N_USERS)))]
    assert_same(tensors(run(signed, parts, STOCK + OURS)), tensors(run(signed, whole, STOCK + OURS)))


def test_verdicts_by_hand_and_repeated_likes(signed: ModuleType) -> None:
    scores = torch.tensor([[-math.inf, 5.0, 4.0, 3.0, 2.0, -math.inf], [-math.inf, 1.0, 2.0, 3.0, 4.0, 5.0]])
    likes, dislikes = torch.tensor([[0, 0, 1], [1, 4, 3]]), torch.tensor([[0, 0, 0], [2, 4, 5]])
    batch = SignedBatch(torch.tensor([7, 9]), dislikes, torch.tensor([3, 1]), 6)
    collector = signed.Collector(config(["DislikeRecall"], topk=[5]))
    collector.eval_batch_collect(scores, batch, *likes)
    assert collector.get_data_struct()[VERDICTS].tolist() == [[1, 2, 0, 3, 0, 3, 3], [0, 0, 1, 0, 0, 1, 0]]
    batches = [Data(repeats=True).batch(rows) for rows in split(list(range(N_USERS)), 9)]
    alone, beside = (run(signed, batches, metrics)["rec.topk"] for metrics in (["Recall"], ["Recall", "GAUC"]))
    assert torch.equal(alone.long(), beside.long())
    assert (alone[:, -1] > 6).any()  # nobody has so many distinct ones


@pytest.mark.parametrize("with_gauc", [False, True])
def test_a_masked_like_is_no_hit_in_lists_longer_than_what_is_open(signed: ModuleType, with_gauc: bool) -> None:
    data = Data()
    data.scores[:, 4:] = -math.inf
    data.scores[:, 1:4] = 1.0
    data.likes = [[1, 20, 29] for _ in range(N_USERS)]
    struct = run(signed, [data.batch(list(range(N_USERS)))], ["Recall", *(["GAUC"] if with_gauc else [])])
    assert struct.get("rec.topk")[:, :-1].sum(dim=1).tolist() == [1] * N_USERS
    assert result(struct, ["Recall"])["recall@10"] == pytest.approx(1 / 3)


def test_nothing_is_changed_or_left_by_an_evaluation(signed: ModuleType) -> None:
    scores, batch, like_u, like_i = Data().batch(list(range(N_USERS)))
    kept = [x.clone() for x in (scores, batch.dislike_u, batch.dislike_i, batch.like_count, like_u, like_i)]
    run(signed, [(scores, batch, like_u, like_i)], STOCK + OURS)
    after = (scores, batch.dislike_u, batch.dislike_i, batch.like_count, like_u, like_i)
    assert all(torch.equal(x, y) for x, y in zip(kept, after, strict=True))
    data, other = Data(), Data(seed=1)
    collector, structs = signed.Collector(config(STOCK + OURS)), []
    for source in (data, other, data):
        for rows in split(list(range(N_USERS)), 7):
            collector.eval_batch_collect(*source.batch(rows))
        structs.append(tensors(collector.get_data_struct()))
        assert not collector.data_struct._data_dict
    assert_same(structs[0], structs[2])
    assert not torch.equal(structs[0][VERDICTS], structs[1][VERDICTS])
    assert VERDICTS not in collector.get_data_struct()


def test_only_what_a_metric_needs_is_collected(signed: ModuleType) -> None:
    batch = Data().batch(list(range(N_USERS)))
    assert set(tensors(run(signed, [batch], ["SignAUC"]))) == {SIGN_AUC}
    assert set(tensors(run(signed, [batch], ["DislikeHit"]))) == {VERDICTS}
    assert set(tensors(run(signed, [batch], ["Recall"]))) == {"rec.topk"}


def test_lists_are_joined_only_once(stock: ModuleType, signed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    data, metrics = Data(), ["Recall", "ShannonEntropy"]
    chosen = split(data.with_likes, 5)
    wanted = tensors(run(stock, [data.plain(rows) for rows in chosen], metrics))

    def refuse(*_: Any) -> None:
        raise AssertionError("RecBole's way copies all that was collected, at every batch")

    monkeypatch.setattr(importlib.import_module("recbole.evaluator.collector").DataStruct, "update_tensor", refuse)
    monkeypatch.setattr(signed.DataStruct, "update_tensor", refuse)
    found = tensors(run(signed, [data.batch(rows) for rows in chosen], metrics))
    shown = data.scores[data.with_likes].gather(1, found["rec.items"]) > -math.inf
    assert torch.equal(found["rec.items"][shown], wanted["rec.items"][shown])
    assert torch.equal(found["rec.topk"][:, -1], wanted["rec.topk"][:, -1].int())


@pytest.mark.parametrize("n_items", [40, 20_000])
def test_equal_scores_stand_in_the_order_of_keys_whatever_k_is(signed: ModuleType, n_items: int) -> None:
    """RecBole makes lists of its own for GAUC, in which other ones of the equal scores come first."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 5, (20, n_items), generator=generator).float()
    keys = torch.randperm(n_items, generator=generator)
    order = keys.tolist()
    best = [sorted(range(n_items), key=lambda item: (-row[item], order[item]))[:10] for row in scores.tolist()]
    likes, dislikes = pairs([row[:3] for row in best]), pairs([row[3:6] for row in best])
    batch = SignedBatch(torch.arange(20), dislikes, torch.full((20,), 3), n_items)
    batch.item_keys = keys
    asked = ["Recall", "DislikeRecall", "ShannonEntropy"]
    for metrics in (asked, ["GAUC", *asked]):
        struct = run(signed, [(scores, batch, *likes)], metrics)
        assert struct["rec.items"].tolist() == best
        assert struct["rec.topk"][:, :10].tolist() == struct[VERDICTS][:, :10].eq(1).int().tolist()
        assert struct[VERDICTS][0, :10].tolist() == [1] * 3 + [2] * 3 + [0] * 4
    collector = signed.Collector(config(asked, topk=[3]))
    collector.eval_batch_collect(scores, batch, *likes)
    assert collector.get_data_struct()["rec.items"].tolist() == [row[:3] for row in best]


# ---- unsigned runs, errors ----


def test_unsigned_runs_give_recboles_own_bits(stock: ModuleType, signed: ModuleType) -> None:
    data = Data()
    batches = [data.plain(rows) for rows in split(data.with_likes, 6)]
    assert_same(tensors(run(signed, batches, STOCK)), tensors(run(stock, batches, STOCK)))


@pytest.mark.parametrize("mode", ["full", "uni100"])
def test_our_metrics_on_unsigned_batches_are_one_clear_error(signed: ModuleType, mode: str) -> None:
    collector = signed.Collector(config(["Recall", "DislikeRecall", "SignAUC"], eval_args={"mode": mode}))
    with pytest.raises(UsageError) as error:
        collector.eval_batch_collect(*Data().plain([1, 2]))
    message = str(error.value)
    assert message.startswith("dislikerecall, signauc can't be computed")
    assert f"'{mode}'" in message
    assert "'toy'" in message
    assert "\n" not in message


def test_a_diverged_model_is_told(signed: ModuleType) -> None:
    scores, batch, like_u, like_i = Data().batch([1, 2])
    with pytest.raises(UsageError, match="not a number"):
        run(signed, [(scores * math.nan, batch, like_u, like_i)], ["SignAUC"])


# ---- installing ----


@pytest.mark.parametrize(
    "imports",
    [
        "import recbole.evaluator, recbole_signed",
        "import recbole_signed.evaluation.metrics",
        "import recbole_signed.evaluation.collector",
    ],
)
def test_any_order_of_imports_works(imports: str, warm_python: WarmPython, tmp_path: Path) -> None:
    """RecBole's modules fire hooks that import ours, also while ours are importing RecBole's."""
    check = "import recbole.evaluator as e; assert 'signauc' in e.metrics_dict, e.metrics_dict"
    wrapped = "of = e.Collector.eval_batch_collect.__wrapped__; assert not hasattr(of, '__wrapped__')"
    (tmp_path / "script.py").write_text("; ".join((imports, check, wrapped)))
    done = warm_python.run(tmp_path / "script.py", cwd=tmp_path)
    assert done.status == 0, done.err


def test_every_metric_names_what_it_needs() -> None:
    assert {need for metric in METRICS.values() for need in metric.metric_need} == {VERDICTS, SIGN_AUC}
