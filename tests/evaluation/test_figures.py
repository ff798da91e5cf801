"""Figures: well-formed SVG that shows what it was given."""

import re
from pathlib import Path
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
    marks = [("a label", "group 3", (0.0, 0.0)), ("", "group 3", (1.0, 0.0)), ("without a colour", "other", (2.0, 1.0))]
    svg = figures.scatter(generator.normal(size=(60, 2)), groups, marks)
    assert "a label" in texts(svg) and "2 more" in texts(svg) and "without a colour" not in texts(svg)
    assert sum(name.startswith("group") for name in texts(svg)) == 10
    crowded = [(f"label {i}", f"group {i}", (0.0, 0.001 * i)) for i in range(4)]
    shown = texts(figures.scatter(generator.normal(size=(60, 2)), groups, [*crowded, ("apart", "group 5", (1.0, 1.0))]))
    assert {"label 0", "apart"} <= shown and not {"label 1", "label 2", "label 3"} & shown
    assert "more" not in "".join(texts(figures.scatter(generator.normal(size=(60, 2)), groups[:10] * 6)))


def curves(svg):
    """The points of the longer lines of a drawing, in its own coordinates, in the order in which they were drawn."""
    paths = re.findall(r'<g id="line2d_\d+">\s*<path d="([^"]*)" clip-path', svg)
    return [np.array([pair.split() for pair in re.findall(r"[ML] (\S+ \S+)", path)], dtype=float) for path in paths]


def test_curves_have_the_values():
    values = {"loss": ([1, 5, 20], [3.0, 2.5, 1.0]), "other": ([1, 10], [0.5, 2.0])}
    drawn = curves(figures.lines(None, values, "step", "value"))
    expected = np.concatenate([np.stack(pair, 1) for pair in values.values()])
    assert [len(part) for part in drawn] == [3, 2]
    for axis, sign in ((0, 1), (1, -1)):  # heights count downwards
        slope, start = np.polyfit(expected[:, axis], np.concatenate(drawn)[:, axis], 1)
        assert sign * slope > 0
        assert np.allclose(slope * expected[:, axis] + start, np.concatenate(drawn)[:, axis], atol=1e-3)


def test_marks_of_curves():
    values = {"f1": ([0.0, 1.0], [0.2, 0.8])}
    curve, line = curves(figures.lines(None, values, "threshold", "f1", mark=(0.25, 0.25, "in use: 0.25")))
    assert line[0, 0] == line[1, 0] == pytest.approx(curve[0, 0] + 0.25 * (curve[1, 0] - curve[0, 0]), abs=1e-3)
    svg = figures.lines(None, values, "threshold", "f1", mark=(0.25, 0.5, "in use"))
    assert "in use" in texts(svg) and len(curves(svg)) == 1
    assert "patch_" in svg and "opacity: 0.1" in svg


def test_no_series_is_left_out():
    names = [f"series {i}" for i in range(12)]
    for svg in (figures.lines([1, 2], {n: [0, 1] for n in names}, "x", "y"), figures.bars(["a"], {n: [0.5] for n in names})):
        assert set(names) <= texts(svg)


@pytest.mark.parametrize("suffix, start", [(".png", b"\x89PNG"), (".PNG", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_files(tmp_path, suffix, start):
    path = tmp_path / "a" / f"curve{suffix}"
    assert figures.lines(["few", "many"], {"loss": [3, 2]}, "documents", "value", path=path) is None
    assert path.read_bytes().startswith(start) and list(path.parent.iterdir()) == [path]


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "curve.png"
    path.write_bytes(b"before")

    def fails(figure, target, **options):
        Path(target).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fails)
    with pytest.raises(OSError, match="no space left"):
        figures.lines([1], {"loss": [3]}, "x", "y", path=path)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(RuntimeError, match="while drawing"), figures.drawing(path=tmp_path / "new" / "curve.png"):
        raise RuntimeError("while drawing")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["curve.docx", "curve"])
def test_a_suffix_that_says_nothing(tmp_path, name):
    with pytest.raises(ValueError, match=rf"'{name}' has the suffix '.*'; a figure's file ends in one of .*\.png"):
        figures.lines([1], {"loss": [3]}, "x", "y", path=tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_same_numbers_give_the_same_bytes():
    assert figures.bars(["a"], {"x": [0.5]}) == figures.bars(["a"], {"x": [0.5]})


@pytest.mark.parametrize("hierarchy", [make_hierarchy(kind) for kind in HIERARCHIES], ids=HIERARCHIES)
def test_icicle(hierarchy):
    spans = figures.node_spans(hierarchy)
    assert sorted(spans) == list(range(hierarchy.num_nodes))
    for node, (start, end, depth) in spans.items():
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


def test_some_branches_of_an_icicle():
    tree = make_tree()
    tops = [tree.id("weather"), tree.id("sport")]
    spans = figures.node_spans(tree, tops)
    assert {tree.names[node].split("/")[0] for node in spans} == {"weather", "sport"}
    assert spans[tops[0]] == (0, 1, 0) and spans[tops[1]] == (1, 4, 0)
    svg = figures.icicle(tree, np.full(13, 0.5), tops=tops)
    assert {"weather", "sport", "tennis"} <= texts(svg) and not {"politics", "science"} & texts(svg)


def test_long_names_are_shortened():
    assert figures.shortened("abcdef", 4) == "abc…" and figures.shortened("abc", 4) == "abc"
    svg = figures.icicle(make_tree(), np.full(13, np.nan))
    assert "#e4e4e4" in svg
