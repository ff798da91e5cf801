"""What goes into a model: masks and token types that fit the tokens, and token types that reach the encoder."""

import pytest
import torch
from tiny_models import make_batch, make_model, make_tree

import hf_htc
from hf_htc.models.errors import HTCError


METHODS = [*hf_htc.METHODS, "flat, TextRCNN"]


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_masks_and_token_types_of_another_width(method, is_training):
    model, batch = make_model(method, make_tree()).train(is_training), make_batch(4, 9)
    labels = {"labels": torch.tensor([[0], [1], [2], [3]])} if is_training else {}
    assert torch.isfinite(model(**batch, **labels).logits).all()
    embeds = model.get_input_embeddings()(batch["input_ids"])
    for name in ("attention_mask", "token_type_ids"):
        for shape in ((4, 7), (4, 11), (1, 9), (4, 1), (9,), (4, 9, 9), (4, 1, 1, 9)):
            message = rf"`{name}` has the shape \({', '.join(map(str, shape))},?\), but there are tokens of the shape \(4, 9\)"
            wrong = {name: torch.ones(shape, dtype=torch.long)}
            for given in ({**batch, **wrong}, {"inputs_embeds": embeds, **wrong}):
                with pytest.raises(HTCError, match=message) as caught:
                    model(**given, **labels)
                assert caught.value.field == name


@pytest.mark.parametrize(("method", "wrapped"), [("flat", "compiled"), ("flat", "hooked"), ("ptmt", "hooked")])
def test_token_types_reach_an_encoder_in_a_wrapper(method, wrapped):
    model, batch = make_model(method, make_tree()), make_batch(4, 9)
    types = (torch.arange(9) > 3).long().expand(4, -1)
    with torch.no_grad():
        plain, expected = model(**batch).logits, model(**batch, token_type_ids=types).logits
        assert not torch.equal(plain, expected)
        if wrapped == "compiled":
            model.model = torch.compile(model.model, backend="eager")
        else:
            inner = model.model.forward
            model.model.forward = lambda *args, **kwargs: inner(*args, **kwargs)
        assert torch.equal(model(**batch, token_type_ids=types).logits, expected)


@pytest.mark.parametrize("kind", ["distilbert", "t5", "gpt2"])
def test_encoders_without_token_types_never_see_any(kind):
    model, batch = make_model("flat", make_tree(), kind), make_batch(4, 9)
    with torch.no_grad():
        assert torch.equal(model(**batch, token_type_ids=torch.ones(4, 9, dtype=torch.long)).logits, model(**batch).logits)


@pytest.mark.parametrize("method", hf_htc.METHODS)
def test_every_dropout_of_a_model_is_used(method):
    """None stands on the model that no text passes."""
    model, seen = make_model(method, make_tree(), text_dropout=0.25).train(), set()
    modules = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)}
    modules = {name: module for name, module in modules.items() if module.p == 0.25}
    for name, module in modules.items():
        module.register_forward_hook(lambda *args, name=name: seen.add(name))
    model(**make_batch(), labels=torch.tensor([0, 1, 2, 3]))
    assert seen == set(modules) and seen
