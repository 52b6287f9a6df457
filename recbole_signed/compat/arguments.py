"""The command line of the process, which every ``Config`` of RecBole reads."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def own_arguments_hidden() -> Iterator[None]:
    """Keep RecBole's Config from taking every ``--key=value`` of the process' command line for its own."""
    argv = sys.argv
    sys.argv = argv[:1]
    try:
        yield
    finally:
        sys.argv = argv
