"""What a user imports from ``recbole_signed``: data from tables, fitted models with raw ids, saved models."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
