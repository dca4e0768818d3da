"""Models that answer by rule, for tests of feedback: no weights, no network."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zhenlong.inference.requests import GeneratedOutput, GenerateRequest, RequestResult


class Rule:
    """A judge: `say(text)` of each conversation's last turn; it remembers what it was asked."""

    def __init__(self, say: Callable[[str], str], name: str = "rule") -> None:
        self.say, self.name, self.asked = say, name, []

    def __call__(self, conversations: Sequence[Any], **options: Any) -> list[GeneratedOutput]:
        self.asked += conversations
        return [GeneratedOutput(self.say(one[-1].content)) for one in conversations]


class Speaker:
    """A backend of `evaluate.runner`: `say(messages, k)` is the k-th answer to a conversation."""

    as_chat, context_length = False, None
    metadata: dict[str, Any] = {"kind": "rule"}  # noqa: RUF012

    def __init__(
        self, say: Callable[[Any, int], str], name: str = "speaker", cut: Callable[[str], bool] = lambda _: False
    ):
        self.name = self.fingerprint = name
        self.say, self.cut, self.asked = say, cut, []

    def count_tokens(self, prompt: Any) -> int:
        return sum(len(one.content.split()) for one in prompt)

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[list[tuple[int, RequestResult]]]:
        for place, request in enumerate(requests):
            self.asked.append(request)
            texts = [self.say(request.prompt, k) for k in range(request.n)]
            yield [(place, RequestResult(tuple(GeneratedOutput(text, truncated=self.cut(text)) for text in texts)))]

    def score(self, requests: Sequence[Any]) -> Iterator[Any]:
        raise AssertionError("nothing is scored")


def answers_shown(text: str) -> tuple[str, str]:
    """The two answers in a request for a verdict, A first."""
    found = []
    for letter in "AB":
        _, _, rest = text.partition(f"[Answer {letter}]\n")
        found.append(rest.partition(f"\n[End of answer {letter}]")[0])
    return found[0], found[1]


def by(worth: Callable[[str], float], strength: int = 3) -> Callable[[str], str]:
    """A verdict by the worth of the answers alone, whatever their order."""

    def say(text: str) -> str:
        a, b = answers_shown(text)
        return f"Compared. [[{'A' if worth(a) > worth(b) else 'B'}{strength}]]"

    return say
