"""HiMatch's losses against the numbers of the authors' own module and of the paper's equations (float64), gradients included;
what is drawn against brute force."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from himatch_cases import make_config, multi_hot
from tiny_models import (
    ids_tensor,
    make_batch,
    make_dag,
    make_label_sets,
    make_model,
    make_tree,
)

from hf_htc import LabelHierarchy
from hf_htc.models.himatch_matching import LabelMatching, joint_embedding_loss, matching_loss, released_losses
from hf_htc.models.himatch_sampling import LabelSampler


FIXTURES = Path(__file__).parent.parent / "fixtures" / "global"
RELATIONS = json.loads((FIXTURES / "himatch_sampling_relations.json").read_text())
TOLERANCE = {"rtol": 1e-9, "atol": 1e-10}


def make_sampler(hierarchy, **options):
    config = make_config(hierarchy, **options)
    sampler = LabelSampler(config)
    sampler.init_weights(config)
    return sampler


def fixture_hierarchy():
    return LabelHierarchy.from_edges(
        [(p, c) for p, row in RELATIONS["taxonomy"].items() for c in row], labels=RELATIONS["labels"]
    )


# ---------------------------------------------------------------------------------------------- losses


def load_losses(prefix):
    """Texts, a table with every vector of the file as a label of its own, and where the sampled ones stand in it."""
    arrays = np.load(FIXTURES / "himatch_losses.npz")
    numbers = {key.removeprefix(prefix + "__"): torch.tensor(arrays[key]) for key in arrays if key.startswith(prefix)}
    positive, negative = numbers["positive"], numbers["negative"]
    documents, count, width = positive.shape
    table = torch.cat([positive.reshape(-1, width), negative.reshape(-1, width)])
    rows = torch.arange(documents).repeat_interleave(count)
    positives = torch.arange(documents * count)
    kinds = [documents * count + torch.arange(documents * count) * 3 + kind for kind in range(3)]
    # What the file says is of which kind.
    for kind, places in enumerate(kinds):
        mask = numbers["type_mask"][:, kind]
        torch.testing.assert_close(table[places].view(documents, count, width), negative[mask].view(documents, count, width))
    return numbers, numbers["text"].clone().requires_grad_(), table.requires_grad_(), rows, positives, kinds


@pytest.mark.parametrize("prefix", ["unnormalised", "l2norm"])
def test_released_losses_and_their_gradients(prefix):
    numbers, text, table, rows, positives, kinds = load_losses(prefix)
    joint, match = released_losses(text, table, rows, positives, *kinds)
    torch.testing.assert_close(joint, numbers["loss_joint_total"], **TOLERANCE)
    torch.testing.assert_close(match, numbers["loss_match_total"], **TOLERANCE)
    (joint + match).backward()
    torch.testing.assert_close(text.grad, numbers["grad_text"], **TOLERANCE)
    split = numbers["positive"].numel()
    torch.testing.assert_close(table.grad.flatten()[:split], numbers["grad_positive"].flatten(), **TOLERANCE)
    torch.testing.assert_close(table.grad.flatten()[split:], numbers["grad_negative"].flatten(), **TOLERANCE)


@pytest.mark.parametrize("prefix", ["unnormalised", "l2norm"])
def test_losses_of_the_paper_and_their_gradients(prefix):
    numbers, text, table, rows, positives, kinds = load_losses(prefix)
    joint = joint_embedding_loss(text, table, rows, positives)
    torch.testing.assert_close(joint, numbers["paper_eq5_joint_sum_over_positives_mean_over_batch"], **TOLERANCE)
    pairs, margins = torch.arange(len(rows)).repeat(3), torch.tensor([0.002, 0.1, 0.2], dtype=torch.float64)
    arguments = (rows, positives, pairs, torch.cat(kinds), margins.repeat_interleave(len(rows)))
    match = matching_loss(text, table, *arguments)
    torch.testing.assert_close(match, numbers["paper_eq6_7_match_mean_over_all_pairs"], **TOLERANCE)
    assert torch.autograd.gradcheck(lambda *x: joint_embedding_loss(*x, rows, positives), (text, table))
    assert torch.autograd.gradcheck(lambda *x: matching_loss(*x, *arguments), (text, table))


def test_means_are_taken_inside_documents_first():
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    labels = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    rows, positives = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    # Squares 1, 10 and 4; the third document has no label.
    assert joint_embedding_loss(text, labels, rows, positives) == pytest.approx((1 + 10 + 4) / 3)
    assert joint_embedding_loss(text, labels, rows, positives, "mean") == pytest.approx(((0.5 + 5) / 2 + 2) / 3)
    # Distances of unit vectors: to label 0 0 and sqrt 2, to label 1 sqrt 2 and 0, to label 2 2 and sqrt 2.
    pairs, negatives = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2, 2, 0])
    margins = torch.tensor([2.0, 2.5, 1.0, 1.5])
    root = 2**0.5
    first = (2 - root) + 0.5 + max(0, root - 2 + 1)
    expected = (first / 3 + (1.5 - root)) / 3
    assert matching_loss(text, labels, rows, positives, pairs, negatives, margins) == pytest.approx(expected, rel=1e-5)
    nothing = torch.zeros(0, dtype=torch.long)
    assert matching_loss(text, labels, nothing, nothing, nothing, nothing, torch.zeros(0)) == 0


def test_projections_and_label_gcn_against_loops():
    hierarchy = make_dag()
    config = make_config(hierarchy, normalize_joint=True)
    matching = LabelMatching(config, text_width=10, label_width=5)
    for module in (matching, *matching.label_layers, matching.sampler):
        module.init_weights(config)
    matching.double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in matching.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    features = torch.randn(3, 10, generator=generator, dtype=torch.float64)
    for ffn, inputs, found in (
        (matching.text_ffn, features, matching.text_semantics(features)),
        (matching.label_ffn, matching.label_layers[0](matching.label_embeddings[None])[0], matching.label_semantics()),
    ):
        for row, vector in enumerate(inputs):
            hidden = [max(0.0, float(vector @ ffn[0].weight[j] + ffn[0].bias[j])) for j in range(12)]
            out = torch.tensor(hidden, dtype=torch.float64) @ ffn[3].weight.T + ffn[3].bias
            torch.testing.assert_close(found[row], out / out.square().sum().sqrt(), **TOLERANCE)
    assert [type(module).__name__ for module in matching.text_ffn] == ["Linear", "ReLU", "Dropout", "Linear"]


# ---------------------------------------------------------------------------------------------- what is drawn


def brute_force(hierarchy, gold):
    """Fine-grained labels of a set, their ancestors, allowed siblings and wrong labels, by plain sets."""
    n = hierarchy.num_labels
    wrong = set(range(n)) - set(gold)
    fine = [label for label in sorted(gold) if not set(hierarchy.descendants(label)) & set(gold)]
    above = {label: {a for a in hierarchy.ancestors(label) if a < n} for label in fine}
    siblings = {label: {s for s in hierarchy.siblings(label) if s < n} & wrong or wrong for label in fine}
    return fine, above, siblings, wrong


SETS = {
    "closed": lambda hierarchy: make_label_sets(hierarchy, 12),
    "as given": lambda hierarchy: [[i % hierarchy.num_labels, (3 * i + 1) % hierarchy.num_labels] for i in range(12)],
    "few and many": lambda hierarchy: [[], list(range(hierarchy.num_labels)), list(range(1, hierarchy.num_labels)), [0]],
}


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("make", [make_tree, make_dag])
@pytest.mark.parametrize("mode", ["training", "eval"])
def test_pairs_against_brute_force(kind, make, mode):
    hierarchy = make()
    sets = [sorted(set(row)) for row in SETS[kind](hierarchy)]
    sampler = make_sampler(hierarchy, gamma=0.4).train(mode == "training")
    targets, seen = multi_hot(sets, hierarchy.num_labels), {}
    torch.manual_seed(0)
    for _ in range(30):
        rows, positives, pairs, negatives, margins = sampler(targets)
        found = [(int(r), int(p)) for r, p in zip(rows, positives)]
        assert found == [(row, label) for row, gold in enumerate(sets) for label in brute_force(hierarchy, gold)[0]]
        for number, (row, label) in enumerate(found):
            _, above, siblings, wrong = brute_force(hierarchy, sets[row])
            mine = sorted(zip(margins[pairs == number].tolist(), negatives[pairs == number].tolist()))
            expected = [0.004] * len(above[label]) + ([0.2, 0.4] if wrong else [])
            assert [margin for margin, _ in mine] == pytest.approx(expected)
            assert {node for margin, node in mine if margin < 0.1} == above[label]
            if wrong:
                assert mine[-2][1] in siblings[label] and mine[-1][1] in wrong
                for which, node in ((0, mine[-2][1]), (1, mine[-1][1])):
                    seen.setdefault((row, label, which), set()).add(node)
    for (row, label, which), nodes in seen.items():
        _, _, siblings, wrong = brute_force(hierarchy, sets[row])
        allowed = (siblings[label], wrong)[which]
        if mode == "eval":
            assert len(nodes) == 1  # nothing is random
        elif len(allowed) <= 3:
            assert nodes == allowed  # and none of them is forgotten


def test_relations_are_those_of_the_authors():
    hierarchy = fixture_hierarchy()
    sampler = make_sampler(hierarchy, matching="released").train()
    torch.manual_seed(0)
    targets = torch.eye(13).repeat(100, 1)
    rows, positives, parents, siblings, others = sampler.released(targets)
    assert rows.tolist() == list(range(1300)) and torch.equal(positives, rows % 13)
    for label in range(13):
        mine = positives == label
        expected = RELATIONS["parents"].get(str(label), [label])  # a first-level label stands beside itself
        assert set(parents[mine].tolist()) == set(expected)
        assert set(siblings[mine].tolist()) == set(RELATIONS["siblings"][str(label)])
        assert set(others[mine].tolist()) == set(range(13)) - {label}
    assert [label for label in range(13) if not hierarchy.parents[label]] == RELATIONS["first_level_ids"]


def test_siblings_are_uniform_and_never_gold():
    hierarchy = fixture_hierarchy()
    sampler = make_sampler(hierarchy).train()
    torch.manual_seed(0)
    targets = multi_hot([[0, 5]], 13).repeat(6000, 1)  # C2: C1 and C3 are wrong siblings
    _, positives, pairs, negatives, margins = sampler(targets)
    assert (positives == 5).all()
    counts = torch.bincount(negatives[margins == torch.tensor(0.1)], minlength=13)
    assert set(counts.nonzero().flatten().tolist()) == {4, 6} and abs(int(counts[4]) - 3000) < 200
    counts = torch.bincount(negatives[margins == torch.tensor(0.2)], minlength=13)
    assert counts[0] == counts[5] == 0 and (counts[torch.tensor([1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12])] - 545).abs().max() < 120


def test_only_the_released_form_takes_gold_siblings_and_coarse_positives():
    hierarchy = fixture_hierarchy()
    gold = [0, 4, 5]  # CCAT with C1 and C2
    targets = multi_hot([gold], 13).repeat(300, 1)
    torch.manual_seed(0)
    released = make_sampler(hierarchy, matching="released", num_positives=2).train().released(targets)
    rows, positives, _, siblings, others = released
    assert torch.equal(rows, torch.arange(300).repeat_interleave(2)) and set(positives.tolist()) == set(gold)
    assert (positives.view(300, 2)[:, 0] != positives.view(300, 2)[:, 1]).all()  # two different ones where there are two
    assert set(siblings[positives == 4].tolist()) == {5, 6} and not set(others.tolist()) & set(gold)
    _, positives, pairs, negatives, _ = make_sampler(hierarchy).train()(targets)
    assert set(positives.tolist()) == {4, 5}
    assert set(negatives[positives[pairs] == 4].tolist()).isdisjoint({4, 5})
    few = make_sampler(hierarchy, matching="released", num_positives=3).train().released(multi_hot([[1]], 13))
    assert few[1].tolist() == [1, 1, 1]


def test_an_only_child_gets_a_random_wrong_label():
    hierarchy = LabelHierarchy.from_paths(["a/only", "b", "c"])
    targets = multi_hot([[0, 1]], 4).repeat(200, 1)
    sampler = make_sampler(hierarchy).train()
    _, positives, pairs, negatives, margins = sampler(targets)
    assert (positives == 1).all()
    assert set(negatives[margins == torch.tensor(0.1)].tolist()) == {2, 3}
    released = make_sampler(hierarchy, matching="released").train().released(multi_hot([[1]], 4).repeat(200, 1))
    assert set(released[3].tolist()) == {0, 2, 3}


def test_random_negatives_replace_the_hierarchy():
    hierarchy = make_tree()
    sets = make_label_sets(hierarchy, 40)
    targets = multi_hot(sets, 13)
    for training in (True, False):
        plain = make_sampler(hierarchy).train(training)(targets)
        rows, positives, pairs, negatives, margins = make_sampler(hierarchy, negatives="random").train(training)(targets)
        assert torch.equal(pairs, plain[2]) and (margins == 0.2).all()  # as many pairs of each positive
        assert not targets[rows[pairs], negatives].any()
        assert len(set(negatives.tolist())) == 13


@pytest.mark.parametrize("options", [{}, {"negatives": "random"}, {"matching": "released", "num_positives": 2}])
def test_eval_loss_is_a_mean_over_documents(options):
    model, batch = make_model("himatch", make_tree(), **options), make_batch()
    labels = ids_tensor(make_label_sets(make_tree(), 4))
    whole = model(**batch, labels=labels).losses
    single = [model(**{k: v[i : i + 1] for k, v in batch.items()}, labels=labels[i : i + 1]).losses for i in range(4)]
    for name, loss in whole.items():
        torch.testing.assert_close(torch.stack([parts[name] for parts in single]).mean(), loss)


def test_draws_follow_the_seed_and_not_the_batch():
    hierarchy = make_tree()
    targets = multi_hot(make_label_sets(hierarchy, 16), 13)
    for options, name in (({}, "forward"), ({"matching": "released"}, "released"), ({"negatives": "random"}, "forward")):
        draw = getattr(make_sampler(hierarchy, **options).train(), name)
        torch.manual_seed(3)
        whole = draw(targets)
        torch.manual_seed(3)
        again = draw(targets)
        assert all(torch.equal(a, b) for a, b in zip(whole, again))
        assert not all(torch.equal(a, b) for a, b in zip(whole, draw(targets)))
    sampler = make_sampler(hierarchy).train()
    torch.manual_seed(3)
    rows, positives, pairs, negatives, _ = sampler(targets)
    torch.manual_seed(3)
    halves = [sampler(part) for part in targets.split(8)]
    expected = {(int(rows[p]), int(positives[p]), int(n)) for p, n in zip(pairs, negatives)}
    found = set()
    for half, (rows, positives, pairs, negatives, _) in enumerate(halves):
        found |= {(int(rows[p]) + 8 * half, int(positives[p]), int(n)) for p, n in zip(pairs, negatives)}
    assert found == expected


def test_memory_is_linear_in_labels_under_one_parent():
    number = 30_000
    hierarchy = LabelHierarchy(["top", *(f"label {i}" for i in range(1, number))], [[], *([[0]] * (number - 1))])
    sampler = make_sampler(hierarchy).train()
    assert sum(buffer.numel() for buffer in sampler.buffers()) < 12 * number
    targets = multi_hot([[0, 17], [0, 29_999, 5]], number)
    rows, positives, pairs, negatives, _ = sampler(targets)
    assert positives.tolist() == [17, 5, 29_999] and len(pairs) == 9
    assert not (targets[rows[pairs], negatives] > 0)[3:].any()
