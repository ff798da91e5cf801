"""The numbers of Table 1 of the HBM paper that need only a taxonomy, and those of documents against plain loops."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_models import make_dag, make_label_sets, make_tree

from hf_htc import LabelHierarchy
from hf_htc.data import unit_statistics


TAXONOMIES = json.loads((Path(__file__).parent.parent / "fixtures" / "global" / "hitin_taxonomy_parents.json").read_text())


def load(name):
    return LabelHierarchy([f"label {i}" for i in range(len(TAXONOMIES[name]))], TAXONOMIES[name])


@pytest.mark.parametrize(
    ("name", "level", "parent"),
    [("rcv1", (4, 25.75), (22, 5.63)), ("nyt", (8, 20.75), (52, 4.17)), ("wos", (2, 70.5), (8, None))],
)
def test_units_of_the_paper(name, level, parent):
    found = unit_statistics(load(name), kind="level")
    assert (found["num_units"], found["unit_size"]) == level
    found = unit_statistics(load(name), kind="parent")
    assert found["num_units"] == parent[0]
    if parent[1]:
        assert found["unit_size"] == pytest.approx(parent[1], abs=0.01)


def units_by_loops(hierarchy, gold):
    """`(size, positives)` of every unit of a document: the root's and those of all inner nodes of its sub-hierarchy."""
    nodes = set(gold) | {a for label in gold for a in hierarchy.ancestors(label)}
    units = [(len(hierarchy.top_nodes), len(nodes & set(hierarchy.top_nodes)))]
    for node in nodes:
        children = set(hierarchy.children[node])
        if children:
            units.append((len(children) + (node < hierarchy.num_labels), len(nodes & children) + (node in gold)))
    return units


@pytest.mark.parametrize("hierarchy", [make_tree(), make_dag()], ids=["tree", "dag"])
def test_statistics_of_documents_against_loops(hierarchy):
    sets = [*make_label_sets(hierarchy, 30), [hierarchy.num_labels - 2], []]  # as given too
    found = unit_statistics(hierarchy, sets, "parent")
    units = [unit for gold in sets for unit in units_by_loops(hierarchy, set(gold))]
    sizes, positives = np.mean(units, axis=0)
    assert found["units_per_document"] == pytest.approx(len(units) / len(sets))
    assert found["labels_per_document"] == pytest.approx(np.mean([len(row) for row in sets]))
    assert found["document_unit_size"] == pytest.approx(sizes) and found["positives"] == pytest.approx(positives)
    assert found["negatives"] == pytest.approx(sizes - positives)
    every = [len(hierarchy.top_nodes)]
    every += [len(row) + (node < hierarchy.num_labels) for node, row in enumerate(hierarchy.children) if row]
    assert (found["num_units"], found["unit_size"]) == (len(every), pytest.approx(np.mean(every)))
    found = unit_statistics(hierarchy, sets, "level")
    assert found["document_unit_size"] == hierarchy.num_nodes / hierarchy.num_levels
    assert found["positives"] == pytest.approx(sum(map(len, sets)) / len(sets) / hierarchy.num_levels)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="allowed are 'level', 'parent'"):
        unit_statistics(make_tree(), kind="path")
    with pytest.raises(ValueError, match="no documents"):
        unit_statistics(make_tree(), [])
    with pytest.raises(ValueError, match="label ids are 0 to"):
        unit_statistics(make_tree(), [[99]])
