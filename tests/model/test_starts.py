"""The tables of the models before training: of the size that their code states, for users and for items."""

from __future__ import annotations

import math

import pytest
import torch
from signed_reference import FIELDS, N_ITEMS, N_USERS, defaults, small_data

from recbole_signed.plugin import registry

SIZE = 600
XAVIER = [math.sqrt(2.0 / (n + SIZE)) for n in (N_USERS, N_ITEMS)]
"""The standard deviation of Xavier's distributions, normal or uniform, of a table ``[n, SIZE]``."""
JOINT = [math.sqrt(2.0 / (N_USERS + N_ITEMS + SIZE))] * 2
"""That of a part of one table of users and items."""
PLAIN = [1.0, 1.0]
"""That of torch's embeddings."""
STARTS = {
    "DFGNN": (XAVIER, "uniform"),
    "DirectAU": (XAVIER, "normal"),
    "LSGRec": (XAVIER, "normal"),
    "LightGCL": (XAVIER, "uniform"),
    "PANEGNN": (XAVIER, "normal"),
    "PoneGNN": (XAVIER, "normal"),
    "SBGNN": (PLAIN, "normal"),
    "SGCN": (XAVIER, "uniform"),
    "SiGRec": (XAVIER, "normal"),
    "SiReN": (JOINT, "normal"),
    "SimGCL": (XAVIER, "uniform"),
    "UltraGCN": ([0.03, 0.03], "normal"),
    "XSimGCL": (XAVIER, "uniform"),
}
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
