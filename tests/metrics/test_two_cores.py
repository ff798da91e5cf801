"""The metric's core stands alone, because `evaluate.load` copies its folder only; the models' core travels with checkpoints. Both
must say the same of a hierarchy and of label sets."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_htc.metrics.hierarchical_f1 import CLOSURES, Taxonomy, apply_closure
from hf_htc.metrics.hierarchical_f1 import label_sets as metric_sets
from hf_htc.models import label_sets as model_sets
from hf_htc.models import prediction
from hf_htc.models.hierarchy import LabelHierarchy


@st.composite
def hierarchies(draw):
    """Trees, DAGs, forests, with structure-only nodes, whose ids do not follow the levels."""
    size = draw(st.integers(1, 12))
    order = draw(st.permutations(range(size)))
    parents = [[] for _ in range(size)]
    for place, node in enumerate(order):
        if place:
            parents[node] = draw(st.lists(st.sampled_from(order[:place]), max_size=3, unique=True))
    return parents, draw(st.integers(1, size))


@st.composite
def hierarchies_with_sets(draw):
    parents, num_labels = draw(hierarchies())
    return parents, num_labels, draw(st.lists(st.lists(st.integers(0, num_labels - 1), max_size=6), max_size=5))


def both(parents, num_labels=None, names=None):
    names = [f"node {i}" for i in range(len(parents))] if names is None else names
    return LabelHierarchy(names, parents, num_labels), Taxonomy(parents, num_labels, names)


def test_they_know_the_same_closures():
    assert metric_sets.CLOSURES == prediction.CLOSURES == CLOSURES


@settings(max_examples=150, deadline=None)
@given(hierarchies())
def test_levels_and_ancestors(drawn):
    hierarchy, taxonomy = both(*drawn)
    assert (taxonomy.num_nodes, taxonomy.num_labels) == (hierarchy.num_nodes, hierarchy.num_labels)
    assert taxonomy.parents == hierarchy.parents
    np.testing.assert_array_equal(taxonomy.levels, hierarchy.levels)
    for label in range(hierarchy.num_labels):
        above = taxonomy.ancestor_indices[taxonomy.ancestor_indptr[label] : taxonomy.ancestor_indptr[label + 1]]
        assert above.tolist() == sorted(a for a in hierarchy.ancestors(label) if a < hierarchy.num_labels)
    np.testing.assert_array_equal(Taxonomy(hierarchy).levels, taxonomy.levels)


@settings(max_examples=150, deadline=None)
@given(hierarchies_with_sets())
def test_closures(drawn):
    parents, num_labels, sets = drawn
    hierarchy, taxonomy = both(parents, num_labels)
    for closure, ours in (("up", hierarchy.close), ("prune", hierarchy.prune)):
        indptr, indices = apply_closure(sets, sets, taxonomy, closure)[0]
        assert [indices[a:b].tolist() for a, b in zip(indptr, indptr[1:])] == ours(sets)
    keys = metric_sets.to_keys(*metric_sets.to_csr(sets, taxonomy), 0, len(sets), num_labels)
    whole = metric_sets.has_all_ancestors(keys, taxonomy)
    incomplete = sorted({(int(row), int(label)) for row, label, _ in hierarchy.violations(sets)})
    assert [divmod(int(key), num_labels) for key in keys[~whole]] == incomplete


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 60)), st.lists(st.integers(0, 60)))
def test_operations_on_keys(keys, queries):
    keys, queries = np.array(keys, dtype=np.int64), np.array(queries, dtype=np.int64)
    unique = metric_sets.sorted_unique(keys)
    np.testing.assert_array_equal(unique, model_sets.sorted_unique(keys))
    assert unique.tolist() == sorted(set(keys.tolist()))
    np.testing.assert_array_equal(metric_sets.contains(unique, queries), model_sets.contains(unique, queries))
    assert metric_sets.contains(unique, queries).tolist() == [query in set(keys.tolist()) for query in queries]


@pytest.mark.parametrize(
    ("parents", "num_labels", "names"),
    [
        ([[], [0, 0]], None, None),  # a parent twice
        ([[], [2], [1]], None, None),
        ([[0]], None, None),
        ([[i - 1] if i else [29] for i in range(30)], None, None),  # a long cycle is shortened
        ([[], [7]], None, None),
        ([[], [-2]], None, None),
        ([[], ["node 0"]], None, None),
        ([[], "node 0"], None, None),
        ([[], [True]], None, None),
        ([[], True], None, None),
        ([[], 0.5], None, None),
        ([[], [0.5]], None, None),
        ([[], [0]], 3, None),
        ([[], [0]], 0, None),
        ([[], [0]], None, ["a", "a"]),
        ([[], [0]], None, ["a", " "]),
        ([[], [0]], None, ["a", 3]),
    ],
)
def test_they_refuse_the_same_in_the_same_words(parents, num_labels, names):
    names = [f"node {i}" for i in range(len(parents))] if names is None else names
    with pytest.raises(ValueError) as ours:
        LabelHierarchy(names, parents, num_labels)
    with pytest.raises(ValueError, match=re.escape(str(ours.value).split(", e.g. `LabelHierarchy")[0].rstrip("."))) as theirs:
        Taxonomy(parents, num_labels, names)
    assert isinstance(ours.value, TypeError) == isinstance(theirs.value, TypeError)


@pytest.mark.parametrize("flat", [[-1, 0, 0, 1], [None, 0, 0, 1], [[], 0, None, [1]]])
def test_they_read_the_same_short_forms(flat):
    hierarchy, taxonomy = both(flat)
    assert taxonomy.parents == hierarchy.parents
