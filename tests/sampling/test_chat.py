"""Chat in the terminal and the sample command: the prompts that the model gets, and the output files."""

import json
from collections.abc import Iterator

import pytest
from tiny import tiny_model, tiny_tokenizer

from zhenlong.data import ChatTemplate
from zhenlong.errors import UserError
from zhenlong.models import save_model
from zhenlong.records import Message
from zhenlong.sampling import SamplingParams, TorchSampler
from zhenlong.sampling.command import chat, complete_lines, document_prompt, sample_command


class Parrot:
    """Responds to every prompt with the same text, records the prompts, and refuses those over 90 tokens."""

    def __init__(self) -> None:
        self.prompts: list[list[int]] = []
        self.samplings: list[SamplingParams] = []

    def stream(self, prompt: list[int], sampling: SamplingParams) -> Iterator[str]:
        if len(prompt) > 90:
            raise UserError("prompt 0: too long")
        self.prompts.append(prompt)
        self.samplings.append(sampling)
        yield from ("Po", "lly.")


def typed(*lines: str):
    """User input: these lines, then end of file."""
    left = iter(lines)

    def read(sign: str) -> str:
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    return read


@pytest.fixture
def template() -> ChatTemplate:
    return ChatTemplate.from_tokenizer(tiny_tokenizer())


def test_a_prompt_contains_all_earlier_turns(template):
    parrot, written = Parrot(), []
    chat(parrot, template, SamplingParams(seed=4), system="Be kind.", read=typed("Hi", "", "Bye"), write=written.append)
    first = (Message("system", "Be kind."), Message("user", "Hi"))
    second = (*first, Message("assistant", "Polly."), Message("user", "Bye"))
    assert parrot.prompts == [template.encode_prompt(first), template.encode_prompt(second)]
    assert "".join(written).endswith("Polly.\nPolly.\n")
    assert [sampling.seed for sampling in parrot.samplings] == [4, 5]
    assert all(set(template.stop_ids) <= set(sampling.stop_token_ids) for sampling in parrot.samplings)


def test_a_new_conversation_starts_without_earlier_turns(template):
    parrot = Parrot()
    chat(
        parrot, template, SamplingParams(), read=typed("Hi", "/new", "Hi", "/quit", "unheard"), write=lambda text: None
    )
    assert parrot.prompts == [template.encode_prompt((Message("user", "Hi"),))] * 2


def test_a_conversation_too_long_for_the_context_is_reported_and_restarted(template):
    parrot, written = Parrot(), []
    chat(parrot, template, SamplingParams(), read=typed("Hi", "x" * 60, "Hi"), write=written.append)
    assert parrot.prompts[-1] == parrot.prompts[0]
    assert any("too long" in text and "new conversation" in text for text in written)


def test_plain_text_is_completed_line_by_line_without_a_template():
    parrot, tokenizer = Parrot(), tiny_tokenizer()
    complete_lines(parrot, tokenizer, SamplingParams(), read=typed("Once", "upon"), write=lambda text: None)
    assert parrot.prompts == [document_prompt(tokenizer, "Once"), document_prompt(tokenizer, "upon")]


def test_plain_text_is_tokenized_like_a_pretraining_document():
    tokenizer = tiny_tokenizer()
    assert tokenizer.decode(document_prompt(tokenizer, "ab")) == "ab"
    assert document_prompt(tokenizer, "") == [tokenizer.eos_token_id]
    tokenizer.bos_token = "<|im_start|>"
    assert document_prompt(tokenizer, "ab")[0] == tokenizer.bos_token_id
    assert document_prompt(tokenizer, "") == [tokenizer.bos_token_id]


@pytest.fixture
def folder(tmp_path):
    save_model(tiny_model(), tiny_tokenizer(), tmp_path / "model")
    return str(tmp_path / "model")


def test_the_command_writes_the_sampler_s_completions(folder, tmp_path, template):
    lines = tmp_path / "prompts.txt"
    lines.write_text("What is it?\n\nWho?\n", encoding="utf-8")
    output = tmp_path / "out.jsonl"
    sample_command(
        folder, prompts=str(lines), output=str(output), system="Short.", samples_per_prompt=2, max_tokens=9, seed=3
    )
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    prompts = [(Message("system", "Short."), Message("user", text)) for text in ("What is it?", "Who?")]
    sampling = SamplingParams(max_tokens=9, seed=3, stop_token_ids=template.stop_ids)
    found = TorchSampler(tiny_model(), tiny_tokenizer()).sample(
        [template.encode_prompt(one) for one in prompts], sampling, 2
    )
    assert [row["response"] for row in rows] == [completion.text for several in found for completion in several]
    assert [row["truncated"] for row in rows] == [completion.truncated for several in found for completion in several]
    assert rows[2]["prompt"] == [{"role": "system", "content": "Short."}, {"role": "user", "content": "Who?"}]


def test_the_command_prints_one_completion_or_several(folder, capsys):
    sample_command(folder, "Once", raw=True, max_tokens=6, temperature=0.0)
    streamed = capsys.readouterr().out
    sample_command(folder, "Once", raw=True, max_tokens=6, temperature=0.0, samples_per_prompt=2)
    assert capsys.readouterr().out == 2 * (streamed + "\n")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "a", "prompts": "b.txt"}, "expected one of them"),
        ({"prompt": "a", "raw": True, "system": "s"}, "--system"),
        ({"samples_per_prompt": 2}, "--samples_per_prompt and --output"),
        ({"prompts": "missing.txt"}, "missing.txt: no such file"),
        ({"prompt": "a", "temperature": -1.0}, "temperature"),
        ({"prompt": "x" * 600, "raw": True}, "prompt 0: 600 tokens"),
    ],
)
def test_invalid_options_are_one_line_errors(folder, settings, message):
    with pytest.raises(UserError, match=message):
        sample_command(folder, **settings)
