"""What the tests of HiMatch share."""

import torch
from tiny_models import make_encoder_config, make_tree

from hf_htc import HiMatchConfig, HiMatchForHierarchicalTextClassification


def make_config(hierarchy, **options):
    return HiMatchConfig(text_config=make_encoder_config(), hierarchy=hierarchy, **{"node_dim": 6, "joint_dim": 12, **options})


def multi_hot(sets, num_labels):
    hot = torch.zeros(len(sets), num_labels)
    for row, labels in enumerate(sets):
        hot[row, labels] = 1
    return hot


def build(encoder, tokenizer=None, **options):
    hierarchy = options.pop("hierarchy", make_tree())
    return HiMatchForHierarchicalTextClassification.from_text_encoder(
        encoder, hierarchy, tokenizer, **{"node_dim": 6, "joint_dim": 12, **options}
    )


def count_calls(model):
    calls = {}
    for name, module in model.classifier.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1}))
    return calls
