"""HPT against the authors' graph encoder (float64), a document at a time with plain loops, and by hand."""

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_models import (
    WORDS,
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
from torch import nn
from transformers import AutoModel, AutoModelForMaskedLM

from hf_htc import HPTConfig, HPTForHierarchicalTextClassification, LabelHierarchy
from hf_htc.models.hpt_label_graph import GraphAttention, GraphMean, LabelGraph, graph_edges


FIXTURE = {
    key: torch.from_numpy(np.asarray(value))
    for key, value in np.load(Path(__file__).parent.parent / "fixtures" / "unit" / "hpt_gat.npz").items()
}


def run(model, batch, **more):
    with torch.no_grad():
        return model(**batch, **more)


# ---------------------------------------------------------------------------------------------- the graph


def fixture_hierarchy():
    number = int(FIXTURE["num_labels"])
    edges = [pair for pair in FIXTURE["edge_index"].T.tolist() if max(pair) < number]
    parents = [[p for p, c in edges if c == node] for node in range(number)]
    return LabelHierarchy([f"label {i}" for i in range(number)], parents)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("released", "out_as_released"), ("to_levels", "out_reversed_edges"), ("both", "out_bidirectional_edges")],
)
def test_graph_attention_of_the_authors(kind, expected):
    hierarchy = fixture_hierarchy()
    nodes = FIXTURE["node_features"]
    layer = GraphAttention(nodes.shape[1], 0.0).double()
    with torch.no_grad():
        for name, key in (("query", "gat_att_dst"), ("key", "gat_att_src"), ("bias", "gat_bias")):
            getattr(layer, name).copy_(FIXTURE[key])
        layer.dense.weight.copy_(FIXTURE["gat_weight"])
        layer.norm.weight.copy_(FIXTURE["ln_weight"])
        layer.norm.bias.copy_(FIXTURE["ln_bias"])
        source, target = torch.as_tensor(graph_edges(hierarchy, kind))
        torch.testing.assert_close(layer(nodes, source, target), FIXTURE[expected], rtol=1e-9, atol=1e-10)
    if kind == "released":
        own = torch.arange(len(nodes))
        found = {pair for pair in zip(source.tolist(), target.tolist()) if pair[0] != pair[1]}
        assert found == {tuple(pair) for pair in FIXTURE["edge_index"].T.tolist()}
        assert all((i, i) in set(zip(source.tolist(), target.tolist())) for i in own.tolist())


@pytest.mark.parametrize("hierarchy", [make_tree(), make_dag()], ids=["tree", "dag"])
def test_edges_of_the_graph(hierarchy):
    M = hierarchy.num_nodes
    down = {(p, c) for c in range(M) for p in hierarchy.parents[c]}
    down |= {(M + int(hierarchy.levels[i]) - 1, i) for i in range(M)}
    itself = {(i, i) for i in range(M + hierarchy.num_levels)}
    up = {(b, a) for a, b in down}
    for kind, expected in (("released", down), ("to_levels", up), ("both", down | up)):
        edges = list(zip(*graph_edges(hierarchy, kind).tolist()))
        assert len(edges) == len(set(edges)) and set(edges) == expected | itself


def test_graph_as_printed():
    layer = GraphMean(2, 0.0)
    nodes = torch.tensor([[1.0, 2.0], [-3.0, 0.5], [0.0, 1.0]])
    with torch.no_grad():
        layer.dense.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, -1.0]]))
        found = layer(nodes, torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0, 1, 2, 2, 2]))
    # By hand: W x = (1, -1), (-3, -3.5), (0, -1); node 2 takes the mean of all three, (-2/3, -5.5/3).
    torch.testing.assert_close(found, nodes + torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))


def make_graph(hierarchy, size=16, **options):
    config = HPTConfig(hierarchy=hierarchy, text_config=make_encoder_config(), **options)
    torch.manual_seed(0)
    graph = LabelGraph(config, size).eval()
    for module in (graph, *graph.layers):
        module.init_weights(config)
    return graph, torch.randn(hierarchy.num_nodes, size), torch.randn(hierarchy.num_levels, size)


@pytest.mark.parametrize("size", [2, 64], ids=["by index", "by matrix"])
@pytest.mark.parametrize("form", ["attention", "mean"])
def test_only_the_levels_are_made_in_the_last_layer(form, size):
    hierarchy = make_dag()
    for edges in ("both", "released"):
        graph, labels, levels = make_graph(hierarchy, size, graph_form=form, num_graph_layers=2, graph_edges=edges)
        nodes = torch.cat([labels, levels])
        for layer in graph.layers:
            nodes = layer(nodes, graph.source, graph.target)
        torch.testing.assert_close(graph(labels, levels), nodes[hierarchy.num_nodes :])
    assert make_graph(hierarchy, num_graph_layers=0)[0](labels, levels) is levels


@pytest.mark.parametrize("form", ["attention", "mean"])
def test_half_precision_sums_over_all_labels_of_a_level(form):
    graph, labels, levels = make_graph(LabelHierarchy([str(i) for i in range(20000)], [[]] * 20000), graph_form=form)
    labels = labels + torch.arange(16)  # a mean that a sum which stops early would miss
    with torch.no_grad():
        plain = graph(labels, levels)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = graph(labels, levels)
        half = graph.to(torch.bfloat16)(labels.bfloat16(), levels.bfloat16())
    for found in (mixed, half):
        torch.testing.assert_close(found.float(), plain, rtol=0.03, atol=0.03)


@pytest.mark.parametrize(("kind", "reaches"), [("both", True), ("to_levels", True), ("released", False)])
def test_labels_reach_the_prompts_unless_as_released(kind, reaches):
    graph, labels, levels = make_graph(make_tree(), graph_edges=kind, num_graph_layers=1)
    labels.requires_grad_()
    (gradient,) = torch.autograd.grad(graph(labels, levels).square().sum(), labels)
    assert bool((gradient != 0).any(1).all()) is reaches and bool((gradient != 0).any()) is reaches


def test_two_layers_bring_parents_and_children_to_the_prompts():
    hierarchy = make_tree()
    for layers, expected in ((1, False), (2, True)):
        graph, labels, levels = make_graph(hierarchy, num_graph_layers=layers)
        labels.requires_grad_()
        (gradient,) = torch.autograd.grad(graph(labels, levels)[2].square().sum(), labels)
        parent = hierarchy.parents[int(np.flatnonzero(hierarchy.levels == 3)[0])][0]
        assert bool((gradient[parent] != 0).any()) is expected


# ---------------------------------------------------------------------------------------------- the whole model


def scores_by_hand(model, ids):
    """Scores and bounds of one document's token ids, label by label."""
    config, head = model.config, model.classifier
    hierarchy = config.get_hierarchy()
    with torch.no_grad():
        words = model.get_input_embeddings()(torch.tensor(ids))
        prompts = head.graph(head.label_embeddings, head.level_embeddings)
        rows, places, behind = list(words), [], []
        if config.prompt_template == "released":
            behind = [rows.pop()]
        for prompt in prompts:
            rows += [prompt, head.slot_embedding]
            places.append(len(rows) - 1)
        states = model.model(inputs_embeds=torch.stack(rows + behind).unsqueeze(0)).last_hidden_state[0]
        slots = [head.mlm.norm(head.mlm.act(head.mlm.dense(states[place]))) for place in places]
        level = [int(hierarchy.levels[n]) - 1 for n in range(hierarchy.num_labels)]
        scores = [float(slots[i] @ head.label_embeddings[n] + head.out_bias[n]) for n, i in enumerate(level)]
        bounds = None
        if head.bound is not None:
            hidden = [torch.relu(head.bound.dense.weight @ slot + head.bound.dense.bias) for slot in slots]
            bounds = [float(head.bound.out.weight[0] @ h) for h in hidden]
    return scores, bounds, level


def shake(model):
    """Parameters that start at zero take part."""
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", ["hpt", "hpt, BCE", "hpt, HBM", "hpt, joint"])
@pytest.mark.parametrize("hierarchy", [make_tree(), make_dag()], ids=["tree", "dag"])
def test_logits_and_loss_by_hand(name, hierarchy):
    model, batch = shake(make_model(name, hierarchy)), make_batch()
    sets = make_label_sets(hierarchy, 4)
    output = run(model, batch, labels=ids_tensor(sets), output_units=True)
    losses = []
    for row in range(4):
        ids = batch["input_ids"][row][batch["attention_mask"][row] == 1].tolist()
        scores, bounds, level = scores_by_hand(model, ids)
        shifts = [0.0 if bounds is None else bounds[i] for i in level]
        factor = 2 if model.config.unit_loss in ("zlpr", "hbm") else 1
        expected = torch.tensor([factor * (s - t) for s, t in zip(scores, shifts)])
        torch.testing.assert_close(output.logits[row], expected, atol=1e-4, rtol=1e-4)
        losses.append(loss_by_hand(model.config, scores, shifts, level, sets[row]))
    assert float(output.losses[model.config.unit_loss]) == pytest.approx(np.mean(losses), rel=1e-4)
    units = output.units
    assert units["scores"].shape == units["targets"].shape == units["label"].shape == units["unit"].shape
    for k in range(0, len(units["label"]), 7):
        label, unit = int(units["label"][k]), int(units["unit"][k])
        document = int(units["document"][unit])
        assert int(units["level"][unit]) == hierarchy.levels[label] and bool(units["targets"][k]) == (label in sets[document])
        bound = 0.0 if units["bounds"] is None else float(units["bounds"][unit])
        assert float(output.logits[document, label]) == pytest.approx(factor * (float(units["scores"][k]) - bound), abs=1e-5)


def loss_by_hand(config, scores, shifts, level, gold):
    num_levels = max(config.get_hierarchy().levels)
    if config.unit_loss == "bce":
        return np.mean([math.log1p(math.exp(-s if n in gold else s)) for n, s in enumerate(scores)])
    if config.unit_loss == "wasl":
        total = 0.0
        for n, s in enumerate(scores):
            p = 1 / (1 + math.exp(-s))
            weight = config.level_weights[level[n]]
            shifted = max(p - config.asl_margin, 0)
            total -= weight * (1 - p) * math.log(p) if n in gold else shifted**4 * math.log(1 - shifted)
        return total
    groups = (
        [range(len(scores))]
        if config.level_loss == "joint"
        else [[n for n in range(len(scores)) if level[n] == i] for i in range(num_levels)]
    )
    terms = []
    for group in groups:
        term = 0.0
        for sign, side in ((-1, [n for n in group if n in gold]), (1, [n for n in group if n not in gold])):
            away = [sign * (scores[n] - shifts[n]) for n in side]
            bias, margin = 0.0, 0.0
            if config.unit_loss == "hbm":
                bias, margin = 0.1 * np.std([scores[n] for n in side], ddof=1) if len(side) > 1 else 0.0, 0.1
            term += math.log(1 + sum(math.exp(a + bias) for a in away if 1 / (1 + math.exp(-2 * a)) > margin))
        terms.append(term)
    return np.mean(terms)


def test_masked_language_modelling_by_hand():
    """Without corruption, as the released code has it in eval mode: every word that is not special, all classes."""
    hierarchy = make_tree()
    model, batch = shake(make_model("hpt", hierarchy, mlm_in_eval=True, mlm_weight=0.5)), make_batch()
    model.config.special_token_ids = [0, 7, 9]
    output, head = run(model, batch, labels=ids_tensor(make_label_sets(hierarchy, 4))), model.classifier
    classes = torch.cat(
        [model.get_input_embeddings().weight, head.label_embeddings, head.level_embeddings, head.slot_embedding[None]]
    )
    bias = torch.cat([head.mlm.bias, head.class_bias])
    means = []
    with torch.no_grad():
        for row in range(4):
            ids = batch["input_ids"][row][batch["attention_mask"][row] == 1]
            rows = torch.cat([model.get_input_embeddings()(ids), head.prompts()])
            states = model.model(inputs_embeds=rows.unsqueeze(0)).last_hidden_state[0]
            values = [
                -torch.log_softmax(classes @ head.mlm(states[i]) + bias, 0)[ids[i]]
                for i in range(len(ids)) if int(ids[i]) not in (0, 7, 9)
            ]  # fmt: skip
            means.append(sum(values) / len(values))
    torch.testing.assert_close(output.losses["mlm"], 0.5 * torch.stack(means).mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.loss, output.losses["mlm"] + output.losses["zlpr"])


def test_masked_language_modelling_is_of_training_only():
    hierarchy = make_tree()
    labels, batch = ids_tensor(make_label_sets(hierarchy, 4)), make_batch()
    model = make_model("hpt", hierarchy)
    assert set(run(model, batch, labels=labels).losses) == {"zlpr"}
    model.train()
    first, second = (run(model, batch, labels=labels).losses for _ in range(2))
    assert set(first) == {"zlpr", "mlm"} and not torch.equal(first["mlm"], second["mlm"])
    assert run(model, batch).losses is None
    without = make_model("hpt", hierarchy, mlm_weight=0.0).train()
    assert set(run(without, batch, labels=labels).losses) == {"zlpr"}
    names = {name for name, _ in without.named_parameters()}
    assert not {"classifier.mask_embedding", "classifier.class_bias", "classifier.mlm.bias"} & names
    embeds = model.get_input_embeddings()(batch["input_ids"])  # no word is known that could be guessed
    assert set(run(model, {"inputs_embeds": embeds, "attention_mask": batch["attention_mask"]}, labels=labels).losses) == {"zlpr"}


def test_the_last_token_of_the_released_template_is_never_masked():
    model, batch = make_model("hpt", make_tree(), prompt_template="released").train(), make_batch()
    model.config.mlm_probability = 0.99
    torch.manual_seed(0)
    vector = model.classifier.mask_embedding
    *_, masked = model.mask_words(batch["attention_mask"], batch["input_ids"], None, vector, last_stays=True)
    last = batch["attention_mask"].sum(1) - 1
    assert masked.sum() > 20 and not masked.gather(1, last.unsqueeze(1)).any()


def test_prompts_are_made_once_at_inference(monkeypatch):
    model, batch = make_model("hpt", make_tree()), make_batch()
    calls, make = [], type(model.classifier)._make_prompts
    monkeypatch.setattr(type(model.classifier), "_make_prompts", lambda self: calls.append(1) or make(self))
    expected = run(model, batch).logits
    assert torch.equal(run(model, batch).logits, expected) and len(calls) == 1
    model(**batch)  # with gradients
    assert len(calls) == 2
    run(model, batch)
    assert len(calls) == 2  # the weights are the same
    with torch.no_grad():
        model.classifier.level_embeddings += 1
    assert not torch.equal(run(model, batch).logits, expected) and len(calls) == 3
    model.double()
    run(model, batch)
    assert len(calls) == 4
    model.train()
    run(model, batch)
    assert len(calls) == 5
    with torch.inference_mode():
        other = make_model("hpt", make_tree())
        assert torch.isfinite(other(**batch).logits).all()


# ---------------------------------------------------------------------------------------------- building


@pytest.fixture
def pretrained(tmp_path):
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(make_encoder_config())
    nn.init.normal_(model.cls.predictions.bias)
    model.save_pretrained(tmp_path / "bert")
    make_tokenizer().save_pretrained(tmp_path / "bert")
    return tmp_path / "bert", model


def test_words_head_and_mask_of_a_pretrained_encoder(pretrained, tokenizer):
    folder, plain = pretrained
    hierarchy = make_tree()
    model = HPTForHierarchicalTextClassification.from_text_encoder(folder, hierarchy=hierarchy, tokenizer=tokenizer)
    head, words = model.classifier, plain.get_input_embeddings().weight
    assert model.config.mlm_head == "pretrained" and model.config.mlm_activation == "gelu"
    assert torch.equal(head.mlm.dense.weight, plain.cls.predictions.transform.dense.weight)
    assert torch.equal(head.mlm.norm.bias, plain.cls.predictions.transform.LayerNorm.bias)
    assert torch.equal(head.mlm.bias[: len(words)], plain.cls.predictions.decoder.bias)
    assert torch.equal(head.slot_embedding, words[tokenizer.mask_token_id])
    assert torch.equal(head.mask_embedding, words[tokenizer.mask_token_id])
    for node, text in enumerate(hierarchy.texts):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        torch.testing.assert_close(head.label_embeddings[node], words[ids].mean(0))
    assert model.config.special_token_ids == [0, 1, 2, 3, 4]
    assert model.config.max_text_length == min(24, 32 - 2 * hierarchy.num_levels)
    as_released = HPTForHierarchicalTextClassification.from_text_encoder(
        folder, hierarchy=hierarchy, tokenizer=tokenizer, label_init="names_with_special_tokens"
    )
    ids = tokenizer(hierarchy.texts[3])["input_ids"]
    torch.testing.assert_close(as_released.classifier.label_embeddings[3], words[ids].mean(0))
    drawn = HPTForHierarchicalTextClassification.from_text_encoder(
        folder, hierarchy=hierarchy, tokenizer=tokenizer, label_init="random"
    )
    assert not torch.equal(drawn.classifier.label_embeddings, head.label_embeddings)


def test_an_encoder_without_a_head_is_warned_of(tmp_path, tokenizer, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("hf_htc"), "propagate", True)
    folder = tmp_path / "plain"
    AutoModel.from_config(make_encoder_config()).save_pretrained(folder)
    kwargs = {"hierarchy": make_tree(), "tokenizer": tokenizer}
    model = HPTForHierarchicalTextClassification.from_text_encoder(folder, **kwargs)
    assert model.config.mlm_head == "identity" and model.classifier.mlm.dense is None
    assert "brings no masked language modelling head" in caplog.text
    fresh = HPTForHierarchicalTextClassification.from_text_encoder(folder, mlm_head="fresh", **kwargs)
    assert fresh.config.mlm_head == "fresh" and fresh.classifier.mlm.dense is not None
    with pytest.raises(ValueError, match="brings no masked language modelling head; use 'fresh', 'identity' or 'auto'"):
        HPTForHierarchicalTextClassification.from_text_encoder(folder, mlm_head="pretrained", **kwargs)
    texts = make_texts(3)
    assert len(model.predict(texts, tokenizer)) == 3


def test_the_head_grows_with_the_tokenizer(pretrained):
    folder, plain = pretrained
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"word{i}" for i in range(20)])
    model = HPTForHierarchicalTextClassification.from_text_encoder(folder, hierarchy=make_tree(), tokenizer=tokenizer)
    assert len(tokenizer) > len(WORDS) + 8
    assert len(model.classifier.mlm.bias) == len(model.get_input_embeddings().weight) == len(tokenizer)
    loss = model.train()(**make_batch(), labels=ids_tensor(make_label_sets(make_tree(), 4))).loss
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level_loss": "flat"}, "allowed are 'per_level', 'joint'"),
        ({"graph_edges": "down"}, "allowed are 'both', 'to_levels', 'released'"),
        ({"mlm_weight": -1.0}, "`mlm_weight` is -1.0; it is at least 0"),
        ({"mlm_probability": 1.0}, r"`mlm_probability` is 1.0; it lies in \[0, 1\)"),
        ({"mlm_head": "own"}, "allowed are 'pretrained', 'fresh', 'identity' and 'auto'"),
        ({"mlm_activation": "gelo"}, "transformers does not know"),
        ({"pooling": "pooler"}, "HPT reads the tokens"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(StrictDataclassError, match=message):
        HPTConfig(hierarchy=make_tree(), text_config=make_encoder_config(), **options)


def test_too_many_levels_for_the_encoder_are_refused():
    chain = LabelHierarchy([f"n{i}" for i in range(20)], [[i - 1] if i else [] for i in range(20)])
    with pytest.raises(ValueError, match="adds 40 positions to every text; the text encoder has only 32"):
        make_model("hpt", chain)
    with pytest.raises(ValueError, match=r"has 29 tokens; the model takes 26"):
        make_model("hpt", make_tree())(**make_batch(4, 29))
