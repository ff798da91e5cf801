"""Decoders against brute force over all closed sets, plain walks and by hand."""

import itertools

import pytest
import torch
from tiny_models import HIERARCHIES, make_hierarchy, make_model, make_texts, make_tree

from hf_htc import HTCConfig, LabelHierarchy
from hf_htc.models.coherence import label_edges
from hf_htc.models.decoding import DECODERS, Decoder


def make_decoder(kind, hierarchy, **options):
    return Decoder(kind, HTCConfig(hierarchy=hierarchy), **options)


def draw(hierarchy, seed, rows=6):
    torch.manual_seed(seed)
    return 2 * torch.randn(rows, hierarchy.num_labels) - 0.5


def sets_of(chosen):
    return [set(row.nonzero().flatten().tolist()) for row in chosen]


@pytest.fixture(params=HIERARCHIES)
def hierarchy(request):
    return make_hierarchy(request.param)


@pytest.mark.parametrize("seed", range(5))
def test_threshold_and_top_down_and_coherent(hierarchy, seed):
    logits, boundary = draw(hierarchy, seed), 0.3 * torch.randn(hierarchy.num_labels)
    above = [{n for n in range(hierarchy.num_labels) if row[n] > boundary[n]} for row in logits]
    assert sets_of(make_decoder("threshold", hierarchy)(logits, boundary)) == above

    def leads(node, labels):
        """Whether a path of predicted labels (or of nodes that are none) leads to a node."""
        if node < hierarchy.num_labels and node not in labels:
            return False
        return not hierarchy.parents[node] or any(leads(parent, labels) for parent in hierarchy.parents[node])

    expected = [{n for n in labels if leads(n, labels)} for labels in above]
    assert sets_of(make_decoder("top_down", hierarchy)(logits, boundary)) == expected
    expected = [{n for n in range(hierarchy.num_labels) if labels & {n, *hierarchy.descendants(n)}} for labels in above]
    assert sets_of(make_decoder("coherent", hierarchy)(logits, boundary)) == expected


def children_of(hierarchy):
    edges, _ = label_edges(hierarchy)
    children = {n: [c for p, c in edges.tolist() if p == n] for n in range(hierarchy.num_labels)}
    below = {c for row in children.values() for c in row}
    return children, [n for n in range(hierarchy.num_labels) if n not in below]


@pytest.mark.parametrize("to_leaf", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_single_path(hierarchy, seed, to_leaf):
    logits = draw(hierarchy, seed)
    children, tops = children_of(hierarchy)
    expected = []
    for row in logits.tolist():
        path, candidates = [], tops
        while candidates:
            best = max(candidates, key=lambda n: row[n])
            if path and not to_leaf and row[best] <= 0.2:
                break
            path.append(best)
            candidates = children[best]
        expected.append(set(path))
    assert sets_of(make_decoder("single_path", hierarchy, to_leaf=to_leaf)(logits, 0.2)) == expected


@pytest.mark.parametrize("seed", range(5))
def test_one_per_level(hierarchy, seed):
    logits = draw(hierarchy, seed)
    expected = []
    for row in logits.tolist():
        found = set()
        for level, labels in enumerate(hierarchy.level_units()):
            best = max(labels.tolist(), key=lambda n: row[n], default=None)
            if best is not None and (level == 0 or row[best] > 0):
                found.add(best)
        expected.append(found)
    assert sets_of(make_decoder("one_per_level", hierarchy)(logits)) == expected


@pytest.mark.parametrize("seed", range(4))
def test_expected_f_is_the_best_of_all_closed_sets(hierarchy, seed):
    logits, labels = draw(hierarchy, seed, rows=3), range(hierarchy.num_labels)
    found = sets_of(make_decoder("expected_f", hierarchy)(logits))
    for row, chosen in zip(logits, found):
        p = [max(float(torch.sigmoid(row[d].double())) for d in (n, *hierarchy.descendants(n)) if d in labels) for n in labels]
        best = max(
            2 * sum(p[n] for n in group) / (len(group) + sum(p))
            for size in range(1, hierarchy.num_labels + 1)
            for group in itertools.combinations(labels, size)
            if hierarchy.is_closed([group])
        )
        assert hierarchy.is_closed([sorted(chosen)])
        assert 2 * sum(p[n] for n in chosen) / (len(chosen) + sum(p)) == pytest.approx(best, rel=1e-9)


def test_ties_go_to_parents_and_smaller_numbers():
    tree = LabelHierarchy(["b", "a", "b/c"], [[], [], [0]])
    logits = torch.zeros(1, 3)
    assert sets_of(make_decoder("single_path", tree, to_leaf=True)(logits)) == [{0, 2}]
    assert sets_of(make_decoder("expected_f", tree)(torch.tensor([[3.0, -9.0, 3.0]]))) == [{0, 2}]
    assert sets_of(make_decoder("expected_f", tree)(torch.full((1, 3), -1e4))) == [set()]


def test_unknown_decoders_are_refused():
    with pytest.raises(ValueError, match="`decoder` is 'greedy'; allowed are 'threshold', 'top_down'"):
        make_decoder("greedy", make_tree())
    assert len(DECODERS) == 6


def test_predict_takes_a_decoder(tokenizer):
    tree, texts = make_tree(), make_texts(5)
    model = make_model("flat", tree)
    for module in (model.classifier.out_proj,):
        torch.nn.init.normal_(module.weight)
    logits = torch.zeros(5, tree.num_labels)
    for rows, part in model.iter_logits(texts, tokenizer):
        logits[rows] = part
    for kind in DECODERS:
        predicted = model.predict(texts, tokenizer, decoder=kind, closure="none", threshold=0.4)
        expected = sets_of(model.label_decoder(kind)(logits, model.decision_boundary(0.4)))
        assert [set(tree.encode([row["labels"]])[0]) for row in predicted] == expected
    assert all(len(row["paths"]) == 1 for row in model.predict(texts, tokenizer, decoder="single_path"))
    with pytest.raises(ValueError, match="`decoder` is 'best'"):
        model.predict(texts, tokenizer, decoder="best")
