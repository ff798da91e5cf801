"""A random data set written in any form and read back is the same."""

import csv
import gzip
import io
import json
import zipfile

import datasets
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hf_htc.data import load_htc_dataset
from hf_htc.data.cells import MARKS
from hf_htc.data.options import MISSING_VALUES
from hf_htc.data.resolving import clean_name


# Letters of several scripts, and whatever tables and lists are made of.
CHARACTERS = "abcXYZ019 äöüßéñłŻчЖ体育ا'\"`,;|\t:.!?#%&()[]{}<>=+*~^$@_-/\\\u00a0"
words = st.text(CHARACTERS, min_size=1, max_size=12).map(lambda word: word.strip()).filter(lambda word: clean_name(word) != "")
texts = st.lists(words, min_size=1, max_size=6).map(" ".join)
long_texts = st.lists(texts, min_size=1, max_size=3).map("\n".join)
BINARY = frozenset().union(*(held | other for held, other in MARKS))
# A name of a label is what it is after cleaning, and none of the words for a missing value.
names = (
    st.text("abcXYZ19 äöüéłч体育'&-", min_size=1, max_size=8)
    .map(clean_name)
    .filter(
        lambda name: name and name.lower() not in (*MISSING_VALUES, *BINARY) and not name.isdecimal() and name.strip("-") != ""
    )
)


@st.composite
def flat_rows(draw, text=texts):
    labels = draw(st.lists(names, min_size=2, max_size=6, unique_by=lambda name: name.casefold()))
    return [
        {"text": draw(text), "labels": sorted(draw(st.sets(st.sampled_from(labels), min_size=1, max_size=3)))}
        for _ in range(draw(st.integers(2, 12)))
    ]


@st.composite
def path_rows(draw):
    top = draw(st.lists(names, min_size=2, max_size=3, unique_by=lambda name: name.casefold()))
    below = draw(st.lists(names, min_size=2, max_size=4, unique_by=lambda name: name.casefold()))
    rows = []
    for _ in range(draw(st.integers(2, 12))):
        path = [draw(st.sampled_from(top)), *draw(st.lists(st.sampled_from(below), max_size=2))]
        rows.append({"text": draw(texts), "path": path})
    return rows


def table(rows, delimiter=",", header=("text", "labels"), quoting=csv.QUOTE_MINIMAL, newline="\n"):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator=newline)
    writer.writerows([header, *rows])
    return stream.getvalue()


def one_cell(rows):
    """Lists of labels as JSON in a cell."""
    return [(row["text"], json.dumps(row["labels"], ensure_ascii=False)) for row in rows]


def zipped(content, name):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
        archive.writestr("__MACOSX/._" + name, b"\0")
    return stream.getvalue()


def zstandard(content):
    return pytest.importorskip("zstandard").compress(content)


def arrow(rows):
    stream = io.BytesIO()
    records = pa.Table.from_pylist(rows)
    with pa.ipc.new_file(stream, records.schema) as writer:
        writer.write_table(records)
    return stream.getvalue()


def xlsx(rows):
    book = pytest.importorskip("openpyxl").Workbook()
    for row in [("text", "labels"), *one_cell(rows)]:
        book.active.append(row)
        for cell in book.active[book.active.max_row]:
            cell.data_type = "s"  # a text that begins with "=" is no formula
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def label_studio(rows):
    return json.dumps(
        [
            {
                "id": number,
                "data": {"text": row["text"]},
                "annotations": [{"result": [{"from_name": "topic", "type": "choices", "value": {"choices": row["labels"]}}]}],
            }
            for number, row in enumerate(rows)
        ]
    )


def one_hot(rows):
    labels = sorted({name for row in rows for name in row["labels"]})
    cells = [(row["text"], *(int(name in row["labels"]) for name in labels)) for row in rows]
    return table(cells, header=("text", *(f"label {name}" for name in labels)))


def columns(rows):
    return {"text": [row["text"] for row in rows], "labels": [row["labels"] for row in rows]}


# name -> (file name, content of rows, options)
FORMS = {
    "CSV": ("a.csv", lambda rows: table(one_cell(rows)), {}),
    "CSV, all quoted": ("a.csv", lambda rows: table(one_cell(rows), quoting=csv.QUOTE_ALL, newline="\r\n"), {}),
    "CSV of Excel": ("a.csv", lambda rows: "\ufeffsep=;\r\n" + table(one_cell(rows), ";", newline="\r\n"), {}),
    "semicolons": ("a.csv", lambda rows: table(one_cell(rows), ";"), {}),
    "columns the other way round": (
        "a.csv",
        lambda rows: table([cells[::-1] for cells in one_cell(rows)], header=("labels", "text")),
        {},
    ),
    "TSV": ("a.tsv", lambda rows: table(one_cell(rows), "\t"), {}),
    "tabs in .txt": ("a.txt", lambda rows: table(one_cell(rows), "\t"), {}),
    "pipes": ("a.psv", lambda rows: table(one_cell(rows), "|"), {}),
    "UTF-16": ("a.csv", lambda rows: table(one_cell(rows)).encode("utf-16"), {}),
    "Python lists": ("a.csv", lambda rows: table([(row["text"], repr(row["labels"])) for row in rows]), {}),
    "separated": (
        "a.csv",
        lambda rows: table([(row["text"], ";".join(row["labels"])) for row in rows]),
        {"label_separator": ";"},
    ),
    "separated, a separator at the end": (
        "a.tsv",
        lambda rows: table([(row["text"], "|".join(row["labels"]) + "|") for row in rows], "\t"),
        {"label_separator": "|"},
    ),
    "one column per label": ("a.csv", one_hot, {"label_column": "label *"}),
    "gzip": ("a.csv.gz", lambda rows: gzip.compress(table(one_cell(rows)).encode()), {}),
    "zip": ("a.zip", lambda rows: zipped(table(one_cell(rows)).encode(), "a.csv"), {}),
    "Zstandard": ("a.jsonl.zst", lambda rows: zstandard("\n".join(map(json.dumps, rows)).encode()), {}),
    "JSON lines": ("a.jsonl", lambda rows: "\n".join(json.dumps(row, ensure_ascii=False) for row in rows), {}),
    "JSON list": ("a.json", lambda rows: json.dumps(rows, indent=1), {}),
    "JSON, wrapped": ("a.json", lambda rows: json.dumps({"version": 2, "data": rows}), {}),
    "JSON, a list per column": ("a.json", lambda rows: json.dumps(columns(rows)), {}),
    "JSON of pandas, split": (
        "a.json",
        lambda rows: json.dumps({"columns": ["text", "labels"], "index": [], "data": [[r["text"], r["labels"]] for r in rows]}),
        {},
    ),
    "JSON of pandas, by row": ("a.json", lambda rows: json.dumps({str(i): row for i, row in enumerate(rows)}, indent=2), {}),
    "doccano": (
        "a.jsonl",
        lambda rows: "\n".join(json.dumps({"id": i, "text": r["text"], "label": r["labels"]}) for i, r in enumerate(rows)),
        {},
    ),
    "Label Studio": ("a.json", label_studio, {}),
    "Arrow": ("a.arrow", arrow, {}),
    "Excel": ("a.xlsx", xlsx, {}),
}


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def sets_of(loaded):
    return [sorted(loaded.hierarchy.names[i] for i in row) for row in loaded.dataset["train"]["labels"]]


def expected(rows):
    return [sorted(row["labels"]) for row in rows]


RANDOM = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)


@pytest.mark.parametrize("form", FORMS)
@RANDOM
@given(rows=flat_rows())
def test_every_form_gives_the_rows_back(form, rows, tmp_path):
    name, content, options = FORMS[form]
    assume(form != "one column per label" or len({label for row in rows for label in row["labels"]}) > 1)
    path = written(tmp_path, name, content(rows))
    loaded = load_htc_dataset(train_file=path, validation_fraction=0, path_separator="none", **options)
    prefix = "label " if form == "one column per label" else ""
    assert sets_of(loaded) == [[prefix + label for label in row] for row in expected(rows)]
    assert [text.split() for text in loaded.dataset["train"]["text"]] == [row["text"].split() for row in rows]


@RANDOM
@given(rows=flat_rows(text=long_texts))
def test_texts_of_several_lines(rows, tmp_path):
    for name, content in {"a.csv": table(one_cell(rows)), "b.tsv": table(one_cell(rows), "\t", quoting=csv.QUOTE_ALL)}.items():
        loaded = load_htc_dataset(train_file=written(tmp_path, name, content), validation_fraction=0, path_separator="none")
        assert list(loaded.dataset["train"]["text"]) == [row["text"] for row in rows]


@RANDOM
@given(rows=flat_rows())
def test_what_is_in_memory(rows, tmp_path):
    saved = tmp_path / "saved"
    made = datasets.Dataset.from_list(rows)
    made.save_to_disk(saved)
    forms = [
        {"name_or_path": made},
        {"name_or_path": datasets.DatasetDict(train=made)},
        {"name_or_path": pandas.DataFrame(columns(rows))},
        {"name_or_path": polars.DataFrame(columns(rows))},
        {"name_or_path": {"train": pandas.DataFrame(rows)}},
        {"name_or_path": saved},
        {"train_file": polars.DataFrame(columns(rows))},
        {"train_file": saved},
    ]
    for form in forms:
        loaded = load_htc_dataset(**form, validation_fraction=0, path_separator="none")
        assert sets_of(loaded) == expected(rows)
        assert list(loaded.dataset["train"]["text"]) == [row["text"] for row in rows]


def levels(rows, depth=3):
    return [(row["text"], *row["path"], *[""] * (depth - len(row["path"]))) for row in rows]


def words_for_missing(rows):
    return [tuple("N/A" if cell == "" and i > 1 else cell for i, cell in enumerate(cells)) for cells in levels(rows)]


PATH_FORMS = {
    "levels": (
        "a.csv",
        lambda rows: table(levels(rows), header=("text", "l1", "l2", "l3")),
        {"label_column": "l1,l2,l3", "path_separator": " > "},
    ),
    "levels, other words for missing": (
        "a.tsv",
        lambda rows: table(words_for_missing(rows), "\t", header=("text", "l1", "l2", "l3")),
        {"label_column": ["l1", "l2", "l3"], "path_separator": " > "},
    ),
    "lists of paths": (
        "a.jsonl",
        lambda rows: "\n".join(json.dumps({"text": row["text"], "labels": [row["path"]]}) for row in rows),
        {"path_separator": " > "},
    ),
    "paths": ("a.csv", lambda rows: table([(r["text"], " > ".join(r["path"])) for r in rows]), {"path_separator": " > "}),
    "paths with a separator around": (
        "a.csv",
        lambda rows: table([(r["text"], "> " + " > ".join(r["path"]) + " >") for r in rows], ";"),
        {"path_separator": " > "},
    ),
}


@pytest.mark.parametrize("form", PATH_FORMS)
@RANDOM
@given(rows=path_rows())
def test_every_form_of_paths_gives_the_tree(form, rows, tmp_path):
    name, content, options = PATH_FORMS[form]
    path = written(tmp_path, name, content(rows))
    loaded = load_htc_dataset(train_file=path, validation_fraction=0, closure="up", **options)
    prefixes = [[" > ".join(row["path"][:depth]) for depth in range(1, len(row["path"]) + 1)] for row in rows]
    assert sets_of(loaded) == [sorted(row) for row in prefixes]
    assert set(loaded.hierarchy.names) == {prefix for row in prefixes for prefix in row}


@RANDOM
@given(rows=flat_rows())
def test_fasttext_lines(rows, tmp_path):
    lines = [
        " ".join([*(f"__label__{label.replace(' ', '_')}" for label in row["labels"]), *row["text"].replace("\t", " ").split()])
        for row in rows
    ]
    loaded = load_htc_dataset(
        train_file=written(tmp_path, "a.txt", "\n".join(lines)), validation_fraction=0, path_separator="none"
    )
    assert sets_of(loaded) == [sorted({label.replace(" ", "_") for label in row["labels"]}) for row in rows]


@RANDOM
@given(rows=flat_rows())
def test_parquet(rows, tmp_path, cache_dir):
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    loaded = load_htc_dataset(
        train_file=tmp_path / "a.parquet", validation_fraction=0, path_separator="none", cache_dir=cache_dir
    )
    assert sets_of(loaded) == expected(rows)


# Encodings that are guessed: (encoding, texts of a language, a label)
GUESSED = {
    "cp1252 German": ("cp1252", ["Der Zug fährt über Köln", "Grüße aus München"], "Züge/Fernzüge"),
    "latin-1 Spanish": ("latin-1", ["El niño comió una manzana", "Mañana será otro día"], "Alimentación/Fruta"),
    "cp1252 French": ("cp1252", ["L’été à la plage", "Où est la bibliothèque ?"], "Société/Éducation"),
    "cp1250 Polish": ("cp1250", ["Książka o żółwiach i gęsiach", "Łódź jest piękna"], "Książki/Powieść"),
    "cp1251 Russian": ("cp1251", ["Новая книга о Москве", "Матч закончился вничью"], "Книги/Романы"),
    "koi8-r Russian": ("koi8-r", ["Новая книга о Москве", "Матч закончился вничью"], "Книги/Романы"),
    "Shift JIS": ("shift_jis", ["新しい本が届きました", "野球の試合が終わった"], "スポーツ/野球"),
    "GB 18030": ("gb18030", ["足球比赛进行中", "股票市场上涨了"], "体育/足球"),
    "Big5": ("big5", ["足球比賽進行中", "股票市場上漲了"], "體育/足球"),
    "EUC-KR": ("euc_kr", ["새로운 책이 도착했습니다", "축구 경기가 끝났다"], "스포츠/축구"),
    "Greek": ("cp1253", ["Νέο βιβλίο για την Αθήνα", "Ο αγώνας τελείωσε"], "Βιβλία/Ιστορία"),
    "Turkish": ("cp1254", ["Yeni kitap geldi, şiir ve öykü", "İstanbul'da güneş çok"], "Kitaplar/Şiir"),
    "Mac Roman": ("mac_roman", ["Der Zug fährt über Köln", "Schöne Grüße"], "Züge/Fernzüge"),
    "UTF-16 without a mark": ("utf-16-le", ["The train is late", "The book is here"], "Trains/Late"),
    "UTF-8 with a mark": ("utf-8-sig", ["Grüße", "Köln"], "Züge/Fernzüge"),
}


@pytest.mark.parametrize("case", GUESSED)
def test_encodings(case, tmp_path):
    encoding, sentences, label = GUESSED[case]
    rows = [(sentence, label) for sentence in sentences for _ in range(3)]
    path = written(tmp_path, "a.csv", table(rows).encode(encoding))
    loaded = load_htc_dataset(train_file=path, validation_fraction=0, path_separator="/")
    assert list(loaded.dataset["train"]["text"]) == [text for text, _ in rows]
    assert label in loaded.hierarchy.names
    given = load_htc_dataset(train_file=path, validation_fraction=0, path_separator="/", encoding=encoding)
    assert given.fingerprint == loaded.fingerprint
