"""HiAGM against the numbers of the authors' own modules (float64), gradients included, and against plain loops."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_models import make_batch, make_dag, make_encoder_config, make_model, make_tree

from hf_htc import HiAGMConfig, LabelHierarchy
from hf_htc.models.graph_encoders import HierarchyGCN, edge_prior
from hf_htc.models.labels import label_statistics
from hf_htc.models.losses import multi_label_bce, recursive_regularization
from hf_htc.models.modeling_hiagm import TextPropagation


FIXTURES = Path(__file__).parent.parent / "fixtures" / "global"
PRIOR = json.loads((FIXTURES / "hiagm_prior.json").read_text())
TOLERANCE = {"rtol": 1e-9, "atol": 1e-10}


def fixture_hierarchy():
    return LabelHierarchy.from_edges([(p, c) for p, row in PRIOR["taxonomy"].items() for c in row], labels=PRIOR["labels"])


def load(name):
    arrays = np.load(FIXTURES / f"{name}.npz")
    return {key: torch.tensor(arrays[key]) for key in arrays}


def make_config(hierarchy, hidden_size=16, **options):
    return HiAGMConfig(
        text_config=make_encoder_config(hidden_size=hidden_size, num_attention_heads=1), hierarchy=hierarchy, **options
    )


def load_gcn(gcn, hierarchy, numbers, prefix=""):
    """Puts the fixture's dense weights into the sparse module; returns name -> how to read the dense gradient."""
    parent, child = hierarchy.edges.T
    read = {
        "w_bottom_up": ("weight_up", lambda x: x[parent, child]),
        "w_top_down": ("weight_down", lambda x: x[child, parent]),
        "b_bottom_up": ("bias_up", lambda x: x),
        "b_top_down": ("bias_down", lambda x: x),
        "gate_w_bottom_up": ("gate_weight_up", lambda x: x[:, 0]),
        "gate_b_bottom_up": ("gate_bias_up", lambda x: x[:, 0]),
        "gate_w_top_down": ("gate_weight_down", lambda x: x[:, 0]),
        "gate_b_top_down": ("gate_bias_down", lambda x: x[:, 0]),
        "gate_w_self": ("gate_weight_self", lambda x: x[:, 0]),
    }
    with torch.no_grad():
        gcn.parent_index.copy_(torch.tensor(parent))
        gcn.child_index.copy_(torch.tensor(child))
        for name, (ours, convert) in read.items():
            getattr(gcn, ours).copy_(convert(numbers[prefix + name]))
    return read


def test_hierarchy_gcn_and_its_gradients():
    numbers, hierarchy = load("hiagm_gcn"), fixture_hierarchy()
    gcn = HierarchyGCN(make_config(hierarchy, node_dim=numbers["input"].shape[-1])).double().eval()
    read = load_gcn(gcn, hierarchy, numbers)
    nodes = numbers["input"].clone().requires_grad_()
    output = gcn(nodes)
    torch.testing.assert_close(output, numbers["output"], **TOLERANCE)
    (output * numbers["cotangent"]).sum().backward()
    torch.testing.assert_close(nodes.grad, numbers["grad_input"], **TOLERANCE)
    for name, (ours, convert) in read.items():
        torch.testing.assert_close(getattr(gcn, ours).grad, convert(numbers[f"grad_{name}"]), **TOLERANCE)


def test_initial_edge_weights_are_the_prior_and_one():
    numbers, hierarchy = load("hiagm_gcn"), fixture_hierarchy()
    config = make_config(hierarchy, node_dim=numbers["input"].shape[-1], prior="sibling")
    gcn = HierarchyGCN(config).double().eval()
    load_gcn(gcn, hierarchy, numbers)
    gcn.init_weights(config)
    sets = hierarchy.encode(PRIOR["train"] + PRIOR["val"])
    gcn.set_label_statistics(label_statistics(sets, hierarchy), config)
    up, down = gcn.weight_up.detach().clone(), gcn.weight_down.detach().clone()
    parent, child = hierarchy.edges.T
    torch.testing.assert_close(up, torch.tensor(PRIOR["A_bottom_up"], dtype=torch.float64)[parent, child])
    torch.testing.assert_close(down, torch.tensor(PRIOR["A_top_down"], dtype=torch.float64)[child, parent], rtol=1e-6, atol=1e-7)
    load_gcn(gcn, hierarchy, numbers)
    with torch.no_grad():
        gcn.weight_up.copy_(numbers["A_bottom_up_init"][parent, child])
        gcn.weight_down.copy_(numbers["A_top_down_init"][child, parent])
    torch.testing.assert_close(gcn(numbers["input"]), numbers["output_with_init_edge_weights"], **TOLERANCE)


def test_prior_probabilities():
    hierarchy = fixture_hierarchy()
    statistics = label_statistics(hierarchy.encode(PRIOR["train"] + PRIOR["val"]), hierarchy)
    names = hierarchy.names
    assert dict(zip(names, statistics["counts"].tolist())) == PRIOR["label_counts_train_plus_val"]
    assert not statistics["closed"]  # one document of the fixture lacks an ancestor
    counts = PRIOR["cooccurrence_counts_train_plus_val"]
    expected = [counts.get(names[p], {}).get(names[c], 0) for p, c in hierarchy.edges]
    assert statistics["edge_counts"].tolist() == expected
    sibling, ratio = (edge_prior(statistics, hierarchy, kind) for kind in ("sibling", "ratio"))
    for number, (p, c) in enumerate(hierarchy.edges):
        assert sibling[number] == pytest.approx(PRIOR["prior"][names[p]][names[c]], rel=1e-6)
        assert ratio[number] == pytest.approx(min(1.0, PRIOR["paper_style_Nchild_over_Nparent"][names[p]][names[c]]), rel=1e-6)


def test_prior_on_a_dag_with_structure_only_nodes_against_loops():
    hierarchy = make_dag()
    sets = [[0, 1], [0, 7, 1, 2], [3], [3, 0], [4, 5, 7], [1], [6]]
    statistics = label_statistics(sets, hierarchy)
    for kind in ("ratio", "sibling"):
        prior = edge_prior(statistics, hierarchy, kind).tolist()
        for number, (p, c) in enumerate(hierarchy.edges.tolist()):
            if p >= hierarchy.num_labels or c >= hierarchy.num_labels:
                expected = 1 / len(hierarchy.children[p])
            elif kind == "ratio":
                of_parent = sum(p in row for row in sets)
                expected = min(1.0, sum(c in row for row in sets) / of_parent) if of_parent else 0.0
            else:
                both = {k: sum(p in row and k in row for row in sets) for k in hierarchy.children[p]}
                expected = both[c] / sum(both.values()) if sum(both.values()) else 0.0
            assert prior[number] == pytest.approx(expected)
    assert edge_prior(None, hierarchy, "ratio").tolist() == pytest.approx(
        [1 / len(hierarchy.children[p]) for p, _ in hierarchy.edges]
    )


def test_text_propagation_head_and_its_gradients():
    numbers, hierarchy = load("hiagm_tp_head"), fixture_hierarchy()
    concat = numbers["text_feature_concat"]
    torch.testing.assert_close(numbers["text_feature_per_kernel"].permute(1, 0, 2).flatten(1), concat)
    config = make_config(hierarchy, hidden_size=concat.shape[1], node_dim=numbers["node_input"].shape[-1], classifier="flatten")
    head = TextPropagation(config).double().eval()
    load_gcn(head.structure_encoder[0], hierarchy, numbers, "gcn_")
    with torch.no_grad():
        head.transformation.weight.copy_(numbers["transformation_weight"])
        head.transformation.bias.copy_(numbers["transformation_bias"])
        head.out_weight.copy_(numbers["classifier_weight"])
        head.out_bias.copy_(numbers["classifier_bias"])
    seen = {}
    head.structure_encoder[0].register_forward_hook(lambda module, args, output: seen.update(input=args[0], output=output))
    logits = head(concat)
    torch.testing.assert_close(seen["input"], numbers["node_input"], **TOLERANCE)
    torch.testing.assert_close(seen["output"], numbers["node_output"], **TOLERANCE)
    torch.testing.assert_close(logits, numbers["logits"], **TOLERANCE)
    assert torch.autograd.gradcheck(head, concat.clone().requires_grad_())


def test_recursive_regularization_and_its_gradient():
    numbers = load("recursive_reg")
    weight, edges = numbers["weight"].requires_grad_(), numbers["edges_parent_child"].long()
    value = recursive_regularization(weight, edges)
    torch.testing.assert_close(value, numbers["value"].squeeze(), **TOLERANCE)
    bce = multi_label_bce(numbers["logits"], numbers["targets"])
    torch.testing.assert_close(bce, numbers["bce_mean"].squeeze(), **TOLERANCE)
    torch.testing.assert_close(bce + numbers["penalty"].squeeze() * value, numbers["total_loss"].squeeze(), **TOLERANCE)
    value.backward()
    expected = torch.zeros_like(weight)
    for p, c in edges.tolist():
        expected[p] += (weight[p] - weight[c]).detach()
        expected[c] += (weight[c] - weight[p]).detach()
    torch.testing.assert_close(weight.grad, expected, **TOLERANCE)
    assert recursive_regularization(weight, edges[:0]) == 0


def test_gcn_on_a_dag_against_loops():
    hierarchy = make_dag()
    config = make_config(hierarchy, node_dim=5)
    gcn = HierarchyGCN(config).double().eval()
    gcn.init_weights(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in gcn.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    nodes = torch.randn(2, hierarchy.num_nodes, 5, generator=generator, dtype=torch.float64)
    output = gcn(nodes)
    edges = hierarchy.edges.tolist()
    for b in range(2):
        for k in range(hierarchy.num_nodes):
            up, down = gcn.bias_up[k].clone(), gcn.bias_down[k].clone()
            for number, (p, c) in enumerate(edges):
                if p == k:
                    up += gcn.weight_up[number] * nodes[b, c]
                if c == k:
                    down += gcn.weight_down[number] * nodes[b, p]
            h = nodes[b, k]
            mixed = torch.sigmoid(h @ gcn.gate_weight_up + gcn.gate_bias_up[k]) * up
            mixed += torch.sigmoid(h @ gcn.gate_weight_down + gcn.gate_bias_down[k]) * down
            mixed += torch.sigmoid(h @ gcn.gate_weight_self) * h
            torch.testing.assert_close(output[b, k], mixed.clamp(min=0))


# ---------------------------------------------------------------------------------------------- options


def test_auto_choices():
    small = make_config(make_tree())
    assert (small.node_dim, small.classifier) == (300, "flatten")
    middle = make_config(LabelHierarchy([f"n{i}" for i in range(500)], [[]] * 500))
    assert (middle.node_dim, middle.classifier) == (300, "node")  # 75 M parameters would be dense
    number = 4_500  # a tiny encoder does not make the nodes wide
    assert make_config(LabelHierarchy([f"n{i}" for i in range(number)], [[]] * number)).node_dim == 256
    number = 30_000
    large = make_config(LabelHierarchy([f"n{i}" for i in range(number)], [[]] * number), hidden_size=768)
    assert large.classifier == "node" and large.node_dim == 8 and number * 8 * 768 <= 200_000_000


def test_a_dense_classifier_that_cannot_fit_is_refused():
    many = LabelHierarchy([f"n{i}" for i in range(4271)], [[]] * 4271)
    with pytest.raises(StrictDataclassError, match=r"would have 5,472,432,300 parameters.*classifier='node'"):
        make_config(many, node_dim=300, classifier="flatten")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"node_dim": 0}, "`node_dim` is 0"),
        ({"node_dim": "wide"}, "`node_dim` is 'wide'"),
        ({"classifier": "dense"}, "`classifier` is 'dense'"),
        ({"prior": "none"}, "`prior` is 'none'"),
        ({"logit_dropout": 1.0}, "`logit_dropout` is 1.0"),
        ({"recursive_regularization": -1.0}, "`recursive_regularization` is -1.0"),
        ({"num_structure_layers": 0}, "`num_structure_layers` is 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(StrictDataclassError, match=message):
        make_config(make_tree(), **options)


def test_the_transformation_starts_by_its_inputs():
    model = make_model("hiagm", make_tree(), make_encoder_config(hidden_size=64, num_attention_heads=2), node_dim=50)
    weight = model.classifier.transformation.weight.detach()
    assert 0.95 * 64**-0.5 < float(weight.abs().max()) <= 64**-0.5


def test_dropout_places():
    def spread(**options):
        off = dict(text_dropout=0.0, transformation_dropout=0.0, structure_dropout=0.0, logit_dropout=0.0)
        model = make_model("hiagm", make_tree(), **{**off, **options})
        model.model.eval()
        model.classifier.train()
        model.text_dropout.train()
        torch.manual_seed(0)
        with torch.no_grad():
            runs = torch.stack([model(**make_batch()).logits for _ in range(20)])
        return runs

    assert spread().std(0).max() < 1e-6
    for place in ("text_dropout", "transformation_dropout", "structure_dropout"):
        runs = spread(**{place: 0.5})
        assert runs.std(0).min() > 0 and (runs == 0).sum() == 0
    zeroed = (spread(logit_dropout=0.5) == 0).float().mean()
    assert 0.4 < zeroed < 0.6  # the released behaviour: half of the logits are zero in training


def test_frozen_edge_weights_stay_at_the_prior():
    model = make_model("hiagm", make_tree(), train_edge_weights=False)
    assert not any(
        parameter.requires_grad for name, parameter in model.named_parameters() if ".weight_up" in name or ".weight_down" in name
    )
    assert make_model("hiagm", make_tree()).classifier.structure_encoder[0].weight_down.requires_grad


def test_stacked_layers_and_node_classifier():
    model = make_model("hiagm", make_tree(), num_structure_layers=2, classifier="node")
    assert len(model.classifier.structure_encoder) == 2
    assert model.classifier.out_weight.shape == (13, 6)
    nodes = torch.randn(3, 13, 6)
    with torch.no_grad():
        for layer in model.classifier.structure_encoder:
            nodes = layer(nodes)
        text = torch.randn(3, 16)
        states = model.classifier.transformation(text).view(3, 13, 6)
        for layer in model.classifier.structure_encoder:
            states = layer(states)
        expected = torch.stack(
            [(states[:, n] @ model.classifier.out_weight[n]) + model.classifier.out_bias[n] for n in range(13)], dim=1
        )
        torch.testing.assert_close(model.classifier(text), expected)


def test_regularization_enters_the_loss():
    labels = torch.tensor([[0], [1], [2], [3]])
    with_it = make_model("hiagm", make_tree(), recursive_regularization=0.5)(**make_batch(), labels=labels)
    without = make_model("hiagm", make_tree(), recursive_regularization=0.0)(**make_batch(), labels=labels)
    assert set(with_it.losses) == {"bce", "recursive_regularization"} and set(without.losses) == {"bce"}
    weight = make_model("hiagm", make_tree()).classifier.out_weight
    edges = [(p, c) for p, c in make_tree().edges.tolist()]
    expected = sum(0.5 * 0.5 * float((weight[p] - weight[c]).square().sum()) for p, c in edges)
    assert float(with_it.losses["recursive_regularization"]) == pytest.approx(expected, rel=1e-4)
    assert float(with_it.loss) == pytest.approx(float(without.loss) + expected, rel=1e-4)
