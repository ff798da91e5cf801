"""Ids of nodes' own, texts in several languages, alternative names, attributes: kept everywhere, and found."""

import json
import sys

import pytest
from tiny_models import make_model

from hf_htc import FlatConfig
from hf_htc.models.configuration_htc import hierarchy_from_config, hierarchy_to_config
from hf_htc.models.errors import HTCError, HTCTypeError
from hf_htc.models.hierarchy import LabelHierarchy
from hf_htc.models.prediction import prediction_of


@pytest.fixture
def tree():
    return LabelHierarchy(
        ["pets", "pets/food", "home", "home/food", "garden"],
        [[], [0], [], [2], [2]],
        num_labels=4,
        texts=["Pets", "Food", "Home", "Food", "Garden"],
        descriptions=["", "For animals.", "", "", ""],
        ids=["P1", "P2", None, "http://example.org/3", "G"],
        language="en",
        translations={"de": ["Tiere", "Futter", None, "Essen", None]},
        alternative_names={1: ["feed", "fodder"]},
        attributes={"0": {"notation": ["01", "A"], "colour": "red"}, "3": {"weight": 2}},
    )


def test_lists_and_sparse_dicts_are_the_same(tree):
    assert tree.alternative_names == [[], ["feed", "fodder"], [], [], []]
    assert tree.attributes == [{"notation": ["01", "A"], "colour": "red"}, {}, {}, {"weight": 2}, {}]
    content = tree.to_dict()
    assert content["ids"] == {"0": "P1", "1": "P2", "3": "http://example.org/3", "4": "G"}
    assert content["translations"] == {"de": {"0": "Tiere", "1": "Futter", "3": "Essen"}}
    assert LabelHierarchy.from_dict(json.loads(json.dumps(content))) == tree
    assert LabelHierarchy(["a", "b"], [[], []], ids=["1", "2"]).to_dict()["ids"] == ["1", "2"]


def test_nothing_is_stored_that_is_not_given():
    plain = LabelHierarchy(["a", "b"], [[], [0]])
    assert set(plain.to_dict()) == {"names", "parents", "num_labels"}
    assert set(hierarchy_to_config(plain)) == {"parents"}
    empty = LabelHierarchy(
        ["a", "b"], [[], [0]], ids=[None, None], alternative_names=[[], []], attributes=[{}, {}], translations={"de": [None, ""]}
    )
    assert empty == plain
    assert empty.fingerprint() == plain.fingerprint()
    assert plain.fingerprint() == "e7054b37e4fbb333"  # as before nodes had ids


def test_ids_travel_with_the_config_and_the_checkpoint(tree, tmp_path):
    assert hierarchy_from_config(json.loads(json.dumps(hierarchy_to_config(tree))), tree.label_names) == tree
    model = make_model("flat", tree)
    model.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())["hierarchy"]
    assert stored["ids"]["0"] == "P1"
    assert FlatConfig.from_pretrained(tmp_path).get_hierarchy() == tree


def test_ids_go_with_their_nodes(tree, tmp_path):
    tree.save(tmp_path / "taxonomy.json")
    assert LabelHierarchy.from_file(tmp_path / "taxonomy.json") == tree
    assert tree.with_labels(tree.label_names) == tree
    small = tree.restrict(["home/food", "pets/food"])
    assert small.names == ["pets/food", "home/food", "pets", "home"]
    assert small.ids == ["P2", "http://example.org/3", "P1", None]
    assert small.translations == {"de": ["Futter", "Essen", "Tiere", None]}
    assert small.alternative_names[0] == ["feed", "fodder"]
    assert small.attributes[2]["colour"] == "red"
    turned = tree.with_labels(["home/food", "pets"])
    assert [turned.own_id(turned.id(name)) for name in tree.names] == tree.ids
    assert LabelHierarchy.from_networkx(tree.to_networkx()) == tree


def test_statistics_do_not_change(tree):
    plain = LabelHierarchy(tree.names, tree.parents, tree.num_labels)
    assert tree.statistics() == plain.statistics()
    assert tree.close([[1, 3]]) == plain.close([[1, 3]])
    assert tree.fingerprint() != plain.fingerprint()


@pytest.mark.parametrize(
    "key, name",
    [
        ("pets/food", "pets/food"), ("P2", "pets/food"), ("http://example.org/3", "home/food"), ("01", "pets"), ("A", "pets"),
        ("Pets", "pets"), ("Garden", "garden"), ("Tiere", "pets"), ("Futter", "pets/food"), ("fodder", "pets/food"),
        ("Pets > Food", "pets/food"), ("Home/Food", "home/food"), ("  Home  |  Food ", "home/food"),
        (" pets/food\u00a0", "pets/food"),
    ],
)  # fmt: skip
def test_find(tree, key, name):
    assert tree.names[tree.find(key)] == name


def test_find_takes_the_first_kind_that_knows_the_key():
    tree = LabelHierarchy(
        ["x", "b", "c", "d"], [[], [], [], []], texts=["b", "t", "u", "x"], ids=["u", "t", "x", "1"], alternative_names={0: ["d"]}
    )
    found = {key: tree.names[tree.find(key)] for key in ("x", "b", "t", "u", "d")}
    assert found == {"x": "x", "b": "b", "t": "b", "u": "x", "d": "d"}
    assert tree.find(1) == 3
    assert LabelHierarchy(["Gro\u0308ße"], [[]]).find("Größe") == 0


def test_an_ambiguous_or_unknown_key(tree):
    with pytest.raises(
        HTCError, match=r"'Food' stands for 2 nodes: 'pets/food' \(id P2\), 'home/food' \(id http.*3\). Use a name or an id"
    ):
        tree.find("Food")
    assert tree.find_all("Food") == [1, 3]
    with pytest.raises(HTCError, match=r"There is no label 'pet' in the hierarchy. Close names: \['pets'\]"):
        tree.find("pet")
    assert tree.find_all("pet") == []


def test_another_language(tree):
    german = tree.in_language("de")
    assert german.names == tree.names
    assert german.texts == ["Tiere", "Futter", "Home", "Essen", "Garden"]
    assert (german.language, german.translations) == ("de", {"en": ["Pets", "Food", None, "Food", None]})
    assert german.ids == tree.ids
    assert tree.in_language("en") is tree
    with pytest.raises(HTCError, match=r"no texts in the language 'fr'; it has \['en', 'de'\]"):
        tree.in_language("fr")


def test_predictions_carry_ids(tree):
    assert prediction_of([1, 0, 2], [0.9, 0.8, 0.7], tree)["ids"] == ["P2", "P1", None]
    assert "ids" not in prediction_of([1], [0.9], LabelHierarchy(tree.names, tree.parents))


@pytest.mark.parametrize(
    "facts, error, message",
    [
        ({"ids": ["1", "1"]}, HTCError, "The id '1' stands for two nodes, 'a' and 'b'"),
        ({"ids": ["1"]}, HTCError, "`ids` has 1 entries for 2 nodes"),
        ({"ids": [1, "2"]}, HTCTypeError, "`ids` of 'a' is 1 of type int; give a str"),
        ({"ids": {"2": "x"}}, HTCError, "`ids` has the node number '2'; they go from 0 to 1"),
        ({"alternative_names": ["x", "y"]}, HTCTypeError, "`alternative_names` of 'a' is 'x' of type str; give a list"),
        ({"attributes": [["x"], {}]}, HTCTypeError, "`attributes` of 'a' is .* give a dict"),
        ({"translations": {"de": ["x", 3]}}, HTCTypeError, r"`translations\['de'\]` of 'b' is 3 of type int"),
    ],
)
def test_errors(facts, error, message):
    with pytest.raises(error, match=message):
        LabelHierarchy(["a", "b"], [[], [0]], **facts)


def test_reading_a_file_without_the_package_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "hf_htc.data.taxonomies", None)
    (tmp_path / "t.tsv").write_text("Root\ta\n")
    with pytest.raises(ImportError, match="Reading a taxonomy file needs the package hf_htc, which is not installed"):
        LabelHierarchy.from_file(tmp_path / "t.tsv")
