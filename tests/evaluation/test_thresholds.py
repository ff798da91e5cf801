"""Tuned thresholds against a search over all cuts."""

import numpy as np
import pytest
from sklearn.metrics import f1_score
from tiny_models import make_label_sets, make_tree

from hf_htc.evaluation import thresholds
from hf_htc.evaluation.thresholds import best_cut, tune_thresholds


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
    assert best_cut(np.array([2.0]), [np.array([2.0, 0.0]), np.array([-2.0])]) == pytest.approx(1 / (1 + np.exp(-1)))
    assert best_cut(np.array([2.0]), [np.array([2.0, 2.0])]) == pytest.approx(1 / (1 + np.exp(-1.5)))
    assert best_cut(np.array([]), [np.array([2.0])]) == 0.5


def by_sorting(logits, holds):
    """As version 0.1.0 has it: all entries sorted, F1 behind each."""
    if not holds.any():
        return 0.5
    order = np.argsort(-logits, kind="stable")
    logits, hits = logits[order], np.cumsum(holds[order])
    f1 = 2 * hits / (np.arange(1, len(logits) + 1) + hits[-1])
    f1[:-1][logits[1:] == logits[:-1]] = -1
    last = int(np.argmax(f1))
    below = logits[last + 1] if last + 1 < len(logits) else logits[last] - 1.0
    return float(1 / (1 + np.exp(-(logits[last] + below) / 2)))


@pytest.mark.parametrize("seed", range(6))
def test_counting_equals_sorting(seed, tmp_path, monkeypatch):
    """Also from a file in float32, in blocks of few documents and labels, bit for bit; a label given twice counts once."""
    monkeypatch.setattr(thresholds, "_ENTRIES", 40)
    monkeypatch.setattr(thresholds, "_COLUMNS", 2)
    tree, gold, hot, logits = draw(seed)
    stored = np.memmap(tmp_path / "logits", dtype=np.float32, mode="w+", shape=logits.shape)
    stored[:] = logits if seed % 2 else np.random.default_rng(seed).normal(size=logits.shape)
    wide, gold = np.asarray(stored, dtype=np.float64), [[*row, *row] for row in gold]
    assert tune_thresholds(stored, gold, tree) == by_sorting(wide.ravel(), hot.ravel())
    levels = tune_thresholds(stored, gold, tree, "level")
    for level in tree.level_units():
        assert {levels[label] for label in level} == {by_sorting(wide[:, level].ravel(), hot[:, level].ravel())}
    labels = tune_thresholds(stored, gold, tree, "label", least_support=1)
    assert labels == [by_sorting(wide[:, label], hot[:, label]) for label in range(tree.num_labels)]


def test_wrong_arguments_are_refused():
    tree, gold, _, logits = draw(0)
    for change, message in (
        ({"kind": "depth"}, "allowed are 'global', 'level', 'label'"),
        ({"logits": logits[:5]}, r"expected \(40, 13\)"),
        ({"logits": logits * np.nan}, "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            tune_thresholds(**{"logits": logits, "gold": gold, "hierarchy": tree, **change})
