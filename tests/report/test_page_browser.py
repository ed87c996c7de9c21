"""The page in a real browser: headless Chromium, driven by selenium."""

from __future__ import annotations

import json
import shutil

import pytest

from allgrad.report import write_report

pytest.importorskip("plotly", reason="the report needs plotly (allgrad[report])")
waiting = pytest.importorskip("selenium.webdriver.support.wait", reason="selenium drives the browser")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="there is no chromium with its chromedriver on PATH"
)

OPTIONS = (
    "headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update",
    "disable-sync", "no-first-run",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(values_run, classes_run, tmp_path_factory):
    """One page with all that a page can have: two runs, a trace, an attack in a name, a confusion matrix."""
    return write_report([values_run, classes_run], tmp_path_factory.mktemp("page") / "page.html")


def show(browser, page, width: int = 1600, scheme: str = "light", *, fresh: bool = False) -> None:
    """The page at this width and in this theme; `fresh`: loaded anew, otherwise only where another page is open."""
    screen = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    if fresh or browser.current_url != page.as_uri():
        browser.get(page.as_uri())


def run(browser, script: str, *arguments):
    return browser.execute_script(f"return {script}", *arguments)


def colour(browser, selector: str, what: str) -> list[float]:
    text = run(browser, f"getComputedStyle(document.querySelector({selector!r}))[{what!r}]")
    return [float(number) for number in text[text.index("(") + 1 : -1].split(",")[:3]]


def test_every_figure_is_drawn_and_no_script_complains(browser, page) -> None:
    show(browser, page)
    figures = run(browser, "document.querySelectorAll('.chart').length")
    assert figures >= 8
    assert run(browser, "document.querySelectorAll('.chart .main-svg:first-of-type').length") >= figures
    assert run(browser, "document.querySelectorAll('#figure-0 .scatterlayer .trace path.js-line').length") == 4
    # Load, wait, update, and the forward and backward of a batch or of four workers.
    assert run(browser, "document.querySelectorAll('.barlayer .point path').length") in (5, 11)
    assert run(browser, "document.querySelectorAll('.heatmaplayer image').length") == 1
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_no_request_leaves_the_page(browser, page) -> None:
    show(browser, page)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    asked = [
        each["request"]["url"] for each in sent if each["documentURL"] == page.as_uri()
    ]  # not the first, empty tab
    assert page.as_uri() in asked
    assert [url for url in asked if not url.startswith((page.as_uri(), "data:", "blob:"))] == []


def test_a_name_with_a_script_does_not_run_it(browser, page) -> None:
    show(browser, page)
    assert "<script>alert(1)<script>" in run(browser, "document.body.innerText")
    assert run(browser, "document.querySelectorAll('script').length") == 3
    browser.execute_script(
        "const s = document.createElement('script'); s.text = 'window.ran = 1'; document.body.append(s)"
    )
    assert run(browser, "window.ran === undefined")  # the content security policy


def test_hover_shows_values(browser, page) -> None:
    show(browser, page)
    box = run(browser, "document.querySelector('#figure-0 .nsewdrag').getBoundingClientRect().toJSON()")
    for kind, share in (("mouseMoved", 0.4), ("mouseMoved", 0.5)):
        place = {"x": box["x"] + share * box["width"], "y": box["y"] + 0.5 * box["height"]}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, **place})
    wait = waiting.WebDriverWait(browser, 60)
    text = wait.until(lambda b: run(b, "document.querySelector('#figure-0 .hoverlayer')?.textContent"))
    assert "step" in text


def test_the_logarithmic_switch(browser, page) -> None:
    show(browser, page)
    browser.execute_script("document.querySelector('button[data-log=figure-0]').click()")
    assert run(browser, "document.getElementById('figure-0').layout.yaxis.type") == "log"
    browser.execute_script("document.querySelector('button[data-log=figure-0]').click()")
    assert run(browser, "document.getElementById('figure-0').layout.yaxis.type") == "linear"


def test_the_dark_theme_is_dark_also_when_it_changes_while_the_page_is_open(browser, page) -> None:
    show(browser, page, scheme="dark")
    assert max(colour(browser, "body", "backgroundColor")) < 60
    assert min(colour(browser, "body", "color")) > 180
    assert max(colour(browser, "#figure-0 .main-svg", "backgroundColor")) < 60
    features = [{"name": "prefers-color-scheme", "value": "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    wait = waiting.WebDriverWait(browser, 60)
    assert wait.until(lambda b: min(colour(b, "#figure-0 .main-svg", "backgroundColor")) > 200)


@pytest.mark.parametrize("width", [1600, 400])
def test_nothing_is_wider_than_the_screen(browser, page, width) -> None:
    show(browser, page, width, fresh=width == 400)
    assert run(browser, "document.documentElement.scrollWidth") <= width
    assert (
        run(browser, "Math.max(...[...document.querySelectorAll('.chart')].map(c => c.getBoundingClientRect().right))")
        <= width
    )
