"""Tuned thresholds against a search over all cuts."""

import numpy as np
import pytest
from sklearn.metrics import f1_score
from tiny_models import make_label_sets, make_tree

from hf_htc.evaluation.thresholds import best_threshold, tune_thresholds


def draw(seed, rows=40):
    tree, generator = make_tree(), np.random.default_rng(seed)
    gold = make_label_sets(tree, rows, seed=seed)
    hot = np.array([[label in row for label in range(tree.num_labels)] for row in gold])
    logits = np.round(generator.normal(size=hot.shape) + 1.2 * hot - 0.8, 1)  # rounded: some are equal
    return tree, gold, hot, logits


def f1_at(logits, hot, threshold):
    return f1_score(hot.ravel(), (1 / (1 + np.exp(-logits)) > threshold).ravel(), zero_division=0)


@pytest.mark.parametrize("seed", range(4))
def test_best_of_all_cuts(seed):
    tree, gold, hot, logits = draw(seed)
    cuts = [1 / (1 + np.exp(-(value + shift))) for value in np.unique(logits) for shift in (-0.04, 0.04)]
    whole = tune_thresholds(logits, gold, tree)
    assert f1_at(logits, hot, whole) == pytest.approx(max(f1_at(logits, hot, cut) for cut in cuts))
    for kind, groups in (("level", tree.level_units()), ("label", [[n] for n in range(tree.num_labels)])):
        found = np.asarray(tune_thresholds(logits, gold, tree, kind, least_support=1))
        assert found.shape == (tree.num_labels,)
        for group in groups:
            best = max(f1_at(logits[:, group], hot[:, group], cut) for cut in cuts)
            assert len(set(found[group])) == 1 and f1_at(logits[:, group], hot[:, group], found[group[0]]) == pytest.approx(best)


def test_rare_labels_keep_the_threshold_of_all():
    tree, gold, hot, logits = draw(1)
    whole, found = tune_thresholds(logits, gold, tree), np.asarray(tune_thresholds(logits, gold, tree, "label", least_support=12))
    rare = hot.sum(0) < 12
    assert 0 < rare.sum() < len(rare)
    assert (found[rare] == whole).all() and (found[~rare] != whole).any()


def test_by_hand():
    assert best_threshold(np.array([2.0, 0.0, -2.0]), np.array([True, False, False])) == pytest.approx(1 / (1 + np.exp(-1)))
    assert best_threshold(np.array([2.0, 2.0]), np.array([True, False])) == pytest.approx(1 / (1 + np.exp(-1.5)))
    assert best_threshold(np.array([2.0]), np.array([False])) == 0.5


def test_wrong_arguments_are_refused():
    tree, gold, _, logits = draw(0)
    for change, message in (
        ({"kind": "depth"}, "allowed are 'global', 'level', 'label'"),
        ({"logits": logits[:5]}, r"expected \(40, 13\)"),
        ({"logits": logits * np.nan}, "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            tune_thresholds(**{"logits": logits, "gold": gold, "hierarchy": tree, **change})
