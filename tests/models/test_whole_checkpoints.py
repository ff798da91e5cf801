"""Loaded means whole: every way in which a checkpoint can lack, break or mix up its parts, and the ways to load a good one."""

import json
import shutil

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file, save_file
from tiny_models import make_batch, make_encoder_config, make_model, make_tokenizer, make_tree
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

import hf_htc
from hf_htc import FlatConfig, FlatForHierarchicalTextClassification, LabelHierarchy
from hf_htc.models.errors import HTCError, HTCOSError
from hf_htc.models.whole_checkpoints import find_config, non_finite


METHODS = list(hf_htc.METHODS)


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "flat"
    make_model("flat", make_tree()).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(flat, tmp_path):
    """A copy to break."""
    return shutil.copytree(flat, tmp_path / "checkpoint")


def change_weights(folder, change):
    path = folder / "model.safetensors"
    weights = change(load_file(path))
    save_file(weights, path, metadata={"format": "pt"})


def change_config(folder, **changes):
    path = folder / "config.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def without(prefix):
    return lambda weights: {name: value for name, value in weights.items() if not name.startswith(prefix)}


def load_in_every_way(folder):
    return [
        lambda: AutoModelForSequenceClassification.from_pretrained(folder),
        lambda: AutoModel.from_pretrained(folder),
        lambda: FlatForHierarchicalTextClassification.from_pretrained(str(folder)),
    ]


def assert_refused(folder, message):
    for load in load_in_every_way(folder):
        with pytest.raises(HTCOSError, match=message) as caught:
            load()
        assert str(folder) in str(caught.value)


# ---------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_the_classifier_are_missing(method, tmp_path):
    make_model(method, make_tree()).save_pretrained(tmp_path)
    change_weights(tmp_path, without("classifier."))
    with pytest.raises(HTCOSError, match="is not whole: it has no 'classifier.*from_text_encoder"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)


def test_one_weight_of_the_encoder_is_missing(folder):
    change_weights(folder, without("model.encoder.layer.1.attention.self.value.weight"))
    assert_refused(folder, "is not whole: it has no 'model.encoder.layer.1.attention.self.value.weight'")
    with pytest.raises(HTCOSError, match="is not whole"):  # an encoder is never half random
        AutoModel.from_pretrained(folder, ignore_mismatched_sizes=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["classifier.out_proj.bias", "model.embeddings.word_embeddings.weight"])
def test_a_weight_that_is_not_finite(folder, name, value):
    def spoil(weights):
        weights[name].view(-1)[-1] = value
        return weights

    change_weights(folder, spoil)
    assert_refused(folder, f"weights that are NaN or infinite as torch.float32: '{name}'")


def test_weights_too_large_for_half_precision(folder):
    change_weights(folder, lambda weights: {**weights, "classifier.out_proj.bias": torch.full((13,), 1e6)})
    assert AutoModel.from_pretrained(folder).classifier.out_proj.bias[0] == 1e6
    with pytest.raises(HTCOSError, match="infinite as torch.float16: 'classifier.out_proj.bias'.* wider `dtype`"):
        AutoModel.from_pretrained(folder, dtype=torch.float16)


def test_weights_of_another_shape(folder):
    change_weights(folder, lambda weights: {**weights, "classifier.out_proj.bias": torch.zeros(14)})
    assert_refused(folder, r"'classifier.out_proj.bias' has the shape \(14,\), the config asks for \(13,\)")


def test_weights_that_the_config_has_no_place_for(folder):
    change_weights(folder, lambda weights: {**weights, "classifier.more.weight": torch.zeros(2)})
    assert_refused(folder, "it has 'classifier.more.weight', for which a model of this config has no place")
    assert AutoModel.from_pretrained(folder, ignore_mismatched_sizes=True).config.num_labels == 13


def test_a_config_with_fewer_layers_than_the_weights(folder):
    content = json.loads((folder / "config.json").read_text())["text_config"]
    change_config(folder, text_config={**content, "num_hidden_layers": 1})
    assert_refused(folder, "it has 'model.encoder.layer.1.*and 13 more, for which")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:50], lambda data: data[: len(data) // 2], lambda data: b"\xff\xfe\x00" + data],
    ids=["empty", "beginning", "half", "binary"],
)
def test_damaged_files(folder, file, damage):
    path = folder / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(HTCOSError, match=str(folder)):
        FlatForHierarchicalTextClassification.from_pretrained(folder)
    with pytest.raises(OSError):  # a config that is no JSON is refused by transformers, before a class of ours is chosen
        AutoModel.from_pretrained(folder)


def test_no_weights_and_no_folder(folder):
    (folder / "model.safetensors").unlink()
    assert_refused(folder, "cannot be loaded: .*no file named model.safetensors")
    with pytest.raises(HTCOSError, match="The checkpoint '/no/such/folder' cannot be loaded"):
        FlatForHierarchicalTextClassification.from_pretrained("/no/such/folder")


def test_shards(tmp_path):
    model = make_model("hiagm", make_tree())
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert AutoModel.from_pretrained(tmp_path).config.num_labels == 13
    index = tmp_path / "model.safetensors.index.json"
    whole = index.read_text()
    for text in ("", "[]", "{}", '{"weight_map": 3}'):
        index.write_text(text)
        with pytest.raises(HTCOSError, match=str(tmp_path)):
            AutoModel.from_pretrained(tmp_path)
    index.write_text(whole)
    shards[-1].unlink()
    with pytest.raises(HTCOSError, match=f"(?s)cannot be loaded: .*{shards[-1].name}"):
        AutoModel.from_pretrained(tmp_path)


# ---------------------------------------------------------------------------------------------- configs


def test_another_methods_checkpoint(tmp_path):
    make_model("hiagm", make_tree()).save_pretrained(tmp_path)
    message = "`model_type` is 'htc_hiagm', and this is a class of 'htc_flat'.*AutoModelForSequenceClassification"
    for wrong in (FlatForHierarchicalTextClassification, FlatConfig):
        with pytest.raises(HTCOSError, match=message):
            wrong.from_pretrained(tmp_path)
    with pytest.raises(HTCOSError, match=message):  # a config of the right class does not make the weights so
        config = FlatConfig(text_config=make_encoder_config(), hierarchy=make_tree())
        FlatForHierarchicalTextClassification.from_pretrained(tmp_path, config=config)


def test_the_model_type_was_changed(folder):
    change_config(folder, model_type="htc_hiagm")
    with pytest.raises(
        HTCOSError, match="is not whole: it has no 'classifier.*instead it has 'classifier.out_proj.*another method"
    ):
        AutoModelForSequenceClassification.from_pretrained(folder)


@pytest.mark.parametrize("lost", [..., None])
def test_a_config_without_its_hierarchy(folder, lost):
    change_config(folder, hierarchy=lost)
    assert_refused(folder, f"The config of '{folder}' is wrong: It has lost its `hierarchy`")
    with pytest.raises(HTCOSError, match="lost its `hierarchy`"):
        AutoConfig.from_pretrained(folder)


def test_a_model_without_a_taxonomy_is_no_loss(tmp_path):
    for num_labels in (2, 5):
        config = FlatConfig(text_config=make_encoder_config(), num_labels=num_labels)
        FlatForHierarchicalTextClassification(config).save_pretrained(tmp_path)
        assert AutoModel.from_pretrained(tmp_path).config.get_hierarchy().parents == [[] for _ in range(num_labels)]
        assert FlatConfig.from_dict(config.to_dict()).num_labels == num_labels


NAMES = {str(i): name for i, name in enumerate(make_tree().label_names)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id2label": dict(list(NAMES.items())[:-1])}, "`hierarchy` has 13 nodes, but 12 labels"),
        ({"id2label": {**NAMES, "13": "new"}}, "`hierarchy` has 13 nodes for 14 labels"),
        ({"id2label": {**{k: v for k, v in NAMES.items() if k != "12"}, "99": "x"}}, "none of the id 12; ids are 0 to 12"),
        ({"id2label": {**NAMES, "3": None}}, "the name None .*names are strings"),
        ({"id2label": {**NAMES, "3": NAMES["4"]}}, "stands at|twice|unique|several|repeat|duplicate"),
        ({"id2label": list(NAMES.values())}, "`id2label` is a list"),
        ({"id2label": ...}, "`hierarchy` has 13 nodes, but 2 labels"),
        ({"hierarchy": [[0]]}, "hierarchy"),
        ({"hierarchy": {"parents": {"a": 1}}}, "`hierarchy` has 0 nodes"),
        ({"hierarchy": {"parents": [3] * 13}}, "is wrong"),
        ({"hierarchy": {"parents": [[99]] * 13}}, "is wrong"),
        ({"hierarchy": {"parents": [[1], [0]] + [[]] * 11}}, "cycle"),
        ({"text_config": [1]}, "text_config"),
        ({"text_config": {"model_type": "nonsense"}}, "nonsense"),
        ({"thresholds": [0.5] * 12}, "`thresholds` has 12 entries"),
        ({"thresholds": "high"}, "threshold 'high' is out of range"),
        ({"conformal": {"kind": "other"}}, "`conformal`"),
        ({"conformal": {"kind": ["back_off"]}}, "`conformal`"),
        ({"initializer_range": float("inf")}, "`initializer_range` holds a number that is NaN or infinite"),
        ({"label_counts": [1, 2]}, "`label_counts` has 2 entries"),
        ({"text_dropout": "much"}, "text_dropout"),
        ({"hf_htc_version": 3}, "hf_htc_version"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_configs_that_contradict_themselves_or_the_weights(folder, changes, message):
    change_config(folder, **changes)
    assert_refused(folder, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"hierarchy":', '"hierarchy": {}, "hierarchy":'), "the key 'hierarchy' stands twice"),
        (lambda text: text.replace('"text_dropout": 0.1', '"text_dropout": NaN'), "NaN"),
    ],
)
def test_json_that_transformers_takes(folder, change, message):
    path = folder / "config.json"
    assert change(path.read_text()) != path.read_text()
    path.write_text(change(path.read_text()))
    assert_refused(folder, message)


@pytest.mark.parametrize("text", ["[" * 10_000 + "]" * 10_000, '{"hierarchy": ' * 10_000, "[]", "null", "3", "{}", '"text"', "{"])
def test_configs_that_are_none(folder, text):
    (folder / "config.json").write_text(text)
    for own in (FlatForHierarchicalTextClassification, FlatConfig):
        with pytest.raises(HTCOSError, match=str(folder)):
            own.from_pretrained(folder)


def test_options_out_of_range_are_plain_errors(folder, tmp_path):
    with pytest.raises(HTCError, match="`coherence` is 'always'"):
        AutoModel.from_pretrained(folder, coherence="always")
    with pytest.raises(HTCError, match="text_dropout"):
        FlatForHierarchicalTextClassification.from_pretrained(folder, text_dropout="much")
    AutoModel.from_config(make_encoder_config()).save_pretrained(tmp_path / "encoder")
    for options, message in (({"pooling": "max"}, "`pooling` is 'max'"), ({"text_dropout": "much"}, "text_dropout")):
        with pytest.raises(HTCError, match=message) as caught:
            FlatForHierarchicalTextClassification.from_text_encoder(tmp_path / "encoder", hierarchy=make_tree(), **options)
        assert not isinstance(caught.value, StrictDataclassError)


# ---------------------------------------------------------------------------------------------- what still loads


def logits_of(model):
    with torch.no_grad():
        return model.eval()(**make_batch()).logits


def test_loading_info_is_given_to_who_asks(folder):
    model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert type(model) is FlatForHierarchicalTextClassification
    assert info["missing_keys"] == set() and info["mismatched_keys"] == set()


def test_a_training_starts_from_a_partial_checkpoint_when_asked(folder, caplog):
    other = FlatConfig(text_config=make_encoder_config(), hierarchy=LabelHierarchy.from_paths(["a", "b", "c"]))
    model, info = FlatForHierarchicalTextClassification.from_pretrained(
        folder, config=other, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert len(info["mismatched_keys"]) == 2 and logits_of(model).shape == (4, 3) and logits_of(model).isfinite().all()
    assert "Newly initialised" in caplog.text and "classifier.out_proj.bias, classifier.out_proj.weight" in caplog.text
    trained = AutoModel.from_pretrained(folder)
    assert torch.equal(model.get_input_embeddings().weight, trained.get_input_embeddings().weight)
    change_weights(folder, without("classifier."))
    caplog.clear()
    assert logits_of(AutoModel.from_pretrained(folder, ignore_mismatched_sizes=True)).isfinite().all()
    assert "Newly initialised" in caplog.text


def test_every_way_to_load_a_whole_checkpoint(flat, folder, tmp_path):
    expected, weights = logits_of(AutoModel.from_pretrained(flat)), load_file(flat / "model.safetensors")
    config = AutoConfig.from_pretrained(flat)
    load = FlatForHierarchicalTextClassification.from_pretrained
    (tmp_path / "outer").mkdir()
    shutil.copytree(flat, tmp_path / "outer" / "inner")
    (folder / "model.safetensors").rename(folder / "model.fp32.safetensors")
    plain = shutil.copytree(flat, tmp_path / "plain")
    (plain / "model.safetensors").unlink()
    torch.save(weights, plain / "pytorch_model.bin")
    for model in (
        load(None, config=config, state_dict=weights),
        load(flat, config=config),
        load(tmp_path / "outer", subfolder="inner"),
        load(folder, variant="fp32"),
        load(plain),
        load(flat, device_map="cpu"),
        load(flat, dtype="auto", low_cpu_mem_usage=True),
    ):
        assert torch.equal(logits_of(model), expected)
    assert {p.device.type for p in load(flat, device_map="meta").parameters()} == {"meta"}
    for dtype in (torch.float16, torch.bfloat16):
        assert load(flat, dtype=dtype).dtype == dtype
    with pytest.raises(HTCOSError, match="The checkpoint 'state_dict' is not whole"):
        load(None, config=config, state_dict=without("classifier.")(weights))


def test_an_encoder_alone_is_no_model(tmp_path):
    AutoModel.from_config(make_encoder_config()).save_pretrained(tmp_path)
    config = FlatConfig(text_config=make_encoder_config(), hierarchy=make_tree())
    with pytest.raises(HTCOSError, match="`model_type` is 'bert'"):
        FlatForHierarchicalTextClassification.from_pretrained(tmp_path, config=config)
    model = FlatForHierarchicalTextClassification.from_pretrained(tmp_path, config=config, ignore_mismatched_sizes=True)
    assert torch.equal(model.get_input_embeddings().weight, AutoModel.from_pretrained(tmp_path).get_input_embeddings().weight)


def test_adapters_and_their_bases(folder, tmp_path):
    peft = pytest.importorskip("peft")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    lora = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"], init_lora_weights=False)
    wrapped = peft.get_peft_model(model, lora)
    wrapped.peft_config["default"].base_model_name_or_path = str(folder)
    wrapped.save_pretrained(tmp_path / "adapter")
    expected = logits_of(wrapped)
    assert torch.equal(logits_of(AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter")), expected)
    again = peft.PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(folder), tmp_path / "adapter")
    assert torch.equal(logits_of(again), expected)
    change_weights(folder, without("classifier."))
    with pytest.raises(HTCOSError, match=f"'{folder}' is not whole"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter")


def test_what_is_not_finite_is_found_wherever_it_is():
    model = make_model("flat", make_tree())
    assert non_finite(model) == []
    with torch.no_grad():
        model.classifier.out_proj.weight[3, 2] = torch.nan
        model.model.embeddings.LayerNorm.bias[0] = -torch.inf
    assert sorted(non_finite(model)) == ["classifier.out_proj.weight", "model.embeddings.LayerNorm.bias"]
    assert len(non_finite(model.double())) == len(non_finite(model.half())) == 2
    assert non_finite(model.to("meta")) == []


def test_weights_that_fsdp_will_bring_are_not_judged(monkeypatch):
    model = make_model("flat", make_tree())
    with torch.no_grad():
        model.classifier.out_proj.bias.fill_(torch.nan)
    for key, value in (("ACCELERATE_USE_FSDP", "true"), ("FSDP_CPU_RAM_EFFICIENT_LOADING", "true"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(key, value)
    assert non_finite(model) == ["classifier.out_proj.bias"]  # a process alone
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    assert non_finite(model) == []
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert non_finite(model) == ["classifier.out_proj.bias"]


def test_where_a_config_is(flat, tmp_path):
    assert find_config(flat) == str(flat / "config.json")
    assert find_config(tmp_path) is find_config("no/such-checkpoint") is find_config("a/b/c") is None


def test_a_tokenizer_makes_a_folder_no_other(folder):
    make_tokenizer().save_pretrained(folder)
    assert AutoModel.from_pretrained(folder).config.num_labels == 13
