"""A small model that RecBole trains and that then follows events, for tests of the online trainer."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prepared import new_trainer, prepared

from recbole_signed.live import OnlineTrainer

FEW_STEPS = {"online_settings": {"refresh_steps": 2, "valid_share": 0.0}}  # after two epochs a model still moves fast
FIELDS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]


def train_online(model: str, folder: Path, **config: Any) -> OnlineTrainer:
    """Train on ``folder/dataset/stream`` and go online from ``folder/state``; the parts are its ``.parts``."""
    given = {
        "data_path": str(folder / "dataset"), "load_col": {"inter": [field.split(":")[0] for field in FIELDS]},
        "eval_args": {"order": "TO", "split": {"RS": [0.8, 0.1, 0.1]}, "group_by": None, "mode": "full"},
        "trainer": "OnlineTrainer", "online_state": str(folder / "state"), "checkpoint_dir": str(folder / "saved"),
    }  # fmt: skip
    settings, _, parts = prepared("stream", model, **{**given, **config})
    trainer = new_trainer(settings, parts)
    trainer.fit(parts[0], parts[1], saved=False, show_progress=False)
    trainer.parts = parts
    return trainer


@contextmanager
def online_trainers(
    model: str, folder: Path, write_inter: Callable[..., Path], rows: Iterable[tuple[int, ...]], **settings: Any
) -> Iterator[Callable[..., OnlineTrainer]]:
    """Give what trains a model and goes online; a second call goes on from the same folder, with rows appended."""
    named = [(f"u{user}", f"i{item}", sign, time) for user, item, sign, time in rows]
    opened: list[OnlineTrainer] = []

    def make(more: Sequence[Any] = (), before: Sequence[Any] = (), **config: Any) -> OnlineTrainer:
        if more or before or not opened:  # else what a test has written in its place stays
            write_inter("stream", FIELDS, [*before, *named, *more])
        opened.append(train_online(model, folder, **{**settings, **config}))
        return opened[-1]

    yield make
    for trainer in opened:
        trainer.close()
