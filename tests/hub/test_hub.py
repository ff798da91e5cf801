"""Saved folders: what is in them, that they load, that their card is true, and that they do not tell where they were made."""

import contextlib
import getpass
import json
import logging
import re
import socket
import struct

import huggingface_hub
import peft
import pytest
import torch
import yaml
from tiny_models import make_batch, make_encoder_config, make_label_sets, make_model, make_tokenizer, make_tree
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

import hf_htc
from hf_htc import LabelHierarchy
from hf_htc.hub import model_card, push, save
from hf_htc.training.lora import add_lora


METHODS = tuple(hf_htc.METHODS)
RUN = {
    "command": "hf-htc train --method hiagm",
    "dataset": {"name": "me/some-data", "documents": {"train": 40, "test": 20}},
    "text_encoder": "me/tiny-bert",
    "settings": {"learning_rate": 1e-4, "optim": "a|b"},
    "versions": {"torch": "2.9", "hf_htc": "0.1.0"},
    "scores": {
        "validation": {"micro_f1": 0.1, "closure": "up"},
        "test": {
            "micro_f1": 0.61234, "macro_f1": 0.5, "samples_f1": 0.55, "level_1_micro_f1": 0.7, "level_2_micro_f1": 0.4,
            "closure": "up", "num_documents": 1234,
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    """A text encoder with its tokenizer, as a user has one on disk."""
    folder = tmp_path_factory.mktemp("home") / "tiny-encoder"
    AutoModel.from_config(make_encoder_config()).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=METHODS)
def saved(request, tmp_path_factory, encoder_folder):
    """(model, folder): trained from a local encoder, saved with a run and a name of its own."""
    tree = make_tree()
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    narrow = {"hitin": {"hidden_dim": 8}, **dict.fromkeys(("flat", "hpt", "ptmt", "hidec"), {})}
    options = narrow.get(request.param, {"node_dim": 6})
    model = hf_htc.model_class(request.param).from_text_encoder(
        encoder_folder, hierarchy=tree, tokenizer=tokenizer, train_labels=make_label_sets(tree, 40), **options
    )
    folder = tmp_path_factory.mktemp("out") / f"{request.param}-tiny"
    assert save(model, tokenizer, folder, run=RUN, example_text='The "ball"\nof a match') == folder
    return model.eval(), folder


def front_matter(card):
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1])


@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForSequenceClassification])
def test_loads_with_equal_logits(saved, auto_class):
    model, folder = saved
    loaded = auto_class.from_pretrained(folder)
    assert type(loaded) is type(model)
    assert not loaded.training
    batch = make_batch()
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert loaded.config.get_hierarchy() == model.config.get_hierarchy()
    assert loaded.config.label_counts == model.config.label_counts
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = ["the ball of a match", "a vote"]
    assert loaded.predict(texts, tokenizer) == model.predict(texts, make_tokenizer())


def test_files(saved):
    model, folder = saved
    names = {file.name for file in folder.iterdir()}
    assert {"README.md", "run.json", "taxonomy.json", "config.json", "model.safetensors", "tokenizer.json"} <= names
    method = model.config.model_type.removeprefix("htc_")
    assert {f"modeling_{method}.py", f"configuration_{method}.py", "modeling_htc.py", "hierarchy.py", "label_sets.py"} <= names
    assert {name for name in names if name.startswith(".") or name.endswith((".tmp", ".bin"))} == {".eval_results"}
    assert json.loads((folder / "run.json").read_text()) == RUN
    assert LabelHierarchy.from_file(folder / "taxonomy.json") == make_tree()
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]  # nothing half-written beside it
    auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
    assert set(auto_map) == {"AutoConfig", "AutoModel", "AutoModelForSequenceClassification"}


def test_no_file_tells_where_it_was_made(saved, encoder_folder):
    _, folder = saved
    paths = [str(folder.parent), str(encoder_folder.parent), "tiny-encoder", "/tmp/", "/home/"]
    names = [name for name in (getpass.getuser(), socket.gethostname()) if len(name) > 3]
    texts = {}
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        content = file.read_bytes()
        if file.suffix == ".safetensors":
            content = content[8 : 8 + struct.unpack("<Q", content[:8])[0]]
            assert b"classifier." in content
        texts[file.name] = content.decode("utf-8")
    for file, text in texts.items():
        for path in paths:
            assert path not in text, file
        # The code is the same everywhere, and words such as "root" belong to it.
        for name in names if not file.endswith(".py") else []:
            assert not re.search(rf"\b{re.escape(name)}\b", text), f"{file} holds {name!r}"
    assert "is_local" not in texts["tokenizer_config.json"]
    assert "local_files_only" not in texts["tokenizer_config.json"]


class TestCard:
    def test_front_matter(self, saved):
        model, folder = saved
        data = front_matter((folder / "README.md").read_text())
        assert data["library_name"] == "transformers"
        assert data["pipeline_tag"] == "text-classification"
        assert {"hf_htc", "hierarchical-text-classification", model.config.model_type} <= set(data["tags"])
        assert data["base_model"] == "me/tiny-bert"
        (entry,) = data["model-index"]
        (result,) = entry["results"]
        assert result["dataset"]["name"] == "me/some-data"
        assert result["dataset"]["split"] == "test"
        metrics = {metric["name"]: metric["value"] for metric in result["metrics"]}
        assert metrics == {"micro-F1 (closure up)": 0.61234, "macro-F1 (closure up)": 0.5, "samples-F1 (closure up)": 0.55}

    def test_text(self, saved):
        model, folder = saved
        card = (folder / "README.md").read_text()
        body = card.split("\n---\n", 1)[1]
        assert "13 labels on 3 levels, trained on me/some-data." in body
        assert "On the test split of me/some-data, closure `up`, 1,234 documents." in body
        assert "| micro-F1 | 0.6123 |" in body
        assert "| micro-F1, level 2 | 0.4000 |" in body
        assert "| optim | a\\|b |" in body
        assert f"| pooling | {model.config.pooling} |" in body
        assert "├── football\n" in body
        assert "closed: every document carries all ancestors" in body
        assert "Versions: torch 2.9, hf_htc 0.1.0." in body
        assert [info.model_type for info in hf_htc.METHODS.values() if info.title in body] == [model.config.model_type]
        assert "@software{hf_htc" in body
        assert "{{" not in body.replace("{{The hf_htc authors}}", "")
        assert "None" not in body

    def test_snippet_runs(self, saved, capsys):
        model, folder = saved
        card = (folder / "README.md").read_text()
        (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        assert snippet.count(f'"{folder.name}"') == 2
        exec(snippet.replace(f'"{folder.name}"', repr(str(folder))), {})
        expected = model.predict('The "ball"\nof a match', make_tokenizer())
        assert capsys.readouterr().out.strip().splitlines()[-1] == str(expected)

    def test_snippet_names_the_hub_id(self, saved):
        model, _ = saved
        card = str(model_card(model, "me/a-model", run=RUN))
        assert card.count('from_pretrained("me/a-model")') == 2

    @pytest.mark.parametrize("method", METHODS)
    def test_without_a_run(self, dag, method):
        """No scores, no data set, a DAG with structure-only nodes and as-given labels."""
        card = str(model_card(make_model(method, dag, statistics=False), model_name="A model: 'mine'"))
        data = front_matter(card)
        assert "model-index" not in data
        assert "base_model" not in data
        assert "# A model: 'mine'\n" in card
        assert "## Scores" not in card
        assert "structure-only nodes, a directed acyclic graph" in card
        assert "as given: ancestors are not added" in card
        assert "None" not in card

    def test_one_label(self):
        card = str(model_card(make_model("flat", LabelHierarchy(["only: one"], [[]]), statistics=False)))
        assert "1 labels on 1 level." in card
        assert front_matter(card)["library_name"] == "transformers"


def test_saved_over_an_older_checkpoint(tmp_path, tree, tokenizer):
    older, newer = make_model("flat", tree, seed=0), make_model("flat", tree, seed=1)
    save(older, tokenizer, tmp_path / "model", run=RUN)
    save(newer, tokenizer, tmp_path / "model", model_name="The newer one")
    batch = make_batch()
    with torch.no_grad():
        logits = AutoModel.from_pretrained(tmp_path / "model")(**batch).logits
        assert torch.equal(logits, newer(**batch).logits)
        assert not torch.equal(logits, older(**batch).logits)
    assert "# The newer one" in (tmp_path / "model" / "README.md").read_text()


def test_eval_results(saved, tmp_path, tree, tokenizer, monkeypatch, caplog):
    _, folder = saved
    entries = yaml.safe_load((folder / ".eval_results" / "hf_htc.yaml").read_text())
    assert entries[0] == {
        "dataset": {"id": "me/some-data", "task_id": "test_micro_f1"},
        "value": 0.61234,
        "notes": "micro-F1 on the test split, closure up, 1,234 documents",
    }
    assert [entry["value"] for entry in entries] == [0.61234, 0.5, 0.55]
    # Written over by a checkpoint without scores, or with scores on data that is not on the Hub: no old entries stay.
    model = make_model("flat", tree)
    for run in (None, {**RUN, "dataset": {"name": "own files"}}, {**RUN, "scores": {}}):
        save(model, tokenizer, tmp_path / "model", run=RUN)
        assert (tmp_path / "model" / ".eval_results" / "hf_htc.yaml").exists()
        save(model, tokenizer, tmp_path / "model", run=run)
        assert not (tmp_path / "model" / ".eval_results" / "hf_htc.yaml").exists()
    # An older huggingface_hub.
    lazily = huggingface_hub.__getattr__

    def older(name):
        if name == "EvalResultEntry":
            raise AttributeError(name)
        return lazily(name)

    monkeypatch.setattr(huggingface_hub, "__getattr__", older)
    with capture_logs(caplog, "hf_htc.hub.eval_results"):
        save(model, tokenizer, tmp_path / "model", run=RUN)
    assert "pip install -U huggingface_hub" in caplog.text
    assert not (tmp_path / "model" / ".eval_results" / "hf_htc.yaml").exists()
    assert "micro-F1 (closure up)" in (tmp_path / "model" / "README.md").read_text()


@contextlib.contextmanager
def capture_logs(caplog, name):
    """transformers' loggers do not hand on what they log."""
    logger = logging.getLogger(name)
    logger.addHandler(caplog.handler)
    try:
        yield
    finally:
        logger.removeHandler(caplog.handler)


class TestAdapter:
    @pytest.fixture
    def wrapped(self, tree):
        wrapped = add_lora(make_model("hiagm", tree), rank=2)
        assert isinstance(wrapped, peft.PeftModel)
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if "lora_B" in name or "modules_to_save" in name:
                    parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
        return wrapped.eval()

    def test_saved_with_a_base_that_is_made(self, wrapped, tmp_path, tree, tokenizer):
        base, folder, batch = tmp_path / "base", tmp_path / "adapter", make_batch()
        with torch.no_grad():
            expected, plain = wrapped(**batch).logits, make_model("hiagm", tree)(**batch).logits
        before = wrapped.peft_config["default"].base_model_name_or_path
        assert save(wrapped, tokenizer, folder, run=RUN, base_model=base) == folder
        assert wrapped.peft_config["default"].base_model_name_or_path == before
        assert {file.name for file in folder.iterdir()} == {
            "adapter_config.json", "adapter_model.safetensors", "README.md", "run.json", "taxonomy.json", "tokenizer.json",
            "tokenizer_config.json", ".eval_results",
        }  # fmt: skip
        assert {file.name for file in tmp_path.iterdir()} == {"base", "adapter"}
        loaded = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        again = AutoModelForSequenceClassification.from_pretrained(base).eval()
        with torch.no_grad():
            torch.testing.assert_close(loaded(**batch).logits, expected, atol=1e-4, rtol=1e-5)
            assert torch.equal(again(**batch).logits, plain)
            merged = peft.PeftModel.from_pretrained(again, folder).merge_and_unload().eval()
            torch.testing.assert_close(merged(**batch).logits, expected, atol=1e-4, rtol=1e-5)
            assert torch.equal(wrapped(**batch).logits, expected)  # untouched
        save(wrapped, tokenizer, folder, base_model=base)  # now beside a base that is there
        with pytest.raises(TypeError, match="carries an adapter that transformers attached"):
            save(loaded, tokenizer, tmp_path / "again")

    def test_refused_without_its_base(self, wrapped, tmp_path, tree, tokenizer):
        with pytest.raises(ValueError, match=r"needs a saved base checkpoint.*Pass `base_model=`.*merge_and_unload"):
            save(wrapped, tokenizer, tmp_path / "adapter")
        other = make_model("hiagm", tree, seed=1)
        save(other, tokenizer, tmp_path / "other")
        with pytest.raises(ValueError, match=r"has other weights than the model under the adapter, first in 'model\."):
            save(wrapped, tokenizer, tmp_path / "adapter", base_model=tmp_path / "other")
        tuned = make_model("hiagm", tree)
        tuned.config.thresholds = 0.3
        save(tuned, tokenizer, tmp_path / "tuned")
        with pytest.raises(ValueError, match="has another `thresholds` than the model under the adapter: 0.3, here None"):
            save(wrapped, tokenizer, tmp_path / "adapter", base_model=tmp_path / "tuned")
        with pytest.raises(OSError, match=r"no base checkpoint 'not/here' .* written as './not/here'"):
            save(wrapped, tokenizer, tmp_path / "adapter", base_model="not/here")
        with pytest.raises(ValueError, match="needs a folder of its own"):
            save(wrapped, tokenizer, tmp_path / "other", base_model=tmp_path / "other")
        assert (tmp_path / "other" / "model.safetensors").exists()
        with pytest.raises(ValueError, match="the model has no adapter"):
            save(other, tokenizer, tmp_path / "adapter", base_model=tmp_path / "other")
        assert not (tmp_path / "adapter").exists()

    def test_merged(self, wrapped, tmp_path, tokenizer):
        merged, batch = wrapped.merge_and_unload().eval(), make_batch()
        save(merged, tokenizer, tmp_path / "model")
        with torch.no_grad():
            assert torch.equal(AutoModel.from_pretrained(tmp_path / "model")(**batch).logits, merged(**batch).logits)


def test_push(tree, tokenizer, monkeypatch):
    """The whole folder is uploaded, with the repository's id in the card."""
    calls = {}

    class Api:
        def __init__(self, token=None):
            calls["token"] = token

        def create_repo(self, repo_id, private=None, exist_ok=False):
            calls["create"] = (repo_id, private, exist_ok)
            return huggingface_hub.RepoUrl(f"https://huggingface.co/me/{repo_id}", endpoint="https://huggingface.co")

        def upload_folder(self, repo_id, folder_path, commit_message):
            loaded = AutoModelForSequenceClassification.from_pretrained(folder_path)
            with open(f"{folder_path}/README.md") as stream:
                calls["upload"] = (repo_id, type(loaded).__name__, commit_message, stream.read())
            return "a commit"

    monkeypatch.setattr("hf_htc.hub.saving.HfApi", Api)
    assert (
        push(make_model("flat", tree), tokenizer, "tiny", run=RUN, private=True, token="secret", model_name="A name")
        == "a commit"
    )
    assert calls["token"] == "secret"
    assert calls["create"] == ("tiny", True, True)
    repo_id, model_name, message, card = calls["upload"]
    assert (repo_id, model_name, message) == ("me/tiny", "FlatForHierarchicalTextClassification", "Upload hf_htc model")
    assert card.count('from_pretrained("me/tiny")') == 2
    assert "# A name" in card
    assert "secret" not in card
