"""Labels in the forms in which people write them: other languages, separators, orders of columns; and what is said of them."""

import json
import logging
import re

import datasets
import pytest

from hf_htc.data import check_files, load_htc_dataset
from hf_htc.data.cells import list_of_cell
from hf_htc.data.columns import find_columns
from hf_htc.data.documents import read_documents
from hf_htc.data.options import ReadOptions
from hf_htc.data.resolving import class_lines, guess_path_separator, read_class_names
from hf_htc.models.errors import HTCError
from hf_htc.models.hierarchy import LabelHierarchy


TREE = "Tiere > Hunde > Futter\nTiere > Hunde > Leinen\nTiere > Katzen > Streu\nGarten > Samen\n"
CODES = "Root\t01\n01\t0111\n01\t0112\nRoot\t02\n02\t0211\n"

# name -> (content, options, taxonomy, labels of the rows)
READ = {
    "list in a cell, JSON": (
        'labels;text\n["Sport","Politik"];Erster\n["Kultur"];Zweiter\n',
        {},
        None,
        [["Politik", "Sport"], ["Kultur"]],
    ),
    "list in a cell, NumPy": ("text\tlabels\nuno\t['arte' 'cine']\ndos\t['mar']\n", {}, None, [["arte", "cine"], ["mar"]]),
    "list in a cell, tuples": ("text|labels\nuno|('arte', 'cine')\ndos|('mar',)\n", {}, None, [["arte", "cine"], ["mar"]]),
    "list of paths in a cell": (
        'text;labels\nun;[["Art", "Cinéma"], ["Sport"]]\ndeux;[["Art"]]\n',
        {"path_separator": " > "},
        None,
        [["Art > Cinéma", "Sport"], ["Art"]],
    ),
    "Label Studio in a cell": (
        'text,labels\nuno,"{""choices"": [""a"", ""b""]}"\ndos,"{""choices"": [""c""]}"\n',
        {},
        None,
        [["a", "b"], ["c"]],
    ),
    "placeholders in French": (
        "niveau1;niveau2;texte\nArt;Cinéma;un\nArt;inconnu;deux\nSport;Néant;trois\n",
        {"text_column": "texte", "label_column": "niveau1,niveau2", "missing_values": "inconnu,néant"},
        None,
        [["Art/Cinéma"], ["Art"], ["Sport"]],
    ),
    "placeholders in capitals": (
        "t\tA\tB\nx\tp\tNONE\ny\tp\t<NA>\nz\tp\tq\n",
        {"text_column": "t", "label_column": ["A", "B"]},
        None,
        [["p"], ["p"], ["p/q"]],
    ),
    "a name of the taxonomy is no placeholder": (
        "text,A,B\nx,Root 1,unknown\ny,Root 1,n/a\n",
        {"label_column": "A,B"},
        "Root\tRoot 1\nRoot 1\tunknown\n",
        [["unknown"], ["Root 1"]],
    ),
    "levels that hold a slash": (
        "text,a,b\nx,Kunst,Film/TV\ny,Kunst,Musik\n",
        {"label_column": "a,b"},
        None,
        [["Kunst > Film/TV"], ["Kunst > Musik"]],
    ),
    "gaps in two groups": (
        "text,a1,a2,a3,b1\nx,A,,C,D\ny,A,B,,\n",
        {"label_column": [["a1", "a2", "a3"], ["b1"]], "level_gaps": "close"},
        None,
        [["A/C", "D"], ["A/B"]],
    ),
    "two columns of labels": (
        "text,erste,zweite\nx,A,B\ny,A,\n",
        {"label_column": [["erste"], ["zweite"]]},
        None,
        [["A", "B"], ["A"]],
    ),
    "TRUE and FALSE": (
        "rot;blau;text\nTRUE;FALSE;x\nTRUE;TRUE;y\n",
        {"label_column": "rot,blau"},
        None,
        [["rot"], ["blau", "rot"]],
    ),
    "1.0 and empty": ("rot;blau;text\n1.0;;x\n1.0;1.0;y\n", {"label_column": "rot,blau"}, None, [["rot"], ["blau", "rot"]]),
    "backslashes at the ends": (
        "text;labels\nx;\\Tiere\\Hunde\\\ny;\\Tiere\\Katzen\\\n",
        {"path_separator": "\\"},
        None,
        [["Tiere\\Hunde"], ["Tiere\\Katzen"]],
    ),
    "codes with a fraction": ("text,code\nx,111.0\ny,112.0\n", {"label_column": "code"}, CODES, [["0111"], ["0112"]]),
    "codes without their zeros": (
        "code\ttext\n111\tx\n0211\ty\n2\tz\n",
        {"label_column": "code"},
        CODES,
        [["0111"], ["0211"], ["02"]],
    ),
    "last segments": ("text,labels\nx,Streu\ny,Samen\n", {}, TREE, [["Tiere > Katzen > Streu"], ["Garten > Samen"]]),
    "ends of paths, another separator": (
        "text,labels\nx,Hunde/Futter\ny,Katzen/Streu\n",
        {"path_separator": "/"},
        TREE,
        [["Tiere > Hunde > Futter"], ["Tiere > Katzen > Streu"]],
    ),
    "another separator": (
        "text,labels\nx,Tiere/Hunde\ny,Garten/Samen\n",
        {},
        TREE,
        [["Tiere > Hunde"], ["Garten > Samen"]],
    ),
    "other capitals": ("text,labels\nx,samen\ny,STREU\n", {}, TREE, [["Garten > Samen"], ["Tiere > Katzen > Streu"]]),
    "Unicode forms and blanks": (
        "text,labels\nx,Cafe\u0301\u00a0noir\ny,Caf\u00e9  noir\nz,\u200bThé\n",
        {},
        None,
        [["Café noir"], ["Café noir"], ["Thé"]],
    ),
    "no header, labels first": (
        "Sport\tein langer Text über ein Spiel\nPolitik\tnoch ein langer Text\nSport\tund ein dritter Text\n",
        {},
        None,
        [["Sport"], ["Politik"], ["Sport"]],
    ),
    "an index without a name": (",text,labels\n0,x,A\n1,y,B\n", {}, None, [["A"], ["B"]]),
    "rows named as R does": ("text labels\n1 x A\n2 y B\n".replace(" ", "\t"), {}, None, [["A"], ["B"]]),
}


def labels_of(source, **options):
    """Names of the labels of every row of a training file."""
    loaded = load_htc_dataset(train_file=source, validation_fraction=0, **options)
    return [sorted(loaded.hierarchy.names[i] for i in row) for row in loaded.dataset["train"]["labels"]]


@pytest.mark.parametrize("case", READ)
def test_labels(case, tmp_path):
    content, options, taxonomy, expected = READ[case]
    path = tmp_path / "data.txt"
    path.write_text(content, encoding="utf-8")
    if taxonomy is not None:
        options = {**options, "taxonomy": tmp_path / "tree.txt"}
        options["taxonomy"].write_text(taxonomy, encoding="utf-8")
    assert labels_of(path, **options) == expected
    assert check_files(train_file=path, **options).ok


# name -> (content, options, taxonomy, kind of the problem, what it says)
SAID = {
    "lists in some cells only": ("text,labels\nx,\"['a', 'b']\"\ny,c\n", {}, None, "list_as_name", "look like lists"),
    "line breaks": ('text,labels\nx,"a\u2028b"\ny,c\n', {"path_separator": "none"}, None, None, None),
    "zeros and ones": ("text,labels\nx,1\ny,0\n", {}, None, "zero_and_one", "called 0 or 1"),
    "near duplicates": ("text,labels\nx,Ärzte\ny,ärzte\nz,Sport\n", {}, None, "near_duplicate_labels", "'Ärzte' and 'ärzte'"),
    "several labels as one": ("text;labels\nx;a|b\ny;a\nz;b\n", {}, None, "several_labels_as_one", r"label_separator='\|'"),
    "a placeholder as a label": ("text,labels\nx,unknown\ny,a\n", {}, None, "placeholder_label", "'unknown'"),
    "one label everywhere": ("text,a,b\nx,Alles,p\ny,Alles,q\n", {"label_column": "a,b", "closure": "up"}, None,
                             "label_on_every_document", "'Alles'"),
    "first level only": ("text,labels\nx,Tiere\ny,Garten\n", {}, TREE, "first_level_only", "2 of them have descendants"),
    "labels that never occur": ("text,labels\nx,Samen\ny,Streu\n", {}, TREE, "label_without_training_data", "of 8 labels"),
    "dashes": ("text,labels\nx,a-b\ny,a-c\nz,d-e\nw,d-f\nv,d-g\n", {}, None, "labels_like_paths", "path_separator='-'"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_what_looks_wrong_is_said(case, tmp_path, caplog):
    content, options, taxonomy, kind, words = SAID[case]
    path = tmp_path / "data.csv"
    path.write_text(content, encoding="utf-8")
    if taxonomy is not None:
        options = {**options, "taxonomy": tmp_path / "tree.txt"}
        options["taxonomy"].write_text(taxonomy, encoding="utf-8")
    report = check_files(train_file=path, **options)
    found = {problem.kind: problem.message for problem in report.problems}
    if kind is None:
        assert report.hierarchy["num_labels"] == 2
        return
    assert re.search(words, found[kind]), found
    with caplog.at_level("INFO"):
        load_htc_dataset(train_file=path, validation_fraction=0, **options)
    assert re.search(words, caplog.text)


def test_several_labels_are_not_taken_for_a_path(tmp_path):
    (tmp_path / "tree.tsv").write_text("Root\tsport\nsport\tball\n")
    (tmp_path / "data.csv").write_text("text,labels\nx,sport|ball\ny,sport\n")
    with pytest.raises(HTCError, match=r"line 2: unknown label 'sport\|ball'.*label_separator='\|'"):
        load_htc_dataset(train_file=tmp_path / "data.csv", taxonomy=tmp_path / "tree.tsv")


def test_an_ambiguous_segment_is_refused_with_its_nodes(tmp_path):
    (tmp_path / "tree.txt").write_text("A > x\nB > x\nB > y\n")
    (tmp_path / "data.csv").write_text("text,labels\none,y\ntwo,x\n")
    with pytest.raises(HTCError, match="line 3: ambiguous label 'x'. It may be 'A > x' or 'B > x': write the whole path"):
        load_htc_dataset(train_file=tmp_path / "data.csv", taxonomy=tmp_path / "tree.txt")


def test_many_unknown_labels_are_counted(tmp_path):
    (tmp_path / "tree.tsv").write_text("Root\tsport\n")
    rows = "".join(f"text {i},label {i}\n" for i in range(60))
    (tmp_path / "data.csv").write_text("text,labels\nx,sport\n" + rows)
    report = check_files(train_file=tmp_path / "data.csv", taxonomy=tmp_path / "tree.tsv")
    unknown = [problem for problem in report.problems if problem.kind == "unknown_label"]
    assert len(unknown) == 21 and unknown[-1].count == 40 and "40 more labels of data.csv are unknown" in unknown[-1].message


@pytest.mark.parametrize(
    "names, separator",
    [
        (["Sport > Ball", "Sport > Rad", "Kunst"], None),
        (["Sport > Ball", "Sport > Rad", "Sport"], " > "),
        (["A/B", "A/C", "D/E"], "/"),
        (["A / B", "A / C", "D / E"], " / "),
        (["A->B", "A->C"], "->"),
        (["a::b::c", "a::b::d"], "::"),
        (["A/B", "C/D"], None),  # nothing is shared
        (["cs.LG", "cs.CL", "math.PR"], "."),
        (["1.0", "1.1", "2.0"], None),
        (["J. Smith", "J. Doe"], None),
        (["R/C cars", "boats", "trains"], None),
        (["a"], None),
    ],
)
def test_paths_are_recognised_by_what_they_share(names, separator):
    assert guess_path_separator(names) == separator


def test_names_of_numbers(tmp_path):
    expected = {"0": "Hunde", "1": "Katzen"}
    forms = {
        "a.txt": "# Klassen\nHunde\nKatzen\n",
        "b.json": '["Hunde", "Katzen"]',
        "c.json": json.dumps({"id2label": expected}),
        "d.json": '{"Hunde": 0, "Katzen": 1}',
        "e.csv": "id,name\n0,Hunde\n1,Katzen\n",
        "f.tsv": "Hunde\t0\nKatzen\t1\n",
    }
    for name, content in forms.items():
        (tmp_path / name).write_text(content)
        assert read_class_names(tmp_path / name) == expected, name
    assert class_lines(tmp_path / "a.txt", ["0", "1"]) == expected
    assert class_lines(tmp_path / "a.txt", ["1", "2"]) == {"1": "Hunde", "2": "Katzen"}
    with pytest.raises(HTCError, match="numbers from 1 to 1, and a.txt has 2 lines: they may count from 0 or from 1"):
        class_lines(tmp_path / "a.txt", ["1"])
    (tmp_path / "train.csv").write_text("text,labels\nx,0\ny,7\n")
    with pytest.raises(HTCError, match="hold the number 7, which `class_names` .* does not name; it has 2"):
        load_htc_dataset(train_file=tmp_path / "train.csv", class_names=tmp_path / "a.txt")


def test_numbers_of_a_hierarchy_object_stay_its_ids():
    hierarchy = LabelHierarchy.from_paths(["a/b", "c"])
    loaded = load_htc_dataset({"train": _rows([[0], [2]])}, taxonomy=hierarchy, validation_fraction=0)
    assert [list(row) for row in loaded.dataset["train"]["labels"]] == [[0], [2]]


def _rows(labels):
    return datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(len(labels))], "labels": labels})


def test_lists_of_cells():
    assert list_of_cell("[a, b]") == ["a", "b"] and list_of_cell("[]") == [] and list_of_cell("plain") is None
    assert list_of_cell("['a', None]") is None and list_of_cell("[" * 5000 + "]" * 5000) is None


# columns -> (options, the columns taken for texts and labels), or what the error says.
ONLY_OTHER = {
    ("Beschreibung", "Kategorie"): ({"label_column": "Kategorie"}, ("Beschreibung", "Kategorie")),
    ("id", "abstract", "a", "b"): ({"label_column": "a,b"}, ("abstract", "a", "b")),
    ("text", "sujet"): ({}, ("text", "sujet")),
    ("frase", "labels"): ({}, ("frase", "labels")),
    ("Text", "sujet"): ({}, ("Text", "sujet")),
    ("title", "body", "labels"): ({}, "no column 'text'"),
    ("text", "a", "b"): ({}, "no column 'labels'"),
    ("text", "body"): ({}, "no column 'labels'"),
    ("text", "id"): ({}, "no column 'labels'"),
    ("frase", "sujet"): ({}, "no column 'text'"),
    ("texto", "b"): ({"label_column": "a"}, "no column 'text'"),
}


@pytest.mark.parametrize("columns", ONLY_OTHER)
def test_the_only_other_column_is_taken(columns, caplog):
    options, expected = ONLY_OTHER[columns]
    options = ReadOptions(**options)
    if isinstance(expected, str):
        with pytest.raises(HTCError, match=expected):
            find_columns(columns, options, "f.csv")
        return
    with caplog.at_level(logging.INFO):
        texts, groups = find_columns(columns, options, "f.csv")
    assert (*texts, *groups[0]) == expected
    assert "is taken, the only other one" in caplog.text


def test_a_file_without_labels_has_no_column_taken_for_them():
    assert find_columns(["text", "source"], ReadOptions(), "f.csv", unlabelled=True) == (["text"], [])
    assert find_columns(["frase"], ReadOptions(), "f.csv", unlabelled=True) == (["frase"], [])


def test_booleans_of_json_are_labels_and_marks(tmp_path):
    rows = [
        {"text": "a", "labels": True, "sport": True, "art": False},
        {"text": "b", "labels": False, "sport": None, "art": True},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert labels_of(path) == [["True"], ["False"]]
    assert labels_of(path, label_column="sport,art") == [["sport"], ["art"]]


@pytest.mark.parametrize("marks", [("yes", "no"), ("Y", "N"), ("x", ""), ("TRUE", "False"), ("1.0", "0")])
def test_marks_in_columns_of_one_label_each(marks, tmp_path, caplog):
    held, other = marks
    path = tmp_path / "a.csv"
    path.write_text(f"text,sport,art\none,{held},{other}\ntwo,{other},{held}\nthree,{held},{held}\n")
    with caplog.at_level(logging.INFO):
        assert labels_of(path, label_column="sport,art") == [["sport"], ["art"], ["art", "sport"]]
    assert "one per label" in caplog.text


def test_multi_hot_rows_are_no_ids(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "labels": [1, 0, 0, 0, 1]}\n{"text": "b", "labels": [0, 1, 0, 0, 0]}\n')
    hierarchy = LabelHierarchy.from_paths(["a/b", "a/c", "d/e"])
    with pytest.raises(TypeError, match="'labels' of a.jsonl holds lists of 5 times 0 or 1, which look like multi-hot rows"):
        load_htc_dataset(train_file=path, taxonomy=hierarchy)
    path.write_text('{"text": "a", "labels": [1, 0]}\n{"text": "b", "labels": [0]}\n')
    assert labels_of(path, taxonomy=hierarchy) == [["a", "a/b"], ["a"]]


def test_minus_one_of_a_class_label_is_no_label():
    features = datasets.Features({"text": datasets.Value("string"), "labels": datasets.ClassLabel(names=["x", "y"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "labels": [1, -1]}, features=features)
    assert labels_of(rows, allow_unlabelled=True) == [["y"], []]
    with pytest.raises(HTCError, match="row 2: the row has no labels"):
        load_htc_dataset(train_file=rows)


def test_addresses_are_no_paths(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,labels\na,http://x.org/a\nb,http://x.org/b\nc,http://y.org/c\nd,http://y.org/d\n")
    assert load_htc_dataset(train_file=path).hierarchy.num_levels == 1


def test_levels_with_the_deepest_first_are_said(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,l1,l2\na,Tennis,Sport\nb,Golf,Sport\nc,Film,Art\nd,Golf,Sport\n")
    kinds = [problem.kind for problem in check_files(train_file=path, label_column="l1,l2").problems]
    assert "deepest_level_first" in kinds
    kinds = [problem.kind for problem in check_files(train_file=path, label_column="l2,l1").problems]
    assert "deepest_level_first" not in kinds


def test_what_is_no_data_set_is_named():
    with pytest.raises(TypeError, match="'train_file' is a list; give a `Dataset`, a frame"):
        load_htc_dataset(train_file=[{"text": "a", "labels": ["x"]}])


def test_json_lines_are_told_by_their_content(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('{"text": "a, b", "labels": ["x"]}\n{"text": "c", "labels": ["y"]}\n')
    assert labels_of(path) == [["x"], ["y"]]
    assert [document.text for document in read_documents(path)] == ["a, b", "c"]
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "text": "b", "labels": ["x"]}\n')
    with pytest.raises(HTCError, match="a.jsonl, line 1 cannot be read: the key 'text' stands twice"):
        load_htc_dataset(train_file=path)


def test_a_label_that_a_given_hierarchy_lacks_can_be_counted_as_missed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,labels\nx,a/b\ny,a/z\n")
    hierarchy = LabelHierarchy.from_paths(["a/b", "a/c"])
    with pytest.raises(HTCError, match="line 3: unknown label 'a/z'.*`hf-htc evaluate --unknown_labels missed`"):
        load_htc_dataset(test_file=path, taxonomy=hierarchy)
    loaded = load_htc_dataset(test_file=path, taxonomy=hierarchy, unknown_labels="missed")
    assert [loaded.hierarchy.names[i] for i in loaded.dataset["test"]["labels"][1]] == ["a/z"]
