"""Decoders against brute force over all closed sets, plain walks and by hand."""

import itertools
import math

import pytest
import torch
from tiny_models import HIERARCHIES, make_hierarchy, make_model, make_texts, make_tree

from hf_htc import HTCConfig, LabelHierarchy
from hf_htc.models.coherence import label_edges
from hf_htc.models.prediction import DECODERS, Decoder


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


# ---------------------------------------------------------------------------------------------- every combination


def decide(kind, row, above, hierarchy):
    """A decoder's definition, label by label. `row` are logits, `above` which labels are above their boundary."""
    labels = range(hierarchy.num_labels)
    children, tops = children_of(hierarchy)
    best = lambda group: max(group, key=lambda n: (row[n], -n))  # noqa: E731
    if kind == "threshold":
        return {n for n in labels if above[n]}
    if kind == "top_down":

        def leads(node):
            is_open = node >= hierarchy.num_labels or above[node]
            return is_open and (not hierarchy.parents[node] or any(leads(parent) for parent in hierarchy.parents[node]))

        return {n for n in labels if leads(n)}
    if kind == "coherent":
        return {n for n in labels if above[n] or any(d < hierarchy.num_labels and above[d] for d in hierarchy.descendants(n))}
    if kind == "single_path":
        path, candidates = [], tops
        while candidates and (not path or above[best(candidates)]):
            path.append(best(candidates))
            candidates = children[path[-1]]
        return set(path)
    if kind == "one_per_level":
        units = [unit.tolist() for unit in hierarchy.level_units()]
        found = [(level, best(unit)) for level, unit in enumerate(units) if unit]
        return {n for level, n in found if level == 0 or above[n]}
    p = {n: max(1 / (1 + math.exp(-row[d])) for d in (n, *hierarchy.descendants(n)) if d in labels) for n in labels}
    order = sorted(labels, key=lambda n: (-p[n], hierarchy.levels[n], n))
    value = lambda size: sum(p[n] for n in order[:size]) / (size + sum(p.values()))  # noqa: E731
    return set(order[: max(range(1, len(order) + 1), key=value)])


PER_LABEL = "per label"


@pytest.mark.parametrize("kind", DECODERS)
def test_every_decoder_threshold_and_top_k(hierarchy, kind):
    num_labels, logits = hierarchy.num_labels, draw(hierarchy, seed=len(kind), rows=4)
    model = make_model("flat", hierarchy)
    model.iter_logits = lambda texts, *options: iter([(range(len(logits)), logits)])
    mixed = [(0, 1, 0.2, 0.5, 0.8)[n % 5] for n in range(num_labels)]
    for own, threshold, top_k in itertools.product(
        (None, 0, 0.4, mixed), (None, 0, 0.0, 0.3, 0.9, 1, 1.0, mixed), (None, 1, 3, 99)
    ):
        model.config.thresholds = own
        options = {"threshold": threshold, "top_k": top_k}
        found = model.predict(["text"] * len(logits), None, decoder=kind, closure="none", **options)
        limit = own if threshold is None else threshold
        limit = 0 if top_k is not None and threshold is None else 0.5 if limit is None else limit
        limits = limit if isinstance(limit, list) else [limit] * num_labels
        for row, prediction in zip(logits.tolist(), found, strict=True):
            above = [t == 0 or (t < 1 and 1 / (1 + math.exp(-x)) > t) for x, t in zip(row, limits)]
            expected = sorted(decide(kind, row, above, hierarchy), key=lambda n: -row[n])[:top_k]
            assert prediction["labels"] == [hierarchy.names[n] for n in expected], (own, options)
            assert all(0 < score < 1 for score in prediction["scores"])


def test_the_best_label_is_the_best_with_every_threshold(tokenizer):
    """The best label is found by its logit, not by its number."""
    model = make_model("flat", make_tree())
    with torch.no_grad():
        model.classifier.out_proj.bias.fill_(-3).scatter_(0, torch.tensor(model.config.label2id["weather"]), 3.0)
        model.classifier.out_proj.weight.zero_()
    for options in ({}, {"top_k": 3}, {"threshold": 0.0}, {"threshold": 1}, {"threshold": 0, "top_k": 1}):
        for kind in ("single_path", "one_per_level"):
            assert model.predict("the match", tokenizer, decoder=kind, closure="none", **options)["labels"][0] == "weather"


def test_scores_of_half_precision_and_equal_ones_decide_too():
    tree = make_tree()
    logits = draw(tree, 0).bfloat16()
    for kind in DECODERS:
        for boundary in (0.3, math.inf, -math.inf, torch.full((13,), -math.inf)):
            chosen = make_decoder(kind, tree)(logits, boundary)
            assert torch.equal(chosen, make_decoder(kind, tree)(logits.float(), boundary))
    equal = torch.zeros(2, 13)
    assert sets_of(make_decoder("single_path", tree)(equal, -math.inf))[0] == {0, *walk_down(tree, 0)}


def walk_down(tree, node):
    while tree.children[node]:
        node = min(tree.children[node])
        yield node


def test_tables_are_made_once_not_per_batch(monkeypatch):
    tree = make_tree()
    decoders = {kind: make_decoder(kind, tree) for kind in DECODERS}
    for name in ("label_edges", "PathPruning", "CoherentMax"):
        monkeypatch.setattr(f"hf_htc.models.prediction.{name}", None)
    for name in ("level_units", "close"):
        monkeypatch.setattr(LabelHierarchy, name, None)
    for decoder in decoders.values():
        assert decoder(draw(tree, 1)).any()


def test_no_number_of_64_bits_on_a_device_without_them(monkeypatch):
    """Metal has no float64: there the sums are made on the CPU, with the same result."""
    tree = make_tree()
    decoder, logits = make_decoder("expected_f", tree), draw(tree, 3)

    class OfMetal(torch.Tensor):
        device = property(lambda self: torch.device("mps"))

        def to(self, device):
            assert torch.device(device).type == "cpu"
            return torch.Tensor(self)

    given = []
    monkeypatch.setattr(decoder, "_expected_f", lambda on_cpu, **tables: given.append(on_cpu) or _Result())
    assert decoder(logits.as_subclass(OfMetal)) == "on mps"
    assert type(given[0]) is torch.Tensor and torch.equal(given[0], decoder.module(logits))


class _Result:
    def to(self, device):
        return f"on {device}"
