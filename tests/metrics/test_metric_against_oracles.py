"""The scorer against scikit-learn on dense closed matrices, hiclass, and plain loops over Python sets."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from hf_htc.metrics.hierarchical_f1 import AVERAGES, CLOSURES, HierarchicalScorer


SHAPES = ("tree", "dag", "dag_with_structure_nodes")


def random_hierarchy(rng, shape: str) -> tuple[list[list[int]], int]:
    """Parents over M nodes and the number of labels; parents have smaller ids, except where nodes are shuffled."""
    num_nodes = 14
    parents: list[list[int]] = []
    for node in range(num_nodes):
        count = 0 if node < 3 else 1 if shape == "tree" else int(rng.integers(0, 4))
        parents.append(sorted(rng.choice(node, size=min(count, node), replace=False).tolist()) if count else [])
    if shape != "dag_with_structure_nodes":
        return parents, num_nodes
    # Renumber, so that structure-only nodes (the last ids) lie above, between and below labels.
    order = rng.permutation(num_nodes)
    renumbered: list[list[int]] = [[] for _ in range(num_nodes)]
    for node, above in enumerate(parents):
        renumbered[order[node]] = [int(order[parent]) for parent in above]
    return renumbered, num_nodes - 4


def random_sets(rng, num_documents: int, num_labels: int) -> list[list[int]]:
    """Sets of 0 to 5 labels of all but the last two labels, so that some labels never occur."""
    return [rng.choice(num_labels - 2, size=int(rng.integers(0, 6)), replace=False).tolist() for _ in range(num_documents)]


class Loops:
    """Every definition once more, by sets and loops."""

    def __init__(self, parents, num_labels, closure, predictions, references):
        self.num_labels = num_labels
        self.parents = parents
        self.above = [self._ancestors(label) & set(range(num_labels)) for label in range(num_labels)]
        self.levels = [self._level(label) for label in range(num_labels)]
        self.predicted = [set(row) for row in predictions]
        self.gold = [set(row) for row in references]
        if closure == "up":
            self.predicted = [row.union(*(self.above[label] for label in row)) for row in self.predicted]
            self.gold = [row.union(*(self.above[label] for label in row)) for row in self.gold]
        if closure == "prune":
            self.predicted = [{label for label in row if self.above[label] <= row} for row in self.predicted]

    def _ancestors(self, node):
        found = set()
        for parent in self.parents[node]:
            found |= {parent} | self._ancestors(parent)
        return found

    def _level(self, node):
        return 1 + max((self._level(parent) for parent in self.parents[node]), default=0)

    def matrix(self, sets):
        dense = np.zeros((len(sets), self.num_labels), dtype=int)
        for row, labels in enumerate(sets):
            dense[row, sorted(labels)] = 1
        return dense

    def ends(self, labels):
        return {label for label in labels if not any(label in self.above[other] for other in labels)}

    def f_scores(self, pairs_of, labels, beta):
        """Micro F and the F of each label, from (true positives, predicted, gold) label sets of each document."""
        tp, predicted, gold = (dict.fromkeys(range(self.num_labels), 0) for _ in range(3))
        for document in range(len(self.gold)):
            for counts, chosen in zip((tp, predicted, gold), pairs_of(document)):
                for label in chosen:
                    counts[label] += 1

        def f(hits, out, true):
            below = beta**2 * true + out
            return (1 + beta**2) * hits / below if below else 0.0

        sums = [sum(counts[label] for label in labels) for counts in (tp, predicted, gold)]
        return f(*sums), {label: f(tp[label], predicted[label], gold[label]) for label in labels}

    def plain(self, document):
        return self.predicted[document] & self.gold[document], self.predicted[document], self.gold[document]

    def constrained(self, document):
        predicted, gold = self.predicted[document], self.gold[document]
        return {label for label in predicted & gold if self.above[label] <= predicted}, predicted, gold

    def paths(self, document):
        predicted, gold = self.ends(self.predicted[document]), self.ends(self.gold[document])
        whole = {label for label in predicted & gold if self.above[label] <= self.predicted[document]}
        return whole, predicted, gold


def draw(seed: int, shape: str):
    rng = np.random.default_rng(seed)
    parents, num_labels = random_hierarchy(rng, shape)
    predictions, references = (random_sets(rng, 40, num_labels) for _ in range(2))
    predictions[0], references[0] = [], []  # both empty
    predictions[1], references[1] = [], [0]
    predictions[2], references[2] = [1], []
    predictions[3] = list(references[3])
    return parents, num_labels, predictions, references


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
