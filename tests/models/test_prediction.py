"""`predict`: names, paths and scores, in the order of the texts, whatever the batches."""

import copy
import json
import logging
import pickle
import sys
import threading

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_models import make_dag, make_model, make_texts, make_tokenizer, make_tree

import hf_htc
from hf_htc.models.errors import HTCError
from hf_htc.models.prediction import DECODERS


METHODS = list(hf_htc.METHODS)


def logits_of(model, tokenizer, text):
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt")).logits[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_labels_are_those_with_positive_logits_in_the_order_of_the_texts(method, side):
    model, tokenizer, texts = make_model(method, make_dag()), make_tokenizer(side), make_texts(23)
    names = model.config.get_hierarchy().label_names
    whole = model.predict(texts, tokenizer, closure="none")
    assert any(row["labels"] for row in whole)
    for text, row in zip(texts, whole):
        logits = logits_of(model, tokenizer, text)
        assert set(row["labels"]) == {names[i] for i in range(len(names)) if logits[i] > 0}
        assert row["scores"] == sorted(row["scores"], reverse=True)
        for name, score in zip(row["labels"], row["scores"]):
            assert score == pytest.approx(float(torch.sigmoid(logits[names.index(name)])), abs=1e-5)
    for batch_size in (1, 4, 50):
        again = model.predict(texts, tokenizer, closure="none", batch_size=batch_size, show_progress_bar=False)
        assert [row["labels"] for row in again] == [row["labels"] for row in whole]
        assert [row["paths"] for row in again] == [row["paths"] for row in whole]
    assert model.predict(texts[3], tokenizer, closure="none")["labels"] == whole[3]["labels"]  # one text, one dict
    assert model.predict([], tokenizer) == []


def test_closure_policies_and_paths():
    model, tokenizer, texts = make_model("flat", make_tree(), statistics=False, pooling="mean"), make_tokenizer(), make_texts(40)
    model.config.label_closure = "closed"
    hierarchy = model.config.get_hierarchy()
    plain, up, prune = (model.predict(texts, tokenizer, closure=policy) for policy in ("none", "up", "prune"))
    sets = hierarchy.encode([row["labels"] for row in plain])
    assert not hierarchy.is_closed(sets)  # otherwise the policies could not differ
    as_sets = lambda rows: [sorted(row) for row in hierarchy.encode([r["labels"] for r in rows])]  # noqa: E731
    assert as_sets(up) == hierarchy.close(sets)
    assert as_sets(prune) == hierarchy.prune(sets)
    assert model.config.label_closure == "closed" and as_sets(model.predict(texts, tokenizer)) == as_sets(up)
    model.config.label_closure = "as_given"
    assert as_sets(model.predict(texts, tokenizer)) == as_sets(plain)
    for row in up:
        ends = [name for name in row["labels"] if not any(other.startswith(name + "/") for other in row["labels"])]
        assert row["paths"] == [name.split("/") for name in ends]


def test_every_path_of_a_dag_is_shown():
    model, tokenizer = make_model("flat", make_dag()), make_tokenizer()
    with torch.no_grad():
        model.classifier.out_proj.weight.zero_()
        model.classifier.out_proj.bias.fill_(-5)
        model.classifier.out_proj.bias[model.config.label2id["income tax"]] = 5
    row = model.predict("the match", tokenizer, closure="none")
    assert row["labels"] == ["income tax"]
    assert sorted(row["paths"]) == [["economy", "tax", "income tax"], ["politics", "tax", "income tax"]]
    assert sorted(model.predict("the match", tokenizer, closure="up")["labels"]) == ["economy", "income tax", "politics", "tax"]


def test_top_k_and_threshold():
    model, tokenizer, texts = make_model("hiagm", make_tree()), make_tokenizer(), make_texts(9)
    for text, row in zip(texts, model.predict(texts, tokenizer, top_k=3)):
        best = logits_of(model, tokenizer, text).topk(3).indices.tolist()
        assert row["labels"] == [model.config.id2label[i] for i in best]  # exactly three, below the threshold or not
    everything = model.predict(texts, tokenizer, threshold=0.0, closure="none")
    assert all(len(row["labels"]) == model.config.num_labels for row in everything)
    assert all(row["labels"] == [] and row["paths"] == [] for row in model.predict(texts, tokenizer, threshold=1.0))
    for row, wide in zip(model.predict(texts, tokenizer, threshold=0.3, top_k=2), everything):
        above = [name for name, score in zip(wide["labels"], wide["scores"]) if score > 0.3]
        assert row["labels"] == above[:2]
    assert len(model.predict(texts[0], tokenizer, top_k=99)["labels"]) == model.config.num_labels


def test_tuned_thresholds_are_honoured_and_never_shift_logits(tmp_path):
    model, tokenizer, texts = make_model("flat", make_tree()), make_tokenizer(), make_texts(9)
    before = logits_of(model, tokenizer, texts[0])
    model.config.thresholds = [0.0] + [1.0] * 12
    assert all(row["labels"] == ["sport"] for row in model.predict(texts, tokenizer, closure="none"))
    assert torch.equal(logits_of(model, tokenizer, texts[0]), before)
    assert len(model.predict(texts[0], tokenizer, threshold=0.0, closure="none")["labels"]) == 13
    model.save_pretrained(tmp_path)
    reloaded = type(model).from_pretrained(tmp_path)
    assert reloaded.predict(texts[0], tokenizer, closure="none")["labels"] == ["sport"]


def test_predict_leaves_the_model_in_the_mode_it_found():
    model, tokenizer = make_model("hiagm", make_tree()).train(), make_tokenizer()
    first, second = model.predict("the match", tokenizer, threshold=0.0), model.predict("the match", tokenizer, threshold=0.0)
    assert model.training and first == second  # without dropout although the model trains


def test_longer_texts_are_cut_with_one_warning(caplog):
    model, tokenizer = make_model("flat", make_tree()), make_tokenizer()
    model.config.max_text_length = 6
    texts = ["the match", "the match " * 20, "goal " * 30]
    with caplog.at_level(logging.WARNING):
        rows = model.predict(texts, tokenizer, batch_size=1, threshold=0.0)
    assert [record.getMessage() for record in caplog.records] == ["2 of 3 texts are longer than 6 tokens and were cut there."]
    assert rows[2] == model.predict("goal " * 4, tokenizer, threshold=0.0)


@pytest.mark.parametrize(
    ("texts", "options", "error", "message"),
    [
        (["fine", "  "], {}, ValueError, "Text 1 is empty"),
        (["fine", None], {}, TypeError, "Text 1 is a NoneType"),
        ([["a", "list"]], {}, TypeError, "Text 0 is a list"),
        ("fine", {"threshold": 1.5}, ValueError, r"threshold 1.5 is out of range; thresholds are numbers in \[0, 1\]"),
        ("fine", {"threshold": [0.5]}, ValueError, "1 entries for 13 labels"),
        ("fine", {"closure": "down"}, ValueError, "`closure` is 'down'; allowed are 'none', 'up', 'prune'"),
        ("fine", {"top_k": 0}, ValueError, "`top_k` is 0"),
        ("fine", {"batch_size": 0}, ValueError, "`batch_size` is 0"),
    ],
)
def test_bad_input_is_named(texts, options, error, message, tokenizer):
    with pytest.raises(error, match=message):
        make_model("flat", make_tree()).predict(texts, tokenizer, **options)


def test_broken_weights_do_not_give_predictions(tokenizer):
    model = make_model("flat", make_tree())
    with torch.no_grad():
        model.classifier.out_proj.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="NaN"):
        model.predict("the match", tokenizer)


def test_thresholds_in_the_config_are_checked():
    with pytest.raises(StrictDataclassError, match="threshold 2 is out of range"):
        make_model("flat", make_tree(), thresholds=2)
    with pytest.raises(StrictDataclassError, match="2 entries for 13 labels"):
        make_model("flat", make_tree(), thresholds=[0.5, 0.5])


# ---------------------------------------------------------------------------------------------- several threads


def in_threads(calls):
    """What the calls give when each has a thread of its own and all begin at once."""
    results, start = [None] * len(calls), threading.Barrier(len(calls))

    def run(place):
        start.wait()
        try:
            results[place] = calls[place]()
        except BaseException as error:  # noqa: BLE001
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # as many changes of the thread as there can be
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    return results


@pytest.mark.parametrize("method", ["flat", "hpt", "himatch, dot product", "hidec"])
def test_eight_threads_on_a_model_in_train_mode_agree(method):
    tokenizer, decoders = make_tokenizer(), [*DECODERS, "threshold", "single_path"]
    model = make_model(method, make_tree(), text_dropout=0.5).train()
    still = next(module for module in model.modules() if isinstance(module, torch.nn.Dropout)).eval()  # frozen by somebody
    modes = [module.training for module in model.modules()]

    def calls():
        options = {"threshold": 0.01, "batch_size": 2, "closure": "none", "show_progress_bar": False}
        return [
            lambda i=i, kind=kind: model.predict(make_texts(12, seed=i), tokenizer, decoder=kind, **options)
            for i, kind in enumerate(decoders)
        ]

    expected = [call() for call in calls()]
    assert all(any(row["labels"] for row in rows) for rows in expected)
    model = copy.deepcopy(model)  # nothing is made yet
    for _ in range(3):
        assert in_threads(calls()) == expected
        assert [module.training for module in model.modules()] == modes
    assert not still.training and model.training


def test_threads_that_cut_texts_elsewhere_share_a_tokenizer():
    tokenizer, texts = make_tokenizer(), [" ".join(make_texts(6, seed=i)) for i in range(40)]
    models = [make_model("flat", make_tree(), pooling="mean", statistics=False) for _ in range(8)]
    for length, model in enumerate(models, 4):
        model.config.max_text_length = 2 * length
    calls = [lambda model=model: model.predict(texts, tokenizer, batch_size=1, threshold=0.0, closure="none") for model in models]
    expected = [call() for call in calls]
    assert len({str(rows) for rows in expected}) == 8
    assert in_threads(calls) == expected


def test_a_prediction_that_is_not_finished_holds_the_mode_of_the_others():
    model, tokenizer, texts = make_model("hiagm", make_tree()).train(), make_tokenizer(), make_texts(4)
    first, second = (model.iter_logits(texts, tokenizer, batch_size=1) for _ in range(2))
    next(first), next(second)
    first.close()
    assert not model.training
    next(second)
    second.close()
    assert model.training
    with pytest.raises(FloatingPointError):
        with torch.no_grad():
            model.classifier.out_bias.fill_(float("nan"))
        model.predict(texts, tokenizer)
    assert model.training


def test_models_that_predicted_can_be_copied_and_pickled():
    model, tokenizer = make_model("hpt", make_tree()), make_tokenizer()
    row = model.predict("the match", tokenizer, decoder="coherent")
    assert copy.deepcopy(model).predict("the match", tokenizer, decoder="coherent") == row
    assert pickle.loads(pickle.dumps(model)).predict("the match", tokenizer, decoder="coherent") == row


# ---------------------------------------------------------------------------------------------- thresholds of any kind


@pytest.mark.parametrize(
    "number",
    [np.float32(0.25), np.float64(0.25), np.array(0.25), torch.tensor(0.25), torch.tensor(0.25, dtype=torch.bfloat16)],
    ids=repr,
)
def test_thresholds_of_numpy_and_torch_are_numbers(number, tokenizer, tmp_path):
    model, texts = make_model("flat", make_tree()), make_texts(5)
    expected = model.predict(texts, tokenizer, threshold=0.25)
    assert model.predict(texts, tokenizer, threshold=number) == expected
    assert model.predict(texts, tokenizer, threshold=[number] * 13) == expected
    model.config.thresholds = number
    assert type(model.config.thresholds) is float and model.predict(texts, tokenizer) == expected
    made = make_model("flat", make_tree(), thresholds=[number] * 13)
    assert made.config.thresholds == [0.25] * 13
    made.save_pretrained(tmp_path)
    assert type(made).from_pretrained(tmp_path).config.thresholds == [0.25] * 13


def test_thresholds_as_arrays_and_whole_numbers(tokenizer):
    model, text = make_model("flat", make_tree()), make_texts(1)[0]
    limits = np.linspace(0, 1, 13)
    expected = model.predict(text, tokenizer, threshold=limits.tolist())
    for given in (limits, torch.from_numpy(limits), tuple(limits)):
        model.config.thresholds = given
        assert model.config.thresholds == limits.tolist()
        assert model.predict(text, tokenizer) == model.predict(text, tokenizer, threshold=given) == expected
    for given in (np.int64(1), 1, np.zeros(13, dtype=int)):
        model.config.thresholds = given
        json.dumps(model.config.thresholds)
        assert len(model.predict(text, tokenizer, closure="none")["labels"]) == (0 if np.max(given) else 13)
    for wrong in (
        np.float32(1.5),
        np.array([0.5] * 12),
        torch.full((13,), torch.nan),
        np.array(True),
        np.array(["a"] * 13),
        "0.5",
    ):
        with pytest.raises(HTCError, match="threshold"):
            model.predict(text, tokenizer, threshold=wrong)


# ---------------------------------------------------------------------------------------------- what is replaced is noticed


def test_new_label_names_are_noticed(tokenizer):
    model = make_model("flat", make_tree())
    old = model.predict("the match", tokenizer, threshold=0.0, closure="none", decoder="coherent")
    model.config.id2label = {i: f"new {name}" for i, name in enumerate(make_tree().label_names)}
    found = model.predict("the match", tokenizer, threshold=0.0, closure="none", decoder="coherent")
    assert found["labels"] == [f"new {name}" for name in old["labels"]] and found["scores"] == old["scores"]
    hierarchy = model.config.get_hierarchy()
    assert model.config.get_hierarchy() is hierarchy is copy.deepcopy(model.config).get_hierarchy()
    assert len(model.predict("the match", tokenizer, decoder="one_per_level", threshold=0.0)["labels"]) > 1
    model.config.hierarchy = {"parents": [[] for _ in range(13)]}
    assert model.config.get_hierarchy().num_levels == 1
    assert len(model.predict("the match", tokenizer, decoder="one_per_level", threshold=0.0)["labels"]) == 1
