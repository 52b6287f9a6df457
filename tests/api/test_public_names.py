"""What ``import recbole_signed`` offers: lazily, documented, and without the weight of torch."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import recbole_signed as rs

NAMES = (
    *("from_frame", "fit", "load", "convert", "run", "compare", "tune", "replay", "register_model"),
    *("OnlineTrainer", "Event", "SignedGraph", "SignedDataset", "UsageError", "Interactions", "Recommender"),
)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert name in rs.__all__
    assert name in dir(rs)
    found = getattr(rs, name)
    text = inspect.getdoc(found) or ""
    assert len(text) > 40
    if inspect.isfunction(found):
        assert "Args:" in text
        assert "Raises:" in text


@pytest.mark.parametrize("first", ["pass", "import recbole_signed.convert", "import recbole_signed.api"])
def test_the_import_is_light_and_convert_can_be_called(first: str, tmp_path: Path) -> None:
    script = f"""
import sys
import recbole_signed as rs
heavy = [name for name in ("torch", "recbole", "pandas", "polars", "numpy") if name in sys.modules]
assert not heavy, heavy
{first}
print(rs.convert("toy", None, {str(tmp_path)!r}).name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "toy-signed"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="recommend_everything"):
        _ = rs.recommend_everything  # type: ignore[attr-defined]
