"""Taxonomy files as people have them: each form in several details, each case of a real one, and the page about them."""

# ruff: noqa: E501 - one file per line

import json
import re
from pathlib import Path

import pytest

from hf_htc.models.hierarchy import LabelHierarchy


CASES = Path(__file__).parent.parent / "fixtures" / "cases"
PAGE = Path(__file__).parent.parent.parent / "docs" / "your_taxonomy.md"


@pytest.fixture
def read(tmp_path):
    def read(content, name="taxonomy.txt", **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return LabelHierarchy.from_file(path, **options)

    return read


def levels(hierarchy):
    return "-".join(map(str, hierarchy.statistics()["labels_per_level"]))


def edges(hierarchy, by="names"):
    """`child < parent, parent` per node, first-level nodes alone; of names or of texts."""
    words = getattr(hierarchy, by)
    return [
        words[i] + (" < " + ", ".join(words[p] for p in sorted(row)) if row else "") for i, row in enumerate(hierarchy.parents)
    ]


class TestCases:
    @pytest.mark.parametrize(
        "file, options, expected",
        [
            ("01-product-taxonomy-comment/taxonomy.en-US.txt", {"separator": " > "}, "2-4-8"),
            ("01-product-taxonomy-comment/taxonomy.en-US.txt", {}, "2-4-8"),
            ("02-product-taxonomy-ids/taxonomy-with-ids.en-US.txt", {"separator": " > "}, "2-4-8"),
            ("02-product-taxonomy-ids/taxonomy-with-ids.en-US.txt", {}, "2-4-8"),
            ("04-procurement-codes-wide/codes.csv", {}, "2-4-4-6"),
            ("05-industry-codes-prefix/codes.csv", {}, "3-3-3-6"),
            ("09-tree-numbers-dag/mtrees.bin", {}, "2-1-2-1-1"),
            ("10-skos-rdf/scheme.rdf", {}, "2-4"),
            ("19-nested-name-children/taxonomy.json", {}, "2-4-8"),
            ("19-nested-name-children/taxonomy.json", {"separator": " > "}, "2-4-8"),
            ("32-token-lists-closed/old.taxonomy", {}, "2-3-2"),
            ("38-integer-class-ids/classes.txt", {"separator": " > "}, "2-4-8"),
            ("42-edge-list-header/taxonomy.tsv", {}, "2-4-7"),
            ("44-edge-list-id-parent-name/taxonomy.tsv", {}, "2-4-8"),
            ("45-edge-list-other-root/taxonomy.tsv", {}, "2-4-7"),
            ("46-edge-list-csv/taxonomy.csv", {}, "2-4-7"),
            ("47-leaf-only-labels/taxonomy.txt", {"separator": " > "}, "2-4-7"),
            ("62-adjacency-json/taxonomy_strings.json", {}, "2-3-3"),
            ("62-adjacency-json/taxonomy_strings.json", {"separator": "/"}, "2-3-3"),
            ("62-adjacency-json/taxonomy.json", {}, "2-3-4"),
            ("70-big-taxonomy-few-used/taxonomy.tsv", {}, "12-120"),
        ],
    )
    def test_levels(self, file, options, expected):
        assert levels(LabelHierarchy.from_file(CASES / file, **options)) == expected

    @pytest.mark.parametrize(
        "file, key, text, parent",
        [
            ("01-product-taxonomy-comment/taxonomy.en-US.txt", "Pets > Dogs > Food", "Food", "Dogs"),
            ("02-product-taxonomy-ids/taxonomy-with-ids.en-US.txt", "191", "Seeds, Bulbs & Plants", "Garden"),
            ("04-procurement-codes-wide/codes.csv", "20101501", "Oak skiffs", "Skiffs"),
            ("05-industry-codes-prefix/codes.csv", "411", "Arm Making", "Robot Making"),
            ("10-skos-rdf/scheme.rdf", "Loop knots", "Loop knots", "Knots"),
            ("10-skos-rdf/scheme.rdf", "https://example.org/c22", "Wire ropes", "Ropes"),
            ("19-nested-name-children/taxonomy.json", "Home > Garden > Hoses", "Hoses", "Garden"),
            ("19-nested-name-children/taxonomy.json", "135", "Food", "Dogs"),
            ("44-edge-list-id-parent-name/taxonomy.tsv", "142", "Leads", "Dogs"),
            ("47-leaf-only-labels/taxonomy.txt", "Kettles", "Kettles", "Kitchen"),
            ("62-adjacency-json/taxonomy_strings.json", "a1x", "a1x", "A1"),
        ],
    )
    def test_labels_of_the_data_find_their_nodes(self, file, key, text, parent):
        hierarchy = LabelHierarchy.from_file(CASES / file)
        node = hierarchy.find(key)
        assert hierarchy.texts[node] == text
        assert [hierarchy.texts[p] for p in hierarchy.parents[node]] == [parent]

    def test_ids_are_the_names_and_words_the_texts(self):
        hierarchy = LabelHierarchy.from_file(CASES / "02-product-taxonomy-ids" / "taxonomy-with-ids.en-US.txt", separator=" > ")
        assert hierarchy.names == hierarchy.ids == [str(number) for number in range(100, 192, 7)]
        assert hierarchy.texts[:3] == ["Pets", "Birds", "Cages & Stands"]

    def test_names_in_several_places_of_a_dag(self):
        hierarchy = LabelHierarchy.from_file(CASES / "09-tree-numbers-dag" / "mtrees.bin")
        assert edges(hierarchy) == [
            "Ship Parts", "Bow < Ship Parts", "Horn < Bow, Signals", "Rail < Bow", "Lamp < Rail, Signals", "Signals", "Red Lamp < Lamp",
        ]  # fmt: skip
        assert hierarchy.find("H09.371") == hierarchy.id("Lamp")


TREE = ["sport", "football < sport", "tennis < sport", "art"]


class TestTables:
    @pytest.mark.parametrize(
        "content, name",
        [
            ("parent,child\n,sport\nsport,football\nsport,tennis\n,art\n", "t.csv"),
            ("child;parent\nsport;Root\nfootball;sport\ntennis;sport\nart;Root\n", "t.csv"),
            ("Eltern\tKind\nRoot\tsport\nsport\tfootball\nsport\ttennis\nRoot\tart\n", "t.txt"),
            ("narrower|broader\nsport|\nfootball|sport\ntennis|sport\nart|\n", "t.txt"),
            ("source,target\nROOT,sport\nsport,football\nsport,tennis\nROOT,art\n", "t.csv"),
            ("source,target\nsport,ROOT\nfootball,sport\ntennis,sport\nart,ROOT\n", "t.csv"),
            ("Root,sport\nsport,football\nsport,tennis\nRoot,art\n", "t.csv"),
            ("sport\tRoot\nfootball\tsport\ntennis\tsport\nart\tRoot\n", "t.tsv"),
            ("# a comment, with a comma\nRoot\tsport\n\nsport\tfootball\n# another\nsport\ttennis\nRoot\tart\n", "t.tsv"),
            ("# parent\tchild\nRoot\tsport\nsport\tfootball\nsport\ttennis\nRoot\tart\n", "t.tsv"),
            ("Root\tsport\rsport\tfootball\rsport\ttennis\rRoot\tart\r", "t.tsv"),
            ("\ufeffparent;child\r\nRoot;sport\r\nsport;football\r\nsport;tennis\r\nRoot;art\r\n", "t.csv"),
            ("parent\tchild\nRoot\tsport\nsport\tfootball\nsport\ttennis\nRoot\tart\n".encode("utf-16"), "t.tsv"),
            ('"parent"\t"child"\n"Root"\t"sport"\n"sport"\t"football"\n"sport"\t"tennis"\n"Root"\t"art"\n', "t.tsv"),
        ],
    )
    def test_edges(self, read, content, name):
        hierarchy = read(content, name)
        assert edges(hierarchy) == TREE
        assert hierarchy.ids is None

    @pytest.mark.parametrize(
        "content, name",
        [
            ("id,parent,name\na,,sport\nb,a,football\nc,a,tennis\nd,,art\n", "t.csv"),
            ("name\tparent_code\tcode\nsport\tNULL\ta\nfootball\ta\tb\ntennis\ta\tc\nart\tNULL\td\n", "t.tsv"),
            ("Bezeichnung;Oberbegriff;Kennung\nsport;-;a\nfootball;a;b\ntennis;a;c\nart;-;d\n", "t.csv"),
            ("uri|prefLabel|broader\na|sport|\nb|football|a\nc|tennis|a\nd|art|\n", "t.psv"),
            ("concept,broader,prefLabel\na,,sport\nb,a,football\nc,a,tennis\nd,,art\n", "t.csv"),
            ("a,0,sport\nb,a,football\nc,a,tennis\nd,0,art\n", "t.csv"),
            ("football;b;a\ntennis;c;a\nsport;a;\nart;d;\n", "t.csv"),
        ],
    )
    def test_ids_parents_and_names(self, read, content, name):
        hierarchy = read(content, name)
        assert sorted(edges(hierarchy)) == ["a", "b < a", "c < a", "d"]
        assert sorted(edges(hierarchy, "texts")) == sorted(TREE)
        assert hierarchy.ids == hierarchy.names

    def test_what_other_columns_say(self, read):
        hierarchy = read(
            "code,parent,name_en,name_de,altLabels,definition,colour\n1,,Sport,Sport,,All of it.,red\n"
            "2,1,Football,Fußball,soccer|footy,,\n3,1,Hockey,,,,\n4,,Art,Kunst,,,blue\n",
            "t.csv",
        )
        assert hierarchy.texts == ["Sport", "Football", "Hockey", "Art"]
        assert hierarchy.language == "en"
        assert hierarchy.translations == {"de": ["Sport", "Fußball", None, "Kunst"]}
        assert hierarchy.alternative_names == [[], ["soccer", "footy"], [], []]
        assert hierarchy.descriptions == ["All of it.", "", "", ""]
        assert hierarchy.attributes == [{"colour": "red"}, {}, {}, {"colour": "blue"}]
        assert [hierarchy.find(key) for key in ("2", "Fußball", "footy", "Sport / Football")] == [1, 1, 1, 1]

    def test_the_language_of_the_names(self, read):
        content = "code,parent,name_en,name_de\n1,,Sport,Sport\n2,1,Football,Fußball\n4,,Art,Kunst\n"
        hierarchy = read(content, "t.csv", language="de")
        assert hierarchy.texts == ["Sport", "Fußball", "Kunst"]
        assert hierarchy.translations == {"en": ["Sport", "Football", "Art"]}
        with pytest.raises(ValueError, match="t.csv: has no column of names in the language 'fr'; it has de, en"):
            read(content, "t.csv", language="fr")

    @pytest.mark.parametrize("cell", ["A,B", "A|B", "A; B", '["A", "B"]'])
    def test_several_parents_in_a_cell(self, read, cell):
        hierarchy = read(f"id\tname\tparents\nA\ta\t\nB\tb\t\nC\tc\t{cell}\nD\td\tC\n", "t.tsv")
        assert edges(hierarchy) == ["A", "B", "C < A, B", "D < C"]

    @pytest.mark.parametrize(
        "content",
        [
            "Category,Subcategory\nsport,football\nsport,tennis\nart,\n",
            "Ebene 1;Ebene 2\nsport;football\nsport;tennis\nart;\n",
            "l1\tl2\nsport\t\nsport\tfootball\nsport\ttennis\nart\t\n",
            "Code 1,Title 1,Code 2,Title 2\ns,sport,f,football\ns,sport,t,tennis\na,art,,\n",
            "Title 1;Code 1;Title 2;Code 2\nsport;s;football;f\nsport;s;tennis;t\nart;a;;\n",
            "ID,L1,L2\ns,sport,\nf,sport,football\nt,sport,tennis\na,art,\n",
            "sport,,\n,football,\n,tennis,\nart,,\n",
            "10,sport,11,football\n10,sport,12,tennis\n20,art,,\n",
        ],
    )
    def test_levels_in_columns(self, read, content):
        hierarchy = read(content, "t.csv")
        assert edges(hierarchy, "texts") == TREE
        assert (hierarchy.ids is None) == (re.search(r"Code|ID|10", content) is None)

    def test_names_that_repeat_become_paths(self, read):
        content = "A,B,C\npets,birds,food\npets,birds,cages\npets,dogs,food\nhome,pans,\nhome,pots,\n"
        hierarchy = read(content, "t.csv")
        assert hierarchy.names[:3] == ["pets", "pets/birds", "pets/birds/food"]
        assert hierarchy.texts[:3] == ["pets", "birds", "food"]
        assert read(content, "t.csv", separator=" > ").names[2] == "pets > birds > food"

    def test_a_level_that_is_left_out(self, read, caplog):
        with caplog.at_level("INFO"):
            hierarchy = read("level 1,level 2,level 3\na,b,c\na,,d\ne,,\n", "t.csv")
        assert edges(hierarchy) == ["a", "b < a", "c < b", "d < a", "e"]
        assert "1 line has an empty level between filled ones" in caplog.text

    def test_levels_that_are_filled_in_their_first_line_only(self, read, caplog):
        with caplog.at_level("INFO"):
            hierarchy = read("level 1,level 2,level 3\na,b,c\n,,d\n,e,\nf,g,\n,h,i\n", "t.csv")
        assert edges(hierarchy) == ["a", "b < a", "c < b", "d < b", "e < a", "f", "g < f", "h < f", "i < h"]
        assert "3 lines have empty first levels, taken from the line above" in caplog.text

    def test_a_separator_behind_the_last_segment(self, read):
        assert edges(read("A > B >\n> A > C\nD > E > F >\n", "t.txt"), "texts") == ["A", "B < A", "C < A", "D", "E < D", "F < E"]

    @pytest.mark.parametrize(
        "codes, parents",
        [
            ("1 11 111 112 2 21 211", "- 1 11 11 - 2 21"),  # ISCO
            ("11 111 1111 31-33 311 3111 332 3321", "- 11 111 - 31-33 311 31-33 332"),  # NAICS
            ("A00-B99 A00-A09 A00 A00.0 A01 B15-B19 B15 C00-D48", "- A00-B99 A00-A09 A00 A00-A09 A00-B99 B15-B19 -"),  # ICD
            ("03000000-1 03100000-2 03110000-5 30000000-9 31000000-6 31100000-7", "- 03000000-1 03100000-2 - - 31000000-6"),  # CPV
            ("20000000 20100000 20110000 20101500 20111500 20101501 21000000 21100000", "- 20000000 20000000 20100000 20110000 20101500 - 21000000"),  # UNSPSC
            ("A 01 01.1 01.11 B 05 05.1 05.10", "- A 01 01.1 - B 05 05.1"),  # NACE
            ("1 1.1 1.2 1.2.1 2 2.1", "- 1 1 1.2 - 2"),
            ("1. 1.1. 1.2. 2. 2.1.", "- 1. 1. - 2."),
            ("A-01 A-01-1 A-01-2 B-07 B-07-1 A B", "A A-01 A-01 B B-07 - -"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("written", ["code,title", "title first", "lines"])
    def test_codes(self, read, codes, parents, written):
        codes, parents = codes.split(), parents.split()
        if written == "code,title":
            content = "Code;Bezeichnung\n" + "".join(f"{code};name {n}\n" for n, code in enumerate(codes))
        elif written == "title first":
            content = "title\tnotation\n" + "".join(f"name {n}\t{code}\n" for n, code in enumerate(codes))
        else:
            content = "".join(f"{code} name {n}\n" for n, code in enumerate(codes))
            if not all(any(c.isdigit() for c in code) for code in codes):
                pytest.skip("a letter in front of a line is a word")
        hierarchy = read(content)
        assert hierarchy.names == hierarchy.ids == codes
        assert hierarchy.texts == [f"name {n}" for n in range(len(codes))]
        assert [hierarchy.names[row[0]] if row else "-" for row in hierarchy.parents] == parents

    def test_nine_and_ten_are_siblings(self, read):
        codes = ["1", *(f"1.{n}" for n in range(1, 12)), "2"]
        hierarchy = read("".join(f"{code},title {code}\n" for code in codes), "t.csv")
        assert hierarchy.parents[hierarchy.id("1.10")] == [hierarchy.id("1")]

    @pytest.mark.parametrize(
        "content",
        [
            "Heading,Tree Numbers,Unique ID\nBody,A01,D1\nEye,A01.456; A09.371,D3\nSense,A09,D4\nLens,A09.371.5,D5\n",
            "Eye\tA01.456\nEye\tA09.371\nBody\tA01\nSense\tA09\nLens\tA09.371.5\n",
            "mn|name\nA01|Body\nA01.456|Eye\nA09.371|Eye\nA09|Sense\nA09.371.5|Lens\n",
        ],
    )
    def test_tree_numbers(self, read, content):
        hierarchy = read(content)
        assert sorted(edges(hierarchy)) in (
            ["Body", "Eye < Body, Sense", "Lens < Eye", "Sense"],
            ["Body", "Eye < Sense, Body", "Lens < Eye", "Sense"],
        )
        assert hierarchy.find("A01.456") == hierarchy.id("Eye")
        assert (hierarchy.ids is not None) == ("Unique" in content)

    @pytest.mark.parametrize(
        "content",
        [
            "child_id,child_name,parent_id,parent_name\n1,cat,9,animal\n2,dog,9,animal\n3,oak,8,plant\n",
            "item,itemLabel,parent,parentLabel\n1,cat,9,animal\n2,dog,9,animal\n3,oak,8,plant\n",
        ],
    )
    def test_parents_that_have_no_row_of_their_own(self, read, content):
        hierarchy = read(content, "t.csv")
        assert sorted(edges(hierarchy)) == ["1 < 9", "2 < 9", "3 < 8", "8", "9"]
        assert sorted(edges(hierarchy, "texts")) == ["animal", "cat < animal", "dog < animal", "oak < plant", "plant"]

    def test_parents_that_became_floats(self, read):
        assert edges(read("ID,Name,Parent ID\n1,a,\n2,b,1.0\n3,c,1.0\n4,d,\n", "t.csv")) == ["1", "2 < 1", "3 < 1", "4"]

    def test_levels_with_the_deepest_first(self, read, caplog):
        with caplog.at_level("INFO"):
            hierarchy = read("Subcategory,Category\ncat,animal\ndog,animal\noak,plant\n", "t.csv")
        assert edges(hierarchy) == ["animal", "cat < animal", "dog < animal", "plant", "oak < plant"]
        assert "levels in 2 columns, the deepest first" in caplog.text

    def test_columns_of_published_tables(self, read):
        naics = "Seq. No.,2022 NAICS US   Code,2022 NAICS US Title\n1,11,Farms\n2,111,Crops\n3,31-33,Making\n4,311,Food\n"
        assert edges(read(naics, "t.csv"), "texts") == ["Farms", "Crops < Farms", "Making", "Food < Making"]
        isco = "Level,ISCO 08 Code,Title EN,Definition\n1,1,Managers,x\n2,11,Chiefs,y\n1,2,Experts,w\n2,21,Science,z\n"
        assert edges(read(isco, "t.csv"), "texts") == ["Managers", "Chiefs < Managers", "Experts", "Science < Experts"]
        cpv = "CODE;BG;DE;EN\n03000000-1;b;d;Farms\n03100000-2;c;e;Crops\n09000000-3;f;g;Oil\n"
        assert edges(read(cpv, "t.csv"), "texts") == ["Farms", "Crops < Farms", "Oil"]
        assert edges(read(cpv, "t.csv", language="de"), "texts") == ["d", "e < d", "g"]

    def test_levels_told_by_a_column(self, read):
        assert edges(read("Level,Code,Title\n1,x,sport\n2,q7,football\n2,c,tennis\n1,d,art\n", "t.csv"), "texts") == TREE
        assert edges(read("Name\tEbene\nsport\tL0\nfootball\tL1\ntennis\tL1\nart\tL0\n", "t.tsv")) == TREE

    def test_children_in_a_column(self, read):
        assert edges(read("node,children\nsport,football|tennis\nart,\n", "t.csv")) == TREE
        assert edges(
            read("code;label;narrower ids\na;sport;\nd;art;\n".replace("narrower ids", "children"), "t.csv"), "texts"
        ) == ["sport", "art"]
        assert edges(read("topic\tchild\nsport\tfootball\nsport\ttennis\nart\tmusic\n", "t.tsv"))[:3] == TREE[:3]


def test_excel(tmp_path, caplog):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (
        ["The codes of 2026", None],
        [None, None],
        ["Code", "Title"],
        [1, "sport"],
        [11.0, "football"],
        [12, "tennis"],
        [2, "art"],
    ):
        book.active.append(row)
    book.create_sheet("notes").append(["a note"])
    book.save(tmp_path / "codes.xlsx")
    with caplog.at_level("INFO"):
        hierarchy = LabelHierarchy.from_file(tmp_path / "codes.xlsx")
    assert edges(hierarchy, "texts") == TREE
    assert hierarchy.names == ["1", "11", "12", "2"]
    assert "in Excel; a tree of 4 nodes on 2 levels. The sheet 'Sheet' was read; the others are 'notes'." in caplog.text
    openpyxl.Workbook().save(tmp_path / "empty.xlsx")
    with pytest.raises(ValueError, match="empty.xlsx: is empty"):
        LabelHierarchy.from_file(tmp_path / "empty.xlsx")


class TestLines:
    @pytest.mark.parametrize("separator", [" > ", "/", "|", "::", " -> ", "\\", "--", " » ", ">", ";"])
    def test_paths(self, read, separator):
        paths = [("sport",), ("sport", "football"), ("sport", "tennis"), ("art",)]
        hierarchy = read("".join(separator.join(path) + "\n" for path in paths))
        assert hierarchy.names == [separator.join(path) for path in paths]
        assert edges(hierarchy, "texts") == TREE

    @pytest.mark.parametrize(
        "content",
        [
            "/sport/football\n/sport/tennis\n/art\n",
            "sport/football/\nsport/tennis/\nart/\n",
            "category_path\nsport/football\nsport/tennis\nart\n",
            'name\n"sport/football"\n"sport/tennis"\n"art"\n',
            "% a comment\nsport/football\n\nsport/tennis\n\nart\n",
            b"\xef\xbb\xbfsport/football\r\nsport/tennis\r\nart\r\n",
        ],
    )
    def test_paths_in_other_details(self, read, content):
        assert read(content, "paths.csv").names == ["sport", "sport/football", "sport/tennis", "art"]

    @pytest.mark.parametrize(
        "content",
        [
            "1 - sport\n2 - sport > football\n3 - sport > tennis\n4 - art\n",
            "1\tsport\n2\tsport/football\n3\tsport/tennis\n4\tart\n",
            "1: sport\n2: sport::football\n3: sport::tennis\n4: art\n",
            "sport;1\nsport/football;2\nsport/tennis;3\nart;4\n",
            "nr,Warengruppe\n1,sport\n2,sport > football\n3,sport > tennis\n4,art\n",
            "category_id,full_path\n1,sport\n2,sport > football\n3,sport > tennis\n4,art\n",
            "id,name,path\n1,sport,1\n2,football,1/2\n3,tennis,1/3\n4,art,4\n",
        ],
    )
    def test_ids_with_paths(self, read, content):
        hierarchy = read(content)
        assert hierarchy.names == hierarchy.ids == ["1", "2", "3", "4"]
        assert edges(hierarchy, "texts") == TREE

    @pytest.mark.parametrize(
        "content",
        [
            "sport\n  football\n  tennis\nart\n",
            "sport\n\tfootball\n\ttennis\nart\n",
            "- sport\n  - football\n  - tennis\n- art\n",
            "sport\n├── football\n└── tennis\nart\n",
        ],
    )
    def test_indented(self, read, content):
        assert edges(read(content)) == TREE
        assert read(content, separator="/").names == ["sport", "sport/football", "sport/tennis", "art"]

    def test_a_separator_that_no_line_holds(self, read, caplog):
        with caplog.at_level("INFO"):
            hierarchy = read("sport > football\nsport > tennis\nart > music\n", separator="/")
        assert hierarchy.names[1] == "sport > football"
        assert "No line holds the separator '/', but 3 of 3 hold ' > ', which is taken." in caplog.text

    def test_a_list_of_names_when_asked_for(self, read):
        assert read("sport\nart\n", format="paths").names == ["sport", "art"]


class TestJson:
    @pytest.mark.parametrize(
        "content",
        [
            {"sport": {"football": {}, "tennis": {}}, "art": {}},
            {"sport": ["football", "tennis"], "art": []},
            [{"sport": ["football", "tennis"]}, "art"],
            [{"label": "sport", "items": [{"label": "football"}, {"label": "tennis"}]}, {"label": "art", "items": []}],
            {"title": "Root", "subtopics": [{"title": "sport", "subtopics": [{"title": "football"}, {"title": "tennis"}]}, {"title": "art"}]},
            {"version": "2", "categories": [{"name": "sport", "categories": [{"name": "football"}, {"name": "tennis"}]}, {"name": "art"}]},
            {"name": "all", "children": [{"name": "sport", "children": ["football", "tennis"]}, {"name": "art", "children": []}]},
            {"sport": {"description": "x", "children": ["football", "tennis"]}, "art": {"description": "y", "children": []}},
            {"ROOT": ["sport", "art"], "sport": ["football", "tennis"]},
            {"football": "sport", "tennis": "sport", "sport": None, "art": None},
            [["Root", "sport"], ["sport", "football"], ["sport", "tennis"], ["Root", "art"]],
            [["sport"], ["sport", "football"], ["sport", "tennis"], ["art"]],
            {"directed": True, "nodes": [{"id": n} for n in ("sport", "football", "tennis", "art")],
             "edges": [{"source": "sport", "target": "football"}, {"source": "sport", "target": "tennis"}]},
            {"directed": True, "multigraph": False, "nodes": [{"id": n} for n in ("sport", "football", "tennis", "art")],
             "adjacency": [[{"id": "football"}, {"id": "tennis"}], [], [], []]},
        ],
    )  # fmt: skip
    def test_forms(self, read, content):
        hierarchy = read(json.dumps(content), "t.json")
        assert sorted(edges(hierarchy, "texts")) == sorted(TREE)

    @pytest.mark.parametrize(
        "content",
        [
            [{"id": 1, "name": "sport", "parent": None}, {"id": 2, "name": "football", "parent": 1}, {"id": 3, "name": "tennis", "parent": 1},
             {"id": 4, "name": "art", "parent": None}],
            {"data": [{"categoryId": 1, "categoryName": "sport", "parentCategoryId": 0}, {"categoryId": 2, "categoryName": "football", "parentCategoryId": 1},
             {"categoryId": 3, "categoryName": "tennis", "parentCategoryId": 1}, {"categoryId": 4, "categoryName": "art", "parentCategoryId": 0}]},
            {"1": {"name": "sport", "parent": None}, "2": {"name": "football", "parent": "1"}, "3": {"name": "tennis", "parent": "1"},
             "4": {"name": "art", "parent": None}},
            {"1": {"name": "sport", "children": ["2", "3"]}, "2": {"name": "football", "children": []}, "3": {"name": "tennis", "children": []},
             "4": {"name": "art", "children": []}},
            [{"id": "1", "label": "sport", "broader": []}, {"id": "2", "label": "football", "broader": ["1"]},
             {"id": "3", "label": "tennis", "broader": ["1"]}, {"id": "4", "label": "art", "broader": []}],
        ],
    )  # fmt: skip
    def test_records(self, read, content):
        hierarchy = read(json.dumps(content), "t.json")
        assert hierarchy.names == hierarchy.ids == ["1", "2", "3", "4"]
        assert edges(hierarchy, "texts") == TREE

    def test_lines_of_records(self, read):
        rows = [("a", "sport", None), ("b", "football", "a"), ("c", "tennis", "a"), ("d", "art", None)]
        lines = [json.dumps({"code": code, "label": label, "broader": parent}) for code, label, parent in rows]
        assert edges(read("\n".join(lines), "t.jsonl"), "texts") == TREE

    def test_yaml(self, read):
        assert sorted(edges(read("sport:\n  football:\n  tennis:\nart:\n", "t.yaml"))) == sorted(TREE)

    def test_what_nested_objects_say(self, read):
        content = {"children": [
            {"uuid": "u1", "title": "sport", "colour": 3, "children": [{"uuid": "u2", "title": "football", "synonyms": ["soccer"]}]},
            {"uuid": "u3", "title": "art", "definition": "Pictures.", "title_de": "Kunst"},
        ]}  # fmt: skip
        hierarchy = read(json.dumps(content), "t.json")
        assert hierarchy.ids == ["u1", "u3", "u2"] or hierarchy.ids == ["u1", "u2", "u3"]
        node = hierarchy.id("football")
        assert hierarchy.alternative_names[node] == ["soccer"]
        assert hierarchy.attributes[hierarchy.id("sport")] == {"colour": 3}
        assert hierarchy.descriptions[hierarchy.id("art")] == "Pictures."
        assert hierarchy.find("Kunst") == hierarchy.id("art")


SKOS = """@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
@prefix ex: <http://example.org/> .
ex:s a skos:Concept ; skos:prefLabel "sport"@en, "Sport"@de ; skos:narrower ex:f ; skos:notation "S1" .
ex:f a skos:Concept ; skos:prefLabel "football"@en, "Fußball"@de ; skos:altLabel "soccer"@en ; skos:definition "A game."@en .
ex:t a skos:Concept ; skos:prefLabel "tennis"@en ; skos:broader ex:s .
ex:a a skos:Concept ; skos:prefLabel "art"@en, "Kunst"@de .
"""


class TestRdf:
    @pytest.mark.parametrize(
        "form, suffix", [("turtle", "ttl"), ("xml", "rdf"), ("nt", "nt"), ("json-ld", "json"), ("pretty-xml", "xml")]
    )
    def test_skos(self, read, form, suffix):
        import rdflib

        content = rdflib.Graph().parse(data=SKOS, format="turtle").serialize(format=form, encoding="utf-8")
        hierarchy = read(content, f"t.{suffix}")
        assert sorted(edges(hierarchy)) == sorted(TREE)
        node = hierarchy.id("football")
        assert hierarchy.ids[node] == "http://example.org/f"
        assert hierarchy.alternative_names[node] == ["soccer"]
        assert hierarchy.descriptions[node] == "A game."
        assert hierarchy.translations["de"][node] == "Fußball"
        assert hierarchy.language == "en"
        assert [hierarchy.find(key) for key in ("http://example.org/f", "Fußball", "soccer")] == [node] * 3
        assert hierarchy.find("S1") == hierarchy.id("sport")

    def test_another_language(self, read):
        hierarchy = read(SKOS, "t.ttl", language="de")
        assert sorted(edges(hierarchy)) == ["Fußball < Sport", "Kunst", "Sport", "tennis < Sport"]
        with pytest.raises(ValueError, match="t.ttl: no concept has a name in the language 'fr'; there are de, en"):
            read(SKOS, "t.ttl", language="fr")

    def test_labels_that_repeat_get_their_ids(self, read):
        content = SKOS + 'ex:f2 a skos:Concept ; skos:prefLabel "football"@en ; skos:broader ex:a .\n'
        hierarchy = read(content, "t.ttl")
        assert {"football (f)", "football (f2)", "tennis"} <= set(hierarchy.names)
        with pytest.raises(ValueError, match=r"'football' stands for 2 nodes: 'football \(f\)' \(id http://example.org/f\), "):
            hierarchy.find("football")

    def test_obo(self, read):
        hierarchy = read(
            'format-version: 1.2\n\n[Term]\nid: X:1\nname: sport\n\n[Term]\nid: X:2\nname: football\ndef: "A \\"game\\"." [Y:1]\n'
            'synonym: "soccer" EXACT []\nis_a: X:1 {source="z"} ! sport\n\n[Term]\nid: X:3\nname: tennis\nis_a: X:1\n\n'
            "[Term]\nid: X:4\nname: art\nnamespace: n\n\n[Term]\nid: X:5\nname: old\nis_obsolete: true\n\n[Typedef]\nid: part_of\n"
        )
        assert edges(hierarchy) == TREE
        assert hierarchy.ids == ["X:1", "X:2", "X:3", "X:4"]
        assert hierarchy.descriptions[1] == 'A "game".'
        assert hierarchy.alternative_names[1] == ["soccer"]
        assert hierarchy.attributes[3] == {"namespace": "n"}


class TestRoot:
    @pytest.mark.parametrize(
        "content, name",
        [
            ("Everything\tsport\nEverything\tart\nsport\tfootball\nsport\ttennis\n", "t.tsv"),
            ("id,parent,name\n0,,Everything\na,0,sport\nb,a,football\nc,a,tennis\nd,0,art\n", "t.csv"),
            ('{"name": "Everything", "children": [{"name": "sport", "children": [{"name": "football"}, {"name": "tennis"}]}, {"name": "art"}]}',
             "t.json"),
            ("Everything\n  sport\n    football\n    tennis\n  art\n", "t.txt"),
        ],
    )  # fmt: skip
    def test_a_node_above_all_others_is_said_and_left_out(self, read, caplog, content, name):
        with caplog.at_level("INFO"):
            hierarchy = read(content, name)
        assert sorted(edges(hierarchy, "texts")) == sorted(TREE)
        assert hierarchy.left_out_root == "Everything"
        assert "'Everything' stands above all other nodes and is left out as the root" in caplog.text
        with pytest.raises(ValueError, match="'Everything' stands above all .* was left out as its root. Read .*--keep_root"):
            hierarchy.find("Everything")
        assert hierarchy.find("Everything > sport > football") == hierarchy.find("football")
        kept = read(content, name, root=False)
        assert len(kept) == 5
        assert kept.left_out_root is None
        needed = read(content, name, labels=[kept.names[kept.find("Everything")], kept.names[kept.find("football")]])
        assert needed.num_labels == 2

    def test_its_name_may_be_given(self, read):
        content = "*\tsport\n*\tart\nsport\tfootball\nsport\ttennis\n"
        assert sorted(edges(read(content, "t.tsv", root="*"))) == sorted(TREE)
        with pytest.raises(ValueError, match="t.tsv: no node is called 'sports', the root. Close names: .*'sport'"):
            read(content, "t.tsv", root="sports")

    def test_a_chain_has_none(self, read):
        assert edges(read("a > b > c\na > b > d\n")) == ["a", "a > b < a", "a > b > c < a > b", "a > b > d < a > b"]


def test_what_was_recognised_is_said_in_one_line(read, caplog):
    with caplog.at_level("INFO"):
        read("Kind;Eltern\nsport;\nfußball;sport\nsport;\n".encode("cp1252"), "t.csv")
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("hf_htc")]
    assert len(lines) == 1
    assert lines[0].startswith("t.csv: edge list, columns 'Eltern' and 'Kind', split by semicolons (encoding guessed as cp1252")
    assert "a tree of 2 nodes on 2 levels. 1 entries are given twice, the first in line 4, and count once." in lines[0]


def rows_of_the_page():
    rows = [
        line.strip("|").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| .* \| `", line)
    ]
    return [[cell.strip() for cell in re.sub(r"\\\|", "|", " | ".join(row)).split(" | ")] for row in rows]


@pytest.mark.parametrize("row", rows_of_the_page(), ids=lambda row: row[0])
def test_the_examples_of_the_page(read, row):
    _, name, example, expected = row
    lines = [line.strip("`").replace("<TAB>", "\t").replace("␣", " ") for line in example.split("<br>")]
    assert levels(read("\n".join(lines) + "\n", name.strip("`"))) == expected


def test_the_page_has_a_row_per_form():
    assert len(rows_of_the_page()) == 21
