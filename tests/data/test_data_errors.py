"""Each error of the loader names the culprit and the mend."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_examples import ROWS

from hf_htc.data import as_split, check_is_split, dataset_fingerprint, load_htc_dataset
from hf_htc.data.labels import name_sets
from hf_htc.data.problems import Origin, ProblemLog
from hf_htc.models.hierarchy import LabelHierarchy


GOOD = {"text": "x", "labels": ["sport"]}

# name -> (rows or raw lines, keyword arguments, error, match)
JSONL_ERRORS = {
    "unknown label": (
        [GOOD, {"text": "y", "labels": ["sport", "fotball"]}],
        {},
        ValueError,
        r"train\.jsonl, line 2: unknown label 'fotball'\. Close names: \['football'.*Add it to the taxonomy",
    ),
    "the first of several unknown labels": (
        [GOOD, "", {"text": "y", "labels": ["qqq"]}, {"text": "z", "labels": ["aaa"]}],
        {},
        ValueError,
        r"line 3: unknown label 'qqq'.*1 other names are unknown",
    ),
    "labels that were not separated": (
        [GOOD, {"text": "y", "labels": ["sport;ball"]}],
        {},
        ValueError,
        r"looks like several labels: pass `label_separator=';'`",
    ),
    "no label is known": (
        [{"text": "y", "labels": ["A"]}, {"text": "z", "labels": ["B"]}],
        {},
        ValueError,
        r"No label of the split 'train' is in the taxonomy: the data has \['A', 'B'\], the taxonomy \['sport'",
    ),
    "no labels": (
        [GOOD, {"text": "y", "labels": []}, {"text": "z"}],
        {},
        ValueError,
        r"train\.jsonl, line 2: the row has no labels \(2 such rows\).*allow_unlabelled=True",
    ),
    "empty label name": ([{"text": "y", "labels": ["sport", " "]}], {}, ValueError, r"line 1: a label is empty"),
    "empty text": ([GOOD, {"text": " \n", "labels": ["sport"]}], {}, ValueError, r"line 2: the text is empty \(1 such"),
    "text missing in one row": ([GOOD, {"labels": ["sport"]}], {}, ValueError, r"line 2: the text is empty"),
    "missing text column": (
        [{"title": "x", "body": "y", "labels": ["sport"]}],
        {},
        ValueError,
        r"train\.jsonl has no column 'text'; its columns are \['title', 'body', 'labels'\].*`text_column`",
    ),
    "missing label column": ([{"text": "y"}], {}, ValueError, r"no column 'labels'; its columns are \['text'\]"),
    "broken line": (
        [GOOD, '{"text": "y", "labels": ["sport"]'],
        {},
        ValueError,
        r"train\.jsonl, line 2 cannot be read: .*Each line must be one JSON object",
    ),
    "line that is no object": ([GOOD, "[1, 2]"], {}, ValueError, r"line 2 cannot be read: a JSON list where an object"),
    "text of a wrong type": (
        [GOOD, {"text": 5, "labels": ["sport"]}],
        {},
        TypeError,
        r"line 2: the text is a int, 5; it must be a string",
    ),
    "labels of a wrong type": (
        [GOOD, {"text": "y", "labels": {"sport": 1}}],
        {},
        TypeError,
        r"line 2: column 'labels' holds \{'sport': 1\}\. Labels of a row are",
    ),
    "floats as labels": ([{"text": "y", "labels": [0.0, 1.0]}], {}, TypeError, r"line 1: column 'labels' holds \[0\.0"),
    "rows of two forms": (
        [GOOD, {"text": "y", "labels": "sport"}],
        {},
        TypeError,
        r"line 2: column 'labels' holds 'sport', unlike the rows above \(strings\)",
    ),
    "integers that a taxonomy file does not have": (
        [{"text": "y", "labels": [0, 1]}],
        {},
        ValueError,
        r"No label of the split 'train' is in the taxonomy: the data has \['0', '1'\].*need their names: `class_names`",
    ),
    "integers without a taxonomy": (
        [{"text": "y", "labels": [0, 1]}],
        {"taxonomy": None},
        TypeError,
        r"holds integers, and what they stand for is unknown.*`class_names`.*LabelHierarchy",
    ),
    "separator for lists": ([GOOD], {"label_separator": ";"}, ValueError, r"`label_separator=';'` is for strings"),
    "path with an empty segment": (
        [GOOD, {"text": "y", "labels": ["sport//ball"]}],
        {"path_separator": "/"},
        ValueError,
        r"line 2: the path 'sport//ball' has an empty segment",
    ),
    "path that the taxonomy does not have": (
        [GOOD, {"text": "y", "labels": ["politics/football"]}],
        {"path_separator": "/"},
        ValueError,
        r"unknown label 'politics/football'.*not each the parent of the next",
    ),
    "separator inside a segment": (
        [{"text": "y", "labels": [["sport", "ball/tennis"]]}],
        {},
        ValueError,
        r"segment 'ball/tennis' holds the path separator '/'; choose another",
    ),
}


@pytest.mark.parametrize("case", JSONL_ERRORS)
def test_jsonl(case, jsonl, taxonomy):
    rows, options, error, match = JSONL_ERRORS[case]
    with pytest.raises(error, match=match):
        load_htc_dataset(**{"train_file": jsonl(rows), "taxonomy": taxonomy, "validation_fraction": 0, **options})


CSV_ERRORS = {
    "ragged row": (
        "text,labels\nx,sport\ny, with a comma,sport\n",
        r"train\.csv, line 3 has 3 fields where the header has 2.*double quotes",
    ),
    "ragged row behind a line break in quotes": ('text,labels\n"a\nb",sport\nx\n', r"train\.csv, line 4 has 1 fields"),
    "stray quote": ('text,labels\n"x, w",sport\n"y" z,sport\n', r"train\.csv, line 3 cannot be read: .*stray quote"),
    "some lines not UTF-8": (
        "text,labels\nsch\u00f6n,sport\n".encode() + "sch\u00f6n,sport\n".encode("latin-1"),
        r"train\.csv, line 3: not UTF-8 text, though other lines are; give the `encoding`",
    ),
    "column twice": ("text,labels,text\nx,sport,y\n", r"has the column 'text' twice"),
    "nothing": ("\n", r"train\.csv: is empty"),
    "header only": ("text,labels\n", r"holds no readable row below its header"),
    "unlabelled": ("text,labels\nx,sport\ny,\n", r"train\.csv, line 3: the row has no labels"),
}


@pytest.mark.parametrize("case", CSV_ERRORS)
def test_csv(case, text_file, taxonomy):
    content, match = CSV_ERRORS[case]
    with pytest.raises(ValueError, match=match):
        load_htc_dataset(train_file=text_file(content), taxonomy=taxonomy, validation_fraction=0)


def test_gap_in_the_columns_of_levels(text_file):
    path = text_file("text,l1,l2\nx,sport,ball\ny,,ball\n")
    with pytest.raises(ValueError, match=r"line 3: the path \['', 'ball'\] has a gap"):
        load_htc_dataset(train_file=path, label_column=["l1", "l2"])


def test_parquet(tmp_path, taxonomy, cache_dir):
    path = tmp_path / "train.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"'train.parquet' cannot be read as Parquet"):
        load_htc_dataset(train_file=path, taxonomy=taxonomy, cache_dir=cache_dir)
    pq.write_table(pa.table({"text": ["x", "y"], "labels": [["sport"], ["spart"]]}), path)
    with pytest.raises(ValueError, match=r"train\.parquet, row 2: unknown label 'spart'. Close names: \['sport'\]"):
        load_htc_dataset(train_file=path, taxonomy=taxonomy, cache_dir=cache_dir)
    pq.write_table(pa.table({"text": [1.5], "labels": [["sport"]]}), path)
    with pytest.raises(TypeError, match="Column 'text' of train.parquet holds double; texts are strings"):
        load_htc_dataset(train_file=path, taxonomy=taxonomy, cache_dir=cache_dir)
    pq.write_table(pa.table({"text": ["x"], "labels": [[1.5]]}), path)
    with pytest.raises(TypeError, match="Column 'labels' of train.parquet holds list.*labels are names"):
        load_htc_dataset(train_file=path, taxonomy=taxonomy, cache_dir=cache_dir)
    pq.write_table(pa.table({"text": ["x"], "body": [["sport"]]}), path)
    with pytest.raises(ValueError, match=r"train.parquet has no column 'labels'; its columns are \['text', 'body'\]"):
        load_htc_dataset(train_file=path, taxonomy=taxonomy, cache_dir=cache_dir)


def test_json_list(text_file, taxonomy):
    with pytest.raises(ValueError, match=r"starts with '\[' but is no JSON"):
        load_htc_dataset(train_file=text_file('[{"text": "x"', "train.json"), taxonomy=taxonomy)
    with pytest.raises(ValueError, match=r"train\.json, row 2 is a int; every element must be an object"):
        load_htc_dataset(train_file=text_file(json.dumps([GOOD, 5]), "train.json"), taxonomy=taxonomy)


def test_ids_outside_the_hierarchy_and_structure_only_nodes(jsonl):
    hierarchy = LabelHierarchy(["ball", "sport"], [[1], []], num_labels=1)
    with pytest.raises(ValueError, match="holds the label id 1; the taxonomy's ids are 0 to 0"):
        load_htc_dataset(train_file=jsonl([{"text": "x", "labels": [1]}]), taxonomy=hierarchy)
    rows = [{"text": "x", "labels": ["ball"]}, {"text": "y", "labels": ["ball", "sport"]}]
    with pytest.raises(ValueError, match="line 2: 'sport' is a structure-only node of the taxonomy, not a label"):
        load_htc_dataset(train_file=jsonl(rows), taxonomy=hierarchy)


def test_nothing_to_infer_a_taxonomy_from(jsonl):
    with pytest.raises(ValueError, match="No row has a label, so no taxonomy can be inferred"):
        load_htc_dataset(train_file=jsonl([{"text": "x", "labels": []}]), allow_unlabelled=True)


def test_bad_taxonomy_file(jsonl, tmp_path):
    path = tmp_path / "cycle.tsv"
    path.write_text("a\tb\nb\ta\n")
    with pytest.raises(ValueError, match=r"The taxonomy '.*cycle\.tsv' cannot be used: .*cycle: "):
        load_htc_dataset(train_file=jsonl([GOOD]), taxonomy=path)
    with pytest.raises(FileNotFoundError, match="no taxonomy file"):
        load_htc_dataset(train_file=jsonl([GOOD]), taxonomy=tmp_path / "none.tsv")


def test_missing_files_and_folders(jsonl, tmp_path, taxonomy):
    path = jsonl([GOOD])
    with pytest.raises(FileNotFoundError, match=r"no train file '.*trian\.jsonl'\. The folder holds \['taxonomy.tsv', 'train"):
        load_htc_dataset(train_file=tmp_path / "trian.jsonl")
    with pytest.raises(FileNotFoundError, match="no test file.*The folder does not exist"):
        load_htc_dataset(train_file=path, test_file=tmp_path / "nowhere" / "test.jsonl")
    with pytest.raises(ValueError, match=r"'a\.xlsx' cannot be read as Excel: its first bytes are others"):
        (tmp_path / "a.xlsx").write_text("x")
        load_htc_dataset(train_file=tmp_path / "a.xlsx")
    with pytest.raises(ValueError, match="is a file; pass it as `train_file`"):
        load_htc_dataset(path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match="holds no data files. Expected train, validation and test"):
        load_htc_dataset(empty)
    (empty / "train.jsonl").write_text(json.dumps(GOOD))
    with pytest.raises(FileNotFoundError, match=r"no taxonomy 'tree\.tsv', neither in .* The folder holds \['train.jsonl'\]"):
        load_htc_dataset(empty, taxonomy="tree.tsv")
    with pytest.raises(FileNotFoundError, match="has no folder 'sub'; correct `data_dir`"):
        load_htc_dataset(empty, data_dir="sub")
    with pytest.raises(ValueError, match="declares no `configs`, so there is no configuration 'big'"):
        load_htc_dataset(empty, config_name="big")


def test_what_is_nowhere(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"neither a built-in data set \(python_docs, .*\), nor a folder here, nor a"):
        load_htc_dataset("someone/no_such_data_set_htc")


OPTION_ERRORS = {
    "nothing": ({}, "Pass either `name_or_path` or files .*got neither"),
    "both": ({"name_or_path": "python_docs", "train_file": "a.csv"}, "got 'python_docs' and \\['train'\\]"),
    "one file twice": ({"train_file": "a.csv", "test_file": "./a.csv"}, "given as train_file and as test_file"),
    "labels": ({"labels": "some"}, "`labels` is 'some'; it must be 'all' or 'used'"),
    "closure": ({"closure": "down"}, "`closure` is 'down'; it must be None"),
    "fraction": ({"validation_fraction": 1.0}, r"`validation_fraction` is 1.0; it must lie in \[0, 1\)"),
    "same column": ({"text_column": "labels"}, "both name 'labels'; they must differ"),
    "column twice": ({"label_column": ["a", "a"]}, "one different column per level"),
    "no column": ({"label_column": []}, "name one column"),
    "same separators": ({"label_separator": "/", "path_separator": "/"}, "are both '/'"),
    "empty separator": ({"label_separator": ""}, "`label_separator` is an empty string; give a character such as ';'"),
    "separator with levels": ({"label_column": ["a", "b"], "label_separator": ";"}, "are the levels of one path"),
    "revision of files": ({"revision": "main"}, "`revision` belongs to a folder or Hub repository"),
    "data_dir of a builder": (
        {"name_or_path": "python_docs", "train_file": None, "data_dir": "x"},
        "`data_dir` means nothing for the built-in 'python_docs'",
    ),
    "revision of a folder": (
        {"name_or_path": ".", "train_file": None, "revision": "main"},
        "`revision` means nothing for the folder",
    ),
}


@pytest.mark.parametrize("case", OPTION_ERRORS)
def test_options(case):
    options, match = OPTION_ERRORS[case]
    with pytest.raises(ValueError, match=match):
        load_htc_dataset(**({"train_file": "train.csv", **options} if options else {}))


def test_unknown_option_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'label_colum'"):
        load_htc_dataset(train_file="train.csv", label_colum="x")


def test_splits_are_named_where_one_split_is_needed(jsonl, taxonomy):
    loaded = load_htc_dataset(train_file=jsonl(ROWS), taxonomy=taxonomy, validation_fraction=0)
    train = loaded.dataset["train"]
    assert as_split(loaded.dataset, "train") is train and as_split(train, "test") is train
    assert check_is_split(train) is train
    with pytest.raises(ValueError, match=r"no split 'test'; its splits are \['train'\]"):
        as_split(loaded.dataset, "test")
    with pytest.raises(TypeError, match="Expected a `Dataset` or a `DatasetDict`, got list"):
        as_split([], "train")
    with pytest.raises(TypeError, match=r"`eval_dataset` got a DatasetDict with the splits \['train'\]; pass one split"):
        check_is_split(loaded.dataset, "eval_dataset")
    with pytest.raises(TypeError, match="got a tuple.*dataset, hierarchy = load_htc_dataset"):
        check_is_split(loaded)
    with pytest.raises(ValueError, match="no column 'text'; take the fingerprint before `tokenize_dataset`"):
        dataset_fingerprint(train.remove_columns("text"), loaded.hierarchy)


def test_an_interrupted_save_leaves_nothing(jsonl, taxonomy, tmp_path, monkeypatch):
    loaded = load_htc_dataset(train_file=jsonl(ROWS), taxonomy=taxonomy, validation_fraction=0)

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(LabelHierarchy, "save", fail)
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        loaded.save(tmp_path / "saved")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_row_numbers_follow_a_selection():
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "labels": [["x"], ["y"], ["z"]]}).select([2, 0])
    sets = name_sets(rows, ["labels"], Origin("t"), ProblemLog())
    assert [sets.names[code] for code in sets.codes] == ["z", "x"]
