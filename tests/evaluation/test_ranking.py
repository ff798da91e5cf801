"""Ranking scores against scikit-learn, plain loops and by hand."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from hf_htc.evaluation.ranking import ranking_scores


@pytest.mark.parametrize("k", [1, 3, 5])
def test_against_scikit_learn_and_loops(k):
    generator = np.random.default_rng(k)
    scores = generator.normal(size=(50, 12))
    gold = [sorted(generator.choice(12, size=generator.integers(1, 9), replace=False).tolist()) for _ in range(50)]
    hot = np.array([[float(label in row) for label in range(12)] for row in gold])
    ranked = np.argsort(-scores, axis=1)
    found = ranking_scores(ranked, gold, 12, k)
    assert found[f"ndcg_at_{k}"] == pytest.approx(ndcg_score(hot, scores, k=k))
    recalls = [len(set(row) & set(best[:k])) / len(row) for row, best in zip(gold, ranked.tolist())]
    assert found[f"recall_at_{k}"] == pytest.approx(np.mean(recalls))


def test_by_hand():
    found = ranking_scores([[2, 0, 1], [1, 2, 0], [0, 1, 2]], [[0, 1], [1], []], 3, k=2)
    # Document 0: one of two at rank 2; document 1: at rank 1; document 2 has no label.
    assert found["recall_at_2"] == pytest.approx(0.75)
    second = 1 / np.log2(3)
    assert found["ndcg_at_2"] == pytest.approx((second / (1 + second) + 1) / 2)
    assert ranking_scores([[0, 1, 2]], [[1]], 3) == {"recall_at_5": 1.0, "ndcg_at_5": pytest.approx(second)}
    assert ranking_scores(np.zeros((0, 5), int), [], 9) == {"recall_at_5": 0.0, "ndcg_at_5": 0.0}


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="needs 5 labels per document"):
        ranking_scores([[0, 1]], [[1]], 9)
    with pytest.raises(ValueError, match="`ranked` has 1 documents, `gold` has 2"):
        ranking_scores([[0, 1, 2, 3, 4]], [[1], [2]], 9)
