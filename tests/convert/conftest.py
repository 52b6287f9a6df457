"""What the tests of sources share."""

from pathlib import Path

import pytest
from converted import Raw


@pytest.fixture
def log(tmp_path: Path) -> Raw:
    """A folder for files of the source ``csv``."""
    return Raw(tmp_path / "raw", "csv", {})
