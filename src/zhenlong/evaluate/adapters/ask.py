"""From an instance to requests, and from their answers to an outcome.

Asking is a generator: it yields requests, gets their answers, may ask again (the further turns of a conversation), and
returns the outcome. So many instances can be asked side by side, whichever method they use.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from zhenlong.evaluate.adapters.prompt import (
    YES_NO,
    Fitted,
    Reader,
    answer_space,
    conversation,
    fit_chat,
    fit_text,
    instance_block,
    letters_of,
    text_parts,
)
from zhenlong.evaluate.adapters.request import Answer, Generate, Prompt, Request, Score, ScoreText
from zhenlong.evaluate.adapters.spec import Adapter
from zhenlong.evaluate.instance import Instance
from zhenlong.evaluate.outcome import Choices, Cost, Outcome, Output
from zhenlong.loop.randomness import derived_seed
from zhenlong.records import Message, Messages

Asking = Generator[list[Request], list[Answer], Outcome]
OWN_OPTIONS: Final = ("instructions", "max_tokens")
SAID_LETTER: Final = re.compile(r"\(?([A-Za-z])\)?(?:$|[.:,)\n])")


@dataclass(frozen=True)
class Setting:
    """How the instances of a scenario are put to a model in one trial."""

    adapter: Adapter
    reader: Reader
    examples: Mapping[str, Sequence[Instance]] = field(default_factory=dict)
    trial: int = 0
    seed: int = 0
    as_chat: bool = False  # text prompts are put as a user's turn

    def examples_of(self, instance: Instance) -> Sequence[Instance]:
        """The examples that stand before an instance."""
        return self.examples.get(instance.groups.get(self.adapter.examples_by, ""), ())


def ask(setting: Setting, instance: Instance) -> Asking:
    """Put an instance to a model by the method of its adapter, some of whose options may be the instance's own."""
    own = {name: instance.data[name] for name in OWN_OPTIONS if name in instance.data}
    if own:
        setting = replace(setting, adapter=replace(setting.adapter, **own))
    outcome = yield from _METHODS[setting.adapter.method](setting, instance)
    return replace(outcome, shots=setting.adapter.shots, trial=setting.trial)


def chosen_letter(text: str, letters: Sequence[str]) -> int | None:
    """The place of the letter that an answer consists of or begins with (`B`, `B.`, `(B)`), or None."""
    said = text.strip()
    found = SAID_LETTER.match(said)
    letter = said if said in letters else found[1] if found else ""
    return letters.index(letter) if letter in letters else None


def _generation(setting: Setting, instance: Instance) -> Asking:
    fitted = _text_prompt(setting, instance, _answer_room(setting))
    if fitted is None:
        return _too_long(setting, instance)
    prompt = _as_chat(fitted.prompt) if setting.as_chat else fitted.prompt
    (answer,) = yield [_generate(setting, instance, prompt)]
    outcome = _outcome(instance, [answer], fitted)
    if setting.adapter.method == "multiple_choice_joint" and not outcome.failed:
        outcome = replace(outcome, predicted=chosen_letter(outcome.text, letters_of(setting.adapter, instance)))
    return outcome


def _chat(setting: Setting, instance: Instance) -> Asking:
    examples = setting.examples_of(instance)

    def make(kept: int, text: str) -> Messages:
        block = instance_block(setting.adapter, replace(instance, input=text))
        return conversation(setting.adapter, examples[:kept], instance, block)

    fitted = fit_chat(setting.reader, make, len(examples), instance.input, _answer_room(setting))
    if fitted is None:
        return _too_long(setting, instance)
    (first,) = yield [_generate(setting, instance, fitted.prompt)]
    answers = [first]
    said: list[list[Output]] = [[output] for output in first.outputs]  # of each of the n answers, turn after turn
    for number, turn in enumerate(instance.turns, 1):
        if any(answer.failed for answer in answers):
            break
        asked: list[Request] = []
        for place, outputs in enumerate(said):
            messages = _continued(fitted.prompt, [one.text for one in outputs], instance.turns[:number])
            if not _fits(setting, messages):
                return _too_long(setting, instance, f"the conversation up to turn {number + 1} ({turn[:40]!r})")
            asked.append(replace(_generate(setting, instance, messages, number, place), n=1))
        found = yield asked
        answers += found
        said = [[*outputs, *answer.outputs[:1]] for outputs, answer in zip(said, found, strict=True)]
    whole = [replace(one[0], turns=tuple(later.text for later in one[1:])) for one in said]
    return replace(_outcome(instance, answers, fitted), outputs=tuple(whole))


def _multiple_choice_joint(setting: Setting, instance: Instance) -> Asking:
    if setting.adapter.answer == "generated":
        return (yield from _generation(setting, instance))
    return (yield from _scored(setting, instance, letters_of(setting.adapter, instance), _sums))


def _multiple_choice_separate(setting: Setting, instance: Instance) -> Asking:
    texts = [one.text for one in instance.references]
    return (yield from _scored(setting, instance, texts, _per_token if setting.adapter.per_token else _sums))


def _multiple_choice_calibrated(setting: Setting, instance: Instance) -> Asking:
    texts = [one.text for one in instance.references]
    return (yield from _scored(setting, instance, texts, _above_baseline, setting.adapter.calibration))


def _scored(
    setting: Setting,
    instance: Instance,
    texts: Sequence[str],
    worth: Callable[[Choices], list[float]],
    calibration: str = "",
) -> Asking:
    """Score every text as the answer; the first of the highest `worth` is the model's choice."""
    space = "" if setting.as_chat else answer_space(setting.adapter)
    continuations = tuple(space + text for text in texts)
    fitted = _text_prompt(setting, instance, max(map(setting.reader.length, continuations), default=0))
    if fitted is None:
        return _too_long(setting, instance)
    if not texts:
        return Outcome(instance, failed="no references to choose from")
    context = _as_chat(fitted.prompt) if setting.as_chat else fitted.prompt
    asked: list[Request] = [Score(context, continuations)]
    if calibration:
        asked.append(Score(_as_chat(calibration) if setting.as_chat else calibration, continuations))
    answers = yield asked
    outcome = _outcome(instance, answers, fitted)
    if outcome.failed:
        return outcome
    choices = Choices(answers[0].log_probs, answers[0].tokens, answers[1].log_probs if calibration else ())
    values = worth(choices)
    return replace(outcome, choices=choices, predicted=values.index(max(values)))


def _ranking(setting: Setting, instance: Instance) -> Asking:
    """Each passage's log-probability of Yes, given that the answer is Yes or No."""
    space = "" if setting.as_chat else answer_space(setting.adapter)
    words = tuple(space + word for word in YES_NO)
    room = max(map(setting.reader.length, words))
    fits = [_text_prompt(setting, instance, room, place) for place in range(len(instance.references))]
    fitted = [one for one in fits if one is not None]
    if len(fitted) < len(fits) or not fits:
        return _too_long(setting, instance)
    answers = yield [Score(_as_chat(one.prompt) if setting.as_chat else one.prompt, words) for one in fitted]
    worst = Fitted(fitted[0].prompt, max(one.dropped for one in fitted), any(one.cut for one in fitted))
    outcome = _outcome(instance, answers, worst)
    if outcome.failed:
        return outcome
    relevant = [log_odds(*answer.log_probs) for answer in answers]
    choices = Choices(tuple(relevant), tuple(answer.tokens[0] for answer in answers))
    return replace(outcome, choices=choices, predicted=relevant.index(max(relevant)))


def _language_modelling(setting: Setting, instance: Instance) -> Asking:
    (answer,) = yield [ScoreText(instance.input)]
    outcome = _outcome(instance, [answer], Fitted(instance.input))
    if outcome.failed:
        return outcome
    return replace(outcome, text_log_prob=answer.log_probs[0], text_tokens=answer.tokens[0])


def log_odds(yes: float, no: float) -> float:
    """log(p_yes / (p_yes + p_no)) from two log-probabilities."""
    high = max(yes, no)
    return yes - high - math.log(math.exp(yes - high) + math.exp(no - high))


def _sums(choices: Choices) -> list[float]:
    return list(choices.log_probs)


def _per_token(choices: Choices) -> list[float]:
    return [value / max(1, count) for value, count in zip(choices.log_probs, choices.tokens, strict=True)]


def _above_baseline(choices: Choices) -> list[float]:
    return [value - base for value, base in zip(choices.log_probs, choices.baseline, strict=True)]


def _text_prompt(setting: Setting, instance: Instance, room: int, passage: int = 0) -> Fitted | None:
    examples = setting.examples_of(instance)

    def make(kept: int, text: str) -> list[str]:
        block = instance_block(setting.adapter, replace(instance, input=text), passage)
        return text_parts(setting.adapter, examples[:kept], block)

    return fit_text(setting.reader, make, len(examples), instance.input, room)


def _generate(setting: Setting, instance: Instance, prompt: Prompt, *more: int) -> Generate:
    adapter = setting.adapter
    temperature = dict(adapter.temperatures).get(instance.groups.get("category", ""), adapter.temperature)
    seed = derived_seed(setting.seed, instance.id, setting.trial, *more) if temperature else 0
    return Generate(
        prompt,
        adapter.max_tokens,
        temperature,
        adapter.top_p,
        adapter.stop,
        adapter.n,
        seed,
        adapter.top_log_probs,
    )


def _answer_room(setting: Setting) -> int:
    """Tokens kept free for an answer: as many as it may have, but at most half of the context."""
    context = setting.reader.context
    return setting.adapter.max_tokens if context is None else min(setting.adapter.max_tokens, context // 2)


def _fits(setting: Setting, prompt: Prompt) -> bool:
    context = setting.reader.context
    return context is None or setting.reader.length(prompt) < context


def _continued(prompt: Prompt, answers: Sequence[str], turns: Sequence[str]) -> Messages:
    assert not isinstance(prompt, str)
    messages = list(prompt)
    for answer, turn in zip(answers, turns, strict=True):
        messages += [Message("assistant", answer), Message("user", turn)]
    return tuple(messages)


def _as_chat(prompt: Prompt) -> Messages:
    return (Message("user", prompt),) if isinstance(prompt, str) else prompt


def _outcome(instance: Instance, answers: Sequence[Answer], fitted: Fitted) -> Outcome:
    """What the answers have in common: what was read, what failed, what it cost."""
    failed = next((answer.failed for answer in answers if answer.failed), "")
    recorded = {
        name: value for name, value in (("examples_dropped", fitted.dropped), ("input_cut", fitted.cut)) if value
    }
    return Outcome(
        instance,
        outputs=() if failed else answers[0].outputs,
        prompt=answers[0].prompt or _as_text(fitted.prompt),
        failed=failed,
        cost=_total([answer.cost for answer in answers]),
        recorded=recorded,
    )


def _too_long(setting: Setting, instance: Instance, what: str = "the prompt without examples and input") -> Outcome:
    failed = f"{what} leaves no room for an answer in the context of {setting.reader.context} tokens"
    return Outcome(instance, failed=failed)


def _total(costs: Sequence[Cost]) -> Cost:
    flops = [cost.flops for cost in costs if cost.flops is not None]
    peaks = [cost.peak_memory for cost in costs if cost.peak_memory is not None]
    return Cost(
        sum(cost.seconds for cost in costs),
        sum(cost.prompt_tokens for cost in costs),
        sum(cost.generated_tokens for cost in costs),
        sum(flops) if flops else None,
        max(peaks, default=None),
    )


def _as_text(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "\n\n".join(f"{one.role}: {one.content}" for one in prompt)


_METHODS: Final[dict[str, Callable[[Setting, Instance], Asking]]] = {
    "generation": _generation,
    "chat": _chat,
    "multiple_choice_joint": _multiple_choice_joint,
    "multiple_choice_separate": _multiple_choice_separate,
    "multiple_choice_calibrated": _multiple_choice_calibrated,
    "language_modelling": _language_modelling,
    "ranking": _ranking,
}
