"""Synthetic signed bipartite graphs with time, as large as wanted, whose statistics match a real data set's.

``generate("kuairand", 10_000_000, seed=0)`` gives arrays of edges; :mod:`recbole_signed.lab.synth.profile` compares
their statistics with those of the data the profile was fitted to, and :mod:`recbole_signed.lab.synth.writer` puts them
on disk.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
