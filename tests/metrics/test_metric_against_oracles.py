"""The scorer against scikit-learn on dense closed matrices, hiclass, and plain loops over Python sets."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from set_loops import SHAPES, Loops, draw, random_hierarchy
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from hf_htc.metrics.hierarchical_f1 import AVERAGES, CLOSURES, HierarchicalScorer


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("closure", CLOSURES)
def test_equals_scikit_learn_for_every_average_and_zero_division(closure, shape, seed):
    parents, num_labels, predictions, references = draw(seed, shape)
    loops = Loops(parents, num_labels, closure, predictions, references)
    gold, predicted = loops.matrix(loops.gold), loops.matrix(loops.predicted)
    for beta in (1.0, 0.5, 2.0):
        scorer = HierarchicalScorer(parents, num_labels=num_labels, closure=closure, beta=beta)
        scorer.add(predictions, references)
        f = "f1" if beta == 1 else "fbeta"
        for zero_division, average in itertools.product((0.0, 1.0, math.nan), AVERAGES):
            scores = scorer.compute(averages=average, zero_division=zero_division)
            expected = precision_recall_fscore_support(gold, predicted, beta=beta, average=average, zero_division=zero_division)
            ours = [scores[f"{average}_{name}"] for name in ("precision", "recall", f)]
            np.testing.assert_allclose(ours, expected[:3], rtol=1e-12, err_msg=f"{average} {zero_division} {beta}")
        by_label = precision_recall_fscore_support(gold, predicted, beta=beta, average=None, zero_division=0.0)
        table = scorer.per_label()
        for name, values in zip(("precision", "recall", f, "support"), by_label):
            np.testing.assert_allclose(table[name], values, rtol=1e-12)
        assert scores["exact_match"] == pytest.approx(accuracy_score(gold, predicted))


@pytest.mark.parametrize("zero_division", [0.0, 1.0, math.nan])
def test_zero_division_where_a_whole_side_is_empty(zero_division):
    parents, num_labels = [[], [0], [0]], 3
    cases = {"no predictions": ([[], []], [[0], [1]]), "no gold": ([[0], [1, 2]], [[], []]), "neither": ([[]], [[]])}
    for predictions, references in cases.values():
        scorer = HierarchicalScorer(parents)
        scorer.add(predictions, references)
        loops = Loops(parents, num_labels, "none", predictions, references)
        gold, predicted = loops.matrix(loops.gold), loops.matrix(loops.predicted)
        for average in AVERAGES:
            scores = scorer.compute(averages=average, zero_division=zero_division)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = precision_recall_fscore_support(gold, predicted, average=average, zero_division=zero_division)
            ours = [scores[f"{average}_{name}"] for name in ("precision", "recall", "f1")]
            np.testing.assert_allclose(ours, expected[:3], rtol=1e-12, err_msg=average)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("closure", CLOSURES)
def test_equals_plain_loops(closure, shape, seed):
    parents, num_labels, predictions, references = draw(seed, shape)
    loops = Loops(parents, num_labels, closure, predictions, references)
    every = range(num_labels)
    occurring = set().union(*loops.predicted, *loops.gold)
    for beta, labels in itertools.product((1.0, 2.0), ("all", "supported")):
        scorer = HierarchicalScorer(parents, num_labels=num_labels, closure=closure, beta=beta)
        scorer.add(predictions, references)
        scores = scorer.compute(labels=labels)
        f = "f1" if beta == 1 else "fbeta"

        def mean(values, chosen):
            return pytest.approx(np.mean([values[label] for label in chosen]) if chosen else 0.0, rel=1e-12)

        counted = set(every) if labels == "all" else occurring
        micro, by_label = loops.f_scores(loops.plain, every, beta)
        assert scores[f"micro_{f}"] == pytest.approx(micro, rel=1e-12)
        assert scores[f"macro_{f}"] == mean(by_label, counted)
        assert scores[f"macro_{f}_supported"] == mean(by_label, occurring)
        assert scores["num_supported_labels"] == len(occurring)
        assert shape == "dag_with_structure_nodes" or len(occurring) < num_labels  # there "all" is not "supported"

        micro, by_label = loops.f_scores(loops.constrained, every, beta)
        assert scores[f"c_micro_{f}"] == pytest.approx(micro, rel=1e-12)
        assert scores[f"c_macro_{f}"] == mean(by_label, counted)

        micro, by_label = loops.f_scores(loops.paths, every, beta)
        ending = set().union(*(loops.ends(row) for row in loops.predicted + loops.gold))
        assert scores[f"p_micro_{f}"] == pytest.approx(micro, rel=1e-12)
        assert scores[f"p_macro_{f}"] == mean(by_label, ending)

        present = sorted({loops.levels[label] for label in every})
        assert [key for key in scores if key.endswith(f"_micro_{f}") and key.startswith("level_")] == [
            f"level_{level}_micro_{f}" for level in present
        ]
        for level in present:
            here = [label for label in every if loops.levels[label] == level]
            micro, by_label = loops.f_scores(loops.plain, here, beta) if here else (0.0, {})
            assert scores[f"level_{level}_micro_{f}"] == pytest.approx(micro, rel=1e-12)
            assert scores[f"level_{level}_macro_{f}"] == mean(by_label, [label for label in here if label in counted])

    flags = [loops.above[label] <= row for row in loops.predicted for label in row]
    assert scores["consistency"] == pytest.approx(np.mean(flags), rel=1e-12)
    documents = [all(loops.above[label] <= row for label in row) for row in loops.predicted]
    assert scores["document_consistency"] == pytest.approx(np.mean(documents), rel=1e-12)
    assert scores["exact_match"] == pytest.approx(np.mean([p == g for p, g in zip(loops.predicted, loops.gold)]))
    if closure != "none":
        assert scores["consistency"] == 1 and scores[f"c_micro_{f}"] == scores[f"micro_{f}"]


def test_the_policies_differ_on_random_sets():
    parents, num_labels, predictions, references = draw(0, "dag")
    values = set()
    for closure in CLOSURES:
        scorer = HierarchicalScorer(parents, closure=closure)
        scorer.add(predictions, references)
        values.add(scorer.compute()["micro_f1"])
    assert len(values) == len(CLOSURES)


@pytest.mark.filterwarnings("ignore:F-score is ill-defined")
def test_equals_hiclass_on_full_paths():
    hiclass = pytest.importorskip("hiclass.metrics")
    rng = np.random.default_rng(5)
    parents, _ = random_hierarchy(rng, "tree")
    loops = Loops(parents, len(parents), "none", [], [])
    leaves = [node for node in range(len(parents)) if not any(node in above for above in parents)]
    predicted, gold = (rng.choice(leaves, size=60) for _ in range(2))
    depth = max(loops.levels)

    def paths(ends):
        rows = [[*sorted(loops.above[end], key=lambda node: loops.levels[node]), end] for end in ends.tolist()]
        return np.array([[f"n{node}" for node in row] + [""] * (depth - len(row)) for row in rows])

    scorer = HierarchicalScorer(parents, closure="up")
    scorer.add(predicted[:, None], gold[:, None])
    scores = scorer.compute()
    for ours, theirs in (("micro", "micro"), ("samples", "macro")):
        for name in ("precision", "recall", "f1"):
            expected = getattr(hiclass, name)(paths(gold), paths(predicted), average=theirs)
            assert scores[f"{ours}_{name}"] == pytest.approx(expected, rel=1e-12), (ours, name)
    assert 0 < scores["micro_f1"] < 1
