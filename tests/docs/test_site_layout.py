"""The pages of the site in a headless Chromium: nothing is wider than the window, at the widths of usual screens."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headless import chromium

pytest.importorskip("furo", reason="the site needs furo, which the extra docs installs")

ROOT = Path(__file__).resolve().parents[2]
CONF = """
extensions = ["myst_parser"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
"""
WIDE = 24
"""Columns of a table that no window has room for."""
WIDTHS = (390, 1024, 1280, 1366, 1536, 1920)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with headings, a wide table and a long line of code, as the site shows it."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs" / "_static", folder / "_static")
    (folder / "conf.py").write_text(CONF)
    table = ["".join(f"| {cell} " for cell in row) + "|" for row in (_row("name"), _row("---"), _row("0.1234567"))]
    code = f"```text\n{'recbole-signed ' * 20}\n```"
    parts = ["# Results", "Text. " * 200, "## A table", "\n".join(table), "## Code", code, *["Text. " * 99] * 20]
    (folder / "index.md").write_text("\n\n".join(parts))
    subprocess.run([sys.executable, "-m", "sphinx", "-q", folder, folder / "built"], check=True)
    return folder / "built" / "index.html"


def _row(cell: str) -> list[str]:
    return [f"{cell}{number}" if cell != "---" else cell for number in range(WIDE)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_fits_the_window(width: int, browser: Any, page: Path) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())
    assert browser.execute_script("return window.innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    shown = [each for each in browser.find_elements("css selector", ".content, .toc-drawer") if each.is_displayed()]
    for each in shown:
        left, right = each.rect["x"], each.rect["x"] + each.rect["width"]
        assert right <= width or left >= width, each.get_attribute("class")  # a drawer that is shut lies outside
    (table,) = browser.find_elements("css selector", ".table-wrapper")
    assert browser.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth", table)
    if width >= 1366:
        (contents,) = browser.find_elements("css selector", ".toc-drawer")
        assert 0 < contents.rect["x"] < contents.rect["x"] + contents.rect["width"] <= width
        assert contents.is_displayed()
