"""HiMTL with HiTIN in its branches against an ordinary HiTIN classifier in each branch (float64), its options and its size."""

import numpy as np
import pytest
import torch
from branch_models import NYT, RCV1, WOS, awkward, count, make_classifier, make_config, stars
from huggingface_hub.errors import StrictDataclassError
from tiny_models import make_batch, make_dag, make_encoder_config, make_model, make_tree

from hf_htc import HiMTLConfig, HiTINConfig, LabelHierarchy
from hf_htc.models.losses import recursive_regularization
from hf_htc.models.modeling_himtl import HiMTLClassifier
from hf_htc.models.modeling_hitin import HiTINClassifier


TOLERANCE = {"rtol": 1e-9, "atol": 1e-10}


def hitin_heads(classifier, config):
    """An ordinary HiTIN classifier on each branch's own hierarchy, with the classifier's weights, in the order of branches; with
    (head, nodes, label copies) the pairs (our tensor or its part, theirs)."""
    hierarchy, branches, trees = config.get_hierarchy(), config.get_branches(), classifier.branch_heads
    names = ("tree_depth", "hidden_dim", "num_mlp_layers", "tree_pooling", "label_map")
    heads, dim = [], config.hidden_dim
    first = trees.layers[0]
    members = [row.tolist() for row, _ in branches.groups()]
    for number in range(branches.num_branches):
        copies = np.flatnonzero(branches.branch == number)
        nodes = branches.nodes[copies].tolist()
        own = sum(node < hierarchy.num_labels for node in nodes)
        parents = [[nodes.index(p) for p in hierarchy.parents[node] if p in nodes] for node in nodes]
        sub = LabelHierarchy([hierarchy.names[node] for node in nodes], parents, own)
        sub_config = HiTINConfig(
            text_config=config.text_config, hierarchy=sub, transformation_dropout=0.0, readout_dropout=0.0,
            **{name: getattr(config, name) for name in names},
        )  # fmt: skip
        assert sub_config.coding_tree == config.coding_trees[number]
        head = HiTINClassifier(sub_config).double()
        for module in head.modules():
            if hasattr(module, "init_weights"):
                module.init_weights(sub_config)
        place = first.order.tolist().index(number)
        leaves = slice(first.starts[number], first.starts[number] + len(nodes))
        group = next(i for i, row in enumerate(members) if number in row)
        pairs = [
            (trees.projection.weight, slice(place * dim, place * dim + dim), head.projection.weight),
            (trees.projection.bias, slice(place * dim, place * dim + dim), head.projection.bias),
            (trees.map_bias, leaves, head.map_bias),
        ]
        if config.label_map == "dense":
            sizes = [size for _, size in first.groups]
            inside = place - sum(count for count, size in first.groups if size < len(nodes))
            pairs.append((trees.map_weights[sizes.index(len(nodes))], inside, head.map_weight))
        else:
            pairs.append((trees.map_weights[0], leaves, head.map_weight))
        for layer, mlp, theirs in zip(trees.layers[1:], trees.mlps, head.network.layers):
            place = layer.order.tolist().index(number)
            for weight, bias, linear in zip(mlp.weights, mlp.biases, theirs.linears):
                pairs += [(weight, place, linear.weight), (bias, place, linear.bias)]
            for norm, other in zip(mlp.norms, theirs.norms):
                pairs += [(norm.weight, place, other.weight), (norm.bias, place, other.bias)]
                pairs += [(norm.running_mean, place, other.running_mean), (norm.running_var, place, other.running_var)]
        weight = trees.readout.out_weights[group]
        if config.branch_output == "masking":
            head.out_weight = torch.nn.Parameter(torch.empty(weight.shape[1:], dtype=torch.float64))
            head.out_bias = torch.nn.Parameter(torch.zeros(hierarchy.num_labels, dtype=torch.float64))
        pairs.append((weight, members[group].index(number), head.out_weight))
        where = torch.tensor(nodes[:own] if config.branch_output == "masking" else range(own))
        with torch.no_grad():
            head.out_bias[where] = classifier.out_bias[copies[:own]]
            for whole, part, other in pairs:
                other.copy_(whole[part])
        heads.append((head, nodes[:own], where, pairs))
    return heads


@pytest.mark.parametrize("options", [
    {},
    {"tree_depth": 3, "tree_pooling": "max", "label_map": "diagonal", "branch_combine": "mean"},
    {"tree_pooling": "mean", "num_mlp_layers": 1, "bce_mean": "all"},
    {"tree_pooling": "root", "num_mlp_layers": 3, "tree_depth": 3},
    {"tree_pooling": "max", "branch_output": "masking"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize("hierarchy", [make_tree(), make_dag(), awkward()], ids=["tree", "dag", "awkward"])
def test_one_hitin_head_a_branch_gives_the_same(hierarchy, training, options):
    # A probability that drops nothing, but takes the way of the dense map that dropout takes.
    dropout = 1e-15 if training and "label_map" not in options else 0.0
    classifier, config = make_classifier(
        hierarchy, branch_method="hitin", hidden_dim=3, transformation_dropout=dropout, readout_dropout=0.0, **options
    )
    trees = classifier.branch_heads
    generator = torch.Generator().manual_seed(2)
    for name, buffer in trees.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape, generator=generator, dtype=torch.float64) + 0.5)
    heads = hitin_heads(classifier, config)
    text = torch.randn(5, 16, dtype=torch.float64, generator=generator).requires_grad_()
    logits = classifier.train(training)(text)
    outputs = [head.train(training)(text) for head, _, _, _ in heads]
    branches = config.get_branches()
    expected = torch.empty_like(logits)
    for number, ((_, _, where, _), output) in enumerate(zip(heads, outputs)):
        copies = torch.tensor(np.flatnonzero(branches.branch[: logits.shape[1]] == number))
        expected = expected.index_copy(1, copies, output.index_select(1, where))
    torch.testing.assert_close(logits, expected, **TOLERANCE)

    edges = torch.tensor(hierarchy.edges)
    edges = edges[(edges < hierarchy.num_labels).all(1)]
    theirs = 0
    for head, own, _, _ in heads:
        rows = list(range(hierarchy.num_labels)) if config.branch_output == "masking" else own
        local = [[rows.index(p), rows.index(c)] for p, c in edges.tolist() if p in rows and c in rows]
        theirs = theirs + recursive_regularization(head.out_weight, torch.tensor(local, dtype=torch.long).view(-1, 2))
    torch.testing.assert_close(classifier.branch_heads.recursive_regularization(), theirs, **TOLERANCE)

    cotangent = torch.randn(logits.shape, dtype=torch.float64, generator=generator)
    (gradient,) = torch.autograd.grad((logits * cotangent).sum() + trees.recursive_regularization(), text, retain_graph=True)
    ((logits * cotangent).sum() + trees.recursive_regularization()).backward()
    found, text.grad = text.grad, None
    ((expected * cotangent).sum() + theirs).backward()
    torch.testing.assert_close(found, text.grad, rtol=1e-8, atol=1e-10)
    assert torch.equal(found, gradient)
    for _, _, _, pairs in heads:
        for whole, part, other in pairs:
            torch.testing.assert_close(whole[part], other, **TOLERANCE)  # the running statistics have changed alike
            if isinstance(whole, torch.nn.Parameter):
                torch.testing.assert_close(whole.grad[part], other.grad, rtol=1e-8, atol=1e-10)


def test_a_batch_of_one_leaves_the_running_statistics_alone():
    classifier, _ = make_classifier(make_tree(), branch_method="hitin", hidden_dim=3)
    norm = classifier.branch_heads.mlps[0].norms[0]
    before = norm.running_mean.clone()
    classifier.train()(torch.randn(1, 16, dtype=torch.float64))
    assert torch.equal(norm.running_mean, before)
    classifier(torch.randn(2, 16, dtype=torch.float64))
    assert not torch.equal(norm.running_mean, before)


# ---------------------------------------------------------------------------------------------- options and sizes


def test_auto_choices_of_hitin():
    small = make_config(make_tree(), branch_method="hitin")
    assert (small.hidden_dim, small.label_map, small.tree_pooling, small.tree_depth) == (16, "dense", "sum", 2)
    assert small.node_dim is None and small.readout_dropout == 0.5 and small.transformation_dropout == 0.1
    many = stars([8] * 589)
    large = make_config(many, hidden_size=768, branch_method="hitin")
    assert (large.hidden_dim, large.label_map, large.tree_pooling) == (64, "diagonal", "mean")
    assert [len(tree) for tree in large.coding_trees] == [2] * 589
    with torch.device("meta"):
        assert 20_000_000 < count(HiMTLClassifier(large)) < 51_000_000
    with pytest.raises(StrictDataclassError, match="589 branches would have .* parameters; use `branch_output='projection'`"):
        make_config(many, branch_method="hitin", branch_output="masking", hidden_dim=768)
    with pytest.raises(StrictDataclassError, match="`label_map='dense'` would have 2,500,000,000 parameters in 1 branches"):
        make_config(stars([50_000]), branch_method="hitin", label_map="dense", tree_pooling="root", hidden_dim=1, coding_trees=[])


def test_dropout_places_of_hitin():
    def spread(**options):
        model = make_model("himtl, HiTIN", make_tree(), **{"transformation_dropout": 0.0, "readout_dropout": 0.0, **options})
        for module in model.classifier.modules():
            module.training = isinstance(module, torch.nn.Dropout)
        model.classifier.branch_heads.training = True
        torch.manual_seed(0)
        with torch.no_grad():
            return torch.stack([model(**make_batch()).logits for _ in range(10)])

    assert spread().std(0).max() < 1e-6
    for options in ({"transformation_dropout": 0.5}, {"transformation_dropout": 0.5, "label_map": "diagonal"},
                    {"readout_dropout": 0.5}):  # fmt: skip
        assert spread(**options).std(0).min() > 0


@pytest.mark.parametrize(("sizes", "hitin", "himtl"), [(RCV1, 3.21, 12.08), (WOS, 3.30, 21.04), (NYT, 3.37, 12.23)])
def test_hitin_grows_with_the_branches(sizes, hitin, himtl):
    """Its networks do not depend on the number of labels, so that Eq. 4 does not hold; our K + 1 biases are one."""
    hierarchy, text_config = stars(sizes), make_encoder_config(hidden_size=768, num_attention_heads=12)
    with torch.device("meta"):
        whole = HiTINClassifier(HiTINConfig(text_config=text_config, hierarchy=hierarchy, pooling="cls"))
        config = HiMTLConfig(text_config=text_config, hierarchy=hierarchy, pooling="cls", branch_method="hitin")
        split = HiMTLClassifier(config)
    assert (config.hidden_dim, config.tree_depth, config.label_map, config.tree_pooling) == (768, 2, "dense", "sum")
    assert round((count(whole) + 2 * sum(sizes)) / 1e6, 2) == hitin
    assert round((count(split) + 2 * sum(sizes)) / 1e6, 2) == himtl
