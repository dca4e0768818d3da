"""IFEval's 25 checks on cases, against the official code, and on the real prompts."""

from __future__ import annotations

import json
import random
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from official_ifeval import official  # noqa: F401  (a fixture)

from zhenlong.errors import UserError
from zhenlong.records import Task
from zhenlong.verify import verify
from zhenlong.verify.instructions import (
    INSTRUCTIONS,
    check_instructions,
    instructions_followed,
    loose_variants,
    sentences,
)
from zhenlong.verify.instructions.response_level import detect_language

ENGLISH = "the small dog ran over the green hill and came home before it was dark outside"
# kind: (arguments, responses that follow it, responses that do not)
CASES = {
    "keywords:existence": ({"keywords": ["Lamp", "oil"]}, ["A lamp with OIL.", "boiling lampshade"], ["a lamp"]),
    "keywords:frequency": (
        {"keyword": "pea", "frequency": 2, "relation": "less than"},
        ["one pea"],
        ["pea, peanut", "pea Pea PEA"],
    ),
    "keywords:forbidden_words": ({"forbidden_words": ["can"]}, ["candle"], ["I Can.", "can"]),
    "keywords:letter_frequency": (
        {"letter": "Z", "let_frequency": 2, "let_relation": "at least"},
        ["zoo Zoe", "fizz"],
        ["zoo"],
    ),
    "language:response_language": ({"language": "de"}, ["Das ist ein ganz kurzer deutscher Satz.", "123"], [ENGLISH]),
    "length_constraints:number_sentences": (
        {"num_sentences": 3, "relation": "at least"},
        ["One is here. Two is here! Is three here?"],
        ["Mr. Brown met Dr. Green at 3 p.m. today. It rained.", "no end"],
    ),
    "length_constraints:number_paragraphs": (
        {"num_paragraphs": 2},
        ["one\n***\ntwo", "***one***two***"],
        ["one", "one *** *** two", "one***two***three"],
    ),
    "length_constraints:number_words": (
        {"num_words": 3, "relation": "at least"},
        ["don't go", "a b c"],
        ["one two", "one-two"],
    ),
    "length_constraints:nth_paragraph_first_word": (
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        ["First.\n\nthen, it", "First.\n\n'\"then it", "First.\n\nTHEN! it\n\n"],
        ["First.\n\nThence it", "then it", "First.\n\n\n\nthen it", "a\n\nthen\n\nb"],
    ),
    "detectable_content:number_placeholders": ({"num_placeholders": 2}, ["[a] [b c]", "[] []"], ["[a]", "[a\n]"]),
    "detectable_content:postscript": (
        {"postscript_marker": "P.P.S"},
        ["text\nP.P.S. more", "text p. p. s"],
        ["P.S. more"],
    ),
    "detectable_format:number_bullet_lists": (
        {"num_bullets": 2},
        ["* a\n* b", "  - a\n-b"],
        ["* a", "** a\n* b", "-\n- a\n- b"],
    ),
    "detectable_format:constrained_response": ({}, ["Well: My answer is maybe."], ["My answer is maybe", "maybe."]),
    "detectable_format:number_highlighted_sections": (
        {"num_highlights": 2},
        ["*a* and *b*", "*a* **b**", "***a***"],
        ["*a*", "** ** * *", "*a\n*"],
    ),
    "detectable_format:multiple_sections": (
        {"section_spliter": " Part", "num_sections": 2},
        ["Part 1 a Part 2 b", "Part1\nPart2\nPart3"],
        ["Part 1", "part 1 part 2"],
    ),
    "detectable_format:json_format": (
        {},
        ['{"a": [1]}', '```json\n{"a": 1}\n```', "3"],
        ["{'a': 1}", 'here: {"a": 1}'],
    ),
    "detectable_format:title": ({}, ["<<A title>>"], ["<< >>", "<A title>", "<<a\nb>>"]),
    "combination:two_responses": (
        {},
        ["one ****** two", "******one******two"],
        ["same******same", "a************b", "a"],
    ),
    "combination:repeat_prompt": ({"prompt_to_repeat": "Say Hi "}, ["say hi then: hi"], ["Sure! Say hi", "say"]),
    "startend:end_checker": ({"end_phrase": "The End. "}, ['so "the end."', "THE END.\n"], ["the end", "The end. Not"]),
    "startend:quotation": ({}, [' "a" '], ['"', 'a"', '"a']),
    "change_case:capital_word_frequency": (
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["BIG AND small", "A-B U.S. x"],
        ["TWO-IN-ONE x", "Big AND"],
    ),
    "change_case:english_capital": ({}, [ENGLISH.upper()], [ENGLISH, "DAS IST EIN GANZ KURZER DEUTSCHER SATZ."]),
    "change_case:english_lowercase": (
        {},
        [ENGLISH],
        [ENGLISH.capitalize(), "das ist ein ganz kurzer satz auf deutsch"],
    ),
    "punctuation:no_comma": ({}, ["a; b", "a，b"], ["a, b"]),
}
VERDICTS = [
    (kind, arguments, response, expected)
    for kind, (arguments, good, bad) in CASES.items()
    for expected, responses in ((True, good), (False, bad))
    for response in responses
]
PIECES = [
    *(response for *_, response, _ in VERDICTS),
    *("Mr. Smith went home. ", "I did!", "***", "******", "\n\n", "\n", "* item\n", "- item\n", "**bold**", "[slot]"),
    *("P.S. so", "<<title>>", ",", '"', " "),
]


def test_all_kinds_have_cases():
    assert set(CASES) == set(INSTRUCTIONS)
    assert len(INSTRUCTIONS) == 25


@pytest.mark.parametrize(("kind", "arguments", "response", "expected"), VERDICTS)
def test_a_response_follows_the_instruction_or_not(kind, arguments, response, expected):
    assert instructions_followed(response, [kind], [arguments]) == [expected]


@pytest.mark.peers("lm_eval")
@pytest.mark.parametrize(("kind", "arguments", "response", "expected"), VERDICTS)
def test_the_official_code_agrees_on_the_cases(official, kind, arguments, response, expected):  # noqa: F811
    for loose in (False, True):
        assert instructions_followed(response, [kind], [arguments], loose=loose) == official(
            [kind], [arguments], response, loose
        )


@pytest.mark.peers("lm_eval")
def test_the_official_code_agrees_on_mixtures(official):  # noqa: F811
    draw = random.Random(0)
    seen = set()
    for kind, (arguments, good, bad) in CASES.items():
        for _ in range(10):
            response = "".join(draw.choice((*PIECES, *(good + bad) * 8)) for _ in range(draw.choice((1, 2, 3))))
            for loose in (False, True):
                theirs = official([kind], [arguments], response, loose)
                assert instructions_followed(response, [kind], [arguments], loose=loose) == theirs, (kind, response)
                seen.add((kind, theirs[0]))
    assert len(seen) >= 45  # nearly all kinds were both followed and not


@pytest.mark.parametrize("kind", CASES)
def test_an_empty_response_follows_nothing(kind):
    arguments = CASES[kind][0]
    for response in ("", " \n\t", "<think>plans, plans", "<think>plans</think>\n"):
        assert instructions_followed(response, [kind], [arguments]) == [False]
        assert instructions_followed(response, [kind], [arguments], loose=True) == [False]


@given(st.text('ab*\n ,"', max_size=30), st.sampled_from(sorted(CASES)))
def test_strict_implies_loose(response, kind):
    strict = instructions_followed(response, [kind], [CASES[kind][0]])
    assert instructions_followed(response, [kind], [CASES[kind][0]], loose=True) >= strict


def test_the_eight_loose_variants():
    assert loose_variants("a\n*b*\nc") == ["a\n*b*\nc", "*b*\nc", "a\n*b*", "*b*", "a\nb\nc", "b\nc", "a\nb", "b"]


def test_a_reasoning_trace_is_not_part_of_the_response():
    assert instructions_followed("<think>First, second, third.</think>\nno comma", ["punctuation:no_comma"]) == [True]


def test_zero_is_an_argument_and_none_is_not():
    none_at_all = {"num_highlights": 0}
    assert instructions_followed("plain", ["detectable_format:number_highlighted_sections"], [none_at_all]) == [True]
    assert instructions_followed("a b", ["punctuation:no_comma"], [{"num_words": None}]) == [True]
    with pytest.raises(UserError, match="number_words: expected arguments num_words, relation, got relation"):
        instructions_followed("a", ["length_constraints:number_words"], [{"num_words": None, "relation": "at least"}])


def test_a_character_that_is_no_letter_is_counted_as_requested():
    asked = {"letter": "!", "let_frequency": 2, "let_relation": "at least"}
    assert instructions_followed("Go! Go!", ["keywords:letter_frequency"], [asked]) == [True]
    assert instructions_followed("Go! Go", ["keywords:letter_frequency"], [asked]) == [False]


def test_a_keyword_that_is_no_valid_regular_expression_matches_literally():
    assert instructions_followed("I write (in C) code", ["keywords:existence"], [{"keywords": ["c)"]}]) == [True]
    assert instructions_followed("I write C code", ["keywords:existence"], [{"keywords": ["c)"]}]) == [False]


@pytest.mark.parametrize(
    ("kinds", "kwargs", "message"),
    [
        (["punctuation:no_dots"], [{}], "punctuation:no_dots' is not known"),
        ([], [], "expected one or more kinds"),
        (["punctuation:no_comma"], [{}, {}], "as many kwargs"),
        (["keywords:frequency"], [{"keyword": "a", "frequency": 1, "relation": "about"}], "'about' is not known"),
        (
            ["keywords:letter_frequency"],
            [{"letter": "ab", "let_frequency": 1, "let_relation": "at least"}],
            "one character",
        ),
    ],
)
def test_invalid_instructions_are_a_one_line_error(kinds, kwargs, message):
    with pytest.raises(UserError, match=message):
        instructions_followed("text", kinds, kwargs)


def test_a_task_is_verified_by_its_instructions():
    arguments = {
        "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
        "kwargs": [{}, {}],
    }
    task = Task(prompt=[{"role": "user", "content": "Answer me"}], verifier="instructions", arguments=arguments)
    assert verify(task, '"yes"') == 1.0
    assert verify(task, '"yes, no"') == 0.0
    half = Task(prompt=task.prompt, verifier="instructions", arguments=arguments | {"partial_credit": True})
    assert verify(half, '"yes, no"') == 0.5
    loose = Task(prompt=task.prompt, verifier="instructions", arguments=arguments | {"loose": True})
    assert verify(loose, 'Sure, here:\n"yes"') == 1.0
    with pytest.raises(UserError, match="instruction_id_list"):
        verify(Task(prompt=task.prompt, verifier="instructions"), "yes")


def test_the_language_of_an_ambiguous_text_is_deterministic():
    assert len({detect_language("ja no si ok la de") for _ in range(10)}) == 1


def test_sentences_are_split_as_by_punkt():
    split = sentences.fallback_sentence_tokenizer().tokenize
    assert split("Dr. Lee met Mr. Roy. They sat!") == ["Dr. Lee met Mr. Roy.", "They sat!"]
    assert split("It cost 3.50 at example.com today. Yes?") == ["It cost 3.50 at example.com today.", "Yes?"]
    assert split("Wait... and go. J. Smith left.") == ["Wait... and go.", "J. Smith left."]
    assert split("1. Eat the rice") == ["1.", "Eat the rice"]


def test_a_missing_sentence_model_gives_a_warning(monkeypatch):
    def missing(language):
        raise LookupError(language)

    monkeypatch.setattr("nltk.tokenize.punkt.PunktTokenizer", missing)
    sentences._sentence_tokenizer.cache_clear()
    with pytest.warns(UserWarning, match="punkt_tab"):
        assert len(sentences.split_sentences("One. Two.")) == 2
    sentences._sentence_tokenizer.cache_clear()


@pytest.mark.peers("lm_eval")
@pytest.mark.real_data
def test_every_instruction_of_the_real_prompts_is_checked_as_the_official_code_does(datasets_folder, official):  # noqa: F811
    draw = random.Random(0)
    lines = (datasets_folder / "ifeval" / "input_data.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 541
    for row in rows:
        kinds, kwargs = row["instruction_id_list"], row["kwargs"]
        response = "".join(draw.choice([*PIECES, row["prompt"]]) for _ in range(draw.choice((1, 4, 12))))
        mine = instructions_followed(response, kinds, kwargs)
        assert len(mine) == len(kinds)
        if row["key"] not in (1122, 1129):  # the official code puts a random letter for `#` and `!`
            assert mine == official(kinds, kwargs, response, False), row["key"]
        assert check_instructions(response, instruction_id_list=kinds, kwargs=kwargs) == float(all(mine))


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="nltk's punkt_tab")
        yield
