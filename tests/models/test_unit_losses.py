"""Losses on units against the numbers of the authors' modules (float64, with gradients), plain loops, and by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_htc.models.configuration_units import UnitConfig
from hf_htc.models.unit_losses import (
    asymmetric_loss,
    decision_logits,
    hbm_loss,
    prior_scores,
    single_label_asymmetric_loss,
    unit_bce,
    unit_cross_entropy,
    unit_loss,
    zlpr_loss,
)
from hf_htc.models.units import Units


FIXTURES = Path(__file__).parent.parent / "fixtures" / "unit"
TOLERANCE = {"rtol": 1e-9, "atol": 1e-10}
CASES = sorted(path.stem for path in FIXTURES.glob("loss_units_*.npz"))


def load(name):
    return {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(FIXTURES / f"{name}.npz").items()}


def make_units(sizes, num_documents=None, document=None):
    """Units that stand one behind the other; `sizes` says how many entries each has."""
    document = torch.arange(len(sizes)) if document is None else torch.as_tensor(document)
    unit = torch.repeat_interleave(torch.arange(len(sizes)), torch.as_tensor(sizes))
    return Units(unit, document, num_documents or int(document.max()) + 1)


def value_and_gradients(loss, *inputs):
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    value = loss(*inputs)
    value.backward()
    return value.detach(), [tensor.grad for tensor in inputs]


def draw(seed, num_documents=3, most=6):
    """Ragged units of random documents: logits, targets, bounds, sizes and documents, in float64."""
    generator = torch.Generator().manual_seed(seed)
    document = [d for d in range(num_documents) for _ in range(int(torch.randint(1, 4, (), generator=generator)))]
    sizes = torch.randint(1, most, (len(document),), generator=generator)
    logits = 3 * torch.randn(int(sizes.sum()), generator=generator, dtype=torch.float64)
    targets = (torch.rand(len(logits), generator=generator) < 0.4).double()
    bounds = torch.randn(len(sizes), generator=generator, dtype=torch.float64)
    return logits, targets, bounds, sizes, torch.tensor(document)


# ---------------------------------------------------------------------------------------------- the authors' numbers


def test_there_are_cases():
    assert len(CASES) >= 3


@pytest.mark.parametrize("case", CASES)
def test_losses_of_the_authors(case):
    data = load(case)
    units, targets = make_units(data["unit_sizes"]), data["targets"].double()
    alpha, margin = float(data["alpha"]), float(data["margin"])
    for name, loss, inputs, gradients in (
        ("bce", lambda x: unit_bce(x, targets, units, "batch"), ["logits"], ["bce_grad_logits"]),
        ("zlpr", lambda x: zlpr_loss(x, targets, units, "batch"), ["logits"], ["zlpr_grad_logits"]),
        (
            "hbm",
            lambda x, t: hbm_loss(x, targets, units, t, alpha, margin, reduction="batch"),
            ["logits", "bounds"],
            ["hbm_grad_logits", "hbm_grad_bounds"],
        ),
    ):
        value, found = value_and_gradients(loss, *(data[key] for key in inputs))
        torch.testing.assert_close(value, data[f"{name}_loss"].double(), **TOLERANCE)
        for key, gradient in zip(gradients, found):
            torch.testing.assert_close(gradient, data[key], **TOLERANCE, msg=key)


def test_loss_of_the_released_hpt():
    """One ZLPR over all labels of a document, each scored at the slot of its level."""
    data = load("loss_hpt_released")
    level, labels = data["label_level"], data["multi_hot"].double()
    batch, depth = data["labels"].shape[:2]

    def joint(scores):
        own = scores.view(batch, depth, -1).gather(1, level.expand(batch, 1, -1)).squeeze(1)
        return zlpr_loss(own.flatten(), labels.flatten(), Units.of_groups(torch.zeros_like(level), 1, batch))

    value, (gradient,) = value_and_gradients(joint, data["pred_scores"])
    torch.testing.assert_close(value, data["loss"], **TOLERANCE)
    torch.testing.assert_close(gradient, data["grad_pred_scores"], **TOLERANCE)
    own = data["pred_scores"].view(batch, depth, -1).gather(1, level.expand(batch, 1, -1)).squeeze(1)
    units = Units.of_groups(level, depth, batch)
    for reduction, expected in (
        ("sum", data["own_per_level_terms"].sum(1).mean()),
        ("document", data["own_per_level_terms"].mean()),
    ):
        torch.testing.assert_close(zlpr_loss(own.flatten(), labels.flatten(), units, reduction), expected, **TOLERANCE)


def test_asymmetric_loss_of_the_authors():
    data = load("asl")
    units = make_units([data["targets"].shape[1]] * len(data["targets"]))
    seen = 0
    for key in [key for key in data if key.endswith("_loss") and key[0] in "gd"]:
        name = key.removesuffix("_loss")
        gammas = name.removeprefix("default_").split("_")[:3]  # g4 g1 c05
        options = {
            "gamma_negative": float(gammas[0][1:]), "gamma_positive": float(gammas[1][1:]), "margin": int(gammas[2][1:]) / 100,
            "detach_focus": "detached" in name, "eps": 1e-8, "reduction": "batch",
        }  # fmt: skip
        value, (gradient,) = value_and_gradients(
            lambda x, o=options: asymmetric_loss(x.flatten(), data["targets"].flatten(), units, **o), data["logits"]
        )
        torch.testing.assert_close(value, data[key], **TOLERANCE, msg=name)
        torch.testing.assert_close(gradient, data[f"{name}_grad"], **TOLERANCE, msg=name)
        seen += 1
    assert seen == 10
    hot = torch.nn.functional.one_hot(data["single_target"], data["logits"].shape[1])
    value, (gradient,) = value_and_gradients(
        lambda x: single_label_asymmetric_loss(x.flatten(), hot.flatten(), units), data["logits"]
    )
    torch.testing.assert_close(value, data["single_loss"], **TOLERANCE)
    torch.testing.assert_close(gradient, data["single_grad"], **TOLERANCE)


def test_weighted_asymmetric_loss_of_the_paper():
    data = load("wasl_from_paper")
    targets, batch = data["targets"], len(data["targets"])
    level = data["label_level"] - data["label_level"].min()
    units = Units.of_groups(level, int(level.max()) + 1, batch)
    weights = data["level_weight"][level].repeat(batch)
    names = [key.removesuffix("_grad") for key in data if key.endswith("_grad")]
    assert len(names) == 3
    for name in names:
        gp, gn, m = (float(part.lstrip("gpnm")) for part in name.split("_"))

        def loss(x, gp=gp, gn=gn, m=m, reduction="batch"):
            return asymmetric_loss(x.flatten(), targets.flatten(), units, gp, gn, m, weights, eps=1e-8, reduction=reduction)

        value, (gradient,) = value_and_gradients(loss, data["logits"])
        torch.testing.assert_close(value, data[f"{name}_batch_sum"], **TOLERANCE)
        torch.testing.assert_close(gradient, data[f"{name}_grad"], **TOLERANCE)
        per_document = data[f"{name}_sum_over_labels_and_levels_per_doc"]
        torch.testing.assert_close(loss(data["logits"], reduction="document"), per_document.mean(), **TOLERANCE)


# ---------------------------------------------------------------------------------------------- plain loops


def split(values, sizes):
    return [part.tolist() for part in torch.split(values, sizes.tolist())]


def hbm_by_loops(logits, targets, bounds, sizes, alpha, margin, bias):
    """The terms of every unit, from plain numbers."""
    terms = []
    for row, hot, t in zip(split(logits, sizes), split(targets, sizes), bounds.tolist()):
        total = 0.0
        for sign, wanted in ((-1, 1.0), (1, 0.0)):
            side = [x for x, y in zip(row, hot) if y == wanted]
            probability = [1 / (1 + math.exp(-2 * sign * (x - t))) for x in side]
            shift = alpha * bias(side)
            total += math.log(1 + sum(math.exp(sign * (x - t) + shift) for x, p in zip(side, probability) if p > margin))
        terms.append(total)
    return terms


def spread(values):
    return np.std(values, ddof=1) if len(values) > 1 else 0.0


def robust_spread(values):
    return 1.4826 * np.median(np.abs(np.asarray(values) - np.median(values))) if values else 0.0


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("name", "bias"), [("std", spread), ("mad", robust_spread)])
def test_hbm_against_loops(seed, name, bias):
    logits, targets, bounds, sizes, document = draw(seed)
    units = make_units(sizes, document=document)
    terms = np.asarray(hbm_by_loops(logits, targets, bounds, sizes, 0.7, 0.15, bias))
    by_document = [terms[document.numpy() == d] for d in range(3)]
    expected = {
        "batch": terms.mean(), "sum": np.mean([row.sum() for row in by_document]),
        "document": np.mean([row.mean() for row in by_document]),
    }  # fmt: skip
    for reduction, value in expected.items():
        found = hbm_loss(logits, targets, units, bounds, 0.7, 0.15, name, reduction)
        assert float(found) == pytest.approx(value, rel=1e-10), reduction


@pytest.mark.parametrize("seed", range(4))
def test_hbm_without_its_parts_is_zlpr_to_the_last_digit(seed):
    logits, targets, bounds, sizes, document = draw(seed)
    units = make_units(sizes, document=document)
    assert torch.equal(hbm_loss(logits, targets, units, bounds * 0, 0, 0), zlpr_loss(logits, targets, units))
    positives = [sum(math.exp(-x) for x, y in zip(*pair) if y) for pair in zip(split(logits, sizes), split(targets, sizes))]
    negatives = [sum(math.exp(x) for x, y in zip(*pair) if not y) for pair in zip(split(logits, sizes), split(targets, sizes))]
    terms = [math.log(1 + p) + math.log(1 + n) for p, n in zip(positives, negatives)]
    assert float(zlpr_loss(logits, targets, units, "batch")) == pytest.approx(np.mean(terms), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_bce_and_cross_entropy_against_loops(seed):
    logits, targets, _, sizes, document = draw(seed)
    units = make_units(sizes, document=document)
    values = [math.log(1 + math.exp(-x if y else x)) for x, y in zip(logits.tolist(), targets.tolist())]
    owner = document.repeat_interleave(sizes).tolist()
    means = [np.mean([v for v, d in zip(values, owner) if d == wanted]) for wanted in range(3)]
    assert float(unit_bce(logits, targets, units)) == pytest.approx(np.mean(means), rel=1e-12)
    assert float(unit_bce(logits, targets, units, "batch")) == pytest.approx(np.mean(values), rel=1e-12)
    terms = []
    for row, hot in zip(split(logits, sizes), split(targets, sizes)):
        normalizer = math.log(sum(map(math.exp, row)))
        gold = [normalizer - x for x, y in zip(row, hot) if y]
        terms.append(np.mean(gold) if gold else 0.0)
    assert float(unit_cross_entropy(logits, targets, units, "batch")) == pytest.approx(np.mean(terms), rel=1e-10)


def test_the_bias_function_can_be_any():
    logits, targets, bounds, sizes, document = draw(0)
    units = make_units(sizes, document=document)

    def widest(values, keep, units):
        return units.max(values.masked_fill(~keep, -math.inf), 0.0)

    terms = hbm_by_loops(logits, targets, bounds, sizes, 0.5, 0.1, lambda side: max([0.0, *side]))
    found = hbm_loss(logits, targets, units, bounds, 0.5, 0.1, widest, "batch")
    assert float(found) == pytest.approx(np.mean(terms), rel=1e-10)


def test_biases_and_margin_carry_no_gradient():
    logits = torch.tensor([2.0, -1.0, 0.5, -3.0], dtype=torch.float64)
    targets, units = torch.tensor([1.0, 1, 0, 0]), make_units([4])
    value, (found,) = value_and_gradients(lambda x: hbm_loss(x, targets, units, alpha=1.0, margin=0.1), logits)
    # By hand: sigmoid(4) > 0.9 and sigmoid(-6) < 0.1 drop the first and the last; biases 3 / sqrt(2) and 3.5 / sqrt(2).
    up, down = math.exp(1 + 3 / math.sqrt(2)), math.exp(0.5 + 3.5 / math.sqrt(2))
    assert float(value) == pytest.approx(math.log(1 + up) + math.log(1 + down))
    assert found.tolist() == pytest.approx([0, -up / (1 + up), down / (1 + down), 0])


def test_exact_asymmetric_loss_keeps_the_gradient_of_what_is_most_wrong():
    units = make_units([2])
    logits, targets = torch.tensor([-40.0, 40.0]), torch.tensor([1.0, 0.0])
    for eps, expected in ((0.0, [-1.0, 0.0]), (1e-8, [0.0, 0.0])):
        _, (gradient,) = value_and_gradients(
            lambda x, eps=eps: asymmetric_loss(x, targets, units, 1.0, 4.0, 0.05, eps=eps), logits
        )
        assert gradient.tolist() == pytest.approx(expected, abs=1e-6)
    value = asymmetric_loss(logits, targets, units, 0.0, 0.0, 0.0)
    assert float(value) == pytest.approx(80.0)  # the cross-entropy, which log(1e-8) cuts at 18.4


# ---------------------------------------------------------------------------------------------- edges


LOSSES = {
    "bce": unit_bce, "zlpr": zlpr_loss, "hbm": hbm_loss, "asl": asymmetric_loss, "cross_entropy": unit_cross_entropy,
    "single": single_label_asymmetric_loss,
    "asl, no focus": lambda *a: asymmetric_loss(*a, gamma_positive=0.0, gamma_negative=0.0, margin=0.0),
    "asl, roots": lambda *a: asymmetric_loss(*a, gamma_positive=0.5, gamma_negative=0.5, margin=0.0),
    "hbm, mad": lambda *a: hbm_loss(*a, bias="mad"),
}  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_finite_in_every_edge_case(loss, scale, dtype):
    sizes = [1, 1, 4, 4, 4, 2]
    targets = torch.tensor([0.0, 1] + [0] * 4 + [1] * 4 + [0, 1, 0, 0] + [1, 0])
    logits = scale * torch.tensor([1.0, -1] + [1, -1, 1, -1] * 2 + [5, -5, 0, 1] + [0.2, -0.2])
    value, (gradient,) = value_and_gradients(
        lambda x: loss(x, targets, make_units(sizes, document=[0, 0, 1, 1, 2, 2])), logits.to(dtype)
    )
    assert value.dtype == torch.float32 and torch.isfinite(value) and float(value) >= 0
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_document_without_units_counts_as_zero(loss):
    logits, targets = torch.tensor([1.0, -2.0]), torch.tensor([1.0, 0.0])
    one, two = (loss(logits, targets, make_units([2], num_documents=n)) for n in (1, 2))
    torch.testing.assert_close(one, 2 * two)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_loss_is_a_mean_over_documents(loss):
    logits, targets, _, sizes, document = draw(3)
    logits, owner = logits.float(), document.repeat_interleave(sizes)
    single = [
        loss(logits[owner == d], targets[owner == d], make_units(sizes[document == d], document=document[document == d] * 0))
        for d in range(3)
    ]
    torch.testing.assert_close(loss(logits, targets, make_units(sizes, document=document)), torch.stack(single).mean())


def test_order_of_the_entries_does_not_matter():
    logits, targets, bounds, sizes, document = draw(5)
    units = make_units(sizes, document=document)
    order = torch.randperm(len(logits))
    mixed = Units(units.unit[order], units.document, units.num_documents)
    for loss in LOSSES.values():
        torch.testing.assert_close(loss(logits[order], targets[order], mixed), loss(logits, targets, units))


def test_everything_outside_the_margin_is_zero():
    value, (gradient,) = value_and_gradients(
        lambda x: hbm_loss(x, torch.tensor([1.0, 0.0]), make_units([2])), torch.tensor([20.0, -20.0])
    )
    assert float(value) == 0 and gradient.tolist() == [0, 0]


# ---------------------------------------------------------------------------------------------- by a config


def make_config(**options):
    from hf_htc import LabelHierarchy

    return UnitConfig(hierarchy=LabelHierarchy.from_paths(["a/b", "c"]), **options)


def test_the_config_chooses_the_loss():
    logits, targets, bounds, sizes, document = draw(1)
    units = make_units(sizes, document=document)
    levels = torch.arange(len(logits)) % 2 + 1
    rows = (logits, targets, units)
    for options, expected in (
        ({"unit_loss": "bce"}, unit_bce(*rows)),
        ({"unit_loss": "bce", "loss_reduction": "batch"}, unit_bce(*rows, "batch")),
        ({}, zlpr_loss(*rows)),
        ({"unit_loss": "hbm"}, hbm_loss(*rows, bounds)),
        (
            {"unit_loss": "hbm", "hbm_alpha": 0.1, "hbm_margin": 0.01, "hbm_bias": "mad"},
            hbm_loss(*rows, bounds, 0.1, 0.01, "mad"),
        ),
        ({"unit_loss": "asl", "asl_gamma_positive": 2, "asl_margin": 0.1}, asymmetric_loss(*rows, 2, 4, 0.1)),
        (
            {"unit_loss": "asl", "asl_detach_focus": True, "asl_eps": 1e-8, "asl_gamma_negative": 1.5},
            asymmetric_loss(*rows, 1, 1.5, detach_focus=True, eps=1e-8),
        ),
        (
            {"unit_loss": "wasl", "level_weights": [1.0, 3.0]},
            asymmetric_loss(*rows, positive_weights=1.0 + 2 * (levels == 2)),
        ),
    ):
        config = make_config(**options)
        assert torch.equal(unit_loss(config, *rows, bounds=bounds, levels=levels), expected), options
    assert make_config().level_weights == [1.0, 2.0]


def test_decision_logits_and_their_inverse():
    logits, bounds = torch.tensor([[0.5, -1.0]]).half(), torch.tensor([[0.25]])
    assert decision_logits(make_config(unit_loss="bce"), logits).tolist() == [[0.5, -1.0]]
    assert decision_logits(make_config(unit_loss="hbm"), logits, bounds).tolist() == [[0.5, -2.5]]
    for kind in ("bce", "zlpr", "hbm", "wasl"):
        config = make_config(unit_loss=kind)
        assert decision_logits(config, prior_scores(config, logits.float())).tolist() == [[0.5, -1.0]]
    assert make_config(unit_loss="hbm").uses_bounds and not make_config(unit_loss="hbm", hbm_bounds=False).uses_bounds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit_loss": "focal"}, "allowed are 'bce', 'zlpr', 'hbm', 'asl', 'wasl'"),
        ({"loss_reduction": "mean"}, "allowed are 'document', 'sum', 'batch'"),
        ({"hbm_margin": 0.5}, r"`hbm_margin` is 0.5; it lies in \[0, 0.5\)"),
        ({"hbm_alpha": -1}, "`hbm_alpha` is -1; it is at least 0"),
        ({"asl_margin": 1}, "`asl_margin` is 1"),
        ({"level_weights": [1.0]}, "one number above 0 for each of the 2 levels"),
        ({"level_weights": [1.0, 0.0]}, "one number above 0"),
        ({"coherence": "training"}, "use `coherence='decoder'`"),
    ],
)
def test_wrong_options_are_refused(options, message):
    from huggingface_hub.errors import StrictDataclassError

    with pytest.raises(StrictDataclassError, match=message):
        make_config(**options)
