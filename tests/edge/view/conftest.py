"""A real browser."""

import shutil

import pytest


@pytest.fixture(scope="session")
def chromium():
    program = (
        shutil.which("chromium")
        or shutil.which("google-chrome")
        or shutil.which("chromium-browser")
    )
    playwright = pytest.importorskip("playwright.sync_api")
    if program is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
