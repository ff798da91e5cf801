"""Scores from lowest common ancestors: LCA precision, recall and F, tree distance, Wu-Palmer; numpy only.

Letters: `B` documents, `N` labels, `M` nodes; the node `M` is the virtual root above the first level.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from .errors import MetricError
from .label_sets import Closure, contains, is_path_end
from .scorers import SetScorer, checked_zero_division, count_rows, counted_rows, mean, precision_recall_f
from .taxonomy import Parents


# Combinations of equally near partners of one document that are all tried; beyond, labels choose one after the other.
_MAX_COMBINATIONS = 1024
# Links of label pairs that are remembered.
_MAX_LINKS = 1 << 18


class LcaScorer(SetScorer):
    r"""
    Streaming scores by lowest common ancestors (LCA).

    **LCA precision, recall and F** (Kosmopoulos et al., 2015). The most specific labels of the two sets are compared. A
    label that both sides have stands for itself. Every other label is linked to the nearest label of the other side (fewest
    edges, through their lowest common ancestor): the nodes from the label up to that ancestor join its own side's graph, the
    nodes from the partner up to it the other's. With the graphs \\(G_{lca}\\) and \\(P_{lca}\\),

    $$P = \frac{|G_{lca} \cap P_{lca}|}{|P_{lca}|}, \quad R = \frac{|G_{lca} \cap P_{lca}|}{|G_{lca}|}$$

    Among equally near partners those are taken that need the fewest different common ancestors, then the fewest nodes. (All
    combinations are tried up to 1,024 a document; beyond, the labels choose one after the other, by id.) The original also
    removes redundant ancestors afterwards, which changes few documents with several labels and none with one. The virtual
    root counts as a node where a link runs through it. One label against one: `P` = 1 / (nodes from the prediction up to
    the LCA), `R` = 1 / (nodes from the gold label up to it). In a DAG, the common ancestor is the one with the fewest edges
    to both; of several the deepest, then the one with the smallest id.

    **Distances** are of documents with one most specific label on both sides; all others are left out and counted.

    Args:
        parents (`dict`, `list` or `LabelHierarchy`), num_labels (`int`, *optional*), names (`list[str]`, *optional*):
            The hierarchy, as in [`HierarchicalScorer`]. Structure-only nodes are nodes of the graphs like all others.
        closure (`str`, *optional*, defaults to `"none"`):
            `"none"`, `"up"` or `"prune"`. `"up"` changes nothing: the most specific labels stay what they are.

    Raises:
        ValueError: for an unknown `closure` or a bad hierarchy.

    Example:

    ```py
    >>> from hf_htc.metrics.hierarchical_f1 import LcaScorer

    >>> scorer = LcaScorer([[], [0], [0], []])  # 1 and 2 are children of 0; 3 stands alone
    >>> scorer.add(predictions=[[0, 1], [3]], references=[[0, 2], [3]])
    >>> scores = scorer.compute()
    >>> scores["lca_samples_f1"], scores["tree_distance"], scores["wu_palmer"]
    (0.75, 1.0, 0.75)

    ```
    """

    COUNTS = ("_documents", "_pairs", "_num_documents")

    def __init__(
        self, parents: Parents, num_labels: int | None = None, closure: Closure = "none", names: Sequence[str] | None = None
    ) -> None:
        super().__init__(parents, num_labels=num_labels, closure=closure, names=names)
        taxonomy = self.taxonomy
        self._levels = [*taxonomy.levels.tolist(), 0]
        self._heights = [0] * (taxonomy.num_nodes + 1)
        for node in np.argsort(-taxonomy.levels, kind="stable").tolist():
            for parent in taxonomy.parents[node] or (taxonomy.num_nodes,):
                self._heights[parent] = max(self._heights[parent], self._heights[node] + 1)
        self._up: dict = {}
        self._links: dict = {}
        self.reset()

    def reset(self) -> None:
        """Forget all documents."""
        # (common nodes, predicted nodes, gold nodes) of a document -> how many documents.
        self._documents: Counter = Counter()
        # (predicted label, gold label) of a document with one path on both sides -> how many documents.
        self._pairs: Counter = Counter()
        self._num_documents = 0

    def _add_block(self, predicted, gold, num_rows):
        num_labels = self.num_labels
        predicted, gold = (keys[is_path_end(keys, self.taxonomy)] for keys in (predicted, gold))
        rows, gold_rows = predicted // num_labels, gold // num_labels
        sizes, gold_sizes = np.bincount(rows, minlength=num_rows), np.bincount(gold_rows, minlength=num_rows)
        hits = np.bincount(rows[contains(gold, predicted)], minlength=num_rows)
        # Without a partner to link to, the labels are the graph; equal sets need no link.
        simple = ((hits == sizes) & (hits == gold_sizes)) | (sizes == 0) | (gold_sizes == 0)
        if simple.any():
            count_rows(self._documents, hits[simple], sizes[simple], gold_sizes[simple])
        starts, gold_starts = np.cumsum(sizes) - sizes, np.cumsum(gold_sizes) - gold_sizes
        labels, gold_labels = predicted % num_labels, gold % num_labels
        ids, gold_ids = labels.tolist(), gold_labels.tolist()
        for row in np.flatnonzero(~simple).tolist():
            first, gold_first = starts[row], gold_starts[row]
            self._documents[
                self._graph_sizes(ids[first : first + sizes[row]], gold_ids[gold_first : gold_first + gold_sizes[row]])
            ] += 1
        single = (sizes == 1) & (gold_sizes == 1)
        if single.any():
            count_rows(self._pairs, labels[starts[single]], gold_labels[gold_starts[single]])
        self._num_documents += num_rows

    def compute(self, zero_division: float = 0.0) -> dict:
        r"""
        The scores of all documents so far.

        Args:
            zero_division (`float`, *optional*, defaults to 0.0):
                The value of 0 / 0: 0.0, 1.0, or nan = not part of a mean. A precision is undefined without predicted, a
                recall without gold labels, an F without either.

        Returns:
            `dict` with the keys

            - `lca_micro_precision`, `lca_micro_recall`, `lca_micro_f1` (of the sums over documents), and the same with
              `samples` (means over documents, the original's), in [0, 1];
            - `tree_distance`: edges between the predicted and the gold label, through the virtual root where they have
              nothing else in common, the mean over the documents with one path on both sides;
            - `mistake_severity`: the height of the lowest common ancestor (edges down to its deepest descendant), the mean
              over those of them that are wrong (Bertinetto et al., 2020); 0 where none is wrong;
            - `wu_palmer`: \\(2\, level(LCA) / (level(g) + level(p))\\), the mean over the same documents, in [0, 1]; first-level
              nodes have level 1, the virtual root 0;
            - `num_single_path_documents`: how many documents the last three are of. They are nan if there is none;
            - `num_documents`, `num_labels`, `closure`.

        Raises:
            ValueError: if no document was added, or for another `zero_division`.
        """
        zero_division = checked_zero_division(zero_division)
        if not self._num_documents:
            raise MetricError("There is nothing to score: no document was added. Call `add` first.")
        counts, weights = counted_rows(self._documents)
        sums = [(count * weights).sum(keepdims=True) for count in counts]
        scores = {}
        names = ("precision", "recall", "f1")
        for name, micro in zip(names, precision_recall_f(sums[0], sums[1], sums[2], 1.0, zero_division)):
            scores[f"lca_micro_{name}"] = float(micro[0])
        for name, values in zip(names, precision_recall_f(counts[0], counts[1], counts[2], 1.0, zero_division)):
            scores[f"lca_samples_{name}"] = mean(values, zero_division, weights)
        scores.update(self._distances())
        return {**scores, "num_documents": self._num_documents, "num_labels": self.num_labels, "closure": self.closure}

    def _distances(self) -> dict:
        number, wrong, distance, height, similarities = sum(self._pairs.values()), 0, 0, 0, []
        for (predicted, gold), count in sorted(self._pairs.items()):
            if predicted == gold:
                similarities.append(count)
                continue
            ancestor, _, _, edges = self._link(predicted, gold)
            wrong += count
            distance += count * edges
            height += count * self._heights[ancestor]
            similarities.append(count * 2 * self._levels[ancestor] / (self._levels[predicted] + self._levels[gold]))
        return {
            "tree_distance": distance / number if number else math.nan,
            "mistake_severity": height / max(1, wrong) if number else math.nan,
            "wu_palmer": math.fsum(similarities) / number if number else math.nan,
            "num_single_path_documents": number,
        }

    def _graph_sizes(self, predicted: list, gold: list):
        """`(common, predicted, gold)` nodes of the two graphs of a document with labels on both sides."""
        common = set(predicted) & set(gold)
        choices = []
        for own, others, flip in ((predicted, gold, False), (gold, predicted, True)):
            for label in own:
                if label in common:
                    continue
                links = [self._link(other, label) if flip else self._link(label, other) for other in others]
                nearest = min(link[3] for link in links)
                choices.append([link for link in links if link[3] == nearest])
        if math.prod(map(len, choices)) <= _MAX_COMBINATIONS:
            graphs = min((_union(common, chosen) for chosen in itertools.product(*choices)), key=_size)
        else:
            chosen: list = []
            for links in choices:
                chosen.append(min(links, key=lambda link: _size(_union(common, [*chosen, link]))))
            graphs = _union(common, chosen)
        return len(graphs[1] & graphs[2]), len(graphs[1]), len(graphs[2])

    def _link(self, predicted: int, gold: int):
        """Lowest common ancestor, nodes up to it on the predicted and the gold side, edges between the two labels."""
        link = self._links.get((predicted, gold))
        if link is None:
            up, gold_up = self._ancestors(predicted), self._ancestors(gold)
            ancestor = min(up.keys() & gold_up.keys(), key=lambda n: (up[n][0] + gold_up[n][0], -self._levels[n], n))
            edges = up[ancestor][0] + gold_up[ancestor][0]
            link = ancestor, _branch(up, ancestor), _branch(gold_up, ancestor), edges
            if len(self._links) >= _MAX_LINKS:
                self._links.clear()
            self._links[predicted, gold] = link
        return link

    def _ancestors(self, label: int) -> dict:
        """Every node above a label and itself -> (edges up to it, the node below it on a shortest way)."""
        up: dict | None = self._up.get(label)
        if up is None:
            up = {label: (0, None)}
            edge = [label]
            while edge:
                above = []
                for node in sorted(edge):
                    for parent in self.taxonomy.parents[node] or (self.taxonomy.num_nodes,):
                        if parent not in up and node != self.taxonomy.num_nodes:
                            up[parent] = up[node][0] + 1, node
                            above.append(parent)
                edge = [node for node in above if node != self.taxonomy.num_nodes]
            self._up[label] = up
        return up


def _branch(up: dict, ancestor: int) -> frozenset:
    """The nodes of the shortest way from an ancestor down to the label of `up`, both included."""
    nodes = []
    while ancestor is not None:
        nodes.append(ancestor)
        ancestor = up[ancestor][1]
    return frozenset(nodes)


def _union(common: set, links):
    """Common ancestors, predicted graph and gold graph of some links."""
    return (
        common.union(link[0] for link in links),
        common.union(*(link[1] for link in links)),
        common.union(*(link[2] for link in links)),
    )


def _size(graphs):
    return len(graphs[0]), len(graphs[1]) + len(graphs[2])
