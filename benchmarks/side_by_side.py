"""Time and memory of a model here and of its authors' code: same data, same settings, one after the other.

    python benchmarks/side_by_side.py --peer sigformer --checkout SIGformer --data sigformer-kuairand \
        --set alpha=0.2 --set beta=1 --set sample_hop=3

``--checkout`` is a checkout of github.com/StupidThree/SIGformer or github.com/woni-seo/SiReN-reco, whose dependencies
are installed (SIGformer: ``torchsparsegradutils``; a folder of it on PYTHONPATH will do); ``--data`` a folder with
train, valid and test.txt (``user item label``, plain or .xz). Each side runs in a process of its own, SIGformer's
authors' as its script, SiReN's by its modules, which only know the authors' own data sets otherwise.

The time of an epoch is the median of the times between reports of consecutive epochs, in which nothing is evaluated;
the authors' SiReN samples for 20 epochs at once, of which an epoch is charged a 20th. The peak of memory is that of the
whole process, libraries, reading and one evaluation included (the authors' SiReN is not evaluated: it would be with 20
epochs). Limits: at least twice as fast, at most half the memory.
"""

from __future__ import annotations

import lzma
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from measuring import MIB, Figure, parser, report

FASTER, SMALLER = 2.0, 0.5
PARTS = ("train", "valid", "test")
NAME = "side-by-side"
SAMPLED_AHEAD = 20


@dataclass
class Watched:
    """What was seen of a process from outside."""

    stamps: list[float] = field(default_factory=list)
    """When each epoch was reported."""
    cpu: list[float] = field(default_factory=list)
    """Seconds of processor time that the process had used by then."""
    extra: float = 0.0
    """Seconds that each epoch is charged besides."""
    peak: float = 0.0
    """Peak of resident memory in bytes."""

    @property
    def epoch(self) -> float:
        """Seconds an epoch takes."""
        return statistics.median(after - before for before, after in pairwise(self.stamps)) + self.extra

    @property
    def epoch_cpu(self) -> float:
        """Seconds of processor time an epoch takes, which a busy machine changes less; without ``extra``."""
        return statistics.median(after - before for before, after in pairwise(self.cpu))


def processor_time(process: int) -> float:
    """Return the seconds that a process has computed, all its threads together."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watch(command: list[str], folder: Path, epoch: str, extra: str = r"(?!)") -> Watched:
    """Run a command, stamp the lines that match ``epoch``, and follow its peak memory."""
    seen = Watched()
    tail: list[str] = []
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def follow() -> None:
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            peak = re.search(r"VmHWM:\s+(\d+)", status)
            seen.peak = max(seen.peak, int(peak[1]) * 1024.0) if peak else seen.peak
            time.sleep(0.05)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    assert process.stdout is not None
    for line in process.stdout:
        tail = [*tail[-20:], line]
        if re.search(epoch, line):
            seen.stamps.append(time.perf_counter())
            seen.cpu.append(processor_time(process.pid))
        elif match := re.search(extra, line):
            seen.extra = float(match[1])
    follower.join()
    if process.wait() or len(seen.stamps) < 3:
        raise SystemExit(
            f"{' '.join(command)} gave status {process.returncode}, {len(seen.stamps)} epochs:\n{''.join(tail)}"
        )
    return seen


def unpack(data: Path, folder: Path) -> float:
    """Write the three files as plain text and return the least label of a like."""
    folder.mkdir(parents=True)
    for part in PARTS:
        packed = data / f"{part}.txt.xz"
        text = lzma.decompress(packed.read_bytes()) if packed.exists() else (data / f"{part}.txt").read_bytes()
        (folder / f"{part}.txt").write_bytes(text)
    labels = {float(line.split()[2]) for line in (folder / "train.txt").read_text().splitlines()}
    return 4.0 if max(labels) > 1 else 1.0


def run_ours(model: str, settings: dict[str, str], epochs: int, folder: Path) -> Watched:
    """Convert the data, and train by the command line."""
    command = [sys.executable, "-W", "ignore", "-m", "recbole_signed"]
    atomic = [
        "convert",
        "signed-split",
        "--input",
        str(folder / NAME),
        "--output",
        str(folder / "atomic"),
        "--name",
        NAME,
    ]
    subprocess.run([*command, *atomic], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    keys = [f"data_path={folder / 'atomic'}", "show_progress=False", f"epochs={epochs}", f"eval_step={epochs}"]
    keys += [f"{key}={value}" for key, value in settings.items()]
    train = ["run", "-m", model, "-d", NAME, "--no-save", *keys]
    return watch([*command, *train], folder, r"epoch \d+ training")


def run_sigformer(checkout: Path, settings: dict[str, str], epochs: int, folder: Path, like_from: float) -> Watched:
    """The authors' script as it is, on the CPU."""
    arguments = [f"--{key}={value}" for key, value in settings.items()]
    arguments += [f"--data_dir={folder}", f"--data={NAME}", f"--offset={like_from}", "--device=-1"]
    arguments += [f"--epochs={epochs}", f"--valid_interval={epochs + 1}", "--show_loss_interval=1"]
    command = [sys.executable, "-W", "ignore", str(checkout / "code" / "main.py"), *arguments]
    return watch(command, folder, r"^epoch \d+, train_loss")


def run_siren(checkout: Path, settings: dict[str, str], epochs: int, folder: Path, like_from: float) -> Watched:
    """The authors' modules, driven by this script in a process of its own."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), "--drive-siren", str(checkout)]
    command += ["--data", str(folder / NAME), "--epochs", str(epochs), "--like-from", str(like_from)]
    command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return watch(command, folder, r"^epoch \d+$", r"^sampling (\S+)$")


def drive_siren(checkout: Path, data: Path, settings: dict[str, str], epochs: int, like_from: float) -> None:
    """Run the training of the checkout's ``main`` on a frame of our making; print when epochs begin."""
    import argparse
    from types import SimpleNamespace

    import pandas as pd

    sys.path.insert(0, str(checkout))
    import main as theirs  # type: ignore[import-not-found]

    columns = ["userId", "movieId", "rating"]
    frames = {
        part: pd.read_csv(data / f"{part}.txt", sep=r"\s+", header=None, usecols=[0, 1, 2], names=columns)
        for part in PARTS
    }
    whole = pd.concat(frames.values())
    n_users, n_items = int(whole["userId"].max()) + 1, int(whole["movieId"].max()) + 1
    for frame in frames.values():
        frame[["userId", "movieId"]] = frame[["userId", "movieId"]].astype("int64") + 1
        frame["rating"] = (frame["rating"] >= like_from).map({True: 5.0, False: 1.0})
    loaded = SimpleNamespace(num_u=n_users, num_v=n_items, data_load=lambda: (frames["train"], frames["test"]))
    loader, sample = theirs.DataLoader, theirs.bipartite_dataset.negs_gen_EP
    begun = iter(range(1, epochs + 1))

    def stamped(*args: Any, **kwargs: Any) -> Any:
        print(f"\nepoch {next(begun)}", flush=True)
        return loader(*args, **kwargs)

    def timed(self: Any, ahead: int) -> None:
        start = time.perf_counter()
        sample(self, ahead)
        print(f"\nsampling {(time.perf_counter() - start) / SAMPLED_AHEAD}", flush=True)

    theirs.Data_loader = lambda *_: loaded
    theirs.DataLoader, theirs.bipartite_dataset.negs_gen_EP = stamped, timed
    given: dict[str, Any] = {
        **{"dataset": NAME, "version": 1, "batch_size": 1024, "dim": 64, "lr": 5e-3, "offset": 3.5, "K": 40},
        **{"num_layers": 4, "MLP_layers": 2, "epoch": epochs, "reg": 0.05},
    }
    given |= {key: type(given[key])(value) for key, value in settings.items()}
    theirs.main(argparse.Namespace(**given))


OURS_BY_THEIRS = {
    "sigformer": {"hidden_dim": "embedding_size", "lambda_reg": "reg_weight", "topks": "topk"},
    "siren": {
        **{"batch_size": "train_batch_size", "dim": "embedding_size", "lr": "learning_rate", "K": "n_negatives"},
        **{"num_layers": "n_layers", "MLP_layers": "mlp_layers", "reg": "reg_weight"},
    },
}
"""Names of settings here, where the authors' are others."""
PEERS = {"sigformer": ("SIGformer", run_sigformer), "siren": ("SiReN", run_siren)}


def compare(peer: str, checkout: Path, data: Path, settings: dict[str, str], epochs: int, folder: Path) -> list[Figure]:
    """Run both sides and return their figures."""
    model, run_theirs = PEERS[peer]
    like_from = unpack(data, folder / NAME)
    theirs = run_theirs(checkout, settings, epochs, folder, like_from)
    names = OURS_BY_THEIRS[peer]
    ours = run_ours(model, {names.get(key, key): value for key, value in settings.items()}, epochs, folder)
    return [
        Figure("theirs, an epoch", theirs.epoch, "s"),
        Figure("ours, an epoch", ours.epoch, "s"),
        Figure("theirs / ours, time", theirs.epoch / ours.epoch, "times", FASTER, at_least=True),
        Figure("theirs, processor time of an epoch", theirs.epoch_cpu, "s"),
        Figure("ours, processor time of an epoch", ours.epoch_cpu, "s"),
        Figure("theirs / ours, processor time", theirs.epoch_cpu / ours.epoch_cpu, "times"),
        Figure("theirs, peak memory", theirs.peak / MIB, "MiB"),
        Figure("ours, peak memory", ours.peak / MIB, "MiB"),
        Figure("ours / theirs, peak memory", ours.peak / theirs.peak, "times", SMALLER),
    ]


def main() -> int:
    """Parse the command line."""
    options = parser(__doc__)
    options.add_argument("--peer", choices=sorted(PEERS), help="whose code")
    options.add_argument("--checkout", type=Path, help="a checkout of it")
    options.add_argument("--data", type=Path, required=True, help="folder with train, valid and test.txt")
    options.add_argument("--epochs", type=int, default=6, help="3 to 19")
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="in the authors' names")
    options.add_argument("--drive-siren", type=Path, help="used by this script itself")
    options.add_argument("--like-from", type=float, help="used by this script itself")
    given = options.parse_args()
    settings = dict(setting.split("=", 1) for setting in given.set)
    if given.drive_siren:
        drive_siren(given.drive_siren, given.data, settings, given.epochs, given.like_from)
        return 0
    if not given.peer or not given.checkout or not 3 <= given.epochs < SAMPLED_AHEAD:
        options.error("give --peer, --checkout, and --epochs from 3 to 19")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        figures = compare(given.peer, given.checkout.resolve(), given.data.resolve(), settings, given.epochs, folder)
    return report(figures, given.json)


if __name__ == "__main__":
    raise SystemExit(main())
