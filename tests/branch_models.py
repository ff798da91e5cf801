"""Classifiers of HiMTL in float64, and hierarchies with branches of every shape."""

import torch
from tiny_models import make_encoder_config

from hf_htc import HiMTLConfig, LabelHierarchy
from hf_htc.models.modeling_himtl import HiMTLClassifier


# Labels in each branch of RCV1, WOS and NYT: all that the numbers of parameters hang on.
RCV1, WOS, NYT = (34, 26, 33, 10), (18, 54, 12, 17, 10, 10, 20), (62, 7, 23, 74)


def make_config(hierarchy, hidden_size=16, **options):
    text_config = make_encoder_config(hidden_size=hidden_size, num_attention_heads=1)
    return HiMTLConfig(text_config=text_config, hierarchy=hierarchy, **options)


def make_classifier(hierarchy, **options):
    """A classifier in float64 of which every parameter is random, and its config."""
    config = make_config(hierarchy, **options)
    classifier = HiMTLClassifier(config).double().eval()
    generator = torch.Generator().manual_seed(0)
    for module in classifier.modules():
        if hasattr(module, "init_weights"):
            module.init_weights(config)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2)
    return classifier, config


def awkward():
    """Branches that overlap, of one node, without a label, with structure-only nodes at the top, in between and at the end."""
    parents = [[5], [5, 6], [1], [], [1, 0], [], [], [6], [], [8], [3]]
    return LabelHierarchy([f"n{i}" for i in range(11)], parents, num_labels=5)


def stars(sizes):
    """A branch of each size."""
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    parents = [[] if i == 0 else [start] for start, size in zip(starts, sizes) for i in range(size)]
    return LabelHierarchy([f"n{i}" for i in range(sum(sizes))], parents)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())
