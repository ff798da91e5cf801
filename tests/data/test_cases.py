"""Files as people have them: each form with the command that its owner would try, and what is right."""

import logging
import re
import shlex
from pathlib import Path

import pytest

from hf_htc.cli.common import DataArguments, parse
from hf_htc.cli.data import check


CASES = Path(__file__).parents[1] / "fixtures" / "cases"
LEAVES = "14 labels 2-4-8"


def data_of(folder, command, monkeypatch):
    monkeypatch.chdir(folder)
    (data,) = parse([DataArguments], shlex.split(command), "hf-htc data check", "")
    return data


# name -> (folder, options, labels and their levels, training documents)
READ = {
    "path separator of the taxonomy": (
        "01-product-taxonomy-comment",
        "--train_file train.csv --text_column title --label_column product_category --taxonomy taxonomy.en-US.txt "
        "--path_separator ' > ' --closure up",
        LEAVES,
        56,
    ),
    "ids of a taxonomy": (
        "02-product-taxonomy-ids",
        "--train_file train.csv --label_column category_id --taxonomy taxonomy-with-ids.en-US.txt --path_separator ' > '",
        LEAVES,
        56,
    ),
    "list in a cell": (
        "12-preprints-list-in-cell",
        "--train_file train.csv --text_column summaries --label_column terms --path_separator . --closure up",
        "9 labels 3-6",
        60,
    ),
    "two text columns and placeholders": (
        "16-cat123-unknown",
        "--train_file train.csv --text_column Title,Text --label_column Cat1,Cat2,Cat3 --closure up",
        "13 labels 3-5-5",
        56,
    ),
    "words for missing levels": (
        "17-cat123-nan-words",
        "--train_file train.csv --label_column Cat1,Cat2,Cat3",
        "5 labels 2-2-1",
        48,
    ),
    "gaps in levels, closed": (
        "18-level-gap",
        "--train_file train.csv --label_column Cat1,Cat2,Cat3 --level_gaps close",
        "6 labels 2-3-1",
        44,
    ),
    "gaps in levels, left out": (
        "18-level-gap",
        "--train_file train.csv --label_column Cat1,Cat2,Cat3 --skip_bad_rows",
        "5 labels 2-2-1",
        32,
    ),
    "Windows-1252": ("22-cp1252", "--train_file train.csv", "6 labels 2-4", 48),
    "semicolons": (
        "23-semicolon-delimiter",
        "--train_file kategorien.csv --text_column Beschreibung --label_column Kategorie --path_separator /",
        "6 labels 2-4",
        48,
    ),
    "leading slash": ("28-leading-slash", "--train_file train.csv --path_separator /", "6 labels 2-4", 40),
    "Chinese, double dash": ("30-chinese-double-dash", "--train_file train.jsonl --path_separator=--", "6 labels 2-4", 48),
    "lists of tokens": (
        "32-token-lists-closed",
        "--train_file train.json --text_column token --label_column label --taxonomy old.taxonomy",
        "7 labels 2-3-2",
        48,
    ),
    "empty texts, left out": ("36-empty-texts", "--train_file train.csv --skip_empty_texts", LEAVES, 94),
    "unlabelled rows": ("37-unlabelled-rows", "--train_file train.csv --allow_unlabelled", LEAVES, 96),
    "test file without labels": (
        "37-unlabelled-rows",
        "--train_file train.csv --test_file test_nolabels.csv --allow_unlabelled",
        LEAVES,
        96,
    ),
    "test file without a column of labels": (
        "37-unlabelled-rows",
        "--train_file train.csv --test_file test_nocolumn.csv --allow_unlabelled",
        LEAVES,
        96,
    ),
    "class ids": (
        "38-integer-class-ids",
        "--train_file train.jsonl --label_column label --taxonomy classes.txt --path_separator ' > '",
        LEAVES,
        64,
    ),
    "class ids by their names": (
        "38-integer-class-ids",
        "--train_file train.jsonl --label_column label --class_names classes.txt --path_separator ' > '",
        LEAVES,
        64,
    ),
    "one column per label": (
        "39-one-hot-columns",
        "--train_file train.csv --text_column abstract --label_column aa.LG,aa.CV,aa.CL,bbb.ML,bbb.AP,mm.PR",
        "9 labels 3-6",
        60,
    ),
    "one column per label, by a pattern": (
        "39-one-hot-columns",
        "--train_file train.csv --text_column abstract --label_column *.*",
        "9 labels 3-6",
        60,
    ),
    "two groups of levels": (
        "40-two-paths-in-columns",
        "--train_file train.csv --label_column main_l1,main_l2 --label_column side_l1,side_l2",
        "6 labels 2-4",
        48,
    ),
    "last segments": (
        "47-leaf-only-labels",
        "--train_file train.csv --label_column category --taxonomy taxonomy.txt --path_separator ' > '",
        "13 labels 2-4-7",
        56,
    ),
    "wide table of codes": (
        "04-procurement-codes-wide",
        "--train_file train.csv --label_column commodity --taxonomy codes.csv",
        "16 labels 2-4-4-6",
        54,
    ),
    "prefix codes": (
        "05-industry-codes-prefix",
        "--train_file train.csv --label_column naics --taxonomy codes.csv",
        "15 labels 3-3-3-6",
        60,
    ),
    "tree numbers": (
        "09-tree-numbers-dag",
        "--train_file train.csv --label_column headings --taxonomy mtrees.bin",
        "7 labels 2-1-2-1-1",
        45,
    ),
    "SKOS": ("10-skos-rdf", "--train_file train.csv --label_column concept --taxonomy scheme.rdf", "6 labels 2-4", 48),
    "nested JSON": ("19-nested-name-children", "--train_file train.csv --taxonomy taxonomy.json", LEAVES, 56),
    "edges with a header": ("42-edge-list-header", "--train_file train.csv --taxonomy taxonomy.tsv", "13 labels 2-4-7", 56),
    "edges of ids": ("44-edge-list-id-parent-name", "--train_file train.csv --taxonomy taxonomy.tsv", LEAVES, 56),
    "another root": (
        "45-edge-list-other-root",
        "--train_file train.csv --taxonomy taxonomy.tsv --closure up",
        "13 labels 2-4-7",
        56,
    ),
    "edges in CSV": ("46-edge-list-csv", "--train_file train.csv --taxonomy taxonomy.csv", "13 labels 2-4-7", 56),
    "adjacency in JSON": (
        "62-adjacency-json",
        "--train_file train.csv --taxonomy taxonomy_strings.json --path_separator /",
        "8 labels 2-3-3",
        48,
    ),
    "fastText": ("48-fasttext-lines", "--train_file train.txt", LEAVES, 56),
    "no header": ("49-no-header", "--train_file train.csv", LEAVES, 56),
    "wrapped JSON": ("50-wrapped-json", "--train_file train.json", LEAVES, 56),
    "JSON columns": ("50-wrapped-json", "--train_file train_columns.json", LEAVES, 56),
    "gzip": ("51-packed-and-other-suffix", "--train_file train.csv.gz", LEAVES, 56),
    "tabs in .txt": ("51-packed-and-other-suffix", "--train_file train.txt", LEAVES, 56),
    "Mac line ends": ("53-mac-line-ends", "--train_file train.csv", LEAVES, 56),
    "whole numbers as levels, Parquet": (
        "66-numeric-level-columns",
        "--train_file train_missing.parquet --test_file train.parquet --label_column Y1,Y2 --closure up",
        "12 labels 3-9",
        54,
    ),
    "whole numbers as levels, CSV": (
        "66-numeric-level-columns",
        "--train_file train_missing.csv --test_file train.csv --label_column Y1,Y2 --closure up",
        "12 labels 3-9",
        54,
    ),
    "few labels used": ("70-big-taxonomy-few-used", "--train_file train.csv --taxonomy taxonomy.tsv", "132 labels 12-120", 72),
    "quotes as characters": ("74-tsv-quotes-that-close-late", "--train_file train.tsv", LEAVES, 56),
}


@pytest.mark.parametrize("case", READ)
def test_case_is_read(case, monkeypatch, tmp_path):
    folder, command, labels, documents = READ[case]
    data = data_of(CASES / folder, f"{command} --validation_fraction 0", monkeypatch)
    report = check(data)
    assert report.ok, report.to_markdown()
    found = report.hierarchy
    assert f"{found['num_labels']} labels {'-'.join(map(str, found['labels_per_level']))}" == labels
    assert report.splits["train"]["documents"] == documents
    dataset, hierarchy = data.load()
    assert len(dataset["train"]) == documents
    assert hierarchy.statistics() == found
    assert not any(mark in text for text in dataset["train"]["text"] for mark in ("__label__", "\t"))


# name -> (folder, options, what a problem or the error says)
TOLD = {
    "gaps are one problem with a count": (
        "18-level-gap",
        "--train_file train.csv --label_column Cat1,Cat2,Cat3",
        r"line 22: the path \['pets', '', 'leads'\] has a gap.*level_gaps='close'.*12 such rows",
    ),
    "empty texts": ("36-empty-texts", "--train_file train.csv", r"line 7: the text is empty \(2 such rows\).*--skip_empty_texts"),
    "unlabelled rows": ("37-unlabelled-rows", "--train_file train.csv", r"no labels \(2 such rows\).*--allow_unlabelled"),
    "no column of labels": (
        "37-unlabelled-rows",
        "--train_file train.csv --test_file test_nocolumn.csv",
        "test_nocolumn.csv has no column 'labels'.*allow_unlabelled=True",
    ),
    "integers": ("38-integer-class-ids", "--train_file train.jsonl --label_column label", "integers.*`class_names`"),
    "a label that the taxonomy lacks": (
        "41-new-label-in-test",
        "--train_file train.csv --test_file test.csv",
        "1 labels of the split 'test' never occur in training",
    ),
}


@pytest.mark.parametrize("case", TOLD)
def test_case_is_told(case, monkeypatch):
    folder, command, words = TOLD[case]
    data = data_of(CASES / folder, command, monkeypatch)
    try:
        problems = check(data).problems
    except ValueError as error:
        assert re.search(words, str(error))
        return
    assert [problem for problem in problems if re.search(words, problem.message)], problems
    assert sum(problem.severity == "error" for problem in problems) <= 1


# name -> (folder, options, what the log says)
SAID = {
    "comment line": (
        "01-product-taxonomy-comment",
        "--train_file train.csv --text_column title --label_column product_category --taxonomy taxonomy.en-US.txt",
        "1 comment line",
    ),
    "placeholders": ("17-cat123-nan-words", "--train_file train.csv --label_column Cat1,Cat2,Cat3", "Taken as missing.*'#N/A'"),
    "encoding": ("22-cp1252", "--train_file train.csv", "encoding guessed as cp1252 .*ü.*`encoding` sets another"),
    "byte order mark": (
        "23-semicolon-delimiter",
        "--train_file kategorien.csv --text_column Beschreibung --label_column Kategorie --path_separator /",
        "split by semicolon.*byte order mark, CRLF",
    ),
    "variants": ("34-label-variants", "--train_file train.csv", "'Sport/Tennis' and 'sport/tennis'"),
    "levels of two paths": (
        "40-two-paths-in-columns",
        "--train_file train.csv --label_column main_l1,main_l2,side_l1,side_l2",
        "'Sport'.*--label_column a1,a2 --label_column b1,b2",
    ),
    "last segments": (
        "47-leaf-only-labels",
        "--train_file train.csv --label_column category --taxonomy taxonomy.txt --path_separator ' > '",
        "7 labels were found in the taxonomy",
    ),
    "no header": ("49-no-header", "--train_file train.csv", "no header: column 1 is taken as the text"),
    "few labels used": (
        "70-big-taxonomy-few-used",
        "--train_file train.csv --taxonomy taxonomy.tsv --closure up",
        r"\d+ of 132 labels have no training document",
    ),
    "quotes": ("74-tsv-quotes-that-close-late", "--train_file train.tsv", "quotes taken as characters"),
}


@pytest.mark.parametrize("case", SAID)
def test_training_says_what_it_took(case, monkeypatch, caplog):
    folder, command, words = SAID[case]
    data = data_of(CASES / folder, command, monkeypatch)
    with caplog.at_level(logging.INFO):
        data.load()
    assert re.search(words, caplog.text)


def test_text_of_several_columns(monkeypatch):
    data = data_of(CASES / "16-cat123-unknown", READ["two text columns and placeholders"][1], monkeypatch)
    dataset, hierarchy = data.load()
    rows = [*dataset["train"], *dataset["validation"]]
    assert "dice set 6\nnew play dice arrived today, note 6" in [row["text"] for row in rows]
    assert not any("unknown" in name for name in hierarchy.names)


def test_entries_of_lists_in_cells(monkeypatch):
    data = data_of(CASES / "12-preprints-list-in-cell", "--train_file train.csv --text_column summaries --label_column terms "
                   "--path_separator . --validation_fraction 0", monkeypatch)  # fmt: skip
    assert sum(len(row) for row in data.load().dataset["train"]["labels"]) == 80


def test_quotes_stay_in_the_text(monkeypatch):
    data = data_of(CASES / "74-tsv-quotes-that-close-late", "--train_file train.tsv --validation_fraction 0", monkeypatch)
    texts = data.load().dataset["train"]["text"]
    assert '"Best kettle I ever had' in texts and 'screen 27"' in texts
