"""The head of a pretrained masked language model, corruption and loss, against transformers' own models and counts."""

from copy import deepcopy

import pytest
import torch
from tiny_models import ENCODERS, WORDS, make_batch, make_encoder_config, make_tokenizer
from torch import nn
from transformers import AutoModel, AutoModelForMaskedLM

from hf_htc.models.configuration_prompts import PromptConfig
from hf_htc.models.prompt_masked_lm import MaskedLMHead, corrupt, draw_masked, load_masked_lm, masked_lm_loss, whole_weight
from hf_htc.models.prompt_slots import mean_word_vectors
from hf_htc.models.text_encoders import append_prompts


KINDS = ["bert", "roberta", "modernbert", "deberta-v2", "distilbert"]
OTHERS = {
    "electra": {
        "hidden_size": 16,
        "embedding_size": 8,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
    },
    "albert": {"hidden_size": 16, "embedding_size": 8, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 1},
}


def tiny_config(kind):
    if kind not in OTHERS:
        return make_encoder_config(kind)
    from transformers import AutoConfig

    return AutoConfig.for_model(kind, vocab_size=len(WORDS) + 8, max_position_embeddings=32, **OTHERS[kind])


def head_of(encoder, head):
    config = PromptConfig(
        text_config=deepcopy(encoder.config),
        mlm_head="pretrained",
        mlm_activation=head["activation"],
        mlm_layer_norm_eps=head["eps"],
    )
    made = MaskedLMHead(config)
    made.init_weights(config)
    made.take(head)
    return made


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_head_gives_the_logits_of_the_pretrained_model(kind, tmp_path):
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(tiny_config(kind)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    encoder, head = load_masked_lm(tmp_path)
    made, batch = head_of(encoder.eval(), head), make_batch()
    with torch.no_grad():
        expected = model(**batch).logits
        found = nn.functional.linear(made(encoder(**batch).last_hidden_state), encoder.get_input_embeddings().weight, made.bias)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_checkpoint_without_a_head_gives_none(kind, tmp_path):
    AutoModel.from_config(make_encoder_config(kind)).save_pretrained(tmp_path)
    encoder, head = load_masked_lm(tmp_path)
    assert head is None and encoder.config.model_type == kind


def test_a_missing_encoder_is_named(tmp_path):
    with pytest.raises(OSError, match="There is no text encoder '.*nothing'"):
        load_masked_lm(tmp_path / "nothing")


def test_loss_is_the_cross_entropy_of_the_masked_tokens():
    config = PromptConfig(text_config=make_encoder_config(), mlm_head="fresh")
    head, batch = MaskedLMHead(config), make_batch()
    nn.init.normal_(head.bias)
    head.init_weights(config)
    words, extra, extra_bias = torch.randn(len(WORDS) + 8, 16), torch.randn(3, 16), torch.randn(3)
    states = torch.randn(4, 9 + 2, 16)
    masked = draw_masked(batch["attention_mask"], batch["input_ids"], 0.5)
    masked[2] = False
    assert masked.any()
    found = masked_lm_loss(states, masked, batch["input_ids"], head, words, extra, extra_bias)
    means = []
    for row in range(4):
        values = []
        for place in masked[row].nonzero().flatten().tolist():
            hidden = head(states[row, place])
            logits = torch.cat([words @ hidden + head.bias, extra @ hidden + extra_bias])
            values.append(-torch.log_softmax(logits, 0)[batch["input_ids"][row, place]])
        means.append(sum(values) / len(values) if values else torch.tensor(0.0))
    torch.testing.assert_close(found, torch.stack(means).mean())


def test_masking_draws_its_shares_and_spares_special_tokens():
    torch.manual_seed(0)
    ids = torch.randint(0, 50, (200, 100))
    attention = torch.ones_like(ids)
    attention[:, 80:] = 0
    masked = draw_masked(attention, ids, 0.15, special_ids=[1, 2])
    assert not masked[:, 80:].any() and not (masked & ((ids == 1) | (ids == 2))).any()
    assert masked[:, :80].float().mean() == pytest.approx(0.15 * 0.96, abs=0.01)
    embedding = nn.Embedding(50, 1)
    embedding.weight.data = torch.arange(50.0).unsqueeze(1)
    changed = corrupt(embedding(ids), masked, torch.tensor([-1.0]), embedding, 50, special_ids=[1, 2]).squeeze(2)
    assert torch.equal(changed[~masked], ids[~masked].float())
    is_mask = changed[masked] == -1
    replaced = ~is_mask & (changed[masked] != ids[masked])
    assert is_mask.float().mean() == pytest.approx(0.8, abs=0.02)
    assert replaced.float().mean() == pytest.approx(0.1 * 0.96 * 0.98, abs=0.02)
    assert not torch.isin(changed[masked][replaced], torch.tensor([1.0, 2.0])).any()
    assert torch.equal(draw_masked(attention, ids, 0.15, [1], "all"), attention.bool() & (ids != 1))
    assert torch.equal(corrupt(embedding(ids), masked, torch.ones(1), embedding, 50, mode="all"), embedding(ids))
    fixed = draw_masked(attention, ids, 0.15, [], "fixed")
    assert fixed[0].nonzero().flatten().tolist() == list(range(3, 80, 7))
    changed = corrupt(embedding(ids), fixed, torch.tensor([-1.0]), embedding, 50, mode="fixed").squeeze(2)
    assert torch.equal(changed, torch.where(fixed, -1.0, ids.float()))


def test_head_grows_with_the_words():
    config = PromptConfig(text_config=make_encoder_config())
    assert config.mlm_head == "fresh" and PromptConfig(text_config=make_encoder_config("t5")).mlm_head == "identity"
    head = MaskedLMHead(config)
    nn.init.normal_(head.bias)
    before = head.bias.detach().clone()
    head.resize(len(before) + 3)
    assert torch.equal(head.bias[: len(before)], before) and head.bias[len(before) :].tolist() == [0, 0, 0]


# ---------------------------------------------------------------------------------------------- prompts


def test_prompts_stand_behind_the_last_real_token():
    embeds = torch.arange(1.0, 13.0).view(3, 4, 1)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    prompts = torch.tensor([[-1.0], [-2.0]])
    found, new_mask, places = append_prompts(embeds, mask, prompts)
    assert found.squeeze(2).tolist() == [[1, 2, 3, 4, -1, -2], [5, -1, -2, 6, 7, 8], [-1, -2, 9, 10, 11, 12]]
    assert new_mask.tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]]
    assert places.tolist() == [[4, 5], [1, 2], [0, 1]]
    own = torch.stack([prompts, 10 * prompts, 100 * prompts])
    assert append_prompts(embeds, mask, own)[0].squeeze(2)[1].tolist() == [5, -10, -20, 6, 7, 8]


def test_mean_word_vectors():
    tokenizer, embedding = make_tokenizer(), nn.Embedding(len(WORDS) + 8, 4)
    with torch.no_grad():
        weight = embedding.weight
        ids = tokenizer(["match goal", "the"], add_special_tokens=False)["input_ids"]
        found = mean_word_vectors(embedding, tokenizer, ["match goal", "the", ""])
        torch.testing.assert_close(found, torch.stack([weight[ids[0]].mean(0), weight[ids[1][0]], weight.mean(0)]))
        whole = tokenizer("match goal")["input_ids"]
        assert len(whole) == 4
        found = mean_word_vectors(embedding, tokenizer, ["match goal"], add_special_tokens=True)
        torch.testing.assert_close(found[0], weight[whole].mean(0))
    assert mean_word_vectors(embedding, tokenizer, []).shape == (0, 4)


def test_whole_weight_of_a_plain_embedding_is_its_weight():
    embedding = nn.Embedding(3, 2)
    assert whole_weight(embedding) is embedding.weight
