"""HiMatch as a model: what is computed when, its options, and where its label embeddings come from."""

import logging

import pytest
import torch
from himatch_cases import build, count_calls, make_config, multi_hot
from huggingface_hub.errors import StrictDataclassError
from tiny_models import (
    ids_tensor,
    make_batch,
    make_dag,
    make_label_sets,
    make_model,
    make_texts,
    make_tokenizer,
    make_tree,
)

from hf_htc import HiMatchForHierarchicalTextClassification, LabelHierarchy
from hf_htc.models import modeling_himatch
from hf_htc.models.himatch_label_texts import embed_label_texts


# ---------------------------------------------------------------------------------------------- the model


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
        for name in ("himatch", "himatch, dot product"):
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
        {"negatives": "random"}, {"alpha": 0.4}, {"beta": 0.1}, {"normalize_joint": False}, {"num_label_layers": 0},
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
    assert (config.normalize_joint, config.bce_reduction, config.text_projection) == (True, "mean", "flatten")
    assert (config.joint_dropout, config.label_residual) == (0.5, False)
    assert not make_config(make_tree(), matching="released").normalize_joint
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


def test_label_embeddings_follow_the_encoder(encoder, tokenizer, tmp_path, monkeypatch):
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
    warnings = []
    monkeypatch.setattr(modeling_himatch.logger, "warning_once", warnings.append)
    for model in (again, build(encoder, tokenizer, prediction="dot_product", label_refresh_steps=0)):
        kept = model.classifier.matching.label_embeddings.clone()
        for _ in range(5):
            model.train()(**make_batch(), labels=torch.tensor([0, 1, 2, 3]))
        assert torch.equal(model.classifier.matching.label_embeddings, kept)
    assert (
        len(warnings) == 5 and "Call `model.set_label_texts(tokenizer)`" in warnings[0]
    )  # the second model has nothing to follow


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
