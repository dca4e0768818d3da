"""Text classifiers of three architectures: encoder-only, decoder-only, encoder-decoder.

Encoders and decoders have a classification head with one output per label. Encoder-decoders generate the label as text,
as T5 does (Raffel et al. 2020, §2.4), or use such a head too where transformers has one for them (T5, BART).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from peft import LoraConfig, TaskType, get_peft_model
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from zhenlong.errors import UserError
from zhenlong.models.encoders import is_encoder
from zhenlong.models.load import Lora, _require_all_weights, resolve_device
from zhenlong.models.new_model import ModelShape, train_tokenizer
from zhenlong.models.pretrained import from_pretrained, load_config
from zhenlong.models.resolve import resolve_model_path

Architecture = Literal["encoder", "decoder", "encoder_decoder"]
ClassifierHead = Literal["classes", "words"]
HEAD_MODULES: Final = ("score", "classifier", "classification_head", "pre_classifier", "logits_proj")


@dataclass(frozen=True)
class Classifier:
    """A network, its tokenizer, the labels in the order of its outputs, and its head.

    For the head `words`, `verbalizers` are the token ids of each label, including the end token.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    labels: tuple[str, ...]
    architecture: Architecture
    head: ClassifierHead
    verbalizers: tuple[tuple[int, ...], ...] = ()


def architecture_of(config: Any) -> Architecture:
    """The architecture that a configuration describes."""
    if config.is_encoder_decoder:
        return "encoder_decoder"
    return "decoder" if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not is_encoder(config) else "encoder"


def load_classifier(
    name: str,
    labels: Sequence[str] = (),
    head: Literal["auto", "classes", "words"] = "auto",
    *,
    lora: Lora | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Classifier:
    """Load a classifier in eval mode: a trained one (without `labels`), or any model with a new head for `labels`.

    `auto` is `words` for encoder-decoders and `classes` for the others. Raises `UserError` for a model that is not a
    classifier when no labels are given, and for a classifier with other labels.
    """
    source = resolve_model_path(name)
    config = load_config(name)
    architecture = architecture_of(config)
    has_head = any("SequenceClassification" in one for one in config.architectures or [])
    trained_labels = tuple(getattr(config, "classifier_labels", None) or (_label_names(config) if has_head else ()))
    if not trained_labels and not labels:
        raise UserError(f"model {name}: it is not a classifier; train one with zhenlong classify --model {name}")
    if trained_labels and labels and set(trained_labels) != set(labels):
        raise UserError(
            f"model {name}: it was trained on the labels {', '.join(trained_labels)}, but the data has "
            f"{', '.join(labels)}; rename the data's with labels, or start from a model without a classification head"
        )
    default_head: ClassifierHead = "classes" if architecture != "encoder_decoder" or has_head else "words"
    resolved_head: ClassifierHead = default_head if head == "auto" else head
    if resolved_head == "words" and default_head == "classes":
        raise UserError(
            f"head: words needs an encoder-decoder without a classification head, got {name} ({architecture})"
        )
    loader = AutoModelForSeq2SeqLM if resolved_head == "words" else AutoModelForSequenceClassification
    all_labels = trained_labels or tuple(labels)
    settings: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
    if resolved_head == "classes":
        settings |= {
            "id2label": dict(enumerate(all_labels)),
            "label2id": {label: i for i, label in enumerate(all_labels)},
        }
    rng_state = torch.get_rng_state()
    torch.manual_seed(seed)  # initialises the new head
    try:
        model, info = from_pretrained(loader, source, name, **settings)
    finally:
        torch.set_rng_state(rng_state)
    prefix = f"{model.base_model_prefix}."
    allowed_missing = {key for key in info["missing_keys"] if not key.startswith(prefix) or ".pooler." in key}
    if has_head or resolved_head == "words":
        allowed_missing = set()
    _require_all_weights(model, info["missing_keys"], allowed_missing, name=name)
    tokenizer = from_pretrained(AutoTokenizer, source, name)
    classifier = _with_labels(model, tokenizer, all_labels, architecture=architecture, head=resolved_head)
    if lora is not None:
        classifier = _add_lora(classifier, lora, seed)
    return Classifier(classifier.model.to(resolve_device(device)).eval(), *_fields_but_model(classifier))


def init_classifier(
    architecture: Architecture,
    shape: ModelShape,
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    head: str = "auto",
    seed: int = 0,
) -> Classifier:
    """A classifier of the given architecture (BERT, Llama or T5) with random weights from `seed`.

    `shape.layers` are those of the encoder or the decoder; an encoder-decoder has half of them in each, so that all
    three are of similar size.
    """
    resolved_head: ClassifierHead = "words" if architecture == "encoder_decoder" and head != "classes" else "classes"
    if head == "words" and resolved_head != "words":
        raise UserError(f"head: words needs an encoder-decoder, got {architecture}")
    config = _CONFIG_BUILDERS[architecture](shape, tokenizer)
    config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    loader = AutoModelForSeq2SeqLM if resolved_head == "words" else AutoModelForSequenceClassification
    rng_state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        model = loader.from_config(config).eval()
    finally:
        torch.set_rng_state(rng_state)
    if architecture == "encoder_decoder":
        model.get_input_embeddings().weight.data.mul_(_init_std(shape) / config.initializer_factor)
    return _with_labels(model, tokenizer, tuple(labels), architecture=architecture, head=resolved_head)


def train_classifier_tokenizer(texts: Sequence[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE that encodes `[CLS] text <|endoftext|>`: encoders use the first token, decoders the last."""
    tokenizer = train_tokenizer(texts, vocab_size)
    tokenizer.add_special_tokens({"cls_token": "[CLS]", "pad_token": "[PAD]"})
    start, end = tokenizer.cls_token, tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(start, tokenizer.cls_token_id), (end, tokenizer.eos_token_id)],
    )
    tokenizer.model_max_length = max_length
    return tokenizer


def _with_labels(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    labels: tuple[str, ...],
    *,
    architecture: Architecture,
    head: ClassifierHead,
) -> Classifier:
    """The classifier, with its labels saved in the configuration. Labels with equal token ids are refused."""
    model.config.classifier_labels = list(labels)
    if model.config.pad_token_id is None:
        pad = tokenizer.pad_token_id
        model.config.pad_token_id = tokenizer.eos_token_id if pad is None else pad
    if tokenizer.pad_token_id is None and model.config.pad_token_id is not None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(model.config.pad_token_id)
    verbalizers: tuple[tuple[int, ...], ...] = ()
    if head == "words":
        verbalizers = tuple(tuple(ids) for ids in tokenizer(text_target=list(labels))["input_ids"])
        if len(set(verbalizers)) < len(verbalizers):
            raise UserError(f"labels: expected labels with different token ids, got {', '.join(labels)}")
    return Classifier(model, tokenizer, labels, architecture=architecture, head=head, verbalizers=verbalizers)


def _fields_but_model(classifier: Classifier) -> tuple[Any, ...]:
    return classifier.tokenizer, classifier.labels, classifier.architecture, classifier.head, classifier.verbalizers


def _label_names(config: Any) -> list[str]:
    return [str(config.id2label[place]) for place in sorted(config.id2label)]


def _bert_config(shape: ModelShape, tokenizer: PreTrainedTokenizerBase) -> Any:
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.context,
        initializer_range=_init_std(shape),
        pad_token_id=tokenizer.pad_token_id,
    )


def _llama_config(shape: ModelShape, tokenizer: PreTrainedTokenizerBase) -> Any:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.context,
        initializer_range=_init_std(shape),
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _init_std(shape: ModelShape) -> float:
    """The standard deviation of initial weights, large enough for a model of this width to learn in hundreds of steps.

    T5's own embeddings start with standard deviation 1, which its tied output layer turns into large random logits.
    """
    return shape.hidden_size**-0.5 / 2


def _t5_config(shape: ModelShape, tokenizer: PreTrainedTokenizerBase) -> Any:
    return T5Config(
        vocab_size=len(tokenizer),
        d_model=shape.hidden_size,
        d_kv=shape.hidden_size // shape.heads,
        d_ff=shape.intermediate_size,
        num_layers=-(-shape.layers // 2),
        num_decoder_layers=max(1, shape.layers // 2),
        num_heads=shape.heads,
        n_positions=shape.context,
        initializer_factor=0.5,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )


_CONFIG_BUILDERS: Final = {"encoder": _bert_config, "decoder": _llama_config, "encoder_decoder": _t5_config}


def _add_lora(classifier: Classifier, lora: Lora, seed: int) -> Classifier:
    """Add adapters on the linear layers; the classification head is trained in full, because it is new."""
    targets = lora.targets if lora.targets == "all-linear" else [t.strip() for t in lora.targets.split(",")]
    head_modules = (
        [name for name in HEAD_MODULES if hasattr(classifier.model, name)] if classifier.head == "classes" else None
    )
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        modules_to_save=head_modules,
        task_type=TaskType.SEQ_CLS if classifier.head == "classes" else TaskType.SEQ_2_SEQ_LM,
    )
    rng_state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        return Classifier(get_peft_model(classifier.model, settings), *_fields_but_model(classifier))
    except ValueError as error:
        raise UserError(f"--lora_targets {lora.targets}: {error}") from None
    finally:
        torch.set_rng_state(rng_state)
