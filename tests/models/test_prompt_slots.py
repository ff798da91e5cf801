"""Products of slots and label vectors against plain loops."""

import torch
from tiny_models import make_dag, make_encoder_config

from hf_htc import PTMTTaxoFormerConfig
from hf_htc.models.prompt_slots import LabelSlots


def test_slot_products_by_loops():
    hierarchy = make_dag()
    config = PTMTTaxoFormerConfig(text_config=make_encoder_config(), hierarchy=hierarchy)
    slots = LabelSlots(config)
    slots.init_weights(config)
    states, vectors = torch.randn(2, hierarchy.num_levels, 5), torch.randn(hierarchy.num_labels, 5)
    targets = torch.zeros(2, hierarchy.num_labels)
    targets[0, [0, 1, 7]] = 1
    scores, (means, counts) = slots.scores(states, vectors), slots.means(targets, vectors)
    for row in range(2):
        for label in range(hierarchy.num_labels):
            expected = states[row, hierarchy.levels[label] - 1] @ vectors[label]
            torch.testing.assert_close(scores[row, label], expected)
        for level in range(hierarchy.num_levels):
            gold = [n for n in range(hierarchy.num_labels) if targets[row, n] and hierarchy.levels[n] == level + 1]
            assert counts[row, level] == len(gold)
            expected = vectors[gold].mean(0) if gold else torch.zeros(5)
            torch.testing.assert_close(means[row, level], expected)
