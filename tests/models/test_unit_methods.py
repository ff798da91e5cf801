"""Every unit method with every loss on units, on trees and DAGs: what test_contract.py asks of a few of these pairs."""

import pytest
import torch
from tiny_models import HIERARCHIES, ids_tensor, make_batch, make_hierarchy, make_label_sets, make_model

import hf_htc
from hf_htc.models.configuration_units import BINARY_UNIT_LOSSES, UnitConfig


METHODS = [method for method in hf_htc.METHODS if issubclass(hf_htc.config_class(method), UnitConfig)]


def logits_of(model, batch):
    with torch.no_grad():
        return model(**batch).logits


@pytest.fixture(params=[(m, loss, h) for m in METHODS for loss in BINARY_UNIT_LOSSES for h in HIERARCHIES], ids="-".join)
def case(request):
    """Model, hierarchy, batch, label sets."""
    method, loss, kind = request.param
    hierarchy = make_hierarchy(kind)
    return make_model(method, hierarchy, unit_loss=loss), hierarchy, make_batch(), make_label_sets(hierarchy, 4)


def test_there_are_unit_methods():
    assert {"hpt", "ptmt"} <= set(METHODS)


def test_a_few_steps_lower_the_loss(case):
    model, _, batch, sets = case
    labels = ids_tensor(sets)
    first = model(**batch, labels=labels)
    assert model.config.unit_loss in first.losses and torch.isfinite(first.loss)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(12):
        model(**batch, labels=labels).loss.backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
    assert float(model(**batch, labels=labels).loss) < float(first.loss)


def test_loss_is_a_mean_over_documents(case):
    model, _, batch, sets = case
    whole = model(**batch, labels=ids_tensor(sets)).loss
    single = [model(**{k: v[i : i + 1] for k, v in batch.items()}, labels=ids_tensor(sets[i : i + 1])).loss for i in range(4)]
    torch.testing.assert_close(torch.stack(single).mean(), whole, rtol=1e-4, atol=1e-5)


def test_labels_neighbours_and_reloading_leave_the_logits(case, tmp_path):
    model, _, batch, sets = case
    expected = logits_of(model, batch)
    assert torch.isfinite(expected).all() and expected.dtype == torch.float32
    assert torch.equal(logits_of(model, {**batch, "labels": ids_tensor(sets)}), expected)
    for row in range(4):
        length = int(batch["attention_mask"][row].sum())
        alone = {key: value[row : row + 1, :length] for key, value in batch.items()}
        torch.testing.assert_close(logits_of(model, alone)[0], expected[row], atol=2e-5, rtol=1e-4)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits_of(type(model).from_pretrained(tmp_path).eval(), batch), expected)


def test_reduction_over_the_batch_is_another_mean(case):
    model, _, batch, sets = case
    labels = ids_tensor(sets)
    name = model.config.unit_loss
    values = []
    for reduction in ("document", "sum", "batch"):
        model.config.loss_reduction = reduction
        values.append(float(model(**batch, labels=labels).losses[name]))
    assert values[1] > 0 and len(set(values)) >= 2
