"""`significance.py` and its table, on results and predictions written by hand."""

import json

import compare
import make_tables
import numpy as np
import pytest
import significance
from datasets import Dataset, DatasetDict

from hf_htc import LabelHierarchy


@pytest.fixture
def files(tmp_path):
    """A data set of 40 test documents and a result file with two methods, the second of which is always right."""
    hierarchy = LabelHierarchy.from_paths(["a/b", "a/c", "d"])  # a, a/b, a/c, d
    gold = [["a", "a/b"], ["a", "a/c"], ["d"], ["a", "a/b"]] * 10
    data = DatasetDict({split: Dataset.from_dict({"text": ["words"] * 40, "labels": gold}) for split in ("train", "test")})
    folder = tmp_path / "data"
    folder.mkdir()
    for split, rows in data.items():
        rows.to_parquet(folder / f"{split}.parquet")
    hierarchy.save(folder / "taxonomy.tsv")
    right = hierarchy.encode(gold)
    results = {}
    for method, seed, predicted in (("flat", 1, [[3]] * 40), ("flat", 2, right), ("other", 1, right), ("other", 2, right)):
        key, output = f"{method}, seed {seed}", tmp_path / "results" / "data.json"
        file = compare.prediction_file(output, key)
        file.parent.mkdir(parents=True, exist_ok=True)
        indices = np.concatenate([np.asarray(row) for row in predicted])
        np.savez_compressed(file, indptr=np.cumsum([0, *map(len, predicted)]), indices=indices)
        f1 = 1.0 if predicted is right else 0.2
        test = {"closure": "up", "micro_f1": f1, "macro_f1": f1}
        results[key] = {"seed": seed, "settings": {"learning_rate": 1e-4}, "scores": {"test": test}}
    results["svm, seed 1"] = {"seed": 1, "settings": {"max_length": 8}, "scores": {"test": test}}
    output.write_text(json.dumps(results))
    return folder, output


def test_means_deviations_and_bootstrap(files):
    folder, results = files
    significance.main([str(folder), str(results), "--resamples", "200"])
    written = json.loads((results.parent / "significance" / "data.json").read_text())
    assert set(written["methods"]) == {"flat", "other"}
    flat, other = written["methods"]["flat"], written["methods"]["other"]
    assert flat["micro_f1"]["mean"] == pytest.approx(0.6) and flat["micro_f1"]["sd"] == pytest.approx(0.32**0.5)
    assert flat["against"] == {} and other["seeds"] == [1, 2] and other["test_documents"] == 40
    against = other["against"]["flat"]["micro_f1"]
    # Always "d" on 40 documents with 70 labels: 10 hits of 40 guesses. The other run of flat is right throughout.
    assert against["second"] == pytest.approx((20 / 110 + 1) / 2) and against["interval"][0] > 0
    text = make_tables.over_seeds(written)
    assert "| other | 2 | 100.00 ± 0.00 |" in text and "| flat | 2 | 60.00 ± 56.57 |" in text and " *" in text


def test_a_baseline_with_options_is_one_of_its_own_method(files):
    folder, results = files
    runs = json.loads(results.read_text())
    for key, name in (("flat, seed 1", "hpt, BCE"), ("other, seed 1", "hpt, HBM"), ("other, seed 2", "hidec, BCE")):
        runs[f"{name}, seed 1"] = runs[key]
        compare.prediction_file(results, f"{name}, seed 1").write_bytes(compare.prediction_file(results, key).read_bytes())
    results.write_text(json.dumps(runs))
    significance.main([str(folder), str(results), "--resamples", "50", "--baselines", "flat", "hpt, BCE", "hidec, BCE"])
    written = json.loads((results.parent / "significance" / "data.json").read_text())
    assert {name: list(entry["against"]) for name, entry in written["methods"].items()} == {
        "flat": [], "other": ["flat"], "hpt, BCE": ["flat"], "hpt, HBM": ["flat", "hpt, BCE"], "hidec, BCE": ["flat"],
    }  # fmt: skip
    rows = make_tables.over_seeds(written).splitlines()
    assert rows[2].endswith("| micro-F1 over flat | macro-F1 over flat | micro-F1 over BCE | macro-F1 over BCE |")
    assert rows[7].startswith("| hpt, HBM | 1 | 100.00 |") and "-" not in rows[7].split("|")[7] and rows[8].endswith("| - | - |")
