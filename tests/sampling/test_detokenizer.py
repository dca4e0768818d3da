"""Incremental detokenization: complete characters, stop strings, and no streamed text is withdrawn."""

import pytest
from tiny import tiny_tokenizer

from zhenlong.sampling.sequence_state import IncrementalDetokenizer, detokenize

TEXT = "Grüße, 世界! 🙂 end"


def ids_of(text: str) -> list[int]:
    return tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]


def test_text_grows_by_complete_characters_to_the_full_text():
    reader, shown = IncrementalDetokenizer(tiny_tokenizer()), [""]
    for token in ids_of(TEXT):
        assert not reader.add_token(token)
        shown.append(reader.streamable_text())
        assert "\ufffd" not in shown[-1]
        assert shown[-1].startswith(shown[-2])
    assert shown[-1] == reader.finish() == TEXT


def test_an_incomplete_character_appears_only_at_the_end():
    reader = IncrementalDetokenizer(tiny_tokenizer())
    for token in ids_of("a世")[:-1]:
        reader.add_token(token)
    assert reader.streamable_text() == "a"
    assert reader.finish() == "a\ufffd"


def test_invalid_utf8_bytes_are_decoded_at_the_end():
    ids = [200, 201, 65, 230, 188, 64, 255]
    reader = IncrementalDetokenizer(tiny_tokenizer())
    for token in ids:
        reader.add_token(token)
    assert reader.finish() == detokenize(tiny_tokenizer(), ids)


@pytest.mark.parametrize(
    ("stop", "text", "length"),
    [
        (("STOP",), "Go on. ", 11),
        (("no", "STOP"), "Go on. ", 11),
        (("ST", "STOP"), "Go on. ", 9),
        (("n. ",), "Go o", 7),
    ],
)
def test_text_ends_where_the_first_stop_string_begins(stop, text, length):
    reader = IncrementalDetokenizer(tiny_tokenizer(), stop)
    ended = [reader.add_token(token) for token in ids_of("Go on. STOP here")]
    assert ended.index(True) == length - 1  # one token per byte: as soon as the string is complete
    assert reader.finish() == text


def test_no_prefix_of_a_stop_string_is_streamed():
    reader = IncrementalDetokenizer(tiny_tokenizer(), ("\n\nUser:",))
    for token in ids_of("Hi.\n\nUse it.\n\nUser:"):
        reader.add_token(token)
        assert not any(reader.streamable_text().endswith("\n\nUser:"[:length]) for length in range(1, 8))
    assert reader.text == "Hi.\n\nUse it."
