"""Whether a synthetic graph is like the data of its profile: its statistics beside theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbole_signed.atomic.inter_file import RawRows
from recbole_signed.lab.stats.measures import describe_time
from recbole_signed.lab.stats.report import describe_nodes
from recbole_signed.lab.synth.generator import SyntheticGraph
from recbole_signed.lab.synth.profile import Profile


@dataclass(frozen=True)
class ProfileComparison:
    """One statistic of a graph and of the real data."""

    statistic: str
    measured: float | None
    wanted: float | None  # of the real data; None where that is not known, so that there is nothing to compare with
    tolerance: float | None  # largest difference that passes
    ok: bool


def statistics(rows: RawRows) -> dict[str, float | None]:
    """Degree, sign and drift statistics of a data set, by name; drift only where there are times."""
    nodes = describe_nodes(rows)
    user, item = nodes["user"], nodes["item"]
    likes, dislikes = int((rows.signs > 0).sum()), int((rows.signs < 0).sum())
    found: dict[str, float | None] = {"like_share": likes / (likes + dislikes)}
    for name, side, inner in (("user", user, ("median", "p99")), ("item", item, ("median", "p90", "p99"))):
        degree = side["degree"]["all"]
        found |= {f"{name}_degree_{each}": degree[each] for each in ("mean", *inner)}
        found[f"{name}_log_degree_sd"] = side["log_degree_sd"]
        found[f"{name}_intraclass"] = side["intraclass"]
        found[f"{name}_likes_to_dislikes"] = side["likes_to_dislikes"]
    found["item_degree_to_like_rate"] = item["degree_to_like_rate"]
    found["users_without_dislikes"] = user["without_dislikes"]
    time = describe_time(rows)
    if time is not None:
        last = time["last_fifth"]
        found["last_fifth_like_rate_change"] = last["like_rate"] - last["like_rate_before"]
        found["last_fifth_rows_of_new_users"] = last["rows_of_new_users"]
        found["last_fifth_rows_on_new_items"] = last["rows_on_new_items"]
        found["first_to_last_popularity_similarity"] = time["first_to_last_similarity"]
    return found


def as_rows(graph: SyntheticGraph) -> RawRows:
    """Give the graph to the analysis of data sets."""
    return RawRows(graph.users, graph.items, graph.signs, graph.times, graph.n_users, graph.n_items, {})


def check(graph: SyntheticGraph, profile: Profile) -> list[ProfileComparison]:
    """Compare the statistics of a graph with the profile's, and count its repeated pairs, of which there are none."""
    compared = []
    for name, measured in {**statistics(as_rows(graph)), "repeated_pairs": _repeated(graph)}.items():
        target = profile.targets.get(name)
        if name == "repeated_pairs":
            compared.append(ProfileComparison(name, measured, 0.0, 0.0, measured == 0))
        elif target is None:
            compared.append(ProfileComparison(name, measured, None, None, True))
        else:
            ok = measured is not None and target.allows(measured)
            compared.append(ProfileComparison(name, measured, target.value, target.largest_difference, ok))
    return compared


def _repeated(graph: SyntheticGraph) -> float:
    keys = graph.users.astype(np.int64) * graph.n_items + graph.items
    keys.sort()
    return float((keys[1:] == keys[:-1]).sum())
