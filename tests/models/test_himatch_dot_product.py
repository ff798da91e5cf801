"""The form of HiMatch that scores labels by name."""

import copy
import io
import pickle

import pytest
import torch
from himatch_cases import build, count_calls
from tiny_models import (
    make_batch,
    make_dag,
    make_label_sets,
    make_model,
    make_texts,
    make_tokenizer,
    make_tree,
)

from hf_htc import LabelHierarchy
from hf_htc.models.himatch_label_texts import embed_label_texts


DOT = "himatch, dot product"


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
    assert computed() == 0  # the same weights
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
    assert model.classifier.matching._kept is not None
    assert copy.deepcopy(model).classifier.matching._kept is None
    stream = io.BytesIO(pickle.dumps(model.classifier.matching))
    assert pickle.load(stream)._kept is None
    assert "_kept" not in str(model.state_dict().keys())


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
