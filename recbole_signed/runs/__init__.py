"""Runs: one run and its row, tables of rows, and the processes that make them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
