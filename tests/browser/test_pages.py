"""The pages as a browser shows them, on a telephone and on a desk."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium.webdriver import Chrome

from tests.support.bundles import EXAMPLE, FORECAST, publish
from tests.support.markets import publish_markets
from tests.support.service import running
from vroom_api.contract.alerts import Severity, raise_alert
from vroom_api.contract.tables import open_database

pytestmark = pytest.mark.browser

WIDTHS = (390, 1280)  # CSS pixels: a telephone held upright, a laptop
PAGES = ("/", "/schema")

# Elements that stick out of the window, but for those that are cut off or scrolled inside a box of their own.
STICKING_OUT = """
const scrolls = (element) => element && (getComputedStyle(element).overflowX !== "visible"
    || scrolls(element.parentElement));
return [...document.body.querySelectorAll("*")]
    .filter((element) => element.getBoundingClientRect().right > window.innerWidth + 0.5)
    .filter((element) => !scrolls(element.parentElement))
    .map((element) => `${element.tagName} ${element.textContent.slice(0, 60)}`);
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service with two champions and a prediction."""
    home: Path = tmp_path_factory.mktemp("pages") / "home"
    publish(home, 1)
    publish_markets(home)
    engine = open_database(f"sqlite:///{home / 'serving.db'}")
    wide = f"a_feature_with_a_{'very_' * 20}long_name has moved"
    raise_alert(engine, forecast=FORECAST, kind="drift", severity=Severity.WARNING, message=wide)
    engine.dispose()
    with running(home) as (address, _):
        assert httpx.post(f"{address}/predict", json=EXAMPLE).status_code == 200
        yield address


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service before the first training."""
    with running(tmp_path_factory.mktemp("nothing") / "home") as (address, _):
        yield address


def look_at(browser: Chrome, address: str, width: int) -> None:
    """Open a page in a window of this width."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get_log("browser")  # what an earlier page logged
    browser.get(address)


def is_in_order(browser: Chrome, width: int) -> None:
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    assert browser.execute_script("return window.innerWidth") == width
    assert browser.execute_script(STICKING_OUT) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_its_window_and_complains_of_nothing(browser, service, path, width):
    look_at(browser, service + path, width)
    assert browser.title.startswith("Vroom")
    is_in_order(browser, width)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", PAGES)
def test_before_the_first_champion_too(browser, nothing, path, width):
    look_at(browser, nothing + path, width)
    is_in_order(browser, width)


def test_the_page_shows_what_is_open(browser, service):
    look_at(browser, service, WIDTHS[0])
    assert "Open alerts" in [heading.text for heading in browser.find_elements("tag name", "h2")]


def test_the_navigation_leads_from_page_to_page(browser, service):
    look_at(browser, service, WIDTHS[1])
    browser.find_element("link text", "API").click()
    assert browser.current_url == f"{service}/schema"
    browser.find_element("link text", "Overview").click()
    assert browser.current_url == f"{service}/"
