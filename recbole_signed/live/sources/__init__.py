"""Where events come from: atomic files, JSON lines, CSV, Redis streams, Kafka topics."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
