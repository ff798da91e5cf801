"""The New York Times Annotated Corpus from twins of its archives and of the papers' lists."""

import pytest
from original_twins import REAL, rows, tarred, warnings_of, written

from hf_htc.data import load_htc_dataset
from hf_htc.dataset_scripts.nyt import Nyt, read_article, read_label_paths


TAXONOMY = (
    "Root\tTop/News\tTop/Features\nTop/News\tTop/News/Sports\nTop/News/Sports\tTop/News/Sports/Golf\n"
    "Top/Features\tTop/Features/Sports\n"
)


def article(number, paths):
    classifiers = "".join(
        f'<classifier class="online_producer" type="taxonomic_classifier">{path}</classifier>\n' for path in paths
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE nitf SYSTEM "http://www.nitf.org/IPTC/NITF/3.3/specification/dtd/nitf-3-3.dtd">\n'
        f"<nitf><head><title>Title</title><docdata><identified-content>\n{classifiers}"
        '<classifier class="online_producer" type="types_of_material">Top/News/Sports/Golf</classifier>\n'
        "</identified-content></docdata></head><body><body.content>\n"
        f'<block class="lead_paragraph"><p>Lead {number}</p></block>\n'
        f'<block class="full_text"><p>Lead {number}</p>\n<p>More &mdash; <em>and</em>\nmore</p></block>'
        "</body.content></body></nitf>"
    )


FILES = {
    "data/1987/01.tgz": tarred(
        {
            "01/01/0000001.xml": article(1, ["Top/News/Sports/Golf/Masters", "Top/Opinion/Opinion/Letters"]),
            "01/02/0000002.xml": article(2, ["Top/Features", "Top/Features/Sports"]),
            "01/02/0000005.xml": article(5, ["Top/News/Sports"]),
        }
    ),
    "data/1988/12.tgz": tarred(
        {
            "12/31/0000003.xml": article(3, ["Top/News/Sports", "Top/News/Sports/Golf"]),
            "12/31/0000004.xml": article(4, ["Top/News"]),
            "12/31/0000006.xml": article(6, ["Top/News/Sports"]),
        }
    ),
    "idnewnyt_train.json": "Nytimes/1987/0000001.xml\nNytimes/1987/0000002.xml\n",
    "idnewnyt_val.json": "Nytimes/1988/0000003.xml\nNytimes/1988/0000004.xml\n",
    "idnewnyt_test.json": "Nytimes/1988/0000006.xml\n",
    "nyt.taxonomy": TAXONOMY,
}


def load(folder, tmp_path):
    return load_htc_dataset("nyt", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))


def test_articles_labels_and_splits(tmp_path, caplog):
    dataset, hierarchy = loaded = load(written(tmp_path / "nyt", FILES), tmp_path)
    golf = ["Top/News", "Top/News/Sports", "Top/News/Sports/Golf"]
    assert (
        rows(dataset, hierarchy)
        == {  # 4 has a classifier of two parts only, 5 is not listed
            "train": {
                "0000001": ("Lead 1 More — and more", golf),
                "0000002": ("Lead 2 More — and more", ["Top/Features", "Top/Features/Sports"]),
            },
            "validation": {"0000003": ("Lead 3 More — and more", golf)},
            "test": {"0000006": ("Lead 6 More — and more", golf[:2])},
        }
    )
    assert loaded.label_closure == "closed" and hierarchy.statistics()["labels_per_level"] == [2, 2, 1]
    assert hierarchy.texts[hierarchy.id("Top/Features/Sports")] == hierarchy.texts[hierarchy.id("Top/News/Sports")] == "Sports"
    assert "nyt (default): 1 validation documents, 5834 in the papers." in warnings_of(caplog)
    assert "nyt (default): 5 labels (2-2-1 by level), 166 (4-27-51-47-17-12-6-2) in the papers." in warnings_of(caplog)


def test_two_processes_and_the_other_file_of_labels(tmp_path):
    files = dict(FILES)
    del files["nyt.taxonomy"]
    files["nyt_label.vocab"] = "Top/News\nTop/News/Sports\nTop/News/Sports/Golf\nTop/Features\nTop/Features/Sports\n"
    builder = Nyt(data_dir=str(written(tmp_path / "nyt", files)), cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare(num_proc=2)
    assert {split: sorted(part["id"]) for split, part in builder.as_dataset().items()} == {
        "train": ["0000001", "0000002"],
        "validation": ["0000003"],
        "test": ["0000006"],
    }


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"idnewnyt_val.json": "Nytimes/1988/3\n"}, r"idnewnyt_val\.json, line 1: expected `Nytimes/<year>/<number>\.xml`"),
        ({"nyt.taxonomy": "Root\tNews\n"}, r"nyt\.taxonomy, line 1: the label 'News' does not begin with 'Top/'"),
        ({"nyt.taxonomy": "Root\tTop/News/Sports\n"}, r"'Top/News/Sports' is listed without its parent 'Top/News'"),
        ({"data/1987/01.tgz": tarred({"01/01/0000001.xml": "<nitf>"})}, r"01\.tgz/01/01/0000001\.xml, line 1: not well-formed"),
    ],
)
def test_broken_files(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        load(written(tmp_path / "nyt", FILES | changes), tmp_path)


@pytest.mark.parametrize("name", ["idnewnyt_test.json", "nyt.taxonomy"])
def test_missing_files(tmp_path, name):
    files = {file: content for file, content in FILES.items() if file != name}
    with pytest.raises(FileNotFoundError, match=r"'nyt' needs .*, not found in .* The corpus is licensed: LDC2008T19"):
        load(written(tmp_path / "nyt", files), tmp_path)


def test_an_article_without_a_second_paragraph():
    assert read_article(b"<nitf><p>Only</p></nitf>", "a.xml", {"Top/News"}) == ("", [])


@pytest.mark.skipif(not (REAL / "taxonomies" / "nyt.tsv").is_file(), reason="the real taxonomy is not here")
def test_the_real_taxonomy():
    with open(REAL / "taxonomies" / "nyt.tsv", encoding="utf-8") as stream:
        hierarchy = read_label_paths(enumerate(stream, 1), "nyt.taxonomy")
    assert tuple(hierarchy.statistics()["labels_per_level"]) == Nyt.VARIANTS["default"].labels
