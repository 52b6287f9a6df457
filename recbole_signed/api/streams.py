"""``replay``: the replay of a stream that one yaml file describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_signed.convert.sources.movielens import ensure_ml100k
from recbole_signed.errors import UsageError, ending
from recbole_signed.files import path_of
from recbole_signed.live.replay import summarise
from recbole_signed.live.replay.experiment import run_stream
from recbole_signed.live.replay.stream_spec import StreamSpec
from recbole_signed.plugin.assignments import RUNS
from recbole_signed.plugin.configuration import DATA_ROOT, ML_100K_SIGNED, check_dataset_name, dataset_names


def replay(file: Path | str, data_path: Path | str = DATA_ROOT) -> dict[str, Any]:
    """Compare online updates with retraining on a stream: predict a window, then learn from it, and so on.

    Windows that an earlier call has finished are not run again; they are in ``runs/online/`` of the current folder.

    Args:
        file: yaml file of the replay, as those under ``yaml/online/``.
        data_path: folder of the data sets.

    Returns:
        The figures: ``windows`` (a row per window and arm), ``pooled`` (a row per subset and arm, with retention),
        ``gate``, ``cost`` and ``settings`` by model.

    Raises:
        UsageError: the file asks for something that does not exist, or the data set is not there.
    """
    spec = StreamSpec.read(path_of(file, "file"))
    return summarise(run_stream(spec, _folder(spec, path_of(data_path, "data_path")), Path(RUNS) / "online"))


def _folder(spec: StreamSpec, data_path: Path) -> Path:
    check_dataset_name(spec.dataset)
    folder = data_path / spec.dataset
    if not folder.is_dir():
        if spec.dataset != ML_100K_SIGNED:
            hint = ending(spec.dataset, dataset_names(data_path))
            has_head = spec.path.read_text(encoding="utf-8").startswith("#")  # as those of this repository have
            how = f"{spec.path} says how to make it" if has_head else "'recbole-signed convert' makes one"
            raise UsageError(f"there is no data set '{spec.dataset}' in {data_path} ({how}){hint}")
        ensure_ml100k(data_path)
    return folder
