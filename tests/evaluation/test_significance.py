"""Bootstrap and randomisation against scikit-learn's weighted scores, and where the answer is known."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from hf_htc.evaluation import significance
from hf_htc.evaluation.significance import approximate_randomization, bootstrap_intervals, paired_bootstrap
from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer


N = 6


def label_sets(seed, documents=30):
    generator = np.random.default_rng(seed)
    return [sorted(generator.choice(N, size=generator.integers(0, 4), replace=False).tolist()) for _ in range(documents)]


def matrix(sets):
    hot = np.zeros((len(sets), N), dtype=int)
    for row, labels in enumerate(sets):
        hot[row, labels] = 1
    return hot


def noisy(sets, share, seed):
    """The sets with this share of the documents replaced."""
    generator, other = np.random.default_rng(seed), label_sets(seed + 100, len(sets))
    return [o if generator.random() < share else s for s, o in zip(sets, other)]


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_scores_and_interval_equal_those_of_scikit_learn(average):
    gold = label_sets(0)
    first, second = [noisy(gold, 0.3, 1), noisy(gold, 0.4, 2)], [noisy(gold, 0.6, 3)]
    result = paired_bootstrap(gold, first, second, N, num_resamples=50, seed=5)[f"{average}_f1"]

    def score(runs, weights):
        return np.mean(
            [f1_score(matrix(gold), matrix(run), average=average, sample_weight=weights, zero_division=0) for run in runs]
        )

    weights = np.random.default_rng(5).multinomial(30, np.full(30, 1 / 30), size=50)
    differences = [score(first, row) - score(second, row) for row in weights]
    assert result["first"] == pytest.approx(score(first, None)) and result["second"] == pytest.approx(score(second, None))
    assert result["interval"] == pytest.approx(np.quantile(differences, [0.025, 0.975]).tolist())
    below = np.mean(np.asarray(differences) <= 0)
    assert result["p_value"] == pytest.approx(min(1.0, 2 * min(below, np.mean(np.asarray(differences) >= 0))))


def test_a_model_is_not_better_than_itself():
    gold = label_sets(0)
    run = noisy(gold, 0.5, 1)
    result = paired_bootstrap(gold, [run], [run], N, num_resamples=100)["micro_f1"]
    assert result["difference"] == 0 and result["interval"] == [0, 0] and result["p_value"] == 1


def test_a_perfect_model_is_surely_better_than_a_poor_one():
    gold = label_sets(0, 300)
    result = paired_bootstrap(gold, [gold], [noisy(gold, 0.5, 1)], N, num_resamples=200)
    assert result["micro_f1"]["first"] == 1 and result["micro_f1"]["p_value"] == 0 and result["micro_f1"]["interval"][0] > 0.1


def test_the_same_seed_gives_the_same_interval_and_csr_pairs_are_taken():
    gold, run = label_sets(0), label_sets(1)
    pair = (np.cumsum([0, *map(len, gold)]), np.concatenate([np.asarray(row, dtype=int) for row in gold]))
    one = paired_bootstrap(gold, [run], [gold], N, num_resamples=20, seed=1)
    assert one == paired_bootstrap(pair, [run], [pair], N, num_resamples=20, seed=1)
    assert one != paired_bootstrap(gold, [run], [gold], N, num_resamples=20, seed=2)


@pytest.mark.parametrize(
    ("first", "message"),
    [([], "has no runs"), ([[[0]]], "Run 0 of `first` has 1 documents, `gold` has 2"), ([[[0], [N]]], str(N))],
)
def test_wrong_predictions_are_refused(first, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap([[0], [1]], first, [[[0], [1]]], N)


def test_samples_and_hierarchical_f1(tree):
    number = tree.num_labels
    generator = np.random.default_rng(3)

    def draw():
        return [generator.choice(number, size=generator.integers(0, 4), replace=False).tolist() for _ in range(25)]

    gold, first, second = draw(), draw(), draw()
    result = paired_bootstrap(gold, [first], [second], number, num_resamples=20, hierarchy=tree)
    for closure, name, key in (("none", "samples_f1", "samples_f1"), ("up", "hierarchical_f1", "micro_f1")):
        for side, predicted in (("first", first), ("second", second)):
            scorer = HierarchicalScorer(tree, closure=closure)
            scorer.add(predicted, gold)
            assert result[name][side] == pytest.approx(scorer.compute()[key], rel=1e-12)
    assert set(result) == {"micro_f1", "macro_f1", "samples_f1", "hierarchical_f1"}
    assert set(paired_bootstrap(gold, [first], [second], number, num_resamples=2)) == set(result) - {"hierarchical_f1"}


def test_intervals_of_one_model(monkeypatch):
    gold, run = label_sets(0), noisy(label_sets(0), 0.4, 1)
    result = bootstrap_intervals(gold, run, N, num_resamples=40, seed=2, confidence=0.8)
    weights = np.random.default_rng(2).multinomial(30, np.full(30, 1 / 30), size=40)
    for average in ("micro", "macro", "samples"):
        options = {"average": average, "zero_division": 0}
        scores = [f1_score(matrix(gold), matrix(run), sample_weight=row, **options) for row in weights]
        assert result[f"{average}_f1"]["score"] == pytest.approx(f1_score(matrix(gold), matrix(run), **options))
        assert result[f"{average}_f1"]["interval"] == pytest.approx(np.quantile(scores, [0.1, 0.9]).tolist())
    monkeypatch.setattr(significance, "_BLOCK_NUMBERS", 100)  # three resamples at a time
    again = bootstrap_intervals(gold, run, N, num_resamples=40, seed=2, confidence=0.8)
    assert again["macro_f1"] == {**result["macro_f1"], "interval": pytest.approx(result["macro_f1"]["interval"])}
    with pytest.raises(ValueError, match="`confidence` is 95"):
        bootstrap_intervals(gold, run, N, confidence=95)
    with pytest.raises(ValueError, match="`predicted` has 1 documents, `gold` has 30"):
        bootstrap_intervals(gold, [[0]], N)
    with pytest.raises(ValueError, match="no documents to draw from"):
        bootstrap_intervals([], [], N)


def test_randomization_equals_swapped_documents():
    gold = label_sets(0)
    first, second = noisy(gold, 0.3, 1), noisy(gold, 0.5, 2)
    found = approximate_randomization(gold, first, second, N, num_resamples=60, seed=4)
    keep = np.random.default_rng(4).integers(0, 2, size=(60, 30))

    def difference(mask, average):
        one = [a if own else b for a, b, own in zip(first, second, mask)]
        other = [b if own else a for a, b, own in zip(first, second, mask)]
        options = {"average": average, "zero_division": 0}
        return f1_score(matrix(gold), matrix(one), **options) - f1_score(matrix(gold), matrix(other), **options)

    for average in ("micro", "macro", "samples"):
        all_of_them = abs(difference([1] * 30, average))
        larger = sum(abs(difference(mask, average)) >= all_of_them - 1e-12 for mask in keep)
        assert found[f"{average}_f1"] == (1 + larger) / 61
    assert approximate_randomization(gold, first, first, N, num_resamples=9)["micro_f1"] == 1
    gold = label_sets(0, 200)
    assert approximate_randomization(gold, gold, noisy(gold, 0.5, 1), N, num_resamples=99)["samples_f1"] == 0.01
