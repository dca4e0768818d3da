"""The how-to pages work: each is followed from top to bottom in an empty folder."""

from __future__ import annotations

import pytest
from pages import ROOT
from walkthrough import walk

PAGES = sorted((ROOT / "docs" / "how_to").glob("*.md"))
GIVEN = {  # what one_gpu.md takes from own_data.md
    "chat.jsonl": '{"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}\n'
    * 2,
    "prefs.jsonl": '{"prompt": "Hi.", "chosen": "Hello.", "rejected": "No."}\n' * 2,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_how_to_page_can_be_followed(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if page.stem == "one_gpu":
        for name, text in GIVEN.items():
            (tmp_path / name).write_text(text)
    assert walk(page, tmp_path)
