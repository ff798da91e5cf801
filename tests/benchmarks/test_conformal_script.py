"""benchmarks/conformal.py: what it covers on made-up scores, and one whole run with a tiny checkpoint."""

import json

import conformal
import make_tables
import numpy as np
import pytest
from datasets import Dataset
from tiny_models import csr, make_dag, make_encoder_config, make_label_sets, make_model, make_texts, make_tokenizer, make_tree


def test_rows_of_a_csr_pair():
    rows = [[3], [], [0, 2], [1], []]
    indptr, indices = conformal.rows_of(csr(rows), np.array([2, 4, 0, 2]))
    assert indptr.tolist() == [0, 2, 2, 3, 5] and indices.tolist() == [0, 2, 3, 0, 2]


@pytest.mark.parametrize("kind", ["back_off", "risk"])
def test_what_is_promised_is_covered(kind):
    tree, generator = make_tree(), np.random.default_rng(0)
    leaves = [label for label in range(tree.num_labels) if not tree.children[label]]
    sets = tree.close([[leaf] for leaf in generator.choice(leaves, 600)])
    hot = np.array([[label in row for label in range(tree.num_labels)] for row in sets])
    logits = generator.normal(size=hot.shape) + 0.8 * hot - 1.0  # the best leaf is right for less than 70 %
    low, high = (conformal.over_resplits(logits, csr(sets), tree, kind, coverage, 300, 0) for coverage in (0.7, 0.9))
    assert low["documents"] == [300, 300]
    for promised, row in ((0.7, low), (0.9, high)):
        assert promised - 0.005 <= row["mean_coverage"] <= promised + 0.03
        assert row["lowest_coverage"] < row["mean_coverage"] < row["highest_coverage"]
    assert low["mean_size"] < high["mean_size"]
    assert conformal.over_resplits(logits, csr(sets), tree, kind, 0.7, 300, 0) == low
    assert conformal.over_resplits(logits, csr(sets), tree, kind, 0.7, 300, 1) != low


@pytest.mark.parametrize(("kind", "make"), [("back_off", make_tree), ("risk", make_dag)])
def test_a_whole_run(kind, make, tmp_path, capsys):
    hierarchy, tokenizer = make(), make_tokenizer()
    tree_leaves = [label for label in range(hierarchy.num_labels) if not hierarchy.children[label]]
    for split, size in (("train", 8), ("validation", 6), ("test", 40)):
        sets = make_label_sets(hierarchy, size) if kind == "risk" else [[leaf] for leaf in (tree_leaves * size)[:size]]
        names = hierarchy.decode(hierarchy.close(sets))
        Dataset.from_dict({"text": make_texts(size), "labels": names}).to_parquet(tmp_path / f"{split}.parquet")
    hierarchy.save(tmp_path / "taxonomy.tsv")
    make_model("flat", hierarchy, make_encoder_config()).save_pretrained(tmp_path / "checkpoint")
    tokenizer.save_pretrained(tmp_path / "checkpoint")
    file = tmp_path / "results" / "conformal" / "data.json"
    result = conformal.main(
        [str(tmp_path / "checkpoint"), str(tmp_path), "--coverage", "0.5", "0.8", "--resplits", "5", "--output", str(file),
         "--encoder_name", "tiny", "--training", "hf-htc train"]
    )  # fmt: skip
    assert result == json.loads(file.read_text())
    assert result["settings"] == {"kind": kind, "resplits": 5, "split": "test", "method": "htc_flat"}
    assert list(result["scores"]) == ["0.5", "0.8"] and result["scores"]["0.8"]["documents"] == [20, 20]
    assert str(tmp_path) not in result["command"] and "--resplits 5" in result["command"]
    assert f"{kind}, promised 0.8: covered" in capsys.readouterr().out
    text = make_tables.conformal({"data": result})
    assert f"| 0.8 | {result['scores']['0.8']['mean_coverage']:.4f} (" in text and "hf-htc train" in text
