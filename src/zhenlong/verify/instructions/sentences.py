"""Sentence splitting by nltk's Punkt, with its English model if installed, else a small built-in one.

IFEval counts sentences with Punkt's English model (Kiss and Strunk 2006), which is data that nltk downloads: `python -m
nltk.downloader punkt_tab`. Without it the same algorithm runs with the abbreviations, sentence starters and lower-case
words below, and warns once. The page on instructions has the measured agreement.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any, Final

# Like Punkt's model, which was learnt from newspapers, these have no `e.g`, `i.e` or `etc`.
PUNKT_ABBREVIATIONS: Final = """
dr mr mrs ms messrs prof rep reps sen gen col lt maj st jr sr jan feb aug sept sep oct nov dec tues wed fri
inc corp co cos ltd bros mfg vs ave u.s u.k u.n u.s.a u.s.s.r d.c n.y n.j l.a ph.d m.b.a a.m p.m a.d b.c
ala ariz calif colo conn fla ga ill kan ky mich minn nev okla ore pa tenn va vt wash wis
"""
SENTENCE_STARTERS: Final = """
although and but despite even he her here his however i if in indeed instead it its many meanwhile moreover my
nevertheless nonetheless nor others she similarly since so some still such that the their then there these they
this those though thus today under we what when where while who why yes yet you your
"""
LOWERCASE_WORDS: Final = """
a about after all also an any are as at be because before by can could did do does each every few for from had has
have how into is just let like maybe more most much no not of on once one only or other our out over perhaps please
should somewhere soon than to too until up was well were which will with would
"""
_ORTHO_LOWERCASE: Final = 1 << 5  # nltk's orthographic flag for a word seen in lower case within sentences


def split_sentences(text: str) -> list[str]:
    """The sentences of an English text, in order."""
    found: list[str] = _sentence_tokenizer().tokenize(text)
    return found


def punkt_word_tokens(text: str) -> list[str]:
    """The tokens of `nltk.word_tokenize`: Treebank's, within each sentence."""
    from nltk.tokenize import NLTKWordTokenizer

    treebank = NLTKWordTokenizer()
    return [token for sentence in split_sentences(text) for token in treebank.tokenize(sentence)]


@cache
def _sentence_tokenizer() -> Any:
    from nltk.tokenize.punkt import PunktTokenizer

    try:
        return PunktTokenizer("english")
    except LookupError:
        warnings.warn(
            "nltk's punkt_tab is not installed: sentences are counted with a smaller list of abbreviations; "
            "for IFEval's exact counts run `python -m nltk.downloader punkt_tab`",
            stacklevel=2,
        )
        return fallback_sentence_tokenizer()


def fallback_sentence_tokenizer() -> Any:
    """Punkt with the lists of this module instead of a trained model."""
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    parameters = PunktParameters()
    parameters.abbrev_types = set(PUNKT_ABBREVIATIONS.split())
    parameters.sent_starters = set(SENTENCE_STARTERS.split())
    for word in f"{SENTENCE_STARTERS} {LOWERCASE_WORDS}".split():
        parameters.add_ortho_context(word, _ORTHO_LOWERCASE)
    return PunktSentenceTokenizer(parameters)
