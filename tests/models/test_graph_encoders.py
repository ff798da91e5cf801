"""The TreeLSTM and the label attention against plain loops written from their equations, gradients included."""

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_models import make_batch, make_dag, make_encoder_config, make_model, make_tree

from hf_htc import HiAGMConfig, LabelHierarchy
from hf_htc.models.graph_encoders import BidirectionalTreeLSTM, HierarchyGCN, collect, edge_prior, gather_states
from hf_htc.models.labels import label_statistics
from hf_htc.models.modeling_hiagm import LabelAttention


TOLERANCE = {"rtol": 1e-9, "atol": 1e-10}


def make_config(hierarchy, text_config=None, **options):
    return HiAGMConfig(text_config=text_config or make_encoder_config(), hierarchy=hierarchy, **options)


def randomised(module, config, seed=0):
    for part in module.modules():
        if hasattr(part, "init_weights"):
            part.init_weights(config)
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def assert_same_with_gradients(output, expected, targets):
    """Both results and their gradients for the targets agree."""
    torch.testing.assert_close(output, expected, **TOLERANCE)
    cotangent = torch.randn(output.shape, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad((out * cotangent).sum(), targets, allow_unused=True) for out in (output, expected))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, **TOLERANCE)


def make_deep_dag():
    """Edges that jump over levels, several parents on different levels, an isolated node, two structure-only nodes."""
    names = ["a", "b", "c", "d", "e", "f", "g", "alone", "top", "side"]
    parents = [[8], [0], [1, 8], [2, 0, 9], [3], [4, 1], [5, 2, 8], [], [], []]
    return LabelHierarchy(names, parents, num_labels=8)


def tree_lstm_reference(layer, hierarchy, nodes):
    """One direction, node by node, recursively."""
    edges = hierarchy.edges.tolist()
    neighbours = {k: [] for k in range(hierarchy.num_nodes)}
    for number, (parent, child) in enumerate(edges):
        target, source = (child, parent) if layer.downward else (parent, child)
        neighbours[target].append((source, number))
    size, done = layer.size, {}

    def state(k, b):
        if (k, b) in done:
            return done[k, b]
        x = nodes[b, k]
        total, kept = torch.zeros(size, dtype=x.dtype), torch.zeros(size, dtype=x.dtype)
        for n, number in neighbours[k]:
            c, h = state(n, b)
            c, h = c * layer.edge_weight[number], h * layer.edge_weight[number]
            f = torch.sigmoid(layer.input_forget.weight @ x + layer.input_forget.bias
                              + layer.state_forget.weight @ h + layer.state_forget.bias)  # fmt: skip
            share = 1 / len(neighbours[k]) if layer.downward else 1
            total, kept = total + share * h, kept + share * f * c
        gates = layer.input_gates.weight @ x + layer.input_gates.bias + layer.state_gates.weight @ total + layer.state_gates.bias
        i, o, u = gates[:size], gates[size : 2 * size], gates[2 * size :]
        cell = torch.sigmoid(i) * torch.tanh(u) + kept
        done[k, b] = (cell, torch.sigmoid(o) * torch.tanh(cell))
        return done[k, b]

    return torch.stack([torch.stack([state(k, b)[1] for k in range(hierarchy.num_nodes)]) for b in range(len(nodes))])


@pytest.mark.parametrize("make", [make_tree, make_dag, make_deep_dag])
def test_tree_lstm_and_its_gradients_against_loops(make):
    hierarchy = make()
    config = make_config(hierarchy, node_dim=6, structure_encoder="tree_lstm")
    layer = randomised(BidirectionalTreeLSTM(config), config)
    nodes = torch.randn(2, hierarchy.num_nodes, 6, dtype=torch.float64, requires_grad=True)
    output = layer(nodes)
    expected = torch.cat([tree_lstm_reference(part, hierarchy, nodes) for part in (layer.up, layer.down)], dim=-1)
    assert_same_with_gradients(output, expected, [nodes, *layer.parameters()])


def test_tree_lstm_starts_at_one_upwards_and_at_the_prior_downwards():
    """The authors' code indexes the prior the wrong way round, so that the states from above begin without it."""
    hierarchy = make_tree()
    sets = hierarchy.close([[3], [3], [4], [5], [8], [10], [11]])
    model = make_model("hiagm, TreeLSTM", hierarchy, statistics=False)
    layer = model.classifier.structure_encoder[0]
    assert layer.down.edge_weight.tolist() == pytest.approx([1 / len(hierarchy.children[p]) for p, _ in hierarchy.edges])
    model.set_label_statistics(sets)
    assert (layer.up.edge_weight == 1).all()
    expected = edge_prior(label_statistics(sets, hierarchy), hierarchy, "ratio")
    assert torch.equal(layer.down.edge_weight, expected) and len(expected.unique()) > 3
    # What a parent says arrives: with the released zero factors it would not.
    nodes = torch.randn(1, hierarchy.num_nodes, 6)
    with torch.no_grad():
        for parameter in layer.down.parameters():
            if parameter.dim() == 2:
                parameter.normal_()
    parent, child = hierarchy.edges[int(expected.argmax())].tolist()
    changed = nodes.clone()
    changed[0, parent] += 1
    with torch.no_grad():
        assert (layer(changed)[0, child, 3:] - layer(nodes)[0, child, 3:]).abs().max() > 1e-3
    assert (
        make_model("hiagm, TreeLSTM", hierarchy, train_edge_weights=False)
        .classifier.structure_encoder[0]
        .up.edge_weight.requires_grad
        is False
    )


WIDE = 3000


def make_wide():
    """A node with 3,000 children."""
    return LabelHierarchy([str(i) for i in range(WIDE + 1)], [[]] + [[0]] * WIDE)


def test_half_precision_sums_over_all_children():
    """bfloat16 has 8 binary digits: a sum of equal numbers in it stops at 256 of them."""
    parent, children = torch.zeros(WIDE, dtype=torch.long), torch.arange(1, WIDE + 1)
    nodes = torch.ones(1, WIDE + 1, 2, dtype=torch.bfloat16, requires_grad=True)
    for weight in (torch.ones(WIDE), torch.ones(WIDE, dtype=torch.bfloat16)):
        up, down = collect(nodes, weight, children, parent), collect(nodes, weight, parent, children)
        assert up.dtype == down.dtype == weight.dtype and (down[0, 1:] == 1).all()
        assert up[0, 0].tolist() == [pytest.approx(WIDE, rel=0.01)] * 2
        (gradient,) = torch.autograd.grad(down.sum(), nodes)
        assert gradient[0, 0].tolist() == [pytest.approx(WIDE, rel=0.01)] * 2
    assert gather_states(nodes, parent).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", [HierarchyGCN, BidirectionalTreeLSTM])
@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "bfloat16"])
def test_encoders_in_half_precision_beside_float32_with_many_children(kind, autocast):
    config = make_config(make_wide(), node_dim=4, structure_encoder="gcn" if kind is HierarchyGCN else "tree_lstm")
    layer = randomised(kind(config), config).float()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if "weight_up" in name or name == "up.edge_weight":
                parameter.fill_(1 / WIDE)
    nodes = torch.rand(1, WIDE + 1, 4).bfloat16().float().requires_grad_()
    plain = layer(nodes)
    expected = torch.autograd.grad(plain.sum(), nodes)[0][0, 0]  # of the parent, whose state every child reads
    if autocast:
        halves = nodes.detach().bfloat16().requires_grad_()  # as a linear layer before gives them
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(halves)
    else:
        halves = nodes.detach().bfloat16().requires_grad_()
        found = layer.bfloat16()(halves)
        assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found[0, 0].float(), plain[0, 0], rtol=0.1, atol=0.05)
    gradient = torch.autograd.grad(found.float().sum(), halves)[0][0, 0].float()
    torch.testing.assert_close(gradient, expected, rtol=0.1, atol=0.02 * float(expected.abs().max()))


def test_the_structure_reaches_as_far_as_it_should():
    """From below a label sees all its descendants, from above all its ancestors, and nothing else."""
    hierarchy = make_deep_dag()
    config = make_config(hierarchy, node_dim=6, structure_encoder="tree_lstm")
    layer = randomised(BidirectionalTreeLSTM(config), config)
    nodes = torch.randn(1, hierarchy.num_nodes, 6, dtype=torch.float64)
    base = layer(nodes)
    for k in range(hierarchy.num_nodes):
        changed = nodes.clone()
        changed[0, k] += 0.5
        moved = (layer(changed) - base)[0].abs() > 1e-12
        above, below = set(hierarchy.ancestors(k)), {n for n in range(hierarchy.num_nodes) if k in hierarchy.ancestors(n)}
        assert set(np.flatnonzero(moved[:, :3].any(-1).numpy()).tolist()) == above | {k}
        assert set(np.flatnonzero(moved[:, 3:].any(-1).numpy()).tolist()) == below | {k}


# ---------------------------------------------------------------------------------------------- label attention


def attention_reference(head, config, positions, mask):
    hierarchy = config.get_hierarchy()
    labels = head.encode_structure(head.label_embeddings.unsqueeze(0))[0][: hierarchy.num_labels]
    if head.projection is not None:
        positions = positions @ head.projection.weight.T + head.projection.bias
    rows = []
    for b in range(len(positions)):
        kept = [p for p in range(positions.shape[1]) if mask is None or mask[b, p]]
        aligned = []
        for label in labels:
            scores = [positions[b, p] @ label for p in kept]
            powers = [(score - max(float(s) for s in scores)).exp() for score in scores]
            aligned.append(sum(power * positions[b, p] for power, p in zip(powers, kept)) / sum(powers))
        if config.classifier == "flatten":
            rows.append(torch.cat(aligned) @ head.out_weight.T + head.out_bias)
        else:
            rows.append(torch.stack([v @ w for v, w in zip(aligned, head.out_weight)]) + head.out_bias)
    return torch.stack(rows)


@pytest.mark.parametrize("classifier", ["flatten", "node"])
@pytest.mark.parametrize(("width", "node_dim"), [(6, 6), (9, 6)])
@pytest.mark.parametrize("structure_encoder", ["gcn", "tree_lstm"])
def test_label_attention_and_its_gradients_against_loops(classifier, width, node_dim, structure_encoder):
    hierarchy = make_dag()
    config = make_config(
        hierarchy,
        make_encoder_config(hidden_size=width, num_attention_heads=1),
        variant="la", node_dim=node_dim, classifier=classifier, structure_encoder=structure_encoder,
    )  # fmt: skip
    head = randomised(LabelAttention(config), config)
    assert (head.projection is None) == (width == node_dim)
    positions = torch.randn(3, 5, width, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    for used in (mask, None):
        output, expected = head(positions, used), attention_reference(head, config, positions, used)
        assert output.shape == (3, hierarchy.num_labels)
        assert_same_with_gradients(output, expected, [positions, *head.parameters()])


def test_the_released_settings_know_nothing_of_labels_and_the_paper_s_do():
    for positions in ("text", "tokens", "ngrams"):
        model = make_model("hiagm, TextRCNN", make_tree(), variant="la", attention_positions=positions)
        before = model(**make_batch()).logits.detach()
        with torch.no_grad():
            model.classifier.label_embeddings.normal_()
        change = (model(**make_batch()).logits.detach() - before).abs().max()
        assert change == 0 if positions == "text" else change > 1e-4, positions


def test_ngram_positions_are_the_top_k_features_of_each_kernel():
    text_config = make_encoder_config("htc_textrcnn", top_k=2)
    config = HiAGMConfig(text_config=text_config, hierarchy=make_tree(), variant="la", attention_positions="ngrams")
    assert config.node_dim == text_config.num_filters  # one kernel's width, as in the paper, without a projection
    model = make_model("hiagm", make_tree(), text_config, variant="la", attention_positions="ngrams", node_dim=5)
    assert model.classifier.projection is None
    seen = {}
    model.classifier.register_forward_hook(lambda module, args, output: seen.update(positions=args[0]))
    batch = make_batch()
    model(**batch)
    pooled = model.model(**batch).pooler_output
    assert seen["positions"].shape == (4, 6, 5)
    for kernel in range(3):
        for k in range(2):
            for feature in range(5):
                expected = pooled[:, kernel * 10 + feature * 2 + k]
                assert torch.equal(seen["positions"][:, kernel * 2 + k, feature], expected)


def test_a_text_without_tokens_has_finite_logits():
    model = make_model("hiagm, LA, TextRCNN", make_tree())
    batch = {"input_ids": torch.zeros(2, 3, dtype=torch.long), "attention_mask": torch.tensor([[0, 0, 0], [1, 1, 0]])}
    loss = model(**batch, labels=torch.tensor([[0], [1]])).loss
    loss.backward()
    assert torch.isfinite(model(**batch).logits).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_sizes_of_the_variants():
    dag = make_dag()  # 8 labels, 9 nodes
    text = make_config(dag, node_dim=4, classifier="flatten")
    attention = make_config(dag, node_dim=4, classifier="flatten", variant="la")
    assert (text.num_read_nodes(), attention.num_read_nodes()) == (9, 8)
    assert LabelAttention(attention).out_weight.shape == (8, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"structure_encoder": "gat"}, "`structure_encoder` is 'gat'; allowed are 'gcn', 'tree_lstm'"),
        ({"structure_encoder": "tree_lstm", "node_dim": 5}, "`node_dim` is 5; a TreeLSTM"),
        ({"variant": "both"}, "`variant` is 'both'"),
        ({"variant": "la", "attention_positions": "words"}, "`attention_positions` is 'words'"),
        ({"variant": "la", "attention_positions": "ngrams"}, "a bert encoder has none"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(StrictDataclassError, match=message):
        make_config(make_tree(), **options)
