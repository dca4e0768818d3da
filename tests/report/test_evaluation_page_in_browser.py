"""The page in a real browser: it filters, searches, opens and links to instances, by mouse, by keyboard, on a phone."""

import shutil
from urllib.parse import parse_qs

import pytest
from synthetic_evaluation import write_evaluation
from synthetic_runs import HOSTILE_TEXT, write_recipe

from zhenlong.report import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
HOSTILE = f"{HOSTILE_TEXT}<img src=x onerror=document.title='run'>"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; install it to check the page in a browser")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_evaluation(tmp_path_factory.mktemp("runs") / "e", scenarios=("mmlu", "gsm8k", "ifeval"), n=70)
    write_report(folder)
    return folder


@pytest.fixture
def opened(browser, folder):
    """Opens the page; any browser error fails the test."""
    complaints, contexts = [], []

    def open_page(at="", *, path=None, **settings):
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings}))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.append(asked.url) if asked.url.startswith("http") else None)
        page.goto(f"file://{path or folder / 'report.html'}{at}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def count(page, said):
    playwright.expect(page.locator(".count")).to_contain_text(said)


def asked(page):
    return {name: values[0] for name, values in parse_qs(page.url.partition("?")[2], keep_blank_values=True).items()}


def test_filters_and_search_select_the_matching_instances(opened):
    page = opened("#instances?scenario=mmlu&model=base&beside=sft")
    count(page, "1 to 50 of 210 found; 210 in all")
    page.select_option("[name=perturbation]", label="unperturbed")
    count(page, "of 70 found")
    page.select_option("[name=show]", "failed")
    count(page, "1 to 1 of 1 found")
    assert page.locator(".list .score.failed").count() == 1
    page.select_option("[name=show]", "ahead")
    page.locator(".list button").first.wait_for()
    assert set(page.locator(".list .marks .score:nth-child(1)").all_inner_texts()) == {"1"}
    assert set(page.locator(".list .marks .score:nth-child(2)").all_inner_texts()) == {"0"}
    page.select_option("[name=show]", "")
    page.fill("[name=q]", "What is 42 TIMES 43")
    count(page, "1 to 1 of 1 found")
    page.fill("[name=q]", "no such words")
    count(page, "None of 210 instances matches.")
    page.get_by_role("button", name="Reset").click()
    count(page, "of 210 found")
    page.select_option("[name=group]", "subject=law")
    count(page, "of 51 found")
    page.fill("[name=from]", "1")
    page.locator("[name=from]").press("Tab")
    page.locator(".list button").first.wait_for()
    assert set(page.locator(".list .marks .score:nth-child(1)").all_inner_texts()) == {"1"}
    page.select_option("[name=scenario]", "gsm8k")
    count(page, "420 in all")
    page.select_option("[name=shots]", "5")
    assert asked(page) == {"scenario": "gsm8k", "model": "base", "beside": "sft", "from": "1", "shots": "5"}


def test_an_instance_shows_everything_and_can_be_linked(opened):
    page = opened("#instances?scenario=ifeval&model=sft&beside=grpo")
    page.locator(".list button").nth(7).click()
    detail = page.locator(".detail")
    for said in ("ifeval · 7", "Question: What is 7 times 8?", "References", "56", "Let me see: 7 times 8.", "SFT",
                 "prompt strict", "verdict", "[[A]]", "generated tokens", "GRPO"):  # fmt: skip
        playwright.expect(detail).to_contain_text(said)
    assert asked(page)["id"] == "7"
    again = opened(page.url.partition("report.html")[2])
    playwright.expect(again.locator(".detail")).to_contain_text("ifeval · 7")
    again.get_by_role("button", name="Next", exact=True).click()
    playwright.expect(again.locator(".detail h3")).to_have_text("ifeval · 8")
    again.evaluate("location.hash = '#instances?scenario=gsm8k&id=none'")
    count(again, "gsm8k · none: not in this page.")


def test_a_number_links_to_its_instances(opened):
    page = opened()
    page.locator("#overview td a").first.click()
    count(page, "210 in all")
    assert page.input_value("[name=scenario]") == "mmlu"
    page.get_by_role("button", name="Robustness").click()
    playwright.expect(page.locator("#category-robustness")).to_be_visible()
    playwright.expect(page.locator("#overview")).to_be_hidden()


def test_the_keyboard_reaches_everything(opened):
    page = opened("#instances?scenario=ifeval&model=base")
    first = page.locator(".list button").first
    first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    playwright.expect(page.locator(".detail h3")).to_have_text("ifeval · 2")
    playwright.expect(page.locator(".detail")).to_be_focused()
    page.keyboard.press("Escape")
    playwright.expect(page.locator(".detail")).to_be_hidden()
    assert page.evaluate("document.activeElement.querySelector('.id').textContent") == "2"
    page.keyboard.press("End")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the previous page: there is none
    count(page, "1 to 50 of 70 found")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    count(page, "51 to 70 of 70 found")
    assert page.evaluate("document.activeElement.textContent") == "Next page"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert page.locator(".count[aria-live=polite]").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_has_no_sideways_scrolling_and_both_schemes_are_legible(opened, scheme):
    page = opened("#instances?scenario=mmlu&id=3", viewport={"width": 390, "height": 800}, color_scheme=scheme)
    playwright.expect(page.locator(".detail")).to_be_visible()
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for button in page.locator(".tabs button").all():
        button.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    faint = page.evaluate(CONTRAST)
    assert faint == []


def test_paper_has_all_tables_and_no_browser(opened):
    page = opened()
    page.locator(".tabs").wait_for()
    page.emulate_media(media="print")
    assert not page.locator("#instances").is_visible()
    for name in ("accuracy", "calibration", "robustness", "fairness", "efficiency"):
        assert page.locator(f"#category-{name}").is_visible()
    page.set_viewport_size({"width": 690, "height": 900})  # A4 without margins
    assert page.evaluate("document.documentElement.scrollWidth") <= 690


def test_hostile_text_stays_text(opened, tmp_path):
    folder = write_evaluation(tmp_path / "e", scenarios=("mmlu", "ifeval"), n=5, hostile=HOSTILE)
    page = opened("#instances?scenario=ifeval&model=grpo", path=write_report(folder))
    page.locator(".list button").first.click()
    playwright.expect(page.locator(".detail")).to_contain_text("<img src=x")
    assert page.locator("img").count() == 0
    assert page.title() != "run"


def test_the_page_of_a_recipe_draws_its_curves_and_opens_its_instances(opened, tmp_path):
    folder = write_recipe(tmp_path / "demo")
    write_evaluation(folder / "evaluation", scenarios=("world_tasks",), n=6)
    page = opened(path=write_report(folder))
    page.locator("#training").scroll_into_view_if_needed()
    page.locator("#training .chart svg").first.wait_for()
    page.locator("#instances").scroll_into_view_if_needed()
    page.locator(".list button").first.click()
    playwright.expect(page.locator(".detail")).to_contain_text("world_tasks · 0")


CONTRAST = """() => {
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const found = [];
  for (const one of document.querySelectorAll("td, th, td a, td small, .chip, .score, .verbatim, .lead, .tabs *")) {
    if (!one.textContent.trim() || !one.offsetParent) continue;
    const style = getComputedStyle(one);
    let under = one, ground = [0, 0, 0, 0];
    while (under && (ground.length === 4 && ground[3] === 0)) {
      ground = numbers(getComputedStyle(under).backgroundColor);
      under = under.parentElement;
    }
    const opacity = Number(style.opacity), colour = numbers(style.color).slice(0, 3);
    const ink = colour.map((v, i) => v * opacity + ground[i] * (1 - opacity));
    const [light, dark] = [luminance(ink), luminance(ground)].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) found.push(`${one.className || one.tagName} ${one.textContent.slice(0, 20)} ${ratio.toFixed(1)}`);
  }
  return [...new Set(found)].slice(0, 10);
}"""
