"""20 Newsgroups from a twin of its archive, and its labels against the whole collection."""

import pytest
from original_twins import REAL, rows, tarred, warnings_of, written

from hf_htc.data import load_htc_dataset
from hf_htc.dataset_scripts.newsgroups20 import Newsgroups20, group_labels
from hf_htc.models.hierarchy import LabelHierarchy


FILES = {
    "20news-bydate-train/comp.sys.mac.hardware/1": "Subject: mac\n\nText\n",
    "20news-bydate-train/comp.sys.ibm.pc.hardware/1": b"Subject: caf\xe9\n",
    "20news-bydate-train/comp.os.ms-windows.misc/9": "Subject: café\n",
    "20news-bydate-train/alt.atheism/2": "Subject: a\n",
    "20news-bydate-test/alt.atheism/3": "Subject: b\n",
    "20news-bydate-test/alt.atheism/4": " \n",
}


def load(path, tmp_path, **options):
    return load_htc_dataset("newsgroups20", data_dir=str(path), cache_dir=str(tmp_path / "cache"), **options)


def test_packed_and_unpacked(tmp_path, caplog):
    path = tmp_path / "20news-bydate.tar.gz"
    path.write_bytes(tarred(FILES))
    dataset, hierarchy = loaded = load(path, tmp_path, validation_fraction=0)
    examples = rows(dataset, hierarchy)
    assert examples == {
        "train": {
            "comp.sys.mac.hardware/1": ("Subject: mac\n\nText\n", ["comp", "comp.sys", "comp.sys.mac.hardware"]),
            "comp.sys.ibm.pc.hardware/1": ("Subject: café\n", ["comp", "comp.sys", "comp.sys.ibm.pc.hardware"]),
            "comp.os.ms-windows.misc/9": ("Subject: café\n", ["comp", "comp.os.ms-windows.misc"]),
            "alt.atheism/2": ("Subject: a\n", ["alt", "alt.atheism"]),
        },
        "test": {"alt.atheism/3": ("Subject: b\n", ["alt", "alt.atheism"])},
    }
    assert hierarchy.texts[hierarchy.id("comp.sys.mac.hardware")] == "mac.hardware" and loaded.label_closure == "closed"
    assert "newsgroups20 (bydate): 4 train documents, 11314 in the papers." in warnings_of(caplog)
    assert rows(*load(written(tmp_path / "folder", FILES), tmp_path, validation_fraction=0)) == examples
    builder = Newsgroups20(data_dir=str(tmp_path / "folder"), cache_dir=str(tmp_path / "two"))
    builder.download_and_prepare(num_proc=2)
    assert sorted(builder.as_dataset(split="train")["id"]) == sorted(examples["train"])


def test_half_of_the_collection(tmp_path):
    folder = written(tmp_path / "f", {name: text for name, text in FILES.items() if "train" in name})
    with pytest.raises(FileNotFoundError, match=r"needs the folder `20news-bydate-test`.* Download 20news-bydate\.tar\.gz"):
        load(folder, tmp_path)


@pytest.mark.skipif(not (REAL / "newsgroups20").is_dir(), reason="the whole collection is not here")
def test_labels_and_counts_of_the_whole_collection():
    import pyarrow.parquet as pq

    tables = {s: pq.read_table(REAL / "newsgroups20" / f"{s}.parquet", columns=["id", "labels"]) for s in ("train", "test")}
    assert {split: len(table) for split, table in tables.items()} == Newsgroups20.VARIANTS["bydate"].documents
    examples = [row for table in tables.values() for row in table.to_pylist()]
    labels = group_labels(row["id"].split("/")[0] for row in examples)
    assert all(set(row["labels"]) == set(labels[row["id"].split("/")[0]]) for row in examples)
    hierarchy = LabelHierarchy.from_file(REAL / "newsgroups20" / "taxonomy.tsv")
    assert set(hierarchy.names) == {name for path in labels.values() for name in path}
    assert tuple(hierarchy.statistics()["labels_per_level"]) == Newsgroups20.VARIANTS["bydate"].labels
