"""Building models on pretrained encoders, and every way a checkpoint or a config can be wrong."""

import json
import logging

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_models import make_batch, make_encoder_config, make_label_sets, make_model, make_tokenizer, make_tree
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

import hf_htc
from hf_htc import FlatConfig, FlatForHierarchicalTextClassification, HiAGMForHierarchicalTextClassification, LabelHierarchy
from hf_htc.models.errors import HTCError, HTCOSError


METHODS = [FlatForHierarchicalTextClassification, HiAGMForHierarchicalTextClassification]


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(1)
    AutoModel.from_config(make_encoder_config(initializer_range=0.2)).save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


# ---------------------------------------------------------------------------------------------- from a pretrained encoder


@pytest.mark.parametrize("method", METHODS)
def test_the_encoders_weights_are_taken_over(method, encoder):
    model = method.from_text_encoder(encoder, hierarchy=make_tree())
    source = dict(AutoModel.from_pretrained(encoder).named_parameters())
    taken = dict(model.model.named_parameters())
    assert taken and all(torch.equal(source[name], value) for name, value in taken.items())
    assert model.model.config is model.config.text_config
    assert model.config.pooling == "cls" and model.config.max_text_length == 32


def test_weights_under_a_prefix_are_taken_over_too(tmp_path):
    language_model = AutoModelForMaskedLM.from_config(make_encoder_config(initializer_range=0.2))
    language_model.save_pretrained(tmp_path)  # its keys begin with `bert.`
    model = FlatForHierarchicalTextClassification.from_text_encoder(tmp_path, hierarchy=make_tree())
    for name, value in model.model.named_parameters():
        assert torch.equal(dict(language_model.bert.named_parameters())[name], value), name


@pytest.mark.parametrize(("kind", "pooling"), [("t5", "mean"), ("gpt2", "last"), ("modernbert", "cls"), ("roberta", "cls")])
def test_each_kind_of_encoder_gets_its_pooling(tmp_path, kind, pooling):
    AutoModel.from_config(make_encoder_config(kind)).save_pretrained(tmp_path / "encoder")
    model = HiAGMForHierarchicalTextClassification.from_text_encoder(
        tmp_path / "encoder", hierarchy=make_tree(), tokenizer=make_tokenizer(), node_dim=4
    )
    assert model.config.pooling == pooling
    assert model.config.max_text_length == 24  # the tokenizer's limit is the smaller one
    model.eval().save_pretrained(tmp_path / "model")
    reloaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    assert reloaded.config.pooling == pooling
    with torch.no_grad():
        assert torch.equal(reloaded(**make_batch(low=6)).logits, model(**make_batch(low=6)).logits)


def test_a_sentence_encoders_own_pooling_is_found(encoder):
    (encoder / "1_Pooling").mkdir()
    (encoder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    assert FlatForHierarchicalTextClassification.from_text_encoder(encoder, hierarchy=make_tree()).config.pooling == "mean"
    chosen = FlatForHierarchicalTextClassification.from_text_encoder(encoder, hierarchy=make_tree(), pooling="last")
    assert chosen.config.pooling == "last"


def test_roberta_positions_are_counted_from_the_padding_id():
    assert make_model("flat", make_tree(), "roberta").config.max_text_length == 32  # of 34 rows


def test_a_half_precision_encoder_is_loaded_in_one_type(tmp_path):
    AutoModel.from_config(make_encoder_config()).to(torch.bfloat16).save_pretrained(tmp_path)
    model = FlatForHierarchicalTextClassification.from_text_encoder(tmp_path, hierarchy=make_tree())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.isfinite(model(**make_batch()).logits).all()
    half = FlatForHierarchicalTextClassification.from_text_encoder(tmp_path, hierarchy=make_tree(), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


def test_a_larger_tokenizer_grows_the_embeddings(encoder, tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"new{i}" for i in range(20)])
    model = FlatForHierarchicalTextClassification.from_text_encoder(encoder, hierarchy=make_tree(), tokenizer=tokenizer).eval()
    assert model.get_input_embeddings().num_embeddings == len(tokenizer) == model.config.text_config.vocab_size
    expected = model.predict("new19 goal", tokenizer, threshold=0.0)
    model.save_pretrained(tmp_path / "model")
    assert (
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").predict("new19 goal", tokenizer, threshold=0.0)
        == expected
    )


def test_training_labels_can_be_given_at_once(encoder):
    sets = make_label_sets(make_tree(), 30)
    model = HiAGMForHierarchicalTextClassification.from_text_encoder(encoder, hierarchy=make_tree(), train_labels=sets)
    assert model.config.num_train_documents == 30
    assert model.classifier.out_bias.abs().max() > 0


def test_an_encoder_that_does_not_exist():
    with pytest.raises(OSError, match="There is no text encoder 'no/such-encoder' that AutoModel can load"):
        FlatForHierarchicalTextClassification.from_text_encoder("no/such-encoder", hierarchy=make_tree())


def test_an_unknown_option_names_close_ones(encoder):
    with pytest.raises(ValueError, match=r"HiAGMConfig has no option 'node_dims'. Did you mean \['node_dim'"):
        HiAGMForHierarchicalTextClassification.from_text_encoder(encoder, hierarchy=make_tree(), node_dims=3)


def test_a_pooler_that_is_not_there():
    with pytest.raises(ValueError, match="distilbert encoder has no pooler; use 'cls' or 'mean'"):
        make_model("flat", make_tree(), "distilbert", pooling="pooler")


# ---------------------------------------------------------------------------------------------- configs


def test_unknown_keys_of_a_loaded_config_are_warned_of(tmp_path, caplog):
    FlatConfig(text_config=make_encoder_config(), hierarchy=make_tree()).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "colour": "blue"}))
    with caplog.at_level(logging.WARNING):
        config = FlatConfig.from_pretrained(tmp_path)
    assert "does not know ['colour']" in caplog.text and config.colour == "blue"
    caplog.clear()
    make_model("hiagm", make_tree()).save_pretrained(tmp_path / "model")
    hf_htc.model_class("hiagm").from_pretrained(tmp_path / "model")
    assert "does not know" not in caplog.text  # what transformers itself writes is known


@pytest.mark.parametrize(
    ("version", "refused"), [("99.0.0", True), ("0.99.0", True), ("0.1.99", False), ("0.1.0", False), (None, False)]
)
def test_a_config_of_a_newer_version(version, refused, tmp_path):
    FlatConfig(text_config=make_encoder_config(), hierarchy=make_tree()).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "hf_htc_version": version}))
    if refused:
        with pytest.raises(HTCError, match=f"written by hf_htc {version}, which is newer .*pip install -U hf_htc"):
            FlatConfig.from_pretrained(tmp_path)
    else:
        assert FlatConfig.from_pretrained(tmp_path).num_labels == 13


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling": "max"}, "`pooling` is 'max'; allowed are 'auto'"),
        ({"label_closure": "open"}, "`label_closure` is 'open'"),
        ({"text_dropout": 1.5}, "`text_dropout` is 1.5"),
        ({"max_text_length": 0}, "`max_text_length` is 0"),
        ({"label_counts": [1, 2]}, "`label_counts` has 2 entries for 13 labels"),
        ({"hf_htc_version": "new"}, "`hf_htc_version` is 'new'"),
        ({"text_dropout": "much"}, "text_dropout"),
    ],
)
def test_wrong_values(change, message):
    with pytest.raises(StrictDataclassError, match=message):
        FlatConfig(text_config=make_encoder_config(), hierarchy=make_tree(), **change)


def test_a_taxonomy_that_does_not_fit_the_labels(tmp_path):
    FlatConfig(text_config=make_encoder_config(), hierarchy=make_tree()).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["hierarchy"]["parents"].append([])
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(HTCOSError, match=f"config of '{tmp_path}' is wrong: .* the taxonomy and `id2label` do not match"):
        FlatConfig.from_pretrained(tmp_path)


def test_the_config_holds_each_label_name_once_in_the_taxonomy():
    hierarchy = LabelHierarchy.from_edges([("Root", "x"), ("x", "y")], labels=["y"])
    config = FlatConfig(text_config=make_encoder_config(), hierarchy=hierarchy)
    assert config.hierarchy == {"parents": [[1], []], "structure_names": ["x"]}
    assert config.get_hierarchy() == hierarchy and config.get_hierarchy() is config.get_hierarchy()
    assert FlatConfig(num_labels=3).get_hierarchy().num_labels == 3  # no taxonomy: labels without edges


# ---------------------------------------------------------------------------------------------- broken checkpoints


def test_truncated_weights(tmp_path):
    make_model("flat", make_tree()).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for auto_class in (FlatForHierarchicalTextClassification, AutoModelForSequenceClassification):
        with pytest.raises(OSError, match=f"The weights of '{tmp_path}' are incomplete or damaged .* again"):
            auto_class.from_pretrained(tmp_path)


def test_weights_of_other_labels(tmp_path):
    make_model("flat", make_tree()).save_pretrained(tmp_path)
    other = FlatConfig(text_config=make_encoder_config(), hierarchy=LabelHierarchy.from_paths(["a", "b"]))
    message = (
        rf"'{tmp_path}' does not fit its config: 'classifier.out_proj.bias' has the shape \(13,\), the config asks for \(2,\)"
    )
    with pytest.raises(HTCOSError, match=message):
        FlatForHierarchicalTextClassification.from_pretrained(tmp_path, config=other)


def test_a_text_longer_than_the_encoder_takes():
    model = make_model("hiagm", make_tree())
    with pytest.raises(ValueError, match=r"has 40 tokens; the model takes 32. Tokenise with `truncation=True, max_length=32`"):
        model(input_ids=torch.ones(1, 40, dtype=torch.long))


def test_saving_into_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        make_model("flat", make_tree()).save_pretrained(tmp_path / "file")


def test_shards_of_a_larger_checkpoint_do_not_survive(tmp_path):
    model = make_model("flat", make_tree())
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    with torch.no_grad():
        model.classifier.out_proj.bias.fill_(3.0)
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("model*")) == ["model.safetensors"] or (
        sorted(path.name for path in tmp_path.glob("*.safetensors")) == ["model.safetensors"]
    )
    assert FlatForHierarchicalTextClassification.from_pretrained(tmp_path).classifier.out_proj.bias[0] == 3.0


def test_unknown_methods_are_named():
    with pytest.raises(ValueError, match=f"no method 'bert'; the methods are {', '.join(hf_htc.METHODS)}"):
        hf_htc.model_class("bert")
