"""Random hierarchies and label sets, and every set definition once more by plain loops."""

from __future__ import annotations

import numpy as np


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
