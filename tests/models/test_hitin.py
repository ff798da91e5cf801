"""HiTIN against the numbers of the authors' own modules (float64), against plain loops, and what every option does."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_models import ids_tensor, make_batch, make_dag, make_encoder_config, make_label_sets, make_model, make_tree
from torch import nn

import hf_htc
from hf_htc import HiTINConfig, LabelHierarchy
from hf_htc.models.hitin_coding_tree import build_coding_tree
from hf_htc.models.losses import recursive_regularization
from hf_htc.models.modeling_hitin import HiTINClassifier, NodeNorm, TreeIsomorphismNetwork


FIXTURES = Path(__file__).parent.parent / "fixtures" / "global"
THREE_LEVEL = json.loads((FIXTURES / "hitin_coding_tree_three_level.json").read_text())
READOUTS = sorted(path.stem for path in FIXTURES.glob("hitin_readout_*.npz"))
TAXONOMIES = json.loads((FIXTURES / "hitin_taxonomy_parents.json").read_text())
TOLERANCE = {"rtol": 1e-9, "atol": 1e-10}
POOLINGS = ("sum", "mean", "max", "root")


def fixture_hierarchy():
    edges = [(p, c) for p, row in THREE_LEVEL["taxonomy_without_root_edges"].items() for c in row]
    return LabelHierarchy.from_edges(edges, labels=THREE_LEVEL["labels"])


def load(name):
    arrays = np.load(FIXTURES / f"{name}.npz")
    return {key: torch.tensor(arrays[key]) for key in arrays}


def make_config(hierarchy, hidden_size=7, **options):
    text_config = make_encoder_config(hidden_size=hidden_size, num_attention_heads=1)
    return HiTINConfig(text_config=text_config, hierarchy=hierarchy, **{"hidden_dim": 5, **options})


def make_part(part, config, seed=0, training=False):
    """A module with all its parameters and running statistics at random, in float64."""
    module = part(config).double().train(training)
    for child in module.modules():
        if hasattr(child, "init_weights"):
            child.init_weights(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for name, buffer in module.named_buffers():
            if "running" in name:
                buffer.copy_(torch.rand(buffer.shape, generator=generator, dtype=torch.float64) + 0.5)
    return module


def without_dropout(module):
    for child in module.modules():
        if isinstance(child, nn.Dropout):
            child.p = 0.0
    return module


def load_layers(network, numbers):
    """The released module's weights in ours; layer 1 of theirs is our `layers[0]`."""
    state = {}
    for layer, mlp in enumerate(network.layers, start=1):
        names = {f"mlps__{layer}__linears__{i}": f"linears.{i}" for i in range(len(mlp.linears))}
        names |= {f"mlps__{layer}__batch_norms__{i}": f"norms.{i}" for i in range(len(mlp.linears) - 1)}
        names[f"batch_norms__{layer}"] = f"norms.{len(mlp.linears) - 1}"
        for theirs, ours in names.items():
            for key, value in numbers.items():
                if key.startswith(f"w__{theirs}__"):
                    state[f"layers.{layer - 1}.{ours}.{key.rsplit('__', 1)[-1]}"] = value
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected and all(name.startswith("parents_") for name in missing), (missing, unexpected)


# ---------------------------------------------------------------------------------------------- the authors' numbers


@pytest.mark.parametrize("name", READOUTS)
def test_readout_of_the_released_module(name):
    numbers = load(name)
    depth, pooling = int(numbers["depth"]), name.rsplit("_", 1)[-1].replace("avg", "mean")
    config = make_config(fixture_hierarchy(), tree_depth=depth, tree_pooling=pooling)
    assert [*map(len, config.coding_tree), 1] == numbers["node_size_leaf_to_root"].tolist()
    network = TreeIsomorphismNetwork(config).double()
    network.init_weights(config)
    for number in range(depth):  # their nodes in their order
        pairs = numbers[f"edges_layer{number + 1}"]
        getattr(network, f"parents_{number}")[pairs[:, 1]] = pairs[:, 0]
    layers = range(depth, depth + 1) if pooling == "root" else range(depth + 1)
    weight = torch.cat([numbers[f"w__linears_prediction__{layer}__weight"] for layer in layers], dim=1)
    bias = sum(numbers[f"w__linears_prediction__{layer}__bias"] for layer in layers)
    for training, expected in ((False, "logits_eval"), (True, "logits_train_bn_no_dropout")):
        load_layers(network.train(training), numbers)
        logits = nn.functional.linear(network(numbers["input_leaf_features"]), weight, bias)
        torch.testing.assert_close(logits, numbers[expected], **TOLERANCE)


def test_leaf_projection_of_the_released_module():
    numbers, seen = load("hitin_leaf_projection"), []
    config = make_config(fixture_hierarchy())
    for training in (True, False):  # in training by the copies and the dense map, in eval mode by its row sums
        head = make_part(HiTINClassifier, config, training=training)
        with torch.no_grad():
            for name in ("weight", "bias"):
                getattr(head.projection, name).copy_(numbers[f"proj_{name}"])
                getattr(head, f"map_{name}").copy_(numbers[f"dup_{name}"])
        # Dropout in its place, without effect.
        head.transformation_dropout.forward = lambda tensor: tensor
        head.network.forward = lambda *given: seen.append(given) or torch.zeros(3, 15, dtype=torch.float64)
        head(numbers["text_vector"])
    (leaves,), (text, scales, shifts) = seen
    torch.testing.assert_close(leaves, numbers["leaf_features_eval"], **TOLERANCE)
    folded = scales.unsqueeze(-1) * text.unsqueeze(1) + shifts.unsqueeze(-1)
    torch.testing.assert_close(folded, numbers["leaf_features_eval"], **TOLERANCE)


def test_regularization_of_all_prediction_matrices(monkeypatch):
    edges = torch.tensor(THREE_LEVEL["edges_parent_child"])
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(16, 5, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    expected = sum(0.5 * ((weight[p] - weight[c]) ** 2).sum() for weight in weights for p, c in edges.tolist())
    wanted = torch.autograd.grad(expected, weights)
    for numbers_at_once in (500_000, 40, 1):  # all edges at once, some, one
        monkeypatch.setattr("hf_htc.models.losses._NUMBERS_AT_ONCE", numbers_at_once)
        value = recursive_regularization(torch.cat(weights, dim=1), edges)
        torch.testing.assert_close(value, expected, **TOLERANCE)
        for found, one in zip(torch.autograd.grad(3 * value, weights), wanted):
            torch.testing.assert_close(found, 3 * one, **TOLERANCE)


@pytest.mark.parametrize(("name", "total"), [("rcv1", 3.21e6), ("wos", 3.30e6), ("nyt", 3.37e6)])
def test_parameters_of_the_papers_heads(name, total):
    """The released module on BERT: `K = 2`, `h = 768`; ours has one bias where it has `K + 1` that only act as their sum."""
    parents = TAXONOMIES[name]
    labels, h, depth = len(parents), 768, 2
    hierarchy = LabelHierarchy([f"label {i}" for i in range(labels)], parents)
    with torch.device("meta"):
        head = HiTINClassifier(make_config(hierarchy, h, hidden_dim="auto"))
    released = (h * h + h) + (labels**2 + labels) + depth * (2 * (h * h + h) + 2 * 2 * h) + (depth + 1) * (labels * h + labels)
    assert released == pytest.approx(total, abs=5e3)  # as published
    assert sum(parameter.numel() for parameter in head.parameters()) == released - depth * labels


# ---------------------------------------------------------------------------------------------- plain loops


def plain_logits(head, config, text, training=False):
    """The whole head by loops over documents, nodes and layers, from the leaves' own features."""
    matrix = head.map_weight if config.label_map == "dense" else torch.diag(head.map_weight)
    projected = [head.projection(row) for row in text]
    num_nodes = config.num_hierarchy_nodes()
    layer, pooled = [], []
    for vector in projected:
        layer.append([sum(matrix[n, m] * vector for m in range(num_nodes)) + head.map_bias[n] for n in range(num_nodes)])

    def normalise(norm, nodes):
        rows = torch.stack([node for document in nodes for node in document])
        mean, variance = norm.running_mean, norm.running_var
        if training:
            mean, variance = rows.mean(0), ((rows - rows.mean(0)) ** 2).mean(0)
        return [[(x - mean) / torch.sqrt(variance + norm.eps) * norm.weight + norm.bias for x in document] for document in nodes]

    def apply(function, nodes):
        return [[function(x) for x in document] for document in nodes]

    def pool(document):
        stacked = torch.stack(document)
        if config.tree_pooling == "max":
            return torch.stack([max(column) for column in stacked.T])
        return stacked.sum(0) / (len(document) if config.tree_pooling == "mean" else 1)

    for parents, mlp in zip(config.coding_tree, head.network.layers):
        pooled.append([pool(document) for document in layer])
        size = max(parents) + 1
        nodes = [
            [sum(child for child, parent in zip(document, parents) if parent == v) for v in range(size)] for document in layer
        ]
        nodes = apply(mlp.linears[0], nodes)
        for norm, linear in zip(mlp.norms, mlp.linears[1:]):
            nodes = apply(linear, apply(torch.relu, normalise(norm, nodes)))
        layer = apply(torch.relu, normalise(mlp.norms[-1], nodes))
    root = [document[0] for document in layer]
    read = [root] if config.tree_pooling == "root" else [*pooled, root]
    rows = [torch.cat([part[b] for part in read]) for b in range(len(text))]
    return torch.stack([head.out_weight @ row + head.out_bias for row in rows])


@pytest.mark.parametrize("label_map", ["dense", "diagonal"])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(("make", "options"), [(make_tree, {}), (make_dag, {"tree_depth": 3, "num_mlp_layers": 3})])
def test_head_and_its_gradients_against_loops(make, options, pooling, label_map):
    config = make_config(make(), hidden_dim=4, tree_pooling=pooling, label_map=label_map, **options)
    text = torch.randn(3, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for training in (False, True):
        head = without_dropout(make_part(HiTINClassifier, config, training=training))
        found, gradients = [], []
        for run in (head, functools.partial(plain_logits, head, config, training=training)):
            head.zero_grad()
            logits = run(text)
            (logits * torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)).sum().backward()
            found.append(logits.detach())
            gradients.append({name: p.grad.clone() for name, p in head.named_parameters() if p.grad is not None})
        torch.testing.assert_close(found[0], found[1], rtol=1e-8, atol=1e-9)
        assert found[0].abs().max() > 0.1
        assert gradients[0].keys() == gradients[1].keys() == dict(head.named_parameters()).keys()
        for name, gradient in gradients[1].items():
            torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-7, atol=1e-8, msg=name)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_leaves_on_a_line_need_not_be_made(pooling, monkeypatch):
    monkeypatch.setattr("hf_htc.models.modeling_hitin._LEAVES_AT_ONCE", 4)  # several parts of the 13 leaves
    config = make_config(make_tree(), tree_pooling=pooling)
    network = make_part(TreeIsomorphismNetwork, config)
    generator = torch.Generator().manual_seed(2)
    text, scales, shifts = (
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in ((3, 5), 13, 13)
    )
    leaves = scales.unsqueeze(-1) * text.unsqueeze(1) + shifts.unsqueeze(-1)
    results = [network(text, scales, shifts), network(leaves)]
    torch.testing.assert_close(*results, **TOLERANCE)
    gradients = [torch.autograd.grad(result.square().sum(), (text, scales, shifts)) for result in results]
    for one, two in zip(*gradients):
        torch.testing.assert_close(one, two, **TOLERANCE)


def test_gradients_of_the_head_numerically():
    head = make_part(HiTINClassifier, make_config(make_dag(), hidden_dim=3))
    text = torch.randn(2, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(head, text)


def test_a_readout_by_hand():
    # Leaves 0 and 1 under one node, leaf 2 under another, both under the root; all linear maps the identity, one feature.
    hierarchy = LabelHierarchy(["a", "b", "c"], [[], [], []])
    config = make_config(hierarchy, hidden_dim=1, num_mlp_layers=1, tree_pooling="sum", coding_tree=[[0, 0, 1], [0, 0]])
    network = TreeIsomorphismNetwork(config).eval()
    network.init_weights(config)
    with torch.no_grad():
        for mlp in network.layers:
            mlp.linears[0].weight.fill_(1)
            mlp.linears[0].bias.fill_(0)
            mlp.norms[0].eps = 0.0
            mlp.norms[0].running_mean.fill_(1)  # (x - 1) / 2, then ReLU
            mlp.norms[0].running_var.fill_(4)
    # Sums of children 5 and -2 become 2 and 0; their sum 2 becomes 1/2.
    assert network(torch.tensor([[[2.0], [3.0], [-2.0]]])).tolist() == [[3.0, 2.0, 0.5]]


# ---------------------------------------------------------------------------------------------- batch norm


def test_one_document_is_normalised_by_running_statistics():
    norm = NodeNorm(3).train()
    one, two = torch.randn(1, 4, 3), torch.randn(2, 1, 3)
    assert torch.equal(norm(one), nn.functional.batch_norm(one[0], torch.zeros(3), torch.ones(3), eps=norm.eps)[None])
    assert int(norm.num_batches_tracked) == 0 and torch.equal(norm.running_mean, torch.zeros(3))
    torch.testing.assert_close(norm(two).mean((0, 1)), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(norm.running_mean, 0.1 * two.mean((0, 1)))
    assert int(norm.num_batches_tracked) == 1
    # Exactly torch's over documents and nodes.
    plain = nn.BatchNorm1d(3)
    more = torch.randn(5, 4, 3)
    norm = NodeNorm(3)
    torch.testing.assert_close(norm(more).flatten(0, 1), plain(more.flatten(0, 1)))
    torch.testing.assert_close(norm.running_var, plain.running_var)


def test_half_precision_keeps_the_running_statistics_going():
    norm = NodeNorm(3).bfloat16().train()
    nodes = torch.full((2, 2, 3), 2.0) + torch.tensor([-1.0, 1.0])[:, None, None]
    assert norm(nodes.bfloat16()).dtype == torch.float32
    assert norm.running_mean.dtype == torch.bfloat16 and norm.running_mean.tolist() == pytest.approx([0.2] * 3, rel=1e-2)


def test_a_batch_of_one_trains():
    model = make_model("hitin", make_tree()).train()
    batch = {key: value[:1] for key, value in make_batch().items()}
    loss = model(**batch, labels=torch.tensor([[1, 0]])).loss
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(p.grad).all() for p in model.parameters())


# ---------------------------------------------------------------------------------------------- options


def test_auto_choices():
    small = make_config(make_tree(), hidden_dim="auto")
    assert (small.hidden_dim, small.tree_pooling, small.label_map) == (7, "sum", "dense")
    assert small.coding_tree == build_coding_tree(make_tree().parents, 2)
    large = make_config(LabelHierarchy([f"n{i}" for i in range(2049)], [[]] + [[0]] * 2048))
    assert (large.tree_pooling, large.label_map) == ("mean", "diagonal")
    for pooling, width in (("auto", 30), ("mean", 15)):
        text_config = make_encoder_config("htc_textrcnn", top_k=2)
        config = HiTINConfig(text_config=text_config, hierarchy=make_tree(), pooling=pooling)
        assert config.hidden_dim == width
        assert hf_htc.model_class("hitin")(config).classifier.projection.weight.shape == (width, width)


def test_the_config_keeps_its_tree(tmp_path, monkeypatch):
    own = [[0] * 8 + [1] * 5, [0, 0]]
    make_config(make_tree(), coding_tree=own).save_pretrained(tmp_path / "own")
    make_config(make_tree(), tree_depth=4).save_pretrained(tmp_path / "built")

    def refuse(*_):
        raise AssertionError("built again")

    monkeypatch.setattr("hf_htc.models.configuration_hitin.build_coding_tree", refuse)
    assert HiTINConfig.from_pretrained(tmp_path / "own").coding_tree == own
    assert HiTINConfig.from_pretrained(tmp_path / "built").coding_tree == build_coding_tree(make_tree().parents, 4)


def test_structure_only_nodes_are_leaves_and_no_labels():
    model = make_model("hitin", make_dag())
    head = model.classifier
    assert head.map_weight.shape == (9, 9) and head.out_weight.shape == (8, 3 * 8)
    assert head.label_edges.tolist() == [[p, c] for p, c in make_dag().edges.tolist() if p < 8 and c < 8]


def logits_of(**options):
    torch.manual_seed(0)
    with torch.no_grad():
        return make_model("hitin", make_tree(), **options)(**make_batch()).logits


def test_every_option_does_something():
    shapes = {
        "tree_depth": ({"tree_depth": 3}, (13, 4 * 8)),
        "num_mlp_layers": ({"num_mlp_layers": 1}, (13, 3 * 8)),
        "hidden_dim": ({"hidden_dim": 5}, (13, 3 * 5)),
        "root": ({"tree_pooling": "root"}, (13, 8)),
    }
    plain = logits_of()
    for options, shape in shapes.values():
        model = make_model("hitin", make_tree(), **options)
        assert model.classifier.out_weight.shape == shape
        assert not torch.equal(logits_of(**options), plain)
    assert len(make_model("hitin", make_tree(), num_mlp_layers=3).classifier.network.layers[0].linears) == 3
    assert make_model("hitin", make_tree(), label_map="diagonal").classifier.map_weight.shape == (13,)
    different = [logits_of(tree_pooling=pooling) for pooling in POOLINGS]
    assert all(not torch.equal(one, two) for i, one in enumerate(different) for two in different[:i])
    own = [[0] * 8 + [1] * 5, [0, 0]]
    assert not torch.allclose(logits_of(coding_tree=own), plain)


def test_dropout_places():
    def spread(**options):
        model = make_model("hitin", make_tree(), **{**dict(transformation_dropout=0.0, readout_dropout=0.0), **options})
        for name, module in model.classifier.named_modules():
            if "dropout" in name:
                module.train()
        model.classifier.training = True
        torch.manual_seed(0)
        with torch.no_grad():
            return torch.stack([model(**make_batch()).logits for _ in range(20)]).std(0)

    assert spread().max() < 1e-6
    for options in ({"readout_dropout": 0.5}, {"transformation_dropout": 0.5}):
        assert spread(**options).min() > 0
        assert spread(**options, label_map="diagonal").min() > 0


def test_dropout_of_the_dense_map_is_drawn_for_every_leaf():
    model = make_model("hitin", make_tree(), transformation_dropout=0.5)
    head, seen = model.classifier.train(), []
    head.network.register_forward_pre_hook(lambda module, given: seen.append(given))
    text = torch.randn(2, 16)
    head(text)
    head.transformation_dropout.p = 0.0
    head(text)
    model.eval()(**make_batch())
    (leaves,), folded, in_eval = seen
    assert leaves.shape == (2, 13, 8) and 0.35 < (leaves == 0).float().mean() < 0.65
    assert folded[0].shape == (2, 8) and in_eval[0].shape == (4, 8)  # nothing of the size of all leaves


def test_regularization_enters_the_loss():
    labels = ids_tensor(make_label_sets(make_tree(), 4))
    with_it = make_model("hitin", make_tree(), recursive_regularization=0.5)(**make_batch(), labels=labels)
    without = make_model("hitin", make_tree(), recursive_regularization=0)(**make_batch(), labels=labels)
    assert set(with_it.losses) == {"bce", "recursive_regularization"} and set(without.losses) == {"bce"}
    weight = make_model("hitin", make_tree()).classifier.out_weight
    expected = sum(0.25 * float((weight[p] - weight[c]).detach().square().sum()) for p, c in make_tree().edges.tolist())
    assert with_it.losses["recursive_regularization"].item() == pytest.approx(expected, rel=1e-4)
    assert with_it.loss.item() == pytest.approx(without.loss.item() + expected, rel=1e-4)
    assert HiTINConfig(hierarchy=make_tree()).recursive_regularization == 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tree_depth": 1}, "`tree_depth` is 1; it is at least 2"),
        ({"num_mlp_layers": 0}, "`num_mlp_layers` is 0; it is at least 1"),
        ({"hidden_dim": 0}, "`hidden_dim` is 0"),
        ({"hidden_dim": "wide"}, "`hidden_dim` is 'wide'"),
        ({"tree_pooling": "avg"}, "`tree_pooling` is 'avg'; allowed are 'sum', 'mean', 'max', 'root'"),
        ({"label_map": "full"}, "`label_map` is 'full'; allowed are 'dense', 'diagonal'"),
        ({"readout_dropout": 1.0}, "`readout_dropout` is 1.0"),
        ({"recursive_regularization": -1e-6}, "`recursive_regularization` is -1e-06; it is at least 0"),
        ({"coding_tree": [[0, 0], [0]]}, "Layer 0 of `coding_tree` has 2 nodes; expected are 13"),
        ({"tree_depth": 3, "coding_tree": [[0] * 13, [0]]}, "`coding_tree` is 2 layers; of height 3"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(StrictDataclassError, match=message):
        make_config(make_tree(), **options)


def test_a_dense_map_that_cannot_fit_is_refused():
    many = LabelHierarchy([f"n{i}" for i in range(50_000)], [[]] * 50_000)
    with pytest.raises(StrictDataclassError, match=r"2,500,000,000 parameters for 50,000 nodes; use `label_map='diagonal'`"):
        make_config(many, label_map="dense", coding_tree=[[0] * 50_000, [0]])


# ---------------------------------------------------------------------------------------------- the start of training


@pytest.mark.parametrize("encoder", ["bert", "htc_textrcnn"])
@pytest.mark.parametrize("number", [300, 2100])
def test_many_labels_start_at_the_prior_and_train(encoder, number):
    """No number grows with the labels: the first loss is that of the label frequencies, and it falls."""
    hierarchy = LabelHierarchy([f"n{i}" for i in range(number)], [[] if i < 10 else [i // 10] for i in range(number)])
    torch.manual_seed(0)
    text_config = make_encoder_config(encoder, **({"hidden_size": 32} if encoder == "bert" else {"num_filters": 10}))
    config = HiTINConfig(text_config=text_config, hierarchy=hierarchy, hidden_dim=32)
    model = hf_htc.model_class("hitin")(config)
    sets = make_label_sets(hierarchy, 32)
    model.set_label_statistics(sets * 8)
    counts = torch.bincount(ids_tensor(sets)[ids_tensor(sets) >= 0], minlength=number)
    share = (8 * counts + 0.5) / (8 * 32 + 1)
    targets = torch.stack([torch.zeros(number).index_fill(0, torch.tensor(row), 1.0) for row in sets])
    prior = nn.functional.binary_cross_entropy(share.expand(32, -1), targets)
    optimizer = torch.optim.AdamW(
        [
            {"params": model.model.parameters(), "lr": config.recommended_training["learning_rate"]},
            {"params": model.classifier.parameters(), "lr": config.recommended_training["classifier_learning_rate"]},
        ]
    )
    batch, losses = make_batch(32, 12), []
    for _ in range(40):
        loss = model(**batch, labels=ids_tensor(sets)).losses["bce"]
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[0] == pytest.approx(float(prior), rel=0.15)
    assert np.isfinite(losses).all() and max(losses[-5:]) < 0.95 * losses[0]
