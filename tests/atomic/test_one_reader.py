"""What works in ``run`` works in ``stats`` and in ``replay``, with the same rows: other names, separators, rules."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recbole.config import Config
from recbole.data import create_dataset
from refusals import check_refused

from recbole_signed.atomic import read_rows
from recbole_signed.live.events import sign_of
from recbole_signed.live.replay.windows import events_of

Row = tuple[str, str, int, int]
NAME = st.from_regex(r"[a-z][a-z_]{0,5}", fullmatch=True).filter(lambda name: name not in ("and", "or"))  # of rules
NAMES = st.lists(NAME, min_size=5, max_size=5, unique=True)
TOKENS = st.sampled_from(["u", "7", "007", "é", '"q"', "a b", "x-y"])
VERDICTS = st.lists(st.tuples(TOKENS, TOKENS, st.sampled_from([1, -1, 0])), max_size=12)


def by_run(name: str, root: Path) -> Counter[Row]:
    settings = {"data_path": str(root), "state": "ERROR", "show_progress": False, "duplicate_pairs": "keep"}
    data = create_dataset(Config(model="BPR", dataset=name, config_dict=settings))
    data._change_feat_format()
    rows: Counter[Row] = Counter()
    for table, sign in (("inter_feat", 1), ("neg_feat", -1), ("neutral_feat", 0)):
        feat, time = getattr(data, table), data._row_keys[table].time
        users, items = (data.id2token(field, feat[field].numpy()) for field in (data.uid_field, data.iid_field))
        rows.update((str(u), str(i), sign, int(t)) for u, i, t in zip(users, items, time, strict=True))
    return rows


def by_stats(folder: Path) -> Counter[Row]:
    rows = read_rows(folder)
    assert rows.tokens is not None
    assert rows.times is not None
    users, items = (rows.tokens[0].gather(rows.users), rows.tokens[1].gather(rows.items))
    return Counter(zip(users, items, rows.signs.tolist(), rows.times.tolist(), strict=True))


def by_replay(folder: Path) -> Counter[Row]:
    batch = events_of(folder)
    assert (np.diff(batch.timestamp) >= 0).all()
    seconds = (batch.timestamp // 1000).tolist()
    return Counter(zip(batch.user_id, batch.item_id, sign_of(batch.type).tolist(), seconds, strict=True))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=NAMES,
    separator=st.sampled_from(["\t", ",", ";", "|"]),
    encoding=st.sampled_from([None, "latin-1"]),
    verdicts=VERDICTS,
    by_rule=st.booleans(),
    in_parts=st.booleans(),
    order=st.permutations(range(5)),
    data=st.data(),
)
def test_run_stats_and_replay_read_the_same_rows(
    names: list[str],
    separator: str,
    encoding: str | None,
    verdicts: list[tuple[str, str, int]],
    by_rule: bool,
    in_parts: bool,
    order: list[int],
    data: st.DataObject,
    tmp_path: Path,
) -> None:
    name = f"set{len(list(tmp_path.iterdir()))}"
    folder = tmp_path / name
    folder.mkdir()
    user, item, signal, time, other = names
    # a user with both verdicts, in each of the parts
    rows = [("u", "x", 1), ("u", "y", -1), *verdicts, ("u", "z", 1), ("u", "y", -1)]
    times = data.draw(st.lists(st.integers(1_500_000_000, 1_600_000_000), min_size=len(rows), max_size=len(rows)))
    value = {1: 5, 0: 3, -1: 1} if by_rule else {1: 1, 0: 0, -1: -1}
    kinds = [f"{user}:token", f"{item}:token", f"{signal}:float", f"{time}:float", f"{other}:float"]
    cells = [[u, i, str(value[s]), str(t), "0.5"] for (u, i, s), t in zip(rows, times, strict=True)]
    lines = [separator.join(row[place] for place in order) for row in (kinds, *cells)]
    pieces = {"": lines}
    if in_parts:
        pieces = {".train": lines[:-2], ".test": [lines[0], *lines[-2:]]}
    for part, each in pieces.items():
        (folder / f"{name}{part}.inter").write_text("\n".join(each) + "\n", encoding=encoding or "utf-8")
    chosen: dict[str, Any] = {
        "USER_ID_FIELD": user, "ITEM_ID_FIELD": item, "TIME_FIELD": time, "field_separator": separator,
        "load_col": {"inter": names[:4]}, **({"encoding": encoding} if encoding else {}),
        **({"benchmark_filename": ["train", "test"]} if in_parts else {}),
    }  # fmt: skip
    if by_rule:
        chosen["sign_rule"] = {"like": f"{signal} >= 4", "dislike": f"{signal} <= 2"}
    else:
        chosen["SIGN_FIELD"] = signal
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
    read = by_run(name, tmp_path)
    assert read == by_stats(folder) == by_replay(folder)
    assert sum(read.values()) == len(rows)


def test_a_sign_that_is_ignored_is_ignored_everywhere(write_inter: Any) -> None:
    folder = write_inter("set", ["user_id:token", "item_id:token", "sign:float", "timestamp:float"], [("a", "x", 1, 5)])
    (folder / "set.yaml").write_text("SIGN_FIELD: ~\n")
    for read in (read_rows, events_of):
        check_refused("has no column 'sign'; write a column", read, folder)
    assert events_of(folder, {"like": "sign == 1"}).type.tolist() == [1]


def test_a_file_is_read_by_the_yaml_of_its_folder(write_inter: Any) -> None:
    folder = write_inter("set", ["who:token", "what:token", "sign:float"], [("a", "x", 1)], part="train")
    (folder / "set.yaml").write_text("USER_ID_FIELD: who\nITEM_ID_FIELD: what\n")
    rows = read_rows(folder / "set.train.inter")
    assert (len(rows), rows.parts) == (1, {})
