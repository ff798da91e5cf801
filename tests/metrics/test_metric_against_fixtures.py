"""The scorer against stored numbers of other tools and of the papers' own modules."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hf_htc.metrics.hierarchical_f1 import AVERAGES, HierarchicalScorer


FIXTURES = Path(__file__).parents[1] / "fixtures"
SMALL = json.loads((FIXTURES / "metrics" / "hiclass_small.json").read_text())["cases"]
POLICIES = json.loads((FIXTURES / "metrics" / "raw_multilabel_policies.json").read_text())
UNIT = json.loads((FIXTURES / "unit" / "metrics.json").read_text())
HIAGM = json.loads((FIXTURES / "global" / "hiagm_metrics.json").read_text())

ROUNDED = {"abs": 1e-11}  # the stored numbers have 12 decimal places


def scored(case: dict, closure: str, beta: float = 1.0) -> HierarchicalScorer:
    scorer = HierarchicalScorer(case["parents"], closure=closure, beta=beta)
    encode = scorer.taxonomy.encode
    scorer.add(encode(case["pred"], "predictions"), encode(case["gold"], "references"))
    return scorer


def rows_of(matrix) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in np.asarray(matrix)]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case["name"])
def test_small_cases_equal_scikit_learn_on_closed_matrices(case):
    expected = case["expected"]["sklearn_1.9.1_on_closed_matrix"]
    scores = scored(case, "up").compute()
    for average in AVERAGES:
        for name in ("precision", "recall", "f1"):
            assert scores[f"{average}_{name}"] == pytest.approx(expected[average][name], **ROUNDED), (average, name)
    assert scores["exact_match"] == pytest.approx(expected["subset_accuracy"], **ROUNDED)
    assert scores["macro_f1_supported"] == pytest.approx(expected["macro_supported_labels"]["f1"], **ROUNDED)
    assert scores["num_supported_labels"] == expected["macro_supported_labels"]["n_labels"]
    supported = scored(case, "up").compute(averages="macro", labels="supported")
    for name in ("precision", "recall", "f1"):
        assert supported[f"macro_{name}"] == pytest.approx(expected["macro_supported_labels"][name], **ROUNDED)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case["name"])
def test_small_cases_equal_hiclass(case):
    expected = case["expected"]["hiclass_5.0.8"]
    scores = scored(case, "up").compute()
    compared = 0
    for ours, theirs in (("micro", "micro"), ("samples", "macro")):  # its "macro" is the mean over samples
        for name in ("precision", "recall", "f1"):
            value = expected[theirs][name]
            if not isinstance(value, str):  # a string is the error that it raised on an empty set
                assert scores[f"{ours}_{name}"] == pytest.approx(value, **ROUNDED), (ours, name)
                compared += 1
    assert compared >= 1


@pytest.mark.parametrize("case", [case for case in SMALL if case["name"] != "dag"], ids=lambda case: case["name"])
def test_small_cases_equal_sklearn_hierarchical_classification(case):
    expected = case["expected"]["sklearn_hierarchical_classification_1.3.2"]["micro"]
    for key, beta in (("f1", 1.0), ("f0.5", 0.5), ("f2", 2.0)):
        if expected[key] is not None:  # it has NaN where nothing is predicted
            scores = scored(case, "up", beta).compute()
            assert scores["micro_f1" if beta == 1 else "micro_fbeta"] == pytest.approx(expected[key], **ROUNDED)


def test_mean_of_sample_f_is_not_the_f_of_the_means():
    scores = scored(next(case for case in SMALL if case["name"] == "multi_path"), "up").compute()
    precision, recall = scores["samples_precision"], scores["samples_recall"]
    assert scores["samples_f1"] == pytest.approx(0.7238, abs=5e-5)
    assert 2 * precision * recall / (precision + recall) == pytest.approx(0.7678, abs=5e-5)


@pytest.mark.parametrize("closure", ["none", "up", "prune"])
def test_policies(closure):
    expected = POLICIES["policies"][closure]
    scorer = scored(POLICIES, closure)
    scores = scorer.compute()
    for average in AVERAGES:
        for name in ("precision", "recall", "f1"):
            assert scores[f"{average}_{name}"] == pytest.approx(expected[average][name], **ROUNDED), (average, name)
    assert scores["closure"] == closure
    assert scores["exact_match"] == pytest.approx(expected["subset_accuracy"], **ROUNDED)
    assert scores["consistency"] == pytest.approx(expected["label_consistency"], **ROUNDED)
    assert scores["document_consistency"] == pytest.approx(expected["sample_consistency"], **ROUNDED)
    table = scorer.per_label()
    for level, values in expected["per_level_micro"].items():
        here = table["level"] == int(level)
        tp, predicted, support = (table[name][here].sum() for name in ("tp", "predicted", "support"))
        assert tp / max(predicted, 1) == pytest.approx(values["precision"], **ROUNDED)
        assert tp / support == pytest.approx(values["recall"], **ROUNDED)
        assert scores[f"level_{level}_micro_f1"] == pytest.approx(values["f1"], **ROUNDED)
    wrong = table["predicted"].sum() + table["support"].sum() - 2 * table["tp"].sum()
    assert wrong / (6 * 13) == pytest.approx(expected["hamming_loss"], **ROUNDED)


def test_policy_path_constrained():
    expected = POLICIES["policies"]["path_constrained"]
    scorer = scored(POLICIES, "none")
    scores, table = scorer.compute(), scorer.per_label()
    assert [int(table[name].sum()) for name in ("c_tp", "predicted", "support")] == expected["micro"]["counts"]
    assert scores["c_micro_f1"] == pytest.approx(expected["micro"]["f1"], **ROUNDED)
    assert scores["c_macro_f1"] == pytest.approx(expected["macro_f1_all_labels"], **ROUNDED)


def test_the_definition_of_hiagm_hpt_and_hgclr():
    expected = UNIT["hiagm_hpt_hgclr"]
    scorer = HierarchicalScorer(UNIT["parent"])
    scorer.add(rows_of(UNIT["pred"]), rows_of(UNIT["gold"]))
    scores = scorer.compute()
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, rel=1e-12)
    for name, value in UNIT["hbm"].items():
        assert scores[name] == pytest.approx(value, abs=1e-11)  # the same with an epsilon of 1e-12
    assert scores["consistency"] == pytest.approx(1 - UNIT["hjcl_label_inconsistency"], rel=1e-12)
    table = scorer.per_label()
    below = table["level"] > 1
    path_accuracy = table["consistent"][below].sum() / table["predicted"][below].sum()
    assert path_accuracy == pytest.approx(UNIT["hpt_path_accuracy"], rel=1e-12)


def test_macro_hf1_on_ancestor_augmented_predictions():
    closed = HierarchicalScorer(UNIT["parent"], closure="up")
    closed.add(rows_of(UNIT["pred"]), rows_of(UNIT["gold"]))
    scores, table = closed.compute(), closed.per_label()
    assert scores["micro_precision"] == pytest.approx(UNIT["h_precision_pooled"], rel=1e-12)
    assert scores["micro_recall"] == pytest.approx(UNIT["h_recall_pooled"], rel=1e-12)
    np.testing.assert_allclose(table["precision"], UNIT["h_precision_per_label"], rtol=1e-12)
    np.testing.assert_allclose(table["recall"], UNIT["h_recall_per_label"], rtol=1e-12)
    assert scores["macro_hf1"] == pytest.approx(UNIT["macro_hF1_from_macro_precision_recall"], rel=1e-12)
    assert scores["macro_f1"] == pytest.approx(UNIT["macro_hF1_mean_of_per_label_f1"], rel=1e-12)
    as_is = HierarchicalScorer(UNIT["parent"], closure="none")
    as_is.add(rows_of(UNIT["pred_ancestor_augmented"]), rows_of(UNIT["gold"]))
    assert scores == {**as_is.compute(), "closure": "up"}


def test_prune_equals_predictions_pruned_by_parent():
    pruned = HierarchicalScorer(UNIT["parent"], closure="prune")
    pruned.add(rows_of(UNIT["pred"]), rows_of(UNIT["gold"]))
    as_is = HierarchicalScorer(UNIT["parent"], closure="none")
    as_is.add(rows_of(UNIT["pred_pruned_by_parent"]), rows_of(UNIT["gold"]))
    assert pruned.compute() == {**as_is.compute(), "closure": "prune"}
    assert UNIT["pred_pruned_by_parent"] != UNIT["pred"]


def test_hiagm_variants_of_macro_f1():
    names = HIAGM["labels"]
    predicted = np.asarray(HIAGM["prob"]) > HIAGM["threshold"]
    scorer = HierarchicalScorer([[] for _ in names], names=names)
    scorer.add(rows_of(predicted), HIAGM["gold"])
    scores, table = scorer.compute(), scorer.per_label()
    for name in ("micro_precision", "micro_recall", "micro_f1"):
        assert scores[name] == pytest.approx(HIAGM[name], rel=1e-12)
    np.testing.assert_allclose(table["f1"], HIAGM["per_label_f1"], rtol=1e-12)
    assert scores["macro_f1"] == pytest.approx(HIAGM["macro_f1_mean_over_all_labels"], rel=1e-12)
    assert scores["macro_f1_supported"] == pytest.approx(HIAGM["macro_f1_over_labels_gold_or_predicted"], rel=1e-12)
    with_gold = table["f1"][table["support"] > 0].mean()
    assert with_gold == pytest.approx(HIAGM["macro_f1_over_labels_with_gold_only"], rel=1e-12)
    assert scores["macro_hf1"] == pytest.approx(HIAGM["macro_f1_june2020_harmonic_of_macroP_macroR"], rel=1e-12)
