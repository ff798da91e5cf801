"""The pipeline `hierarchical-text-classification`: what `predict` gives, in the way of transformers' pipelines."""

import json

import pytest
from datasets import Dataset
from tiny_models import make_encoder_config, make_hierarchy, make_model, make_texts, make_tokenizer
from transformers import AutoModelForSequenceClassification, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from hf_htc import HierarchicalTextClassificationPipeline
from hf_htc.models.prediction import DECODERS
from hf_htc.pipeline import TASK


TEXTS = make_texts(11)


@pytest.fixture(scope="module", params=[("flat", "tree"), ("hiagm", "dag")], ids=lambda param: param[0])
def saved(request, tmp_path_factory):
    """(folder, model): a model whose scores differ from text to text."""
    method, kind = request.param
    model = make_model(method, make_hierarchy(kind), make_encoder_config(initializer_range=0.6), statistics=False)
    model.config.label_closure = "closed"
    folder = tmp_path_factory.mktemp("pipeline") / method
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder, model


@pytest.fixture(scope="module")
def strict(saved):
    """A threshold that half of the texts have no label above."""
    return sorted(row["scores"][0] for row in saved[1].predict(TEXTS, make_tokenizer(), top_k=1))[len(TEXTS) // 2]


@pytest.fixture(scope="module")
def classify(saved):
    return pipeline(TASK, model=str(saved[0]), device="cpu")


def assert_predicted(found, model, texts, **options):
    """The labels and scores of `predict`; the last digit of a score may depend on where a tensor lies in memory."""
    expected = model.predict(texts, make_tokenizer(), **options)
    for entries, row in zip(found, expected, strict=True):
        assert [entry["label"] for entry in entries] == row["labels"]
        assert [entry["score"] for entry in entries] == pytest.approx(row["scores"], abs=2e-6)


def test_class_and_model(saved, classify):
    assert type(classify) is HierarchicalTextClassificationPipeline
    assert type(classify.model) is type(saved[1])


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"threshold": 0.4},
        {"top_k": 3},
        {"top_k": 2, "threshold": 0.5},
    ],
    ids=str,
)
def test_a_list_gives_what_predict_gives(saved, classify, options, batch_size):
    found = classify(TEXTS, batch_size=batch_size, **options)
    assert_predicted(found, saved[1], TEXTS, batch_size=batch_size, **options)
    assert len({entries[0]["score"] for entries in found if entries}) > 5


@pytest.mark.parametrize("options", [{"truncation": True}, {"truncation": True, "padding": True}, {"num_workers": 0}], ids=str)
def test_what_other_text_pipelines_take_is_taken_of_one_text_and_of_many(classify, options):
    texts = TEXTS[:3]
    assert classify(texts, **options) == classify(texts)
    assert classify(texts[0], **options) == classify(texts[0])
    assert list(classify(iter(texts), **options)) == list(classify(iter(texts)))


@pytest.mark.parametrize("decoder", DECODERS)
def test_decoders(saved, classify, decoder):
    found = classify(TEXTS, decoder=decoder, threshold=0.4, coherent=False)
    assert_predicted(found, saved[1], TEXTS, decoder=decoder, threshold=0.4, closure="none", batch_size=1)
    assert classify(TEXTS[0], decoder=decoder, threshold=0.4, coherent=False) == found[0]


def test_texts_without_a_label(saved, classify, strict):
    found = classify(TEXTS, threshold=strict)
    assert_predicted(found, saved[1], TEXTS, threshold=strict, batch_size=1)
    assert 0 < sum(entries == [] for entries in found) < len(TEXTS)


def test_one_text(saved, classify):
    assert_predicted([classify(TEXTS[2])], saved[1], [TEXTS[2]])
    assert classify([TEXTS[2]]) == [classify(TEXTS[2])]
    assert classify([]) == []


def test_coherence(saved, classify, strict):
    model, texts = saved[1], TEXTS
    for coherent, closure in ((True, "up"), (False, "none"), (None, "up")):
        found = classify(texts, coherent=coherent, threshold=strict)
        assert_predicted(found, model, texts, closure=closure, threshold=strict, batch_size=1)
    assert classify(texts, coherent=True, threshold=strict) != classify(texts, coherent=False, threshold=strict)
    hierarchy = model.config.get_hierarchy()
    for row in classify(texts, coherent=True, top_k=1):
        labels = {hierarchy.id(entry["label"]) for entry in row}
        for label in labels:
            assert {a for a in hierarchy.ancestors(label) if a < hierarchy.num_labels} <= labels


def test_level_and_path(saved, classify):
    hierarchy = saved[1].config.get_hierarchy()
    (row,) = classify([TEXTS[0]], threshold=0.0)
    assert {entry["label"] for entry in row} == set(hierarchy.label_names)
    for entry in row:
        number = hierarchy.id(entry["label"])
        assert entry["level"] == hierarchy.levels[number]
        assert type(entry["level"]) is int
        assert entry["path"] in [[hierarchy.texts[i] for i in path] for path in hierarchy.paths(number)]
        json.dumps(entry)
    assert [entry["score"] for entry in row] == sorted((entry["score"] for entry in row), reverse=True)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_generators_and_data_sets(classify, strict, batch_size):
    listed = classify(TEXTS, batch_size=batch_size, threshold=strict)
    assert [] in listed
    generated = list(classify((text for text in TEXTS), batch_size=batch_size, threshold=strict))
    column = KeyDataset(Dataset.from_dict({"text": TEXTS}), "text")
    from_data = list(classify(column, batch_size=batch_size, threshold=strict))
    assert generated == from_data
    assert classify(Dataset.from_dict({"text": TEXTS})["text"], batch_size=batch_size, threshold=strict) == listed
    # Batches in the order of arrival, so that the padding and with it the last digits of scores may differ.
    for row, other in zip(listed, generated, strict=True):
        assert [entry["label"] for entry in row] == [entry["label"] for entry in other]
        assert [entry["score"] for entry in row] == pytest.approx([entry["score"] for entry in other], abs=2e-6)


def test_options_of_the_pipeline_are_defaults_of_its_calls(saved, classify):
    configured = pipeline(TASK, model=saved[1], tokenizer=make_tokenizer(), top_k=2, batch_size=4)
    assert configured(TEXTS) == classify(TEXTS, top_k=2, batch_size=4)
    assert configured(TEXTS, top_k=1) == classify(TEXTS, top_k=1, batch_size=4)
    for found, text in zip(configured(iter(TEXTS)), TEXTS, strict=True):
        assert [entry["label"] for entry in found] == [entry["label"] for entry in configured(text)]
        assert len(found) == 2


def test_long_text_is_cut_as_predict_does(saved, classify):
    long = " ".join(["the match of the ball"] * 20)
    assert_predicted([classify(long)], saved[1], [long])


def test_errors(saved, classify):
    for call in (lambda: classify(" "), lambda: classify(["a match", ""]), lambda: list(classify(iter([""])))):
        with pytest.raises(ValueError, match=r"Text \d is empty"):
            call()
    with pytest.raises(TypeError, match="Text 1 is a int"):
        classify(["a match", 3])
    with pytest.raises(ValueError, match="has no option 'treshold'"):
        classify("a match", treshold=0.5)
    with pytest.raises(ValueError, match="`decoder` is 'best'"):
        classify("a match", decoder="best")
    with pytest.raises(ValueError, match="`coherent` is 'yes'"):
        classify(["a match"], coherent="yes")
    with pytest.raises(ValueError, match="threshold 1.5 is out of range"):
        classify("a match", threshold=1.5)
    with pytest.raises(ValueError, match="`top_k` is 0"):
        classify("a match", top_k=0)
    stranger = AutoModelForSequenceClassification.from_config(make_encoder_config())
    with pytest.raises(ValueError, match="needs a checkpoint of hf_htc, and BertForSequenceClassification is none"):
        pipeline(TASK, model=stranger, tokenizer=make_tokenizer())


def test_saved_pipeline_loads_without_remote_code(classify, tmp_path):
    classify.save_pretrained(tmp_path / "again")
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert "custom_pipelines" not in config
    assert not (tmp_path / "again" / "pipeline.py").exists()
    again = pipeline(TASK, model=str(tmp_path / "again"))
    assert again(TEXTS) == classify(TEXTS)


def test_the_stock_pipeline_still_works(saved):
    stock = pipeline("text-classification", model=str(saved[0]), top_k=None)
    (row,) = stock([TEXTS[1]])
    (own,) = saved[1].predict([TEXTS[1]], make_tokenizer(), threshold=0.0)
    assert [entry["label"] for entry in row] == own["labels"]
    assert [entry["score"] for entry in row] == pytest.approx(own["scores"], abs=2e-6)
