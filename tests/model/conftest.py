"""What the tests of the closed forms share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_signed import build


@pytest.fixture
def small(write_inter: Callable[..., Path], signed_rows: list) -> Callable[..., Any]:
    """Return a function of a model's name and settings that gives it fitted to ``rows``, all of them by default."""

    def make(name: str, *, rows: list = signed_rows, fit: bool = True, **config: Any) -> Any:
        model = build(name, write_inter, rows, **config)
        if fit:
            model.fit()
        return model

    return make
