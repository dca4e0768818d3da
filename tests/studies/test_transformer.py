"""The readable Transformer equals the library's on the same weights."""

import pytest
import torch
from tiny import tiny_model
from transformers import BertConfig, BertForMaskedLM, BertModel, T5Config, T5ForConditionalGeneration

from zhenlong.errors import UserError
from zhenlong.studies.shared_weights import decoder_from_llama, encoder_decoder_from_t5, encoder_from_bert
from zhenlong.studies.transformer import Decoder, TransformerConfig


def scattered(model, seed=0):
    """Randomise norms and biases, so that a mistake in their use shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def ids(rows, tokens, seed=1, vocabulary=90):
    return torch.randint(0, vocabulary, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def close(own, library):
    return torch.allclose(own, library, rtol=1e-5, atol=1e-5 * float(library.abs().max()))


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
    return scattered(BertModel(BertConfig(vocab_size=90, max_position_embeddings=64, **sizes)))


@pytest.fixture(scope="module")
def llama():
    return scattered(tiny_model("llama"))


def t5(**settings):
    torch.manual_seed(0)
    sizes = {"d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4}
    return scattered(T5ForConditionalGeneration(T5Config(vocab_size=90, **sizes, **settings)))


@torch.no_grad()
def test_encoder_equals_bert(bert):
    rows = ids(2, 11)
    assert close(encoder_from_bert(bert)(rows), bert(rows).last_hidden_state)


@torch.no_grad()
def test_decoder_equals_llama_with_grouped_query_attention(llama):
    rows = ids(2, 13)
    assert llama.config.num_key_value_heads < llama.config.num_attention_heads
    assert close(decoder_from_llama(llama)(rows), llama(rows).logits)


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_encoder_decoder_equals_t5_at_near_and_far_distances(tied):
    """160 tokens reach every bucket: exact distances, growing ones, and those beyond the farthest."""
    model = t5(tie_word_embeddings=tied)
    source, said = ids(2, 160), ids(2, 150, seed=2)
    expected = model(input_ids=source, decoder_input_ids=said).logits
    assert close(encoder_decoder_from_t5(model)(source, said), expected)


@torch.no_grad()
def test_an_encoder_attends_to_later_tokens_and_a_decoder_does_not(bert, llama):
    one, other = ids(1, 9), ids(1, 9)
    other[0, -1] = (one[0, -1] + 1) % 90
    encoder, decoder = encoder_from_bert(bert), decoder_from_llama(llama)
    assert not torch.allclose(encoder(one)[:, 0], encoder(other)[:, 0])
    assert torch.equal(decoder(one)[:, :-1], decoder(other)[:, :-1])


@torch.no_grad()
def test_the_encoder_of_a_masked_language_model_converts(bert):
    torch.manual_seed(1)
    model = BertForMaskedLM(bert.config).eval()
    rows = ids(1, 5)
    assert close(encoder_from_bert(model)(rows), model.bert(rows).last_hidden_state)


def test_another_architecture_is_refused(llama):
    with pytest.raises(UserError, match="expected a bert, got llama"):
        encoder_from_bert(llama)
    with pytest.raises(UserError, match="expected T5's relu, got gated-gelu"):
        encoder_decoder_from_t5(t5(feed_forward_proj="gated-gelu"))


def test_training_lowers_the_loss():
    """Gradients reach every weight, and a few steps lower the loss of a repeated sequence."""
    torch.manual_seed(0)
    model = Decoder(
        TransformerConfig(vocab_size=12, hidden_size=16, num_layers=2, num_heads=2, ffn_dim=24, causal=True)
    )
    rows = torch.arange(12).repeat(2)[None]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        logits = model(rows[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
