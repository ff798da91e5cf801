"""`save_pretrained`: which files stay, which go, and what is pushed."""

import json

import pytest
import torch
from tiny_models import make_dag, make_label_sets, make_model, make_tokenizer, make_tree
from transformers import AutoModelForSequenceClassification

from hf_htc.hub import save
from hf_htc.models import saving
from hf_htc.models.modeling_htc import HTCPreTrainedModel
from hf_htc.training.lora import add_lora


def weights(folder):
    return sorted(path.name for path in folder.iterdir() if "safetensors" in path.name)


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name].float(), other[name].float()) for name in one)


def test_variants_and_shards(tmp_path):
    tree = make_tree()
    plain, half = make_model("flat", tree), make_model("flat", tree, seed=1)
    plain.save_pretrained(tmp_path, max_shard_size="4KB")
    shards = weights(tmp_path)
    assert len(shards) > 3 and "model.safetensors.index.json" in shards
    half.save_pretrained(tmp_path, variant="fp16", max_shard_size="4KB")
    assert set(shards) < set(weights(tmp_path)) and "model.safetensors.index.fp16.json" in weights(tmp_path)
    half.save_pretrained(tmp_path, variant="fp16")
    assert weights(tmp_path) == sorted([*shards, "model.fp16.safetensors"])
    assert same(AutoModelForSequenceClassification.from_pretrained(tmp_path), plain)
    assert same(AutoModelForSequenceClassification.from_pretrained(tmp_path, variant="fp16"), half)
    plain.save_pretrained(tmp_path)
    assert weights(tmp_path) == ["model.fp16.safetensors", "model.safetensors"]
    plain.save_pretrained(tmp_path, max_shard_size="4KB")  # a single file would be loaded before them
    assert weights(tmp_path) == sorted([*shards, "model.fp16.safetensors"])
    assert same(AutoModelForSequenceClassification.from_pretrained(tmp_path), plain)


def test_other_files_stay_and_the_callers_weights_too(tmp_path):
    model = make_model("flat", make_tree())
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "model.safetensors").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    given = model.state_dict()
    number = len(given)
    model.save_pretrained(tmp_path, state_dict=given)
    assert len(given) == number  # transformers takes out what it has written
    assert (tmp_path / "checkpoint-1" / "model.safetensors").read_text() == (tmp_path / "notes.txt").read_text() == "mine"
    assert same(AutoModelForSequenceClassification.from_pretrained(tmp_path), model)


def test_a_checkpoint_in_the_folder_of_an_adapter_and_back(tmp_path):
    """An adapter's config is read first: it must not stay beside a checkpoint, nor a checkpoint beside an adapter."""
    adapter, model, target = add_lora(make_model("flat", make_tree()), rank=2), make_model("hiagm", make_dag()), tmp_path / "out"
    for write in (model.save_pretrained, lambda folder: save(model, make_tokenizer(), folder)):
        save(adapter, make_tokenizer(), target, base_model=str(tmp_path / "base"))
        assert not (target / "config.json").exists() and weights(target) == ["adapter_model.safetensors"]
        write(target)
        assert weights(target) == ["model.safetensors"]
        assert same(AutoModelForSequenceClassification.from_pretrained(target), model)


def test_what_is_pushed_is_what_was_saved(tmp_path, monkeypatch):
    calls = {}

    class Api:
        def __init__(self, token=None):
            calls["token"] = token

        def create_repo(self, repo_id, private, exist_ok):
            calls["private"] = private
            return type("Url", (), {"repo_id": f"me/{repo_id}"})

        def create_branch(self, repo_id, branch, exist_ok):
            calls["branch"] = branch

        def list_repo_files(self, repo_id, revision):
            return ["model.safetensors", "model.fp16.safetensors", "model-00001-of-00002.safetensors", "README.md"]

        def create_commit(self, repo_id, operations, **options):
            calls.update(options, repo_id=repo_id)
            added = [operation for operation in operations if hasattr(operation, "path_or_fileobj")]
            calls["files"] = {operation.path_in_repo: operation.path_or_fileobj for operation in added}
            calls["deleted"] = {operation.path_in_repo for operation in operations if operation not in added}

    monkeypatch.setattr(saving, "HfApi", Api)
    monkeypatch.setattr(saving, "create_and_tag_model_card", lambda *_, **__: "card")
    model, target = make_model("flat", make_tree()), tmp_path / "flat-tiny"
    (target).mkdir()
    (target / "notes.txt").write_text("mine")
    doubled = {name: 2 * tensor if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()}
    options = {"max_shard_size": "4KB", "variant": "fp16", "state_dict": doubled}
    model.save_pretrained(
        target,
        push_to_hub=True,
        private=True,
        token="hf_dummy",
        revision="next",
        commit_message="Double",
        create_pr=True,
        **options,
    )
    saved = {path.name: str(path) for path in target.iterdir() if path.name != "notes.txt"}
    assert calls.pop("files") == {**saved, "README.md": b"card"}
    assert "model.safetensors.index.fp16.json" in saved and calls.pop("deleted") == {"model.fp16.safetensors"}
    assert calls == {
        "token": "hf_dummy", "private": True, "branch": "next", "revision": "next", "repo_id": "me/flat-tiny",
        "commit_message": "Double", "commit_description": None, "create_pr": True,
    }  # fmt: skip
    loaded = AutoModelForSequenceClassification.from_pretrained(target, variant="fp16")
    assert all(torch.equal(doubled[name], tensor) for name, tensor in loaded.state_dict().items())


def test_the_lead_to_new_weights_is_never_written_down(tmp_path, caplog):
    model = make_model("flat", make_tree())
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "transformers_weights": "model.safetensors"}))
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert isinstance(loaded, HTCPreTrainedModel) and "does not know" not in caplog.text
    loaded.set_label_statistics(make_label_sets(make_tree(), 10))
    loaded.save_pretrained(tmp_path)
    assert "transformers_weights" not in json.loads((tmp_path / "config.json").read_text())


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file; `save_directory` must be a folder"):
        make_model("flat", make_tree()).save_pretrained(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
