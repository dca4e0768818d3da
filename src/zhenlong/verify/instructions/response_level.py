"""Instructions about the whole response: language, case, start and end, commas."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

LANGDETECT_SEED: Final = 0  # langdetect samples at random; the official code sets no seed


def in_language(response: str, language: str) -> bool:
    """language:response_language: langdetect detects this language (ISO 639-1); undetectable text passes."""
    return detect_language(response) in (language, None)


def english_capitals(response: str) -> bool:
    """change_case:english_capital: no lower-case letter, and English by langdetect."""
    return response.isupper() and detect_language(response) in ("en", None)


def english_lowercase(response: str) -> bool:
    """change_case:english_lowercase: no upper-case letter, and English by langdetect."""
    return response.islower() and detect_language(response) in ("en", None)


def no_comma(response: str) -> bool:
    """punctuation:no_comma: no ASCII comma."""
    return "," not in response


def is_quoted(response: str) -> bool:
    """startend:quotation: the first and the last character are `"`."""
    text = response.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def ends_with(response: str, end_phrase: str) -> bool:
    """startend:end_checker: it ends with the phrase, in any case, ignoring quotation marks at the ends."""
    return response.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def repeats_prompt(response: str, prompt_to_repeat: str) -> bool:
    """combination:repeat_prompt: it begins with the request, in any case."""
    return response.strip().lower().startswith(prompt_to_repeat.strip().lower())


def two_responses(response: str) -> bool:
    """combination:two_responses: two different texts with `******` between them; empty ones only at the ends."""
    parts = [part.strip() for part in response.split("******")]
    filled = [part for part in parts if part]
    return all(parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def detect_language(text: str) -> str | None:
    """The ISO 639-1 code that langdetect assigns to a text, deterministically; None if it finds no features."""
    from langdetect import LangDetectException

    try:
        detector = _detector_factory().create()
        detector.append(text)
        found: str = detector.detect()
        return found
    except LangDetectException:
        return None


def supported_languages() -> tuple[str, ...]:
    """The codes that `detect_language` can return, sorted."""
    return tuple(sorted(_detector_factory().get_lang_list()))


@cache
def _detector_factory() -> Any:
    """Language profiles with their own seed, without changing langdetect's shared factory."""
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory

    factory = DetectorFactory()
    factory.load_profile(PROFILES_DIRECTORY)
    factory.seed = LANGDETECT_SEED
    return factory
