"""Coherence against the numbers of the authors' own module (float64), gradients included, plain loops and every closed set."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_models import ids_tensor, make_batch, make_dag, make_label_sets, make_model, make_texts, make_tree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForSequenceClassification

from hf_htc import LabelHierarchy
from hf_htc.models.coherence import CoherentMax, coherent_bce, label_edges
from hf_htc.models.configuration_flat import FlatConfig
from hf_htc.models.errors import HTCError


ARRAYS = np.load(Path(__file__).parent.parent / "fixtures" / "global" / "chmcnn.npz")
TOLERANCE = {"rtol": 1e-9, "atol": 1e-10}


def make_cohere(hierarchy):
    config = FlatConfig(hierarchy=hierarchy)
    cohere = CoherentMax(config)
    cohere.init_weights(config)
    return cohere


def fixture(kind):
    """The hierarchy and the arrays of one of the fixture's cases."""
    arrays = {key.split("__")[1]: torch.tensor(ARRAYS[key]) for key in ARRAYS if key.startswith(kind)}
    parents = [[] for _ in range(arrays["prob"].shape[1])]
    for parent, child in arrays["edges_parent_child"].tolist():
        parents[child].append(parent)
    return LabelHierarchy([f"n{i}" for i in range(len(parents))], parents), arrays


def middle_is_structure_only():
    """Labels a, b, c and d; between a and c, and above d, nodes that are none: a > x > y > {b, c}, b > z > {c, d}, w > d."""
    edges = [("a", "x"), ("x", "y"), ("y", "b"), ("y", "c"), ("b", "z"), ("z", "c"), ("z", "d"), ("w", "d")]
    return LabelHierarchy.from_edges(edges, labels=["c", "a", "d", "b"], root=None)


def label_ancestors(hierarchy, label):
    return {a for a in hierarchy.ancestors(label) if a < hierarchy.num_labels}


def descendants_or_self(hierarchy, label):
    return [n for n in range(hierarchy.num_labels) if n == label or label in label_ancestors(hierarchy, n)]


HIERARCHIES = {
    "tree": make_tree(),
    "dag": make_dag(),
    "structure-only nodes in between": middle_is_structure_only(),
    "no edges": LabelHierarchy(["a", "b", "c"], [[], [], []]),
    "one label": LabelHierarchy(["only"], [[]]),
}
anywhere = pytest.mark.parametrize("hierarchy", HIERARCHIES.values(), ids=HIERARCHIES)


# ---------------------------------------------------------------------------------------------- numbers of the authors' module


@pytest.mark.parametrize("kind", ["tree", "dag"])
def test_the_max_constraint(kind):
    hierarchy, arrays = fixture(kind)
    below = [[float(d in descendants_or_self(hierarchy, a)) for d in range(hierarchy.num_labels)] for a in range(len(hierarchy))]
    assert below == arrays["R_ancestor_descendant"].tolist()
    cohere = make_cohere(hierarchy)
    torch.testing.assert_close(torch.sigmoid(cohere(torch.logit(arrays["prob"]))), arrays["constrained_prob"], **TOLERANCE)
    assert torch.equal(cohere(arrays["prob"]), arrays["constrained_prob"])  # a maximum needs no logits


@pytest.mark.parametrize("kind", ["tree", "dag"])
def test_the_max_constraint_loss_and_its_gradient(kind):
    hierarchy, arrays = fixture(kind)
    cohere, prob = make_cohere(hierarchy), arrays["prob"]
    logits = torch.logit(prob).requires_grad_()
    loss = coherent_bce(logits, arrays["labels"], cohere)
    torch.testing.assert_close(loss, arrays["mcloss_mean_all"], **TOLERANCE)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, arrays["grad_prob_mcloss_all"] * prob * (1 - prob), **TOLERANCE)
    summed = coherent_bce(logits, arrays["labels"], cohere, reduction="sum")
    torch.testing.assert_close(summed, prob.shape[1] * loss, **TOLERANCE)
    # Neither of the two simpler losses.
    for other in ("plain_bce_on_prob_mean", "plain_bce_on_constrained_prob_mean"):
        assert abs(loss.item() - arrays[other].item()) > 1e-3


# ---------------------------------------------------------------------------------------------- plain loops


@anywhere
def test_the_maximum_over_descendants_against_loops(hierarchy):
    logits = torch.randn(6, hierarchy.num_labels, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = make_cohere(hierarchy)(logits)
    for row, values in zip(found, logits):
        for n in range(hierarchy.num_labels):
            assert float(row[n]) == max(float(values[d]) for d in descendants_or_self(hierarchy, n))


@anywhere
def test_label_edges_are_those_to_the_nearest_labels(hierarchy):
    """A label's parents are its ancestor labels that can be reached without another label on the way."""
    edges, depth = label_edges(hierarchy)
    expected = set()
    for label in range(hierarchy.num_labels):
        stack = list(hierarchy.parents[label])
        while stack:
            node = stack.pop()
            if node < hierarchy.num_labels:
                expected.add((node, label))
            else:
                stack += hierarchy.parents[node]
    assert [tuple(edge) for edge in edges.tolist()] == sorted(expected)
    for label in range(hierarchy.num_labels):
        assert depth[label] == max((depth[p] + 1 for p, c in expected if c == label), default=0)


@anywhere
def test_at_every_threshold_the_smallest_closed_set_is_predicted(hierarchy):
    """Of all closed sets, found by trying all sets, the smallest that holds what lies above the threshold."""
    labels = range(hierarchy.num_labels)
    above = {n: label_ancestors(hierarchy, n) for n in labels}
    sets = [set(s) for size in range(len(above) + 1) for s in itertools.combinations(labels, size)]
    closed = [s for s in sets if all(above[n] <= s for n in s)]
    scores = torch.randn(4, len(above), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    coherent = make_cohere(hierarchy)(scores)
    for row, given in zip(coherent.tolist(), scores.tolist()):
        for threshold in [*given, 0.0, -9.0, 9.0]:
            wanted = {n for n in labels if given[n] > threshold}
            holding = [s for s in closed if wanted <= s]
            smallest = min(holding, key=len)
            assert all(smallest <= s for s in holding)  # there is one
            assert {n for n in labels if row[n] > threshold} == smallest


@anywhere
def test_the_loss_and_its_gradient_against_loops(hierarchy):
    generator = torch.Generator().manual_seed(2)
    ours = torch.randn(5, hierarchy.num_labels, generator=generator, dtype=torch.float64).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    sets = [*make_label_sets(hierarchy, 4), []]
    targets = torch.zeros(5, hierarchy.num_labels)
    total = 0.0
    for row, holds in enumerate(sets):
        targets[row, holds] = 1
        for n in range(hierarchy.num_labels):
            below = descendants_or_self(hierarchy, n)
            if n in holds:
                total = total - torch.stack([torch.sigmoid(theirs[row, d]) for d in below if d in holds]).max().log()
            else:
                total = total - (1 - torch.stack([torch.sigmoid(theirs[row, d]) for d in below]).max()).log()
    expected = total / targets.numel()
    loss = coherent_bce(ours, targets, make_cohere(hierarchy))
    torch.testing.assert_close(loss, expected, **TOLERANCE)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, **TOLERANCE)


def test_saturated_and_half_precision_logits_keep_their_order_and_a_gradient():
    hierarchy = make_tree()
    cohere = make_cohere(hierarchy)
    logits = (200 + torch.arange(13.0)).repeat(2, 1).requires_grad_()  # whose sigmoids are all 1 in float32
    assert int(cohere(logits)[0].argmax()) == 12
    targets = torch.zeros(2, 13)
    targets[0, hierarchy.close([[4]])[0]] = 1
    loss = coherent_bce(logits, targets, cohere)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all() and (logits.grad != 0).any()
    half = coherent_bce(logits.detach().bfloat16(), targets, cohere)
    assert half.dtype == torch.float32 and torch.isfinite(half)


class _Sizes(TorchDispatchMode):
    """The number of elements of the largest tensor that any operator gives."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        self.largest = max([self.largest, *(x.numel() for x in tree_leaves(output) if isinstance(x, torch.Tensor))])
        return output


def test_memory_is_linear_in_labels():
    number = 30_000
    hierarchy = LabelHierarchy([f"label {i}" for i in range(number)], [[] if i < 20 else [i // 8] for i in range(number)])
    cohere = make_cohere(hierarchy)
    logits = torch.randn(4, number, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.zeros(4, number)
    for row, labels in enumerate(hierarchy.close([[29_999], [5, 17], [300, 9_000], []])):
        targets[row, labels] = 1
    with _Sizes() as sizes:
        coherent_bce(logits, targets, cohere).backward()
    assert sizes.largest == 4 * number and torch.isfinite(logits.grad).all()
    assert sum(buffer.numel() for buffer in cohere.buffers()) < 4 * number


# ---------------------------------------------------------------------------------------------- models


def make_incoherent(method, hierarchy, **options):
    """A model that predicts deep labels and not what is above them."""
    model = make_model(method, hierarchy, **options)
    bias = model.classifier.out_proj.bias if method == "flat" else model.classifier.out_bias
    with torch.no_grad():
        bias.copy_(torch.as_tensor(hierarchy.levels[: hierarchy.num_labels]) - 2.5)
    return model


@pytest.mark.parametrize("method", ["flat", "hiagm"])
@pytest.mark.parametrize("kind", ["tree", "dag"])
def test_a_checkpoint_gets_the_decoder_when_it_is_loaded(method, kind, tmp_path):
    hierarchy = {"tree": make_tree, "dag": make_dag}[kind]()
    model, batch = make_incoherent(method, hierarchy), make_batch()
    model.save_pretrained(tmp_path / "plain")
    with torch.no_grad():
        plain = model(**batch).logits
        decoded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "plain", coherence="decoder").eval()
        found = decoded(**batch).logits
        expected = make_cohere(hierarchy)(plain)
        assert torch.equal(found, expected) and not torch.equal(found, plain)
        assert decoded.state_dict().keys() == model.state_dict().keys()
        decoded.save_pretrained(tmp_path / "decoded")
        assert torch.equal(type(model).from_pretrained(tmp_path / "decoded").eval()(**batch).logits, expected)
        assert torch.equal(type(model).from_pretrained(tmp_path / "decoded", coherence="none").eval()(**batch).logits, plain)
        half = type(model).from_pretrained(tmp_path / "decoded", dtype=torch.bfloat16).eval()(**batch).logits
    assert half.dtype == torch.float32
    assert torch.equal(make_cohere(hierarchy)(half), half)
    # The loss is the plain model's: the decoder is no part of the training.
    labels = ids_tensor(make_label_sets(hierarchy, 4))
    assert torch.equal(decoded(**batch, labels=labels).loss, model(**batch, labels=labels).loss)


@pytest.mark.parametrize("coherence", ["none", "decoder", "training"])
@pytest.mark.parametrize("method", ["flat", "hiagm"])
def test_predictions_are_closed_without_being_closed(method, coherence, tokenizer):
    hierarchy = make_dag()
    model, texts = make_incoherent(method, hierarchy, coherence=coherence), make_texts(6)
    open_rows = 0
    for threshold in (0.3, 0.5, 0.7):
        predicted = hierarchy.encode([row["labels"] for row in model.predict(texts, tokenizer, threshold, closure="none")])
        open_rows += len(hierarchy.violations(predicted))
        if coherence != "none":
            closed = hierarchy.encode([row["labels"] for row in model.predict(texts, tokenizer, threshold, closure="up")])
            assert predicted == closed
    assert (open_rows == 0) == (coherence != "none")
    coherent = make_incoherent(method, hierarchy, coherence="decoder").predict(texts, tokenizer, closure="none")
    plain = make_incoherent(method, hierarchy).predict(texts, tokenizer, closure="up")
    assert [set(row["labels"]) for row in coherent] == [set(row["labels"]) for row in plain]


def test_training_makes_a_difference_in_the_loss_and_decoding_in_the_logits():
    labels = ids_tensor(make_label_sets(make_tree(), 4))
    outputs = {
        coherence: make_incoherent("flat", make_tree(), coherence=coherence)(**make_batch(), labels=labels)
        for coherence in ("none", "decoder", "training")
    }
    assert torch.equal(outputs["decoder"].logits, outputs["training"].logits)
    assert not torch.equal(outputs["decoder"].logits, outputs["none"].logits)
    assert torch.equal(outputs["decoder"].loss, outputs["none"].loss)
    assert not torch.equal(outputs["training"].loss, outputs["none"].loss)


@pytest.mark.parametrize("coherence", ["decoder", "training"])
def test_labels_as_given_are_refused(coherence, tmp_path):
    model = make_model("flat", make_tree(), statistics=False, coherence=coherence)
    with pytest.raises(ValueError, match=rf"`coherence='{coherence}'` needs closed labels.*closure='up'"):
        model.set_label_statistics([[0], [1]])
    assert model.config.label_counts is None  # nothing was changed
    plain = make_model("flat", make_tree(), statistics=False)
    plain.set_label_statistics([[0], [1]])
    plain.save_pretrained(tmp_path)
    with pytest.raises(HTCError, match="needs closed labels"):
        type(plain).from_pretrained(tmp_path, coherence=coherence)


def test_a_document_that_is_not_closed_is_refused_in_training():
    tree = make_tree()
    model = make_model("flat", tree, coherence="training")
    child = next(i for i in range(13) if tree.parents[i])
    with pytest.raises(ValueError, match="a document has a label without its ancestors; load the data with"):
        model(**make_batch(), labels=torch.tensor([child] * 4))
    assert torch.isfinite(model(**make_batch(), labels=ids_tensor(tree.close([[child]] * 4))).loss)
    decoder = make_model("flat", tree, coherence="decoder")
    assert torch.isfinite(decoder(**make_batch(), labels=torch.tensor([child] * 4)).loss)


def test_an_unknown_coherence_is_refused(tmp_path):
    message = "`coherence` is 'always'; allowed are 'none', 'decoder', 'training'"
    with pytest.raises(StrictDataclassError, match=message):
        FlatConfig(hierarchy=make_tree(), coherence="always")
    model = make_model("flat", make_tree())
    model.save_pretrained(tmp_path)
    with pytest.raises(HTCError, match=message):
        type(model).from_pretrained(tmp_path, coherence="always")


def test_trained_coherently_a_flat_model_fits_closed_labels():
    tree, sets = make_tree(), make_label_sets(make_tree(), 8)
    model, batch = make_model("flat", tree, coherence="training").train(), make_batch(8, 12)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    torch.manual_seed(0)
    for _ in range(150):
        model(**batch, labels=ids_tensor(sets)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        predicted = [(row > 0).nonzero().flatten().tolist() for row in model.eval()(**batch).logits]
    assert predicted == [sorted(row) for row in sets]
