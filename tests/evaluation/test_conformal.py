"""Conformal sets: the guarantee over many resplits, plain loops, and the command, which never sees test labels."""

import itertools
import json
import math

import numpy as np
import pytest
from tiny_models import make_dag, make_label_sets, make_model, make_texts, make_tree
from transformers import AutoModelForSequenceClassification

from hf_htc import HTCConfig
from hf_htc.cli.main import main
from hf_htc.evaluation.conformal import calibrate, coverage_of, fitting_kind, needed_sureness, path_ends
from hf_htc.models.label_sets import as_csr
from hf_htc.models.prediction_conformal import SURE, ConformalSets, LabelTree


def single_paths(rows, seed):
    """Documents with one path each, some of which end above the leaves, and logits that know something of them."""
    tree, generator = make_tree(), np.random.default_rng(seed)
    ends = generator.integers(0, tree.num_labels, size=rows)
    gold = tree.close([[int(end)] for end in ends])
    hot = np.array([[label in row for label in range(tree.num_labels)] for row in gold])
    return tree, gold, generator.normal(size=hot.shape) + 2.0 * hot - 1


def many_labels(rows, seed):
    dag, generator = make_dag(), np.random.default_rng(seed)
    gold = make_label_sets(dag, rows, seed=seed)
    hot = np.array([[label in row for label in range(dag.num_labels)] for row in gold])
    return dag, gold, generator.normal(size=hot.shape) + 1.5 * hot - 1


@pytest.mark.parametrize(("make", "kind"), [(single_paths, "back_off"), (single_paths, "risk"), (many_labels, "risk")])
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_mean_coverage_over_resplits(make, kind, coverage):
    hierarchy, gold, logits = make(2000, seed=1)
    generator, found, sizes = np.random.default_rng(0), [], []
    for _ in range(100):
        order = generator.permutation(2000)
        rows, others = order[:500], order[500:]
        calibration = calibrate(logits[rows], [gold[i] for i in rows], hierarchy, kind, coverage)
        result = coverage_of(logits[others], [gold[i] for i in others], hierarchy, calibration)
        found.append(result["coverage"])
        sizes.append(result["size"])
    assert np.mean(found) >= coverage - 0.005
    assert np.mean(found) <= coverage + 0.12  # not by predicting everything
    assert 0 < np.mean(sizes) < hierarchy.num_labels


def test_scores_and_sets_against_walks():
    tree, gold, logits = single_paths(50, seed=2)
    leaves = [n for n in range(tree.num_labels) if not tree.children[n]]
    ways = {leaf: [leaf, *reversed(tree.ancestors(leaf))] for leaf in leaves}
    needed = needed_sureness(logits, path_ends(*as_csr(gold, tree.num_labels)[:2], tree), tree)
    chosen, sizes = ConformalSets(tree, {"kind": "back_off", "quantile": 0.3})(logits)
    seen = set()
    for row in range(50):
        score = {n: 1 / (1 + math.exp(-logits[row, n])) for n in range(tree.num_labels)}
        best = max(leaves, key=lambda leaf: math.prod(score[n] for n in ways[leaf]) ** (1 / len(ways[leaf])))
        end = max(gold[row], key=lambda n: tree.levels[n])
        right = {end, *tree.ancestors(end)}
        wrong = list(itertools.takewhile(lambda n, right=right: n not in right, ways[best]))
        assert needed[row] == (max(logits[row, n] for n in wrong) if wrong else -SURE)
        label = next((n for place, n in enumerate(ways[best]) if max(logits[row, ways[best][: place + 1]]) > 0.3), None)
        path = set() if label is None else {label, *tree.ancestors(label)}
        assert set(np.flatnonzero(chosen[row]).tolist()) == path
        assert sizes[row] == sum(label is None or leaf == label or label in tree.ancestors(leaf) for leaf in leaves)
        seen.add(None if label is None else int(tree.levels[label]))
    assert len(seen) >= 3  # some are sure of a leaf, some of a parent, some of nothing


def test_quantile_and_boundary_by_hand():
    tree, gold, logits = single_paths(9, seed=3)
    needed = np.sort(needed_sureness(logits, path_ends(*as_csr(gold, tree.num_labels)[:2], tree), tree))
    assert calibrate(logits, gold, tree, "back_off", 0.8)["quantile"] == needed[math.ceil(10 * 0.8) - 1]
    assert calibrate(logits, gold, tree, "back_off", 0.95)["quantile"] == SURE  # nine documents cannot promise that
    dag, gold, logits = many_labels(30, seed=4)
    found = calibrate(logits, gold, dag, "risk", 0.75)["boundary"]

    def missed(boundary):
        return np.mean([np.mean([logits[i, n] <= boundary for n in row]) for i, row in enumerate(gold)])

    assert (30 * missed(found) + 1) / 31 <= 0.25 + 1e-9
    larger = min(x for x in logits[[i for i, row in enumerate(gold) for _ in row], [n for row in gold for n in row]] if x > found)
    assert (30 * missed(larger) + 1) / 31 > 0.25
    assert calibrate(logits[:2], gold[:2], dag, "risk", 0.9)["boundary"] is None
    assert ConformalSets(dag, {"kind": "risk", "boundary": None})(logits)[0].all()


def test_what_does_not_fit_is_refused():
    dag, gold, logits = many_labels(5, seed=0)
    for arguments, message in (
        (("back_off", 0.9), "several parents; backing off needs a tree"),
        (("risk", 1.0), r"`coverage` is 1.0; it lies in \(0, 1\)"),
        (("sets", 0.9), "allowed are 'back_off', 'risk'"),
    ):
        with pytest.raises(ValueError, match=message):
            calibrate(logits, [[6]] * 5, dag, *arguments)
    tree = make_tree()
    with pytest.raises(ValueError, match="Document 1 has 2 paths"):
        calibrate(np.zeros((2, 13)), tree.close([[3], [3, 8]]), tree)
    assert fitting_kind(gold, dag) == "risk" and fitting_kind(tree.close([[3], [0]]), tree) == "back_off"
    numbered, nodes = LabelTree(tree), np.arange(13)
    assert sorted(numbered.leaves.tolist()) == [n for n in range(13) if not tree.children[n]]
    below = [sum(not tree.children[d] for d in (n, *tree.descendants(n))) for n in range(13)]
    assert numbered.num_leaves(nodes).tolist() == below
    expected = [[m == n or n in tree.ancestors(m) for m in range(13)] for n in range(13)]
    assert numbered.holds(nodes[:, None], nodes[None]).tolist() == expected and numbered.holds(np.array(-1), nodes).all()
    with pytest.raises(Exception, match="as `hf-htc calibrate` writes it"):
        HTCConfig(hierarchy=tree, conformal={"kind": "back_off"})


# ---------------------------------------------------------------------------------------------- the command


@pytest.fixture
def work(tmp_path, tokenizer):
    """A checkpoint and its data; the test file has no labels that could be read."""
    tree = make_tree()
    model = make_model("flat", tree)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    for split, size in (("train", 30), ("validation", 60)):
        ends = np.random.default_rng(size).integers(0, 13, size=size)
        names = tree.decode(tree.close([[int(end)] for end in ends]))
        rows = [{"text": text, "labels": row} for text, row in zip(make_texts(size, seed=size), names)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def files(work, *more):
    return ["--train_file", str(work / "train.jsonl"), "--validation_file", str(work / "validation.jsonl"), *more]


def test_thresholds_and_sets_travel_with_the_checkpoint(work, tokenizer, capsys):
    main(["calibrate", str(work / "model"), *files(work), "--thresholds", "label", "--least_support", "3", "--conformal", "0.8"])
    assert "13 thresholds" in capsys.readouterr().out
    model = AutoModelForSequenceClassification.from_pretrained(work / "model").eval()
    assert len(model.config.thresholds) == 13 and model.config.conformal["kind"] == "back_off"
    tree, texts = make_tree(), make_texts(8, seed=9)
    sets = model.predict_sets(texts, tokenizer)
    logits = np.zeros((8, 13))
    for rows, part in model.iter_logits(texts, tokenizer):
        logits[rows] = part.numpy()
    chosen, sizes = ConformalSets(tree, model.config.conformal)(logits)
    assert [set(tree.encode([found["labels"]])[0]) for found in sets] == [set(np.flatnonzero(row)) for row in chosen]
    assert [found["size"] for found in sets] == sizes.tolist() and model.predict_sets(texts[0], tokenizer) == sets[0]
    main(["calibrate", str(work / "model"), "--thresholds", "none", "--output_dir", str(work / "copy")])
    copy = AutoModelForSequenceClassification.from_pretrained(work / "copy")
    assert copy.config.thresholds is None and copy.config.conformal == model.config.conformal


def test_test_labels_are_never_seen(work, capsys):
    """The same validation documents give the same calibration, whatever the test documents are labelled with."""
    made = []
    for seed in (0, 1):
        tree = make_tree()
        names = tree.decode(make_label_sets(tree, 40, seed=seed))
        rows = [{"text": text, "labels": row} for text, row in zip(make_texts(40), names)]
        (work / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        more = ["--test_file", str(work / "test.jsonl"), "--thresholds", "level", "--conformal", "0.9"]
        main(["calibrate", str(work / "model"), *files(work, *more), "--output_dir", str(work / f"out{seed}")])
        made.append(json.loads((work / f"out{seed}" / "config.json").read_text()))
    assert made[0]["thresholds"] == made[1]["thresholds"] and made[0]["conformal"] == made[1]["conformal"]
    with pytest.raises(SystemExit):
        main(["calibrate", str(work / "model"), *files(work, *more), "--split", "test"])
    assert "Nothing is tuned on test data" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["calibrate", str(work / "model"), *files(work)])
    assert "Give `--thresholds" in capsys.readouterr().err


def test_an_uncalibrated_checkpoint_says_so(tokenizer):
    with pytest.raises(ValueError, match="not calibrated; run `hf-htc calibrate"):
        make_model("flat", make_tree()).predict_sets("the match", tokenizer)
