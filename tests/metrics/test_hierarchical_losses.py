"""Losses and groups of labels against stored numbers and plain loops over Python sets."""

from __future__ import annotations

import doctest
import json
import math
from pathlib import Path

import numpy as np
import pytest
from set_loops import SHAPES, Loops, draw
from sklearn.metrics import hamming_loss, precision_recall_fscore_support

from hf_htc.metrics.hierarchical_f1 import (
    CLOSURES,
    HierarchicalLosses,
    HierarchicalScorer,
    Taxonomy,
    branches,
    frequency_groups,
    group_scores,
    hierarchical_losses,
    label_groups,
    leaf_labels,
    scorers,
    sibling_costs,
)


FIXTURES = Path(__file__).parents[1] / "fixtures"
SMALL = {case["name"]: case for case in json.loads((FIXTURES / "metrics" / "hiclass_small.json").read_text())["cases"]}
LOSSES = json.loads((FIXTURES / "metrics" / "losses.json").read_text())["cases"]
UNIT = json.loads((FIXTURES / "unit" / "metrics.json").read_text())
ROUNDED = {"abs": 1e-11}


def scored(case, **settings):
    losses = HierarchicalLosses(case["parents"], closure="up", **settings)
    encode = losses.taxonomy.encode
    losses.add(encode(case["pred"], "predictions"), encode(case["gold"], "references"))
    return losses


@pytest.mark.parametrize("expected", LOSSES, ids=lambda case: case["name"])
def test_stored_losses(expected):
    case = SMALL[expected["name"]]
    losses = scored(case)
    scores = losses.compute()
    assert scores["h_loss"] == pytest.approx(expected["h_loss_uniform_cost"]["mean"], **ROUNDED)
    assert scores["h_loss_sibling"] == pytest.approx(expected["h_loss_sibling_cost"]["mean"], **ROUNDED)
    assert scores["hmc_loss"] == scores["h_loss_sibling"]  # alpha = beta = 1
    wrong = np.mean(expected["symmetric_difference_per_sample"])
    assert scores["symmetric_difference"] == pytest.approx(wrong, **ROUNDED)
    assert scores["hamming_loss"] == pytest.approx(wrong / len(case["parents"]), **ROUNDED)
    if "sibling_cost" in expected:
        costs = dict(zip(losses.taxonomy.names, sibling_costs(losses.taxonomy)))
        assert costs == pytest.approx(expected["sibling_cost"], **ROUNDED)
    for key, value in (expected.get("hmc_loss_1.0.0") or {}).items():
        alpha, beta = (float(part.split("=")[1]) for part in key.split(",")[:2])
        assert scored(case, alpha=alpha, beta=beta).compute()["hmc_loss"] == pytest.approx(value, **ROUNDED), key


def test_inconsistency_as_hjcl_has_it():
    losses = HierarchicalLosses(UNIT["parent"])
    losses.add(*([np.flatnonzero(row).tolist() for row in UNIT[name]] for name in ("pred", "gold")))
    scores = losses.compute()
    assert scores["label_inconsistency"] == pytest.approx(UNIT["hjcl_label_inconsistency"], rel=1e-12)
    assert scores["path_inconsistency"] == pytest.approx(UNIT["hjcl_path_inconsistency"], rel=1e-12)


def cost_of(loops, node, taxonomy):
    above = taxonomy.parents[node]
    if not above:
        return 1 / sum(not parents for parents in taxonomy.parents)
    return sum(cost_of(loops, p, taxonomy) / sum(p in parents for parents in taxonomy.parents) for p in above)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("closure", CLOSURES)
def test_equals_plain_loops(closure, shape, seed):
    parents, num_labels, predictions, references = draw(seed, shape)
    loops = Loops(parents, num_labels, closure, predictions, references)
    losses = HierarchicalLosses(parents, num_labels, closure=closure, alpha=0.5, beta=2.0)
    losses.add(predictions, references)
    scores = losses.compute()
    h, sibling, hmc, difference, broken, whole = 0, 0.0, 0.0, 0, [], []
    for predicted, gold in zip(loops.predicted, loops.gold):
        wrong = predicted ^ gold
        difference += len(wrong)
        for label in wrong:
            if not loops.above[label] & wrong:
                cost = cost_of(loops, label, losses.taxonomy)
                h, sibling = h + 1, sibling + cost
                hmc += cost * (0.5 if label in gold else 2.0)
        paths = [{end} | loops.above[end] for end in loops.ends(gold)]
        if paths:
            broken.append(np.mean([any(not loops.above[v] <= predicted for v in path & predicted) for path in paths]))
        whole += [loops.above[end] <= predicted for end in loops.ends(predicted)]
    number = len(predictions)
    expected = {
        "h_loss": h / number,
        "h_loss_sibling": sibling / number,
        "hmc_loss": hmc / number,
        "symmetric_difference": difference / number,
        "hamming_loss": hamming_loss(loops.matrix(loops.gold), loops.matrix(loops.predicted)),
        "label_inconsistency": 1 - np.mean([loops.above[v] <= row for row in loops.predicted for v in row]),
        "path_inconsistency": np.mean(broken),
        "path_validity": np.mean(whole),
        "num_documents": number,
        "num_labels": num_labels,
        "alpha": 0.5,
        "beta": 2.0,
    }
    assert scores.pop("closure") == closure
    assert scores == pytest.approx(expected, rel=1e-12, abs=1e-14)
    assert (closure == "none") == (scores["path_inconsistency"] > 0)


def test_pieces_and_merged_parts_give_the_same_bits(monkeypatch):
    parents, num_labels, predictions, references = draw(0, "dag")
    whole, first, second = (HierarchicalLosses(parents, closure="none", alpha=3) for _ in range(3))
    whole.add(predictions, references)
    monkeypatch.setattr(scorers, "_BLOCK_PAIRS", 5)
    second.add(predictions[25:], references[25:])
    first.add(predictions[:25], references[:25])
    second.merge(first)
    assert second.compute() == whole.compute()
    with pytest.raises(ValueError, match="differ in `alpha`: 3.0 and 1.0"):
        whole.merge(HierarchicalLosses(parents, closure="none"))
    with pytest.raises(TypeError, match="Only a HierarchicalLosses can be merged; got HierarchicalScorer"):
        whole.merge(HierarchicalScorer(parents))
    whole.reset()
    with pytest.raises(ValueError, match="no document was added"):
        whole.compute()


def test_nothing_predicted_breaks_nothing():
    losses = HierarchicalLosses([[], [0]])
    losses.add([[], []], [[0, 1], []])
    scores = losses.compute()
    assert (scores["label_inconsistency"], scores["path_inconsistency"], scores["path_validity"]) == (0, 0, 1)
    assert (scores["h_loss"], scores["symmetric_difference"]) == (0.5, 1.0)  # 0 is paid for, 1 below it is not


def test_labels_without_any_hierarchy():
    losses = HierarchicalLosses([[], [], [], []])
    losses.add([[0, 1]], [[1, 2]])
    scores = losses.compute()
    assert (scores["h_loss"], scores["h_loss_sibling"], scores["hamming_loss"]) == (2.0, 0.5, 0.5)


def test_h_loss_of_a_deep_mistake_is_paid_once():
    # 0 <- 2 (structure only) <- 1: the cost of 1 comes through 2; another top label 3 is unused.
    taxonomy = Taxonomy([[], [3], [], [0]], num_labels=3)
    assert sibling_costs(taxonomy).tolist() == [0.5, 0.5, 0.5, 0.5]
    losses = HierarchicalLosses(taxonomy)
    losses.add([[0, 1]], [[2]])
    assert losses.compute()["h_loss_sibling"] == 1.0


@pytest.mark.parametrize("settings", [{"alpha": -1}, {"beta": math.inf}, {"alpha": True}, {"closure": "down"}])
def test_wrong_settings(settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}` (must be|is)"):
        HierarchicalLosses([[]], **settings)


class TestGroups:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("closure", CLOSURES)
    def test_equal_scikit_learn_on_their_columns(self, closure, shape):
        parents, num_labels, predictions, references = draw(1, shape)
        loops = Loops(parents, num_labels, closure, predictions, references)
        scorer = HierarchicalScorer(parents, num_labels, closure=closure)
        scorer.add(predictions, references)
        groups = {"leaf": leaf_labels(scorer.taxonomy), **branches(scorer.taxonomy), "none": []}
        scores = group_scores(scorer, groups)
        gold, predicted = loops.matrix(loops.gold), loops.matrix(loops.predicted)
        for name, members in list(groups.items())[:-1]:
            for average in ("micro", "macro"):
                p, r, f, _ = precision_recall_fscore_support(gold, predicted, average=average, labels=members, zero_division=0)
                assert scores[f"{name}_{average}_f1"] == pytest.approx(f, rel=1e-12)
                if average == "micro":
                    assert (scores[f"{name}_micro_precision"], scores[f"{name}_micro_recall"]) == pytest.approx((p, r))
            assert scores[f"{name}_num_labels"] == len(members)
        assert scores["none_micro_f1"] == scores["none_macro_f1"] == 0
        assert (scores["closure"], scores["beta"], scores["labels"]) == (closure, 1.0, "all")
        supported = group_scores(scorer, {"all": range(num_labels)}, labels="supported", zero_division=1.0)
        assert supported["all_macro_f1"] == scorer.compute()["macro_f1_supported"]

    @pytest.mark.parametrize("shape", SHAPES)
    def test_members(self, shape):
        parents, num_labels, *_ = draw(0, shape)
        loops = Loops(parents, num_labels, "none", [], [])
        taxonomy = Taxonomy(parents, num_labels=num_labels)
        leaves = [v for v in range(num_labels) if not any(v in loops.above[other] for other in range(num_labels))]
        assert leaf_labels(taxonomy).tolist() == leaves
        expected = {}
        for top in [node for node, above in enumerate(parents) if not above]:
            members = [v for v in range(num_labels) if v == top or top in loops._ancestors(v)]
            if members:
                expected[f"node_{top}"] = members
        assert {name: ids.tolist() for name, ids in branches(taxonomy).items()} == expected
        if shape != "tree":
            assert sum(map(len, expected.values())) > num_labels  # a DAG's branches overlap

    def test_branches_have_names(self):
        found = branches(Taxonomy({"Arts": [], "Film": ["Arts"], "Sport": []}))
        assert {name: ids.tolist() for name, ids in found.items()} == {"Arts": [0, 1], "Sport": [2]}

    def test_frequency(self):
        counts = [0, 1, 50, 51, 7, 0]
        groups = frequency_groups(counts)
        assert {k: v.tolist() for k, v in groups.items()} == {"zero": [0, 5], "few": [1, 2, 4], "frequent": [3]}
        groups = frequency_groups(np.array(counts), bounds=(0, 1, 10))
        assert {k: v.tolist() for k, v in groups.items()} == {"0": [0, 5], "1": [1], "2-10": [4], ">10": [2, 3]}
        for bad in ([0.5], [-1], [[1]]):
            with pytest.raises(ValueError, match="`label_counts` must hold one whole number"):
                frequency_groups(bad)
        with pytest.raises(ValueError, match="`bounds` must be rising"):
            frequency_groups([1], bounds=(5, 5))

    def test_errors(self):
        scorer = HierarchicalScorer([[], [0]])
        with pytest.raises(ValueError, match="no document was added"):
            group_scores(scorer, {})
        scorer.add([[0]], [[0]])
        with pytest.raises(ValueError, match="The group 'x' has ids outside"):
            group_scores(scorer, {"x": [2]})
        with pytest.raises(ValueError, match="`labels` must be"):
            group_scores(scorer, {}, labels="some")
        with pytest.raises(ValueError, match="`zero_division` must be"):
            group_scores(scorer, {}, zero_division=2)


@pytest.mark.parametrize("module", [hierarchical_losses, label_groups])
def test_docstring_examples(module):
    result = doctest.testmod(module)
    assert result.attempted >= 4 and result.failed == 0
