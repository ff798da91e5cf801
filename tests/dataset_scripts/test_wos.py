"""WOS-46985 from a twin of `Data.txt`, its labels and split against the real label columns."""

import csv

import numpy as np
import pytest
from original_twins import REAL, rows, warnings_of, written, zipped

from hf_htc.data import load_htc_dataset
from hf_htc.dataset_scripts.originals import shuffled_split, two_level_hierarchy
from hf_htc.dataset_scripts.wos import merged_areas, read_rows, splits_of_rows, zangari_area


HEADER = "Y1\tY2\tY\tDomain\tarea\tkeywords\tAbstract\n"


def data(count=60):
    """Three areas with one code, of which the rare one stands first; and one name in two domains."""
    lines = ["1\t9\t30\tECE \tElectrical generator\tkeys\tThe first abstract."]
    for i in range(1, count):
        kind = i % 4
        if kind == 0:
            lines.append(f'5\t7\t40\tMedical\t Depression\tkeys\t"Text {i}, with a ""quoted"" word"')
        elif kind == 1:
            lines.append(f"6\t1\t50\tPsychology\tDepression\tkeys\tText {i}")
        else:
            area = "Analog signal processing" if i != 6 else "Electrical generator"
            lines.append(f"1\t9\t30\tECE\t{area}\tkeys\tText {i}")
    return HEADER + "".join(line + "\n" for line in lines)


def load(folder, tmp_path, **options):
    return load_htc_dataset("wos", data_dir=str(folder), cache_dir=str(tmp_path / "cache"), **options)


def test_the_variant_of_141_labels(tmp_path, caplog):
    folder = written(tmp_path / "w", {"WebOfScience.zip": zipped({"Meta-data/Data.txt": data(), "WOS46985/X.txt": "Texts\n"})})
    dataset, hierarchy = loaded = load(folder, tmp_path)
    examples = {i: row for part in rows(dataset, hierarchy).values() for i, row in part.items()}
    assert {split: len(part) for split, part in dataset.items()} == {"train": 38, "validation": 10, "test": 12}
    assert len(examples) == 60 and loaded.label_closure == "closed"
    # Row 0 precedes the larger area with its code and keeps its own; row 6 does not.
    assert examples["0"] == ("The first abstract.", ["ECE", "Electrical generator"])
    assert examples["6"] == ("Text 6", ["Analog signal processing", "ECE"])
    assert examples["4"] == ('Text 4, with a "quoted" word', ["Medical", "Medical_Depression"])
    assert examples["5"] == ("Text 5", ["Psychology", "Psychology_Depression"])
    assert hierarchy.statistics()["labels_per_level"] == [3, 4]
    assert hierarchy.texts[hierarchy.id("Medical_Depression")] == "Depression"
    assert "wos (141): 38 train documents, 30070 in the papers." in warnings_of(caplog)
    assert "wos (141): 7 labels (3-4 by level), 141 (7-134) in the papers." in warnings_of(caplog)


def test_the_variant_of_145_labels(tmp_path, caplog):
    folder = written(tmp_path / "w", {"Data.txt": data().encode("utf-16")})
    dataset, hierarchy = load(folder, tmp_path, config_name="145")
    # `Electrical generator` has two documents, too few.
    assert set(hierarchy.names) == {
        *("ECE", "Medical", "Psychology"),
        *("ECE_Analog-signal-processing", "Medical_Depression", "Psychology_Depression"),
    }
    assert sum(len(part) for part in dataset.values()) == 58
    assert any("JSONL files of Zangari et al. are not there" in message for message in warnings_of(caplog))


def test_the_files_of_zangari(tmp_path):
    line = '{"text": "Text %d", "labels": ["Medical", "Medical_Cancer"]}\n'
    files = {"wos_train.jsonl": "".join(line % i for i in range(10)), "wos_test.jsonl": line % 10, "bugs_train.jsonl": "no JSON"}
    dataset, hierarchy = load(written(tmp_path / "z", files), tmp_path, config_name="145")
    assert {split: len(part) for split, part in dataset.items()} == {"train": 8, "validation": 2, "test": 1}
    assert hierarchy.names == ["Medical", "Medical_Cancer"] and hierarchy.texts[1] == "Cancer"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (HEADER + "1\t9\t30\tECE\tarea\tkeys\n", r"Data\.txt, line 2: 6 tab-separated fields; expected 7"),
        (HEADER + "1\t9\t30\tECE\t \tkeys\tText\n", r"Data\.txt, line 2: an empty domain, area or abstract"),
        ("a\tb\n", r"Data\.txt, line 1: the columns are \['a', 'b'\]"),
    ],
)
def test_broken_rows(tmp_path, content, match):
    with pytest.raises(ValueError, match=match):
        load(written(tmp_path / "w", {"Data.txt": content}), tmp_path)


def test_a_missing_text_file(tmp_path):
    folder = written(tmp_path / "w", {"Meta-data/Data.xlsx": b"sheet"})
    with pytest.raises(FileNotFoundError, match=r"needs `Meta-data/Data\.txt`, not found in .* save the sheet"):
        load(folder, tmp_path)


@pytest.mark.parametrize(("count", "fraction"), [(7, 0.2), (50, 0.1), (103, 0.2)])
def test_splits_are_those_of_scikit_learn(count, fraction):
    selection = pytest.importorskip("sklearn.model_selection")
    kept, held_out = selection.train_test_split(np.arange(count), test_size=fraction, random_state=0)
    ours = shuffled_split(count, fraction)
    np.testing.assert_array_equal(ours[0], kept)
    np.testing.assert_array_equal(ours[1], held_out)


def test_the_split_of_hiagm():
    selection = pytest.importorskip("sklearn.model_selection")
    order = list(range(60))
    np.random.seed(7)
    np.random.shuffle(order)
    rest, test = selection.train_test_split(np.array(order), test_size=0.2, random_state=0)
    train, validation = selection.train_test_split(rest, test_size=0.2, random_state=0)
    ours = splits_of_rows(60)
    for name, expected in (("train", train), ("validation", validation), ("test", test)):
        np.testing.assert_array_equal(ours[name], expected)
    assert [len(part) for part in splits_of_rows(46_985).values()] == [30_070, 7_518, 9_397]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real label columns are not here")
def test_labels_of_all_documents():
    import pyarrow.parquet as pq

    table = pq.read_table(REAL / "wos_labels46985" / "labels.parquet").to_pylist()
    triples = [(f"{row['y1']}-{row['y2']}", row["domain"], row["area"]) for row in table]
    merged = two_level_hierarchy(sorted(set(zip([d for _, d, _ in triples], merged_areas(triples)))))[0]
    # These columns name an area by its code, so that `Electrical generator`, the 134th, is not among them.
    assert len(triples) == 46_985 and merged.statistics()["labels_per_level"] == [7, 133]
    with open(REAL / "taxonomies" / "wos_145_zangari.tsv", encoding="utf-8", newline="") as stream:
        expected = {row[1] for row in csv.reader(stream, delimiter="\t") if row[0] != "Root"}
    with open(REAL / "wos_labels46985" / "area_counts.tsv", encoding="utf-8", newline="") as stream:
        counts = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    kept = {zangari_area(row["domain"], row["area_raw"]): int(row["count"]) for row in counts if int(row["count"]) >= 10}
    assert set(kept) == expected and len(kept) == 138 and sum(kept.values()) == 46_960


@pytest.mark.skipif(not REAL.is_dir(), reason="the sample is not here")
def test_merging_on_a_real_sample():
    """Rows of another order, so that a rare area may precede the large one with its code."""
    import pyarrow.parquet as pq

    parts = [pq.read_table(REAL / "wos_sample1k" / f"{split}.parquet").to_pylist() for split in ("train", "validation", "test")]
    sample = [row for part in parts for row in part]
    lines = [HEADER.rstrip()] + [
        "\t".join([r["y1"], r["y2"], r["y"], r["labels"][0], r["area_raw"], r["keywords"], " ".join(r["text"].split())])
        for r in sample
    ]
    read = list(read_rows(enumerate(lines, 1), "Data.txt"))
    assert len(read) == 1000 and {domain for _, domain, _, _ in read} == {r["labels"][0] for r in sample}
    merged = merged_areas([row[:3] for row in read])
    same = sum(area == row["labels"][1] for area, row in zip(merged, sample))
    assert same > 990
