"""ONNX: the exported model is PyTorch's, a wrong one is not kept, and what is saved beside it predicts by itself."""

import copy
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_models import (
    WORDS,
    make_batch,
    make_encoder_config,
    make_hierarchy,
    make_label_sets,
    make_model,
    make_texts,
    make_tokenizer,
)


pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

from datasets import Dataset  # noqa: E402

import hf_htc  # noqa: E402
from hf_htc.hub import OnnxClassifier, export, export_onnx  # noqa: E402
from hf_htc.training.lora import add_lora  # noqa: E402


TEXTS = [*make_texts(9), "the ball of a match " * 9]  # one that is cut
CASES = [("flat", "dag", "bert"), ("hiagm", "tree", "bert"), ("flat", "tree", "gpt2"), ("hiagm", "dag", "gpt2")]
CASES += [
    ("hiagm, LA", "dag", "bert"),
    ("hiagm, TreeLSTM", "dag", "bert"),
    ("himatch, dot product", "dag", "bert"),
    ("hitin", "dag", "bert"),
    ("hitin, K=3, max", "tree", "bert"),
    ("himtl", "dag", "bert"),
    ("himtl, HiTIN", "tree", "bert"),
    ("flat, coherent", "dag", "bert"),
    ("hpt, HBM", "dag", "bert"),
    ("ptmt", "dag", "bert"),
    ("hidec", "tree", "bert"),
    ("hidec, expand", "dag", "bert"),
]


def make_vivid_model(method, kind, encoder, **options):
    """A model whose logits differ visibly from text to text, with a tokenizer."""
    if encoder == "textrcnn":
        encoder = hf_htc.TextRCNNConfig(
            vocab_size=len(WORDS) + 8, embedding_size=8, gru_hidden_size=6, num_filters=5, initializer_range=1.0
        )
    else:
        room = {"max_position_embeddings": 64} if method.startswith(("hpt", "ptmt")) else {}  # for 24 tokens and prompts
        encoder = make_encoder_config(encoder, initializer_range=0.6, **room)
    model, tokenizer = make_model(method, make_hierarchy(kind), encoder, **options), make_tokenizer()
    model.fit_tokenizer(tokenizer)
    if model.config.model_type == "htc_hitin":  # its logits begin all but equal for all texts
        model.classifier.out_weight.data.mul_(10)
    return model, tokenizer


def assert_same_predictions(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one["labels"] == other["labels"]
        assert one["paths"] == other["paths"]
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def exported(request, tmp_path_factory):
    model, tokenizer = make_vivid_model(*request.param)
    folder = tmp_path_factory.mktemp("export") / "exported"
    report = export_onnx(model, tokenizer, folder, int8=True)
    return model, tokenizer, folder, report


def test_logits_on_ten_shapes(exported):
    """Compared here once more, with onnxruntime alone and other batches than the export's own."""
    model, _, folder, report = exported
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    assert [node.name for node in session.get_inputs()] == report["inputs"]
    spread = []
    for number, (documents, length) in enumerate(
        [(1, 1), (1, 2), (1, 24), (2, 3), (3, 5), (4, 11), (5, 24), (7, 8), (9, 13), (16, 17)]
    ):
        batch = make_batch(documents, length, seed=number, low=0)
        batch["attention_mask"] = (torch.arange(length) < (length - torch.arange(documents)).clamp(min=1)[:, None]).long()
        if number % 2:
            batch = {key: value.flip(1) for key, value in batch.items()}
        (found,) = session.run(["logits"], {key: value.numpy() for key, value in batch.items()})
        with torch.no_grad():
            expected = model(**batch).logits.numpy()
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-4, (documents, length)
        spread.append(expected.std(axis=0).max())
    assert max(spread) > 0.05  # the logits depend on the text


def test_report_and_files(exported):
    model, _, folder, report = exported
    assert {file.name for file in folder.iterdir()} == {
        "model.onnx", "model_int8.onnx", "config.json", "tokenizer.json", "tokenizer_config.json", "taxonomy.json",
        "export.json", "README.md",
    }  # fmt: skip
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]
    assert json.loads((folder / "export.json").read_text()) == report
    assert len(report["shapes"]) == 10
    assert 0 <= report["largest_logit_difference"] <= 1e-4
    assert report["max_length"] == 24 and report["fixed_length"] is None
    assert report["opset"] >= 18
    assert {"torch", "transformers", "onnx", "onnxruntime"} <= set(report["versions"])
    assert report["bytes"] == {name: (folder / name).stat().st_size for name in ("model.onnx", "model_int8.onnx")}
    assert 0 < report["int8"]["largest_logit_difference"] < 1.0
    assert 0 < report["int8"]["largest_probability_difference"] < report["int8"]["largest_logit_difference"]
    assert "scores" not in report and "scores" not in report["int8"]
    assert "no measure of F1" in (folder / "README.md").read_text()
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == model.config.model_type and "auto_map" not in config
    for file in folder.iterdir():  # PyTorch notes where every operator came from
        content = file.read_bytes()
        for place in (str(folder.parent), "site-packages", "modeling_htc.py", "/home/"):
            assert place.encode() not in content, (file.name, place)


def test_predictions(exported):
    model, tokenizer, folder, _ = exported
    classifier = OnnxClassifier(folder)
    for options in ({}, {"threshold": 0.3}, {"top_k": 3}, {"closure": "prune", "threshold": 0.4}, {"batch_size": 3}):
        assert_same_predictions(classifier.predict(TEXTS, **options), model.predict(TEXTS, tokenizer, **options))
    assert classifier.predict(TEXTS[0]) == classifier.predict([TEXTS[0]])[0]
    with pytest.raises(ValueError, match="Text 0 is empty"):
        classifier.predict(" ")


def test_int8_predicts(exported):
    model, tokenizer, folder, report = exported
    quantized = OnnxClassifier(folder, int8=True)
    everything = {"threshold": 0.0, "closure": "none"}
    bound = 3 * report["int8"]["largest_probability_difference"]
    differences = []
    for found, expected in zip(quantized.predict(TEXTS, **everything), model.predict(TEXTS, tokenizer, **everything)):
        expected = dict(zip(expected["labels"], expected["scores"]))
        differences += [abs(expected[label] - score) for label, score in zip(found["labels"], found["scores"])]
    assert 1e-6 < max(differences) < bound  # another model than the float one, but near


@pytest.mark.parametrize("beside", [False, True], ids=["in the file", "beside it"])
@pytest.mark.parametrize("columns", [24, 40])
def test_int8_with_a_shared_weight(tmp_path, columns, beside):
    """Two products with one weight, which onnxruntime transposes for its quantisation; a third operator reads it as it is."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    weight, x = generator.normal(size=(24, columns)).astype("float32"), generator.normal(size=(5, columns)).astype("float32")
    nodes = [
        helper.make_node("Gemm", ["x", "weight"], ["one"], transB=1),
        helper.make_node("Gemm", ["x", "weight"], ["two"], transB=1),
        helper.make_node("ReduceSum", ["weight"], ["three"], keepdims=0),
        helper.make_node("Add", ["one", "two"], ["four"]),
        helper.make_node("Add", ["three", "four"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "shared",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 24])],
        [numpy_helper.from_array(weight, "weight")],
    )
    file, options = tmp_path / "model.onnx", dict(save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(file), **(options if beside else {}))
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    export.quantize(tmp_path)
    found = onnxruntime.InferenceSession(str(tmp_path / "model_int8.onnx")).run(None, {"x": x})[0]
    np.testing.assert_allclose(found, 2 * x @ weight.T + weight.sum(), atol=0.5)
    quantized = onnx.load(str(tmp_path / "model_int8.onnx"))
    assert [node.op_type for node in quantized.graph.node].count("MatMulInteger") == 2
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept


def test_snippet_runs_without_torch(exported, tmp_path):
    """The README's program gives the labels of `predict`, thresholds and closure included."""
    model, tokenizer, folder, _ = exported
    (snippet,) = (folder / "README.md").read_text().split("```python\n")[1].split("```")[:1]
    snippet = snippet[: snippet.index("print(predict(")]
    program = (
        "import sys\nsys.modules['torch'] = sys.modules['transformers'] = sys.modules['hf_htc'] = None\n"
        f"{snippet}\nprint(json.dumps(predict({TEXTS!r})))"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr[-2000:]
    for found, expected in zip(json.loads(finished.stdout), model.predict(TEXTS, tokenizer), strict=True):
        assert set(found) == set(expected["labels"])
        assert [found[label] for label in expected["labels"]] == pytest.approx(expected["scores"], abs=1e-5)


def test_fixed_length(tmp_path):
    """An encoder that reads word by word is exported at one length; shorter texts are padded to it."""
    model, tokenizer = make_vivid_model("flat", "tree", "textrcnn")
    assert not model.model.supports_dynamic_length
    report = export_onnx(model, tokenizer, tmp_path / "exported", max_length=9)
    assert report["fixed_length"] == report["max_length"] == 9
    assert "texts are padded to 9 tokens" in (tmp_path / "exported" / "README.md").read_text()
    session = onnxruntime.InferenceSession(str(tmp_path / "exported" / "model.onnx"))
    assert session.get_inputs()[0].shape[1] == 9
    classifier = OnnxClassifier(tmp_path / "exported")
    assert model.config.max_text_length == 24  # not changed by the export
    model.config.max_text_length = 9
    assert_same_predictions(classifier.predict(TEXTS), model.predict(TEXTS, tokenizer))
    with pytest.raises(ValueError, match="has 12 tokens; the exported model takes 9"):
        classifier(**make_batch(2, 12))
    with pytest.raises(ValueError, match="'attention_mask' is missing"):
        classifier(input_ids=torch.ones(1, 2))


def test_token_types_thresholds_and_options(tmp_path):
    """A tokenizer with token types, tuned thresholds, a shorter limit, a model in half precision and training mode."""
    model, tokenizer = make_vivid_model("hiagm", "tree", "bert")
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    model.config.thresholds = [0.2 + 0.05 * i for i in range(model.config.num_labels)]
    model.train()
    report = export_onnx(model, tokenizer, tmp_path / "exported", max_length=7)
    assert model.training and model.config.max_text_length == 24
    assert report["inputs"] == ["input_ids", "attention_mask", "token_type_ids"]
    model.config.max_text_length = 7
    found = OnnxClassifier(tmp_path / "exported").predict(TEXTS)
    assert_same_predictions(found, model.predict(TEXTS, tokenizer))
    assert found != OnnxClassifier(tmp_path / "exported").predict(TEXTS, threshold=0.5)


def test_f1_on_labelled_data(tmp_path):
    model, tokenizer = make_vivid_model("flat", "tree", "bert", statistics=False)
    texts = make_texts(40)
    labels = make_label_sets(make_hierarchy("tree"), 40)
    labels = [labels[1][a:b].tolist() for a, b in zip(labels[0], labels[0][1:])] if isinstance(labels, tuple) else labels
    data = Dataset.from_dict({"text": texts, "labels": labels})
    report = export_onnx(model, tokenizer, tmp_path / "exported", int8=True, dataset=data, split="validation")
    from hf_htc.evaluation.predictions import evaluate_model

    scores = evaluate_model(model, tokenizer, data).scores
    for key in ("micro_f1", "macro_f1"):
        assert report["scores"][key] == pytest.approx(scores[key])
        lost = report["scores"][key] - report["int8"]["scores"][key]
        assert report["int8"]["loss_of_f1"][key] == pytest.approx(lost, abs=1e-6)
    assert (report["scores"]["split"], report["scores"]["num_documents"]) == ("validation", 40)
    assert scores["micro_f1"] > 0
    assert "on 40 documents of the validation split" in (tmp_path / "exported" / "README.md").read_text()


class TestNotKept:
    @pytest.mark.parametrize("change, said", [(2e-4, "0.0002"), (float("nan"), "nan")])
    def test_a_wrong_export(self, exported, tmp_path, monkeypatch, change, said):
        """The graph of a model whose bias is another by little."""
        model, tokenizer, folder, report = exported
        model = copy.deepcopy(model)
        bias = model.classifier.out_proj.bias if model.config.model_type == "htc_flat" else model.classifier.out_bias
        with torch.no_grad():
            # HiDEC's logits are the smallest of several decisions: all of them. With ZLPR and HBM, a logit is 2 (l - t).
            place = slice(None) if model.config.model_type == "htc_hidec" else 0
            bias[place] += change / 2 if getattr(model.config, "unit_loss", None) in ("zlpr", "hbm") else change

        def write(model, input_names, fixed_length, file):
            shutil.copyfile(folder / "model.onnx", file)
            return report["opset"]

        monkeypatch.setattr(export, "export_graph", write)
        with pytest.raises(FloatingPointError, match=f"was not kept: its logits differ from PyTorch's by up to {said}"):
            export_onnx(model, tokenizer, tmp_path / "exported")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("largest, kept", [(9.0, False), (30.0, True)])
    def test_large_logits_may_differ_by_their_last_digits(self, exported, tmp_path, monkeypatch, largest, kept):
        model, tokenizer, folder, report = exported

        def write(model, input_names, fixed_length, file):
            shutil.copyfile(folder / "model.onnx", file)
            return report["opset"]

        monkeypatch.setattr(export, "export_graph", write)
        found = {"shapes": [], "logits": 2e-4, "probabilities": 0.0, "largest": largest}
        monkeypatch.setattr(export, "compare", lambda *models: found)
        if kept:
            export_onnx(model, tokenizer, tmp_path / "exported")
        else:
            with pytest.raises(FloatingPointError, match="by up to 0.0002, where 0.0001 is allowed"):
                export_onnx(model, tokenizer, tmp_path / "exported")
        assert (tmp_path / "exported").exists() == kept

    def test_a_model_that_cannot_be_exported(self, tmp_path, monkeypatch):
        model, tokenizer = make_vivid_model("flat", "tree", "bert")
        # A program that depends on the values of its input is none of a graph.
        forward = type(model.classifier).forward

        def stubborn(self, text):
            return forward(self, text) if float(text.sum()) > 0 else forward(self, -text)

        monkeypatch.setattr(type(model.classifier), "forward", stubborn)
        with pytest.raises(ValueError, match="cannot export a htc_flat model on a bert encoder to ONNX: "):
            export_onnx(model, tokenizer, tmp_path / "exported")
        assert list(tmp_path.iterdir()) == []

    def test_bad_arguments(self, tmp_path, monkeypatch):
        model, tokenizer = make_vivid_model("flat", "tree", "bert")
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "file").write_text("mine")
        with pytest.raises(FileExistsError, match="exists and is not empty"):
            export_onnx(model, tokenizer, tmp_path / "full")
        assert (tmp_path / "full" / "file").read_text() == "mine"
        for length in (0, True, 2.5):
            with pytest.raises(ValueError, match="`max_length` is"):
                export_onnx(model, tokenizer, tmp_path / "out", max_length=length)
        with pytest.raises(ValueError, match="the checkpoint takes 24 tokens"):
            export_onnx(model, tokenizer, tmp_path / "out", max_length=25)
        with pytest.raises(ValueError, match="`model` is a Linear"):
            export_onnx(torch.nn.Linear(2, 2), tokenizer, tmp_path / "out")
        with pytest.raises(ValueError, match="merged if it is a PEFT model"):
            export_onnx(add_lora(model, rank=2), tokenizer, tmp_path / "out")
        with pytest.raises(FileNotFoundError, match="is no exported model"):
            OnnxClassifier(tmp_path / "full")
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        for call in (lambda: export_onnx(model, tokenizer, tmp_path / "out"), lambda: OnnxClassifier(tmp_path)):
            with pytest.raises(ImportError, match=r"'onnxruntime' is missing.*pip install 'hf_htc\[export\]'"):
                call()
        assert [file.name for file in tmp_path.iterdir()] == ["full"]
