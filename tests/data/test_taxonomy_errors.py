"""What is wrong with a taxonomy file is said in one error that names file, line, the form that was found, and the mend."""

# ruff: noqa: E501 - one file per line

import json

import pytest

from hf_htc.models.errors import HTCError
from hf_htc.models.hierarchy import LabelHierarchy


@pytest.fixture
def read(tmp_path):
    def read(content, name, **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return LabelHierarchy.from_file(path, **options)

    return read


def deep(levels):
    return '{"a":' * levels + "{}" + "}" * levels


@pytest.mark.parametrize(
    "content, name, message",
    [
        # nothing that is understood becomes paths
        ("alpha\nbeta\ngamma\n", "t.txt", r"t.txt, line 1: its 3 lines hold no separator .*'alpha'.*`parent<TAB>child`.*format='paths'"),
        ("This is a text about things.\nIt has no hierarchy, but commas.\nThe end.\n", "README", "README, line 1: its 3 lines hold no separator"),
        ("<!doctype html>\n<html><body>a > b</body></html>\n", "t.html", "t.html: is HTML, but no RDF of SKOS. Write the taxonomy as"),
        ('<?xml version="1.0"?>\n<taxonomy><node name="a"/></taxonomy>\n', "t.xml", "t.xml: is XML, but no RDF of SKOS"),
        (b"PAR1abc\x00PAR1", "t.tsv", "t.tsv: is a parquet file, not text"),
        ("id,name\n1,a\n2,b\n3,c\n", "t.csv", r"t.csv: is a table of ids and names \('id', 'name'\) without a hierarchy.*Add a column `parent`"),
        ("101\talpha\n205\tbeta\n317\tgamma\n422\tdelta\n", "t.tsv", r"t.tsv, line 1: has two columns that share no value \('101' and 'alpha'"),
        ("x,1,p\ny,2,q\nz,3,r\n", "t.csv", r"t.csv, line 1: is a table split by commas of 3 columns that fit no form .*\['x', '1', 'p'\].*Name the columns"),
        ("a,b;c\nd,e;f\n", "t.txt", r"t.txt: could be split by commas \(2 columns\) and semicolons \(2 columns\). Give the `delimiter`"),
        ("# only\n# comments\n", "t.txt", "t.txt: holds comments only"),
        ("parent,child\n", "t.csv", "t.csv: holds a header only"),
        # structure
        ("Root\tz\na\tb\nb\tc\nc\ta\n", "t.tsv", "t.tsv, line 2: the hierarchy has a cycle: (b -> c -> a -> b|a -> b -> c -> a|c -> a -> b -> c). Remove"),
        ("id,parent,name\n1,,a\n2,1,b\n2,1,c\n", "t.csv", r"t.csv, line 4: '2' has the text 'c' here and 'b' in line 3 \(duplicate name\)"),
        ("id,parent,name\n1,,a\n2,1,b\n3,9,c\n", "t.csv", r"t.csv, line 4: the unknown parent '9' of 'c' is no node of the file"),
        ("id,parent,name\n1,,a\n,1,b\n", "t.csv", "t.csv, line 3: the node has an empty name. Fill the column 'id'"),
        ("Root\ta\nRoot\tb\na\tb\n", "t.tsv", "t.tsv, line 2: 'b' is a child of the root and of 'a'; a first-level node has no other parent"),
        ("a > b\na >  > c\n", "t.txt", "t.txt, line 2: the path 'a >  > c' has an empty name as a segment. Write it like 'sport > football'"),
        ("a\n    b\n  c\nd\n", "t.txt", "t.txt, line 3: 'c' is indented by 2, between its parent and the line above. Indent all children"),
        ("a\n  b\n  b\nd\n", "t.txt", r"t.txt, line 3: 'b' stands twice under the same parent, the first time in line 2 \(duplicate name\)"),
        ("1 - a\n2 - a > b\n3 - a > b\n4 - c\n", "t.txt", "t.txt, line 3: the path 'a > b' has the id '3' here and '2' in line 2"),
        ("Code 1,Title 1,Code 2,Title 2\nA,x,1,y\nA,z,2,w\n", "t.csv", r"t.csv, line 3: the code 'A' has the title 'z' here and 'x' in line 2"),
        ("level,name\n1,a\nx,b\n", "t.csv", "t.csv, line 3: the level 'x' is no number"),
        ("name,tree number\na,A1\nb,A1.2\nc,A1.2\n", "t.csv", "t.csv, line 4: the tree number 'A1.2' has the names 'b' and 'c'"),
        ('a,"b\nc,d\n', "t.csv", "t.csv, line 1: "),
        # JSON
        ('{"a": [' + "1" * 5000 + "]}", "t.json", r"t.json: is not valid JSON: .*digits"),
        ('{"a": {"x": {}},\n "b": {},\n "a": {"y": {}}}', "t.json", r"t.json, line 3: an object has the key 'a' twice; one of them would be lost"),
        (deep(5000), "t.json", "t.json: is nested too deeply to be read. Write it as edges"),
        ("[" * 5000 + "]" * 5000, "t.json", "t.json: is nested too deeply"),
        ('{"a": {},\n oops}', "t.json", "t.json, line 2: is not valid JSON: "),
        ('{"name": "r", "children": [{"name": "a"}, {"name": "a"}]}', "t.json", r"t.json: 'a' stands twice under the same parent \(duplicate name\)"),
        ('[{"name": "a", "children": [{"foo": 1}]}]', "t.json", r"t.json: an object under 'a' has no 'name': its keys are \['foo'\]"),
        ('{"Sport": {"description": "x"}}', "t.json", "t.json: has the key 'description' with the text 'x' under 'Sport', which is no node"),
        ('{"1": "Sport", "2": "Art"}', "t.json", r"t.json: is an object of names and names \('1': 'Sport'\) of which none is a parent"),
        ('{"a": {"b": 3}}', "t.json", "t.json: holds the number 3 as the content of 'b' under 'a'"),
        ('{"a": {"": {}}}', "t.json", "t.json: a node under 'a' has an empty name"),
        (json.dumps({"directed": False, "nodes": [{"id": "a"}], "links": []}), "t.json", "t.json: is an undirected graph"),
        (json.dumps([{"a": 1, "b": {"c": 2}}]), "t.json", r"t.json: is a list of objects with the keys \['a', 'b'\], of which none tells"),
        ("a: [b\n", "t.yaml", "t.yaml, line 2: is not valid YAML"),
        # RDF and OBO
        ("@prefix skos: <http://www.w3.org/2004/02/skos/core#> .\n<urn:a> a ;;; .\n", "t.ttl", "t.ttl, line [23]: is no valid Turtle: "),
        ('<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n<a></b>\n</rdf:RDF>', "t.rdf", "t.rdf, line 2: is no valid RDF/XML: "),
        ("@prefix a: <urn:a:> .\na:x a:y a:z .\n", "t.ttl", "t.ttl: is RDF without concepts of SKOS"),
        ("[Term]\nid: X:1\nname: a\n\n[Term]\nid: X:2\nname: b\nis_a: X:9 ! c\n", "t.obo", "t.obo, line 8: the unknown parent 'X:9' of 'b'"),
        ("[Term]\nid: X:1\nname: a\n\n[Term]\nid: X:1\nname: b\n", "t.obo", "t.obo, line 5: the id 'X:1' stands for two terms; the other one is in line 1"),
        ("[Term]\nid: X:1\n\n[Term]\nname: b\n", "t.obo", r"t.obo, line 4: a \[Term\] has no `id`"),
        ("[Term]\nid: X:1\ndef: open\n", "t.obo", "t.obo, line 3: `def` holds no text in quotes: 'open'"),
    ],
)  # fmt: skip
def test_message(read, content, name, message):
    with pytest.raises(HTCError, match=message) as error:
        read(content, name)
    assert "\n" not in str(error.value).replace("\\n", "")


def test_options_that_do_not_fit(read):
    with pytest.raises(HTCError, match="`format` is 'xls'; it is one of table, edges, paths, indented, json, skos, obo"):
        read("a\tb\n", "t.tsv", format="xls")
    with pytest.raises(HTCError, match=r"t.tsv: is no RDF that is known \(RDF/XML, Turtle"):
        read("a\tb\n", "t.tsv", format="skos")
    with pytest.raises(HTCError, match="t.tsv: has no names in several languages, so 'de' cannot be chosen"):
        read("a\tb\n", "t.tsv", language="de")
    with pytest.raises(HTCError, match="`delimiter` is 'xy'"):
        read("a,b\n", "t.csv", delimiter="xy")


def test_options_that_say_what_is_ambiguous(read):
    pairs = "101\talpha\n205\tbeta\n317\tgamma\n422\tdelta\n"
    assert read(pairs, "t.tsv", format="edges").num_levels == 2
    assert read("a\tb\tc\nd\te\tf\n", "t.tsv", format="edges").parents == [[], [0], [0], [], [3], [3]]
    with pytest.raises(HTCError, match="t.txt: is no table: no sign splits its lines"):
        read("a > b\na > c\n", "t.txt", format="table")
    assert read("a,b;c\nd,e;f\n", "t.txt", delimiter=";").names == ["a,b", "c", "d,e", "f"]
    assert read("name,label\na,b\n", "t.csv", header=False).names == ["name", "label", "a", "b"]
    assert read("x,y\na,b\na,c\nd,e\n", "t.csv", header=True, delimiter=",").names == ["a", "b", "c", "d", "e"]
    assert read("Größe,rot\n".encode("cp850"), "t.csv", encoding="cp850", header=False).names == ["Größe", "rot"]
