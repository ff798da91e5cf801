"""The map of texts and labels: which vectors go in, that groups stay apart, what is refused; the page and the command."""

import importlib.util
import json
import re

import numpy as np
import pytest
import torch
from tiny_models import VARIANTS, make_dag, make_label_sets, make_model, make_texts, make_tree

from hf_htc import METHODS, LabelHierarchy
from hf_htc.cli.main import main
from hf_htc.evaluation import embeddings
from hf_htc.evaluation.embeddings import NO_LABEL, EmbeddingMap, embedding_map, first_level, text_vectors, tsne
from hf_htc.models.text_encoders import pool


TEXTS = make_texts(14, seed=5)


@pytest.mark.parametrize("name", [*METHODS, *VARIANTS])
def test_one_vector_a_text_whatever_the_batch(name, tokenizer):
    model = make_model(name, make_tree())
    together, of_nodes = text_vectors(model, tokenizer, TEXTS, batch_size=14)
    alone, _ = text_vectors(model, tokenizer, TEXTS, batch_size=1)
    assert together.ndim == 2 and len(together) == len(TEXTS)
    assert np.allclose(together, alone, atol=1e-5) and np.ptp(together, axis=0).any()
    assert (of_nodes is not None) == name.startswith("himatch")
    assert not model.classifier._forward_pre_hooks


def test_pooled_text_vectors(tokenizer):
    model = make_model("flat", make_tree(), pooling="mean")
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = pool(model.model(**batch), batch["attention_mask"], "mean")
    assert np.allclose(text_vectors(model, tokenizer, TEXTS, 5)[0], expected, atol=1e-5)


def test_mean_of_the_tokens_of_hidec(tokenizer):
    model = make_model("hidec", make_tree())
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = pool(model.model(**batch), batch["attention_mask"], "mean")
    assert np.allclose(text_vectors(model, tokenizer, TEXTS, 5)[0], expected, atol=1e-5)


def test_joint_space_of_himatch_ranks_labels_as_the_model_does(tokenizer):
    hierarchy = make_tree()
    model = make_model("himatch, dot product", hierarchy, normalize_joint=True)
    texts, nodes = text_vectors(model, tokenizer, TEXTS)
    assert nodes.shape == (hierarchy.num_nodes, texts.shape[1])
    assert np.allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5) and np.allclose(np.linalg.norm(nodes, axis=1), 1, atol=1e-5)
    logits = np.zeros((len(TEXTS), hierarchy.num_labels))
    for rows, part in model.iter_logits(TEXTS, tokenizer):
        logits[rows] = part
    products = texts @ nodes[: hierarchy.num_labels].T
    slope, start = np.polyfit(products.ravel(), logits.ravel(), 1)
    assert slope > 0 and np.allclose(slope * products + start, logits, atol=1e-3)


def test_the_same_semantics_as_the_matching_loss(tokenizer):
    """What the classifier compares with the labels while it learns, of node states, is what the map shows."""
    model, seen = make_model("himatch", make_tree()), {}
    matching = model.classifier.matching
    matching.losses = lambda text, labels, targets: seen.update(text=text, labels=labels) or {}
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        model(**batch, labels=torch.zeros(len(TEXTS), dtype=torch.long))
    texts, nodes = text_vectors(model, tokenizer, TEXTS)
    for found, expected in ((texts, seen["text"]), (nodes, seen["labels"])):
        assert np.allclose(found, torch.nn.functional.normalize(expected, dim=-1), atol=1e-5)


def test_himatch_in_training_and_without_matching(tokenizer):
    model = make_model("himatch", make_tree(), joint_dropout=0.5)
    before = text_vectors(model, tokenizer, TEXTS)
    after = text_vectors(model.train(), tokenizer, TEXTS)
    assert all(np.array_equal(*pair) for pair in zip(before, after)) and model.training  # no dropout, and back to training
    model = make_model("himatch", make_tree(), lambda_joint=0.0, lambda_match=0.0)
    assert text_vectors(model, tokenizer, TEXTS)[1] is None


def test_separate_groups_stay_separate():
    generator = np.random.default_rng(0)
    centres = np.array([[20.0] * 6, [-20.0] * 6])
    vectors = np.concatenate([centre + generator.normal(size=(40, 6)) for centre in centres]).astype(np.float32)
    points = tsne(vectors)
    assert points.shape == (80, 2) and np.isfinite(points).all()
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(80)
    assert (distances.argmin(1) // 40 == np.arange(80) // 40).all()  # the nearest neighbour is of the own group
    means = points[:40].mean(0), points[40:].mean(0)
    spread = max(np.linalg.norm(part - mean, axis=1).max() for part, mean in zip((points[:40], points[40:]), means))
    assert np.linalg.norm(means[0] - means[1]) > 2 * spread
    assert np.array_equal(points, tsne(vectors))


def test_all_the_same_vector():
    with pytest.raises(ValueError, match="All texts have the same vector"):
        tsne(np.ones((12, 4), dtype=np.float32))


@pytest.mark.parametrize("hierarchy", [make_tree(), make_dag()], ids=["tree", "dag"])
def test_map(hierarchy, tokenizer):
    gold = make_label_sets(hierarchy, 30, seed=2)
    gold[3] = []
    texts = make_texts(30, seed=2)
    model = make_model("himatch", hierarchy)
    found = embedding_map(model, tokenizer, texts, gold, most_documents=20, most_labels=7)
    assert found.text_points.shape == (20, 2) and found.label_points.shape == (7, 2) and found.num_documents == 30
    assert len(found.text_groups) == 20 and len(found.labels) == len(found.label_groups) == 7
    tops = {hierarchy.texts[node] for node in hierarchy.top_nodes}
    assert set(found.text_groups) <= tops | {NO_LABEL} and set(found.label_groups) <= tops
    assert "20 of 30 documents" in found.caption() and "labels (diamonds: 7)" in found.caption()
    again = embedding_map(model, tokenizer, texts, gold, most_documents=20, most_labels=7)
    other = embedding_map(model, tokenizer, texts, gold, seed=1, most_documents=20, most_labels=7)
    assert np.array_equal(found.text_points, again.text_points) and found.text_groups == again.text_groups
    assert found.text_groups != other.text_groups  # other documents were drawn
    assert embedding_map(model, tokenizer, texts, gold).text_groups[3] == NO_LABEL
    flat = embedding_map(make_model("flat", hierarchy), tokenizer, texts, gold)
    assert flat.labels == [] and flat.label_points.shape == (0, 2) and "30 documents" in flat.caption()
    assert "no label vectors" in flat.caption()


def test_first_level():
    tree, dag = make_tree(), make_dag()
    names = [tree.id("sport/football/cup"), tree.id("politics")]
    assert first_level(tree, names) == "sport" and first_level(tree, names[::-1]) == "politics"
    assert first_level(dag, [dag.id("minister")]) == "politics"  # of two parents, the one with the smaller number
    assert first_level(dag, [dag.id("weather")]) == "weather" and first_level(dag, []) == NO_LABEL


def test_refused(tokenizer, monkeypatch):
    model = make_model("flat", make_tree())
    with pytest.raises(ValueError, match="at least 10 documents; there are 9"):
        embedding_map(model, tokenizer, TEXTS[:9], [[0]] * 9)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(embeddings, "find_spec", lambda name: None if name == "sklearn" else find_spec(name))
    with pytest.raises(ImportError, match=r"needs scikit-learn: pip install 'hf_htc\[baseline\]'"):
        embedding_map(model, tokenizer, TEXTS, [[0]] * 14)


class TestCommand:
    @pytest.fixture
    def work(self, tokenizer, tmp_path):
        hierarchy = LabelHierarchy.from_paths(["sport/<b>tennis", "politics/tax"])
        for name, method in (("model", "himatch"), ("flat", "flat")):
            make_model(method, hierarchy).save_pretrained(tmp_path / name)
            tokenizer.save_pretrained(tmp_path / name)
        for split, size in (("train", 12), ("test", 12), ("few", 5)):
            names = hierarchy.decode(make_label_sets(hierarchy, size, seed=size))
            rows = [{"text": text, "labels": row} for text, row in zip(make_texts(size, seed=size), names)]
            (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path

    @pytest.mark.parametrize("name, has_labels", [("model", True), ("flat", False)])
    def test_page(self, work, capsys, name, has_labels):
        files = ["--train_file", str(work / "train.jsonl"), "--test_file", str(work / "test.jsonl")]
        main(["evaluate", str(work / name), *files, "--output_dir", str(work / "out"), "--embeddings"])
        page = (work / "out" / "report_test.html").read_text()
        section = re.search(r"<h2>Embeddings</h2>.*?</section>", page, re.DOTALL)[0]
        assert 'role="img"' in section and "12 documents" in section and "by t-SNE (seed 42)" in section
        assert ("labels (diamonds: 4)" in section) == has_labels == ("no label vectors" not in section)
        assert ">sport</text>" in section and ">politics</text>" in section and "<b>" not in page
        assert "Embeddings" not in (work / "out" / "report_test.md").read_text()  # a picture only
        main(["evaluate", str(work / name), *files, "--output_dir", str(work / "plain")])
        assert "<h2>Embeddings</h2>" not in (work / "plain" / "report_test.html").read_text()

    def test_refused(self, work, capsys):
        def fails(*arguments):
            with pytest.raises(SystemExit):
                main(["evaluate", *map(str, arguments)])
            return capsys.readouterr().err

        data, output = ["--test_file", work / "few.jsonl"], ["--output_dir", work / "out"]
        assert "give `--output_dir`" in fails(work / "flat", *data, "--embeddings")
        assert "at least 10 documents; there are 5" in fails(work / "flat", *data, *output, "--embeddings")
        assert not (work / "out").exists()
        (work / "predictions.jsonl").write_text("{}\n")
        error = fails(work / "predictions.jsonl", *data, *output, "--embeddings")
        assert "is a file, not a checkpoint folder" in error and "hf-htc compare" in error
        (work / "onnx").mkdir()
        for file in ("model.onnx", "export.json", "config.json"):
            (work / "onnx" / file).write_text((work / "flat" / "config.json").read_text())
        assert "is an ONNX export, which only predicts" in fails(work / "onnx", *data, *output, "--embeddings")


def test_caption_counts():
    points = np.zeros((1500, 2))
    assert "1,500 of 6,000 documents" in EmbeddingMap(points, points[:0], ["a"] * 1500, [], [], 6000, 42).caption()
