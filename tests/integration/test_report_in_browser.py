"""Both pages in headless Chromium: they fit the screen, load nothing, have no errors, and show every plot."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders_monitor_page import watched_bucket
from tests.builders_report import bare_facts, whole_facts
from training.report.monitor_page import build_monitor_page
from training.report.page import build_report
from training.report.plots import draw_plots
from training.workflows.monitor_report import gather_monitor_facts

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="there is no Chromium with its driver here: .ci/browser installs both"
)

DESKTOP, PHONE = (1280, 900), (390, 844)

# The size of every plot on the page, and its number of shapes and pictures.
DRAWN = """return [...document.querySelectorAll('figure svg')].map(svg => {
  const box = svg.getBoundingClientRect();
  return [box.width, box.height, svg.querySelectorAll('path, use, image').length];
})"""
# Elements that extend beyond the right edge of the page, except in boxes that scroll.
TOO_WIDE = """return [...document.querySelectorAll('body *')].filter(
  e => !e.closest('.scroll') && !e.closest('svg') && e.getBoundingClientRect().right > innerWidth + 0.5
).map(e => e.outerHTML.slice(0, 80))"""
# Tables that are wider than their boxes, so that one has to scroll.
SCROLLING = """return [...document.querySelectorAll('.scroll')].filter(
  e => e.scrollWidth > e.clientWidth + 1).map(e => e.ariaLabel)"""
BLOCKED = """window.blocked = []; document.addEventListener(
  'securitypolicyviolation', e => window.blocked.push(e.violatedDirective + ' ' + e.blockedURI))"""
# Texts of plots that overlap visibly.
OVERLAPS = """return [...document.querySelectorAll('figure svg')].flatMap(svg => {
  const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  return texts.flatMap(([one, a], i) => texts.slice(i + 1).filter(([_, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3
  ).map(([other]) => one + ' / ' + other));
})"""
SMALLEST_TEXT = """return Math.min(...[...document.querySelectorAll('figure svg text')].map(
  text => Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b) * parseFloat(getComputedStyle(text).fontSize)))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver  # noqa: PLC0415 - where there is no browser, it may be missing too

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    profile = tmp_path_factory.mktemp("chromium")
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", f"user-data-dir={profile}"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": BLOCKED})
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_bytes(build_report(whole_facts()))
    return path


@pytest.fixture(scope="module")
def monitoring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("monitoring") / "monitor.html"
    path.write_bytes(build_monitor_page(gather_monitor_facts(*watched_bucket())))
    return path


def show(browser: Any, path: Path, size: tuple[int, int], *, scheme: str = "light") -> None:
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < DESKTOP[0]}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get_log("browser")  # what was before is forgotten
    browser.get(path.as_uri())


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_report_has_no_errors_fetches_nothing_and_fits_the_width(
    browser: Any, report: Path, size: tuple[int, int]
) -> None:
    browser.get_log("performance")
    show(browser, report, size)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.blocked") == []
    sent = [entry["message"] for entry in browser.get_log("performance") if "requestWillBeSent" in entry["message"]]
    assert sent
    assert [message for message in sent if '"url":"http' in message] == []
    assert browser.execute_script(TOO_WIDE) == []
    assert browser.execute_script("const page = document.documentElement; return page.scrollWidth <= page.clientWidth")
    assert browser.execute_script(SCROLLING) == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_plot_is_drawn_and_legible(browser: Any, report: Path, size: tuple[int, int]) -> None:
    show(browser, report, size)
    drawn = browser.execute_script(DRAWN)
    assert len(drawn) == len(draw_plots(whole_facts()))
    assert all(width > 250 and height > 60 and n_shapes > 5 for width, height, n_shapes in drawn)
    assert browser.execute_script(OVERLAPS) == []
    assert browser.execute_script(SMALLEST_TEXT) >= 9
    pictures = browser.execute_script(
        "return Promise.all([...document.querySelectorAll('image')].map(async image => {"
        " const copy = new Image(); copy.src = image.href.baseVal; await copy.decode(); return copy.naturalWidth}))"
    )
    assert pictures
    assert min(pictures) > 0


def test_dark_mode_has_light_text_in_the_plots_too(browser: Any, report: Path) -> None:
    ink = "return getComputedStyle(document.querySelector('figure svg text')).fill"
    paper = "return getComputedStyle(document.body).backgroundColor"
    show(browser, report, DESKTOP)
    light = browser.execute_script(ink), browser.execute_script(paper)
    show(browser, report, DESKTOP, scheme="dark")
    dark = browser.execute_script(ink), browser.execute_script(paper)
    assert all(one != other for one, other in zip(light, dark, strict=True))


def test_report_of_a_bundle_alone_is_shown(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(build_report(bare_facts()))
    show(browser, path, PHONE)
    assert browser.get_log("browser") == []
    assert browser.execute_script(TOO_WIDE) == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_monitoring_page_fits_the_width_and_its_plots_are_legible(
    browser: Any, monitoring: Path, size: tuple[int, int]
) -> None:
    show(browser, monitoring, size)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.blocked") == []
    assert browser.execute_script(TOO_WIDE) == []
    drawn = browser.execute_script(DRAWN)
    assert len(drawn) == 12
    assert all(width > 250 and height > 60 and n_shapes > 5 for width, height, n_shapes in drawn)
    assert browser.execute_script(OVERLAPS) == []
    assert browser.execute_script(SMALLEST_TEXT) >= 9
