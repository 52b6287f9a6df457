"""Recommendation on signed graphs as a RecBole plugin: importing this package is the whole installation.

After ``import recbole_signed`` RecBole's own ``run_recbole`` (and RecBole-GNN's ``run_recbole_gnn``) know the
models, data sets, trainers and metrics of this package. The import takes a few milliseconds: it only leaves hooks
that act when RecBole itself is imported, before or after; the public names below are imported when they are first used.
Import it before torch: threads then sleep at barriers, which costs nothing alone and much less beside other processes.
"""

import os

import lazy_loader

from recbole_signed.plugin import hooks

# read by OpenMP when torch is loaded: threads that spin at barriers are 4 to 40 times slower on a busy machine
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# read by torch: large tensors in pages of 2 MB; a new array of scores in pages of 4 KB costs as much as filling it
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]

hooks.install(trainers={"OnlineTrainer": "recbole_signed.live.trainer:online"})
