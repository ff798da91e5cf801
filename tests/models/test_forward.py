"""The one `forward` of all methods, and what it passes on to the text encoder."""

import inspect

import pytest
import torch
from tiny_models import make_batch, make_model, make_tree
from transformers.utils import find_labels

import hf_htc
from hf_htc import HTCPreTrainedModel
from hf_htc.models.errors import HTCError, HTCTypeError


def seen_by_encoder(model, **inputs):
    """The keywords that the text encoder gets."""
    seen = {}
    handle = model.model.register_forward_pre_hook(lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True)
    with torch.no_grad():
        output = model(**inputs)
    handle.remove()
    return seen, output


@pytest.mark.parametrize("method", hf_htc.METHODS)
def test_every_method_has_the_same_forward(method):
    model_class = hf_htc.model_class(method)
    assert model_class.forward is HTCPreTrainedModel.forward
    # What the Trainer asks: the columns that it keeps, and which of them are labels.
    columns = list(inspect.signature(model_class.forward).parameters)
    assert columns[1:6] == ["input_ids", "attention_mask", "token_type_ids", "inputs_embeds", "labels"]
    assert find_labels(model_class) == ["labels"]


@pytest.mark.parametrize("encoder", ["bert", "modernbert", "distilbert", "gpt2"])
def test_position_ids_reach_the_encoder_and_move_along_with_the_tokens(encoder):
    model, batch = make_model("hiagm", make_tree(), encoder), make_batch()
    length = batch["input_ids"].shape[1]
    positions = torch.arange(length).expand_as(batch["input_ids"])
    with torch.no_grad():
        plain, given = model(**batch).logits, model(**batch, position_ids=positions).logits
    torch.testing.assert_close(given, plain)
    reversed_positions = positions.flip(1)
    seen, right = seen_by_encoder(model, **batch, position_ids=reversed_positions)
    assert torch.equal(seen["position_ids"], reversed_positions)
    assert not torch.allclose(right.logits, plain)
    # The same documents padded left: every token keeps its position.
    shifts = (batch["attention_mask"] == 0).sum(1).tolist()
    rolled = {name: torch.stack([row.roll(shift) for row, shift in zip(values, shifts)]) for name, values in batch.items()}
    moved = torch.stack([row.roll(shift) for row, shift in zip(reversed_positions, shifts)])
    with torch.no_grad():
        torch.testing.assert_close(model(**rolled, position_ids=moved).logits, right.logits)


def test_lengths_of_packed_texts_reach_the_encoder():
    model, batch = make_model("flat", make_tree()), make_batch()
    lengths = {"cu_seq_lens_q": torch.tensor([0, 4, 9]), "max_length_q": 5}
    seen, _ = seen_by_encoder(model, **batch, **lengths, cu_seq_lens_k=None)
    assert torch.equal(seen["cu_seq_lens_q"], lengths["cu_seq_lens_q"]) and seen["max_length_q"] == 5
    assert "cu_seq_lens_k" not in seen


@pytest.mark.parametrize(
    ("method", "encoder", "keyword", "known"),
    [
        ("flat", "bert", "label", "position_ids"),
        ("flat", "bert", "num_items_in_batch", "position_ids"),
        ("hiagm", "htc_textrcnn", "position_ids", r"\(htc_textrcnn\): output_attentions, output_hidden_states"),
        ("flat", "t5", "position_ids", "output_attentions"),
        ("hpt", "bert", "position_ids", r"\(bert, with prompts\): output_attentions, output_hidden_states"),
        ("ptmt", "bert", "cu_seq_lens_q", "with prompts"),
    ],
)
def test_a_keyword_that_nobody_takes_is_refused_by_its_name(method, encoder, keyword, known):
    model, batch = make_model(method, make_tree(), encoder), make_batch()
    with pytest.raises(HTCTypeError, match=f"takes no `{keyword}`.*{known}"):
        model(**batch, **{keyword: torch.ones_like(batch["input_ids"])})


@pytest.mark.parametrize("method", hf_htc.METHODS)
def test_only_methods_with_units_give_them(method):
    model, batch = make_model(method, make_tree()), make_batch()
    if model.has_units:
        assert model(**batch, output_units=True).units["scores"].dim() == 1
        assert model(**batch).units is None
    else:
        with pytest.raises(HTCError, match=f"`output_units=True` is for methods .* {type(model).__name__} does not"):
            model(**batch, output_units=True)
        assert model(**batch, output_units=False).units is None


def test_a_tuple_instead_of_an_output_by_keyword_or_config():
    model, batch = make_model("flat", make_tree()), make_batch()
    labels = torch.zeros(4, 13)
    output = model(**batch, labels=labels, output_hidden_states=True)
    assert len(output.hidden_states) == 3
    for found in (model(**batch, labels=labels, return_dict=False), model(**batch, labels=labels, return_dict=None)):
        assert torch.equal(found[0], output.loss) and torch.equal(found[1], output.logits)
    model.config.return_dict = False
    found = model(**batch, labels=labels)
    assert isinstance(found, tuple) and torch.equal(found[1], output.logits)
    assert isinstance(model(**batch, return_dict=True), hf_htc.HTCOutput)
