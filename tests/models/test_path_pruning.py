"""Pruning to paths against a recursion over all nodes."""

import math
import random

import pytest
import torch
from tiny_models import make_encoder_config

from hf_htc import LabelHierarchy, PTMTTaxoFormerConfig
from hf_htc.models.coherence import PathPruning


def random_hierarchy(seed):
    generator = random.Random(seed)
    number = generator.randint(1, 14)
    order = list(range(number))
    generator.shuffle(order)
    parents = [[] for _ in range(number)]
    most = 1 if seed % 2 else 3
    for place, node in enumerate(order):
        count = min(place, generator.randint(0, most))
        parents[node] = generator.sample(order[:place], count)
    return LabelHierarchy([f"n{i}" for i in range(number)], parents, num_labels=generator.randint(1, number))


def plainly_pruned(hierarchy, logits):
    """All nodes, recursively: what is no label is as good as the best of its parents, and free at the top."""

    def value(node):
        own = logits[node] if node < hierarchy.num_labels else math.inf
        return min(own, max((value(parent) for parent in hierarchy.parents[node]), default=math.inf))

    return [value(label) for label in range(hierarchy.num_labels)]


@pytest.mark.parametrize("seed", range(40))
def test_pruning_by_recursion(seed):
    hierarchy = random_hierarchy(seed)
    config = PTMTTaxoFormerConfig(text_config=make_encoder_config(), hierarchy=hierarchy)
    pruning = PathPruning(config)
    pruning.init_weights(config)
    logits = torch.randn(5, hierarchy.num_labels, generator=torch.Generator().manual_seed(seed))
    found = pruning(logits)
    assert found.tolist() == [plainly_pruned(hierarchy, row) for row in logits.tolist()]
    if hierarchy.is_tree and hierarchy.num_labels == hierarchy.num_nodes:  # as `closure="prune"` has it
        sets = [(row > 0).nonzero().flatten().tolist() for row in logits]
        assert [(row > 0).nonzero().flatten().tolist() for row in found] == hierarchy.prune(sets)
