"""CLINC150 from a twin of its files, and counts and taxonomy of the whole data set."""

import json

import pytest
from original_twins import REAL, rows, warnings_of, written, zipped

from hf_htc.data import load_htc_dataset
from hf_htc.dataset_scripts.clinc150 import Clinc150, domain_hierarchy
from hf_htc.models.hierarchy import LabelHierarchy


DOMAINS = {"banking": ["pay_bill", "transfer"], "travel": ["translate"]}
FULL = {
    "train": [["pay it", "pay_bill"], ["send it", "transfer"], ["in spanish", "translate"]],
    "val": [["pay that", "pay_bill"]],
    "test": [["say it", "translate"]],
    "oos_train": [["what is love", "oos"]],
    "oos_val": [["who", "oos"]],
    "oos_test": [["why", "oos"], ["how", "oos"]],
}


def load(path, tmp_path, **options):
    return load_htc_dataset("clinc150", data_dir=str(path), cache_dir=str(tmp_path / "cache"), **options)


def test_queries_with_an_intent(tmp_path, caplog):
    path = tmp_path / "oos-eval-master.zip"
    path.write_bytes(
        zipped(
            {"oos-eval-master/data/data_full.json": json.dumps(FULL), "oos-eval-master/data/domains.json": json.dumps(DOMAINS)}
        )
    )
    dataset, hierarchy = loaded = load(path, tmp_path)
    assert rows(dataset, hierarchy) == {
        "train": {
            "train-0": ("pay it", ["banking", "pay_bill"]),
            "train-1": ("send it", ["banking", "transfer"]),
            "train-2": ("in spanish", ["translate", "travel"]),
        },
        "validation": {"val-0": ("pay that", ["banking", "pay_bill"])},
        "test": {"test-0": ("say it", ["translate", "travel"])},
    }
    assert hierarchy.texts[hierarchy.id("pay_bill")] == "pay bill" and loaded.label_closure == "closed"
    assert "clinc150 (in_scope): 5 labels (2-3 by level), 160 (10-150) in the papers." in warnings_of(caplog)


def test_out_of_scope_queries(tmp_path):
    folder = written(tmp_path / "data", {"data_full.json": json.dumps(FULL), "domains.json": json.dumps(DOMAINS)})
    dataset, hierarchy = load(folder, tmp_path, config_name="with_oos")
    assert {split: len(part) for split, part in dataset.items()} == {"train": 4, "validation": 2, "test": 3}
    assert rows(dataset, hierarchy)["test"]["oos_test-1"] == ("how", ["oos"])
    assert hierarchy.levels[hierarchy.id("oos")] == 1 and not hierarchy.children[hierarchy.id("oos")]


@pytest.mark.parametrize(
    ("full", "domains", "match"),
    [
        (FULL, [], r"domains\.json: expected an object"),
        (FULL, {**DOMAINS, "work": ["transfer"]}, "the intent 'transfer' of 'work' is in 'banking' too"),
        ({**FULL, "train": [["a", "fly"]]}, DOMAINS, r"data_full\.json: row 0 of 'train' is \['a', 'fly'\]"),
        ({"train": []}, DOMAINS, r"data_full\.json: there is no list 'val'"),
    ],
)
def test_broken_files(tmp_path, full, domains, match):
    folder = written(tmp_path / "data", {"data_full.json": json.dumps(full), "domains.json": json.dumps(domains)})
    with pytest.raises(ValueError, match=match):
        load(folder, tmp_path)


def test_missing_and_cut_off_files(tmp_path):
    folder = written(tmp_path / "data", {"domains.json": json.dumps(DOMAINS)})
    with pytest.raises(FileNotFoundError, match=r"'clinc150' needs `data_full\.json`.* Download data_full\.json"):
        load(folder, tmp_path)
    with pytest.raises(ValueError, match=r"data_full\.json: not JSON"):
        load(written(folder, {"data_full.json": "{"}), tmp_path)


@pytest.mark.skipif(not (REAL / "clinc150").is_dir(), reason="the whole data set is not here")
def test_counts_and_taxonomy_of_the_whole_data_set():
    import pyarrow.parquet as pq

    folder = REAL / "clinc150"
    expected = LabelHierarchy.from_file(folder / "taxonomy.tsv")
    domains = {expected.names[i]: [expected.names[child] for child in expected.children[i]] for i in expected.top_nodes}
    hierarchy = domain_hierarchy(domains, "domains.json")
    assert sorted(hierarchy.to_edges()) == sorted(expected.to_edges())
    assert tuple(hierarchy.statistics()["labels_per_level"]) == Clinc150.VARIANTS["in_scope"].labels
    counts = {split: len(pq.read_table(folder / f"{split}.parquet")) for split in ("train", "validation", "test")}
    assert counts == Clinc150.VARIANTS["in_scope"].documents
    oos = {"train": "oos_train", "validation": "oos_val", "test": "oos_test"}
    with_oos = {split: counts[split] + len(pq.read_table(folder / f"{file}.parquet")) for split, file in oos.items()}
    assert with_oos == Clinc150.VARIANTS["with_oos"].documents
