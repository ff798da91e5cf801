"""Whatever libraries raise while reading becomes an error of ours, with file and line; nothing is read wrongly without a word."""

import gzip
import io
import json
import logging
import tarfile
import zipfile

import pandas
import pytest

from hf_htc.data import check_files, load_htc_dataset, read_documents
from hf_htc.models.errors import HTCError


GOOD = '{"text": "x", "labels": ["sport"]}'
CSV = "text,labels\n" + "".join(f"text {i},{'sport' if i % 2 else 'politics'}\n" for i in range(6))


def zip_of(**files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def deep(depth=100_000):
    return "[" * depth + "]" * depth


# name -> (file name, content, what the error says)
ERRORS = {
    "deep JSON in a line": (
        "a.jsonl",
        GOOD + '\n{"text": "x", "labels": ' + deep() + "}\n",
        r"a\.jsonl, line 2 .*nested too deeply",
    ),
    "deep JSON": ("a.json", deep(), r"a\.json .*nested too deeply"),
    "a key twice": ("a.jsonl", GOOD + '\n{"text": "x", "text": "y", "labels": ["a"]}', r"line 2 .*'text' stands twice"),
    "half a character": ("a.jsonl", GOOD + '\n{"text": "x\\ud83d", "labels": ["a"]}', r"line 2 .*half of a character"),
    "NaN as a label": ("a.jsonl", GOOD + '\n{"text": "x", "labels": NaN}', r"line 2: column 'labels' holds nan"),
    "infinity among labels": (
        "a.jsonl",
        GOOD + '\n{"text": "x", "labels": [Infinity]}',
        r"line 2: column 'labels' holds \[inf\]",
    ),
    "a huge number": ("a.jsonl", GOOD + '\n{"text": "x", "labels": ' + "9" * 5000 + "}", r"a\.jsonl, line 2 cannot be read"),
    "an object as text": ("a.jsonl", GOOD + '\n{"text": {"a": 1}, "labels": ["sport"]}', r"line 2: the text is a dict"),
    "gzip that ends early": ("a.csv.gz", gzip.compress(CSV.encode() * 2000)[:-200], r"a\.csv\.gz.*damaged"),
    "gzip with damage inside": ("a.csv.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"x" * 90, r"a\.csv\.gz.*damaged"),
    "zip of two files": ("a.zip", zip_of(a="text", b="text"), r"a\.zip: is an archive of 2 files \(a, b\)"),
    "zip with damage": ("a.zip", zip_of(a=CSV)[:-30], r"a\.zip.*damaged"),
    "a Word document": ("a.csv", zip_of(**{"word/document.xml": "x"}), r"is a Word document"),
    "Parquet that ends early": ("a.parquet", b"PAR1" + b"\0" * 100, r"'a\.parquet' cannot be read as Parquet"),
    "Arrow that ends early": ("a.arrow", b"ARROW1\0\0" + b"\0" * 100, r"'a\.arrow' cannot be read as Arrow"),
    "SQLite": ("a.db", b"SQLite format 3\0" + b"\0" * 100, r"is an SQLite data base.*Export the table"),
    "PDF": ("a.pdf", b"%PDF-1.7 x", r"is a PDF document"),
    "pickle": ("a.pkl", b"\x80\x04\x95" + b"\0" * 20, r"is a Python pickle"),
    "HTML": ("a.csv", "<!DOCTYPE html><html><body>x</body></html>", r"is HTML, which is not read as data"),
    "null bytes": ("a.csv", "text,labels\nx\0\0\0y,sport\n", r"holds null bytes"),
    "prose": (
        "a.txt",
        "It was, after all, late.\nShe said: no; he left.\nNobody, not one, came back to it, ever.\n",
        r"no table",
    ),
    "lines without columns": (
        "a.txt",
        "one text\nanother text\na third text\n",
        r"a\.txt has no column 'labels'; its columns are \['one text'\]",
    ),
    "an empty file": ("a.csv", "", r"a\.csv: is empty"),
    "columns of different lengths": (
        "a.json",
        json.dumps({"text": ["a", "b"], "labels": [["x"]]}),
        r"different lengths.*'text': 2",
    ),
    "several lists": (
        "a.json",
        json.dumps({"train": [{"text": "a"}], "test": [{"text": "b"}]}),
        r"several lists of rows \('train', 'test'\)",
    ),
    "JSON without rows": (
        "a.json",
        json.dumps({"name": "x", "of": {"a": 1}}, indent=1),
        r"the keys \['name', 'of'\], in which no rows",
    ),
    "two delimiters": ("a.dat", "a,b;c\nd,e;f\ng,h;i\n", r"could be split by comma \(2 columns\) and semicolon"),
    "a list that is none": (
        "a.csv",
        "text,labels\na,\"['x', 'y']\"\nb,\"['x', {}]\"\nc,['z']\n",
        r"line 3: the labels .* begin like a list",
    ),
    "annotations that differ": (
        "a.json",
        json.dumps(
            [
                {
                    "data": {"text": "x"},
                    "annotations": [{"result": [{"from_name": "t", "value": {"choices": [c]}}]} for c in ("a", "b")],
                }
            ]
        ),
        r"row 1 has several annotations that differ",
    ),
    "a separator in a field with quotes that close late": (
        "a.csv",
        'text,labels\n"one, two",sport\n"three,ball\nfour,ball\nfive"" six",ball\n"seven,ball\neight",sport\n',
        r"a\.csv, line",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_file(case, tmp_path):
    name, content, words = ERRORS[case]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(HTCError, match=words):
        load_htc_dataset(train_file=path, cache_dir=str(tmp_path / "cache"))


def test_a_tar_archive_is_no_table(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("a.csv")
        info.size = len(CSV)
        archive.addfile(info, io.BytesIO(CSV.encode()))
    with pytest.raises(HTCError, match="null bytes"):
        load_htc_dataset(train_file=path)


def test_the_check_shows_what_it_has_collected_when_a_later_step_fails(tmp_path):
    (tmp_path / "train.csv").write_text(CSV + "one, two, three\n")
    (tmp_path / "test.csv").write_text("title,body,labels\nx,y,sport\n")
    report = check_files(train_file=tmp_path / "train.csv", test_file=tmp_path / "test.csv")
    assert [problem.kind for problem in report.problems] == ["ragged_row", "stopped"] and not report.ok
    assert "test.csv has no column 'text'" in report.problems[1].message
    assert report.to_markdown().startswith("# Data check\n\n2 errors")


SKIPPED = {
    "unreadable": ("a.jsonl", f"{GOOD}\n{{broken\n{GOOD}\n", "skip_bad_rows", 2, "line 2"),
    "ragged": ("a.csv", CSV + "one, two, three\n", "skip_bad_rows", 6, "line 8"),
    "wrong type": ("a.jsonl", f'{GOOD}\n{{"text": 5, "labels": ["sport"]}}\n', "skip_bad_rows", 1, "line 2"),
    "wrong labels": ("a.jsonl", f'{GOOD}\n{{"text": "y", "labels": {{"a": 1}}}}\n', "skip_bad_rows", 1, "line 2"),
    "empty label": ("a.jsonl", f'{GOOD}\n{{"text": "y", "labels": ["sport", " "]}}\n', "skip_bad_rows", 1, "line 2"),
    "empty text": ("a.csv", CSV + " ,sport\n", "skip_empty_texts", 6, "line 8"),
    "not UTF-8": (
        "a.csv",
        CSV.encode() + "schön,sport\n".encode() + "schön,sport\n".encode("latin-1"),
        "skip_bad_rows",
        7,
        "line 9",
    ),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_rows_are_left_out_only_when_asked(case, tmp_path, caplog):
    name, content, option, count, place = SKIPPED[case]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(HTCError, match=place):
        load_htc_dataset(train_file=path, validation_fraction=0)
    loaded = load_htc_dataset(train_file=path, validation_fraction=0, **{option: True})
    assert len(loaded.dataset["train"]) == count
    assert f"1 row is left out as asked ({name}, {place})" in caplog.text
    assert check_files(train_file=path, **{option: True}).ok


DOCUMENTS = {
    "JSON lines": ("a.jsonl", '{"id": "p", "text": "one"}\n\n{"text": ""}\n{"text": null}\n', [("p", "one"), (1, ""), (2, "")]),
    "CSV": ("a.csv", 'id,text\n7,"one, two"\n8,\n', [("7", "one, two"), ("8", "")]),
    "TSV without quoting": ("a.tsv", 'text\tx\n"one\t1\ntwo"\t2\n', [(0, '"one'), (1, 'two"')]),
    "lines": ("a.txt", "one, two\n\nthree; four\n\n", [(0, "one, two"), (1, ""), (2, "three; four")]),
    "latin-1 lines": ("a.txt", "schöne Grüße\nKöln\n".encode("latin-1"), [(0, "schöne Grüße"), (1, "Köln")]),
    "JSON": ("a.json", '[{"text": "one"}, {"text": ["two", "words"]}]', [(0, "one"), (1, "two words")]),
    "fastText": ("a.txt", "__label__x one two\n__label__y three\n", [(0, "one two"), (1, "three")]),
    "packed": ("a.csv.gz", gzip.compress(b"text\none\n"), [(0, "one")]),
    "no header": ("a.csv", '"one, two"\n"three, four, five"\n', [(0, "one, two"), (1, "three, four, five")]),
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_documents_to_predict(case, tmp_path):
    name, content, expected = DOCUMENTS[case]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert [(document.id, document.text) for document in read_documents(path)] == expected


def test_errors_of_documents(tmp_path):
    path = tmp_path / "a.jsonl"
    for content, words in {
        '{"text": "a"}\n{"text": 5}': r"a\.jsonl, line 2: the text is a int",
        '{"text": "a"}\n{"body": "x"}': r"a\.jsonl, line 2: there is no 'text'",
        '{"title": "a", "body": "b"}': r"a\.jsonl has no column 'text'; its columns are \['title', 'body'\]",
        '{"text": "a"}\n{"text": ': r"a\.jsonl, line 2 cannot be read",
    }.items():
        path.write_text(content)
        with pytest.raises(HTCError, match=words):
            list(read_documents(path))
    path = tmp_path / "a.csv"
    path.write_text("text,x\none,1\ntwo, three,2\n")
    with pytest.raises(HTCError, match=r"a\.csv, line 3 has 3 fields"):
        list(read_documents(path))
    with pytest.raises(FileNotFoundError, match="no input file"):
        list(read_documents(tmp_path / "none.csv"))
    path.write_text("title,body,x\na,b,1\n")
    assert [document.text for document in read_documents(path, text_column="title,body")] == ["a\nb"]


def test_what_is_read_is_said_in_words_of_its_kind(tmp_path, caplog):
    (tmp_path / "a.csv").write_text("text;id\nx;1\ny;2\n")
    pandas.DataFrame({"text": ["x", "y"], "id": [1, 2]}).to_excel(tmp_path / "a.xlsx", index=False)
    with caplog.at_level(logging.INFO):
        for name in ("a.csv", "a.xlsx"):
            assert [document.text for document in read_documents(tmp_path / name)] == ["x", "y"]
    assert "a.csv: table of 2 columns split by semicolon, header text, id, UTF-8." in caplog.text
    assert "a.xlsx: Excel, table of 2 columns, header text, id." in caplog.text


def test_the_first_text_of_a_file_is_no_header(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("some longer text here\nanother longer text\na third one here\n")
    assert len(list(read_documents(path))) == 3
