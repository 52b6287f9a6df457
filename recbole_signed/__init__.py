"""Recommendation on signed graphs as a RecBole plugin: importing this package is the whole installation.

After ``import recbole_signed`` RecBole's own ``run_recbole`` (and RecBole-GNN's ``run_recbole_gnn``) know the
models, data sets, trainers and metrics of this package. The import takes a few milliseconds: it only leaves hooks
that act when RecBole itself is imported, before or after; the public names below are imported when they are first used.
"""

import lazy_loader

from recbole_signed.plugin import hooks

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]

hooks.install()
