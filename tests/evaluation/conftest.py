"""What tests of metrics share."""

import numpy as np
import pytest


@pytest.fixture
def recbole_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole's metrics use names that its Config puts back into numpy; there is no Config here."""
    for name, value in {"float": np.float64, "bool": np.bool_, "int": np.int_}.items():
        monkeypatch.setattr(np, name, value, raising=False)
