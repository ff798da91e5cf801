"""Loading to predict: one clear error, of one kind, for every way in which a folder can be no checkpoint."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import make_encoder_config, make_model, make_texts, make_tokenizer, make_tree
from transformers import AutoModel

from hf_htc import FlatForHierarchicalTextClassification
from hf_htc.hub.loading import load_checkpoint, load_classifier
from hf_htc.models.errors import HTCError, HTCFileNotFoundError, HTCImportError, HTCOSError


TEXTS = make_texts(5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loading") / "whole"
    make_model("flat", make_tree()).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "checkpoint")


def test_a_whole_one(whole):
    model, tokenizer, name = load_checkpoint(str(whole))
    assert name == "whole" and model.predict(TEXTS, tokenizer)
    assert load_classifier(str(whole), coherence="decoder")[0].config.coherence == "decoder"
    for load in (load_checkpoint, load_classifier):
        with pytest.raises(HTCError, match="`coherence` is 'much'; allowed are 'decoder', 'none'"):
            load(str(whole), "much")


def test_device_and_precision(whole, tmp_path):
    model, _, _ = load_checkpoint(str(whole), device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16} and model.device.type == "cpu"
    assert load_checkpoint(str(whole))[0].dtype == torch.float32
    assert load_classifier(str(whole), device="meta")[0].device.type == "meta"
    for device in ("gpu", "cuda:99"):
        with pytest.raises(HTCError, match=f"The model cannot go to the device '{device}': "):
            load_checkpoint(str(whole), device=device)
    (tmp_path / "export.json").write_text("{}")
    with pytest.raises(HTCError, match="`dtype` is 'float16', but .* is an ONNX export.* Leave `dtype` out"):
        load_classifier(str(tmp_path), dtype="float16")


DAMAGES = {
    "nothing": lambda text: "",
    "a part": lambda text: text[: len(text) // 2],
    "no JSON": lambda text: "{" + text,
    "deep": lambda text: "[" * 10_000 + "]" * 10_000,
    "list": lambda text: "[1, 2]",
    "number": lambda text: "3",
    "null": lambda text: "null",
    "empty object": lambda text: "{}",
    "bytes": lambda text: "\udcff\udcfe",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_damaged_files(folder, file, damage):
    path = folder / file
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    path.write_text(DAMAGES[damage](text), encoding="utf-8", errors="surrogateescape")
    try:
        model, tokenizer, _ = load_checkpoint(str(folder))
    except HTCOSError as error:
        assert str(path if file == "config.json" else folder) in str(error) or (file, damage) == ("config.json", "empty object")
        assert "\n" not in str(error).split("The reason: ")[0]
        return
    # transformers needs nothing of this file to load the tokenizer that it is
    assert (file, damage) == ("tokenizer_config.json", "empty object")
    assert len(tokenizer) == len(make_tokenizer())


def test_no_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(
        HTCFileNotFoundError, match=f"There is no tokenizer in the checkpoint '{folder}'. Save it beside the model"
    ):
        load_checkpoint(str(folder))


def test_a_tokenizer_of_another_model(folder):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"new{i}" for i in range(30)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(HTCOSError, match=r"has 81 tokens, the model has vectors for 54: it is another model's"):
        load_checkpoint(str(folder))


def test_what_is_missing_or_not_finite(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file({k: v for k, v in weights.items() if not k.startswith("classifier.")}, path, metadata={"format": "pt"})
    with pytest.raises(HTCOSError, match="is not whole: it has no 'classifier"):
        load_checkpoint(str(folder))
    weights["classifier.out_proj.bias"][0] = torch.nan
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(HTCOSError, match="NaN or infinite"):
        load_checkpoint(str(folder))
    path.unlink()
    with pytest.raises(HTCOSError, match=f"(?s){folder}.*model.safetensors"):
        load_checkpoint(str(folder))


def test_no_checkpoints(folder, tmp_path):
    for name in ("no/such-model", "/no/such/folder", "a/b/c/d", str(tmp_path)):
        with pytest.raises(HTCOSError, match=f"'{name}'"):
            load_checkpoint(name)
    with pytest.raises(HTCError, match="is a file, not a checkpoint folder"):
        load_checkpoint(str(folder / "config.json"))


def test_a_package_that_a_tokenizer_needs(folder, monkeypatch):
    def fail(*args, **kwargs):
        raise ImportError("You need sentencepiece.")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", fail)
    with pytest.raises(HTCImportError, match=f"tokenizer in the checkpoint '{folder}' cannot be loaded: You need sentencepiece."):
        load_checkpoint(str(folder))


# ---------------------------------------------------------------------------------------------- text encoders


@pytest.mark.parametrize("method", ["flat", "hpt"])
def test_text_encoders_are_whole_too(method, tmp_path, caplog):
    model_class = type(make_model(method, make_tree()))
    AutoModel.from_config(make_encoder_config()).save_pretrained(tmp_path)
    build = lambda: model_class.from_text_encoder(str(tmp_path), hierarchy=make_tree())  # noqa: E731
    assert build().config.num_labels == 13
    path = tmp_path / "model.safetensors"
    content, weights = path.read_bytes(), load_file(path)
    name = "encoder.layer.1.output.dense.weight"
    save_file({k: v for k, v in weights.items() if k != name}, path, metadata={"format": "pt"})
    with pytest.raises(HTCOSError, match=f"text encoder '{tmp_path}' is not whole: it has no '.*{name}'"):
        build()
    weights[name][0, 0] = torch.inf
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(HTCOSError, match=f"text encoder '{tmp_path}' has weights that are NaN or infinite: '.*{name}'"):
        build()
    for damaged in (b"", content[:100], content[:-9]):
        path.write_bytes(damaged)
        with pytest.raises(HTCOSError, match=f"no text encoder '{tmp_path}' that AutoModel can load"):
            build()
    path.write_bytes(content)
    config = json.loads((tmp_path / "config.json").read_text())
    for text in ("{", "[]", "[" * 10_000, json.dumps({**config, "hidden_size": 12}), json.dumps({**config, "model_type": "x"})):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(HTCOSError, match=str(tmp_path)):
            build()
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "1_Pooling").mkdir()
    for text in ("{", "[]", '{"pooling_mode_mean_tokens": true, "pooling_mode_mean_tokens": false}'):
        (tmp_path / "1_Pooling" / "config.json").write_text(text)
        with pytest.raises(HTCOSError, match="1_Pooling/config.json"):
            build()


# ---------------------------------------------------------------------------------------------- exports


@pytest.fixture(scope="module")
def export(whole, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from hf_htc.hub import export_onnx

    folder = tmp_path_factory.mktemp("export") / "exported"
    model = FlatForHierarchicalTextClassification.from_pretrained(whole)
    torch.nn.init.normal_(model.classifier.out_proj.weight)
    model.config.thresholds = [0.3 + 0.03 * i for i in range(13)]
    export_onnx(model, make_tokenizer(), folder)
    return model, folder


def test_an_export_predicts_as_its_checkpoint(export):
    model, folder = export
    classifier, tokenizer, name = load_classifier(str(folder))
    assert name == "exported"
    for options in (
        {},
        {"threshold": 0.2},
        {"threshold": 0, "top_k": 4},
        {"top_k": 2},
        {"decoder": "single_path", "closure": "none", "batch_size": 2},
        {"decoder": "expected_f", "show_progress_bar": False},
    ):
        expected = model.predict(TEXTS, tokenizer, **options)
        for found in (classifier.predict(TEXTS, **options), classifier.predict(TEXTS, tokenizer, **options)):
            assert [row["labels"] for row in found] == [row["labels"] for row in expected]
            assert [row["paths"] for row in found] == [row["paths"] for row in expected]
    assert classifier.predict(TEXTS[0])["labels"] == classifier.predict(TEXTS)[0]["labels"]
    classifier.config.conformal = model.config.conformal = {"kind": "back_off", "quantile": 0.1}
    for found in (classifier.predict_sets(TEXTS), classifier.predict_sets(TEXTS, tokenizer, batch_size=2)):
        assert [row["labels"] for row in found] == [row["labels"] for row in model.predict_sets(TEXTS, tokenizer)]
    model.config.conformal = None


def test_an_export_predicts_files(export, tmp_path):
    from hf_htc.evaluation.predictions import predict_file

    model, folder = export
    classifier, tokenizer, _ = load_classifier(str(folder))
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    records = []
    for place, one in enumerate((classifier, model)):
        output = tmp_path / f"{place}.jsonl"
        assert predict_file(one, tokenizer, tmp_path / "in.jsonl", output, decoder="top_down") == (5, 0)
        records.append([json.loads(line) for line in output.read_text().splitlines()])
    for one, other in zip(*records, strict=True):
        assert one["labels"] == other["labels"] and one["scores"] == pytest.approx(other["scores"], abs=1e-5)


def test_what_an_export_cannot_do(export):
    _, folder = export
    assert load_classifier(str(folder), coherence="none")[0].config.coherence == "none"
    with pytest.raises(HTCError, match="`coherence` is 'decoder', but the export .* has 'none' in its graph"):
        load_classifier(str(folder), coherence="decoder")
    with pytest.raises(HTCError, match="is an ONNX export, which only predicts"):
        load_checkpoint(str(folder))
    classifier = load_classifier(str(folder))[0]
    with pytest.raises(HTCError, match=r"`attention_mask` has the shape \(2, 4\)"):
        classifier(input_ids=torch.ones(2, 5, dtype=torch.long), attention_mask=torch.ones(2, 4))


@pytest.mark.parametrize("damage", ["nothing", "a part", "deep", "list", "empty object"])
@pytest.mark.parametrize("file", ["export.json", "config.json", "tokenizer.json", "model.onnx"])
def test_damaged_exports(export, tmp_path, file, damage):
    folder = shutil.copytree(export[1], tmp_path / "exported")
    path = folder / file
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    path.write_text(DAMAGES[damage](text), encoding="utf-8", errors="surrogateescape")
    with pytest.raises(HTCOSError, match=str(folder)):
        load_classifier(str(folder))
