"""EURLEX57K from a twin of the original files, and its taxonomy from the real concepts."""

import csv
import json
import zipfile

import numpy as np
import pyarrow.compute as pc
import pytest
from original_twins import REAL, rows, tarred, warnings_of, written, zipped

from hf_htc.data import load_htc_dataset
from hf_htc.data.archives import text_lines
from hf_htc.dataset_scripts.eurlex57k import Eurlex57k, concept_hierarchy, read_concepts, read_microthesauri, with_ancestors


CONCEPTS = {
    "1": {"label": "trade", "alt_labels": [], "parents": []},
    "2": {"label": " tariff ", "alt_labels": ["duty"], "parents": ["1"]},
    "3": {"label": "quota", "alt_labels": [], "parents": ["2", "4"]},
    "4": {"label": "agriculture", "alt_labels": [], "parents": ["99"]},
    "5": {"label": "never used", "alt_labels": [], "parents": ["4"]},
    "6": {"label": "quota", "alt_labels": [], "parents": ["1"]},
}
MICROTHESAURI = (
    "concept_id\tlabel\tmicrothesaurus_id\tmicrothesaurus\tdomain_id\tdomain\n"
    "2\ttariff\t21\t2021 tariffs\t20\t20 TRADE\n"
    '3\tquota\t21\t2021 tariffs "and" quotas\t20\t20 TRADE\n'
    "3\tquota\t56\t5611 agricultural structures\t56\t56 AGRICULTURE\n"
)


def law(number, concepts, **changes):
    content = {
        "celex_id": f"3{number}",
        "uri": "http://a.example",
        "type": "Directive",
        "concepts": concepts,
        "title": f"Title {number}\n",
        "header": "Header",
        "recitals": ",\nWhereas",
        "main_body": ["Article one", "Article two"],
        "attachments": "ANNEX",
    }
    return json.dumps({**content, **changes})


FILES = {
    "dataset/train/31.json": law(1, ["3"]),
    "dataset/train/32.json": law(2, ["2", "6"]),
    "dataset/dev/33.json": law(3, ["4"], recitals="", main_body=[]),
    "dataset/test/34.json": law(4, ["2", "1"]),
    "__MACOSX/dataset/train/._31.json": b"\0",
}


@pytest.fixture
def folder(tmp_path):
    return written(tmp_path / "EURLEX57K", {"datasets.zip": zipped(FILES), "eurovoc_en.json": json.dumps(CONCEPTS)})


def load(folder, tmp_path, **options):
    return load_htc_dataset("eurlex57k", data_dir=str(folder), cache_dir=str(tmp_path / "cache"), **options)


def test_concepts_as_given(folder, tmp_path, caplog):
    dataset, hierarchy = loaded = load(folder, tmp_path)
    text = "Header\n,\nWhereas\nArticle one\nArticle two"
    assert rows(dataset, hierarchy) == {
        "train": {"31": (f"Title 1\n{text}", ["quota (3)"]), "32": (f"Title 2\n{text}", ["quota (6)", "tariff"])},
        "validation": {"33": ("Title 3\nHeader", ["agriculture"])},
        "test": {"34": (f"Title 4\n{text}", ["tariff", "trade"])},
    }
    assert loaded.label_closure == "as_given"
    # "never used" is no node: it has no used descendant.
    assert set(hierarchy.names) == {"trade", "tariff", "quota (3)", "quota (6)", "agriculture"} == set(hierarchy.label_names)
    assert [hierarchy.names[p] for p in hierarchy.parents[hierarchy.id("quota (3)")]] == ["tariff", "agriculture"]
    assert "eurlex57k (as_given): 2 train documents, 45000 in the papers." in warnings_of(caplog)
    assert "eurlex57k (as_given): 5 labels (2-2-1 by level), 4271 in the papers." in warnings_of(caplog)


def test_ancestors_that_no_document_has_are_structure_only(folder, tmp_path):
    written(
        folder, {"datasets.zip": zipped({**FILES, "dataset/dev/33.json": law(3, ["6"]), "dataset/test/34.json": law(4, ["2"])})}
    )
    hierarchy = load(folder, tmp_path).hierarchy
    assert set(hierarchy.label_names) == {"quota (3)", "quota (6)", "tariff"}
    assert set(hierarchy.names[3:]) == {"trade", "agriculture"}


def test_concepts_with_their_ancestors(folder, tmp_path):
    dataset, hierarchy = loaded = load(folder, tmp_path, config_name="closed")
    labels = {i: set(names) for part in rows(dataset, hierarchy).values() for i, (_, names) in part.items()}
    assert labels["31"] == {"quota (3)", "tariff", "trade", "agriculture"} and labels["32"] == {"quota (6)", "tariff", "trade"}
    assert loaded.label_closure == "closed" and hierarchy.num_labels == hierarchy.num_nodes == 5


def test_microthesauri(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'eurlex57k' needs `microthesauri\.tsv`"):
        load(folder, tmp_path, config_name="microthesauri")
    written(folder, {"microthesauri.tsv": MICROTHESAURI})
    with pytest.raises(ValueError, match="no validation document with a text and a label"):
        load(folder, tmp_path, config_name="microthesauri")
    more = {"dataset/dev/36.json": law(6, ["2"])}
    written(folder, {"datasets.zip": zipped({**FILES, **more})})
    dataset, hierarchy = loaded = load(folder, tmp_path, config_name="microthesauri")
    labels = {i: set(names) for part in rows(dataset, hierarchy).values() for i, (_, names) in part.items()}
    assert labels == {  # law 33 has no concept in a microthesaurus
        "31": {"20 TRADE", '2021 tariffs "and" quotas', "56 AGRICULTURE", "5611 agricultural structures"},
        "32": {"20 TRADE", "2021 tariffs"},
        "34": {"20 TRADE", "2021 tariffs"},
        "36": {"20 TRADE", "2021 tariffs"},
    }
    assert hierarchy.num_levels == 2 and hierarchy.is_tree and loaded.label_closure == "closed"


def test_unpacked_packed_and_shared_out_it_is_the_same(folder, tmp_path):
    unpacked = written(tmp_path / "unpacked", {**FILES, "EURLEX57K.json": json.dumps(CONCEPTS)})
    packed = tmp_path / "all.tgz"
    packed.write_bytes(tarred({**FILES, "EURLEX57K.json": json.dumps(CONCEPTS)}))
    builder = Eurlex57k(data_dir=str(folder), cache_dir=str(tmp_path / "two"))
    builder.download_and_prepare(num_proc=2)
    content = {row["id"]: row for part in builder.as_dataset().values() for row in part}
    for source in (folder, unpacked, packed):
        builder = Eurlex57k(data_dir=str(source), cache_dir=str(tmp_path / "one"))
        builder.download_and_prepare()
        assert {row["id"]: row for part in builder.as_dataset().values() for row in part} == content
    assert len(content) == 4


def test_changed_originals_are_read_again(folder, tmp_path):
    assert len(load(folder, tmp_path).dataset["train"]) == 2
    written(folder, {"datasets.zip": zipped({**FILES, "dataset/train/35.json": law(5, ["1"])})})
    assert len(load(folder, tmp_path).dataset["train"]) == 3


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"dataset/train/31.json": "{"}, r"datasets\.zip/dataset/train/31\.json: not JSON"),
        ({"dataset/train/31.json": law(1, ["77"])}, r"train/31\.json: the concept '77' is not in the concept file"),
        ({"dataset/train/31.json": "{}"}, r"train/31\.json: no law of EURLEX57K \(KeyError: 'main_body'\)"),
    ],
)
def test_broken_laws(folder, tmp_path, changes, match):
    written(folder, {"datasets.zip": zipped({**FILES, **changes})})
    with pytest.raises(ValueError, match=match):
        load(folder, tmp_path)
    with pytest.raises(ValueError, match=match):  # out of a worker, too
        Eurlex57k(data_dir=str(folder), cache_dir=str(tmp_path / "cache")).download_and_prepare(num_proc=2)


def test_what_is_missing(folder, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"made from its original files; give .* as `data_dir`\. Download datasets\.zip"):
        load_htc_dataset("eurlex57k")
    with pytest.raises(FileNotFoundError, match=r"no folder or archive 'nowhere' .* Download datasets\.zip"):
        load_htc_dataset("eurlex57k", data_dir="nowhere")
    (tmp_path / "eurlex57k").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"For the folder of this name write '\./eurlex57k'"):
        load_htc_dataset("eurlex57k")
    with pytest.raises(ValueError, match=r"no variant 'open'; `config_name` is one of \['as_given', 'closed', 'microthesauri'\]"):
        load(folder, tmp_path, config_name="open")
    with pytest.raises(ValueError, match="`revision` means nothing for the built-in 'eurlex57k'"):
        load(folder, tmp_path, revision="main")
    (folder / "eurovoc_en.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"'eurlex57k' needs the concepts \(eurovoc_en\.json\), not found in"):
        load(folder, tmp_path)
    written(folder, {"eurovoc_en.json": json.dumps(CONCEPTS), "datasets.zip": zipped({"train/31.json": law(1, ["3"])})})
    with pytest.raises(FileNotFoundError, match="needs the folder 'dev' with the validation documents"):
        load(folder, tmp_path)


def test_broken_concepts_and_microthesauri(tmp_path):
    path = tmp_path / "c.json"
    for content, match in (("[", r"c\.json: not JSON"), ('{"1": {"label": " "}}', "with a label everywhere")):
        path.write_text(content)
        with open(path, "rb") as stream, pytest.raises(ValueError, match=match):
            read_concepts(stream, "c.json")
    for content, match in (
        ("a\tb\n", "line 1: the columns are"),
        ("concept_id\tmicrothesaurus\tdomain\n1\t\tx\n", "line 2: an empty"),
    ):
        with pytest.raises(ValueError, match=rf"m\.tsv, {match}"):
            read_microthesauri(enumerate(content.splitlines(), 1), "m.tsv")


@pytest.mark.skipif(not (REAL / "eurlex57k").is_dir(), reason="the whole data set is not here")
def test_counts_and_taxonomy_of_the_real_concepts(tmp_path):
    import pyarrow.parquet as pq

    with open(REAL / "eurlex57k" / "concepts.tsv", encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    path = tmp_path / "eurovoc_en.json"
    content = {
        r["concept_id"]: {"label": r["label"], "parents": r["parent_ids"].split("|") if r["parent_ids"] else []} for r in table
    }
    path.write_text(json.dumps(content))
    with open(path, "rb") as stream:
        names, parents = read_concepts(stream, path.name)
    columns = {
        s: pq.read_table(REAL / "eurlex57k" / f"{s}.parquet", columns=["label_ids"])["label_ids"]
        for s in ("train", "validation", "test")
    }
    assert {split: len(column) for split, column in columns.items()} == Eurlex57k.VARIANTS["as_given"].documents
    used = {i.as_py() for column in columns.values() for chunk in column.chunks for i in chunk.flatten().unique()}
    hierarchy = concept_hierarchy(names, parents).restrict([names[i] for i in used])
    assert (hierarchy.num_labels, hierarchy.num_nodes, hierarchy.num_levels) == (4271, 4513, 6)
    assert len(with_ancestors(used, parents)) == Eurlex57k.VARIANTS["closed"].labels
    with open(REAL / "eurlex57k" / "microthesauri.tsv", "rb") as stream:
        groups, pairs = read_microthesauri(text_lines(stream, "microthesauri.tsv"), "microthesauri.tsv")
    assert len({d for d, _ in pairs}) == 21 and len({m for _, m in pairs}) == 127
    assert len({label for i in used for label in groups.get(i, ())}) == 148


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "eurlex57k").is_dir(), reason="the whole data set is not here")
def test_the_whole_data_set_in_the_original_form(tmp_path, caplog):
    """The real laws and concepts, packed as their owners do: the papers' counts, without a word of warning about them."""
    import pyarrow.parquet as pq

    source, folder = REAL / "eurlex57k", tmp_path / "EURLEX57K"
    folder.mkdir()
    with zipfile.ZipFile(folder / "datasets.zip", "w") as archive:
        for split, name in (("train", "train"), ("validation", "dev"), ("test", "test")):
            for batch in pq.ParquetFile(source / f"{split}.parquet").iter_batches(
                1000, columns=["id", "title", "text", "label_ids"]
            ):
                for row in batch.to_pylist():
                    content = {"celex_id": row["id"], "title": row["title"], "header": row["text"], "concepts": row["label_ids"]}
                    content |= {"recitals": "", "main_body": []}
                    archive.writestr(f"dataset/{name}/{row['id']}.json", json.dumps(content))
    with open(source / "concepts.tsv", encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    concepts = {
        r["concept_id"]: {"label": r["label"], "parents": r["parent_ids"].split("|") if r["parent_ids"] else []} for r in table
    }
    written(folder, {"eurovoc_en.json": json.dumps(concepts), "microthesauri.tsv": (source / "microthesauri.tsv").read_text()})
    dataset, hierarchy = load(folder, tmp_path)
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 45_000, "validation": 6_000, "test": 6_000}
    assert (hierarchy.num_labels, hierarchy.num_nodes, hierarchy.num_levels) == (4271, 4513, 6)
    means = {split: len(pc.list_flatten(rows.data.column("labels"))) / len(rows) for split, rows in dataset.items()}
    assert means == pytest.approx({"train": 5.07, "validation": 5.04, "test": 5.06}, abs=0.005)  # the papers print 5.00
    assert "in the papers" not in " ".join(warnings_of(caplog))
    dataset, hierarchy = load(folder, tmp_path, config_name="microthesauri")
    assert np.bincount(hierarchy.levels).tolist()[-2:] == [21, 127] and len(dataset["train"]) == 45_000
    prepared = pq.read_table(source / "test.parquet", columns=["title", "text"])
    first = prepared["title"][0].as_py().strip() + "\n" + prepared["text"][0].as_py()
    assert dataset["test"][0]["text"].split() == first.split()
