"""Ranking, precision-recall curves and calibration against scikit-learn, plain loops and by hand."""

from __future__ import annotations

import doctest
import tracemalloc

import numpy as np
import pytest
from set_loops import SHAPES, Loops, random_hierarchy
from sklearn.metrics import (
    auc,
    average_precision_score,
    brier_score_loss,
    label_ranking_average_precision_score,
    ndcg_score,
)

from hf_htc.metrics.hierarchical_f1 import (
    CLOSURES,
    CalibrationScorer,
    CurveScorer,
    RankingScorer,
    calibration_scores,
    curve_scores,
    ranking_scores,
    score_rows,
)


def draw_scores(seed, shape, number=40, steps=None):
    """Hierarchy, score rows and gold sets (the first without labels); few different scores where `steps` is given."""
    rng = np.random.default_rng(seed)
    parents, num_labels = random_hierarchy(rng, shape)
    gold = [rng.choice(num_labels, size=int(rng.integers(1, 6)), replace=False).tolist() for _ in range(number)]
    gold[0] = []
    scores = 1 / (1 + np.exp(-rng.normal(size=(number, num_labels)) * 2))
    for row, labels in enumerate(gold):
        scores[row, labels] = np.sqrt(scores[row, labels])
    if steps:
        scores = np.round(scores * steps) / steps
    return parents, num_labels, scores, gold


def closed(scores, loops, closure):
    """The policy on scores, by loops."""
    out = scores.copy()
    for label in range(scores.shape[1]):
        below = [other for other in range(scores.shape[1]) if label in loops.above[other]]
        if closure == "up":
            out[:, label] = scores[:, [label, *below]].max(1)
        if closure == "prune":
            out[:, label] = scores[:, [label, *loops.above[label]]].min(1)
    return out


class TestRanking:
    @pytest.mark.parametrize("closure", ["none", "up"])
    @pytest.mark.parametrize("steps", [None, 4])
    def test_equals_plain_loops_and_scikit_learn(self, steps, closure):
        parents, num_labels, scores, gold = draw_scores(0, "dag", steps=steps)
        ks = (1, 3, 5, 20)
        scorer = RankingScorer(parents, closure=closure, ks=ks)
        scorer.add_scores(scores, gold)
        found = scorer.compute()
        loops = Loops(parents, num_labels, closure, [], gold)
        rows = {name: [] for name in found}
        for row, labels in zip(scores, loops.gold):
            if not labels:
                continue
            best = sorted(range(num_labels), key=lambda label: (-row[label], label))
            hits = [label in labels for label in best]
            for k in ks:
                rows[f"precision_at_{k}"].append(sum(hits[:k]) / k)
                rows[f"recall_at_{k}"].append(sum(hits[:k]) / len(labels))
                rows[f"rp_at_{k}"].append(sum(hits[:k]) / min(k, len(labels)))
                ideal = sum(1 / np.log2(r + 2) for r in range(min(k, len(labels))))
                rows[f"ndcg_at_{k}"].append(sum(hit / np.log2(r + 2) for r, hit in enumerate(hits[:k])) / ideal)
                gains = [sum(hits[: r + 1]) / (r + 1) for r, hit in enumerate(hits[:k]) if hit]
                rows[f"map_at_{k}"].append(sum(gains) / min(k, len(labels)))
            rows["r_precision"].append(sum(hits[: len(labels)]) / len(labels))
        for name, values in rows.items():
            if values:
                assert found[name] == pytest.approx(np.mean(values), rel=1e-12), name
        assert len([values for values in rows.values() if values]) == 5 * len(ks) + 1
        assert (found["num_documents"], found["num_scored_documents"], found["closure"]) == (40, 39, closure)
        if steps is None:
            hot = loops.matrix(loops.gold)[1:]
            for k in (1, 3, 5):
                assert found[f"ndcg_at_{k}"] == pytest.approx(ndcg_score(hot, scores[1:], k=k), rel=1e-12)
            full = label_ranking_average_precision_score(hot, scores[1:])
            assert found["map_at_20"] == pytest.approx(full, rel=1e-12)

    def test_ranked_lists_and_score_rows_agree_bit_for_bit(self, monkeypatch):
        parents, num_labels, scores, gold = draw_scores(1, "tree")
        whole, parts, other, lists = (RankingScorer(parents, ks=(1, 5)) for _ in range(4))
        whole.add_scores(scores, gold)
        lists.add(np.argsort(-scores, axis=1), gold)
        monkeypatch.setattr(score_rows, "BLOCK_SCORES", 30)
        for start in (30, 0, 10):
            parts.add_scores(scores[start : start + 10].astype(np.float32), gold[start : start + 10])
        other.add_scores(scores[20:30], gold[20:30])
        parts.merge(other)
        assert parts.compute() == whole.compute() == lists.compute()

    def test_r_precision_needs_as_many_ranks_as_gold_labels(self):
        scorer = RankingScorer([[]] * 5, ks=2)
        scorer.add([[0, 1], [2, 1]], [[1], [2, 3]])
        assert scorer.compute()["r_precision"] == pytest.approx((0 + 0.5) / 2)
        scorer.add([[0, 1]], [[1, 2, 3]])
        scores = scorer.compute()
        assert "r_precision" not in scores and scores["recall_at_2"] == pytest.approx((1 + 0.5 + 1 / 3) / 3)

    def test_only_some_labels_are_ranked(self):
        parents, num_labels, scores, gold = draw_scores(2, "tree")
        some = [1, 4, 5, 9]
        scorer = RankingScorer(parents, ks=(1, 2), labels=some)
        scorer.add_scores(scores, gold)
        alone = RankingScorer([[]] * 4, ks=(1, 2))
        alone.add_scores(scores[:, some], [[some.index(label) for label in row if label in some] for row in gold])
        assert scorer.compute() == alone.compute()
        with pytest.raises(ValueError, match="add score rows with `add_scores`"):
            scorer.add([[1, 4]], [[1]])

    def test_no_gold_labels_anywhere(self):
        scorer = RankingScorer([[]] * 3, ks=1)
        scorer.add_scores(np.zeros((2, 3)), [[], []])
        assert scorer.compute()["precision_at_1"] == 0.0 and scorer.compute()["num_scored_documents"] == 0

    def test_ties_go_to_the_smaller_id(self):
        best = ranking_scores.best_labels(np.array([[1.0, 2, 1, 1, -np.inf], [0, 0, 0, 0, 0]]), 3)
        assert best.tolist() == [[1, 0, 2], [0, 1, 2]]

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (([[0, 1]], [[0]]), ValueError, r"the scores at 3 need 3 labels a document"),
            (([[0, 1, 1]], [[0]]), ValueError, r"ranked row 0 is \[0, 1, 1\]; labels lie in \[0, 4\), each at most once"),
            (([[0, 1, 4]], [[0]]), ValueError, r"ranked row 0 is \[0, 1, 4\]"),
            (([[0, 1, -1]], [[0]]), ValueError, r"ranked row 0 is \[0, 1, -1\]"),
            (([[0, 1, 2.5]], [[0]]), TypeError, r"`ranked` must hold label ids, integers; got float64"),
            (([[0, 1, 2]], [[0], [1]]), ValueError, r"ranked has 1 rows and references 2"),
            (([[0, 1, 2]], [[7]]), ValueError, r"references row 0 has the unknown label id 7"),
        ],
    )
    def test_wrong_lists(self, arguments, error, message):
        with pytest.raises(error, match=message):
            RankingScorer([[]] * 4, ks=3).add(*arguments)

    @pytest.mark.parametrize(
        ("settings", "name"),
        [({"ks": 0}, "ks"), ({"ks": ()}, "ks"), ({"labels": [4]}, "labels"), ({"closure": "prune"}, "closure")],
    )
    def test_wrong_settings(self, settings, name):
        with pytest.raises(ValueError, match=f"`{name}` (must be|is)"):
            RankingScorer([[]] * 4, **settings)

    def test_scorers_with_other_settings_are_not_merged(self):
        with pytest.raises(ValueError, match="differ in `labels`"):
            RankingScorer([[]] * 4).merge(RankingScorer([[]] * 4, labels=[1]))
        with pytest.raises(ValueError, match="no document was added"):
            RankingScorer([[]]).compute()


class TestCurves:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("closure", CLOSURES)
    @pytest.mark.parametrize("steps", [None, 8])
    def test_exact_scores_equal_scikit_learn_and_loops(self, steps, closure, shape):
        parents, num_labels, scores, gold = draw_scores(3, shape, steps=steps)
        scorer = CurveScorer(parents, num_labels, closure=closure, resolution=None)
        scorer.add_scores(scores[:25], gold[:25])
        scorer.add_scores(scores[25:], gold[25:])
        found = scorer.compute()
        loops = Loops(parents, num_labels, closure, [], gold)
        values, hot = closed(scores, loops, closure), loops.matrix(loops.gold)
        assert found["micro_auprc"] == pytest.approx(average_precision_score(hot, values, average="micro"), rel=1e-12)
        seen = hot.any(0)
        for average in ("macro", "weighted"):
            expected = average_precision_score(hot[:, seen], values[:, seen], average=average)
            assert found[f"{average}_auprc"] == pytest.approx(expected, rel=1e-12)
        assert found["samples_auprc"] == pytest.approx(label_ranking_average_precision_score(hot[1:], values[1:]), rel=1e-9)
        areas = []
        for row, truth in zip(values[1:], hot[1:]):
            points = [(0.0, 1.0)]
            for threshold in sorted(set(row), reverse=True):
                chosen = row >= threshold
                points.append((truth[chosen].sum() / truth.sum(), truth[chosen].mean()))
            areas.append(auc(*zip(*points)))
        assert found["hf1_auc"] == pytest.approx(np.mean(areas), rel=1e-9)
        micro, cafa = {}, {}
        for threshold in np.unique(values):
            chosen = values >= threshold
            hits, sizes, wanted = (hot * chosen).sum(1), chosen.sum(1), hot.sum(1)
            micro[threshold] = 2 * hits.sum() / (sizes.sum() + wanted.sum())
            some = sizes[1:] > 0
            p, r = (hits[1:][some] / sizes[1:][some]).mean() if some.any() else 0.0, (hits[1:] / wanted[1:]).mean()
            cafa[threshold] = 2 * p * r / (p + r) if p + r else 0.0
        assert found["micro_fmax"] == pytest.approx(max(micro.values()), rel=1e-12)
        assert micro[found["micro_fmax_threshold"]] == pytest.approx(found["micro_fmax"], rel=1e-12)
        assert found["fmax"] == pytest.approx(max(cafa.values()), rel=1e-9)
        assert cafa[found["fmax_threshold"]] == pytest.approx(found["fmax"], rel=1e-9)
        assert (found["num_documents"], found["num_scored_documents"]) == (40, 39)
        assert (found["closure"], found["resolution"], found["num_supported_labels"]) == (closure, None, seen.sum())

    @pytest.mark.parametrize("closure", CLOSURES)
    def test_bins_that_part_all_scores_are_exact(self, closure):
        parents, num_labels, scores, gold = draw_scores(4, "dag", steps=7)
        exact, binned = CurveScorer(parents, closure=closure, resolution=None), CurveScorer(parents, closure=closure)
        for scorer in (exact, binned):
            scorer.add_scores(scores, gold)
        one, other = exact.compute(), binned.compute()
        for name in one:
            if name.endswith("_threshold"):  # the lower edge of the bin
                assert other[name] <= one[name] and other[name] == pytest.approx(one[name], abs=0.01)
            elif name != "resolution":
                assert other[name] == (one[name] if name == "closure" else pytest.approx(one[name], rel=1e-9)), name
        coarse = CurveScorer(parents, closure=closure, resolution=4)
        coarse.add_scores(scores, gold)
        assert coarse.compute()["macro_auprc"] != pytest.approx(one["macro_auprc"], rel=1e-3)

    @pytest.mark.parametrize("resolution", [None, 64])
    def test_pieces_and_merged_parts_give_the_same_bits(self, resolution, monkeypatch):
        parents, num_labels, scores, gold = draw_scores(5, "tree")
        whole, first, second = (CurveScorer(parents, resolution=resolution) for _ in range(3))
        whole.add_scores(scores, gold)
        monkeypatch.setattr(score_rows, "BLOCK_SCORES", 50)
        monkeypatch.setattr(curve_scores, "BLOCK_SCORES", 50)
        second.add_scores(scores[25:], gold[25:])
        first.add_scores(scores[:25], gold[:25])
        second.merge(first)
        assert second.compute() == whole.compute()
        with pytest.raises(ValueError, match="differ in `resolution`"):
            whole.merge(CurveScorer(parents, resolution=65))

    def test_memory_does_not_grow_with_documents(self):
        scorer = CurveScorer([[]] * 50, resolution=32)
        rng, peaks = np.random.default_rng(0), []
        for number in (100, 3000):
            tracemalloc.start()
            for _ in range(number // 100):
                scorer.add_scores(rng.random((100, 50)), [[0]] * 100)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < 1.5 * peaks[0]
        assert scorer.compute()["num_documents"] == 3100

    def test_a_perfect_and_a_reversed_ranking(self):
        truth = np.array([[1, 0, 0], [0, 1, 0]])
        scorer = CurveScorer([[]] * 3)
        scorer.add_scores(truth.astype(float), [[0], [1]])
        scores = scorer.compute()
        assert all(scores[name] == 1 for name in ("micro_auprc", "macro_auprc", "samples_auprc", "hf1_auc", "micro_fmax", "fmax"))
        scorer = CurveScorer([[]] * 3)
        scorer.add_scores(1 - truth.astype(float), [[0], [1]])
        assert scorer.compute()["micro_auprc"] == pytest.approx(1 / 3) and scorer.compute()["hf1_auc"] == pytest.approx(1 / 6)

    def test_no_gold_labels_anywhere(self):
        for resolution in (None, 8):
            scorer = CurveScorer([[]] * 3, resolution=resolution)
            scorer.add_scores(np.full((2, 3), 0.5), [[], []])
            scores = scorer.compute()
            assert scores["macro_auprc"] == scores["hf1_auc"] == scores["fmax"] == scores["micro_auprc"] == 0

    @pytest.mark.parametrize(
        ("scores", "error", "message"),
        [
            ([[0.5, 1.5]], ValueError, r"scores row 0, label 1 is 1.5; scores are probabilities, in \[0, 1\]"),
            ([[np.nan, 0.5]], ValueError, r"scores row 0, label 0 is nan"),
            ([[0.5]], ValueError, r"`scores` must have the shape \(documents, 2\), one column a label; got \(1, 1\)"),
            ([[1, 0]], TypeError, r"`scores` must be floating point numbers; got int64"),
            ([[0.5, 0.5]] * 2, ValueError, r"scores has 2 rows and references 1"),
        ],
    )
    def test_wrong_scores(self, scores, error, message):
        for scorer in (CurveScorer([[]] * 2), CalibrationScorer([[]] * 2)):
            with pytest.raises(error, match=message):
                scorer.add_scores(np.array(scores), [[0]])
        with pytest.raises(ValueError, match="no document was added"):
            CurveScorer([[]]).compute()
        with pytest.raises(ValueError, match="`resolution` must be"):
            CurveScorer([[]], resolution=1)


class TestCalibration:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("closure", CLOSURES)
    def test_equals_scikit_learn_and_loops(self, closure, shape):
        parents, num_labels, scores, gold = draw_scores(6, shape, number=200)
        scores[1], scores[2] = 1.0, 0.0
        scorer = CalibrationScorer(parents, num_labels, closure=closure, num_bins=10)
        scorer.add_scores(scores, gold)
        found = scorer.compute()
        loops = Loops(parents, num_labels, closure, [], gold)
        values, hot = closed(scores, loops, closure), loops.matrix(loops.gold)
        levels = np.array(loops.levels)
        groups = {"": levels > 0, **{f"level_{level}_": levels == level for level in set(loops.levels)}}
        for name, here in groups.items():
            s, y = values[:, here].ravel(), hot[:, here].ravel()
            assert found[f"{name}brier"] == pytest.approx(brier_score_loss(y, s), abs=2e-9)
            error, bins = 0.0, np.minimum((s * 10).astype(int), 9)
            for b in range(10):
                inside = bins == b
                if inside.any():
                    error += inside.mean() * abs(y[inside].mean() - s[inside].mean())
            assert found[f"{name}ece"] == pytest.approx(error, abs=2e-9)
        assert len([name for name in found if name.endswith("ece")]) == len(groups)
        assert (found["closure"], found["num_bins"], found["num_documents"]) == (closure, 10, 200)

    def test_pieces_and_merged_parts_give_the_same_bits(self, monkeypatch):
        parents, num_labels, scores, gold = draw_scores(7, "tree")
        whole, first, second = (CalibrationScorer(parents) for _ in range(3))
        whole.add_scores(scores, gold)
        monkeypatch.setattr(score_rows, "BLOCK_SCORES", 30)
        second.add_scores(scores[15:], gold[15:])
        first.add_scores(scores[:15], gold[:15])
        second.merge(first)
        assert second.compute() == whole.compute()
        table = second.reliability()
        assert table["pairs"].sum() == scores.size and table["mean_score"].shape == (len(table["levels"]), 15)
        full = table["pairs"] > 0
        assert np.all(np.floor(table["mean_score"][full] * 15) == np.argwhere(full)[:, 1])

    def test_errors(self):
        with pytest.raises(ValueError, match="`num_bins` must be"):
            CalibrationScorer([[]], num_bins=0)
        with pytest.raises(ValueError, match="no document was added"):
            CalibrationScorer([[]]).compute()


@pytest.mark.parametrize("module", [ranking_scores, curve_scores, calibration_scores])
def test_docstring_examples(module):
    result = doctest.testmod(module)
    assert result.attempted >= 4 and result.failed == 0
