"""HiSR's ranking losses against the numbers of the paper's equations (float64), plain loops with exact fractions, and by hand."""

import itertools
import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_models import ids_tensor, make_batch, make_dag, make_label_sets, make_model, make_tree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hf_htc import HiSRConfig, LabelHierarchy
from hf_htc.models.hisr_ranking import SequenceRanking
from hf_htc.models.losses import multi_label_bce


FIXTURE = json.loads((Path(__file__).parent.parent / "fixtures" / "global" / "hisr_losses.json").read_text())
TOLERANCE = {"rtol": 1e-9, "atol": 1e-10}
CHOICES = {
    "ranking_sign": ("corrected", "printed"),
    "ranking_positive": ("mean_of_labels", "mean_of_paths"),
    "ranking_candidates": ("without_sequences_inside_gold", "all_sequences", "without_f1_equal_1"),
    "ranking_negatives": ("all", "selected"),
}


def make_ranking(hierarchy, **options):
    ranking = SequenceRanking(HiSRConfig(hierarchy=hierarchy, **options))
    ranking.init_weights(ranking.config)
    return ranking


def fixture_hierarchy():
    return LabelHierarchy.from_edges([(p, c) for p, row in FIXTURE["taxonomy"].items() for c in row], labels=FIXTURE["labels"])


def multi_hot(sets, num_labels):
    return torch.stack([torch.tensor([float(i in row) for i in range(num_labels)]) for row in sets])


# ---------------------------------------------------------------------------------------------- plain loops


def sequences_of(hierarchy):
    return [sorted({n, *(a for a in hierarchy.ancestors(n) if a < hierarchy.num_labels)}) for n in range(hierarchy.num_labels)]


def f1(sequence, gold):
    return Fraction(2 * len(set(sequence) & gold), len(sequence) + len(gold)) if gold else Fraction(0)


def groups_of(sequences, probabilities, gold, candidates):
    """Candidate ids, and of each F1, the highest first, the candidates with it, the most probable first."""
    pool = {
        "all_sequences": lambda s: True,
        "without_sequences_inside_gold": lambda s: not set(s) <= gold,
        "without_f1_equal_1": lambda s: set(s) != gold,
    }[candidates]
    ids = [n for n, sequence in enumerate(sequences) if pool(sequence)]
    scores = {n: f1(sequences[n], gold) for n in ids}
    groups = [[n for n in ids if scores[n] == score] for score in sorted(set(scores.values()), reverse=True)]
    return ids, [sorted(group, key=lambda n: (-probabilities[n].item(), n)) for group in groups]


def losses_by_loops(hierarchy, p, gold, config):
    """Both losses of one document's label probabilities `p (N,)`, equations read aloud."""
    gold, sequences = set(gold), sequences_of(hierarchy)
    if not gold:
        return p.sum() * 0, p.sum() * 0
    probabilities = [sum(p[i] for i in sequence) / len(sequence) for sequence in sequences]
    ids, groups = groups_of(sequences, probabilities, gold, config.ranking_candidates)
    if config.ranking_positive == "mean_of_labels":
        truth = sum(p[i] for i in gold) / len(gold)
    else:
        ends = [n for n in gold if not any(n in sequences[other] for other in gold - {n})]
        truth = sum(probabilities[n] for n in ends) / len(ends)
    best = [group[0] for group in groups]

    def hinge(better, worse, margin):
        return torch.relu((worse - better if config.ranking_sign == "corrected" else better - worse) + margin)

    negatives = ids if config.ranking_negatives == "all" else best
    positive = p.sum() * 0 + sum(hinge(truth, probabilities[n], config.positive_margin) for n in negatives)
    negative = p.sum() * 0
    for (i, a), (j, b) in itertools.combinations(enumerate(best), 2):
        distance = min(j - i, config.max_rank_distance or j)
        negative = negative + hinge(probabilities[a], probabilities[b], distance * config.negative_margin)
    return positive, negative


def assert_same_as_loops(hierarchy, logits, sets, **options):
    ranking = make_ranking(hierarchy, **options)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = ranking(ours, multi_hot(sets, hierarchy.num_labels))
    rows = [losses_by_loops(hierarchy, p, row, ranking.config) for p, row in zip(torch.sigmoid(theirs), sets)]
    for values, expected in zip(found, zip(*rows)):
        torch.testing.assert_close(values, torch.stack(expected), **TOLERANCE)
    weights = torch.linspace(0.5, 1.5, len(sets), dtype=torch.float64)
    ((found[0] + 2 * found[1]) * weights).sum().backward()
    sum((a + 2 * b) * w for (a, b), w in zip(rows, weights)).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, **TOLERANCE)


# ---------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("sample", FIXTURE["samples"], ids=lambda sample: sample["name"])
def test_values_and_gradients_of_the_equations(sample):
    hierarchy = fixture_hierarchy()
    logits = torch.logit(torch.tensor([sample["prob"]], dtype=torch.float64))
    targets = multi_hot([sample["gold"]], 11)
    compared = 0
    for candidates in CHOICES["ranking_candidates"]:
        for name, expected in sample[candidates].items():
            if not name.startswith("L_"):
                continue
            options = {
                "ranking_candidates": candidates,
                "ranking_sign": "printed" if "as_printed" in name else "corrected",
                "ranking_positive": "mean_of_paths" if name.endswith("Pp_paths") else "mean_of_labels",
                "ranking_negatives": "selected" if "selected_only" in name else "all",
            }
            values = make_ranking(hierarchy, **options)(logits, targets)[0 if name.startswith("L_pn") else 1]
            torch.testing.assert_close(values, torch.tensor([expected], dtype=torch.float64), **TOLERANCE, msg=name)
            assert_same_as_loops(hierarchy, logits, [sample["gold"]], **options)
            compared += 1
    assert compared == 24


@pytest.mark.parametrize("sample", FIXTURE["samples"], ids=lambda sample: sample["name"])
def test_sequences_their_probabilities_groups_and_choices(sample):
    hierarchy = fixture_hierarchy()
    ranking = make_ranking(hierarchy)
    ours = sequences_of(hierarchy)
    label_of = [ours.index(sorted(ids)) for ids in FIXTURE["sequences_label_ids"]]  # of a sequence in the fixture's order
    members = [ranking.member[ranking.sequence == n].sort().values.tolist() for n in range(11)]
    assert members == ours and ranking.length.tolist() == [len(ids) for ids in ours]
    logits = torch.logit(torch.tensor([sample["prob"]], dtype=torch.float64))
    probabilities = ranking.collect(torch.sigmoid(logits)) / ranking.length
    expected = torch.tensor([sample["sequence_prob"]], dtype=torch.float64)
    torch.testing.assert_close(probabilities[:, label_of], expected, **TOLERANCE)
    targets = multi_hot([sample["gold"]], 11) > 0.5
    overlap, size = ranking.collect(targets.long()), targets.sum(1, keepdim=True)
    for candidates in CHOICES["ranking_candidates"]:
        ranking = make_ranking(hierarchy, ranking_candidates=candidates)
        wanted = sample[candidates]
        pool = ranking._candidates(overlap, size)
        assert int(pool.sum()) == wanted["num_sequences"]
        rank, num_groups = ranking._ranks(overlap, size, pool)
        assert num_groups == len(wanted["group_sizes"])
        assert rank[pool].bincount(minlength=num_groups).tolist() == wanted["group_sizes"]
        for number, index in enumerate(wanted["selected_sequence_index_per_group"]):
            assert int(rank[0, label_of[index]]) == number
            assert sample["sequence_f1"][index] == pytest.approx(wanted["group_f1_descending"][number])
        selected, is_group = ranking._most_probable(probabilities, rank, pool, num_groups)
        torch.testing.assert_close(selected[0], torch.tensor(wanted["selected_prob"], dtype=torch.float64), **TOLERANCE)
        assert is_group.all()


def test_as_printed_the_perfect_predictor_pays_more_than_the_inverted_one():
    hierarchy = fixture_hierarchy()
    gold = multi_hot([[0, 3, 8]], 11)
    perfect = (2 * gold.double() - 1) * 60
    values = {}
    for sign in CHOICES["ranking_sign"]:
        ranking = make_ranking(hierarchy, ranking_sign=sign, ranking_candidates="all_sequences")
        values[sign] = [float(ranking(logits, gold)[0]) for logits in (perfect, -perfect)]
    # Perfect: P = 1 for the truth and its prefixes, 2/3 and 1/2 for two sequences, 0 for six. 3 * 0.5 + 5/6 + 1 + 6 * 1.5.
    assert values["printed"] == pytest.approx([37 / 3, 5 / 3])
    assert values["corrected"] == pytest.approx([5 / 3, 37 / 3])  # 5/3: 3 * 0.5 for the truth and its prefixes, 1/6
    without = make_ranking(hierarchy)(perfect, gold)
    assert float(without[0]) == pytest.approx(1 / 6)  # nothing is paid for true labels
    assert float(without[1]) == 0  # 2/3, 1/2 and 0: further apart than the margins


def test_by_hand():
    """a -> b, c and d; the document has a and b, so that c and d are the candidates: F1 1/2 and 0."""
    hierarchy = LabelHierarchy(["a", "b", "c", "d"], [[], [0], [0], []])
    p = torch.tensor([[0.8, 0.6, 0.4, 0.9]], dtype=torch.float64)
    gold = multi_hot([[0, 1]], 4)
    positive, negative = make_ranking(hierarchy)(torch.logit(p), gold)
    # The truth has 0.7, c's sequence 0.6, d's 0.9: (0.6 - 0.7 + 0.5) + (0.9 - 0.7 + 0.5); one pair, 0.9 - 0.6 + 0.15.
    assert float(positive) == pytest.approx(0.4 + 0.7) and float(negative) == pytest.approx(0.45)
    positive, negative = make_ranking(hierarchy, ranking_candidates="all_sequences")(torch.logit(p), gold)
    # a has 0.8 and F1 2/3, b's sequence 0.7 and F1 1: (0.8 - 0.7 + 0.5) + 0.5 more; ranks 0.7, 0.8, 0.6, 0.9.
    assert float(positive) == pytest.approx(0.6 + 0.5 + 0.4 + 0.7)
    assert float(negative) == pytest.approx((0.1 + 0.15) + (-0.1 + 0.3) + (0.2 + 0.45) + 0 + (0.1 + 0.3) + (0.3 + 0.15))
    positive, negative = make_ranking(hierarchy, ranking_sign="printed", max_rank_distance=1)(torch.logit(p), gold)
    assert float(positive) == pytest.approx((0.7 - 0.6 + 0.5) + (0.7 - 0.9 + 0.5)) and float(negative) == 0


def random_hierarchy(generator, is_tree, num_nodes=18, num_labels=14):
    def draw(high, count=1):
        return torch.randint(0, high, (count,), generator=generator).tolist()

    parents = [[]]
    for i in range(1, num_nodes):
        parents.append(sorted(set(draw(i, 1 if is_tree else 1 + draw(3)[0])) if draw(6)[0] else set()))
    # Structure-only nodes stand anywhere in the taxonomy, not only at its end.
    new = torch.randperm(num_nodes, generator=generator).tolist()
    rows = [None] * num_nodes
    for i, row in enumerate(parents):
        rows[new[i]] = sorted(new[k] for k in row)
    return LabelHierarchy([f"n{i}" for i in range(num_nodes)], rows, num_labels)


@pytest.mark.parametrize("seed", range(6))
def test_random_hierarchies_and_labels_against_loops(seed):
    """Trees and DAGs with structure-only nodes; closed, as-given, empty and full label sets; many equal probabilities."""
    generator = torch.Generator().manual_seed(seed)
    hierarchy = random_hierarchy(generator, is_tree=seed % 2 == 0)
    n = hierarchy.num_labels
    drawn = [torch.randperm(n, generator=generator)[: 1 + k].tolist() for k in range(4)]
    sets = [*hierarchy.close(drawn[:2]), *drawn[2:], [], list(range(n))]
    logits = torch.randn(len(sets), n, generator=generator, dtype=torch.float64)
    tied = torch.randint(-1, 2, (len(sets), n), generator=generator).double()
    combinations = list(itertools.product(*CHOICES.values()))
    for number, values in enumerate(combinations):
        options = dict(zip(CHOICES, values), max_rank_distance=(None, 1, 3)[number % 3])
        assert_same_as_loops(hierarchy, tied if number % 2 else logits, sets, **options)


def test_many_groups_are_found_exactly():
    """Chains of up to 12 labels and documents of up to 30: a hundred fractions, many of them equal."""
    parents = []
    for length in (12, 12, 9, 5, 1):
        parents += [[] if i == 0 else [len(parents) - 1 + i] for i in range(length)]
    hierarchy = LabelHierarchy([f"n{i}" for i in range(len(parents))], parents)
    generator = torch.Generator().manual_seed(0)
    sets = [torch.randperm(len(parents), generator=generator)[:k].tolist() for k in (1, 3, 6, 11, 17, 30)]
    targets = multi_hot(sets, len(parents)) > 0.5
    ranking = make_ranking(hierarchy, ranking_candidates="all_sequences")
    overlap, size = ranking.collect(targets.long()), targets.sum(1, keepdim=True)
    rank, num_groups = ranking._ranks(overlap, size, torch.ones_like(targets))
    largest = 0
    for row, gold in zip(rank.tolist(), sets):
        scores = [f1(sequence, set(gold)) for sequence in sequences_of(hierarchy)]
        order = sorted(set(scores), reverse=True)
        assert row == [order.index(score) for score in scores]
        largest = max(largest, len(order))
    assert num_groups == largest > 15


# ---------------------------------------------------------------------------------------------- behaviour


def test_the_first_of_equally_probable_sequences_is_chosen():
    hierarchy = LabelHierarchy(["a", "b", "c"], [[], [], []])
    logits = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    ranking = make_ranking(hierarchy, ranking_negatives="selected")
    ranking(logits, multi_hot([[0]], 3))[0].sum().backward()
    assert logits.grad[0].tolist() == pytest.approx([-0.25, 0.25, 0.0])


def test_documents_without_ground_truth_or_candidates_cost_nothing():
    ranking = make_ranking(make_dag(), ranking_candidates="without_sequences_inside_gold")
    logits = torch.randn(2, 8, requires_grad=True)
    positive, negative = ranking(logits, multi_hot([[], range(8)], 8))
    assert positive.tolist() == negative.tolist() == [0.0, 0.0]
    (positive + negative).sum().backward()
    assert (logits.grad == 0).all()


def test_half_precision_and_saturated_logits_give_finite_float32():
    ranking = make_ranking(make_tree())
    logits = (torch.randn(3, 13, generator=torch.Generator().manual_seed(0)) * 200).bfloat16().requires_grad_()
    values = ranking(logits, multi_hot([[0, 1], [2], [5, 3]], 13))
    assert {value.dtype for value in values} == {torch.float32}
    sum(value.sum() for value in values).backward()
    assert torch.isfinite(logits.grad).all() and all(torch.isfinite(value).all() for value in values)


@pytest.mark.parametrize(("sign", "goes_up"), [("corrected", True), ("printed", False)])
def test_the_losses_alone_rank_the_truth_and_what_is_near_it(sign, goes_up):
    hierarchy, gold = fixture_hierarchy(), multi_hot([[0, 3, 8]], 11)
    logits = torch.zeros(1, 11, dtype=torch.float64, requires_grad=True)
    ranking, optimizer = make_ranking(hierarchy, ranking_sign=sign), torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        sum(ranking(logits, gold)).sum().backward()
        optimizer.step()
    p = torch.sigmoid(logits.detach())
    of_sequence = (ranking.collect(p) / ranking.length)[0]
    truth, brother, uncle, stranger = of_sequence[8], of_sequence[9], of_sequence[4], of_sequence[7]
    assert (truth > brother > uncle > stranger) == goes_up
    assert (truth < brother < stranger) == (not goes_up)


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
    ranking = make_ranking(hierarchy)
    logits = torch.randn(4, number, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = multi_hot(hierarchy.close([[29_999], [5, 17], [300, 9_000], [0]]), number)
    with _Sizes() as sizes:
        sum(ranking(logits, targets)).mean().backward()
    assert torch.isfinite(logits.grad).all() and (logits.grad != 0).any(1).all()
    assert sizes.largest == 4 * len(ranking.member) < 4 * 5 * number


# ---------------------------------------------------------------------------------------------- the model and its options


def loss_parts(labels=None, method="hisr", **options):
    labels = ids_tensor(make_label_sets(make_tree(), 4)) if labels is None else labels
    return make_model(method, make_tree(), **options)(**make_batch(), labels=labels)


def test_parts_of_the_loss():
    sets = make_label_sets(make_tree(), 4)
    output = loss_parts()
    assert list(output.losses) == ["bce", "recursive_regularization", "positive_negative", "negative_negative"]
    targets = multi_hot(sets, 13)
    torch.testing.assert_close(output.losses["bce"], 13 * multi_label_bce(output.logits, targets))
    config = make_model("hisr", make_tree()).config
    rows = [losses_by_loops(make_tree(), p, row, config) for p, row in zip(torch.sigmoid(output.logits), sets)]
    for name, values in zip(("positive_negative", "negative_negative"), zip(*rows)):
        torch.testing.assert_close(output.losses[name], 0.01 * torch.stack(values).mean())
        assert output.losses[name] > 0
    torch.testing.assert_close(loss_parts(ranking_weight=2).losses["positive_negative"], 200 * output.losses["positive_negative"])


def test_without_ranking_it_is_hiagm():
    plain = make_model("hiagm", make_tree())
    model = make_model("hisr", make_tree(), ranking_weight=0, bce_reduction="mean")
    labels = ids_tensor(make_label_sets(make_tree(), 4))
    outputs = [each(**make_batch(), labels=labels) for each in (plain, model)]
    assert outputs[0].losses.keys() == outputs[1].losses.keys()
    assert torch.equal(outputs[0].loss, outputs[1].loss) and torch.equal(outputs[0].logits, outputs[1].logits)
    for output in outputs:
        output.loss.backward()
    of_model = dict(model.named_parameters())
    assert of_model.keys() == dict(plain.named_parameters()).keys() and plain.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(parameter.grad, of_model[name].grad) for name, parameter in plain.named_parameters())


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"positive_margin": 0.2}, ["positive_negative"]),
        ({"negative_margin": 0.3}, ["negative_negative"]),
        ({"max_rank_distance": 1}, ["negative_negative"]),
        ({"ranking_sign": "printed"}, ["negative_negative", "positive_negative"]),
        ({"ranking_positive": "mean_of_paths"}, ["positive_negative"]),
        ({"ranking_candidates": "all_sequences"}, ["negative_negative", "positive_negative"]),
        ({"ranking_candidates": "without_f1_equal_1"}, ["negative_negative", "positive_negative"]),
        ({"ranking_negatives": "selected"}, ["positive_negative"]),
        ({"ranking_weight": 0.1}, ["negative_negative", "positive_negative"]),
        ({"bce_reduction": "mean"}, ["bce"]),
    ],
    ids=str,
)
def test_every_option_changes_its_part_and_no_logits(options, changed):
    labels = ids_tensor(make_tree().close([[4, 9], [2, 3], [1, 8, 12], [7]]))
    plain, other = loss_parts(labels), loss_parts(labels, **options)
    assert torch.equal(plain.logits, other.logits)
    assert sorted(name for name in plain.losses if not torch.equal(plain.losses[name], other.losses[name])) == changed


def test_without_labels_nothing_is_ranked(monkeypatch):
    model = make_model("hisr", make_tree())
    monkeypatch.setattr(SequenceRanking, "forward", None)
    assert torch.isfinite(model(**make_batch()).logits).all()


def test_coherent_training_ranks_the_coherent_probabilities():
    sets = make_label_sets(make_tree(), 4)
    outputs = {}
    for coherence in ("none", "decoder", "training"):
        model = make_model("hisr", make_tree(), coherence=coherence)
        with torch.no_grad():
            model.classifier.out_bias[0] -= 9  # sport, whose children are now more probable
        outputs[coherence] = model(**make_batch(), labels=ids_tensor(sets))
    assert torch.equal(outputs["training"].logits, outputs["decoder"].logits)
    assert torch.equal(outputs["none"].loss, outputs["decoder"].loss)
    for coherence in ("none", "training"):
        ranked = make_ranking(make_tree())(outputs[coherence].logits, multi_hot(sets, 13))
        torch.testing.assert_close(outputs[coherence].losses["positive_negative"], 0.01 * ranked[0].mean())
    assert outputs["none"].losses["positive_negative"] > 1.01 * outputs["training"].losses["positive_negative"]


def test_labels_as_they_are_given():
    """A document with a label but not its parent: trained on, and the F1 is with the labels that are there."""
    tree = make_tree()
    child = next(i for i in range(13) if tree.parents[i])
    output = loss_parts(torch.tensor([[child]] * 4))
    config = make_model("hisr", tree).config
    expected = [losses_by_loops(tree, p, [child], config)[0] for p in torch.sigmoid(output.logits)]
    torch.testing.assert_close(output.losses["positive_negative"], 0.01 * torch.stack(expected).mean())
    model = make_model("hisr", tree, statistics=False)
    model.set_label_statistics([[child]])
    assert model.config.label_closure == "as_given"


@pytest.mark.parametrize("method", ["hiagm", "hisr"])
def test_without_a_structure_encoder_no_messages_are_passed(method):
    model = make_model(method, make_tree(), structure_encoder="none", classifier="node")
    assert len(model.classifier.structure_encoder) == 0
    assert set(dict(model.classifier.named_parameters())) == {
        "out_weight", "out_bias", "transformation.weight", "transformation.bias",
    }  # fmt: skip
    expected = model(**make_batch()).logits
    with torch.no_grad():
        model.classifier.transformation.weight[:6] += 1  # those of label 0
    changed = (model(**make_batch()).logits != expected).any(0)
    assert changed.tolist() == [True] + [False] * 12
    model(**make_batch(), labels=torch.tensor([0, 1, 2, 3])).loss.backward()
    assert all((parameter.grad != 0).any() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ranking_weight": -0.1}, "`ranking_weight` is -0.1; it is at least 0"),
        ({"positive_margin": float("nan")}, "`positive_margin` is nan"),
        ({"negative_margin": -1}, "`negative_margin` is -1"),
        ({"max_rank_distance": 0}, "`max_rank_distance` is 0; it is at least 1, or None"),
        ({"ranking_sign": "minus"}, "`ranking_sign` is 'minus'; allowed are 'corrected', 'printed'"),
        ({"ranking_positive": "max"}, "`ranking_positive` is 'max'"),
        ({"ranking_candidates": "all"}, "`ranking_candidates` is 'all'; allowed are 'all_sequences'"),
        ({"ranking_negatives": "some"}, "`ranking_negatives` is 'some'"),
        ({"bce_reduction": "none"}, "`bce_reduction` is 'none'"),
        ({"structure_encoder": "gat"}, "`structure_encoder` is 'gat'; allowed are 'gcn', 'tree_lstm', 'none'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(StrictDataclassError, match=message):
        HiSRConfig(hierarchy=make_tree(), **options)
