"""A random hierarchy, written in any form that can hold it and read back, is the same: names, ids, texts, edges, labels."""

import json
import random

import networkx
import pytest

from hf_htc.data.taxonomies_writing import FORMS, taxonomy_text
from hf_htc.models.errors import HTCError
from hf_htc.models.hierarchy import LabelHierarchy


# What forms stumble over: signs of paths, comments, quotes, brackets, words of tables, other scripts.
WORDS = (
    "Food", "Sci-Fi", "a, b", "x;y", "Größe", "食品", "#tag", '"q"', "null", "0", "root beer", "A|B", "C:D", "1.1", "it's", "50%",
    "- dash", "// x", "[x]", "{y}", "a ! b", "back\\slash", "name", "parent", "TRUE", "-", "R & D <x>", "e\u0301", "id\u00a0x",
)  # fmt: skip
SEEDS = range(60)


def draw_hierarchy(seed, kind="dag", plain=False):
    """Shuffled ids; every fact that a node can have, or with `plain` names and labels only."""
    draw = random.Random(f"{seed} {kind}")
    num_nodes = draw.randint(1, 14)
    names = [f"{draw.choice(WORDS)} {i}" for i in range(num_nodes)]
    order = list(range(num_nodes))
    draw.shuffle(order)
    parents = [[] for _ in names]
    for place, node in enumerate(order):
        parents[node] = draw.sample(order[:place], min(place, draw.randint(0, 2 if kind == "dag" else 1)))
    if plain:
        return LabelHierarchy(names, parents)
    facts = {}
    if draw.random() < 0.7:
        facts["texts"] = [draw.choice(WORDS) for _ in names]
    if draw.random() < 0.7:
        facts["ids"] = [draw.choice([None, f"X:{i}", f"http://example.org/a#{i}", f"id {i} é", str(i)]) for i in range(num_nodes)]
    if draw.random() < 0.5:
        facts["descriptions"] = [f"first\n\nline, {i}" if draw.random() < 0.5 else f"d {i}" for i in range(num_nodes)]
    if draw.random() < 0.5:
        facts["alternative_names"] = [draw.sample(WORDS, draw.randint(0, 3)) for _ in names]
    if draw.random() < 0.5:
        facts["attributes"] = [
            draw.choice([{}, {"notation": "N"}, {"k": "v", "n": [1, None]}, {"notation": ["b", "a"]}]) for _ in names
        ]
    if draw.random() < 0.4:
        facts["translations"] = {"fr": [draw.choice([None, "mot"]) for _ in names], "pt-BR": ["palavra"] * num_nodes}
    if draw.random() < 0.4:
        facts["language"] = draw.choice(["de", "en"])
    return LabelHierarchy(names, parents, draw.randint(1, num_nodes), **facts)


def content_of(hierarchy, without=()):
    return {key: value for key, value in hierarchy.to_dict().items() if key not in without}


def aligned(copy, hierarchy):
    """A form that has no order of nodes: the same nodes in the first one's order."""
    assert sorted(copy.names) == sorted(hierarchy.names)
    edges = {frozenset((copy.names[i], copy.names[p]) for p in row) for i, row in enumerate(copy.parents)}
    assert edges == {frozenset((hierarchy.names[i], hierarchy.names[p]) for p in row) for i, row in enumerate(hierarchy.parents)}
    return True


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "form, suffix, lost",
    [
        ("skos", ".ttl", ()),
        ("json", ".json", ()),
        ("csv", ".csv", {"language"}),
        ("obo", ".obo", {"language", "translations"}),
    ],
)
def test_what_is_written_is_read_back(tmp_path, form, suffix, lost, seed):
    hierarchy = draw_hierarchy(seed)
    hierarchy.save(tmp_path / f"t{suffix}", form)
    options = {"root": False} if form == "obo" else {}  # as its warning says
    copy = LabelHierarchy.from_file(tmp_path / f"t{suffix}", **options)
    assert content_of(copy, lost) == content_of(hierarchy, lost)


@pytest.mark.parametrize("seed", SEEDS)
def test_paths_hold_a_tree_of_texts(tmp_path, seed):
    tree = draw_hierarchy(seed, "tree")
    try:
        tree.save(tmp_path / "t.txt", "paths")
    except HTCError as error:
        assert "Write csv, skos or json" in str(error)
        return
    with_ids = "\t" in (tmp_path / "t.txt").read_text()
    copy = LabelHierarchy.from_file(tmp_path / "t.txt", root=False)
    assert len(copy) == len(tree)
    for node in range(len(tree)):
        found = copy.find_path([tree.texts[i] for i in tree.paths(node)[0]])
        assert [copy.texts[i] for i in found] == [tree.texts[node]]
        assert not with_ids or copy.own_id(found[0]) == tree.own_id(node)


@pytest.mark.parametrize("seed", SEEDS)
def test_networkx_and_its_json(tmp_path, seed):
    hierarchy = draw_hierarchy(seed)
    graph = hierarchy.to_networkx()
    copy = LabelHierarchy.from_networkx(graph)
    assert content_of(copy) == content_of(hierarchy)
    (tmp_path / "t.json").write_text(json.dumps(networkx.node_link_data(graph, edges="links")))
    read = LabelHierarchy.from_file(tmp_path / "t.json", root=False)
    assert content_of(read, {"parents", "language"}) == content_of(hierarchy, {"parents", "language"})
    assert [sorted(row) for row in read.parents] == [sorted(row) for row in hierarchy.parents]


def nested_lines(tree):
    lines, stack = [], [(i, 0) for i in reversed(tree.top_nodes)]
    while stack:
        node, depth = stack.pop()
        lines.append("  " * depth + tree.names[node])
        stack.extend((child, depth + 1) for child in reversed(tree.children[node]))
    return "\n".join(lines) + "\n"


def records(hierarchy):
    return [
        {"id": name, "label": f"text of {name}", "parents": [hierarchy.names[p] for p in row]}
        for name, row in zip(hierarchy.names, hierarchy.parents)
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_forms_of_others(tmp_path, seed):
    tree, dag = draw_hierarchy(seed, "tree", plain=True), draw_hierarchy(seed, "dag", plain=True)
    if len(tree.edges) == 0 or len(dag.edges) == 0:
        return
    words = {name: f"n{i}" for i, name in enumerate(tree.names)}  # an outline has no signs for quotes and bullets
    plain = LabelHierarchy(list(words.values()), tree.parents)
    adjacency = {name: [dag.names[c] for c in dag.children[i]] for i, name in enumerate(dag.names)}
    for content, name, expected in (
        (json.dumps(tree.to_nested()), "nested.json", tree),
        (json.dumps(adjacency), "adjacency.json", dag),
        (json.dumps(records(dag)), "records.json", dag),
        (nested_lines(plain), "outline.txt", plain),
        ("".join(f"{p or 'Root'}\t{c}\n" for p, c in dag.to_edges(root="")), "edges.tsv", dag),
    ):
        (tmp_path / name).write_text(content)
        copy = LabelHierarchy.from_file(tmp_path / name, root="Root" if name == "edges.tsv" else False)
        assert aligned(copy, expected), name
        if name == "records.json":
            assert [copy.texts[copy.id(n)] for n in expected.names] == [f"text of {n}" for n in expected.names]
            assert copy.ids == copy.names


def test_what_a_form_cannot_hold_is_said_in_one_warning(caplog):
    tree = LabelHierarchy(
        ["a", "b", "c"], [[], [0], [0]], 2, texts=["A", "B", "C"], ids=["x", None, "z"], language="en", descriptions=["d", "", ""]
    )
    with caplog.at_level("WARNING"):
        taxonomy_text(tree, "paths")
    assert caplog.messages == [
        "paths cannot hold these ids (every node needs one, with a digit and without blanks), names (they become the paths), "
        "structure-only nodes (they become labels), descriptions, the language and translations, that the first node is a label "
        "and no root (read it with `root=False`); json keeps everything."
    ]
    for form in ("skos", "json"):
        caplog.clear()
        taxonomy_text(tree, form)
        assert caplog.messages == []


@pytest.mark.parametrize(
    "hierarchy, form, message",
    [
        (LabelHierarchy(["a", "b", "c"], [[], [], [0, 1]]), "paths", "Paths are for trees; 'c' has several parents. Write csv"),
        (LabelHierarchy(["a", "b"], [[], []]), "paths", "A hierarchy without edges has no paths"),
        (
            LabelHierarchy(["a", "b", "c"], [[], [0], [0]], texts=["x", "y", "y"]),
            "paths",
            "'b' and 'c' have the same path 'x > y'",
        ),
        (LabelHierarchy(["#a", "b"], [[], [0]]), "paths", "The line '#a' would be read as a comment"),
        (LabelHierarchy(["a\nb", "b"], [[], [0]]), "paths", r"The text 'a\\nb' holds a tab or a line break"),
        (LabelHierarchy([" a"], [[]]), "csv", "The name ' a' begins or ends with a blank"),
        (LabelHierarchy(["a"], [[]], language="in English"), "skos", "'in English' is no language tag"),
        (LabelHierarchy(["a"], [[]]), "rdf", "`format` is 'rdf'; a taxonomy is written as skos, csv, json, paths, obo"),
    ],
)
def test_what_is_refused(tmp_path, hierarchy, form, message):
    with pytest.raises(HTCError, match=message):
        hierarchy.save(tmp_path / "t.txt", form)
    assert list(tmp_path.iterdir()) == []


def test_every_form_is_an_option_of_info():
    from hf_htc.cli import info

    assert set(FORMS) == set(info.FORMS)
