"""The official IFEval checker from lm-evaluation-harness, made to run offline, for comparison."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture(scope="session")
def official() -> Any:
    """`verdicts(kinds, kwargs, response, loose)` of the official code, for tests that are marked as needing lm_eval."""
    import nltk

    with pytest.MonkeyPatch.context() as patch:
        if "immutabledict" not in sys.modules:  # only its constructor is used
            patch.setitem(sys.modules, "immutabledict", SimpleNamespace(immutabledict=dict))
        patch.setattr(nltk, "download", lambda *_, **__: False)
        from lm_eval.tasks.ifeval import instructions_util, utils
    from langdetect import DetectorFactory

    from zhenlong.verify.instructions import sentences

    def verdicts(kinds: list[str], kwargs: list[dict[str, Any]], response: str, loose: bool) -> list[bool]:
        judge = utils.test_instruction_following_loose if loose else utils.test_instruction_following_strict
        row = utils.InputExample(key=0, instruction_id_list=kinds, prompt="", kwargs=kwargs)
        return list(judge(row, response).follow_instruction_list)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DetectorFactory, "seed", 0)
        # where nltk's English model is not installed, both sides split sentences alike
        patch.setattr(instructions_util, "_get_sentence_tokenizer", sentences._sentence_tokenizer)
        patch.setattr(instructions_util.nltk, "word_tokenize", sentences.punkt_word_tokens)
        yield verdicts
