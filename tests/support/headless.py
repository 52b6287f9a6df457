"""A headless Chromium for the tests of pages; they skip where it, its driver or selenium is not installed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

QUIET = ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")


@contextmanager
def chromium(folder: Path) -> Iterator[Any]:
    """Give a browser whose profile lies in a folder."""
    pytest.importorskip("selenium", reason="the browser test needs selenium, which the extra dev installs")
    from selenium import webdriver

    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for each in (*QUIET, "disable-component-update", "disable-sync", f"user-data-dir={folder}"):
        options.add_argument(f"--{each}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()
