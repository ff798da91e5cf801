"""Reports on good and on broken data, against numbers counted by hand."""

import json

import datasets
import pytest
from data_examples import DAG_EDGES, EDGES, ROWS

from hf_htc.data import check_dataset, check_files, load_htc_dataset
from hf_htc.models.hierarchy import LabelHierarchy


@pytest.fixture
def hierarchy(taxonomy):
    return LabelHierarchy.from_file(taxonomy)


def kinds(report):
    return {problem.kind: problem for problem in report.problems}


def split(rows):
    return datasets.Dataset.from_dict({"text": [r[0] for r in rows], "labels": [r[1] for r in rows]})


def test_clean_data(jsonl, taxonomy):
    loaded = load_htc_dataset(train_file=jsonl(ROWS), taxonomy=taxonomy, validation_fraction=0)
    report = check_dataset(*loaded)
    assert report.ok and report.problems == [] and report.label_closure == "closed"
    train = report.splits["train"]
    assert (train["documents"], train["labels_seen"], train["open_documents"]) == (4, 7, 0)
    assert train["labels_per_document"] == {"mean": 2.75, "median": 3, "p95": 3, "min": 2, "max": 3}
    assert train["words"]["max"] == 8 and train["words"]["min"] == 4
    assert train["depth"] == {2: 2, 3: 2}
    assert report.labels["without_training"] == []
    assert report.labels["most_frequent"][0] == ("sport", 3)
    assert report.hierarchy["labels_per_level"] == [2, 3, 2]


def test_problems_of_loaded_data(hierarchy):
    ids = {name: hierarchy.id(name) for name in hierarchy.names}
    train = split(
        [
            ("One text", [ids["sport"]]),
            ("one  TEXT", [ids["politics"]]),  # a copy but for case and blanks, with another label
            ("Another text", [ids["football"]]),  # ancestors missing
            ("Another text", [ids["football"]]),
        ]
    )
    test = split([("another\ntext", [ids["football"]]), ("new", [ids["elections"], 99]), ("  ", []), ("", [])])
    report = check_dataset(datasets.DatasetDict(train=train, test=test), hierarchy)
    found = kinds(report)
    assert set(found) == {
        "unknown_label",
        "empty_text",
        "no_labels",
        "duplicate_within_split",
        "duplicate_across_splits",
        "conflicting_labels",
        "label_without_training_data",
        "label_unseen_in_training",
        "missing_ancestors",
    }
    assert not report.ok and report.label_closure == "as_given"
    assert "test, row 2: the label id 99 is outside the taxonomy's 0 to 6" in found["unknown_label"].message
    assert report.duplicates == {"within": {"train": 2, "test": 0}, "across": {"train/test": 1}, "conflicting": 1}
    assert found["conflicting_labels"].examples == ["train, row 1 = train, row 2"]
    assert found["duplicate_across_splits"].examples == ["train, row 3 = train, row 4 = test, row 1"]
    assert found["empty_text"].count == found["no_labels"].count == 2
    assert set(report.labels["without_training"]) == {"ball", "water", "tennis", "elections"}
    assert report.labels["unseen_in_training"] == {"test": ["elections"]}
    assert report.splits["train"]["open_documents"] == 2 and report.splits["test"]["open_documents"] == 2
    assert [p.severity for p in report.problems] == ["error"] * 3 + ["warning"] * 5 + ["note"]


def test_label_names_instead_of_ids(hierarchy):
    report = check_dataset(split([("a", ["sport", "sprot"]), ("b", ["sprot"]), ("c", ["ball"])]), hierarchy)
    problem = kinds(report)["unknown_label"]
    assert problem.count == 2 and problem.examples == ["train, row 1", "train, row 2"]
    assert "unknown label 'sprot'. Close names: ['sport']" in problem.message
    assert report.splits["train"]["labels_seen"] == 2


def test_a_selection_is_followed(hierarchy):
    rows = split([("a", [0]), ("b", [1]), ("b", [1])]).select([0, 1])
    report = check_dataset(rows, hierarchy)
    assert report.splits["train"]["documents"] == 2 and report.duplicates["within"] == {"train": 0}


def test_broken_files_are_read_to_the_end(jsonl, text_file, taxonomy):
    train = jsonl(
        [
            {"text": "fine", "labels": ["sport"]},
            "{broken",
            "[]",
            {"text": 7, "labels": ["sport"]},
            {"text": "wrong labels", "labels": 1.5},
            {"text": "unknown", "labels": ["sport", "fotball"]},
            {"text": "unknown", "labels": ["sport", "criket"]},
            {"text": "empty name", "labels": ["sport", ""]},
            {"text": "", "labels": ["politics"]},
        ]
    )
    report = check_files(train_file=train, taxonomy=taxonomy)
    places = {(p.kind, p.message.split(":")[0].split(" cannot")[0]) for p in report.problems if p.severity == "error"}
    assert places == {
        ("unreadable_row", "train.jsonl, line 2"),
        ("wrong_type", "train.jsonl, line 4"),
        ("wrong_type", "train.jsonl, line 5"),
        ("unknown_label", "train.jsonl, line 6"),
        ("unknown_label", "train.jsonl, line 7"),
        ("empty_label", "train.jsonl, line 8"),
        ("empty_text", "train.jsonl, line 9"),
    }
    # One problem of a kind is one line with its count.
    unreadable = next(p for p in report.problems if p.kind == "unreadable_row")
    assert unreadable.count == 2 and unreadable.examples == ["train.jsonl, line 2", "train.jsonl, line 3"]
    assert report.splits["train"]["documents"] == 7
    csv = text_file('text,labels\na,sport\nb\nc,sport,x\n"d" e,sport\n"f, g",ball\n')
    report = check_files(train_file=csv, taxonomy=taxonomy)
    assert [(p.kind, p.examples) for p in report.problems if p.severity == "error"] == [
        ("ragged_row", ["train.csv, line 3", "train.csv, line 4"]),
        ("unreadable_row", ["train.csv, line 5"]),
    ]
    assert report.splits["train"]["documents"] == 2


def test_broken_lines_of_a_utf_8_file_are_told_and_the_others_read(text_file, taxonomy):
    content = "text,labels\na\u00e4,sport\n".encode() + "b\u00e4,sport\n".encode("latin-1") + b"c,ball\n"
    report = check_files(train_file=text_file(content), taxonomy=taxonomy)
    assert "train.csv, line 3: not UTF-8" in kinds(report)["unreadable_row"].message
    assert report.splits["train"]["documents"] == 2


def test_paths_that_are_broken(text_file):
    content = "text,labels\na,sport/ball\nb,sport//x\nc,politics\n"
    report = check_files(train_file=text_file(content), path_separator="/")
    assert "line 3: the path 'sport//x'" in kinds(report)["broken_path"].message
    assert report.hierarchy["num_labels"] == 3 and report.splits["train"]["unlabelled"] == 1


def test_taxonomy_that_does_not_fit_or_is_unusable(jsonl, tmp_path):
    data = jsonl([{"text": "a", "labels": ["A"]}])
    other = tmp_path / "other.tsv"
    other.write_text(EDGES)
    assert "No label of the split 'train'" in kinds(check_files(train_file=data, taxonomy=other))["taxonomy_mismatch"].message
    other.write_text("a\tb\nb\ta\n")
    report = check_files(train_file=data, taxonomy=other)
    assert "cycle" in kinds(report)["bad_taxonomy"].message and report.hierarchy["num_labels"] == 1


def test_dag_depth_and_folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "taxonomy.tsv").write_text(DAG_EDGES)
    (folder / "test.jsonl").write_text(json.dumps({"text": "a", "labels": ["polo", "ball", "water", "sport"]}))
    report = check_files(folder)
    assert report.ok and report.label_closure == "closed"
    assert report.splits["test"]["depth"] == {3: 1}
    assert report.labels["without_training"] == [] and not report.hierarchy["is_tree"]


def test_dict_and_markdown(jsonl, taxonomy):
    rows = [{"text": "a", "labels": ["football"]}, {"text": "A", "labels": ["tennis"]}, {"text": "b", "labels": ["x"]}]
    report = check_files(train_file=jsonl(rows), taxonomy=taxonomy)
    content = json.loads(json.dumps(report.to_dict()))
    assert content["ok"] is False and content["label_closure"] == "as_given"
    assert {p["kind"] for p in content["problems"]} == set(kinds(report))
    page = report.to_markdown()
    assert page == str(report) and page.startswith("# Data check\n\n1 error, 3 warnings, 1 note.")
    assert "* **error** `unknown_label` (1): train.jsonl, line 3: unknown label 'x'." in page
    assert "| documents | 3 |" in page and "* tree of 7 labels (7 nodes) on 3 levels: 2-3-2" in page
    assert "* ... and 4 more" in report.to_markdown(max_problems=1)


def test_errors_of_the_call(hierarchy, tmp_path):
    with pytest.raises(TypeError, match="must be a `DatasetDict` or a `Dataset`, got list"):
        check_dataset([], hierarchy)
    with pytest.raises(ValueError, match="The split 'train' has no column 'text'"):
        check_dataset(datasets.Dataset.from_dict({"labels": [[0]]}), hierarchy)
    with pytest.raises(FileNotFoundError, match="no train file"):
        check_files(train_file=tmp_path / "none.csv")
    with pytest.raises(ValueError, match="got neither"):
        check_files()
