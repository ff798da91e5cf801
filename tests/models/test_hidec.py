"""HiDEC against the numbers of the authors' code (float64), against plain loops, and what every option does."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hidec_cases import NAMES, PlainHiDEC, make_classifier, make_texts, random_hierarchy, torch_decoder
from huggingface_hub.errors import StrictDataclassError
from tiny_models import ids_tensor, make_batch, make_dag, make_encoder_config, make_label_sets, make_model, make_tree

from hf_htc import HiDECConfig, LabelHierarchy
from hf_htc.models import hidec_decoder, hidec_unrolled
from hf_htc.models.hidec_decoder import ragged_products
from hf_htc.models.hidec_unrolled import count_copies, unroll
from hf_htc.models.labels import label_statistics
from hf_htc.models.modeling_hidec import HiDECClassifier
from hf_htc.models.unit_losses import unit_loss


UNIT = Path(__file__).parent.parent / "fixtures" / "unit"
SEQUENCES = json.loads((UNIT / "hidec_sequences.json").read_text())


def numbers(name):
    return {key: torch.from_numpy(value) for key, value in np.load(UNIT / f"{name}.npz").items()}


def hot(label_sets, num_labels):
    rows = torch.zeros(len(label_sets), num_labels, dtype=torch.bool)
    for row, labels in enumerate(label_sets):
        rows[row, labels] = True
    return rows


def both_ways(classifier, tokens, mask):
    """Logits of `dense` and of `expand`."""
    found = []
    for way in ("dense", "expand"):
        classifier.config.inference = way
        with torch.no_grad():
            found.append(classifier(tokens, mask)[0])
    return found


# ---------------------------------------------------------------------------------------------- the authors' sequences


def released_hierarchy(content):
    """The hierarchy of a fixture; targets are labels, its root is ours."""
    edges = [(None if parent == "root" else parent, child) for parent, child in content["edges"]]
    return LabelHierarchy.from_edges(edges, labels=content["target_labels"])


@pytest.mark.parametrize("kind", ["tree", "tree_leaf_targets_only", "dag"])
def test_sequences_units_and_targets_are_those_of_the_authors(kind):
    content = SEQUENCES[kind]
    hierarchy, released = released_hierarchy(content), content["hidec_hbm_repo"]
    classifier = make_classifier(hierarchy)
    copies, tree = classifier.copies, unroll(hierarchy)
    names = {number: name for name, number in released["vocab"].items()}
    paths = [
        "/".join(["root", *(hierarchy.names[tree.node[c]] for c in [*tree.ancestors(i)[1:], i] if c)])
        for i in range(len(tree.node))
    ]
    inner = [path for path, children in released["children_of"].items() if children != [3]]
    assert sorted(paths) == sorted(inner)
    has_label = hot(hierarchy.encode([sample["labels"] for sample in released["samples"]]), hierarchy.num_labels)
    text = classifier.decoder.read_text(*make_texts(len(has_label)))
    scores = classifier.score_units(copies.sub_hierarchy(has_label), text, has_label)
    for row, sample in enumerate(released["samples"]):
        expected = {}
        for path, is_unit, level in zip(sample["paths"], sample["is_unit_position"], sample["levels"]):
            if is_unit:
                expected[path] = level
        units = (scores.units.document == row).nonzero().flatten().tolist()
        found = [paths[copy] for copy in scores.copy[units].tolist()]
        assert sorted(found) == sorted(expected)
        assert [expected[path] for path in found] == (copies.depth[scores.copy[units]] + 1).tolist()
        # Candidates and targets, without regard to the order of siblings.
        order = [path for path, is_unit in zip(sample["paths"], sample["is_unit_position"]) if is_unit]
        for path, children, gold in zip(order, sample["unit_children_ids"], sample["unit_gold"]):
            entries = (scores.units.unit == units[found.index(path)]).nonzero().flatten()
            rows = copies.candidate[scores.entry[entries]].tolist()
            ours = {
                "[END]" if i == hierarchy.num_nodes else hierarchy.names[i]: g
                for i, g in zip(rows, scores.targets[entries].tolist())
            }
            assert ours == {names[child]: bool(g) for child, g in zip(children, gold)}
            assert (rows[-1] == hierarchy.num_nodes) == (children[-1] == 3)
        # Who attends to whom, between the positions that form units.
        index = torch.tensor([paths.index(path) for path in order])
        kept = [i for i, is_unit in enumerate(sample["is_unit_position"]) if is_unit]
        blocked = torch.tensor(sample["blocked_mask"]).bool()[kept][:, kept]
        assert torch.equal(~copies.is_above(index.unsqueeze(0), index.unsqueeze(1)), blocked)


# ---------------------------------------------------------------------------------------------- the authors' decoder


def released_classifier(z, content, **options):
    """A classifier with the weights of a fixture."""
    hierarchy = released_hierarchy(content)
    classifier = make_classifier(
        hierarchy, size=z["memory"].shape[-1], num_decoder_heads=2, label_bias=False, loss_reduction="batch",
        decoder_ffn_dim=z["w.decoder.decoder.layers.0.linear1.bias"].shape[0], empty_prediction="allow", **options,
    )  # fmt: skip
    vocabulary = content["hidec_hbm_repo"]["vocab"]
    rows = [vocabulary[name] for name in hierarchy.names] + [vocabulary["[END]"], vocabulary["root"]]
    with torch.no_grad():
        classifier.label_embedding.copy_(z["w.label_embedding.weight"][rows])
        # Level 0 is the padding's, and leaves have a level of their own there.
        classifier.level_embedding.copy_(z["w.level_embedding.weight"][1 : 1 + len(classifier.level_embedding)])
        weights = {"norm." + kind: z[f"w.decoder.decoder.norm.{kind}"] for kind in ("weight", "bias")}
        for number in range(2):
            for theirs, ours in NAMES.items():
                value = z[f"w.decoder.decoder.layers.{number}.{theirs}"]
                size = z["memory"].shape[-1]
                parts = [value] if len(ours) == 1 else [value[:size], value[size:]]
                weights.update({f"layers.{number}.{name}": part for name, part in zip(ours, parts)})
        classifier.decoder.load_state_dict(weights)
        if classifier.bounds is not None:
            classifier.bounds.load_state_dict(
                {"dense.weight": z["w.fc.0.weight"], "dense.bias": z["w.fc.0.bias"], "out.weight": z["w.fc.2.weight"]}
            )
    return classifier, rows


def test_states_logits_losses_and_gradients_are_those_of_the_authors():
    z, content = numbers("hidec_hbm_tree_plain"), SEQUENCES["tree"]
    for loss in ("zlpr", "bce"):
        classifier, rows = released_classifier(z, content, unit_loss=loss)
        hierarchy, copies = classifier.config.get_hierarchy(), classifier.copies
        samples = content["hidec_hbm_repo"]["samples"]
        has_label = hot(hierarchy.encode([sample["labels"] for sample in samples]), hierarchy.num_labels)
        text = classifier.decoder.read_text(z["memory"], z["text_attention_mask"])
        scores = classifier.score_units(copies.sub_hierarchy(has_label), text, has_label)
        # The same order: documents, then units in the order of their paths, then candidates by the id of the row.
        vocabulary = torch.tensor(rows)
        theirs = torch.repeat_interleave(torch.arange(len(z["unit_sizes"])), z["unit_sizes"])
        keys = list(zip(theirs.tolist(), z["unit_children"].tolist()))
        ours = list(zip(scores.units.unit.tolist(), vocabulary[copies.candidate[scores.entry]].tolist()))
        order = [ours.index(key) for key in keys]
        assert sorted(order) == list(range(len(ours)))
        torch.testing.assert_close(scores.logits[order], z["logits"], atol=1e-9, rtol=1e-9)
        assert torch.equal(scores.targets[order], z["unit_gold"].bool())
        value = unit_loss(classifier.config, scores.logits, scores.targets, scores.units)
        torch.testing.assert_close(value, z[f"loss_{loss}"], atol=1e-10, rtol=1e-10)
        if loss == "zlpr":
            value.backward()
            gradient = classifier.label_embedding.grad
            torch.testing.assert_close(gradient, z["grad_label_embedding"][rows], atol=1e-9, rtol=1e-8)
            other = [i for i in range(len(z["grad_label_embedding"])) if i not in rows]
            assert not z["grad_label_embedding"][other].any()
            number = len(classifier.level_embedding)
            torch.testing.assert_close(
                classifier.level_embedding.grad, z["grad_level_embedding"][1 : 1 + number], atol=1e-9, rtol=1e-8
            )
            assert not z["grad_level_embedding"][1 + number :].any()  # leaves are nobody's ancestors
        with torch.no_grad():
            sequence = copies.sub_hierarchy(has_label)[0].nonzero().flatten()
            mask = copies.is_above(sequence.unsqueeze(0), sequence.unsqueeze(1)).unsqueeze(0)
            states = classifier.decoder(classifier.embed(sequence).unsqueeze(0), mask, text.select(torch.tensor([0])))[0]
            kept = z["tgt_is_unit"][0].bool()
            torch.testing.assert_close(states, z["decoder_hidden"][0][kept], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("way", ["dense", "expand"])
def test_inference_is_that_of_the_authors(way, monkeypatch):
    z, content = numbers("hidec_hbm_tree_plain"), SEQUENCES["tree"]
    trace = json.loads((UNIT / "hidec_hbm_tree_plain_inference_trace.json").read_text())
    classifier, rows = released_classifier(z, content, unit_loss="bce", inference=way)
    hierarchy = classifier.config.get_hierarchy()
    with torch.no_grad():
        logits, _ = classifier(z["memory"], z["text_attention_mask"])
        expected = z["inference_pred_multi_hot"][:, rows[: hierarchy.num_labels]].bool()
        assert torch.equal(logits > 0, expected)
        # The steps of the trace: the candidates of each level and their logits.
        text = classifier.decoder.read_text(z["memory"], z["text_attention_mask"])
        margins = getattr(hidec_decoder, f"{way}_margins")(classifier, text)
    copies = classifier.copies
    path = copies.path_margins(margins)
    vocabulary = torch.tensor(rows)
    for step in trace:
        found = []
        for document in range(len(margins)):
            reached = (path[document, copies.unit] > 0) & (copies.depth[copies.unit] == step["level"])
            for entry in reached.nonzero().flatten().tolist():
                found.append((int(vocabulary[copies.candidate[entry]]), float(margins[document, entry])))
        assert sorted(child for child, _ in found) == sorted(step["children"])
        expected = sorted(zip(step["children"], step["logits"]))
        np.testing.assert_allclose(np.array(sorted(found)), np.array(expected), atol=1e-9, rtol=1e-9)


def test_leaves_in_the_sequence_change_nothing():
    """The released code decodes leaves with the rest; they form no unit and are nobody's ancestors."""
    hierarchy = make_tree()
    classifier = make_classifier(hierarchy)
    tokens, mask = make_texts()
    labels = hierarchy.close([[1], [4, 2], [hierarchy.id("weather")]])
    has_label = hot(labels, hierarchy.num_labels)
    decoder = torch_decoder(classifier)
    with torch.no_grad():
        scores = classifier.score_units(classifier.copies.sub_hierarchy(has_label), classifier.decoder.read_text(tokens, mask))
        for row, nodes in enumerate(labels):
            nodes = [-1, *nodes]  # with leaves
            rows = torch.tensor([hierarchy.num_nodes + 1, *nodes[1:]])
            level = torch.tensor([0, *(int(hierarchy.levels[node]) for node in nodes[1:])]).clamp(
                max=len(classifier.level_embedding) - 1
            )
            states = classifier.label_embedding[rows] + classifier.level_embedding[level]
            above = [[a == b or a == -1 or (b >= 0 and a in hierarchy.ancestors(b)) for a in nodes] for b in nodes]
            states = decoder(
                states.unsqueeze(0), tokens[row : row + 1], tgt_mask=~torch.tensor(above),
                memory_key_padding_mask=mask[row : row + 1] == 0,
            )[0]  # fmt: skip
            for unit in (scores.units.document == row).nonzero().flatten().tolist():
                node = int(unroll(hierarchy).node[scores.copy[unit]])
                entries = scores.units.unit == unit
                found = scores.logits[entries] - classifier.out_bias[classifier.copies.bias[scores.entry[entries]]]
                expected = (
                    classifier.label_embedding[classifier.copies.candidate[scores.entry[entries]]] @ states[nodes.index(node)]
                )
                torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


# ---------------------------------------------------------------------------------------------- the ways of inference


HIERARCHIES = {
    "tree": make_tree,
    "dag": make_dag,
    "random tree": lambda: random_hierarchy(40, seed=1),
    "random dag": lambda: random_hierarchy(30, seed=2, num_parents=3, num_labels=22),
    "structure-only tops": lambda: LabelHierarchy(["a", "b", "c", "top", "empty"], [[3], [0], [0], [], []], num_labels=3),
    "one label": lambda: LabelHierarchy(["only"], [[]]),
    "no edges": lambda: LabelHierarchy(["a", "b", "c"], [[], [], []]),
}


@pytest.mark.parametrize("closure", ["closed", "as_given"])
@pytest.mark.parametrize("empty", ["best", "allow"])
@pytest.mark.parametrize("loss", ["bce", "zlpr", "hbm", "asl", "wasl"])
@pytest.mark.parametrize("kind", HIERARCHIES)
def test_both_ways_predict_what_a_plain_expansion_predicts(kind, loss, empty, closure):
    num_predicted = 0
    for seed in range(3):
        classifier = make_classifier(
            HIERARCHIES[kind](), seed=seed, unit_loss=loss, empty_prediction=empty, label_closure=closure
        )
        tokens, mask = make_texts(5, seed=seed)
        expected = PlainHiDEC(classifier).predict(tokens, mask)
        dense, expanded = both_ways(classifier, tokens, mask)
        assert torch.isfinite(dense).all() and torch.isfinite(expanded).all()
        for row, labels in enumerate(expected):
            num_predicted += len(labels)
            assert len(labels) or empty == "allow"
            for logits in (dense[row], expanded[row]):
                assert set((logits > 0).nonzero().flatten().tolist()) == set(labels)
                for label, value in labels.items():
                    assert abs(float(logits[label]) - value) < 1e-6
    assert num_predicted


@pytest.mark.parametrize(
    ("hierarchy", "seed"),
    [
        (lambda: random_hierarchy(4271, seed=3, num_tops=21), 0),
        (lambda: random_hierarchy(2500, seed=4, num_parents=2, num_tops=150), 1),
        (lambda: LabelHierarchy(["top", *(f"child {i}" for i in range(500))], [[], *[[0]] * 500]), 2),
        (lambda: LabelHierarchy([str(i) for i in range(200)], [[], *[[i] for i in range(199)]]), 3),
    ],
    ids=["EURLEX57K's size", "a large DAG", "500 children", "200 levels"],
)
def test_both_ways_agree_on_large_hierarchies(hierarchy, seed):
    classifier = make_classifier(hierarchy(), size=8, num_decoder_heads=2, seed=seed, scale=1.0, empty_prediction="best")
    tokens, mask = make_texts(4, size=8, seed=seed)
    dense, expanded = both_ways(classifier, tokens, mask)
    assert torch.equal(dense > 0, expanded > 0)
    chosen = dense > 0
    assert chosen.any(1).all()
    torch.testing.assert_close(dense[chosen], expanded[chosen], atol=1e-8, rtol=1e-8)
    expected = PlainHiDEC(classifier).predict(tokens[:1], mask[:1])[0]
    assert set(chosen[0].nonzero().flatten().tolist()) == set(expected)


@pytest.mark.parametrize("choice", [5.0, -5.0])
def test_all_and_none_of_the_copies_chosen(choice, monkeypatch):
    monkeypatch.setattr(hidec_decoder, "_PAIRS_AT_ONCE", 7)
    for empty in ("allow", "best"):
        hierarchy = random_hierarchy(60, seed=5, num_parents=2)
        classifier = make_classifier(hierarchy, unit_loss="bce", empty_prediction=empty)
        with torch.no_grad():
            classifier.out_bias.fill_(50 * choice)
        dense, expanded = both_ways(classifier, *make_texts(6))
        assert torch.equal(dense > 0, expanded > 0)
        if choice > 0:
            assert (dense > 0).all()
            torch.testing.assert_close(dense, expanded, atol=1e-8, rtol=1e-8)
        else:
            assert ((dense > 0).any(1) == (empty == "best")).all()


def test_parts_of_the_hierarchy_are_as_good_as_the_whole(monkeypatch):
    tokens, mask = make_texts()
    whole, _ = both_ways(make_classifier(random_hierarchy(80, seed=6, num_parents=2)), tokens, mask)
    monkeypatch.setattr(hidec_unrolled, "_CHUNK_COPIES", 4)
    monkeypatch.setattr(hidec_unrolled, "_CHUNK_CANDIDATES", 9)
    classifier = make_classifier(random_hierarchy(80, seed=6, num_parents=2))
    assert len(classifier.copies.chunks) > 5
    in_parts, _ = both_ways(classifier, tokens, mask)
    torch.testing.assert_close(in_parts, whole, atol=1e-10, rtol=1e-10)


def test_expansion_decodes_reached_units_once(monkeypatch):
    """The number of decoded pairs is that of the plain expansion, which visits every reached unit once."""
    decoded, advance = [], hidec_decoder._advance
    monkeypatch.setattr(hidec_decoder, "_advance", lambda *args: (decoded.append(len(args[2])), advance(*args))[1])
    classifier = make_classifier(random_hierarchy(60, seed=7), empty_prediction="allow", inference="expand")
    tokens, mask = make_texts(5)
    with torch.no_grad():
        classifier(tokens, mask)
    plain = PlainHiDEC(classifier)
    plain.predict(tokens, mask)
    assert sum(decoded) == plain.num_calls
    assert len(decoded) <= unroll(classifier.config.get_hierarchy()).num_depths


def test_unreached_labels_have_the_margin_of_the_decision_that_failed():
    hierarchy = make_tree()
    classifier = make_classifier(hierarchy, unit_loss="bce", empty_prediction="allow", inference="expand")
    tree = unroll(hierarchy)
    sport, football = hierarchy.id("sport"), hierarchy.id("sport/football")
    with torch.no_grad():
        classifier.label_embedding.zero_()
        classifier.out_bias.fill_(1.0)
        bias = dict(zip(zip(tree.bias_node.tolist(), tree.bias_child.tolist()), range(len(tree.bias_node))))
        classifier.out_bias[bias[-1, sport]] = -3.0
        classifier.out_bias[bias[sport, football]] = -7.0
        dense, expanded = both_ways(classifier, *make_texts())
    below = [sport, *hierarchy.descendants(sport)]
    assert (expanded[:, below] == -3).all()
    others = [i for i in range(hierarchy.num_labels) if i not in below]
    assert (expanded[:, others] == 1).all()
    assert (dense[:, [football, hierarchy.id("sport/football/cup")]] == -7).all()
    assert (dense[:, [sport, hierarchy.id("sport/tennis")]] == -3).all()


# ---------------------------------------------------------------------------------------------- training


def test_losses_are_those_of_plain_loops():
    hierarchy = make_dag()
    for loss in ("bce", "zlpr", "hbm", "wasl"):
        classifier = make_classifier(hierarchy, unit_loss=loss, hbm_alpha=0.7)
        tokens, mask = make_texts(4)
        labels = [
            [hierarchy.id("income tax")],
            [hierarchy.id("minister"), hierarchy.id("weather")],
            [],
            [hierarchy.id("economy")],
        ]
        has_label = hot(labels, hierarchy.num_labels)
        _, scores = classifier(tokens, mask, has_label.double())
        levels = classifier.copies.level[scores.entry]
        value = unit_loss(classifier.config, scores.logits, scores.targets, scores.units, scores.bounds, levels)
        plain, total = PlainHiDEC(classifier), 0
        for row, document in enumerate(labels):
            below = {a for label in document for a in [label, *hierarchy.ancestors(label)]}
            paths = {()} | {
                tuple(path[: i + 1]) for label in document for path in hierarchy.paths(label) for i in range(len(path))
            }
            units, entries = [], []
            for path in sorted(paths):
                node = path[-1] if path else -1
                if not plain.candidates(node):
                    continue
                text = tokens[row][mask[row].bool()]
                margins = plain.margins(path, text)
                gold = [child in (document if child == node else below) for child in margins]
                units.append(plain_unit_loss(classifier.config, list(margins.values()), gold, path, plain, text, list(margins)))
                entries.append(len(margins))
            # Sums over candidates: the mean of all of a document, or their sum; otherwise the mean over units.
            total += sum(units) / {"bce": sum(entries), "wasl": 1}.get(loss, len(units))
        assert abs(float(value) - total / len(labels)) < 1e-9, loss


def plain_unit_loss(config, margins, gold, path, plain, text, children):
    kind = config.unit_loss
    if kind == "bce":
        return sum(np.log1p(np.exp(-m if g else m)) for m, g in zip(margins, gold))
    if kind == "wasl":
        total = 0
        for margin, is_gold, child in zip(margins, gold, children):
            p = 1 / (1 + np.exp(-margin))
            weight = config.level_weights[int(plain.hierarchy.levels[child]) - 1]
            q = max(p - config.asl_margin, 0)
            total -= weight * (1 - p) * np.log(p) if is_gold else q**4 * np.log(1 - q)
        return total
    distance = np.array(margins) / 2
    total = 0
    for side in (True, False):
        away = np.array([-d if side else d for d, g in zip(distance, gold) if g == side])
        if not len(away):
            continue
        spread = np.std(away, ddof=1) if len(away) > 1 and kind == "hbm" else 0
        kept = away[1 / (1 + np.exp(-2 * away)) > (config.hbm_margin if kind == "hbm" else 0)]
        total += np.log(1 + np.exp(kept + (config.hbm_alpha if kind == "hbm" else 0) * spread).sum())
    return total


def test_ragged_products_and_their_gradients(monkeypatch):
    monkeypatch.setattr(hidec_decoder, "_NUMBERS_AT_ONCE", 12)
    states = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    table = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    unit, row = torch.tensor([0, 0, 1, 3, 3, 3, 2, 0, 1]), torch.tensor([4, 1, 1, 0, 4, 2, 2, 1, 3])
    torch.testing.assert_close(ragged_products(states, table, unit, row), (states[unit] * table[row]).sum(1))
    assert torch.autograd.gradcheck(lambda s, t: ragged_products(s, t, unit, row), (states, table))
    assert len(ragged_products(states, table, unit[:0], row[:0])) == 0


def test_gradients_of_a_wide_unit_add_up_in_half_precision(monkeypatch):
    """A sum of equal numbers in bfloat16 would stop at 256 of them."""
    monkeypatch.setattr(hidec_decoder, "_NUMBERS_AT_ONCE", 3)  # the parts' sums are added up one by one
    states, table = (torch.ones(number, 3, dtype=torch.bfloat16, requires_grad=True) for number in (2, 3000))
    products = ragged_products(states, table, torch.zeros(3000, dtype=torch.long), torch.arange(3000))
    to_states, to_table = torch.autograd.grad(products.sum(), (states, table))
    assert to_states.dtype == to_table.dtype == torch.bfloat16 and (to_table == 1).all()
    assert to_states.tolist() == [[pytest.approx(3000, rel=0.01)] * 3, [0] * 3]


def test_bias_starts_at_the_log_odds_below_the_parent():
    hierarchy = make_dag()  # "people" is structure-only
    names = ["politics", "tax", "income tax", "minister", "bank", "loan", "weather", "economy"]
    sets = [["tax"], ["income tax"], ["minister"], ["bank", "minister"], ["weather"], ["economy"], []]
    model = make_model("hidec, BCE", hierarchy, statistics=False)
    model.set_label_statistics(hierarchy.encode(sets))
    tree, name = unroll(hierarchy), {-1: "root", **dict(enumerate(hierarchy.names))}
    found = {
        (name[parent], name[child]): value
        for parent, child, value in zip(tree.bias_node.tolist(), tree.bias_child.tolist(), model.classifier.out_bias.tolist())
    }
    assert set(names) < set(name.values())
    for (parent, child), (count, total) in {
        ("root", "economy"): (4, 7), ("root", "people"): (2, 7), ("root", "weather"): (1, 7), ("economy", "tax"): (2, 4),
        ("politics", "tax"): (2, 4), ("politics", "minister"): (2, 4), ("people", "minister"): (2, 2), ("tax", "tax"): (1, 2),
        ("tax", "income tax"): (1, 2), ("economy", "economy"): (1, 4), ("politics", "politics"): (0, 4), ("bank", "loan"): (0, 1),
    }.items():  # fmt: skip
        assert found[parent, child] == pytest.approx(np.log((count + 0.5) / (total - count + 0.5)), abs=1e-6), (parent, child)
    assert ("people", "people") not in found and ("root", "root") not in found


def test_node_counts_are_documents_below():
    hierarchy = random_hierarchy(25, seed=8, num_parents=2, num_labels=15)
    sets = make_label_sets(hierarchy, 30, seed=8) + [[]]
    expected = [sum(any(i == node or i in hierarchy.descendants(node) for i in row) for row in sets) for node in range(25)]
    assert label_statistics(sets, hierarchy)["node_counts"].tolist() == expected


def test_documents_without_labels_train_the_root_alone():
    classifier = make_classifier(make_tree())
    tokens, mask = make_texts()
    _, scores = classifier(tokens, mask, torch.zeros(3, 13))
    assert scores.copy.tolist() == [0, 0, 0] and not scores.targets.any()


def test_train_mode_logits_are_those_of_the_known_units():
    model = make_model("hidec", make_tree())
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    sets = [list(range(13))] * 4
    batch = {**make_batch(), "labels": ids_tensor(sets)}
    model.config.empty_prediction = "allow"
    expected = model(**batch)
    found = model.train()(**batch)
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.logits, expected.logits)  # every unit is known
    few = model(**{**batch, "labels": ids_tensor([[12]] * 4)}).logits
    assert torch.isfinite(few).all()


# ---------------------------------------------------------------------------------------------- options, limits, output


def test_output_units():
    hierarchy = make_tree()
    model = make_model("hidec", hierarchy)
    batch = make_batch()
    assert model(**batch).units is None
    sets = make_label_sets(hierarchy, 4)
    output = model(**batch, labels=ids_tensor(sets), output_units=True)
    units = output.units
    assert len(units["document"]) == len(units["node"]) == len(units["bounds"])
    assert len(units["unit"]) == len(units["label"]) == len(units["scores"]) == len(units["targets"])
    for unit, child, target in zip(units["unit"].tolist(), units["label"].tolist(), units["targets"].tolist()):
        node, row = int(units["node"][unit]), sets[int(units["document"][unit])]
        assert target == ((node if child < 0 else child) in row)
        assert child < 0 or hierarchy.parents[child] == ([] if node < 0 else [node])
    free = model(**batch, output_units=True).units
    assert free["targets"] is None
    for document in range(4):  # every unit is the root's or was chosen
        rows = (free["document"] == document).nonzero().flatten().tolist()
        chosen = {-1}
        for entry, unit in enumerate(free["unit"].tolist()):
            if unit in rows and float(free["scores"][entry] - free["bounds"][unit]) > 0:
                chosen.add(int(free["label"][entry]))
        assert {int(free["node"][row]) for row in rows} == {i for i in chosen if i < 0 or hierarchy.children[i]}
    assert make_model("hidec, BCE", hierarchy)(**batch, output_units=True).units["bounds"] is None


def test_a_document_keeps_a_label_unless_it_may_not():
    hierarchy = make_tree()
    sets = make_label_sets(hierarchy, 40)
    model = make_model("hidec, ZLPR", hierarchy, statistics=False)
    model.set_label_statistics(sets)
    with torch.no_grad():
        model.classifier.out_bias.sub_(20)
        for way in ("dense", "expand"):
            model.config.inference = way
            model.config.empty_prediction = "best"
            logits = model(**make_batch()).logits
            assert model.config.label_closure == "closed"
            for row in logits > 0:
                labels = row.nonzero().flatten().tolist()
                assert labels and hierarchy.is_closed([labels])
                assert (logits[logits > 0] == torch.tensor(1e-4)).all()
            model.config.empty_prediction = "allow"
            allowed = model(**make_batch()).logits
            assert (allowed < 0).all()
            if way == "dense":
                assert torch.equal(allowed[logits < 0], logits[logits < 0])
            else:  # the units that are looked at for the best label are known then
                assert (logits <= allowed)[logits < 0].all() and not torch.equal(logits[logits < 0], allowed[logits < 0])


def test_too_many_copies_are_refused():
    # Two parents a level: 2, 4, 8, ... copies.
    parents = [[]] + [[i - 1, i - 2] if i > 1 else [0] for i in range(1, 40)]
    hierarchy = LabelHierarchy([str(i) for i in range(40)], parents)
    number = count_copies(hierarchy)
    assert number == sum(len(hierarchy.paths(i)) for i in range(15)) + sum(count_paths(hierarchy, i) for i in range(15, 40))
    with pytest.raises(StrictDataclassError, match=f"{number:,} copies of its 40 nodes; HiDEC takes at most 200,000"):
        HiDECConfig(text_config=make_encoder_config(), hierarchy=hierarchy)


def count_paths(hierarchy, node, known=None):
    known = {} if known is None else known
    if node not in known:
        known[node] = sum(count_paths(hierarchy, parent, known) for parent in hierarchy.parents[node]) or 1
    return known[node]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_decoder_layers": 0}, "`num_decoder_layers` is 0; give a whole number of at least 1"),
        ({"num_decoder_heads": 5}, "`num_decoder_heads` is 5; it must divide the encoder's width, 16"),
        ({"decoder_ffn_dim": "wide"}, "`decoder_ffn_dim` is 'wide'; give a whole number of at least 1, or 'auto'"),
        ({"inference": "greedy"}, "`inference` is 'greedy'; allowed are 'dense', 'expand' and 'auto'"),
        ({"empty_prediction": "none"}, "`empty_prediction` is 'none'; allowed are 'best', 'allow'"),
        ({"decoder_dropout": 1.0}, r"lies in \[0, 1\)"),
        ({"unit_loss": "cross_entropy"}, "`unit_loss` is 'cross_entropy'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(StrictDataclassError, match=message):
        HiDECConfig(text_config=make_encoder_config(), hierarchy=make_tree(), **options)


def test_automatic_options():
    config = HiDECConfig(text_config=make_encoder_config(), hierarchy=make_tree())
    assert (config.num_decoder_heads, config.decoder_ffn_dim, config.inference, config.unit_loss) == (2, 64, "dense", "hbm")
    large = HiDECConfig(text_config=make_encoder_config(), hierarchy=random_hierarchy(4271, seed=3))
    assert large.inference == "expand"
    assert HiDECConfig(text_config=make_encoder_config("htc_textrcnn"), hierarchy=make_tree()).num_decoder_heads == 5


def test_decoder_without_residual_connections():
    with_, without = (make_classifier(make_tree(), decoder_residual=value) for value in (True, False))
    tokens, mask = make_texts()
    assert not torch.allclose(both_ways(with_, tokens, mask)[0], both_ways(without, tokens, mask)[0])
    dense, expanded = both_ways(without, tokens, mask)
    assert torch.equal(dense > 0, expanded > 0)
    layer = without.decoder.layers[0]
    states = torch.randn(2, 16, dtype=torch.float64)
    found = layer(states, lambda q, k, v: v * 0, lambda q: q * 0)
    expected = layer.ffn_out(torch.relu(layer.ffn_in(layer.ffn_norm(layer.text_out.bias)))).expand(2, -1)
    torch.testing.assert_close(found, expected)


def test_number_of_parameters_is_that_of_the_authors():
    tree = random_hierarchy(103, num_tops=4)
    encoder = make_encoder_config(hidden_size=768, num_attention_heads=12)
    with torch.device("meta"):
        classifier = HiDECClassifier(HiDECConfig(text_config=encoder, hierarchy=tree, label_bias=False))
    assert sum(p.numel() for p in classifier.decoder.parameters()) == pytest.approx(18_910_000, abs=5000)
    assert sum(p.numel() for p in classifier.bounds.parameters()) == 591_360


def test_deep_and_wide_hierarchies_train():
    chain = LabelHierarchy([str(i) for i in range(200)], [[], *[[i] for i in range(199)]])
    wide = LabelHierarchy([str(i) for i in range(3001)], [[], *[[0]] * 3000])
    for hierarchy, labels in ((chain, [[199], [3]]), (wide, [[0, 5], [3000]])):
        model = make_model("hidec", hierarchy)
        loss = model.train()(**make_batch(2), labels=ids_tensor(hierarchy.close(labels))).loss
        loss.backward()
        assert torch.isfinite(loss)
