"""HiMTL against the numbers of the paper's equations (float64) and against an ordinary HiAGM head in each branch."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from branch_models import NYT, RCV1, WOS, awkward, count, make_classifier, make_config, stars
from huggingface_hub.errors import StrictDataclassError
from tiny_models import (
    ids_tensor,
    make_batch,
    make_dag,
    make_encoder_config,
    make_hierarchy,
    make_label_sets,
    make_model,
    make_tree,
)

from hf_htc import HiAGMConfig, HiMTLConfig, HiMTLForHierarchicalTextClassification, LabelHierarchy
from hf_htc.models.himtl_branches import BranchCombination, Branches
from hf_htc.models.labels import label_log_odds, label_statistics
from hf_htc.models.losses import multi_label_bce
from hf_htc.models.modeling_hiagm import TextPropagation
from hf_htc.models.modeling_himtl import HiMTLClassifier


FIXTURES = Path(__file__).parent.parent / "fixtures"
TOLERANCE = {"rtol": 1e-9, "atol": 1e-10}
# The 9 labels of the fixture; X lies in the branches of B and of C.
EDGES = [("Root", "A"), ("Root", "B"), ("Root", "C"), ("A", "A1"), ("A", "A2"), ("B", "B1"), ("B", "B2"), ("B", "X"),
         ("C", "X"), ("C", "C1")]  # fmt: skip


def fixture():
    arrays = np.load(FIXTURES / "global" / "himtl_combine_paper.npz")
    hierarchy = LabelHierarchy.from_edges(EDGES, labels=arrays["labels"].tolist())
    branches = Branches(hierarchy)
    full = torch.tensor(np.stack([arrays[f"logits_branch{i}_full"] for i in range(3)]))  # (R, B, N)
    logits = torch.stack([full[r, :, n] for n, r in zip(branches.nodes, branches.branch)], dim=1)  # (B, K)
    return arrays, branches, logits


def combination(branches, combine="max"):
    module = BranchCombination(branches, combine).double()
    module.init_weights(None)
    return module


# ---------------------------------------------------------------------------------------------- the paper's equations


def test_branches_of_the_fixture():
    arrays, branches, logits = fixture()
    for i in range(3):
        assert branches.nodes[branches.branch == i].tolist() == arrays[f"branch{i}_label_ids"].tolist()
        own = torch.tensor(branches.branch == i)
        torch.testing.assert_close(logits[:, own], torch.tensor(arrays[f"logits_branch{i}_projected"]))
        assert arrays["branch_mask"][i].nonzero()[0].tolist() == arrays[f"branch{i}_label_ids"].tolist()
    assert np.bincount(branches.nodes).tolist() == arrays["covering_branches"].tolist()


@pytest.mark.parametrize("combine", ["max", "mean"])
def test_combined_probabilities(combine):
    arrays, branches, logits = fixture()
    logits.requires_grad_()
    name = {"max": "combined_max", "mean": "combined_mean_over_covering_branches"}[combine]
    module = combination(branches, combine)
    combined = module(logits)
    torch.testing.assert_close(torch.sigmoid(combined), torch.tensor(arrays[name]), **TOLERANCE)
    assert torch.autograd.gradcheck(module, logits)
    # As the models' outputs with a mask: those outside are 0 and no maximum.
    masked = torch.tensor(np.stack([arrays[f"logits_branch{i}_full"] for i in range(3)])).sigmoid()
    masked = masked * torch.tensor(arrays["branch_mask"])[:, None]
    expected = masked.amax(0) if combine == "max" else masked.sum(0) / torch.tensor(arrays["covering_branches"])
    torch.testing.assert_close(torch.sigmoid(combined), expected, **TOLERANCE)


def test_a_sum_is_for_trees():
    arrays, branches, logits = fixture()
    assert arrays["combined_sum"].max() > 1  # no probability
    shared = arrays["covering_branches"] > 1
    assert (arrays["combined_sum"] > 1).any(0).tolist() == shared.tolist()
    with pytest.raises(StrictDataclassError, match="'X' lies in several, .* use 'max' or 'mean'"):
        make_config(LabelHierarchy.from_edges(EDGES), branch_combine="sum")
    with pytest.raises(StrictDataclassError, match="`branch_combine='sum'` is for branches that share no label, but 'tax'"):
        make_config(make_dag(), branch_combine="sum")
    models = [make_model("himtl", make_tree(), branch_combine=combine) for combine in ("sum", "max", "mean")]
    first, *others = [model(**make_batch()).logits for model in models]
    assert all(torch.equal(first, other) for other in others)  # one branch a label


@pytest.mark.parametrize(
    ("over", "reading"), [("branch", "projection_mean_over_branch_labels"), ("branch", "mask_mean_over_branch_labels"),
                          ("all", "mask_mean_over_all_labels")]
)  # fmt: skip
def test_loss_over_branches(over, reading):
    arrays, branches, logits = fixture()
    module, logits = combination(branches), logits.requires_grad_()
    targets = module.to_copies(torch.tensor(arrays["targets"]))
    loss = multi_label_bce(logits, targets, module.label_weights(over, torch.float64))
    torch.testing.assert_close(loss, torch.tensor(arrays[f"loss_total_{reading}"]).squeeze(), **TOLERANCE)
    (gradient,) = torch.autograd.grad(loss, logits)
    size = torch.tensor([9 if over == "all" else int((branches.branch == r).sum()) for r in branches.branch])
    torch.testing.assert_close(gradient, (logits.sigmoid() - targets).detach() / size / len(targets), **TOLERANCE)
    if over == "all":  # masked logits, as another reading has it, add a constant: ln 2 for each label outside
        outside = sum(9 - size for size in branches.label_counts)
        expected = torch.tensor(arrays["loss_total_mask_on_logits_mean_over_all_labels"]).squeeze()
        torch.testing.assert_close(loss + outside / 9 * np.log(2), expected, **TOLERANCE)


# ---------------------------------------------------------------------------------------------- branches


@pytest.mark.parametrize("hierarchy", [make_tree(), make_dag(), awkward(), LabelHierarchy(["one"], [[]])])
def test_branches_against_loops(hierarchy):
    branches = Branches(hierarchy)
    rows = [sorted({top, *hierarchy.descendants(top)}) for top in range(hierarchy.num_nodes) if not hierarchy.parents[top]]
    rows = [row for row in rows if any(node < hierarchy.num_labels for node in row)]
    copies = sorted((node, number) for number, row in enumerate(rows) for node in row)
    assert list(zip(branches.nodes.tolist(), branches.branch.tolist())) == copies
    assert branches.num_label_copies == sum(node < hierarchy.num_labels for node, _ in copies)
    assert branches.node_counts.tolist() == [len(row) for row in rows]
    assert branches.label_counts.tolist() == [sum(node < hierarchy.num_labels for node in row) for row in rows]
    edges = {
        ((p, number), (c, number)): edge
        for edge, (p, c) in enumerate(hierarchy.edges.tolist())
        for number, row in enumerate(rows)
        if p in row
    }
    found = {(copies[p], copies[c]): edge for (p, c), edge in zip(branches.edges.tolist(), branches.edge_ids.tolist())}
    assert found == edges and len(branches.edges) == len(edges)
    seen = []
    for members, matrix in branches.groups():
        for number, row in zip(members.tolist(), matrix.tolist()):
            assert [copies[i] for i in row] == [(node, number) for node in rows[number]]
            seen.append(number)
    assert sorted(seen) == list(range(len(rows)))
    if hierarchy.is_tree and hierarchy.num_nodes == hierarchy.num_labels:
        assert branches.nodes.tolist() == list(range(hierarchy.num_labels))
    again = branches.as_hierarchy()
    assert again.num_labels == branches.num_label_copies and len(again.top_nodes) == len(rows)
    assert sorted(map(tuple, again.edges.tolist())) == sorted(map(tuple, branches.edges.tolist()))


def test_hand_computed_means():
    module = combination(Branches(LabelHierarchy.from_edges(EDGES)), "mean")
    names = LabelHierarchy.from_edges(EDGES).names
    logits = torch.zeros(1, 10, dtype=torch.float64)
    first, second = [i for i, label in enumerate(module.label_ids.tolist()) if names[label] == "X"]
    logits[0, first], logits[0, second] = np.log(0.9 / 0.1), np.log(0.5 / 0.5)
    assert torch.sigmoid(module(logits))[0, names.index("X")].item() == pytest.approx(0.7)
    assert module(logits)[0, names.index("A")] == 0


def test_the_mean_stays_exact_where_sigmoids_round():
    module = combination(Branches(LabelHierarchy.from_edges(EDGES)), "mean").float()
    x = module.label_ids == LabelHierarchy.from_edges(EDGES).id("X")
    logits = torch.full((4, 10), 1e-12)
    logits[:, x] = torch.tensor([[200.0, 200.0], [-200.0, -200.0], [300.0, -300.0], [30.0, 31.0]])
    logits[0, ~x] = 500.0
    mean = module(logits)
    x = LabelHierarchy.from_edges(EDGES).id("X")
    assert torch.isfinite(mean).all() and (mean[:, 0] > 0).all()  # a branch alone keeps its logit, be it ever so small
    assert mean[0, 0] == 500
    expected = -np.log((np.exp(-30.0) + np.exp(-31.0)) / 2)  # of the mean of what is missing to 1
    torch.testing.assert_close(mean[:, x], torch.tensor([200.0, -200.0, 0.0, float(expected)]), rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------------------------------- a HiAGM head a branch


def branch_heads(classifier, config):
    """An ordinary HiAGM-TP head on each branch's own hierarchy, with the classifier's weights; (head, nodes, copies)."""
    hierarchy, branches, propagation = config.get_hierarchy(), config.get_branches(), classifier.branch_heads
    dim, heads = config.node_dim, []
    dense = {}
    if config.classifier == "flatten":
        for (members, _), weight in zip(branches.groups(), propagation.readout.out_weights):
            dense |= {int(number): weight[i] for i, number in enumerate(members)}
    for number in range(branches.num_branches):
        copies = np.flatnonzero(branches.branch == number)
        nodes = branches.nodes[copies].tolist()
        own = sum(node < hierarchy.num_labels for node in nodes)
        parents = [[nodes.index(p) for p in hierarchy.parents[node] if p in nodes] for node in nodes]
        sub = LabelHierarchy([hierarchy.names[node] for node in nodes], parents, own)
        options = {key: getattr(config, key) for key in ("node_dim", "classifier", "num_structure_layers")}
        sub_config = HiAGMConfig(text_config=config.text_config, hierarchy=sub, **options)
        head = TextPropagation(sub_config).double().eval()
        head.init_weights(sub_config)
        edges = {tuple(edge): i for i, edge in enumerate(branches.edges.tolist())}
        edges = [edges[int(copies[p]), int(copies[c])] for p, c in sub.edges.tolist()]
        rows = (copies[:, None] * dim + np.arange(dim)).reshape(-1)
        with torch.no_grad():
            head.transformation.weight.copy_(propagation.transformation.weight[rows])
            head.transformation.bias.copy_(propagation.transformation.bias[rows])
            for layer, whole in zip(head.structure_encoder, propagation.structure_encoder):
                layer.init_weights(sub_config)
                for direction, place in (("up", 0), ("down", 1)):
                    getattr(layer, f"weight_{direction}").copy_(getattr(whole, f"weight_{direction}")[edges])
                    getattr(layer, f"bias_{direction}").copy_(getattr(whole, f"bias_{direction}")[copies])
                    getattr(layer, f"gate_bias_{direction}").copy_(getattr(whole, f"gate_bias_{direction}")[copies])
                    getattr(layer, f"gate_weight_{direction}").copy_(whole.gate_weight[number, :, place])
                layer.gate_weight_self.copy_(whole.gate_weight[number, :, 2])
            weight = dense[number] if dense else propagation.readout.out_weight[copies[:own]]
            head.out_weight = torch.nn.Parameter(weight.detach().clone())
            bias = torch.zeros(len(weight), dtype=torch.float64)
            where = nodes[:own] if config.branch_output == "masking" else range(own)
            bias[torch.tensor(where)] = classifier.out_bias[copies[:own]]
            head.out_bias = torch.nn.Parameter(bias)
        heads.append((head, nodes, copies, (rows, edges, where)))
    return heads


@pytest.mark.parametrize("options", [
    {"classifier": "flatten"},
    {"classifier": "node", "branch_combine": "mean"},
    {"classifier": "flatten", "num_structure_layers": 2, "bce_mean": "all"},
    {"branch_output": "masking"},
    {"branch_output": "masking", "bce_mean": "branch", "branch_combine": "mean"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("hierarchy", [make_tree(), make_dag(), awkward()], ids=["tree", "dag", "awkward"])
def test_one_hiagm_head_a_branch_gives_the_same(hierarchy, options):
    options = {"l2_regularization": 0.01, "recursive_regularization": 0.1, "node_dim": 3, "bce_mean": "auto", **options}
    classifier, config = make_classifier(hierarchy, **options)
    text = torch.randn(4, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    targets = torch.zeros(4, hierarchy.num_labels, dtype=torch.float64)
    for row, labels in enumerate(make_label_sets(hierarchy, 4)):
        targets[row, labels] = 1
    logits = classifier(text)
    combined = classifier.combination(logits)
    weights = classifier.combination.label_weights(config.bce_mean, torch.float64)
    loss = multi_label_bce(logits, classifier.combination.to_copies(targets), weights)
    loss = loss + 0.01 * classifier.branch_heads.l2_regularization()
    loss = loss + 0.1 * classifier.branch_heads.recursive_regularization()
    loss.backward()
    ours, text = text, text.detach().clone().requires_grad_()

    heads = branch_heads(classifier, config)
    expected, probabilities = 0, []
    for head, nodes, _, _ in heads:
        outputs = head(text).sigmoid()
        own = [node for node in nodes if node < hierarchy.num_labels]
        mask = torch.zeros(hierarchy.num_labels, dtype=torch.float64)
        mask[own] = 1
        if config.branch_output == "masking":  # the paper's words: outputs and targets times the mask, then the cross-entropy
            masked = outputs * mask
            labels = list(range(hierarchy.num_labels))
        else:
            masked = torch.zeros(4, hierarchy.num_labels, dtype=torch.float64).index_copy(1, torch.tensor(own), outputs)
            labels = own
        bce = torch.nn.functional.binary_cross_entropy(masked, targets * mask, reduction="sum") / 4
        expected = expected + bce / (len(own) if config.bce_mean == "branch" else hierarchy.num_labels)
        expected = expected + 0.01 * (head.transformation.weight.square().sum() + head.out_weight.square().sum())
        for p, c in hierarchy.edges.tolist():
            if p in labels and c in labels:
                difference = head.out_weight[labels.index(p)] - head.out_weight[labels.index(c)]
                expected = expected + 0.1 * 0.5 * difference.square().sum()
        probabilities.append(torch.where(mask > 0, masked, torch.nan))
    probabilities = torch.stack(probabilities)
    best = probabilities.nanmean(0) if config.branch_combine == "mean" else probabilities.nan_to_num(-1).amax(0)
    torch.testing.assert_close(combined.sigmoid(), best, **TOLERANCE)
    torch.testing.assert_close(loss, expected, **TOLERANCE)

    expected.backward()
    torch.testing.assert_close(ours.grad, text.grad, **TOLERANCE)
    propagation = classifier.branch_heads
    for number, (head, _, copies, (rows, edges, where)) in enumerate(heads):
        close = lambda found, wanted: torch.testing.assert_close(found, wanted, **TOLERANCE)  # noqa: E731
        close(propagation.transformation.weight.grad[rows], head.transformation.weight.grad)
        close(propagation.transformation.bias.grad[rows], head.transformation.bias.grad)
        close(classifier.out_bias.grad[copies[: len(where)]], head.out_bias.grad[torch.tensor(where)])
        for layer, whole in zip(head.structure_encoder, propagation.structure_encoder):
            close(whole.weight_up.grad[edges], layer.weight_up.grad)
            close(whole.weight_down.grad[edges], layer.weight_down.grad)
            close(whole.bias_up.grad[copies], layer.bias_up.grad)
            close(whole.gate_bias_down.grad[copies], layer.gate_bias_down.grad)
            gates = [layer.gate_weight_up.grad, layer.gate_weight_down.grad, layer.gate_weight_self.grad]
            close(whole.gate_weight.grad[number], torch.stack(gates, dim=1))
        if config.classifier == "node":
            close(propagation.readout.out_weight.grad[copies[: len(where)]], head.out_weight.grad)
    if config.classifier == "flatten":
        for (members, _), weight in zip(config.get_branches().groups(), propagation.readout.out_weights):
            for i, number in enumerate(members):
                torch.testing.assert_close(weight.grad[i], heads[number][0].out_weight.grad, **TOLERANCE)


def test_masked_outputs_are_seen_by_the_regularization_alone():
    classifier, _ = make_classifier(make_tree(), branch_output="masking", node_dim=3)
    readout = classifier.branch_heads.readout
    classifier(torch.randn(4, 16, dtype=torch.float64)).square().sum().backward()
    used = torch.cat([(weight.grad != 0).any(2).flatten(0, 1) for weight in readout.out_weights])
    assert int(used.sum()) == 13 and len(used) == 4 * 13
    classifier.zero_grad()
    classifier.branch_heads.l2_regularization().backward()
    assert all((weight.grad != 0).all() for weight in readout.out_weights)


# ---------------------------------------------------------------------------------------------- priors


@pytest.mark.parametrize("kind", ["ratio", "sibling"])
def test_branches_start_at_the_priors_of_the_training_labels(kind):
    hierarchy = make_dag()
    sets = [[0, 1], [0, 7, 1, 2], [3], [3, 0], [4, 5, 7], [1], [6]]
    classifier, config = make_classifier(hierarchy, node_dim=4, prior=kind)
    statistics = label_statistics(sets, hierarchy)
    classifier.set_label_statistics(statistics)
    branches = config.get_branches()
    prior = classifier.branch_heads.structure_encoder[0].weight_down.tolist()
    assert len(prior) == len(branches.edges) > len(hierarchy.edges)
    for number, (upper, lower) in enumerate(branches.edges.tolist()):
        p, c = branches.nodes[upper], branches.nodes[lower]
        if p >= hierarchy.num_labels:
            expected = 1 / len(hierarchy.children[p])
        elif kind == "ratio":
            of_parent = sum(p in row for row in sets)
            expected = min(1.0, sum(c in row for row in sets) / of_parent)
        else:
            both = {k: sum(p in row and k in row for row in sets) for k in hierarchy.children[p]}
            expected = both[c] / sum(both.values())
        assert prior[number] == pytest.approx(expected)
    log_odds = label_log_odds(statistics).double()
    assert classifier.out_bias.tolist() == log_odds[torch.tensor(branches.nodes[: branches.num_label_copies])].tolist()
    for combine in ("max", "mean"):  # so that every label starts at its prior, whatever the combination
        torch.testing.assert_close(combination(branches, combine)(classifier.out_bias[None])[0], log_odds)


# ---------------------------------------------------------------------------------------------- coherence


def test_the_max_constraint_holds_inside_each_branch():
    hierarchy = make_dag()
    model = make_model("himtl", hierarchy, coherence="training", recursive_regularization=0.0)
    with torch.no_grad():
        model.classifier.out_bias.copy_(torch.linspace(-2, 2, len(model.classifier.out_bias)))  # children above their parents
    plain = copy.deepcopy(model)
    plain.config.coherence, plain.coherence = "none", None
    batch, sets = make_batch(), make_label_sets(hierarchy, 4)
    output = model(**batch, labels=ids_tensor(sets))
    assert set(output.losses) == {"bce"}
    branches = model.config.get_branches()
    with torch.no_grad():
        text = model.text_vectors(model.encode(**batch))
        scores = model.classifier(text).sigmoid().tolist()
    expected = 0.0
    for row, labels in zip(scores, sets):
        for node, number in zip(branches.nodes[: len(row)].tolist(), branches.branch.tolist()):
            below = [j for j in range(len(row)) if branches.branch[j] == number
                     and branches.nodes[j] in (node, *hierarchy.descendants(node))]  # fmt: skip
            if node in labels:
                value = -np.log(max(row[j] for j in below if branches.nodes[j] in labels))
            else:
                value = -np.log(1 - max(row[j] for j in below))
            expected += value / branches.label_counts[number] / len(sets)
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)
    assert plain(**batch, labels=ids_tensor(sets)).loss.item() != pytest.approx(expected, rel=1e-3)
    edges = [(p, c) for p, c in hierarchy.edges.tolist() if p < hierarchy.num_labels]
    assert all((output.logits[:, p] >= output.logits[:, c]).all() for p, c in edges)
    assert not torch.equal(plain(**batch).logits, output.logits)
    with pytest.raises(ValueError, match="a label without its ancestors"):
        model(**batch, labels=torch.tensor([[2]] * 4))


# ---------------------------------------------------------------------------------------------- options


def test_auto_choices():
    small = make_config(make_tree())
    assert (small.node_dim, small.classifier, small.bce_mean, small.combine) == (300, "flatten", "branch", "max")
    assert make_config(make_tree(), branch_output="masking").bce_mean == "all"
    assert small.recursive_regularization == 1e-6 and small.l2_regularization == 0
    number = 2_400
    one_branch = LabelHierarchy([f"n{i}" for i in range(number)], [[]] + [[0]] * (number - 1))
    assert make_config(one_branch, node_dim=300).classifier == "node"
    many = LabelHierarchy([f"n{i}" for i in range(number)], [[] if i % 4 == 0 else [i - i % 4] for i in range(number)])
    assert make_config(many, node_dim=300).classifier == "flatten"  # 600 branches of 4 labels
    number = 30_000
    alone = LabelHierarchy([f"n{i}" for i in range(number)], [[]] * number)
    large = make_config(alone, hidden_size=768)
    assert large.node_dim == 8 and number * 8 * 768 <= 200_000_000


def test_branches_without_a_label_count_for_nothing():
    hierarchy = LabelHierarchy(["a", "b", "x", "y"], [[], [0], [], [2]], num_labels=2)
    with_it, without = make_config(hierarchy), make_config(LabelHierarchy(["a", "b"], [[], [0]]))
    classifiers = [HiMTLClassifier(config) for config in (with_it, without)]
    sizes = [sum(parameter.numel() for parameter in classifier.parameters()) for classifier in classifiers]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"branch_method": "himatch"}, "`branch_method` is 'himatch'; allowed are 'hiagm'"),
        ({"branch_output": "both"}, "`branch_output` is 'both'"),
        ({"branch_combine": "min"}, "`branch_combine` is 'min'"),
        ({"bce_mean": "labels"}, "`bce_mean` is 'labels'; .* and 'auto'"),
        ({"l2_regularization": -0.1}, "`l2_regularization` is -0.1"),
        ({"recursive_regularization": -1.0}, "`recursive_regularization` is -1.0"),
        ({"node_dim": 0}, "`node_dim` is 0"),
        ({"node_dim": "wide"}, "`node_dim` is 'wide'"),
        ({"classifier": "dense"}, "`classifier` is 'dense'"),
        ({"prior": "none"}, "`prior` is 'none'"),
        ({"num_structure_layers": 0}, "`num_structure_layers` is 0"),
        ({"structure_dropout": 1.0}, "`structure_dropout` is 1.0"),
        ({"branch_output": "masking", "classifier": "node"}, "needs `classifier='flatten'`"),
        ({"tree_depth": 3}, "`tree_depth` is an option of `branch_method='hitin'`, but `branch_method` is 'hiagm'"),
        (
            {"branch_method": "hitin", "node_dim": 8},
            "`node_dim` is an option of `branch_method='hiagm'`, but `branch_method` is 'hitin'",
        ),
        ({"branch_method": "hitin", "train_edge_weights": False}, "`train_edge_weights` is an option of `branch_method='hiagm'`"),
        ({"branch_method": "hitin", "tree_depth": 1}, "`tree_depth` is 1; it is at least 2"),
        ({"branch_method": "hitin", "num_mlp_layers": 0}, "`num_mlp_layers` is 0"),
        ({"branch_method": "hitin", "hidden_dim": 0}, "`hidden_dim` is 0"),
        ({"branch_method": "hitin", "tree_pooling": "min"}, "`tree_pooling` is 'min'; .* and 'auto'"),
        ({"branch_method": "hitin", "label_map": "full"}, "`label_map` is 'full'"),
        ({"branch_method": "hitin", "readout_dropout": 1.0}, "`readout_dropout` is 1.0"),
        ({"branch_method": "hitin", "coding_trees": [[[0], [0]]]}, "`coding_trees` is no list of 4 trees"),
        ({"branch_method": "hitin", "coding_trees": [[[0], [0]]] * 4}, "does not fit branch 0: Layer 0 .* has 1 nodes"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(StrictDataclassError, match=message):
        make_config(make_tree(), **options)


def test_classifiers_that_cannot_fit_are_refused():
    number = 4271
    one_branch = LabelHierarchy([f"n{i}" for i in range(number)], [[]] + [[0]] * (number - 1))
    with pytest.raises(StrictDataclassError, match=r"1 branches would have 5,472,432,300 parameters; use `classifier='node'`"):
        make_config(one_branch, node_dim=300, classifier="flatten")
    alone = LabelHierarchy([f"n{i}" for i in range(number)], [[]] * number)
    assert make_config(alone, node_dim=300).classifier == "flatten"
    with pytest.raises(
        StrictDataclassError, match=r"4,271 branches would have 5,472,432,300 parameters; use `branch_output='projec"
    ):
        make_config(alone, node_dim=300, branch_output="masking")


def test_options_of_the_structure_encoder_that_branches_do_not_have():
    for name, value in (("structure_encoder", "tree_lstm"), ("variant", "la")):
        with pytest.raises(ValueError, match=f"HiMTLConfig has no option '{name}'"):
            HiMTLForHierarchicalTextClassification.from_text_encoder("nowhere", make_tree(), **{name: value})


def test_dropout_places():
    def spread(**options):
        off = dict(text_dropout=0.0, transformation_dropout=0.0, structure_dropout=0.0)
        model = make_model("himtl", make_tree(), **{**off, **options})
        model.model.eval()
        model.classifier.train()
        model.text_dropout.train()
        torch.manual_seed(0)
        with torch.no_grad():
            return torch.stack([model(**make_batch()).logits for _ in range(10)])

    assert spread().std(0).max() < 1e-6
    for place in ("text_dropout", "transformation_dropout", "structure_dropout"):
        assert spread(**{place: 0.5}).std(0).min() > 0


def test_frozen_edge_weights_and_stacked_layers():
    frozen = make_model("himtl", make_tree(), train_edge_weights=False, num_structure_layers=2)
    layers = frozen.classifier.branch_heads.structure_encoder
    assert len(layers) == 2 and not any(p.requires_grad for layer in layers for p in (layer.weight_up, layer.weight_down))
    assert make_model("himtl", make_tree()).classifier.branch_heads.structure_encoder[0].weight_down.requires_grad


def test_regularization_enters_the_loss():
    labels = torch.tensor([[0], [1], [2], [3]])
    none = make_model("himtl", make_tree(), recursive_regularization=0.0)(**make_batch(), labels=labels)
    assert set(none.losses) == {"bce"}
    for options in ({}, {"branch_output": "masking", "bce_mean": "branch"}, {"classifier": "node"}):
        model = make_model("himtl", make_tree(), recursive_regularization=0.5, l2_regularization=0.25, **options)
        output = model(**make_batch(), labels=labels)
        heads = model.classifier.branch_heads
        l2 = sum(float(w.square().sum()) for w in (heads.transformation.weight, *heads.readout.parameters()))
        assert float(output.losses["l2_regularization"]) == pytest.approx(0.25 * l2, rel=1e-5)
        recursive = float(heads.recursive_regularization())
        assert float(output.losses["recursive_regularization"]) == pytest.approx(0.5 * recursive, rel=1e-5) and recursive > 0
        assert float(output.loss) == pytest.approx(float(sum(output.losses.values())), rel=1e-6)


# ---------------------------------------------------------------------------------------------- sizes (Eq. 4)


@pytest.mark.parametrize(("sizes", "hiagm", "himtl"), [(RCV1, 27.03, 24.74), (WOS, 38.62, 33.91), (NYT, 46.72, 41.39)])
def test_parameters_of_the_papers_hierarchies(sizes, hiagm, himtl):
    """Millions of parameters behind BERT, counted as in the authors' modules, whose edges are dense matrices."""
    hierarchy = stars(sizes)
    text_config = make_encoder_config(hidden_size=768, num_attention_heads=12)
    with torch.device("meta"):
        whole = TextPropagation(HiAGMConfig(text_config=text_config, hierarchy=hierarchy, pooling="cls"))
        config = HiMTLConfig(text_config=text_config, hierarchy=hierarchy, pooling="cls")
        split = HiMTLClassifier(config)

    assert config.classifier == "flatten" and config.node_dim == 300
    dense = [2 * sum(n * n for n in rows) - 2 * len(hierarchy.edges) for rows in ([sum(sizes)], sizes)]
    assert round((count(whole) + dense[0]) / 1e6, 2) == hiagm
    assert round((count(split) + dense[1]) / 1e6, 2) == himtl


@pytest.mark.parametrize("kind", ["tree", "dag"])
def test_another_order_of_documents_and_branches_changes_nothing(kind):
    hierarchy = make_hierarchy(kind)
    model = make_model("himtl", hierarchy)
    batch = make_batch()
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        torch.testing.assert_close(model(**{k: v[order] for k, v in batch.items()}).logits, model(**batch).logits[order])
