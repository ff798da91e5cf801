"""A prediction as HTML: what stands where, in which order, marked how. The HTML is read back by an XML parser."""

from xml.etree import ElementTree

import numpy as np
import pytest
from tiny_models import make_dag, make_tree

from hf_htc import LabelHierarchy
from hf_htc.hub.prediction_html import ROOT, labels_html, message_html, prediction_tree, tree_html


def read(html):
    """The element behind the style."""
    style, rest = html.split("</style>")
    assert style.startswith("<style>") and "url(" not in style and "@import" not in style
    return ElementTree.fromstring(rest)


def read_row(row):
    """Text, kind, score and width of the bar of one row; what screen readers are told is checked on the way."""
    name, *others = list(row)
    kind = row.get("class").split()[-1]
    aside = {"predicted": ", predicted", "near": ", not predicted"}.get(kind)
    assert list(name)[-1].get("class") == "aside"
    assert aside is None or list(name)[-1].text == aside
    if not others:
        return name.text, kind, None
    bar, score = others
    assert bar.get("aria-hidden") == "true"
    width = float(list(bar)[0].get("style").removeprefix("width: ").removesuffix("%"))
    assert width == pytest.approx(100 * float(score.text), abs=0.51)
    return name.text, kind, score.text


def outline(element):
    """`[(text, kind, score, [what is inside])]` of the nested lists."""
    rows = []
    for item in element.find("ul"):
        (inside,) = list(item)
        if inside.tag == "details":
            assert "open" in inside.attrib and inside[0].tag == "summary"
            rows.append((*read_row(inside[0]), outline(inside)))
        else:
            rows.append((*read_row(inside), []))
    return rows


def scores_of(hierarchy, **given):
    scores = np.full(hierarchy.num_labels, 0.01, dtype=np.float32)
    for name, score in given.items():
        scores[hierarchy.names.index(name.replace("__", "/").replace("_", " "))] = score
    return scores


def ids(hierarchy, *names):
    return [hierarchy.names.index(name) for name in names]


class TestTree:
    def test_paths_scores_and_near_labels_in_order(self):
        tree = make_tree()
        scores = scores_of(
            tree, sport=0.9, sport__football=0.6, sport__football__cup=0.3, sport__football__league=0.08, sport__tennis=0.7,
            politics=0.45, politics__tax=0.4, weather=0.47,
        )  # fmt: skip
        html = read(tree_html(tree, ids(tree, "sport/tennis", "sport", "sport/football"), scores))
        # Predicted labels by score, behind them labels that were not, with a score of at least 0.1; nothing below the latter.
        assert outline(html) == [
            ("sport", "predicted", "0.90", [
                ("tennis", "predicted", "0.70", []),
                ("football", "predicted", "0.60", [("cup", "near", "0.30", [])]),
            ]),
            ("weather", "near", "0.47", []),
            ("politics", "near", "0.45", []),
        ]  # fmt: skip
        assert html.find("p").text == "3 of 13 labels predicted. Grey: not predicted, but scored high."

    def test_at_most_three_near_labels_below_a_node(self):
        hierarchy = LabelHierarchy.from_paths([f"top/{i}" for i in range(9)])
        scores = np.asarray([0.9, *(0.1 + 0.04 * i for i in range(9))])
        assert prediction_tree(hierarchy, [0], scores) == {ROOT: [(0, "predicted")], 0: [(9, "near"), (8, "near"), (7, "near")]}
        assert len(prediction_tree(hierarchy, [0], scores, num_near=20, near_score=0.25)[0]) == 5

    def test_a_label_without_its_parent_stands_below_it(self):
        tree = make_tree()
        html = read(tree_html(tree, ids(tree, "sport/football/cup"), scores_of(tree, sport=0.2, sport__football__cup=0.8)))
        assert outline(html) == [("sport", "way", "0.20", [("football", "way", "0.01", [("cup", "predicted", "0.80", [])])])]

    def test_nothing_predicted(self):
        tree = make_tree()
        html = read(tree_html(tree, [], scores_of(tree, weather=0.3)))
        assert outline(html) == [("weather", "near", "0.30", [])]
        assert html.find("p").text == "No label is predicted. Grey: not predicted, but scored high."
        html = read(tree_html(tree, [], scores_of(tree)))
        assert outline(html) == [] and html.find("p").text == "No label is predicted."

    def test_a_note_stands_before(self):
        tree = make_tree()
        html = read(tree_html(tree, [], scores_of(tree), note="<Cut>."))
        assert html.find("p").text == "<Cut>. No label is predicted."


class TestDag:
    def test_a_label_stands_under_each_predicted_parent(self):
        dag = make_dag()
        scores = scores_of(dag, economy=0.6, politics=0.9, tax=0.7, income_tax=0.55, bank=0.2)
        below_tax = [("income tax", "predicted", "0.55", [])]
        predicted = ids(dag, "politics", "economy", "tax", "income tax")
        assert outline(read(tree_html(dag, predicted, scores))) == [
            ("politics", "predicted", "0.90", [("tax", "predicted", "0.70", below_tax)]),
            ("economy", "predicted", "0.60", [("tax", "predicted", "0.70", below_tax), ("bank", "near", "0.20", [])]),
        ]
        # A parent that was not predicted is left out, however high it scores.
        scores = scores_of(dag, economy=0.49, politics=0.9, tax=0.7)
        assert outline(read(tree_html(dag, ids(dag, "politics", "tax"), scores))) == [
            ("politics", "predicted", "0.90", [("tax", "predicted", "0.70", [])]),
            ("economy", "near", "0.49", []),
        ]
        # None was predicted: the better one shows the way.
        assert outline(read(tree_html(dag, ids(dag, "tax"), scores)))[0] == (
            "politics", "way", "0.90", [("tax", "predicted", "0.70", [])],
        )  # fmt: skip

    def test_a_node_that_is_no_label_has_no_score(self):
        dag = make_dag()
        scores = scores_of(dag, politics=0.6, minister=0.8)
        minister = [("minister", "predicted", "0.80", [])]
        assert outline(read(tree_html(dag, ids(dag, "minister", "politics"), scores))) == [
            ("people", "structure", None, minister),
            ("politics", "predicted", "0.60", minister),
        ]

    def test_very_many_paths_are_not_all_drawn(self):
        levels, edges = 24, []  # two labels a level, each below both of the level above: 2 ** 24 paths
        for level in range(1, levels):
            edges += [(f"{level - 1}{a}", f"{level}{b}") for a in "xy" for b in "xy"]
        dag = LabelHierarchy.from_edges([("Root", "0x"), ("Root", "0y"), *edges])
        html = tree_html(dag, list(range(dag.num_labels)), np.full(dag.num_labels, 0.9))
        assert 600 < html.count('<span class="score">') < 800
        assert "(what is below stands above)" in html
        read(html)


def test_names_are_escaped():
    bad = "<script>alert('1')</script> & \"more\""
    hierarchy = LabelHierarchy.from_edges([("Root", bad), (bad, "</span><b>bold</b>")])
    scores = np.asarray([0.9, 0.8])
    for html in (tree_html(hierarchy, [0, 1], scores), labels_html(hierarchy, [0], scores)):
        assert "<script" not in html and "<b>" not in html
        names = [span for span in read(html).iter("span") if span.get("class") == "name"]
        assert [span.text for span in names] == hierarchy.names == [span.get("title") for span in names]
    assert read(message_html("<h>", "<i>none</i>")).find("p").text == "<i>none</i>"


def test_the_best_scoring_labels():
    tree = make_tree()
    scores = scores_of(tree, sport=0.9, sport__football=0.2, weather=0.4)
    items = read(labels_html(tree, ids(tree, "sport", "sport/football"), scores, top_k=4)).find("ol")
    assert [read_row(item[0]) for item in items] == [
        ("sport", "predicted", "0.90"),
        ("weather", "near", "0.40"),
        ("sport/football", "predicted", "0.20"),
        ("sport/football/cup", "near", "0.01"),
    ]


def test_thirty_thousand_labels():
    """All predicted, as with a threshold of 0: what is written stays small, and no predicted label is called a near one."""
    hierarchy = LabelHierarchy.from_edges([("Root" if i < 100 else f"{i % 100}", f"{i}") for i in range(30_000)])
    scores = np.random.default_rng(0).random(30_000).astype(np.float32)
    html = tree_html(hierarchy, list(range(30_000)), scores)
    shown = html.count('<span class="score">')
    assert 200 <= shown <= 300 and 'class="row near"' not in html and len(html) < 200_000
    assert read(html).find("p").text == f"30,000 of 30,000 labels predicted. The best {shown:,} are shown."
    best = int(scores.argmax())
    assert f">{hierarchy.texts[best]}<" in html
    few = tree_html(hierarchy, [5, 105], scores)
    assert few.count("<li>") == 2 + 3 * 2  # two labels, and three near ones at the top and below the first
