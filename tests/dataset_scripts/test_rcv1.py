"""RCV1-v2 from twins of the news items and of the appendices."""

import gzip

import pytest
from original_twins import REAL, rows, tarred, warnings_of, written, zipped

from hf_htc.data import load_htc_dataset
from hf_htc.dataset_scripts.rcv1 import Rcv1, read_item, read_topic_hierarchy, read_training_ids


HIERARCHY = """parent: None     child: Root    child-description: Root
parent: Root     child: CCAT    child-description: CORPORATE/INDUSTRIAL
parent: Root     child: GCAT    child-description: GOVERNMENT/SOCIAL
parent: CCAT     child: C15     child-description: PERFORMANCE
parent: C15      child: C151    child-description: ACCOUNTS/EARNINGS
"""


def item(number, paragraphs=("First paragraph.", " Second\n  paragraph &amp; end. ")):
    body = "".join(f"<p>{p}</p>\n" for p in paragraphs)
    return (
        f'<?xml version="1.0" encoding="iso-8859-1" ?>\n<newsitem itemid="{number}" id="root" xml:lang="en">\n'
        f"<title>MEXICO: Title {number} caf\xe9.</title>\n<headline>Title {number}.</headline>\n<dateline>MEXICO</dateline>\n"
        f'<text>\n{body}</text>\n<copyright>(c) Reuters Limited 1996</copyright>\n<metadata>\n<codes class="bip:topics:1.0">\n'
        f'<code code="C151"></code>\n</codes>\n</metadata>\n</newsitem>\n'
    ).encode("iso-8859-1")


TRAINING, TEST = range(2286, 2306), (26151, 26152, 26153)
QRELS = "".join(f"CCAT {n} 1\nC15 {n} 1\nC151 {n} 1\n" for n in TRAINING) + "".join(f"GCAT {n} 1\n" for n in TEST)
FILES = {
    "CD1/19960820.zip": zipped({f"{n}newsML.xml": item(n) for n in [*TRAINING, 9999]}),  # 9999 is not in RCV1-v2
    "CD2/19970101.zip": zipped({f"{n}newsML.xml": item(n) for n in TEST[:2]} | {"26153newsML.xml": item(26153, ())}),
    "CD1/codes.zip": zipped({"topic_codes.txt": "; topics"}),
    "rcv1-v2.topics.qrels.gz": gzip.compress(QRELS.encode()),
    "rcv1.topics.hier.orig": HIERARCHY,
}


def load(folder, tmp_path, **options):
    return load_htc_dataset("rcv1", data_dir=str(folder), cache_dir=str(tmp_path / "cache"), **options)


def test_paragraphs_and_splits(tmp_path, caplog):
    folder = written(tmp_path / "rcv1", FILES)
    dataset, hierarchy = loaded = load(folder, tmp_path)
    examples = rows(dataset, hierarchy)
    assert {split: len(part) for split, part in dataset.items()} == {"train": 18, "validation": 2, "test": 2}
    assert set(examples["train"]) | set(examples["validation"]) == {str(n) for n in TRAINING}
    assert examples["test"]["26151"] == ("First paragraph. Second paragraph & end.", ["GCAT"])  # 26153 has no text
    assert next(iter(examples["train"].values()))[1] == ["C15", "C151", "CCAT"] and loaded.label_closure == "closed"
    assert hierarchy.texts[hierarchy.id("C151")] == "ACCOUNTS/EARNINGS" and hierarchy.num_levels == 3
    assert "rcv1 (paragraphs): 2 test documents, 781265 in the papers." in warnings_of(caplog)


def test_validation_is_that_of_the_papers_scripts(tmp_path):
    selection = pytest.importorskip("sklearn.model_selection")
    _, expected = selection.train_test_split(list(TRAINING), test_size=0.1, random_state=0)
    examples = rows(*load(written(tmp_path / "rcv1", FILES), tmp_path))
    assert set(examples["validation"]) == {str(n) for n in expected}


def test_titles(tmp_path):
    examples = rows(*load(written(tmp_path / "rcv1", FILES), tmp_path, config_name="title"))
    assert examples["test"]["26152"][0] == "MEXICO: Title 26152 café. First paragraph. Second paragraph & end."


@pytest.mark.parametrize(
    "training",
    [
        {"lyrl2004_tokens_train.dat": ".I 2286\n.W\nrecov recov\n\n.I 26151\n.W\nexcit\n"},
        {"lyrl2004_vectors_train.dat.gz": gzip.compress(b"2286  864:0.05 9:0.1\n26151  1:0.5\n")},
    ],
)
def test_training_documents_by_their_file(tmp_path, training):
    dataset, hierarchy = load(written(tmp_path / "rcv1", FILES | training), tmp_path)
    examples = rows(dataset, hierarchy)
    assert set(examples["train"]) | set(examples["validation"]) == {"2286", "26151"} and "26152" in examples["test"]


def test_one_archive_of_all_and_two_processes(tmp_path):
    expected = rows(*load(written(tmp_path / "rcv1", FILES), tmp_path))
    path = tmp_path / "rcv1.tgz"
    path.write_bytes(tarred({f"rcv1/{name}": content for name, content in FILES.items()}))
    assert rows(*load(path, tmp_path)) == expected
    builder = Rcv1(data_dir=str(tmp_path / "rcv1"), cache_dir=str(tmp_path / "two"))
    builder.download_and_prepare(num_proc=2)
    assert {split: {row["id"] for row in part} for split, part in builder.as_dataset().items()} == {
        split: set(part) for split, part in expected.items()
    }
    assert builder.taxonomy().names == ["CCAT", "GCAT", "C15", "C151"]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rcv1.topics.hier.orig": "CCAT\tC15\n"}, r"rcv1\.topics\.hier\.orig, line 1: expected `parent: \.\.\. child"),
        ({"rcv1-v2.topics.qrels.gz": gzip.compress(b"CCAT 2286 1\nCCAT x\n")}, r"qrels, line 2: expected `topic document 1`"),
        ({"lyrl2004_tokens_train.dat": "nothing\n"}, r"tokens_train\.dat: no document numbers as in"),
        ({"CD1/19960820.zip": zipped({"2286newsML.xml": b"<newsitem>"})}, r"zip/2286newsML\.xml, line 1: not well-formed XML"),
        ({"CD1/19960820.zip": zipped({"2286newsML.xml": b"<x/>"})}, r"2286newsML\.xml: the root element is <x>"),
    ],
)
def test_broken_files(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        load(written(tmp_path / "rcv1", FILES | changes), tmp_path)


@pytest.mark.parametrize("name", ["rcv1-v2.topics.qrels", "rcv1.topics.hier.orig"])
def test_missing_files(tmp_path, name):
    files = {file: content for file, content in FILES.items() if not file.startswith(name)}
    with pytest.raises(FileNotFoundError, match=rf"'rcv1' needs `{name}`, not found in .* The texts are licensed: ask for RCV1"):
        load(written(tmp_path / "rcv1", files), tmp_path)


def test_missing_news_items(tmp_path):
    files = {file: content for file, content in FILES.items() if not file.startswith("CD")}
    with pytest.raises(FileNotFoundError, match="needs the news items .* The texts are licensed"):
        load(written(tmp_path / "rcv1", files), tmp_path)


def test_small_parts():
    assert read_training_ids(enumerate([".I 9", ".W", "12 monkeys", ".I 7"], 1), "t.dat") == [7, 9]
    assert read_item(item(1, ("  ", "")), "1.xml", True) == ""


@pytest.mark.skipif(not (REAL / "taxonomies" / "rcv1.tsv").is_file(), reason="the real hierarchy is not here")
def test_the_real_hierarchy():
    edges = [line.split("\t") for line in (REAL / "taxonomies" / "rcv1.tsv").read_text(encoding="utf-8").splitlines()]
    lines = [f"parent: {parent}  child: {child}  child-description: {child}" for parent, child in edges]
    hierarchy = read_topic_hierarchy(enumerate(lines, 1), "rcv1.topics.hier.orig")
    assert tuple(hierarchy.statistics()["labels_per_level"]) == Rcv1.VARIANTS["paragraphs"].labels
