"""Details of an evaluation against plain loops over sets."""

from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support
from tiny_models import HIERARCHIES, make_hierarchy

from hf_htc.evaluation.details import EvaluationDetails
from hf_htc.evaluation.significance import bootstrap_intervals
from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer


def draw(hierarchy, seed, rows=60):
    generator, n = np.random.default_rng(seed), hierarchy.num_labels
    return [
        [sorted(generator.choice(n, size=generator.integers(0, 5), replace=False).tolist()) for _ in range(rows)]
        for _ in range(2)
    ]


@pytest.fixture(params=HIERARCHIES)
def hierarchy(request):
    return make_hierarchy(request.param)


@pytest.mark.parametrize("seed", range(3))
def test_against_loops(hierarchy, seed):
    predicted, gold = draw(hierarchy, seed)
    details = EvaluationDetails(hierarchy, num_worst=7)
    for start in range(0, 60, 17):  # in several calls
        part = slice(start, start + 17)
        details.add(list(range(60))[part], predicted[part], predicted[part], gold[part])
    confusions, violations, violating, f1 = Counter(), Counter(), 0, []
    for found, wanted in zip(predicted, gold):
        for a in set(wanted) - set(found):
            for b in set(found) - set(wanted):
                common = set(hierarchy.parents[a] or [None]) & set(hierarchy.parents[b] or [None])
                confusions[a, b] += len(common)
        missing = [(n, a) for n in found for a in hierarchy.ancestors(n) if a < hierarchy.num_labels and a not in found]
        violations.update(missing)
        violating += bool(missing)
        union = len(found) + len(wanted)
        f1.append(2 * len(set(found) & set(wanted)) / union if union else 0.0)
    assert details.confusions == +confusions and sum(confusions.values()) > 5
    assert details.violations == violations and details.num_violating == violating and details.num_documents == 60
    errors = [len(set(a) ^ set(b)) for a, b in zip(predicted, gold)]
    expected = sorted((row for row in range(60) if errors[row]), key=lambda row: (f1[row], -errors[row], row))[:7]
    assert [row for row, _ in details.worst()] == expected
    assert [value for _, value in details.worst()] == pytest.approx([f1[row] for row in expected])


def test_closure_adds_ancestors_on_both_sides(hierarchy):
    predicted, gold = draw(hierarchy, 5)
    found, expected = EvaluationDetails(hierarchy, closure="up"), EvaluationDetails(hierarchy)
    found.add(list(range(60)), predicted, predicted, gold)
    expected.add(list(range(60)), predicted, hierarchy.close(predicted), hierarchy.close(gold))
    assert found.confusions == expected.confusions and found.worst() == expected.worst()
    assert found.violations == expected.violations


def test_threshold_curve(hierarchy):
    _, gold = draw(hierarchy, 0)
    scores = np.random.default_rng(1).random((60, hierarchy.num_labels))
    details = EvaluationDetails(hierarchy, num_bins=20)
    for start in (0, 25):
        part = slice(start, start + 25 if start == 0 else 60)
        details.add(range(60)[part], gold[part], gold[part], gold[part], scores[part])
    curve = details.threshold_curve()
    hot = np.array([[label in row for label in range(hierarchy.num_labels)] for row in gold])
    for place in (0, 7, 19):
        expected = precision_recall_fscore_support(hot, scores >= place / 20, average="micro", zero_division=1)
        found = [curve[key][place] for key in ("precision", "recall", "f1")]
        assert found == pytest.approx(expected[:3]) and curve["threshold"][place] == place / 20
    macro = details.macro_curve()
    assert len(macro["f1"]) == 100
    for place in (0, 13, 50, 99):
        expected = f1_score(hot, scores >= place / 100, average="macro", zero_division=0)
        assert macro["f1"][place] == pytest.approx(expected) and macro["threshold"][place] == place / 100
    assert details.worst() == []


def test_a_document_without_labels_counts_everywhere_alike():
    hierarchy = make_hierarchy("tree")
    gold, predicted = [[], [0], [1], [], [2]], [[], [0], [], [3], [2, 4]]
    scorer = HierarchicalScorer(hierarchy.parents, hierarchy.num_labels)
    scorer.add(predicted, gold)
    samples_f1 = scorer.compute()["samples_f1"]
    found = bootstrap_intervals(gold, predicted, hierarchy.num_labels, num_resamples=5)["samples_f1"]["score"]
    details = EvaluationDetails(hierarchy)
    details.add(range(5), predicted, predicted, gold)
    worst = dict(details.worst())
    assert list(worst) == [2, 3, 4]  # document 0 has no errors
    right = 1.0  # document 1
    assert samples_f1 == pytest.approx(found) == pytest.approx((sum(worst.values()) + right + 0) / 5)
