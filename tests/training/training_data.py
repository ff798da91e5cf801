"""A learnable little data set: each label has words of its own."""

import torch
from datasets import Dataset
from tiny_models import WORDS, make_label_sets, make_tree


def make_dataset(num_documents=48, seed=0, hierarchy=None):
    hierarchy = hierarchy or make_tree()
    generator = torch.Generator().manual_seed(seed)
    sets = make_label_sets(hierarchy, num_documents, seed=seed)
    texts = []
    for row in sets:
        words = [WORDS[(3 * label + k) % len(WORDS)] for label in row for k in range(2)]
        noise = torch.randint(0, len(WORDS), (1 + len(row) % 3,), generator=generator).tolist()
        texts.append(" ".join(words + [WORDS[i] for i in noise]))
    return Dataset.from_dict({"text": texts, "labels": [[int(i) for i in row] for row in sets]})


def without_dropout(model):
    """Nothing random in training (neither dropout nor drawn labels), and batch norm frozen, so that a document's loss does not
    depend on its batch."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "is_random"):
            module.is_random = False
        if hasattr(module, "running_mean"):
            module.eval().train = lambda mode=True, module=module: module
    return model
