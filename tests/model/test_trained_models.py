"""What all models that are trained by gradients share: their start, their settings, embeddings encoded once."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from signed_reference import FIELDS, N_ITEMS, N_USERS, SmallData, build, defaults, small_data

from recbole_signed.model.lsgrec import LSGRec
from recbole_signed.plugin import registry

SIZE = 600
XAVIER = [math.sqrt(2.0 / (n + SIZE)) for n in (N_USERS, N_ITEMS)]
"""The standard deviation of Xavier's distributions, normal or uniform, of a table ``[n, SIZE]``."""
JOINT = [math.sqrt(2.0 / (N_USERS + N_ITEMS + SIZE))] * 2
"""That of a part of one table of users and items."""
PLAIN = [1.0, 1.0]
"""That of torch's embeddings."""
STARTS = {
    "DFGNN": (XAVIER, "uniform"), "DirectAU": (XAVIER, "normal"), "LSGRec": (XAVIER, "normal"),
    "LightGCL": (XAVIER, "uniform"), "PANEGNN": (XAVIER, "normal"), "PoneGNN": (XAVIER, "normal"),
    "SBGNN": (PLAIN, "normal"), "SGCN": (XAVIER, "uniform"), "SiGRec": (XAVIER, "normal"),
    "SiReN": (JOINT, "normal"), "SimGCL": (XAVIER, "uniform"), "UltraGCN": ([0.03, 0.03], "normal"),
    "XSimGCL": (XAVIER, "uniform"),
}  # fmt: skip
CHANGES = {"UltraGCN": {"initial_weight": 0.03, "show_progress": False}}


@pytest.mark.parametrize("name", STARTS)
def test_tables_start_with_their_size(name: str) -> None:
    torch.manual_seed(0)
    made = registry.load_object(f"recbole_signed.model.{name.lower()}:{name}")(
        {**FIELDS, **defaults(name), "embedding_size": SIZE, **CHANGES.get(name, {})}, small_data()
    )
    sizes, shape = STARTS[name]
    pairs = [(made.user_embedding, made.item_embedding)]
    if hasattr(made, "user_dislikes"):
        pairs.append((made.user_dislikes, made.item_dislikes))
    tables = [table.weight.detach() for pair in pairs for table in pair]
    assert {len(each) for each in tables} == {N_USERS, N_ITEMS}
    for table, wanted in zip(tables, sizes * len(pairs), strict=True):
        assert float(table.std()) == pytest.approx(wanted, rel=0.04)
        assert abs(float(table.mean())) < 0.05 * wanted
        largest = float(table.abs().max()) / wanted
        assert largest <= math.sqrt(3.0) + 1e-6 if shape == "uniform" else largest > 2.5
    assert len({round(float(table.std()), 9) for table in tables}) == len(tables), "each has numbers of its own"


NAMES = (
    *("DFGNN", "DirectAU", "LSGRec", "LightGCL", "PANEGNN", "PoneGNN", "SBGNN", "SGCN", "SLGNN", "SiGRec", "SiReN"),
    *("SimGCL", "UltraGCN", "XSimGCL"),
)
OF_TRAINING = {
    *("embedding_size", "epochs", "eval_step", "learning_rate", "lr_gamma", "lr_milestones", "n_negatives"),
    *("negative_exponent", "sift_positives", "stopping_step", "train_batch_size", "weight_decay"),
}
"""Keys that the trainer or the loader of training batches reads, or that change the shape of all."""
BASE: dict[str, dict[str, Any]] = {
    "DirectAU": {"encoder": "LightGCN"},
    "LightGCL": {"q": 3},
    "UltraGCN": {"w1": 0.2, "w3": 0.3, "lambda": 0.5, "negative_weight": 2.0, "ii_neighbor_num": 4, "gamma": 0.1},
    "XSimGCL": {"n_layers": 3},
}
"""Values with which the other keys count for something on small data."""
OTHERS: dict[tuple[str, str], Any] = {("DirectAU", "encoder"): "MF", ("PoneGNN", "disinterest_every"): 1}
"""Other values, where half as much and a bit, or one more, would not do."""


def properties(name: str) -> dict[str, Any]:
    return {**FIELDS, "show_progress": False, **defaults(name), "embedding_size": 6, **BASE.get(name, {})}


def other(name: str, key: str, value: Any) -> Any:
    if (name, key) in OTHERS:
        return OTHERS[name, key]
    return value + 1 if isinstance(value, int) else 0.5 * float(value) + 0.17


def signature(name: str, data: SmallData, config: dict[str, Any]) -> list[torch.Tensor]:
    """The start, the scores, and the losses of two epochs, with dropout and noise, and without."""
    torch.manual_seed(0)
    model = registry.load_object(f"recbole_signed.model.{name.lower()}:{name}")(config, data).double()
    start = [each.detach().clone() for each in model.parameters()]
    with torch.no_grad():
        for each in model.parameters():
            each.copy_(0.7 * torch.randn(each.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    batch = data.batch(3)
    if type(model).batches == "likes":
        batch = {key: column[batch["sign"] > 0] for key, column in batch.items()}
    scores = model.eval().score(torch.arange(N_USERS))
    losses = []
    for epoch, mode in product((0, 1), (False, True)):
        if hasattr(model, "start_epoch"):
            model.start_epoch(epoch)
        torch.manual_seed(2)
        losses.append(model.train(mode).loss(batch).detach())
    return [*start, scores, *losses]


KEYS = [(n, key) for n in NAMES for key in properties(n) if key not in {*OF_TRAINING, *FIELDS, "show_progress"}]


@pytest.mark.parametrize(("name", "key"), KEYS, ids=["-".join(each) for each in KEYS])
def test_a_key_has_an_effect(name: str, key: str) -> None:
    data, config = small_data(), properties(name)
    changed = {**config, key: other(name, key, config[key])}
    assert changed[key] != config[key]
    before, again, after = (signature(name, data, each) for each in (config, config, changed))
    assert all(torch.equal(*pair) for pair in zip(before, again, strict=True)), "what is compared repeats itself"
    same = [one.shape == two.shape and torch.equal(one, two) for one, two in zip(before, after, strict=False)]
    assert not all(same), f"{name} does not read {key}"


USERS = torch.arange(N_USERS)


def test_one_evaluation_encodes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(LSGRec, small_data())
    calls: list[None] = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda: (calls.append(None), encode())[1])
    assert torch.equal(model.score(USERS), model.score(USERS))
    assert len(calls) == 1


@pytest.mark.parametrize("change", ["load", "step", "train"])
def test_what_changes_parameters_is_followed_by_their_embeddings(change: str) -> None:
    data = small_data()
    model = build(LSGRec, data)
    before = model.score(USERS)
    state = {key: 2.0 * value for key, value in model.state_dict().items()}
    if change == "load":
        model.load_state_dict(state)
    else:
        if change == "step":
            model.calculate_loss(data.batch(2))
        with torch.no_grad():
            for key, value in model.named_parameters():
                value.copy_(state[key])
        if change == "train":
            model.train()
    torch.testing.assert_close(model.score(USERS), 4.0 * before)  # propagation is linear


@pytest.mark.parametrize("name", ["SBGNN", "SLGNN", "SiReN"])
def test_dropout_is_that_of_training_alone(name: str) -> None:
    data = small_data()
    kind = registry.load_object(f"recbole_signed.model.{name.lower()}:{name}")
    batch, model = data.batch(1), build(kind, data)
    quiet = model.loss(batch)
    assert torch.equal(model.loss(batch), quiet)
    model.train()
    assert not torch.equal(model.loss(batch), model.loss(batch))
    rates = {key: 0.0 for key in defaults(name) if "dropout_prob" in key}
    torch.testing.assert_close(build(kind, data, **rates).train().loss(batch), quiet)
