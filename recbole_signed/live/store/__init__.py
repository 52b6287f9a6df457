"""The durable store: log, vocabulary, current edges, and versions to go back to. Knows neither torch nor RecBole.

An event on its way through: :class:`~recbole_signed.live.EventBatch` (valid rows with raw ids), :class:`LogBatch`
(rows of the log, with ``seq`` and numbers for ids), :class:`Changes` (the net effect on each pair of user and item),
:class:`Update` (what a learner is given).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
