"""Predictions as bits and metrics that stream: what a running evaluation counts."""

import numpy as np
import pytest
import torch
from tiny_models import make_label_sets
from transformers import EvalPrediction

from hf_htc import LabelHierarchy
from hf_htc.evaluation.streaming import StreamingMetrics, pack_bits, summary, unpack_bits
from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer


def rows_of(pair):
    indptr, indices = pair
    return [indices[a:b].tolist() for a, b in zip(indptr, indptr[1:])]


class TestBits:
    @pytest.mark.parametrize("num_labels", [1, 7, 8, 9, 16, 300])
    def test_round_trip(self, num_labels):
        chosen = torch.rand(11, num_labels, generator=torch.Generator().manual_seed(num_labels)) > 0.6
        chosen[3] = False
        chosen[4] = True
        packed = pack_bits(chosen)
        assert packed.dtype == torch.uint8
        assert packed.shape == (11, -(-num_labels // 8))
        expected = [[n for n in range(num_labels) if row[n]] for row in chosen.tolist()]
        assert rows_of(unpack_bits(packed.numpy(), num_labels)) == expected

    def test_layout(self):
        chosen = torch.zeros(2, 10, dtype=torch.bool)
        chosen[0, 0] = chosen[0, 3] = chosen[0, 9] = True
        assert pack_bits(chosen).tolist() == [[0b1001, 0b10], [0, 0]]

    def test_no_rows(self):
        packed = pack_bits(torch.zeros(0, 10, dtype=torch.bool))
        assert packed.shape == (0, 2)
        assert rows_of(unpack_bits(packed.numpy(), 10)) == []


class TestStreamingMetrics:
    @pytest.fixture(params=["none", "up", "prune"])
    def closure(self, request):
        return request.param

    @staticmethod
    def draw(hierarchy, seed):
        logits = torch.randn(23, hierarchy.num_labels, generator=torch.Generator().manual_seed(seed))
        return logits, make_label_sets(hierarchy, 23, seed=seed)

    @staticmethod
    def one_shot(hierarchy, logits, gold, closure, boundary=0.0):
        scorer = HierarchicalScorer(hierarchy.parents, hierarchy.num_labels, closure=closure)
        scorer.add([[n for n, x in enumerate(row) if x > boundary] for row in logits.tolist()], gold)
        return summary(scorer)

    @staticmethod
    def stream(metrics, logits, gold, size):
        """Batches as the Trainer passes them: uneven, ids padded as wide as the batch needs."""
        for start in range(0, len(logits), size):
            rows = gold[start : start + size]
            width = max(len(row) for row in rows)
            labels = torch.tensor([row + [-100] * (width - len(row)) for row in rows])
            packed = metrics.preprocess(logits[start : start + size], labels)
            scores = metrics(EvalPrediction(packed, labels), compute_result=start + size >= len(logits))
            assert (scores == {}) == (start + size < len(logits))
        return scores

    def test_batches_equal_one_shot(self, dag, closure):
        logits, gold = self.draw(dag, 0)
        metrics = StreamingMetrics(dag, closure=closure)
        scores = self.stream(metrics, logits, gold, 5)
        assert scores == self.one_shot(dag, logits, gold, closure)
        assert scores["closure"] == closure
        assert 0 < scores["micro_f1"] < 1
        assert {"micro_precision", "macro_f1", "samples_f1", "level_1_micro_f1", "level_2_micro_f1", "exact_match"} <= set(scores)

    def test_evaluations_do_not_mix(self, tree):
        metrics = StreamingMetrics(tree)
        self.stream(metrics, *self.draw(tree, 0), size=23)
        logits, gold = self.draw(tree, 1)
        assert self.stream(metrics, logits, gold, 8) == self.one_shot(tree, logits, gold, "none")

    def test_numpy_and_multi_hot(self, tree):
        logits, gold = self.draw(tree, 2)
        metrics = StreamingMetrics(tree)
        multi_hot = np.zeros((23, tree.num_labels), dtype=np.float32)
        for row, ids in enumerate(gold):
            multi_hot[row, ids] = 1
        packed = metrics.preprocess((logits, "hidden states"), None).numpy()
        assert metrics(EvalPrediction(packed, multi_hot)) == self.one_shot(tree, logits, gold, "none")

    def test_boundaries(self, tree):
        logits, gold = self.draw(tree, 3)
        expected = self.one_shot(tree, logits, gold, "none", boundary=0.7)
        assert expected != self.one_shot(tree, logits, gold, "none")
        assert self.stream(StreamingMetrics(tree, 0.7), logits, gold, 9) == expected
        each = torch.linspace(-1, 1, tree.num_labels)
        expected = self.one_shot(tree, logits - each, gold, "none")
        assert self.stream(StreamingMetrics(tree, each), logits, gold, 9) == expected

    def test_a_logit_on_the_boundary_is_not_predicted(self):
        one = LabelHierarchy(["a"], [[]])
        packed = StreamingMetrics(one).preprocess(torch.tensor([[0.0], [1e-7]]), None)
        assert rows_of(unpack_bits(packed.numpy(), 1)) == [[], [0]]

    def test_nan_is_refused(self, tree):
        logits, _ = self.draw(tree, 0)
        logits[3, 1] = float("nan")
        with pytest.raises(FloatingPointError, match="NaN logits; lower the learning rate"):
            StreamingMetrics(tree).preprocess(logits, None)

    def test_infinite_logits_are_no_error(self, tree):
        logits = torch.full((2, tree.num_labels), float("-inf"))
        logits[1] = float("inf")
        packed = StreamingMetrics(tree).preprocess(logits, None)
        assert [len(row) for row in rows_of(unpack_bits(packed.numpy(), tree.num_labels))] == [0, tree.num_labels]
