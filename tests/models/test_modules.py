"""`CachingModule`: what is computed once at inference is right whatever happens to the weights."""

import copy

import pytest
import torch
from tiny_models import make_batch, make_model, make_texts, make_tokenizer, make_tree

from hf_htc.models.modules import CachingModule


CACHING = ["hpt", "himatch", "himatch, dot product"]


def logits_of(model):
    with torch.no_grad():
        return model(**make_batch()).logits


@pytest.mark.parametrize("method", CACHING)
def test_weights_that_are_swapped_through_data_are_noticed(method):
    model = make_model(method, make_tree())
    before = logits_of(model)
    averaged = {name: tensor + 0.1 * torch.randn_like(tensor) for name, tensor in model.named_parameters()}
    kept = {name: tensor.data.clone() for name, tensor in model.named_parameters()}
    for name, tensor in model.named_parameters():
        tensor.data.copy_(averaged[name])
    fresh = copy.deepcopy(model)  # caches do not travel
    assert torch.equal(logits_of(model), logits_of(fresh)) and not torch.equal(logits_of(fresh), before)
    for name, tensor in model.named_parameters():
        tensor.data = kept[name]
    assert torch.equal(logits_of(model), before)


@pytest.mark.parametrize("method", ["hpt", "himatch, dot product"])
def test_predict_computes_once_and_sees_what_was_swapped_between_two_calls(method, monkeypatch):
    model, tokenizer, texts = make_model(method, make_tree()), make_tokenizer(), make_texts(12)
    compared, computed, (module,) = [], [], [m for m in model.modules() if isinstance(m, CachingModule)]
    compute = "_make_prompts" if method == "hpt" else "_label_semantics"
    original, equal = getattr(type(module), compute), torch.equal
    monkeypatch.setattr(type(module), compute, lambda self: computed.append(1) or original(self))
    monkeypatch.setattr(torch, "equal", lambda a, b: compared.append(1) or equal(a, b))
    first = model.predict(texts, tokenizer, batch_size=2, threshold=0.0)
    assert len(computed) == 1 and compared == []
    model.predict(texts, tokenizer, batch_size=2)
    num_sources = len(compared)
    assert len(computed) == 1 and num_sources > 2
    model.predict(texts, tokenizer, batch_size=12)
    assert len(compared) == 2 * num_sources  # once per call, whatever the number of batches
    for tensor in model.classifier.parameters():
        tensor.data.mul_(0.5)
    second = model.predict(texts, tokenizer, threshold=0.0)
    assert len(computed) == 2 and second != first
    assert second == copy.deepcopy(model).predict(texts, tokenizer, threshold=0.0)
