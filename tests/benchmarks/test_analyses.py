"""The scripts of the papers' analyses: their numbers against plain loops, and one whole run of each with a tiny encoder."""

import json

import data_curve
import hbm_sweep
import label_frequency
import numpy as np
import pytest
from datasets import Dataset
from sklearn.metrics import f1_score
from tiny_models import csr, make_encoder_config, make_label_sets, make_texts, make_tokenizer, make_tree
from transformers import AutoModel


def test_parts_and_their_scores():
    counts = np.array([5, 9, 1, 9, 0, 3, 7])
    parts = label_frequency.label_parts(counts, 3)
    assert [part.tolist() for part in parts] == [[1, 3, 6], [0, 5], [2, 4]]
    assert label_frequency.part_names(5) == [">80%", "60-80%", "40-60%", "20-40%", "<20%"]
    generator = np.random.default_rng(0)
    gold, found = (
        [sorted(generator.choice(7, size=generator.integers(0, 5), replace=False).tolist()) for _ in range(30)] for _ in range(2)
    )
    hot = [np.array([[label in row for label in range(7)] for row in rows]) for rows in (gold, found)]
    expected = f1_score(*hot, average=None, zero_division=0)
    scores = label_frequency.part_scores(csr(gold), csr(found), parts, 7)
    assert scores.tolist() == pytest.approx([expected[part].mean() for part in parts])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A data set folder and a tiny encoder."""
    folder, tree = tmp_path_factory.mktemp("analyses"), make_tree()
    (folder / "data").mkdir()
    for split, size in (("train", 64), ("validation", 12), ("test", 20)):
        names = tree.decode(make_label_sets(tree, size, seed=size))
        Dataset.from_dict({"text": make_texts(size, seed=size), "labels": names}).to_parquet(folder / "data" / f"{split}.parquet")
    tree.save(folder / "data" / "taxonomy.tsv")
    AutoModel.from_config(make_encoder_config(num_hidden_layers=1)).save_pretrained(folder / "encoder")
    make_tokenizer().save_pretrained(folder / "encoder")
    return folder


def options(work, name):
    return [
        str(work / "data"), "--text_encoder", str(work / "encoder"), "--max_length", "10", "--epochs", "1",
        "--output", str(work / "results" / f"{name}.json"), "--work", str(work / "runs"),
    ]  # fmt: skip


def test_sweep_of_alpha_and_margin(work, capsys):
    arguments = [*options(work, "sweep"), "--method", "hpt", "--alphas", "0.1", "1", "--margins", "0.1", "--seeds", "1", "2"]
    hbm_sweep.main(arguments)
    results = json.loads((work / "results" / "sweep.json").read_text())
    assert len(results) == 4 and results["hpt, alpha 1, margin 0.1, seed 2"]["settings"]["hbm_alpha"] == 1.0
    mean = np.mean([results[f"hpt, alpha 1, margin 0.1, seed {seed}"]["scores"]["validation"]["micro_f1"] for seed in (1, 2)])
    printed = capsys.readouterr().out
    assert f"| alpha 1 | {100 * mean:.2f} |" in printed
    assert hbm_sweep.sweep_table(results, "hpt", [0.5], [0.1], "micro_f1").splitlines()[2] == "| alpha 0.5 | - |"


def test_curve_and_frequencies(work, capsys):
    arguments = [*options(work, "curve"), "--methods", "flat", "hpt", "--shares", "0.5", "1", "--plot", str(work / "curve.png")]
    data_curve.main(arguments)
    results = json.loads((work / "results" / "curve.json").read_text())
    assert list(results) == [f"{m}, {n} documents, seed 42" for n in (32, 64) for m in ("flat", "hpt")]
    assert results["flat, 32 documents, seed 42"]["dataset"]["documents"] == {"train": 32, "validation": 12, "test": 20}
    last = results["hpt, 64 documents, seed 42"]["scores"]["test"]
    assert f"{100 * last['macro_f1']:.2f} |" in capsys.readouterr().out
    assert 0 <= last["recall_at_5"] <= 1 and 0 <= last["ndcg_at_5"] <= 1
    assert (work / "curve.png").stat().st_size > 1000

    file = work / "results" / "curve.json"
    label_frequency.main([str(work / "data"), str(file), "--baseline", "flat, 64 documents", "--plot", str(work / "f.png")])
    content = json.loads((work / "results" / "frequency" / "curve.json").read_text())
    assert sum(content["labels"]) == 13 and len(content["macro_f1"]) == 4 and (work / "f.png").exists()
    whole = np.average(content["macro_f1"]["hpt, 64 documents"], weights=content["labels"])
    assert whole == pytest.approx(last["macro_f1"])
    with pytest.raises(SystemExit):
        label_frequency.main([str(work / "data"), str(file), "--baseline", "none"])
    assert "there is no method 'none'" in capsys.readouterr().err
