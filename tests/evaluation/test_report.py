"""The Markdown report, against numbers counted by hand."""

import pytest

from hf_htc import LabelHierarchy
from hf_htc.evaluation.report import report_markdown
from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer


@pytest.fixture
def hierarchy():
    return LabelHierarchy.from_paths(["sport/tennis", "sport/a|b", "weather"])


def test_report(hierarchy):
    """sport 2 of 2, tennis missed once, a|b wrongly predicted twice, weather never there."""
    scorer = HierarchicalScorer(hierarchy.parents, hierarchy.num_labels, names=hierarchy.names)
    scorer.add([[0, 2], [0, 2]], [[0, 1], [0]])
    report = report_markdown(scorer.compute(), scorer, hierarchy, "Flat on a test", label_counts=[1000, 400, 300, 0])
    lines = report.split("\n")
    assert lines[0] == "# Flat on a test"
    assert "2 documents, 4 labels, closure `none`." in lines
    # micro: 2 hits of 4 predicted and of 3 gold; F1 = 4/7
    assert "| micro | 50.00 | 66.67 | 57.14 |" in lines
    # macro: F1 1, 0, 0, 0 over 4 labels
    assert "| macro | 25.00 | 25.00 | 25.00 |" in lines
    # samples: F1 2*1/(2+2) and 2*1/(2+1)
    assert "| samples | 50.00 | 75.00 | 58.33 |" in lines
    # weighted by support 2, 1
    assert "| weighted | 66.67 | 66.67 | 66.67 |" in lines
    assert "| 1 | 2 | 100.00 | 50.00 |" in lines
    assert "| 2 | 2 | 0.00 | 0.00 |" in lines
    table = lines[lines.index("## Labels with most errors") + 4 :]
    assert table == ["| sport/a\\|b | 300 | 0 | 0 | 2 | 0.00 |", "| sport/tennis | 400 | 1 | 1 | 0 | 0.00 |", ""]
    assert "Exact match: 0.00; predicted labels with all their ancestors: 100.00." in report


def test_only_the_worst_labels_and_no_counts(hierarchy):
    scorer = HierarchicalScorer(hierarchy.parents, hierarchy.num_labels, names=hierarchy.names)
    scorer.add([[0, 2], [0, 2]], [[0, 1], [0]])
    report = report_markdown(scorer.compute(), scorer, hierarchy, "A title", num_worst=1)
    assert report.endswith("| sport/a\\|b |  | 0 | 0 | 2 | 0.00 |\n")
    assert "sport/tennis" not in report


def test_a_level_without_labels():
    hierarchy = LabelHierarchy.from_edges([("Root", "a"), ("a", "b"), ("Root", "c")], labels=["b"])
    scorer = HierarchicalScorer(hierarchy.parents, hierarchy.num_labels, closure="up")
    scorer.add([[0], []], [[0], [0]])
    report = report_markdown(scorer.compute(), scorer, hierarchy, "Deep labels only")
    levels = report.split("## By level")[1].split("## Labels")[0]
    assert "| 2 | 1 | 66.67 | 66.67 |" in levels
    assert "| 1 | 0 |" not in levels
