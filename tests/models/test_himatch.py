"""HiMatch's losses against the numbers of the authors' own module and of the paper's equations (float64), gradients included;
what is drawn against brute force; label texts; the form that scores labels by name."""

import copy
import io
import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_models import (
    ids_tensor,
    make_batch,
    make_dag,
    make_encoder_config,
    make_label_sets,
    make_model,
    make_texts,
    make_tokenizer,
    make_tree,
)
from transformers import AutoModel

from hf_htc import HiMatchConfig, HiMatchForHierarchicalTextClassification, LabelHierarchy
from hf_htc.models.label_matching import LabelMatching, joint_embedding_loss, matching_loss, released_losses
from hf_htc.models.label_sampling import LabelSampler
from hf_htc.models.label_texts import embed_label_texts


FIXTURES = Path(__file__).parent.parent / "fixtures" / "global"
RELATIONS = json.loads((FIXTURES / "himatch_sampling_relations.json").read_text())
TOLERANCE = {"rtol": 1e-9, "atol": 1e-10}
DOT = "himatch, dot product"


def make_config(hierarchy, **options):
    return HiMatchConfig(text_config=make_encoder_config(), hierarchy=hierarchy, **{"node_dim": 6, "joint_dim": 12, **options})


def make_sampler(hierarchy, **options):
    config = make_config(hierarchy, **options)
    sampler = LabelSampler(config)
    sampler.init_weights(config)
    return sampler


def multi_hot(sets, num_labels):
    hot = torch.zeros(len(sets), num_labels)
    for row, labels in enumerate(sets):
        hot[row, labels] = 1
    return hot


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


# ---------------------------------------------------------------------------------------------- the model


def count_calls(model):
    calls = {}
    for name, module in model.classifier.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1}))
    return calls


def test_training_parts_are_not_called_at_inference():
    model = make_model("himatch", make_tree())
    calls, batch = count_calls(model), make_batch()
    model(**batch)
    assert calls and not any(name.startswith("matching") for name in calls)
    model.predict(make_texts(3), make_tokenizer())
    assert not any(name.startswith("matching") for name in calls)
    model(**batch, labels=torch.tensor([0, 1, 2, 3]))
    assert calls["matching.label_ffn"] == calls["matching.text_ffn"] == calls["matching.sampler"] == 1


def test_ablations_leave_their_parts_out():
    batch = {**make_batch(), "labels": ids_tensor(make_label_sets(make_tree(), 4))}
    for options, expected in (
        ({}, {"bce", "joint", "match"}),
        ({"lambda_joint": 0.0}, {"bce", "match"}),
        ({"lambda_match": 0.0}, {"bce", "joint"}),
        ({"lambda_joint": 0.0, "lambda_match": 0.0}, {"bce"}),
    ):
        for name in ("himatch", DOT):
            model = make_model(name, make_tree(), **options)
            output = model(**batch)
            output.loss.backward()
            assert all(parameter.grad is not None for parameter in model.parameters())
            assert set(output.losses) == expected
    # Without both, what is left of the form with a classifier is HiAGM-TP.
    model = make_model("himatch", make_tree(), lambda_joint=0.0, lambda_match=0.0)
    model.set_label_texts(make_tokenizer())
    assert model.classifier.matching is None
    flat = make_model("hiagm", make_tree(), recursive_regularization=0.0)
    assert {name for name, _ in model.named_parameters()} == {name for name, _ in flat.named_parameters()}


@pytest.mark.parametrize(
    "options",
    [
        {"lambda_joint": 0.5}, {"lambda_match": 0.5}, {"joint_reduction": "sum"}, {"matching": "released"}, {"gamma": 0.7},
        {"negatives": "random"}, {"alpha": 0.4}, {"beta": 0.1}, {"normalize_joint": True}, {"num_label_layers": 0},
        {"num_label_layers": 2}, {"matching": "released", "num_positives": 3}, {"text_projection": "pooled"}, {"joint_dim": 5},
        {"bce_reduction": "sum"}, {"recursive_regularization": 0.1}, {"label_source": "tokens"}, {"label_residual": True},
    ],
)  # fmt: skip
def test_every_option_changes_the_loss(options):
    batch = {**make_batch(), "labels": ids_tensor(make_label_sets(make_tree(), 4, seed=1))}
    plain = {"matching": "released"} if "num_positives" in options else {}
    losses = []
    for changed in (plain, options):
        model = make_model("himatch", make_tree(), **changed)
        model.set_label_texts(make_tokenizer(), make_texts(13))
        losses.append(float(model(**batch).loss))
    assert losses[0] != pytest.approx(losses[1], rel=1e-6)


def test_weights_of_the_losses():
    batch = {**make_batch(), "labels": ids_tensor(make_label_sets(make_tree(), 4))}
    once, twice = (make_model("himatch", make_tree(), lambda_joint=w, lambda_match=3 * w)(**batch).losses for w in (1.0, 2.0))
    for name, factor in (("bce", 1), ("joint", 2), ("match", 2)):
        torch.testing.assert_close(twice[name], factor * once[name])


def test_dropout_in_the_projections_in_training_only():
    model = make_model("himatch", make_tree(), joint_dropout=0.5).classifier.matching
    features = torch.randn(4, model.text_ffn[0].in_features)
    assert torch.equal(model.text_semantics(features), model.text_semantics(features))
    model.train()
    assert not torch.equal(model.text_semantics(features), model.text_semantics(features))
    without = make_model("himatch", make_tree(), joint_dropout=0.0).classifier.matching.train()
    assert torch.equal(without.text_semantics(features), without.text_semantics(features))


def test_pooled_nodes_against_loops():
    model = make_model("himatch", make_dag(), text_projection="pooled")
    classifier, text = model.classifier, torch.randn(2, 16)
    with torch.no_grad():
        classifier.node_weights.normal_()
        nodes = classifier.propagate(text)
        pooled = sum(nodes[:, m] * classifier.node_weights[m] for m in range(9))
        seen = []
        classifier.matching.text_ffn.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
        classifier(text, multi_hot([[0], [1]], 8))
    torch.testing.assert_close(seen[0], pooled)


def test_auto_choices():
    config = make_config(make_tree())
    assert (config.gamma, config.label_source, config.train_label_embeddings) == (0.2, "words", True)
    assert (config.normalize_joint, config.bce_reduction, config.text_projection) == (False, "mean", "flatten")
    assert (config.joint_dropout, config.label_residual) == (0.5, False)
    assert (make_config(make_tree(), joint_dim="auto").joint_dim, config.joint_dim) == (200, 12)
    config = make_config(make_tree(), prediction="dot_product")
    assert (config.gamma, config.label_source, config.train_label_embeddings) == (0.5, "text", False)
    assert (config.normalize_joint, config.bce_reduction, config.joint_dropout, config.label_residual) == (True, "sum", 0.1, True)
    assert make_config(make_tree(), prediction="dot_product", joint_dim="auto").joint_dim == 32
    many = LabelHierarchy([f"n{i}" for i in range(4271)], [[]] * 4271)
    assert make_config(many, node_dim="auto").text_projection == "pooled"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction": "product"}, "`prediction` is 'product'; allowed are 'classifier', 'dot_product'"),
        ({"variant": "la"}, "`variant` is 'la'; allowed are 'tp'"),
        ({"text_projection": "mean"}, "`text_projection` is 'mean'.*'pooled' and 'auto'"),
        ({"label_source": "glove"}, "`label_source` is 'glove'"),
        ({"label_text": "names"}, "`label_text` is 'names'"),
        ({"matching": "cosine"}, "`matching` is 'cosine'"),
        ({"negatives": "hard"}, "`negatives` is 'hard'"),
        ({"negatives": "random", "matching": "released"}, "ablation of `matching='paper'`"),
        ({"joint_reduction": "max"}, "`joint_reduction` is 'max'"),
        ({"bce_reduction": "max"}, "`bce_reduction` is 'max'"),
        ({"gamma": -0.1}, "`gamma` is -0.1"),
        ({"gamma": "large"}, "`gamma` is 'large'"),
        ({"alpha": -1.0}, "`alpha` is -1.0"),
        ({"lambda_joint": -1.0}, "`lambda_joint` is -1.0"),
        ({"joint_dim": 0}, "`joint_dim` is 0"),
        ({"joint_dim": "wide"}, "`joint_dim` is 'wide'; it is a whole number of at least 1, or 'auto'"),
        ({"num_positives": 0}, "`num_positives` is 0"),
        ({"label_refresh_steps": -1}, "`label_refresh_steps` is -1"),
        ({"label_refresh_steps": 5}, "`train_label_embeddings` is true: what is trained would be overwritten"),
        ({"num_label_layers": -1}, "`num_label_layers` is -1"),
        ({"joint_dropout": 1.0}, "`joint_dropout` is 1.0"),
        ({"node_dim": "wide"}, "`node_dim` is 'wide'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(StrictDataclassError, match=message):
        make_config(make_tree(), **options)


def test_a_projection_that_cannot_fit_is_refused():
    many = LabelHierarchy([f"n{i}" for i in range(4271)], [[]] * 4271)
    with pytest.raises(StrictDataclassError, match=r"would have 2,562,600,000 parameters.*text_projection='pooled'"):
        make_config(many, node_dim=300, joint_dim=2000, text_projection="flatten")


# ---------------------------------------------------------------------------------------------- label texts


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(0)
    AutoModel.from_config(make_encoder_config()).save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def build(encoder, tokenizer=None, **options):
    hierarchy = options.pop("hierarchy", make_tree())
    return HiMatchForHierarchicalTextClassification.from_text_encoder(
        encoder, hierarchy, tokenizer, **{"node_dim": 6, "joint_dim": 12, **options}
    )


WORDY = {
    "tax": "income of the tax budget", "bank": "loan and bank", "weather": "star", "loan": "", "people": "actor minister",
}  # fmt: skip


@pytest.mark.parametrize("source", ["words", "tokens"])
def test_label_embeddings_are_means_over_tokens(encoder, tokenizer, source):
    hierarchy = make_dag()
    model = build(encoder, tokenizer, label_source=source, hierarchy=hierarchy).eval()
    for texts in (None, WORDY):
        if texts:
            model.set_label_texts(tokenizer, texts, batch_size=2)
        for node, name in enumerate(hierarchy.names):
            text = (texts or {}).get(name) or hierarchy.texts[node]
            ids = torch.tensor([tokenizer(text, add_special_tokens=source != "words")["input_ids"]])
            with torch.no_grad():
                words = model.get_input_embeddings()(ids)
                states = words if source == "words" else model.model(input_ids=ids).last_hidden_state
            found = model.classifier.matching.label_embeddings[node]
            torch.testing.assert_close(found, states[0].mean(0), rtol=1e-5, atol=1e-6)
    assert (model.classifier.matching.label_embeddings[hierarchy.num_labels] != 0).any()  # structure-only nodes have one too


def test_descriptions_of_the_hierarchy(encoder, tokenizer):
    names = ["sport", "politics", "weather"]
    hierarchy = LabelHierarchy(names, [[], [], []], descriptions=["match goal player", "", "star"])
    model = build(encoder, tokenizer, hierarchy=hierarchy, label_text="descriptions")
    found = model.classifier.matching.label_embeddings.detach()
    expected = embed_label_texts(model, tokenizer, ["match goal player", "politics", "star"], "words")
    torch.testing.assert_close(found, expected)
    plain = build(encoder, tokenizer, hierarchy=hierarchy)
    torch.testing.assert_close(
        plain.classifier.matching.label_embeddings.detach(), embed_label_texts(plain, tokenizer, names, "words")
    )


def test_texts_by_list(encoder, tokenizer):
    hierarchy = make_dag()
    texts = make_texts(9)
    model = build(encoder, tokenizer, hierarchy=hierarchy)
    model.set_label_texts(tokenizer, texts)
    expected = embed_label_texts(model, tokenizer, texts, "words")
    torch.testing.assert_close(model.classifier.matching.label_embeddings.detach(), expected)
    model.set_label_texts(tokenizer, texts[:8])
    expected[8] = embed_label_texts(model, tokenizer, [hierarchy.texts[8]], "words")[0]
    torch.testing.assert_close(model.classifier.matching.label_embeddings.detach(), expected)


def test_label_embeddings_are_parameters_or_kept(encoder, tokenizer, tmp_path):
    trained = build(encoder, tokenizer)
    assert trained.classifier.matching.label_embeddings.requires_grad
    kept = build(encoder, tokenizer, train_label_embeddings=False)
    embeddings = kept.classifier.matching.label_embeddings.clone()
    assert not any(value is kept.classifier.matching.label_embeddings for value in kept.parameters())
    optimizer = torch.optim.SGD(kept.parameters(), lr=1.0)
    kept.train()(**make_batch(), labels=torch.tensor([0, 1, 2, 3])).loss.backward()
    optimizer.step()
    assert torch.equal(kept.classifier.matching.label_embeddings, embeddings)
    kept.save_pretrained(tmp_path / "kept")
    again = HiMatchForHierarchicalTextClassification.from_pretrained(tmp_path / "kept")
    assert torch.equal(again.classifier.matching.label_embeddings, embeddings)


def test_label_embeddings_follow_the_encoder(encoder, tokenizer, tmp_path):
    model = build(encoder, tokenizer, prediction="dot_product", label_refresh_steps=3)
    matching, optimizer = model.classifier.matching, torch.optim.SGD(model.parameters(), lr=0.5)
    texts = make_texts(13)
    model.set_label_texts(tokenizer, texts)
    kept = matching.label_embeddings.clone()
    for step in range(1, 9):
        vectors = embed_label_texts(model, tokenizer, texts, "text")
        model.train()(**make_batch(seed=step), labels=torch.tensor([0, 1, 2, 3])).loss.backward()
        if step in (4, 7):
            assert not torch.equal(matching.label_embeddings, kept)
            torch.testing.assert_close(matching.label_shift, vectors.mean(0))
            kept = matching.label_embeddings.clone()
            torch.testing.assert_close(matching.moved(vectors), kept)
        assert torch.equal(matching.label_embeddings, kept), step
        optimizer.step()
        optimizer.zero_grad()
        model.eval()(**make_batch(), labels=torch.tensor([0, 1, 2, 3]))  # no step
    assert all(module.training == model.training for module in model.modules())
    model.save_pretrained(tmp_path / "model")
    again = HiMatchForHierarchicalTextClassification.from_pretrained(tmp_path / "model")
    assert int(again.classifier.matching.label_age) == int(matching.label_age) == 2
    assert again.classifier.matching.label_tokens is None
    for model in (again, build(encoder, tokenizer, prediction="dot_product", label_refresh_steps=0)):
        kept = model.classifier.matching.label_embeddings.clone()
        for _ in range(5):
            model.train()(**make_batch(), labels=torch.tensor([0, 1, 2, 3]))
        assert torch.equal(model.classifier.matching.label_embeddings, kept)


def test_without_a_tokenizer_there_is_a_warning(encoder, tokenizer, caplog):
    logging.getLogger("transformers").propagate = True
    with caplog.at_level(logging.WARNING):
        build(encoder, tokenizer)
        assert "start at random" not in caplog.text
        model = build(encoder)
    assert "label embeddings start at random" in caplog.text
    assert float(model.classifier.matching.label_embeddings.std()) == pytest.approx(0.02, rel=0.3)


def test_dropout_is_off_while_labels_are_embedded(encoder, tokenizer):
    model = build(encoder, tokenizer, label_source="tokens").train()
    before = model.classifier.matching.label_embeddings.detach().clone()
    model.set_label_texts(tokenizer)
    assert torch.equal(model.classifier.matching.label_embeddings, before) and model.training


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (["a", "b"], ValueError, r"`texts` has 2 entries; give one a label \(8\), one a node \(9\)"),
        ({"taxes": "money"}, ValueError, "no label 'taxes'.*Close names.*tax"),
        ({"tax": 3}, TypeError, "text of 'tax' is a int"),
    ],
)
def test_wrong_label_texts_are_refused(texts, error, message):
    with pytest.raises(error, match=message):
        make_model("himatch", make_dag()).set_label_texts(make_tokenizer(), texts)


def test_a_text_without_tokens_is_warned_of(caplog):
    logging.getLogger("transformers").propagate = True

    class Silent:
        pad_token_id = 0

        def __call__(self, texts, **kwargs):
            return make_tokenizer()(["" if text == "tax" else text for text in texts], **kwargs)

    model = make_model("himatch", make_dag())
    with caplog.at_level(logging.WARNING):
        model.set_label_texts(Silent())
    assert "1 label texts have no token" in caplog.text and "'tax'" in caplog.text
    assert torch.isfinite(model(**make_batch(), labels=torch.tensor([0, 1, 2, 3])).loss)


# ---------------------------------------------------------------------------------------------- scores of labels by name


def test_logits_are_scaled_products():
    model = make_model(DOT, make_dag())
    seen, batch = {}, make_batch()
    matching = model.classifier.matching
    matching.text_ffn.register_forward_hook(lambda module, inputs, output: seen.update(text=output))
    with torch.no_grad():
        logits = model(**batch).logits
        labels = matching.label_ffn(matching.label_layers[0](matching.label_embeddings[None])[0])
        assert not torch.equal(matching.label_semantics(), labels)
        for b in range(4):
            for n in range(8):
                cosine = torch.nn.functional.cosine_similarity(seen["text"][b], labels[n], dim=0)
                expected = model.classifier.out_scale.exp() * cosine + model.classifier.out_bias
                torch.testing.assert_close(logits[b, n : n + 1], expected)
        plain = make_model(DOT, make_dag(), normalize_joint=False)
        plain.classifier.matching.text_ffn.register_forward_hook(lambda module, inputs, output: seen.update(text=output))
        logits = plain(**batch).logits
        products = seen["text"] @ plain.classifier.matching.label_semantics().T
        torch.testing.assert_close(logits, products[:, :8] + plain.classifier.out_bias)


def test_products_are_float32_under_autocast():
    """Bfloat16 knows 256 numbers between 0.5 and 1: among thousands of labels many would have the best score."""
    number = 3000
    model = make_model(DOT, LabelHierarchy([f"n{i}" for i in range(number)], [[]] * number))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model(**make_batch()).logits
    assert len(logits[0].unique()) > 0.9 * number


def test_label_semantics_are_computed_once(tmp_path):
    model, batch = make_model(DOT, make_tree()), make_batch()
    calls = count_calls(model)

    def computed(**inputs):
        calls.clear()
        with torch.no_grad():
            model(**batch, **inputs)
        return calls.get("matching.label_ffn", 0)

    assert [computed() for _ in range(3)] == [1, 0, 0]
    assert computed(labels=torch.tensor([0, 1, 2, 3])) == 0
    with torch.inference_mode():  # kept there too
        calls.clear()
        model(**batch)
        assert "matching.label_ffn" not in calls
    calls.clear()
    loss = model(**batch, labels=torch.tensor([0, 1, 2, 3])).loss  # gradients need it anew
    loss.backward()
    assert calls["matching.label_ffn"] == 1
    # Weights that changed, in any way, are seen.
    with torch.no_grad():
        model.classifier.matching.label_ffn[3].bias.add_(1.0)
    assert [computed(), computed()] == [1, 0]
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert [computed(), computed()] == [1, 0]
    model.load_state_dict(model.state_dict())
    assert [computed(), computed()] == [1, 0]
    model.set_label_texts(make_tokenizer(), make_texts(13))
    assert [computed(), computed()] == [1, 0]
    model.train().eval()
    assert [computed(), computed()] == [1, 0]
    model.to(torch.bfloat16)
    assert [computed(), computed()] == [1, 0]
    model.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert [computed(), computed()] == [1, 0]
    assert [computed(), computed()] == [1, 0]
    model.train()
    calls.clear()
    with torch.no_grad():
        model(**batch), model(**batch)
    assert calls["matching.label_ffn"] == 2  # dropout


def test_what_is_kept_is_right_and_does_not_travel(tmp_path):
    model, batch = make_model(DOT, make_tree()), make_batch()
    with torch.no_grad():
        first, second = model(**batch).logits, model(**batch).logits
        assert torch.equal(first, second)
    assert torch.equal(model(**batch).logits, first)
    assert model.classifier.matching._cache is not None
    assert copy.deepcopy(model).classifier.matching._cache is None
    stream = io.BytesIO(pickle.dumps(model.classifier.matching))
    assert pickle.load(stream)._cache is None
    assert "_cache" not in str(model.state_dict().keys())


def test_scores_of_known_labels_are_those_of_the_logits():
    model, tokenizer, texts = make_model(DOT, make_dag()), make_tokenizer(), make_texts(5)
    model.set_label_texts(tokenizer, make_texts(9, seed=3))
    names = ["tax", "people", "bank", "weather"]  # "people" is a structure-only node
    results = model.score_labels(texts, tokenizer, names)
    hierarchy = model.config.get_hierarchy()
    for text, result in zip(texts, results):
        with torch.no_grad():
            logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
        scores = dict(zip(result["labels"], result["scores"]))
        assert result["scores"] == sorted(result["scores"], reverse=True) and set(scores) == set(names)
        for name in ("tax", "bank", "weather"):
            assert scores[name] == pytest.approx(float(torch.sigmoid(logits[hierarchy.id(name)])), abs=2e-6)
    assert model.score_labels(texts[0], tokenizer, names) == results[0]
    assert not model.training


@pytest.mark.parametrize("options", [{}, {"num_label_layers": 2}, {"num_label_layers": 0}, {"train_label_embeddings": True}])
def test_a_new_label_is_as_good_as_a_known_one(options):
    """A label that is known in one model and new in another, with the same weights, gets the same scores."""
    tokenizer, texts = make_tokenizer(), make_texts(4)
    edges = [("Root", "sport"), ("sport", "match goal"), ("Root", "wine cheese"), ("Root", "science"), ("science", "gene virus")]
    whole = LabelHierarchy.from_edges([*edges, ("sport", "racket serve"), ("Root", "planet star")])
    small = LabelHierarchy.from_edges(edges)
    known, new = (make_model(DOT, hierarchy, **options) for hierarchy in (whole, small))
    known.set_label_texts(tokenizer)
    rows = torch.tensor([whole.id(name) for name in small.names])
    edge_of = {edge: i for i, edge in enumerate(map(tuple, whole.edges.tolist()))}
    with torch.no_grad():
        for parameter in known.parameters():
            if parameter.shape[:1] == (whole.num_nodes,) and parameter is not known.classifier.matching.label_embeddings:
                parameter.fill_(0.25)  # biases of nodes: new ones have the mean
        for layer in known.classifier.matching.label_layers:
            layer.weight_up[edge_of[whole.id("sport"), whole.id("racket serve")]] = 0  # others do not hear of it
            layer.weight_down.fill_(0.5)
        state = known.state_dict()
        for name, value in new.state_dict().items():
            if value.shape == state[name].shape:
                value.copy_(state[name])
            elif value.shape[0] == small.num_nodes:
                value.copy_(state[name][rows])
            else:
                edges_kept = [edge_of[tuple(rows[list(edge)].tolist())] for edge in small.edges.tolist()]
                value.copy_(state[name][edges_kept])
    names = ["racket serve", "planet star", "match goal", "science"]
    expected = known.score_labels(texts, tokenizer, names)
    found = new.score_labels(texts, tokenizer, names, parents={"racket serve": ["sport"]})
    for a, b in zip(found, expected):
        assert dict(zip(a["labels"], a["scores"])) == pytest.approx(dict(zip(b["labels"], b["scores"])), abs=3e-6)
    if options.get("num_label_layers") != 0:
        alone = new.score_labels(texts, tokenizer, names)
        assert alone != found


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labels": "tax"}, TypeError, "give a list of strings"),
        ({"labels": [3]}, TypeError, "give a list of strings"),
        ({"labels": []}, ValueError, "at least one label"),
        ({"labels": ["tax", "tax"]}, ValueError, "none of them empty or twice"),
        ({"labels": ["tax", " "]}, ValueError, "none of them empty or twice"),
        ({"labels": ["tax"], "parents": {"tax": ["economy"]}}, ValueError, "`parents` names 'tax', which is no new label"),
        ({"labels": ["tax"], "parents": {"toll": ["economy"]}}, ValueError, "'toll', which is not in `labels`"),
        ({"labels": ["toll"], "parents": {"toll": ["economi"]}}, ValueError, "no label 'economi'.*Close names.*economy"),
        ({"labels": ["tax"], "texts": [""]}, ValueError, "Text 0 is empty"),
    ],
)
def test_wrong_labels_to_score_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        make_model(DOT, make_dag()).score_labels(**{"texts": ["the match"], "tokenizer": make_tokenizer(), **arguments})


def test_a_classifier_does_not_score_by_name():
    with pytest.raises(ValueError, match="train with `prediction='dot_product'`"):
        make_model("himatch", make_dag()).score_labels("the match", make_tokenizer(), ["tax"])


def test_both_projections_start_as_one_map_that_keeps_distances(encoder, tokenizer):
    hierarchy = make_dag()
    for options, exact in (({"joint_dim": "auto"}, True), ({"joint_dim": 41}, True), ({"joint_dim": 12}, False)):
        model = build(encoder, tokenizer, prediction="dot_product", hierarchy=hierarchy, **options).eval()
        matching = model.classifier.matching
        vectors = torch.randn(6, 16)
        text, label = matching.text_ffn(vectors), matching.label_ffn(vectors)
        torch.testing.assert_close(text, label)
        if exact and matching.text_ffn[0].out_features % 2 == 0:
            torch.testing.assert_close(torch.cdist(text, label), torch.cdist(vectors, vectors), rtol=1e-4, atol=1e-4)
    # In one line with what the encoder says of the labels' texts, before any training.
    model = build(encoder, tokenizer, prediction="dot_product", hierarchy=hierarchy, joint_dim="auto", num_label_layers=0).eval()
    texts = hierarchy.texts[:8]
    raw = embed_label_texts(model, tokenizer, hierarchy.texts, "text")
    centred = raw - raw.mean(0)
    torch.testing.assert_close(model.classifier.matching.label_embeddings, centred / centred.norm(dim=-1).mean())
    with torch.no_grad():
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
        cosines = torch.nn.functional.normalize(raw[:8], dim=-1) @ torch.nn.functional.normalize(centred[:8], dim=-1).T
    torch.testing.assert_close(logits, 20 * cosines + model.classifier.out_bias, rtol=1e-4, atol=1e-4)


def test_texts_of_unknown_words_give_no_noise(encoder, tokenizer):
    hierarchy = LabelHierarchy(["abc", "def", "ghi"], [[], [0], [0]])  # no words of this encoder
    model = build(encoder, tokenizer, prediction="dot_product", hierarchy=hierarchy)
    assert model.classifier.matching.label_embeddings.abs().max() < 1e-5 and model.classifier.matching.label_scale == 1


def test_edges_of_labels_that_are_kept_start_as_means():
    hierarchy = make_dag()
    layer = make_model(DOT, hierarchy).classifier.matching.label_layers[0]
    for number, (p, c) in enumerate(hierarchy.edges.tolist()):
        assert float(layer.weight_up[number]) == pytest.approx(1 / len(hierarchy.children[p]))
        assert float(layer.weight_down[number]) == pytest.approx(1 / len(hierarchy.parents[c]))


def test_labels_without_documents_share_everything_with_the_others():
    """What the dot product trains belongs to no single label: a label that is never drawn or gold moves with the others."""
    model = make_model(DOT, make_tree())
    assert not any(parameter.shape[:1] == (13,) for parameter in model.classifier.parameters())
    assert len(model.classifier.out_bias) == 1
    statistics = make_model(DOT, make_tree(), statistics=False)
    assert torch.equal(
        statistics.classifier.matching.label_layers[0].weight_down, model.classifier.matching.label_layers[0].weight_down
    )
    trained = make_model("himatch", make_tree(), statistics=False)
    before = trained.classifier.matching.label_layers[0].weight_down.clone()
    trained.set_label_statistics(make_label_sets(make_tree(), 40))
    assert not torch.equal(trained.classifier.matching.label_layers[0].weight_down, before)
