"""crfm-helm beside this project: its run specifications, its adapters, and its instances made of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from zhenlong.evaluate.results.instance import Instance

METHODS = {
    "generation": "generation",
    "multiple_choice_joint": "multiple_choice_joint",
    "multiple_choice_separate": "multiple_choice_separate_original",
    "multiple_choice_calibrated": "multiple_choice_separate_calibrated",
    "language_modelling": "language_modeling",
    "ranking": "ranking_binary",
}


def run_specs() -> dict[str, Callable[[], Any]]:
    """For each of our scenarios but RAFT, which needs a download: a function that gives HELM's run specification."""
    from helm.benchmark.run_specs import classic_run_specs as classic
    from helm.benchmark.run_specs import lite_run_specs as lite

    return {
        "mmlu": lambda: lite.get_mmlu_spec("high_life"),
        "boolq": classic.get_boolq_spec,
        "narrative_qa": lite.get_narrativeqa_spec,
        "natural_qa_closedbook": lambda: lite.get_natural_qa_spec("closedbook"),
        "natural_qa_openbook_longans": lambda: lite.get_natural_qa_spec("openbook_longans"),
        "quac": classic.get_quac_spec,
        "hellaswag": lambda: lite.get_commonsense_spec("hellaswag", METHODS["multiple_choice_separate"]),
        "openbookqa": lambda: lite.get_commonsense_spec("openbookqa", METHODS["multiple_choice_calibrated"]),
        "truthful_qa": lambda: classic.get_truthful_qa_spec("mc_single"),
        "msmarco_regular": lambda: classic.get_msmarco_spec("regular", 30),
        "msmarco_trec": lambda: classic.get_msmarco_spec("trec", 30),
        "summarization_cnndm": classic.get_cnndm_summarization_spec,
        "summarization_xsum": classic.get_xsum_sampled_summarization_spec,
        "imdb": classic.get_imdb_spec,
        "civil_comments": lambda: classic.get_civil_comments_spec("all"),
        "the_pile": lambda: classic.get_the_pile_spec("arxiv"),
        "twitter_aae": lambda: classic.get_twitter_aae_spec("aa"),
        "ice": classic.get_ice_spec,
        "blimp": lambda: classic.get_blimp_spec("island_effects"),
        "wikifact": lambda: classic.get_wikifact_spec("5", "author"),
        "synthetic_reasoning": lambda: classic.get_synthetic_reasoning_spec("induction"),
        "synthetic_reasoning_natural": lambda: classic.get_synthetic_reasoning_natural_spec("easy"),
        "babi_qa": classic.get_babi_qa_spec,
        "dyck_language": lambda: classic.get_dyck_language_spec(3),
        "gsm8k": lite.get_gsm_spec,
        "math_regular": lambda: lite.get_math_spec("algebra", "1", use_official_examples="True"),
        "math_chain_of_thought": lambda: lite.get_math_spec("algebra", "1", use_chain_of_thought="True"),
        "apps": lambda: classic.get_code_spec("apps"),
        "humaneval": lambda: classic.get_code_spec("humaneval"),
        "lsat_qa": lambda: classic.get_lsat_qa_spec("all"),
        "legal_support": classic.get_legal_support_spec,
        "entity_data_imputation": lambda: classic.get_entity_data_imputation_spec("Buy"),
        "entity_matching": lambda: classic.get_entity_matching_spec("Beer"),
        "copyright_text": lambda: classic.get_copyright_spec("popular_books-prefix_length_125.json"),
        "copyright_code": lambda: classic.get_copyright_spec("prompt_num_line_10-min_lines_20.json"),
        "disinformation_reiteration": lambda: classic.get_disinformation_spec("reiteration", "climate"),
        "disinformation_wedging": lambda: classic.get_disinformation_spec("wedging", None),
        "bbq": lambda: classic.get_bbq_spec("all"),
        "bold": lambda: classic.get_bold_spec("all"),
        "real_toxicity_prompts": classic.get_real_toxicity_prompts_spec,
        "synthetic_efficiency": lambda: classic.get_synthetic_efficiency_spec(1, 64, "huggingface/gpt2", "1"),
    }


def helm_instance(one: Instance, split: str = "test") -> Any:
    """HELM's instance of the same id, input and references."""
    from helm.benchmark.scenarios import scenario as helm

    references = [
        helm.Reference(helm.Output(text=each.text), [*([helm.CORRECT_TAG] if each.is_correct else []), *each.tags])
        for each in one.references
    ]
    return helm.Instance(helm.Input(text=one.input), references, split=split, id=one.id)


def helm_requests(spec: Any, pool: Sequence[Any], tests: Sequence[Any]) -> list[Any]:
    """The states of the requests that HELM's adapter makes of a pool of examples and of test instances."""
    from helm.benchmark.adaptation.adapters import adapter as helm_adapter
    from helm.benchmark.adaptation.adapters.adapter_factory import AdapterFactory

    with patch.object(helm_adapter, "WindowServiceFactory", _AnyLength):
        adapter = AdapterFactory.get_adapter(spec, None)
        return list(adapter.adapt([*pool, *tests], parallelism=1))


class _AnyLength:
    """A window service, and its factory, in which every prompt fits."""

    @classmethod
    def get_window_service(cls, deployment: str, tokenizers: Any) -> _AnyLength:
        return cls()

    def fits_within_context_window(self, text: str, expected_completion_token_length: int = 0) -> bool:
        return True

    def truncate_from_right(self, text: str, expected_completion_token_length: int = 0) -> str:
        return text


def helm_scores(names: Sequence[str], one: Instance, completions: Sequence[tuple[str, float]], by_letter: bool) -> dict:
    """HELM's measures of completions (text, log-probability); `by_letter` maps letters to the instance's choices."""
    from helm.benchmark.metrics.evaluate_reference_metrics import compute_reference_metrics

    state = request_state(one, completions, by_letter=by_letter)
    options = _Options(num_outputs=len(completions))
    return {stat.name.name: stat.mean for stat in compute_reference_metrics(list(names), options, state, None)}


def request_state(
    one: Instance, completions: Sequence[tuple[str, float]], *, by_letter: bool = False, reference: int | None = None
) -> Any:
    """HELM's state of an answered request; `reference` is the passage that it is about."""
    from helm.benchmark.adaptation.request_state import RequestState
    from helm.common.request import GeneratedOutput, Request, RequestResult, Token

    letters = {chr(ord("A") + place): each.text for place, each in enumerate(one.references)}
    given = [GeneratedOutput(text, log_prob, [Token(text, log_prob)]) for text, log_prob in completions]
    return RequestState(
        instance=helm_instance(one),
        reference_index=reference,
        request_mode=None if reference is None else "original",
        train_trial_index=0,
        output_mapping=letters if by_letter else None,
        request=Request("model", "model"),
        result=RequestResult(True, [], given, False),
        num_train_instances=0,
        prompt_truncated=False,
    )


@dataclass(frozen=True)
class _Options:
    """The options of an adapter that HELM's measures read."""

    num_outputs: int = 1
    output_mapping_pattern: None = None
