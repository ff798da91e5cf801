"""The blurb genre collection from a twin of its archive."""

import pytest
from original_twins import REAL, rows, warnings_of, written, zipped

from hf_htc.data import load_htc_dataset
from hf_htc.dataset_scripts.bgc import Bgc, read_books, read_hierarchy


HIERARCHY = "Fiction\tFantasy\nFiction\tMystery & Suspense\nFantasy\tEpic Fantasy\nNonfiction\tCooking\nPoetry\nHumor\n"


def book(number, genres, body=None):
    topics = "".join(f"<d{depth}>{genre}</d{depth}>" for depth, genre in genres)
    return (
        f'<book date="2018-08-18" xml:lang="en"> \n<title>Title {number}</title>\n<body>{body or f"Blurb {number}"}</body>\n'
        f"<copyright>(c)</copyright>\n<metadata>\n<topics>\n{topics}\n</topics>\n<author>An Author</author>\n"
        f"<isbn>978{number}</isbn>\n</metadata>\n</book>\n"
    )


FILES = {
    "BlurbGenreCollection_EN_train.txt": book(1, [(0, "Fiction"), (1, "Fantasy"), (2, "Epic Fantasy"), (1, "Mystery & Suspense")])
    + book(2, [(0, "Poetry")], body="Tea & milk &amp; <em>sugar</em>,\nin two lines"),
    "BlurbGenreCollection_EN_dev.txt": book(3, [(0, "Fiction"), (1, "Mystery &amp; Suspense")]),
    "BlurbGenreCollection_EN_test.txt": book(4, [(0, "Fiction")]) + book(4, [(0, "Fiction")]),
    "hierarchy.txt": HIERARCHY,
    "README.txt": "CC BY-NC 4.0",
    "__MACOSX/._BlurbGenreCollection_EN_train.txt": b"\0",
}


def load(path, tmp_path):
    return load_htc_dataset("bgc", data_dir=str(path), cache_dir=str(tmp_path / "cache"))


def test_the_archive(tmp_path, caplog):
    path = tmp_path / "blurbgenrecollectionen.zip"
    path.write_bytes(zipped(FILES))
    dataset, hierarchy = loaded = load(path, tmp_path)
    examples = rows(dataset, hierarchy)
    assert list(examples["train"].values()) == [
        ("Blurb 1", ["Epic Fantasy", "Fantasy", "Fiction", "Mystery & Suspense"]),
        ("Tea & milk & <em>sugar</em>,\nin two lines", ["Poetry"]),
    ]
    assert list(examples["validation"].values()) == [("Blurb 3", ["Fiction", "Mystery & Suspense"])]
    assert len(examples["test"]) == 2  # one book twice, under two ids
    assert hierarchy.statistics()["labels_per_level"] == [2, 2, 1] and loaded.label_closure == "closed"
    assert {"Humor", "Cooking", "Nonfiction"}.isdisjoint(hierarchy.names)  # no book has them
    assert "bgc (default): 5 labels (2-2-1 by level), 146 (7-46-77-16) in the papers." in warnings_of(caplog)
    assert (
        load(written(tmp_path / "folder", {f"EN/{name}": content for name, content in FILES.items()}), tmp_path)[1] == hierarchy
    )


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (
            book(1, [(0, "Fiction")]).replace("</book>", ""),
            r"a\.txt, line 1: this book has no end \(</book>\); the file is cut off",
        ),
        (
            book(1, [(0, "Fiction")]).replace("</book>", "") + book(2, []),
            r"a\.txt, line 13: the book that begins in line 1 has no end",
        ),
        (book(1, [(0, "Fiction")]) + book(2, []), r"a\.txt, line 13: this book has no genres"),
        (book(1, [(0, "Fiction")]).replace("body>", "text>"), r"a\.txt, line 1: this book has no <body>"),
    ],
)
def test_broken_books(content, match):
    with pytest.raises(ValueError, match=match):
        list(read_books(enumerate(content.split("\n"), 1), "a.txt"))


def test_books_on_one_line():
    content = book(1, [(0, "Fiction")]).replace("\n", " ") + book(2, [(0, "Poetry")]).replace("\n", " ")
    assert [(isbn, genres) for _, isbn, _, genres in read_books([(1, content)], "a.txt")] == [
        ("9781", ["Fiction"]),
        ("9782", ["Poetry"]),
    ]


def test_what_is_missing(tmp_path):
    files = dict(FILES)
    del files["BlurbGenreCollection_EN_dev.txt"]
    with pytest.raises(
        FileNotFoundError, match=r"needs one file BlurbGenreCollection_EN_dev\.txt \(there are 0\).* Download blurb"
    ):
        load(written(tmp_path / "a", files), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"needs `hierarchy\.txt`"):
        load(written(tmp_path / "b", {"a.txt": ""}), tmp_path)


@pytest.mark.skipif(not (REAL / "taxonomies").is_dir(), reason="the real hierarchy is not here")
def test_the_real_hierarchy():
    lines = [
        line.removeprefix("Root\t")
        for line in (REAL / "taxonomies" / "bgc_original.tsv").read_text(encoding="utf-8").splitlines()
    ]
    hierarchy = read_hierarchy(enumerate(lines, 1), "hierarchy.txt")
    assert hierarchy.statistics()["labels_per_level"] == [7, 52, 77, 16]
    used = {line.split("\t")[1] for line in (REAL / "taxonomies" / "bgc_hjcl.tsv").read_text(encoding="utf-8").splitlines()}
    assert tuple(hierarchy.restrict(used).statistics()["labels_per_level"]) == Bgc.VARIANTS["default"].labels
