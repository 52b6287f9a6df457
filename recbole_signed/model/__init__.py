"""Recommenders for signed graphs: one file per published model, named after the lower-cased class.

The file of a filter of likes also holds the same filter of signed edges, such as ``SignedGFCF`` in ``gfcf.py``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
