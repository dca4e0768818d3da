"""The words with which people and models choose an option, as patterns for `choices`."""

from __future__ import annotations

import re
from typing import Final

LATEX_TEXT: Final = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathsf)\s*\{([^{}]{0,200})\}")
EMPHASIZED_LETTER: Final = re.compile(r"(?:\*\*|__|\$|`)\s*\(?([A-Za-z])\)?\s*(?:\*\*|__|\$|`)")
EMPHASIS: Final = re.compile(
    r"\*+|__+|`+|\$+|\\[()\[\]]|</?(?:b|i|em|strong|answer|choice|final_answer)>", re.IGNORECASE
)
LETTER: Final = re.compile(r"(?<![A-Za-z0-9'])(?<!\bn/)(?<!\bN/)([A-Za-z])(?![A-Za-z0-9]|'[A-Za-z])")
ARTICLE: Final = re.compile(
    r"\s+(?!(?:is|was|and|or|but|because|since|as|due|seems|appears|must|would|cannot|instead|rather|not|over|fits|works|fails)\b)"
    r"[a-z]"
)
PRONOUN: Final = re.compile(r"\s+(?!(?:is|because|since)\b)[a-z]")
NUMBERING: Final = re.compile(r"\s*(?:[)\].:、．]|\s[-–—]\s)")
KIND_WORD: Final = re.compile(r"(?:\b(?:option|choice|letter|answer)|选项)\s*[:(\[\"']?\s*$", re.IGNORECASE)

_NOUN: Final = r"(?:answers?|options?|choices?|response|solution|selection)"
_IS: Final = (
    r"(?:is|was|are|be|would\s+be|should\s+be|must\s+be|will\s+be|has\s+to\s+be|seems\s+to\s+be|appears\s+to\s+be)"
)
_FILLER: Final = (
    r"(?:(?:therefore|thus|hence|indeed|clearly|definitely|probably|likely|simply|then|just|only|the|option|choice|answer|"
    r"letter|statement|most\s+likely|best|correct|right|as\s+follows)\b[\s,:]*)*"
)
LEAD: Final = re.compile(
    rf"(?:(?<![A-Za-z]){_NOUN}[\"']?(?:\s+(?:to|for|of|here|among|from|in|that|which)\b[^.:\n]{{0,60}})?\s*(?:{_IS}\b\s*:?|:|=|->|→)\s*{_FILLER}"
    rf"|\b(?:i|we)(?:'d|'ll|\s+would|\s+will|\s+must)?\s+(?:choose|chose|pick|picked|select|selected|go\s+(?:with|for)|"
    rf"went\s+with|answer|say|vote\s+for)\s*:?\s*{_FILLER}"
    rf"|\b(?:it|that|this)(?:'s|\s+{_IS}|\s+leaves)\s+{_FILLER}|\b(?:choose|select|pick)\s+{_FILLER}|\bleav(?:es|ing)\s+{_FILLER}"
    r"|(?:答案|选项|选择)\s*(?:应该|应当|应)?\s*(?:就)?(?:是|为|选|:)+\s*(?:选项)?|选(?:择)?(?:是|为|:)?\s*(?:选项)?)"
    r"[\s(\[{\"'“]*$",
    re.IGNORECASE,
)
VERDICT: Final = re.compile(
    r"[)\]\"']*\s*(?:is|was|seems|appears|looks|would\s+be|must\s+be)\s+(?:to\s+be\s+)?(?:therefore\s+|thus\s+|clearly\s+|"
    r"indeed\s+|definitely\s+)?(?:the\s+|a\s+|an\s+|my\s+)?(?:only\s+|most\s+|final\s+)?(?:correct|right|best|better|true|accurate|"
    r"appropriate|answer)|[)\]]*\s*(?:works|fits)(?:\s+(?:best|well))?\s*(?:[.,;!\n]|$)|[)\]]*\s*(?:选?项)?(?:是)?(?:正确|对的|最佳)",
    re.IGNORECASE,
)
CHOICE_NEGATION: Final = re.compile(
    r"(?:\b(?:not|never|neither|nor|incorrect|wrong|false|eliminat(?:e|es|ed|ing)|rul(?:e|es|ed|ing)\s+out|exclud(?:e|es|ed|ing)"
    r"|reject(?:s|ed)?|instead\s+of|rather\s+than|other\s+than|unlike|except|initially|at\s+first|first\s+(?:thought|guess)|compared\s+(?:with|to))\b|n't\b|\bcannot\b|不是|不对|不选|错误|排除|并非)",
    re.IGNORECASE,
)
RULED_OUT: Final = re.compile(
    r"[)\]\"']*\s*(?:(?:and|or|nor|,|、)\s*\(?[A-Z]\)?\s*)*(?:(?:is|are|was|were|can|could|may|do|does|seems?)\s*)?(?:be\s+)?(?:safely\s+|easily\s+)?"
    r"(?:both\s+|clearly\s+|definitely\s+|also\s+|all\s+)?(?:not\b|n't\b|incorrect\b|wrong\b|false\b|ruled\s+out|eliminated|excluded|dismissed|discarded|"
    r"cannot\b|can't\b|isn't\b|aren't\b|fails?\b|(?:选?项)?(?:不对|不正确|错误|错))",
    re.IGNORECASE,
)
TEXT_RULED_OUT: Final = re.compile(
    r"[)\]\"']*\s*(?:is|are|was|were|would\s+be|seems?)\s*(?:n't|not)?\s*(?:the\s+)?(?:incorrect|wrong|false)\b|[)\]\"']*\s*"
    r"(?:is|are|was|were|would|can)\s*(?:n't|not)(?:\s+(?:be\s+)?(?:the\s+)?(?:correct|right|answer|true)\b|\s*(?:[.,;!\n]|$))",
    re.IGNORECASE,
)
LEADING_END: Final = re.compile(
    r"\s*(?:[,.;:!\n—-]|(?:because|since|instead\s+of|rather\s+than|and\s+not|not|over)\b|$)"
)
CLAUSE_OVER: Final = re.compile(r"[)\]\"']*\s*(?:[.,;!\n]|$)")
NEXT_QUESTION: Final = re.compile(r"\n\s*(?:Question|Q|问题)\s*\d{0,4}\s*:")
CLAUSE_END: Final = re.compile(
    r"[,;:!?\n。，；！？—]|\.(?=\s|$)|\b(?:but|so|hence|therefore|thus|because|since|while|whereas)\b", re.IGNORECASE
)
JOINED: Final = re.compile(
    r"[)\]\"'\s]*(?:[,;/&+、]|\band/or\b|\band\b|\bor\b|或者?|和|与|及|\s)*[(\[\"'\s]*(?:both|either|option|choice|选项)?\s*",
    re.IGNORECASE,
)
CHOICE_HEDGE: Final = re.compile(
    r"\b(?:could|might|may|can)\s+(?:also|as\s+well|equally)\b|\balternatively\b|\bor\s+(?:maybe|perhaps|possibly)\b"
    r"|也可能|也可以",
    re.IGNORECASE,
)
UNKNOWN_OPTION: Final = re.compile(
    r"\b(?:cannot|can't|can not|not|un)\b.{0,20}\b(?:determined?|answer(?:ed|able)?|known?|info(?:rmation)?|told|say)\b"
    r"|\b(?:unknown|undetermined|unanswerable|unclear)\b|无法(?:确定|判断)|不(?:知道|确定)|未知",
    re.IGNORECASE,
)
UNKNOWN_ANSWER: Final = re.compile(
    r"(?:\b(?:not|cannot|insufficient|no)|n't)\b.{0,60}\b(?:determin\w*|know\w*|tell|say|info(?:rmation)?|enough|clear|specif\w*|"
    r"stated?|mention\w*|provided?|indicat\w*|sufficient|possible)\b|\b(?:unknown|unclear|undetermined|ambiguous|"
    r"insufficient)\b|无法|没有(?:足够|提供|说明)|未(?:知|说明|提供)|不(?:清楚|确定)",
    re.IGNORECASE,
)

BETWEEN: Final = re.compile(
    r"(?:\b(?:between|torn|whether)\s+|在)(?:it(?:'s|\s+is)\s+)?(?:options?\s+|choices?\s+)?[(\[\"']*"
    r"(?:[A-Za-z][)\]\"']*\s*[,、]\s*(?:option\s+)?[(\[\"']*){0,8}"
    r"(?:[A-Za-z][)\]\"']*\s*,?\s*(?:/|&|and|or|和|与)\s*(?:option\s+)?[(\[\"']*)?$",
    re.IGNORECASE,
)
ONLY_BEFORE: Final = re.compile(
    r"\b(?:all|every|each|everything|any)(?:\s+(?:one|of|the|other|options?|choices?|answers?)){0,4}\s+(?:but|except|other\s+than|"
    r"besides|apart\s+from)(?:\s+for)?\s+(?:option\s+)?[(\[\"']*$",
    re.IGNORECASE,
)
ONLY_AFTER: Final = re.compile(
    r"[)\]\"']*\s+(?:is|are|can\s+be)\s+(?:all\s+|clearly\s+)?(?:incorrect|wrong|false|eliminated|ruled\s+out|not\b)",
    re.IGNORECASE,
)
CONCLUSION_BEFORE: Final = re.compile(
    r"(?:[.!?\n:。！？：]|=>|→|∴|\b(?:so|hence|thus|therefore|then|finally))[\s,:(\[\"'>*-]*$", re.IGNORECASE
)
CONCLUSION_AFTER: Final = re.compile(r"[\s.!)\]\"']*$")
_NUMBERED: Final = r"(?:option|choice|选项|number|no\.)"
NUMBER_WORD: Final = re.compile(rf"\b{_NUMBERED}\s*[#(\[]?\s*$", re.IGNORECASE)
ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
ORDINAL_OPTION: Final = re.compile(
    rf"\b(?:the\s+)?({'|'.join(ORDINALS)})\s+(?:option|choice|one(?=(?:\s+is\s+(?:correct|right|the\s+answer))?[.!]?\s*$))\b"
    r"|第([一二三四五六七八九十])(?:个选?项|项)",
    re.IGNORECASE,
)
CHINESE_ORDINALS: Final = "一二三四五六七八九十"
LISTED_LINE: Final = re.compile(
    r"^[\s*•>(\[-]*(?:(?:option|choice|选项)\s+)?\(?([A-Z])[).:\]、．]*(?=\W|$)(.*)$", re.MULTILINE
)
LISTED_RIGHT: Final = re.compile(
    r"^\W*(?:✅|✓|✔|☑|(?:correct|right|true|yes|正确|对)\b)|(?:✅|✓|✔|☑|[-–—:(,=>]\s*(?:correct|right|true|yes|正确))\W*$",
    re.IGNORECASE,
)
LISTED_WRONG: Final = re.compile(
    r"^\W*(?:❌|✗|✘|✖|×|(?:incorrect|wrong|false|no|not|错误|错|不对|不正确)\b)|(?:❌|✗|✘|✖|×|[-–—:(,=>]\s*(?:incorrect|wrong|false|no|"
    r"not\s+correct|not\s+right|错误|不正确))\W*$",
    re.IGNORECASE,
)
PASSED_OVER: Final = re.compile(r"\b(?:over|than|against|versus|vs\.?)\s+(?:option\s+)?[(\[\"']*$", re.IGNORECASE)
