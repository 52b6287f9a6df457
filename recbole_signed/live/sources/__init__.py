"""Streams that events come from: of Redis, and topics of Kafka."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
