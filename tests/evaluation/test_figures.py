"""Figures: well-formed SVG that shows what it was given."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from tiny_models import HIERARCHIES, make_hierarchy, make_tree

from hf_htc import LabelHierarchy
from hf_htc.evaluation import figures


def parse(svg):
    assert svg.startswith("<svg")
    return ElementTree.fromstring(svg)


def texts(svg):
    return {"".join(element.itertext()).strip() for element in parse(svg).iter() if element.tag.endswith("text")}


def test_bars_lines_and_dots():
    svg = figures.bars(["level 1", "level 2"], {"micro": [0.9, 0.5], "macro": [0.8, float("nan")]})
    assert {"level 1", "level 2", "micro", "macro", "F1"} <= texts(svg)
    svg = figures.lines([1, 2, 3], {"loss": [3, 2, 1], "other": ([1, 3], [2, 2])}, "step", "value")
    assert {"step", "value", "loss", "other"} <= texts(svg)
    svg = figures.reliability(np.array([0.1, np.nan, 0.9]), np.array([0.2, np.nan, 0.8]), np.array([10, 0, 5]))
    assert {"mean score", "share that holds"} <= texts(svg)
    generator = np.random.default_rng(0)
    groups = [f"group {i % 12}" for i in range(60)]
    svg = figures.scatter(generator.normal(size=(60, 2)), groups, {"a label": (0.0, 0.0)})
    assert "a label" in texts(svg) and sum(name.startswith("group") for name in texts(svg)) == 10


def test_the_same_numbers_give_the_same_bytes():
    assert figures.bars(["a"], {"x": [0.5]}) == figures.bars(["a"], {"x": [0.5]})


@pytest.mark.parametrize("hierarchy", [make_hierarchy(kind) for kind in HIERARCHIES], ids=HIERARCHIES)
def test_icicle(hierarchy):
    spans = figures.node_spans(hierarchy)
    for node, (start, end, depth) in enumerate(spans):
        assert 0 <= start < end
        if hierarchy.parents[node]:
            above = spans[hierarchy.parents[node][0]]
            assert above[0] <= start and end <= above[1] and above[2] == depth - 1
        else:
            assert depth == 0
    svg = figures.icicle(hierarchy, np.linspace(0, 1, hierarchy.num_labels))
    assert any(name in texts(svg) for name in hierarchy.texts) and "level 1" in texts(svg)
    boxes = re.findall(r'<path d="M [^"]*z', svg)
    assert len(boxes) >= hierarchy.num_nodes


def test_a_large_hierarchy_is_cut_at_a_level():
    large = LabelHierarchy([f"n{i}" for i in range(6000)], [[] if i < 20 else [i % 20] for i in range(6000)])
    svg = figures.icicle(large, np.full(6000, 0.5))
    assert "level 1" in texts(svg) and "level 2" not in texts(svg) and len(svg) < 200_000


def test_long_names_are_shortened():
    assert figures.shortened("abcdef", 4) == "abc…" and figures.shortened("abc", 4) == "abc"
    svg = figures.icicle(make_tree(), np.full(13, np.nan))
    assert "#e4e4e4" in svg
