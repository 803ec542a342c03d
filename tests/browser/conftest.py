"""A real browser without a screen."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.support.needs import skip_or_fail

BROWSERS = ("chromium", "google-chrome", "chromium-browser", "chrome")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Chromium, one for all tests of a process; what its console says is kept for `complaints`."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        skip_or_fail("no Chromium and chromedriver on the PATH, so no page can be tested")
    profile: Path = tmp_path_factory.mktemp("browser")
    options = ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "--headless=new",
        "--no-sandbox",  # containers and root have none; the pages are ours
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    with Chrome(options, ChromeService(driver)) as chrome:
        chrome.set_page_load_timeout(60)
        yield chrome
