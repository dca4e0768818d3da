"""README and tutorial stay short, README.zh.md shows the same commands, and the range of speeds is the measured one."""

import json
import re

import pytest
from pages import ROOT, fences, links, prose

README, CHINESE, TUTORIAL = ROOT / "README.md", ROOT / "README.zh.md", ROOT / "docs" / "tutorial.md"


def words(text):
    return [word for word in text.split() if re.search(r"\w", word)]


def sentences(page):
    """The sentences of the page's paragraphs and list items; tables, headings and code have none."""
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", prose(page))
    blocks = re.split(r"\n\s*\n|\n(?=- )", plain)
    texts = [" ".join(block.split()) for block in blocks if not block.lstrip().startswith(("|", "#"))]
    return [sentence for text in texts for sentence in re.split(r"(?<=[.!?:])\s+", text) if sentence]


def test_the_readme_has_at_most_900_words_its_code_included():
    assert len(README.read_text(encoding="utf-8").split()) <= 900


@pytest.mark.parametrize("page", [README, TUTORIAL], ids=lambda page: page.name)
def test_no_sentence_has_more_than_40_words(page):
    found = sentences(page)
    assert len(found) > 20
    assert [one for one in found if len(words(one)) > 40] == []


@pytest.mark.parametrize("language", ["sh", "python", "text"])
def test_the_chinese_readme_shows_the_same_code_and_output(language):
    assert fences(CHINESE, language) == fences(README, language) != []


def test_the_chinese_readme_leads_to_the_same_pages():
    languages = {("README.md", ""), ("README.zh.md", "")}
    assert set(links(CHINESE)) - languages == set(links(README)) - languages


def test_the_range_of_speeds_is_that_of_all_results_against_tuned_trl():
    rows = [
        row
        for path in (ROOT / "benchmarks" / "results").glob("2*.json")
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]
    ]
    ratios = [float(_median(row["ratio"])) for row in rows if row["peer"] == "trl-tuned"]
    shown = re.search(
        r"takes ([\d.]+) to ([\d.]+) times less time than in tuned TRL", README.read_text(encoding="utf-8")
    )
    assert shown
    assert shown.groups() == (f"{min(ratios):.1f}", f"{max(ratios):.0f}")


def _median(ratio):
    return ratio["median"] if isinstance(ratio, dict) else ratio
