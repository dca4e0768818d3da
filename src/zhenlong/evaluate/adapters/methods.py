"""The adaptation methods: from an instance to requests, and from their results to an outcome.

Each method is a generator: it yields requests, receives their results, may yield more (later turns of a conversation),
and returns the outcome. So the requests of many instances can be batched, whichever methods they use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from zhenlong.evaluate.adapters.prompt import (
    YES_NO,
    FittedPrompt,
    TokenCounter,
    answer_leading_space,
    chat_messages,
    choice_letters,
    fit_chat_prompt,
    fit_text_prompt,
    instance_block,
    prompt_parts,
)
from zhenlong.evaluate.adapters.spec import Adapter
from zhenlong.evaluate.results.instance import Instance
from zhenlong.evaluate.results.outcome import ChoiceScores, Outcome
from zhenlong.inference.requests import (
    GeneratedOutput,
    GenerateRequest,
    Request,
    RequestCost,
    RequestPrompt,
    RequestResult,
    ScoreRequest,
    ScoreTextRequest,
)
from zhenlong.randomness import derived_seed
from zhenlong.records import Message, Messages
from zhenlong.verify.answer_text import strip_reasoning
from zhenlong.verify.choices import read_choice

RequestPlan = Generator[list[Request], list[RequestResult], Outcome]
INSTANCE_OPTIONS: Final = ("instructions", "max_tokens")


@dataclass(frozen=True)
class AdapterContext:
    """What the methods need to build the requests of one scenario, model and trial."""

    adapter: Adapter
    token_counter: TokenCounter
    examples: Mapping[str, Sequence[Instance]] = field(default_factory=dict)
    trial: int = 0
    seed: int = 0
    as_chat: bool = False  # send text prompts as a user turn

    def examples_of(self, instance: Instance) -> Sequence[Instance]:
        """The in-context examples for an instance."""
        return self.examples.get(instance.groups.get(self.adapter.examples_by, ""), ())


def plan_requests(context: AdapterContext, instance: Instance) -> RequestPlan:
    """The requests for an instance by the method of its adapter; the instance may override some options."""
    own = {name: instance.data[name] for name in INSTANCE_OPTIONS if name in instance.data}
    if own:
        context = replace(context, adapter=replace(context.adapter, **own))
    outcome = yield from _METHODS[context.adapter.method](context, instance)
    return replace(outcome, shots=context.adapter.shots, trial=context.trial)


def chosen_reference(adapter: Adapter, outcome: Outcome) -> int | None:
    """The index of the reference that the answer names by its letter or text, or None (verify/choices.py)."""
    letters = choice_letters(adapter, outcome.instance)
    if outcome.text.strip() in letters:
        return letters.index(outcome.text.strip())
    return read_choice(outcome.text, [one.text for one in outcome.instance.references])


def _generation(setting: AdapterContext, instance: Instance) -> RequestPlan:
    fitted = _text_prompt(setting, instance, _answer_budget(setting))
    if fitted is None:
        return _overlong_outcome(setting, instance)
    prompt = _as_user_turn(fitted.prompt) if setting.as_chat else fitted.prompt
    (answer,) = yield [_generate_request(setting, instance, prompt)]
    outcome = _outcome(instance, [answer], fitted)
    if setting.adapter.most_probable_first and all(one.log_prob is not None for one in outcome.outputs):
        ordered = sorted(outcome.outputs, key=lambda one: -(one.log_prob or 0.0))  # stable
        outcome = replace(outcome, outputs=tuple(ordered))
    if setting.adapter.method == "multiple_choice_joint" and not outcome.failed:
        outcome = replace(outcome, predicted=chosen_reference(setting.adapter, outcome))
    return outcome


def _chat(setting: AdapterContext, instance: Instance) -> RequestPlan:
    examples = setting.examples_of(instance)

    def make(kept: int, text: str) -> Messages:
        block = instance_block(setting.adapter, replace(instance, input=text))
        return chat_messages(setting.adapter, examples[:kept], instance, block)

    fitted = fit_chat_prompt(setting.token_counter, make, len(examples), instance.input, _answer_budget(setting))
    if fitted is None:
        return _overlong_outcome(setting, instance)
    (first,) = yield [_generate_request(setting, instance, fitted.prompt)]
    answers = [first]
    outputs_by_sample: list[list[GeneratedOutput]] = [
        [output] for output in first.outputs
    ]  # for each of the n samples, its response to every turn
    for number, turn in enumerate(instance.turns, 1):
        if any(answer.failed for answer in answers):
            break
        requests: list[Request] = []
        for place, outputs in enumerate(outputs_by_sample):
            messages = _with_further_turns(
                fitted.prompt, [strip_reasoning(one.text) for one in outputs], instance.turns[:number]
            )
            if not _fits_context(setting, messages):
                return _overlong_outcome(setting, instance, f"the conversation up to turn {number + 1} ({turn[:40]!r})")
            requests.append(replace(_generate_request(setting, instance, messages, number, place), n=1))
        found = yield requests
        answers += found
        outputs_by_sample = [
            [*outputs, *answer.outputs[:1]] for outputs, answer in zip(outputs_by_sample, found, strict=True)
        ]
    whole = [replace(one[0], turns=tuple(later.text for later in one[1:])) for one in outputs_by_sample]
    return replace(_outcome(instance, answers, fitted), outputs=tuple(whole))


def _multiple_choice_joint(setting: AdapterContext, instance: Instance) -> RequestPlan:
    if setting.adapter.answer == "generated":
        return (yield from _generation(setting, instance))
    return (yield from _score_choices(setting, instance, choice_letters(setting.adapter, instance)))


def _multiple_choice_separate(setting: AdapterContext, instance: Instance) -> RequestPlan:
    return (yield from _score_choices(setting, instance, [one.text for one in instance.references]))


def _multiple_choice_calibrated(setting: AdapterContext, instance: Instance) -> RequestPlan:
    texts = [one.text for one in instance.references]
    return (yield from _score_choices(setting, instance, texts, setting.adapter.calibration))


def _score_choices(
    setting: AdapterContext, instance: Instance, texts: Sequence[str], calibration: str = ""
) -> RequestPlan:
    """Score every text as the continuation; the model's choice is the first with the highest value."""
    space = "" if setting.as_chat else answer_leading_space(setting.adapter)
    continuations = tuple(space + text for text in texts)
    fitted = _text_prompt(setting, instance, max(map(setting.token_counter.count_tokens, continuations), default=0))
    if fitted is None:
        return _overlong_outcome(setting, instance)
    if not texts:
        return Outcome(instance, failed="no references to choose from")
    context = _as_user_turn(fitted.prompt) if setting.as_chat else fitted.prompt
    requests: list[Request] = [ScoreRequest(context, continuations)]
    if calibration:
        requests.append(ScoreRequest(_as_user_turn(calibration) if setting.as_chat else calibration, continuations))
    answers = yield requests
    outcome = _outcome(instance, answers, fitted)
    if outcome.failed:
        return outcome
    choices = ChoiceScores(answers[0].log_probs, answers[0].num_tokens, answers[1].log_probs if calibration else ())
    values = choice_values(setting.adapter, choices, texts)
    return replace(outcome, choices=choices, predicted=values.index(max(values)))


def _ranking(setting: AdapterContext, instance: Instance) -> RequestPlan:
    """Each passage's log-probability of Yes, given that the answer is Yes or No."""
    space = "" if setting.as_chat else answer_leading_space(setting.adapter)
    words = tuple(space + word for word in YES_NO)
    reserved_tokens = max(map(setting.token_counter.count_tokens, words))
    fits = [_text_prompt(setting, instance, reserved_tokens, place) for place in range(len(instance.references))]
    fitted = [one for one in fits if one is not None]
    if len(fitted) < len(fits) or not fits:
        return _overlong_outcome(setting, instance)
    answers = yield [
        ScoreRequest(_as_user_turn(one.prompt) if setting.as_chat else one.prompt, words) for one in fitted
    ]
    worst = FittedPrompt(
        fitted[0].prompt, max(one.num_dropped_examples for one in fitted), any(one.input_truncated for one in fitted)
    )
    outcome = _outcome(instance, answers, worst)
    if outcome.failed:
        return outcome
    relevance = [log_prob_of_yes(*answer.log_probs) for answer in answers]
    choices = ChoiceScores(tuple(relevance), tuple(answer.num_tokens[0] for answer in answers))
    return replace(outcome, choices=choices, predicted=relevance.index(max(relevance)))


def _language_modelling(setting: AdapterContext, instance: Instance) -> RequestPlan:
    (answer,) = yield [ScoreTextRequest(instance.input)]
    outcome = _outcome(instance, [answer], FittedPrompt(instance.input))
    if outcome.failed:
        return outcome
    return replace(outcome, text_log_prob=answer.log_probs[0], text_tokens=answer.num_tokens[0])


def log_prob_of_yes(yes: float, no: float) -> float:
    """log(p_yes / (p_yes + p_no)) from two log-probabilities."""
    high = max(yes, no)
    return yes - high - math.log(math.exp(yes - high) + math.exp(no - high))


def choice_values(adapter: Adapter, choices: ChoiceScores, texts: Sequence[str]) -> list[float]:
    """What ranks the choices: their log-probabilities, normalised or calibrated as the adapter says.

    Recorded scores without numbers of tokens, or without those of the calibration prompt, are ranked by their sums.
    """
    log_probs = list(choices.log_probs)
    if adapter.method == "multiple_choice_calibrated" and choices.calibration_log_probs:
        return [value - base for value, base in zip(log_probs, choices.calibration_log_probs, strict=True)]
    if adapter.method != "multiple_choice_separate" or adapter.normalise_by == "none":
        return log_probs
    lengths = choices.num_tokens if adapter.normalise_by == "tokens" else [len(text) for text in texts]
    return [value / max(1, length) for value, length in zip(log_probs, lengths, strict=True)] if lengths else log_probs


def _text_prompt(
    setting: AdapterContext, instance: Instance, reserved_tokens: int, passage: int = 0
) -> FittedPrompt | None:
    examples = setting.examples_of(instance)

    def make(kept: int, text: str) -> list[str]:
        block = instance_block(setting.adapter, replace(instance, input=text), passage)
        return prompt_parts(setting.adapter, examples[:kept], block)

    return fit_text_prompt(setting.token_counter, make, len(examples), instance.input, reserved_tokens)


def _generate_request(
    setting: AdapterContext, instance: Instance, prompt: RequestPrompt, *seed_parts: int
) -> GenerateRequest:
    adapter = setting.adapter
    temperature = dict(adapter.temperatures).get(instance.groups.get("category", ""), adapter.temperature)
    seed = derived_seed(setting.seed, instance.id, setting.trial, *seed_parts) if temperature else 0
    return GenerateRequest(
        prompt,
        adapter.max_tokens,
        temperature,
        adapter.top_p,
        adapter.stop,
        adapter.n,
        seed,
        adapter.top_log_probs,
    )


def _answer_budget(setting: AdapterContext) -> int:
    """Tokens reserved for the response: `max_tokens`, but at most half of the context."""
    context = setting.token_counter.context_length
    return setting.adapter.max_tokens if context is None else min(setting.adapter.max_tokens, context // 2)


def _fits_context(setting: AdapterContext, prompt: RequestPrompt) -> bool:
    context = setting.token_counter.context_length
    return context is None or setting.token_counter.count_tokens(prompt) < context


def _with_further_turns(prompt: RequestPrompt, answers: Sequence[str], turns: Sequence[str]) -> Messages:
    assert not isinstance(prompt, str)
    messages = list(prompt)
    for answer, turn in zip(answers, turns, strict=True):
        messages += [Message("assistant", answer), Message("user", turn)]
    return tuple(messages)


def _as_user_turn(prompt: RequestPrompt) -> Messages:
    return (Message("user", prompt),) if isinstance(prompt, str) else prompt


def _outcome(instance: Instance, answers: Sequence[RequestResult], fitted: FittedPrompt) -> Outcome:
    """The fields of the outcome that every method fills: prompt, failure, cost."""
    failed = next((answer.failed for answer in answers if answer.failed), "")
    recorded = {
        name: value
        for name, value in (("examples_dropped", fitted.num_dropped_examples), ("input_cut", fitted.input_truncated))
        if value
    }
    return Outcome(
        instance,
        outputs=() if failed else answers[0].outputs,
        prompt=answers[0].prompt or _as_text(fitted.prompt),
        failed=failed,
        cost=_total_cost([answer.cost for answer in answers]),
        metadata=recorded,
    )


def _overlong_outcome(
    setting: AdapterContext, instance: Instance, what: str = "the prompt without examples and input"
) -> Outcome:
    failed = f"{what} leaves no room for a response in the context of {setting.token_counter.context_length} tokens"
    return Outcome(instance, failed=failed)


def _total_cost(costs: Sequence[RequestCost]) -> RequestCost:
    flops = [cost.flops for cost in costs if cost.flops is not None]
    peaks = [cost.peak_memory for cost in costs if cost.peak_memory is not None]
    return RequestCost(
        sum(cost.seconds for cost in costs),
        sum(cost.prompt_tokens for cost in costs),
        sum(cost.generated_tokens for cost in costs),
        sum(flops) if flops else None,
        max(peaks, default=None),
    )


def _as_text(prompt: RequestPrompt) -> str:
    return prompt if isinstance(prompt, str) else "\n\n".join(f"{one.role}: {one.content}" for one in prompt)


_METHODS: Final[dict[str, Callable[[AdapterContext, Instance], RequestPlan]]] = {
    "generation": _generation,
    "chat": _chat,
    "multiple_choice_joint": _multiple_choice_joint,
    "multiple_choice_separate": _multiple_choice_separate,
    "multiple_choice_calibrated": _multiple_choice_calibrated,
    "language_modelling": _language_modelling,
    "ranking": _ranking,
}
