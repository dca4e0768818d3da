"""The words with which people and models compare two answers, as patterns for `comparisons`.

Names of answers are replaced by stand-ins first (`MENTIONS`), so that the other patterns need not know how an answer is
called. Patterns match lower-case text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_A, _B, _TIED, _MARK = "\ue000", "\ue001", "\ue002", "\ue004"  # as in `comparisons`
_STAND_INS: Final = {
    "a": _A, "1": _A, "first": _A, "第一": _A, "b": _B, "2": _B, "second": _B, "第二": _B,
}  # fmt: skip
_NOUN: Final = (
    r"(?:output|response|answer|assistant|model|option|candidate|reply|completion|system|version|choice|chatbot|"
    r"summary|translation|ai|回答|答案|助手|模型|选项|回复|输出)"
)
_AFTER_A: Final = (  # what may follow a bare "A" that is a name, not an article
    r"(?=\s*(?:$|[.,;:!?)\]>=<≻≈~\n/|&\u4e00-\u9fff]|(?:is|was|wins?|won|beats|does|did|has|had|and|or|than|over|to|vs|"
    r"it|loses|follows|performs|outperforms|provides|gives|gave|remains|seems|appears|looks|comes|deserves|gets|should|"
    r"would|could|might|may|cannot|can't|isn't|doesn't|because|since|as|rather|instead|falls|surpasses|edges|"
    r"takes|also)\b|(?:better|(?:more|less) \w+) than\b|"
    r"(?:clearly|slightly) (?:wins|beats|outperforms|(?:better|worse)(?! \w))\b|(?:higher|above|ahead)\b))"
)
_KEY: Final = r"(?:winner|verdict|better|best|prefer\w*|choice|chosen|answer|decision|result|selection|judge?ment)"
_VALUE: Final = (
    rf"(?:the\s+)?(?:{_NOUN}s?\s*)?[(\[]?\s*(?P<name>[abc12]|tie|draw|equal|both|a\s*(?:>+|<+|=)\s*b|b\s*(?:>+|<+|"
    rf"=)\s*a)"
    r"\s*[)\]]?"
)


def _verdict(match: re.Match[str]) -> str:
    name = "".join(match["name"].lower().split())
    if name in _STAND_INS:
        return _MARK + _STAND_INS[name]
    if ">" in name or "<" in name:
        return _MARK + _STAND_INS[name[0] if ">" in name else name[-1]]
    return _MARK + _TIED


def _mention(match: re.Match[str]) -> str:
    return f" {_STAND_INS[match['name'].lower()]} "


_SYMBOLS_AFTER: Final = r"(?![A-Za-z0-9_+']|\.[a-z])"
_NOT_WITHIN_A_WORD: Final = r"(?<![A-Za-z0-9_'.&+-])"
_MARKED: Final = (
    rf"\[\[\s*{_VALUE}\s*\]\]",
    rf"\\boxed\{{\s*(?:\\text\{{)?\s*{_VALUE}\s*\}}?\s*\}}",
    rf"<(?:\w*_)?{_KEY}>\s*{_VALUE}\s*</\w+>",
    rf"[\"'][\w ]*{_KEY}[\w ]*[\"']\s*:\s*[\"']?\s*{_VALUE}\s*(?=[\"',}}\n])[\"']?",
)
_NAMED: Final = (
    r"(?i:(?<![A-Za-z'])(?P<name>[ab])(?=\s?[<>≻=≈]{1,2}\s?[ab](?![A-Za-z'])))",
    r"(?i:(?<=[<>=≻≈])\s?(?P<name>[ab])(?![A-Za-z']))",
    r"(?im:(?:^|(?<=[:=]))[ \t]*[(\[]?(?P<name>[ab])[)\]]?(?=[\s.!]*$))",
    rf"(?i:(?:\bthe )?(?<![a-z]){_NOUN}s?\s*[(\[{{\"']\s*(?P<name>[ab12])\s*[)\]}}\"'](?:'s {_NOUN})?)",
    rf"(?:\b[Tt]he )?(?<![A-Za-z])(?i:{_NOUN})s?\s*(?P<name>[ABb12])(?![A-Za-z0-9_+])(?:'s (?:{_NOUN}))?",
    rf"(?:\b[Tt]he )?(?<![A-Za-z])(?i:{_NOUN})\s+(?P<name>a)\b{_AFTER_A}",
    rf"(?i:\b(?:the )?(?P<name>first|second) (?:{_NOUN}|one)\b)",
    rf"(?P<name>第[一二])个?(?:{_NOUN})?",
    r"\b(?P<name>[ab])(?= (?:is|was) (?:\w+ )?(?:better|worse|best|superior|inferior|preferred|the winner)\b)",
    r"(?<=\bthan )(?P<name>[ab])\b(?!\s+\w)",
    r"[(\[](?P<name>[abAB])[)\]]",
    r"[\"'](?P<name>[AB])[\"']",
    rf"{_NOT_WITHIN_A_WORD}(?P<name>B)(?:'s {_NOUN})?{_SYMBOLS_AFTER}",
    rf"{_NOT_WITHIN_A_WORD}(?P<name>A)(?:'s {_NOUN}|{_SYMBOLS_AFTER}{_AFTER_A})",
)
MENTIONS: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]] = (
    *((re.compile(pattern, re.IGNORECASE), _verdict) for pattern in _MARKED),
    *((re.compile(pattern), _mention) for pattern in _NAMED),
)

_SIDE: Final = f"[{_A}{_B}]"
NEGATION: Final = re.compile(
    r"\b(?:not|never|no|hardly|neither|nor|cannot|rather than|instead of|could be|could have|might be|may be|"
    r"might have|"
    r"needs? to be|than|over|far from|nowhere|barely|nothing)\b|n't\b|不(?!相)|没|并非"
)
HEDGE: Final = re.compile(
    r"\b(?:one|some|some people|you|people|many|others|it)\s+(?:may|might|could|would)\s+(?:\w+ )?(?:think|say|"
    r"argue|seem|"
    r"appear|look|believe|prefer|claim|assume)\b|\bat first (?:glance|sight)\b|\binitially\b|\bfirst thought\b|"
    r"\bif (?:it|this|that|they|[\ue000\ue001]) (?:were|had|was)\b|\bfor example\b|\be\.g\b"
)
DENIED: Final = re.compile(
    r"(?:\bnot|n't|\bcannot) (?:\w+ )?(?:think|believe|say|find|agree|claim|consider|feel|argue)\b|\bunclear\b|"
    r"\bnot (?:\w+ )?(?:clear|sure|certain|convinced|true|the case|obvious)\b|\bhard to (?:say|tell)\b|"
    r"\bthere (?:is|'s) (?:nothing|no reason)\b|"
    r"\bi (?:\w+ )?doubt (?:that|whether|if)\b|\bdoubtful (?:that|whether|if)\b|"
    r"\b(?:false|untrue|wrong) (?:that|to say)\b|"
    r"\bn't (?:anything|any reason|a reason)\b|n't anything\b"
)
REVISION: Final = re.compile(
    r"\bon (?:reflection|second thoughts?)\b|\bactually\b|\bwait\b|\bcorrection\b|\bchanged? my (?:mind|verdict|"
    r"answer)\b|"
    r"\btake (?:it|that) back\b|\brevis(?:e|ed|ing)\b|\bfinal(?:ly)?\b|\blet me correct\b|\bscratch that\b"
)
EXPLICIT_NAMES: Final = re.compile(
    r"\b(?:(?:final|my|overall)\s+)*(?:verdict|winner|answer|choice|decision|preference|pick|judge?ment|conclusion|"
    r"result|"
    r"(?:better|best|preferred|winning)(?: \w+)?)\s*(?:[:=–-]|->|→|是|为|is:)\s*(?:the\s+)?(?:winner is\s+)?"
    rf"(?P<value>{_SIDE}(?!\s*(?:is|was)\b)|tied?\b|a tie|draw|equal\b|c\b(?=\W*$))"
    r"|(?:结论|答案|胜者|赢家|最终判断|最终裁决|更好的)[^\n。]{0,6}?(?:[::是为])\s*"
    rf"(?P<chinese>{_SIDE})",
    re.MULTILINE,
)
TIE_VALUE: Final = re.compile(r"(?:a )?(?:tie|draw|equal|c\b)")
BETTER: Final = (
    r"\b(?:better|best|superior|preferable|preferred|stronger|winner|wins|won|winning|favou?red|outperforms?|beats|"
    r"surpasses|"
    r"outshines|exceeds|edges out|(?:has|takes|gets|deserves) (?:the (?:edge|lead|win)|to win)|comes? out (?:ahead|"
    r"on top)|is ahead|"
    r"gets my vote|(?:is|would be|'s) my (?:choice|pick|preference)|it is(?=\W*$)|"
    r"the one (?:that )?i(?:'d| would)? (?:choose|pick|prefer|select|go with))\b(?!\s+if\b)"
    r"|更好|更优|更佳|胜出|获胜|优于|胜过|好于|更胜"
)
WORSE: Final = (
    r"\b(?:worse|worst|inferior|weaker|loses|lost|poorer|falls short|falls behind|lags behind|loser|less (?:good|"
    r"preferable|"
    r"preferred|favou?rable))\b|更差|较差|不如|劣于|逊于"
)
_ADJECTIVES: Final = (
    r"(?:accurate|helpful|useful|relevant|correct|precise|detailed|complete|comprehensive|thorough|concise|informative|"
    r"coherent|faithful|creative|natural|appropriate|suitable|engaging|specific|truthful|honest|harmless|safe|logical|"
    r"readable|direct|clear|practical|insightful|nuanced|balanced|reliable|consistent|organi[sz]ed|structured|polite|"
    r"satisfying|effective|aligned|accurately|closely|directly|precisely|fully|completely|faithfully|effectively|"
    r"correctly|clearly|helpfully|strictly|appropriately|thoroughly|to the point|on topic|in line)"
)
NOT_AS_GOOD: Final = (
    rf"(?:(?:\bnot|n't)(?: nearly| quite| half)?|\bnowhere near|\bfar from) as (?:good|well|strong|{_ADJECTIVES})\b"
)
MORE: Final = rf"\b(?:more (?:\w+ly )?{_ADJECTIVES}|clearer|safer|closer|fuller|richer|stricter|sounder)\b"
ASPECT_WORSE: Final = rf"\bless (?:\w+ly )?{_ADJECTIVES}\b"
BETTER_IN_ONE_ASPECT: Final = re.compile(
    r"\s+(?!(?:than|to|overall|because|since|as|here|by|of|job|answer|response|output|choice|option|one|reply|"
    r"candidate|"
    r"assistant|model|match|fit|solution|and|but|so|in (?:every|all|general|most|my|this|both|the end)|for (?:this|"
    r"the|me)|"
    r"between|among|it|out|version|overall|on balance|result|with a|compared|over|against)\b)[a-z]"
)
PREFER: Final = (
    r"\b(?:prefer|prefers|prefered|preferred|choose|chose|choosing|pick|picked|select|selected|favou?rs?|go with|"
    r"going with|"
    r"went with|recommend|give it to|"
    r"vote for|vote goes to|side with|opt for|lean(?:ing)? towards?|award|declare|goes to|"
    r"in favou?r of|"
    r"(?:(?:the|my) )?(?:(?:final|overall) )?(?:winner|verdict|choice|decision|preference|pick|answer|conclusion) "
    r"(?:is|would be|must be|goes to|remains)|"
    r"\b(?:better|best|superior|stronger|preferred|winning|worse|worst|weaker|inferior)(?: \w+){0,3} (?:is|would be))\b"
    r"|选择|更喜欢|倾向于?|偏好|推荐"
)
TIE: Final = re.compile(
    rf"\bequally (?P<aspect>{_ADJECTIVES})\b|\b(?:a tie|tie|tied|a draw|equal|equally|equivalent|on (?:a )?par|"
    r"evenly matched|(?:of|are|have|in) the same(?: quality| level)?(?=\W*(?:$|quality|level))|indistinguishable|"
    r"identical|comparable|as good as|just as good|"
    r"no (?:\w+ )?(?:winner|difference|preference))\b(?!-?break)|平局|不相上下|同样好|一样好|打平|难分高下"
)
RESUMED: Final = re.compile(r"\b(?:but|yet|however|nevertheless|nonetheless|still|so|hence|therefore|thus)\b")
CONCEDED: Final = re.compile(r"\s*(?:while|although|though|even (?:if|though)|whereas)\b")
CHINESE_THAN: Final = re.compile(
    rf"({_SIDE}[^{_A}{_B}。\n]{{0,6}})比\s*{_SIDE}[^{_A}{_B}。，\n]{{0,4}}?(?:(?:更|要|稍|略)*(?P<good>好|强|优秀?)|(?P<bad>差|弱|糟))?"
)
RANKED: Final = rf"\b(?:rate|rank|place|put|score)s? (?P<side>{_SIDE})(?: \w+)? (?:higher|above|ahead|first)\b"
RANKS_FIRST: Final = rf"(?P<side>{_SIDE}) (?:ranks|comes|is) (?:first|ahead)\b"
CHOSEN_OVER: Final = (
    rf"^\W*(?:so |i'd say |then )?(?P<side>{_SIDE})(?: over| instead of|,? rather than|,? not) {_SIDE}\W*$"
)
LABELLED: Final = rf"^\W*(?:output|response|preferred(?: \w+)?)\s*:\s*(?P<side>{_SIDE})\W*$"
SAID: Final = rf"\bi(?:'d| would) say (?:it's |it is |that )?(?P<side>{_SIDE})(?=\s*(?:[,.;!:]|$|but\b|because\b))"
OPENING: Final = rf"^\W*(?P<side>{_SIDE})\s*,?\s*(?:because|since)\b"
FILLER_WORD: Final = re.compile(
    r"i|i'd|i'll|i'm|think|believe|say|would|will|so|therefore|thus|hence|it|it's|is|the|my|answer|verdict|"
    r"choice|definitely|clearly|certainly|probably|surely|obviously|be|must|should|final|and|go|with|then|in|"
    r"opinion|view|this|case|one|of|two|overall|well|ok|okay|yes|that's|that|sure|of|course|no|wait|actually|on|reflection|"
    r"second|thoughts?|rather|hmm|correction"
)
