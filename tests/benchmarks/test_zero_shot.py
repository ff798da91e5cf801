"""`benchmarks/zero_shot.py`: its scores against plain loops, and one whole run."""

import json
import math

import numpy as np
import pytest
import torch
import zero_shot
from datasets import Dataset
from tiny_models import make_dag, make_encoder_config, make_label_sets, make_texts
from transformers import AutoModel


def scores_of_a_row(scores, right, candidates):
    """Recall@5 and nDCG@5 of one document among candidate labels."""
    order = sorted(candidates, key=lambda label: -scores[label])[:5]
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(5, len(right))))
    found = sum(1 / math.log2(rank + 2) for rank, label in enumerate(order) if label in right)
    return sum(label in right for label in order) / len(right), found / ideal


def test_scores_against_loops():
    generator = np.random.default_rng(0)
    counts = np.array([100, 51, 50, 1, 0, 0, 7, 60, 0, 0, 0, 0, 0, 90])
    groups = zero_shot.label_groups(counts)
    assert {name: row.tolist() for name, row in groups.items()} == {
        "overall": list(range(14)), "frequent": [0, 1, 7, 13], "few": [2, 3, 6], "zero": [4, 5, 8, 9, 10, 11, 12],
    }  # fmt: skip
    logits = generator.normal(size=(40, 14))
    gold = [sorted(generator.choice(14, size=size, replace=False).tolist()) for size in generator.integers(1, 9, size=40)]
    ranking = zero_shot.RankingScores(groups, 14)
    for start in (0, 17, 23):
        end = {0: 17, 17: 23, 23: 40}[start]
        ranking.add(logits[start:end], gold[start:end])
    found = ranking.compute()
    for name, labels in groups.items():
        rows = [(scores, set(labels) & set(right)) for scores, right in zip(logits, gold) if set(labels) & set(right)]
        within = [scores_of_a_row(scores, right, labels) for scores, right in rows]
        among_all = [scores_of_a_row(scores, right, range(14)) for scores, right in rows]
        assert found[name]["documents"] == len(rows)
        for key, values in (("", within), ("_among_all", among_all)):
            assert found[name]["recall" + key] == pytest.approx(np.mean([value[0] for value in values]), abs=6e-5)
            assert found[name]["ndcg" + key] == pytest.approx(np.mean([value[1] for value in values]), abs=6e-5)


def test_chance_is_what_random_orders_give():
    generator = np.random.default_rng(1)
    gold = [[0, 1, 2], [4], [7, 5]]
    ranking = zero_shot.RankingScores({"overall": np.arange(9)}, 9)
    for _ in range(4000):
        ranking.add(generator.normal(size=(3, 9)), gold)
    found = ranking.compute()["overall"]
    assert found["recall_by_chance"] == pytest.approx(5 / 9, abs=1e-4)
    assert found["recall"] == pytest.approx(found["recall_by_chance"], abs=0.015)
    assert found["ndcg"] == pytest.approx(found["ndcg_by_chance"], abs=0.015)


def test_an_empty_group_has_no_scores():
    ranking = zero_shot.RankingScores({"overall": np.arange(3), "zero": np.array([2])}, 3)
    ranking.add(np.zeros((1, 3)), [[0]])
    assert ranking.compute()["zero"] == {"documents": 0}
    assert "| zero | 0 | - | - | - | - | - |" in zero_shot.table(ranking.compute())


def test_a_whole_run(tmp_path, tokenizer, capsys):
    torch.manual_seed(0)
    AutoModel.from_config(make_encoder_config()).save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    hierarchy, folder = make_dag(), tmp_path / "laws"
    folder.mkdir()
    hierarchy.save(folder / "taxonomy.tsv")
    for split, seed, kept in (("train", 0, range(7)), ("validation", 1, range(8)), ("test", 2, range(8))):
        sets = [[i for i in row if i in kept] for row in make_label_sets(hierarchy, 60, seed=seed)]
        rows = [(text, names) for text, names in zip(make_texts(60, seed), hierarchy.decode(sets)) if names]
        columns = {"text": [text for text, _ in rows], "labels": [names for _, names in rows]}
        Dataset.from_dict(columns).to_parquet(str(folder / f"{split}.parquet"))
    output = tmp_path / "results" / "laws.json"
    result = zero_shot.main([
        str(folder), "--text_encoder", str(tmp_path / "encoder"), "--encoder_name", "tiny", "--train_documents", "40",
        "--epochs", "1", "--max_length", "12", "--batch_size", "16", "--method_options", '{"gamma": 0.3}',
        "--eval_documents", "30", "--output", str(output), "--work", str(tmp_path / "work"),
    ])  # fmt: skip
    stored = json.loads(output.read_text())
    assert stored["scores"] == result["scores"] and set(stored["scores"]) == {"validation", "test"}
    assert stored["labels"]["zero"] == 1 and stored["labels"]["overall"] == 8
    assert stored["scores"]["test"]["zero"]["recall"] == 1.0  # one label alone
    assert stored["settings"]["gamma"] == 0.3 and stored["settings"]["max_length"] == 12
    assert stored["dataset"]["documents"] == {"train": 40, "validation": 30, "test": 30}
    assert stored["text_encoder"] == "tiny" and str(tmp_path) not in output.read_text()
    assert "python benchmarks/zero_shot.py laws --train_documents 40" in stored["command"]
    assert "| zero |" in capsys.readouterr().out
