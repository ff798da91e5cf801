"""What the tests of HiDEC share: small classifiers, the weights of the authors' decoder, and a decoder that is written here
again: one document and one node at a time, with torch's own attention modules and plain loops."""

import math

import torch
from tiny_models import make_encoder_config
from torch import nn

from hf_htc import HiDECConfig, LabelHierarchy
from hf_htc.models.hidec_unrolled import unroll
from hf_htc.models.modeling_hidec import HiDECClassifier


def make_classifier(hierarchy, size=16, seed=0, dtype=torch.float64, scale=1.0, **options):
    """A classifier with random weights of a visible size, biases and bounds included, without a text encoder, in eval mode."""
    torch.manual_seed(seed)
    encoder = make_encoder_config(hidden_size=size)
    config = HiDECConfig(text_config=encoder, hierarchy=hierarchy, **{"decoder_ffn_dim": 24, **options})
    classifier = HiDECClassifier(config)
    for module in classifier.modules():
        if hasattr(module, "init_weights"):
            module.init_weights(config)
    with torch.no_grad():
        for name, parameter in classifier.named_parameters():
            if "norm" not in name:
                parameter.normal_(std=scale * (0.5 if parameter.dim() == 1 else parameter.shape[-1] ** -0.5))
    return classifier.to(dtype).eval()


def make_texts(number=3, length=6, size=16, seed=0, dtype=torch.float64):
    """Token states and their mask, with texts of several lengths."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(number, length, dtype=torch.long)
    for row in range(number):
        mask[row, length - row % length :] = 0
    return torch.randn(number, length, size, generator=generator, dtype=dtype), mask


def random_hierarchy(num_nodes, seed=0, num_parents=1, num_labels=None, num_tops=3):
    """A random tree or, with more parents, DAG; ids are shuffled, so that parents need not have the smaller ones."""
    generator = torch.Generator().manual_seed(seed)
    new = torch.randperm(num_nodes, generator=generator).tolist()
    parents = [[] for _ in range(num_nodes)]
    for node in range(num_tops, num_nodes):
        number = int(torch.randint(1, num_parents + 1, (), generator=generator))
        drawn = torch.randint(0, max(num_tops, node // 2), (number,), generator=generator).tolist()
        parents[new[node]] = sorted({new[parent] for parent in drawn})
    return LabelHierarchy([f"node {i}" for i in range(num_nodes)], parents, num_labels)


def torch_decoder(classifier):
    """Our decoder's weights in `torch.nn.TransformerDecoder`."""
    config = classifier.config
    size, kind = config.text_config.hidden_size, classifier.label_embedding.dtype
    layer = nn.TransformerDecoderLayer(
        size, config.num_decoder_heads, config.decoder_ffn_dim, 0.0, batch_first=True, norm_first=True, dtype=kind
    )
    decoder = nn.TransformerDecoder(layer, config.num_decoder_layers, nn.LayerNorm(size, dtype=kind)).eval()
    weights = {"norm." + name: value for name, value in classifier.decoder.norm.state_dict().items()}
    for number, layer in enumerate(classifier.decoder.layers):
        for theirs, ours in NAMES.items():
            weights[f"layers.{number}.{theirs}"] = torch.cat([layer.state_dict()[name] for name in ours])
    decoder.load_state_dict(weights)
    return decoder


NAMES = {
    "self_attn.in_proj_": ("self_query_key_value",), "self_attn.out_proj.": ("self_out",),
    "multihead_attn.in_proj_": ("text_query", "text_key_value"), "multihead_attn.out_proj.": ("text_out",),
    "linear1.": ("ffn_in",), "linear2.": ("ffn_out",),
    "norm1.": ("self_norm",), "norm2.": ("text_norm",), "norm3.": ("ffn_norm",),
}  # fmt: skip
NAMES = {f"{theirs}{kind}": [f"{name}.{kind}" for name in ours] for theirs, ours in NAMES.items() for kind in ("weight", "bias")}


class PlainHiDEC:
    """
    The oracle of inference: one document, one node at a time, by recursion over the paths of the hierarchy. It shares with the
    code under test the weights and the order of the biases only.
    """

    def __init__(self, classifier):
        self.classifier, self.config = classifier, classifier.config
        self.hierarchy = classifier.config.get_hierarchy()
        self.decoder = torch_decoder(classifier)
        tree = unroll(self.hierarchy)
        keys = zip(tree.bias_node.tolist(), tree.bias_child.tolist())
        self.biases = {key: number for number, key in enumerate(keys)}
        self.num_calls = 0

    def leads_to_a_label(self, node):
        hierarchy = self.hierarchy
        return node < hierarchy.num_labels or any(map(self.leads_to_a_label, hierarchy.children[node]))

    def candidates(self, node):
        """Children, and the node itself for its [END]."""
        children = self.hierarchy.children[node] if node >= 0 else self.hierarchy.top_nodes
        children = [child for child in children if self.leads_to_a_label(child)]
        return children + ([node] if children and 0 <= node < self.hierarchy.num_labels else [])

    @torch.no_grad()
    def margins(self, path, tokens):
        """Of the node at the end of `path`: the margin of each candidate."""
        self.num_calls += 1
        classifier, number = self.classifier, self.hierarchy.num_nodes
        rows = [number + 1, *path]
        states = torch.stack([classifier.label_embedding[row] + classifier.level_embedding[i] for i, row in enumerate(rows)])
        blocked = torch.ones(len(rows), len(rows), dtype=torch.bool).triu(1)
        state = self.decoder(states.unsqueeze(0), tokens.unsqueeze(0), tgt_mask=blocked)[0, -1]
        node = path[-1] if path else -1
        found = {}
        for child in self.candidates(node):
            row = number if child == node else child
            score = state @ classifier.label_embedding[row]
            if classifier.out_bias is not None:
                score = score + classifier.out_bias[self.biases[node, child]]
            if classifier.bounds is not None:
                score = score - classifier.bounds.out.weight[0] @ torch.relu(classifier.bounds.dense(state))
            found[child] = float(score) * (2 if self.config.unit_loss in ("zlpr", "hbm") else 1)
        return found

    @torch.no_grad()
    def predict(self, tokens, mask):
        """Sets of labels, one a document, and the logits of predicted labels."""
        results = []
        for row, keep in zip(tokens, mask):
            text = row[keep.bool()] if keep.any() else row[:1]
            logits, refused = {}, []
            self._expand((), math.inf, text, logits, refused)
            if not logits and self.config.empty_prediction == "best":
                _, path, child = max(refused)
                while True:
                    node = path[-1] if path else -1
                    if child == node or not self.candidates(child):
                        break
                    path = (*path, child)
                    margins = self.margins(path, text)
                    child = max(margins, key=margins.get)
                logits = dict.fromkeys([child], 1e-4)
                if self.config.label_closure == "closed":
                    above = [node for node in self.hierarchy.ancestors(child) if node < self.hierarchy.num_labels]
                    logits.update(dict.fromkeys(above, 1e-4))
            results.append(logits)
        return results

    def _expand(self, path, smallest, text, logits, refused):
        node = path[-1] if path else -1
        for child, margin in self.margins(path, text).items():
            if margin <= 0:
                refused.append((margin, path, child))
            elif child == node or not self.candidates(child):
                logits[child] = max(logits.get(child, 0), min(smallest, margin))
            else:
                self._expand((*path, child), min(smallest, margin), text, logits, refused)
