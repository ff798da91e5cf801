"""`LabelHierarchy` against networkx and plain loops, on random trees and DAGs; every form and every error."""

import json
import random
import re

import networkx
import numpy as np
import pytest
from tiny_models import csr

from hf_htc.models.hierarchy import LabelHierarchy


CASES = [(kind, seed) for kind in ("tree", "dag", "dag with structure-only nodes") for seed in range(8)]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}, {case[1]}")
def case(request):
    """A random hierarchy and, from the same edges, a networkx graph of ids. Ids are shuffled against the levels."""
    kind, seed = request.param
    draw = random.Random(f"{kind} {seed}")
    num_nodes = draw.randint(1, 40)
    order = list(range(num_nodes))
    draw.shuffle(order)
    parents = [[] for _ in range(num_nodes)]
    for place, node in enumerate(order):
        most = min(place, 1 if kind == "tree" else 3)
        parents[node] = draw.sample(order[:place], draw.randint(0, most))
    num_labels = draw.randint(1, num_nodes) if "structure" in kind else num_nodes
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(num_nodes))
    graph.add_edges_from((p, child) for child, row in enumerate(parents) for p in row)
    return LabelHierarchy([f"node {i}" for i in range(num_nodes)], parents, num_labels), graph, draw


def draw_sets(draw, num_labels, num_sets=25):
    """Label sets with empty ones and repeated ids among them."""
    sets = [[draw.randrange(num_labels) for _ in range(draw.randint(0, 6))] for _ in range(num_sets)]
    return [[], *sets, [num_labels - 1, num_labels - 1]]


def rows_of(pair):
    indptr, indices = pair
    return [indices[a:b].tolist() for a, b in zip(indptr, indptr[1:])]


class TestAgainstNetworkx:
    def test_levels(self, case):
        hierarchy, graph, _ = case
        levels = {}
        for node in networkx.topological_sort(graph):
            levels[node] = 1 + max((levels[p] for p in graph.predecessors(node)), default=0)
        assert hierarchy.levels.tolist() == [levels[i] for i in range(len(graph))]
        assert hierarchy.levels.dtype == np.int64
        assert hierarchy.num_levels == networkx.dag_longest_path_length(graph) + 1

    def test_relatives(self, case):
        hierarchy, graph, _ = case
        top = {i for i in graph if graph.in_degree(i) == 0}
        for node in graph:
            assert set(hierarchy.ancestors(node)) == networkx.ancestors(graph, node)
            above = [hierarchy.levels[i] for i in hierarchy.ancestors(node)]
            assert above == sorted(above)
            assert hierarchy.descendants(node) == sorted(networkx.descendants(graph, node))
            assert hierarchy.children[node] == sorted(graph.successors(node))
            family = {i for p in graph.predecessors(node) for i in graph.successors(p)} if node not in top else top
            assert hierarchy.siblings(node) == sorted(family - {node})
        indptr, indices = hierarchy.ancestor_table
        assert rows_of((indptr, indices)) == [sorted(networkx.ancestors(graph, i)) for i in range(len(graph))]

    def test_paths(self, case):
        hierarchy, graph, _ = case
        top = [i for i in graph if graph.in_degree(i) == 0]
        for node in graph:
            expected = [[node]] if node in top else []
            for start in top:
                expected += [path for path in networkx.all_simple_paths(graph, start, node) if len(path) > 1]
            paths = hierarchy.paths(node)
            assert sorted(paths) == sorted(expected)
            assert hierarchy.paths(node, max_paths=2) == paths[:2]

    def test_whole(self, case):
        hierarchy, graph, _ = case
        top = [i for i in range(len(graph)) if graph.in_degree(i) == 0]
        assert hierarchy.top_nodes == top
        assert hierarchy.leaves == [i for i in range(len(graph)) if graph.out_degree(i) == 0]
        assert hierarchy.is_tree == (max(d for _, d in graph.in_degree()) <= 1)
        assert sorted(map(tuple, hierarchy.edges.tolist())) == sorted(graph.edges)
        branches = [branch.tolist() for branch in hierarchy.root_branches()]
        assert branches == [sorted({i, *networkx.descendants(graph, i)}) for i in top]
        assert [sorted(row) for row in hierarchy.children] == [sorted(graph.successors(i)) for i in range(len(graph))]
        by_level = [unit.tolist() for unit in hierarchy.level_units()]
        assert sorted(i for unit in by_level for i in unit) == list(range(hierarchy.num_labels))
        assert all(hierarchy.levels[i] == level for level, unit in enumerate(by_level, 1) for i in unit)
        assert len(by_level) == hierarchy.num_levels

    def test_statistics(self, case):
        hierarchy, graph, _ = case
        levels = hierarchy.levels.tolist()
        assert hierarchy.statistics() == {
            "num_labels": hierarchy.num_labels,
            "num_nodes": len(graph),
            "num_edges": graph.number_of_edges(),
            "num_levels": max(levels),
            "labels_per_level": [levels[: hierarchy.num_labels].count(n) for n in range(1, max(levels) + 1)],
            "nodes_per_level": [levels.count(n) for n in range(1, max(levels) + 1)],
            "num_leaves": sum(d == 0 for _, d in graph.out_degree()),
            "num_top_nodes": sum(d == 0 for _, d in graph.in_degree()),
            "num_isolated": networkx.number_of_isolates(graph),
            "num_multiple_parents": sum(d > 1 for _, d in graph.in_degree()),
            "max_children": max(levels.count(1), *(d for _, d in graph.out_degree())),
            "is_tree": all(d <= 1 for _, d in graph.in_degree()),
        }

    @pytest.mark.parametrize("kind", ["lists", "csr"])
    def test_closure(self, case, kind):
        hierarchy, graph, draw = case
        given = draw_sets(draw, hierarchy.num_labels)
        above = {i: {a for a in networkx.ancestors(graph, i) if a < hierarchy.num_labels} for i in range(hierarchy.num_labels)}
        closed = [sorted(set(row).union(*(above[i] for i in row))) for row in given]
        pruned = [sorted({i for i in row if above[i] <= set(row)}) for row in given]
        missing = [(n, i, a) for n, row in enumerate(given) for i in set(row) for a in above[i] - set(row)]
        sets, read = (given, list) if kind == "lists" else (csr(given), rows_of)
        assert read(hierarchy.close(sets)) == closed
        assert read(hierarchy.prune(sets)) == pruned
        violations = hierarchy.violations(sets)
        assert sorted(map(tuple, violations.tolist())) == sorted(missing)
        assert violations.shape == (len(missing), 3)
        assert violations.dtype == np.int64
        assert hierarchy.is_closed(sets) == (not missing)
        assert hierarchy.is_closed(hierarchy.close(sets))
        assert hierarchy.is_closed(hierarchy.prune(sets))

    def test_restrict(self, case):
        hierarchy, graph, draw = case
        kept = sorted(draw.sample(range(hierarchy.num_labels), draw.randint(1, hierarchy.num_labels)))
        above = sorted(set().union(*(networkx.ancestors(graph, i) for i in kept)) - set(kept))
        small = hierarchy.restrict(draw.sample([hierarchy.names[i] for i in kept], len(kept)))
        assert small.names == [hierarchy.names[i] for i in kept + above]
        assert small.num_labels == len(kept)
        edges = {(small.names[p], small.names[i]) for i, row in enumerate(small.parents) for p in row}
        inside = graph.subgraph(kept + above)
        assert edges == {(hierarchy.names[p], hierarchy.names[i]) for p, i in inside.edges}
        assert hierarchy.restrict(kept) == small

    def test_with_labels(self, case):
        hierarchy, graph, draw = case
        labels = draw.sample(hierarchy.names, draw.randint(1, hierarchy.num_nodes))
        other = hierarchy.with_labels(labels)
        assert other.label_names == labels
        assert set(other.names) == set(hierarchy.names)
        for name in hierarchy.names:
            above = {other.names[i] for i in other.ancestors(other.id(name))}
            assert above == {hierarchy.names[i] for i in networkx.ancestors(graph, hierarchy.id(name))}

    def test_forms_and_back(self, case, tmp_path):
        hierarchy, _, _ = case
        labels = hierarchy.label_names
        copies = {
            "dict": LabelHierarchy.from_dict(json.loads(json.dumps(hierarchy.to_dict()))),
            "edges": LabelHierarchy.from_edges(hierarchy.to_edges(), labels),
            "edges of another root": LabelHierarchy.from_edges(hierarchy.to_edges(root="node"), labels, root="node"),
            "networkx": LabelHierarchy.from_networkx(hierarchy.to_networkx(), labels),
        }
        for name in ("taxonomy.tsv", "taxonomy.json"):
            hierarchy.save(tmp_path / "new folder" / name)
            copies[name] = LabelHierarchy.from_file(tmp_path / "new folder" / name, labels)
        for form, copy in copies.items():
            assert copy == hierarchy, form
            assert hash(copy) == hash(hierarchy)
            assert copy.fingerprint() == hierarchy.fingerprint()
        assert sorted(f.name for f in (tmp_path / "new folder").iterdir()) == ["taxonomy.json", "taxonomy.tsv"]
        if hierarchy.is_tree:
            again = LabelHierarchy.from_nested(hierarchy.to_nested())
            assert again.with_labels(hierarchy.names) == hierarchy.with_labels(hierarchy.names)
        else:
            with pytest.raises(ValueError, match="'node [0-9]+' has several parents. Use `to_edges`"):
                hierarchy.to_nested()


@pytest.fixture
def dag():
    """7 labels and one structure-only node, `people`; tax, income tax and minister hang on two paths each."""
    edges = [
        ("Root", "economy"), ("Root", "politics"), ("Root", "people"), ("Root", "weather"), ("economy", "tax"),
        ("politics", "tax"), ("tax", "income tax"), ("people", "minister"), ("politics", "minister"), ("economy", "bank"),
    ]  # fmt: skip
    labels = ["politics", "tax", "income tax", "minister", "bank", "weather", "economy"]
    return LabelHierarchy.from_edges(edges, labels=labels)


class TestForms:
    PATHS = ("sport/ball/football", "sport/ball/tennis", "politics", "science/biology", "science/ball")

    @pytest.fixture
    def tree(self):
        return LabelHierarchy.from_paths(self.PATHS)

    def test_paths(self, tree):
        assert tree.names == [
            "sport", "sport/ball", "sport/ball/football", "sport/ball/tennis", "politics",
            "science", "science/biology", "science/ball",
        ]  # fmt: skip
        assert tree.texts == ["sport", "ball", "football", "tennis", "politics", "science", "biology", "ball"]
        assert tree.parents == [[], [0], [1], [1], [], [], [5], [5]]
        assert LabelHierarchy.from_paths(tree.to_paths()) == tree
        assert LabelHierarchy.from_paths([path.split("/") for path in self.PATHS]) == tree
        other = LabelHierarchy.from_paths([path.replace("/", " > ") for path in self.PATHS], separator=">")
        assert other.names[2] == "sport>ball>football"
        assert other.texts == tree.texts

    def test_nested(self, tree):
        nested = {"sport": {"ball": ["football", "tennis"]}, "politics": None, "science": [{"biology": {}}, "ball"]}
        found = LabelHierarchy.from_nested(nested, separator="/")
        assert found.with_labels(tree.names) == tree
        with pytest.raises(ValueError, match="'ball' occurs twice .*second at 'science/ball'.*separator='/'"):
            LabelHierarchy.from_nested(nested)
        with pytest.raises(TypeError, match="holds 3 under 'sport'; names are strings"):
            LabelHierarchy.from_nested({"sport": {3: {}}})

    def test_paths_of_a_dag(self, dag):
        found = [path for path in dag.to_paths() if path.endswith("income tax")]
        assert sorted(found) == ["economy/tax/income tax", "politics/tax/income tax"]
        assert len(dag.to_paths()) == 11  # 8 nodes, three of them on two paths

    def test_structure_only_labels(self):
        tree = LabelHierarchy.from_edges([("Root", "a"), ("a", "b"), ("b", "c")], labels=["c", "a"])
        assert tree.names == ["c", "a", "b"]
        assert tree.label_names == ["c", "a"]
        assert tree.close([[0]]) == [[0, 1]]  # b lies between them and is no label
        assert tree.prune([[0]]) == [[]]
        assert tree.violations([[1], [0]]).tolist() == [[1, 0, 1]]
        assert [unit.tolist() for unit in tree.level_units()] == [[1], [], [0]]

    def test_edges_without_root(self):
        found = LabelHierarchy.from_edges([("a", "b"), ("b", "c"), ("a", "c")])
        assert found.names == ["a", "b", "c"]
        assert found.parents == [[], [0], [1, 0]]
        isolated = LabelHierarchy.from_edges([("a", "b")], labels=["z", "b", "a"])
        assert isolated.parents == [[], [2], []]
        assert LabelHierarchy.from_edges([(None, "a"), ("", "b"), ("b", "c")]).parents == [[], [], [1]]

    def test_flat_parents(self):
        assert LabelHierarchy(["a", "b", "c"], [-1, 0, None]).parents == [[], [0], []]

    def test_one_label(self):
        one = LabelHierarchy(["only"], [[]])
        assert (one.num_levels, one.top_nodes, one.leaves, one.is_tree, len(one)) == (1, [0], [0], True, 1)
        assert one.close([[0], []]) == [[0], []]
        assert one.paths(0) == [[0]]
        assert one.siblings(0) == []
        assert one.tree() == "only"
        assert one.statistics()["num_isolated"] == 1
        assert LabelHierarchy.from_edges(one.to_edges()) == one

    def test_isolated_labels(self):
        isolated = LabelHierarchy(["a", "b", "c"], [[], [], []])
        assert isolated.num_levels == 1
        assert isolated.is_closed([[0, 2]])
        assert isolated.siblings(1) == [0, 2]
        assert isolated.edges.shape == (0, 2)

    def test_no_sets(self):
        tree = LabelHierarchy(["a", "b"], [[], [0]])
        assert tree.close([]) == []
        assert tree.violations([]).shape == (0, 3)
        indptr, indices = tree.close((np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64)))
        assert (indptr.tolist(), indices.tolist()) == ([0], [])
        assert tree.close(iter([[1], [0]])) == [[0, 1], [0]]

    def test_texts_and_descriptions(self, tmp_path):
        tree = LabelHierarchy.from_edges(
            [("Root", "A1"), ("A1", "A2")], texts={"A2": "tax law"}, descriptions={"A1": "All of economics."}
        )
        assert tree.texts == ["A1", "tax law"]
        assert tree.descriptions == ["All of economics.", ""]
        tree.save(tmp_path / "t.json")
        for copy in (
            LabelHierarchy.from_file(tmp_path / "t.json"),
            LabelHierarchy.from_networkx(tree.to_networkx()),
            tree.with_labels(tree.names),
            tree.restrict(tree.names),
        ):
            assert copy == tree
        assert tree.restrict(["A2"]).texts == ["tax law", "A1"]
        plain = LabelHierarchy(tree.names, tree.parents)
        assert plain != tree
        assert plain.fingerprint() != tree.fingerprint()

    def test_unequal(self):
        tree = LabelHierarchy(["a", "b", "c"], [[], [0], [0]])
        others = [
            LabelHierarchy(["a", "b", "d"], [[], [0], [0]]),
            LabelHierarchy(["a", "b", "c"], [[], [0], [1]]),
            LabelHierarchy(["a", "b", "c"], [[], [0], [0]], num_labels=2),
            LabelHierarchy(["a", "b", "c"], [[], [0], [0]], texts=["a", "b", "x"]),
        ]
        assert len({tree.fingerprint(), *(other.fingerprint() for other in others)}) == 5
        assert all(tree != other for other in others)
        assert tree != "a tree"
        assert re.fullmatch("[0-9a-f]{16}", tree.fingerprint())
        assert len({tree, LabelHierarchy(["a", "b", "c"], [[], [0], [0]])}) == 1

    def test_names_and_ids(self, tree):
        assert tree.id("science") == 5
        assert "science" in tree
        assert "Science" not in tree
        assert tree.encode([["science", "politics"], []]) == [[5, 4], []]
        assert tree.decode([[5, 4], []]) == [["science", "politics"], []]

    def test_repr(self, dag, tree):
        assert repr(tree) == "LabelHierarchy(tree of 8 labels, 3 levels)"
        assert repr(dag) == "LabelHierarchy(DAG of 7 labels, 1 structure-only nodes, 3 levels)"


class TestFiles:
    def write(self, tmp_path, content, name="taxonomy.tsv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    @pytest.mark.parametrize(
        "content",
        [
            "Root\tsport\nRoot\tpolitics\nsport\tfootball\nsport\ttennis\n",
            "Root\tsport\tpolitics\nsport\tfootball\ttennis\n",
            "Root\tsport\tpolitics\t\r\n\r\nsport \t football\ttennis\r\n",
            "\tsport\n\tpolitics\nsport\tfootball\nsport\ttennis",
            b"\xef\xbb\xbfRoot\tsport\tpolitics\nsport\tfootball\ttennis\n",
        ],
        ids=["pairs", "several children a line", "Windows line ends and padding", "empty first column", "byte order mark"],
    )
    def test_lines(self, tmp_path, content):
        tree = LabelHierarchy.from_file(self.write(tmp_path, content))
        assert tree.names == ["sport", "politics", "football", "tennis"]
        assert tree.parents == [[], [], [0], [0]]

    def test_paths_file(self, tmp_path):
        tree = LabelHierarchy.from_file(self.write(tmp_path, "sport/football\n\n sport/tennis\npolitics", "paths.txt"))
        assert tree.names == ["sport", "sport/football", "sport/tennis", "politics"]
        other = LabelHierarchy.from_file(self.write(tmp_path, "a > b\n", "paths.txt"), separator=" > ")
        assert other.names == ["a", "a > b"]

    def test_nested_json(self, tmp_path):
        tree = LabelHierarchy.from_file(self.write(tmp_path, '\ufeff{"sport": {"tennis": {}}}', "t.json"), labels=["tennis"])
        assert tree.names == ["tennis", "sport"]
        assert tree.num_labels == 1

    def test_line_separators_inside_a_name(self, tmp_path):
        tree = LabelHierarchy(["a\u2028b", "c\x0cd"], [[], [0]])
        tree.save(tmp_path / "t.tsv")
        assert LabelHierarchy.from_file(tmp_path / "t.tsv") == tree

    @pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\rb", " a", "a "])
    def test_names_that_lines_cannot_hold(self, tmp_path, name):
        tree = LabelHierarchy([name], [[]])
        with pytest.raises(ValueError, match=re.escape(repr(name)) + ".*as .json instead"):
            tree.save(tmp_path / "t.tsv")
        assert list(tmp_path.iterdir()) == []
        tree.save(tmp_path / "t.json")
        assert LabelHierarchy.from_file(tmp_path / "t.json") == tree

    def test_a_node_named_like_the_root(self, tmp_path):
        tree = LabelHierarchy(["Root", "a"], [[], [0]])
        with pytest.raises(ValueError, match="name of the virtual root, 'Root'; pass another `root`"):
            tree.save(tmp_path / "t.tsv")
        assert LabelHierarchy.from_edges(tree.to_edges(root=None), root=None) == tree

    @pytest.mark.parametrize(
        "content, message",
        [
            ("Root\ta\nb c\nRoot\td\n", r"taxonomy.tsv, line 2: is not `parent<TAB>child`: 'b c'"),
            ("Root\ta\n\na\t\tb\n", r"taxonomy.tsv, line 3: is not `parent<TAB>child`: 'a\\t\\tb'"),
            ("\n \n", "taxonomy.tsv: is empty"),
            ("Root\tgrün\nRoot\trot\n".encode() + b"Root\t\xe4\n", "taxonomy.tsv, line 3: is not UTF-8 text"),
            (
                "Root\tsport\nsprot\ttennis\n",
                r"taxonomy.tsv, line 2: the unknown parent 'sprot' of 'tennis' .*Close names: \['sport'\].*Add an entry for it",
            ),
        ],
        ids=["no tab", "empty column", "empty", "not UTF-8", "unknown parent"],
    )
    def test_bad_lines(self, tmp_path, content, message):
        with pytest.raises(ValueError, match=message):
            LabelHierarchy.from_file(self.write(tmp_path, content))

    @pytest.mark.parametrize(
        "content, message",
        [
            ('{"a": ', r"t.json, line 1: is not valid JSON: .*line 1 column 7"),
            ('{"names": ["a"], "parents": [[]], "level": [1]}', r"unknown keys \['level'\]"),
            ("{}", "has no nodes"),
            ('{"ä": {},\n"ö": {},\n'.encode() + b'"\xe4": {}}', "t.json, line 3: is not UTF-8 text"),
        ],
    )
    def test_bad_json(self, tmp_path, content, message):
        with pytest.raises(ValueError, match=message):
            LabelHierarchy.from_file(self.write(tmp_path, content, "t.json"))

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no taxonomy file '.*none.tsv'.*parent<TAB>child"):
            LabelHierarchy.from_file(tmp_path / "none.tsv")


class TestErrors:
    @pytest.mark.parametrize(
        "names, parents, options, message",
        [
            (
                ["a", "b", "c", "d"],
                [[], [3], [1], [2]],
                {},
                "cycle: (b -> c -> d -> b|c -> d -> b -> c|d -> b -> c -> d)\\. Remove",
            ),
            (["a", "b"], [[], [1]], {}, "cycle: b -> b"),
            (["a", "b", "below"], [[1], [0], [0]], {}, "cycle: (a -> b -> a|b -> a -> b)\\."),
            (["a", "b", "a"], [[], [], []], {}, "The name 'a' stands for two nodes, 0 and 2 .duplicate name"),
            (["a", " "], [[], []], {}, "Node 1 has an empty name"),
            (["a", "b"], [[], [2]], {}, "Node 'b' has the unknown parent id 2; node ids are 0 to 1"),
            (["a", "b"], [[], [-2]], {}, "Node 'b' has the unknown parent id -2"),
            (["a", "b"], [[], [0, 0]], {}, r"Node 'b' lists the same parent twice: \['a', 'a'\]"),
            ([], [], {}, "has no nodes"),
            (["a", "b"], [[]], {}, "`parents` has 1 rows for 2 nodes"),
            (["a"], [[]], {"texts": ["x", "y"]}, "`texts` has 2 entries for 1 nodes"),
            (["a"], [[]], {"descriptions": []}, "`descriptions` has 0 entries for 1 nodes"),
            (["a"], [[]], {"num_labels": 2}, "`num_labels` is 2; it must lie between 1 and the number of nodes, 1"),
            (["a"], [[]], {"num_labels": 0}, "`num_labels` is 0"),
        ],
    )
    def test_class(self, names, parents, options, message):
        with pytest.raises(ValueError, match=message):
            LabelHierarchy(names, parents, **options)

    def test_long_cycle_is_shortened(self):
        with pytest.raises(ValueError, match="cycle: .* -> ... 81 more ... -> ") as error:
            LabelHierarchy([f"n{i}" for i in range(100)], [[(i - 1) % 100] for i in range(100)])
        assert len(str(error.value)) < 400

    def test_name_of_another_type(self):
        with pytest.raises(TypeError, match="Node 1 has the name 3 of type int"):
            LabelHierarchy(["a", 3], [[], []])
        with pytest.raises(TypeError, match="Edge 1 has the child 3 of type int"):
            LabelHierarchy.from_edges([("Root", "a"), ("a", 3)])
        with pytest.raises(TypeError, match=r"The path \['a', 3\] has the segment 3"):
            LabelHierarchy.from_paths([["a", 3]])
        graph = networkx.DiGraph([(1, 2)])
        with pytest.raises(TypeError, match="names are strings"):
            LabelHierarchy.from_networkx(graph)
        with pytest.raises(TypeError, match="must be a directed networkx graph"):
            LabelHierarchy.from_networkx(networkx.Graph([("a", "b")]))

    @pytest.mark.parametrize(
        "edges, labels, message",
        [
            ([("Root", "a"), ("a", "b"), ("a", "b")], None, "edge 'a' -> 'b' is given twice .duplicate edge"),
            ([("Root", "a"), ("", "a")], None, "edge '' -> 'a' is given twice"),
            ([("Root", "a"), ("a", "")], None, r"Edge 1 \('a' -> ''\) has an empty name as child"),
            ([("Root", "a"), ("a", None)], None, "Edge 1 .* has an empty name as child"),
            ([("Root", "a"), ("  ", "b")], None, "Edge 1 .* has an empty name as parent"),
            ([("Root", "a"), ("a", "Root")], None, "Edge 1 makes the root 'Root' a child of 'a'"),
            ([("Root", "a"), ("Root", "b"), ("a", "b")], None, "'b' is a child of the root and of 'a'"),
            ([("Root", "art"), ("arts", "music")], None, r"unknown parent 'arts' .*Close names: \['art'\]"),
            ([("Root", "a"), ("b", "c"), ("c", "b")], None, "cycle: (b -> c -> b|c -> b -> c)"),
            ([("Root", "music")], ["music", "musik"], r"label 'musik' is not in the taxonomy \(1 such labels\).*\['music'\]"),
            ([("Root", "a")], ["a", "a"], "duplicate name"),
            ([], None, "has no nodes"),
        ],
    )
    def test_edges(self, edges, labels, message):
        with pytest.raises(ValueError, match=message):
            LabelHierarchy.from_edges(edges, labels)

    @pytest.mark.parametrize(
        "path, message",
        [
            ("a//b", "path 'a//b' has an empty name as a segment"),
            ("", "path '' has an empty name"),
            ([], r"path \[\] has an empty name"),
            (["a", "b/c"], "segment of the path .* holds the separator '/'"),
        ],
    )
    def test_paths(self, path, message):
        with pytest.raises(ValueError, match=message):
            LabelHierarchy.from_paths([path])

    def test_lookups(self, dag):
        tree = LabelHierarchy.from_paths(["sport/tennis", "weather"])
        with pytest.raises(ValueError, match=r"no label 'sprot' in the hierarchy. Close names: \['sport'\]"):
            tree.id("sprot")
        with pytest.raises(ValueError, match=r"Row 1: unknown label 'sprot'. Close names: \['sport'\]"):
            tree.encode([["sport"], ["sprot"]])
        with pytest.raises(ValueError, match="Row 0: 'people' is a structure-only node of the hierarchy, not a label"):
            dag.encode([["people"]])
        with pytest.raises(TypeError, match="Row 1 is the string 'sport'; give a list of label names"):
            tree.encode([["sport"], "sport"])
        with pytest.raises(ValueError, match="Row 1 holds the id -100; node ids are 0 to"):
            tree.decode([[0], [1, -100]])

    @pytest.mark.parametrize("method", ["close", "prune", "violations", "is_closed"])
    def test_label_sets(self, method):
        call = getattr(LabelHierarchy(["a", "b", "c"], [[], [0], [0]], num_labels=2), method)
        with pytest.raises(ValueError, match="Label set 1 holds the id 2; label ids are 0 to 1"):
            call([[0, 1], [0, 2], [1]])
        with pytest.raises(ValueError, match="Label set 2 holds the id -1"):
            call((np.array([0, 1, 1, 2]), np.array([0, -1])))
        for indptr in ([0, 1], [1, 2], [0, 2, 1, 2], []):
            with pytest.raises(ValueError, match="need indptr to rise from 0 to"):
                call((np.array(indptr, dtype=np.int64), np.array([0, 1])))
        for wrong, shown in (
            ([["a"]], "'a'"),
            ([[0.5]], "0.5"),
            ([[True, False]], "True"),
            ((np.array([0, 1]), np.ones(1)), "1.0"),
        ):
            with pytest.raises(TypeError, match=f"Label sets hold values such as {shown}; .*`hierarchy.encode`"):
                call(wrong)

    def test_restrict_and_with_labels(self, dag):
        with pytest.raises(ValueError, match="`labels` is empty"):
            dag.restrict([])
        with pytest.raises(ValueError, match=f"Id {dag.id('people')} is not a label; label ids are 0 to 6"):
            dag.restrict(["people"])
        with pytest.raises(ValueError, match="no label 'taxes'"):
            dag.restrict(["taxes"])
        with pytest.raises(ValueError, match="label 'taxes' is not in the taxonomy"):
            dag.with_labels(["taxes"])


class TestPrinting:
    def test_tree(self):
        tree = LabelHierarchy.from_paths(["sport/ball/football", "sport/ball/tennis", "sport/chess", "politics"])
        assert tree.tree().split("\n") == [
            "sport",
            "├── ball",
            "│   ├── football",
            "│   └── tennis",
            "└── chess",
            "politics",
        ]
        assert tree.tree(max_nodes=2).split("\n") == ["sport", "├── ball", "... and 4 more nodes"]

    def test_dag_and_structure_only_nodes(self):
        edges = [("Root", "a"), ("Root", "b"), ("a", "c"), ("b", "c"), ("c", "d")]
        assert LabelHierarchy.from_edges(edges, labels=["c", "d", "b"]).tree().split("\n") == [
            "b",
            "└── c",
            "    └── d",
            "[a]",
            "└── c ...",
        ]

    def test_every_node_of_a_random_hierarchy_is_printed(self, case):
        hierarchy, _, _ = case
        lines = hierarchy.tree(max_nodes=10_000).split("\n")
        shown = {re.sub(r"^[│├└─ ]*|[\[\]]| \.\.\.$", "", line) for line in lines}
        assert shown == set(hierarchy.names)


def test_scale():
    """30,000 nodes and 100,000 label sets, a sample compared with walks along the parents."""
    draw = np.random.default_rng(0)
    num_nodes = 30_000
    parents = [sorted(set(draw.integers(0, i // 2, size=1 + (i % 9 == 0)).tolist())) if i > 20 else [] for i in range(num_nodes)]
    hierarchy = LabelHierarchy([f"label {i}" for i in range(num_nodes)], parents)
    indptr = np.concatenate([[0], np.cumsum(draw.integers(0, 8, size=100_000))])
    given = indptr, draw.integers(0, num_nodes, size=indptr[-1])
    closed = hierarchy.close(given)
    for row in draw.integers(0, 100_000, size=200).tolist():
        expected = stack = given[1][indptr[row] : indptr[row + 1]].tolist()
        expected = set(stack)
        while stack:
            above = set(parents[stack.pop()]) - expected
            expected |= above
            stack.extend(above)
        assert closed[1][closed[0][row] : closed[0][row + 1]].tolist() == sorted(expected)
    assert len(closed[0]) == 100_001
    assert hierarchy.is_closed(closed)
    assert not hierarchy.is_closed(given)
    again = hierarchy.prune(closed)
    assert np.array_equal(again[0], closed[0])
    assert np.array_equal(again[1], closed[1])
    assert LabelHierarchy.from_edges(hierarchy.to_edges()) == hierarchy
