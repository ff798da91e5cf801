"""LCA scores and tree distances against networkx and plain loops, and by hand."""

from __future__ import annotations

import doctest
import itertools
import math

import networkx as nx
import numpy as np
import pytest
from set_loops import SHAPES, Loops, draw

from hf_htc.metrics.hierarchical_f1 import CLOSURES, LcaScorer, lca_scores, scorers


# 0 Arts, 1 Music (Arts), 2 Jazz (Music), 3 Film (Arts), 4 Sport, 5 Opera (Music), 6 Tennis (Sport)
PARENTS = [[], [0], [1], [0], [], [1], [4]]


def scored(predictions, references, parents=PARENTS, **settings):
    scorer = LcaScorer(parents, **settings)
    scorer.add(predictions, references)
    return scorer.compute()


class TestByHand:
    @pytest.mark.parametrize(
        ("predicted", "gold", "precision", "recall"),
        [
            ([2], [2], 1, 1),
            ([5], [2], 1 / 2, 1 / 2),  # meet in Music
            ([3], [2], 1 / 2, 1 / 3),  # meet in Arts
            ([1], [2], 1, 1 / 2),  # Music itself is the common ancestor
            ([0], [2], 1, 1 / 3),
            ([6], [2], 1 / 3, 1 / 4),  # meet in the virtual root
            ([0, 1, 5], [0, 1, 2], 1 / 2, 1 / 2),  # the most specific labels count
            ([2, 5], [2], 2 / 3, 1),  # Opera is linked to Jazz, which is in both; Music joins both sides
        ],
    )
    def test_documents(self, predicted, gold, precision, recall):
        scores = scored([predicted], [gold])
        assert scores["lca_samples_precision"] == pytest.approx(precision)
        assert scores["lca_samples_recall"] == pytest.approx(recall)
        back = scored([gold], [predicted])
        assert back["lca_samples_precision"] == pytest.approx(recall)

    def test_empty_sides(self):
        assert scored([[]], [[2]])["lca_samples_f1"] == scored([[2]], [[]])["lca_micro_f1"] == 0
        scorer = LcaScorer(PARENTS)
        scorer.add([[], [2]], [[], [2]])
        assert scorer.compute()["lca_samples_f1"] == 0.5
        assert scorer.compute(zero_division=math.nan)["lca_samples_f1"] == 1.0
        assert scorer.compute(zero_division=1.0)["lca_micro_f1"] == 1.0

    def test_distances(self):
        scores = scored([[2], [5], [6], [1], [2, 6], []], [[2], [2], [2], [2], [2], [2]])
        assert scores["num_single_path_documents"] == 4 and scores["num_documents"] == 6
        assert scores["tree_distance"] == pytest.approx((0 + 2 + 5 + 1) / 4)
        assert scores["mistake_severity"] == pytest.approx((1 + 3 + 1) / 3)
        assert scores["wu_palmer"] == pytest.approx((1 + 2 * 2 / 6 + 0 + 2 * 2 / 5) / 4)
        none = scored([[2, 6]], [[2]])
        assert all(math.isnan(none[name]) for name in ("tree_distance", "mistake_severity", "wu_palmer"))
        assert scored([[2]], [[2]])["mistake_severity"] == 0

    def test_ties_take_the_fewest_ancestors(self):
        # Gold 3 and 4 below 1 and 2; the prediction 5 is below both: linked to either, each link has its own ancestor.
        parents = [[], [0], [0], [1], [2], [1, 2]]
        scores = scored([[5]], [[3, 4]], parents=parents)
        assert scores["lca_samples_precision"] == pytest.approx(2 / 3)  # {5, 1, 2}, of which 1 and 2 are common
        assert scores["lca_samples_recall"] == pytest.approx(2 / 4)
        # In a tree both gold labels meet the prediction in 1.
        parents = [[], [0], [0], [1], [1], [1]]
        scores = scored([[5]], [[3, 4]], parents=parents)
        assert scores["lca_samples_recall"] == pytest.approx(1 / 3)
        assert scores["lca_samples_precision"] == pytest.approx(1 / 2)

    def test_greedy_choice_beyond_the_limit(self, monkeypatch):
        scores = scored([[2, 6], [5]], [[5, 3], [2, 3]])
        monkeypatch.setattr(lca_scores, "_MAX_COMBINATIONS", 0)
        assert scored([[5]], [[2]])["lca_samples_f1"] == 0.5
        assert scored([[2, 6], [5]], [[5, 3], [2, 3]]) == scores  # no label has a choice here


def brute_force(loops, graph, root, predicted, gold):
    """The rule once more with networkx: every combination of nearest partners."""

    def ways(label):
        lengths = nx.single_source_shortest_path_length(graph, label)
        return {node: (length, nx.shortest_path(graph, label, node)) for node, length in lengths.items()}

    levels = {root: 0, **{node: loops._level(node) for node in range(len(loops.parents))}}
    common, choices = predicted & gold, []
    for own, others, flip in ((predicted, gold, False), (gold, predicted, True)):
        for label in own - common:
            links = []
            for other in others:
                p, g = (other, label) if flip else (label, other)
                up, gold_up = ways(p), ways(g)
                best = min(set(up) & set(gold_up), key=lambda n: (up[n][0] + gold_up[n][0], -levels[n], n))
                links.append((up[best][0] + gold_up[best][0], best, set(up[best][1]), set(gold_up[best][1])))
            nearest = min(link[0] for link in links)
            choices.append([link for link in links if link[0] == nearest])
    found = []
    for chosen in itertools.product(*choices):
        ancestors, p, g = set(common), set(common), set(common)
        for _, ancestor, up, gold_up in chosen:
            ancestors, p, g = ancestors | {ancestor}, p | up, g | gold_up
        found.append((len(ancestors), len(p) + len(g), len(p & g) / len(p), len(p & g) / len(g)))
    best = min(row[:2] for row in found)
    return {row[2:] for row in found if row[:2] == best}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", ["tree", "dag_with_structure_nodes"])
def test_equals_brute_force_on_random_sets(shape, seed):
    parents, num_labels, predictions, references = draw(seed, shape)
    loops = Loops(parents, num_labels, "none", predictions, references)
    root = len(parents)
    graph = nx.DiGraph([(node, parent) for node, above in enumerate(parents) for parent in (above or [root])])
    compared = 0
    for predicted, gold in zip(loops.predicted, loops.gold):
        predicted, gold = loops.ends(predicted), loops.ends(gold)
        if not predicted or not gold:
            continue
        scores = scored([list(predicted)], [list(gold)], parents=parents, num_labels=num_labels)
        expected = brute_force(loops, graph, root, predicted, gold)
        if shape != "tree":  # shortest ways of equal length: networkx may walk another one
            expected = {tuple(round(value, 9) for value in row) for row in expected}
            if len(expected) > 1:
                continue
        ours = scores["lca_samples_precision"], scores["lca_samples_recall"]
        assert any(ours == pytest.approx(row, abs=1e-8) for row in expected), (predicted, gold)
        compared += 1
    assert compared > 20


@pytest.mark.parametrize("shape", SHAPES)
def test_distances_equal_networkx(shape):
    parents, num_labels, *_ = draw(2, shape)
    root = len(parents)
    graph = nx.DiGraph([(node, parent) for node, above in enumerate(parents) for parent in (above or [root])])
    rng = np.random.default_rng(0)
    predicted, gold = rng.integers(0, num_labels, size=(2, 50))
    scores = scored(predicted[:, None], gold[:, None], parents=parents, num_labels=num_labels)
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    expected = [min(lengths[p][n] + lengths[g][n] for n in set(lengths[p]) & set(lengths[g])) for p, g in zip(predicted, gold)]
    assert scores["tree_distance"] == pytest.approx(np.mean(expected), rel=1e-12)
    assert 0 < scores["wu_palmer"] < 1
    if shape == "tree":
        tree = graph.reverse()
        depth = nx.single_source_shortest_path_length(tree, root)
        lcas = [nx.lowest_common_ancestor(tree, int(p), int(g)) for p, g in zip(predicted, gold)]
        similar = [2 * depth[a] / (depth[int(p)] + depth[int(g)]) for a, p, g in zip(lcas, predicted, gold)]
        assert scores["wu_palmer"] == pytest.approx(np.mean(similar), rel=1e-12)
        heights = {n: max(nx.single_source_shortest_path_length(tree, n).values()) for n in tree}
        severity = [heights[a] for a, p, g in zip(lcas, predicted, gold) if p != g]
        assert scores["mistake_severity"] == pytest.approx(np.mean(severity), rel=1e-12)


@pytest.mark.parametrize("closure", CLOSURES)
def test_pieces_and_merged_parts_give_the_same_bits(closure, monkeypatch):
    parents, num_labels, predictions, references = draw(0, "dag")
    whole, first, second = (LcaScorer(parents, closure=closure) for _ in range(3))
    whole.add(predictions, references)
    monkeypatch.setattr(scorers, "_BLOCK_PAIRS", 5)
    monkeypatch.setattr(lca_scores, "_MAX_LINKS", 3)
    second.add(predictions[25:], references[25:])
    first.add(predictions[:25], references[:25])
    second.merge(first)
    assert second.compute() == whole.compute() and whole.compute()["closure"] == closure
    if closure == "up":  # the most specific labels stay what they are
        assert {**whole.compute(), "closure": "none"} == scored(predictions, references, parents=parents)


def test_errors():
    with pytest.raises(ValueError, match="no document was added"):
        LcaScorer(PARENTS).compute()
    with pytest.raises(ValueError, match="`zero_division` must be"):
        LcaScorer(PARENTS).compute(zero_division="warn")
    with pytest.raises(ValueError, match="predictions row 0 has the unknown label id 9"):
        scored([[9]], [[0]])


def test_docstring_example():
    result = doctest.testmod(lca_scores)
    assert result.attempted >= 4 and result.failed == 0
