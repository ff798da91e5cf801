"""Pushing to a Hub and loading from it, with the package and without, in processes of their own: one that pushes everything, one
that is refused, and two that load."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from local_hub import LocalHub
from tiny_models import make_batch, make_label_sets, make_model, make_texts, make_tree

from hf_htc import load_htc_dataset
from hf_htc.hub import save
from hf_htc.training.lora import add_lora


HERE = Path(__file__).parent.parent
# Repository: method or variant.
METHODS = {"flat": "flat", "hiagm": "hiagm", "hiagm-textrcnn": "hiagm, TextRCNN", "himatch": "himatch, dot product"} | {
    method: method for method in ("hitin", "himtl", "hisr", "hpt", "ptmt", "hidec")
}
RUN = {
    "dataset": {"name": "me/news"},
    "scores": {"test": {"micro_f1": 0.75, "macro_f1": 0.5, "samples_f1": 0.6, "closure": "up", "num_documents": 12}},
}

# Arguments: methods. Works in a folder of checkpoints and data, whose paths it names relatively.
PUSH = """
import json, sys
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer
import hf_htc
from hf_htc.cli.main import main
from hf_htc.training import HTCTrainingArguments, build_trainer
from hf_htc.training.lora import add_lora
from peft import PeftModel

for method in sys.argv[1:]:
    tokenizer = AutoTokenizer.from_pretrained(method)
    model = AutoModelForSequenceClassification.from_pretrained(method)
    hf_htc.push(model, tokenizer, f"me/{method}", run=json.load(open("run.json")))
main(["push", "flat", "me/from-folder"])

# An adapter: refused without a base, then pushed with one that is made; once more as a folder beside the same base.
wrapped = PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained("hiagm"), "adapter")
errors = []
for base in (None, "./adapter-base"):
    try:
        hf_htc.push(wrapped, tokenizer, "me/adapter", base_model=base)
    except ValueError as error:
        errors.append(str(error))
hf_htc.push(wrapped, tokenizer, "me/adapter", base_model="me/adapter-base")
hf_htc.save(wrapped, tokenizer, "adapter-folder", base_model="me/adapter-base")
main(["push", "adapter-folder", "me/adapter-again"])
other = add_lora(AutoModelForSequenceClassification.from_pretrained("flat"), rank=2)
try:
    hf_htc.push(other, tokenizer, "me/wrong-adapter", base_model="me/adapter-base")
except ValueError as error:
    errors.append(str(error))
from_hub = add_lora(AutoModelForSequenceClassification.from_pretrained("me/adapter-base"), rank=2)
hf_htc.push(from_hub, tokenizer, "me/untrained-adapter")

main(["push", "hierarchical_f1", "me/hierarchical_f1", "--type", "metric", "--private"])
hf_htc.push_dataset(hf_htc.load_htc_dataset("data"), "me/news")
main(["push", "data", "me/news-folder"])
main(["data", "export", "--dataset", "data", "--output_dir", "exported", "--license", "mit", "--push", "me/exported"])

dataset, _ = hf_htc.load_htc_dataset("data")
model = AutoModelForSequenceClassification.from_pretrained("flat")
arguments = HTCTrainingArguments(
    "me-trained", push_to_hub=True, hub_model_id="me/trained", num_train_epochs=1, report_to="none", disable_tqdm=True,
    save_strategy="no", use_cpu=True, eval_strategy="no", load_best_model_at_end=False,
)
trainer = build_trainer(model, arguments, dataset["train"], None, tokenizer)
trainer.train()
trainer.push_to_hub()
with torch.no_grad():
    logits = model.eval()(**{key: torch.tensor(value) for key, value in json.load(open("batch.json")).items()}).logits
json.dump({"errors": errors, "trained": logits.tolist()}, open("pushed.json", "w"))
"""

# Every refusal is one sentence, and leaves nothing behind.
REFUSED = """
import os, sys, json, tempfile
from transformers import AutoModelForSequenceClassification, AutoTokenizer
import hf_htc
from hf_htc.cli.main import main
model = AutoModelForSequenceClassification.from_pretrained("flat")
tokenizer = AutoTokenizer.from_pretrained("flat")
loaded = hf_htc.load_htc_dataset("data")
temporary = tempfile.mkdtemp()
tempfile.tempdir = temporary
found = {}
for name, call in {
    "bad token": lambda: hf_htc.push(model, tokenizer, "me/x", token="hf_bad"),
    "not mine": lambda: hf_htc.push(model, tokenizer, "somebody/x"),
    "not mine, data": lambda: hf_htc.push_dataset(loaded, "somebody/x"),
    "not mine, metric": lambda: hf_htc.push_metric("somebody/hierarchical_f1"),
    "type in the name": lambda: hf_htc.push(model, tokenizer, "datasets/me/x"),
    "other name": lambda: hf_htc.push_metric("me/my-metric"),
    "breaks off": lambda: hf_htc.push(model, tokenizer, "me/unlucky"),
    "another kind of Space": lambda: hf_htc.push_metric("me/hierarchical_f1"),
    "wrong type": lambda: main(["push", "flat", "me/x", "--type", "dataset"]),
    "no data set": lambda: hf_htc.push_dataset("empty", "me/x"),
    "nothing": lambda: main(["push", "empty", "me/x"]),
    "no connection": lambda: hf_htc.push(model, tokenizer, "me/x"),
}.items():
    if name == "no connection":
        from huggingface_hub import constants
        constants.ENDPOINT = "http://127.0.0.1:9"
    try:
        call()
    except (OSError, ValueError) as error:
        kind = next(base for base in type(error).__mro__ if base.__module__ == "builtins")
        found[name] = [kind.__name__, str(error)]
    except SystemExit as error:
        found[name] = ["SystemExit", str(error.code)]
    assert os.listdir(temporary) == [], (name, os.listdir(temporary))
print(json.dumps(found))
"""

LOAD = """
import json, sys
trust = {}
if sys.argv[1] == "without":
    sys.modules["hf_htc"], trust = None, {"trust_remote_code": True}
else:
    import hf_htc
import evaluate, torch
from datasets import load_dataset
from peft import PeftModel
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
batch, result = {key: torch.tensor(value) for key, value in json.load(open("batch.json")).items()}, {}
def logits(model):
    with torch.no_grad():
        return model.eval()(**batch).logits.tolist()
for method in sys.argv[2:]:
    for auto_class in (AutoModel, AutoModelForSequenceClassification):
        model = auto_class.from_pretrained(f"me/{method}", **trust)
        result[method + auto_class.__name__] = logits(model)
    tokenizer = AutoTokenizer.from_pretrained(f"me/{method}", **trust)
    result[method + "labels"] = model.predict("the match", tokenizer, top_k=2)["labels"]
for name in ("trained", "from-folder"):
    result[name] = logits(AutoModelForSequenceClassification.from_pretrained(f"me/{name}", **trust))
for name in ("adapter", "adapter-again"):
    result[name] = logits(AutoModelForSequenceClassification.from_pretrained(f"me/{name}", **trust))
base = AutoModelForSequenceClassification.from_pretrained("me/adapter-base", **trust)
result["base"] = logits(base)
merged = PeftModel.from_pretrained(base, "me/adapter").merge_and_unload()
result["merged"] = logits(merged)
result["adapter labels"] = merged.predict("the match", AutoTokenizer.from_pretrained("me/adapter"), top_k=2)["labels"]
metric = evaluate.load("me/hierarchical_f1")
parents = {"Arts": [], "Music": ["Arts"], "Film": ["Arts"], "Sport": []}
result["metric"] = metric.compute(predictions=[["Music"], ["Sport"]], references=[["Film"], ["Sport"]], parents=parents)
for name in ("news", "news-folder", "exported"):
    result[name] = {split: rows.to_dict() for split, rows in load_dataset(f"me/{name}").items()}
    if not trust:
        dataset, hierarchy = hf_htc.load_htc_dataset(f"me/{name}")
        result[name + " loaded"] = hf_htc.data.HTCDataset(dataset, hierarchy).fingerprint
print(json.dumps(result))
"""


def run(hub, work, code, home, *arguments, expected=0):
    # One thread as in this process: the last digit of a sum depends on how many there are.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **hub.environment(work.parent / home), "PYTHONPATH": str(HERE)}
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=400, cwd=work
    )
    assert finished.returncode == expected, finished.stderr[-4000:]
    return finished


@pytest.fixture(scope="module")
def hub():
    hub = LocalHub()
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder as a user has it: checkpoints, an adapter, a data set."""
    from tiny_models import make_tokenizer

    folder, tokenizer, tree = tmp_path_factory.mktemp("work") / "here", make_tokenizer(), make_tree()
    folder.mkdir()
    for method in METHODS:
        save(make_model(METHODS[method], tree), tokenizer, folder / method, run=RUN if method == "flat" else None)
        (folder / method / "training_args.bin").write_bytes(b"not for others")
        (folder / method / "checkpoint-7").mkdir()
        (folder / method / "checkpoint-7" / "optimizer.pt").write_bytes(b"not for others")
    wrapped = add_lora(make_model("hiagm", tree), rank=2)
    with torch.no_grad():  # as after training: nothing is zero
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    wrapped.save_pretrained(folder / "adapter")
    files = {}
    for split, size in (("train", 12), ("validation", 6), ("test", 5)):
        names = tree.decode(make_label_sets(tree, size, seed=size))
        files[f"{split}_file"] = folder / f"{split}.jsonl"
        rows = [{"text": text, "labels": row} for text, row in zip(make_texts(size, seed=size), names)]
        files[f"{split}_file"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    load_htc_dataset(**files, taxonomy=tree).save(folder / "data")
    (folder / "data" / ".secret").write_text("not for others")
    (folder / "run.json").write_text(json.dumps(RUN))
    (folder / "batch.json").write_text(json.dumps({key: value.tolist() for key, value in make_batch().items()}))
    (folder / "empty").mkdir()
    with torch.no_grad():
        merged = wrapped.merge_and_unload().eval()
    return folder, merged


@pytest.fixture(scope="module")
def pushed(hub, work):
    run(hub, work[0], PUSH, "pusher", *METHODS)
    return json.loads((work[0] / "pushed.json").read_text())


def test_what_was_pushed(hub, work, pushed):
    for method in METHODS:
        files = hub.files(f"me/{method}")
        assert {
            "README.md",
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            f"modeling_{method.split('-')[0]}.py",
            "hierarchy.py",
        } <= set(files)
        assert f'from_pretrained("me/{method}")' in files["README.md"].decode()  # the card's snippet loads this repository
        front = yaml.safe_load(files["README.md"].decode().split("---")[1])
        (result,) = front["model-index"][0]["results"]
        assert [metric["value"] for metric in result["metrics"]] == [0.75, 0.5, 0.6]
        entries = yaml.safe_load(files[".eval_results/hf_htc.yaml"])
        assert [(entry["dataset"], entry["value"]) for entry in entries] == [
            ({"id": "me/news", "task_id": f"test_{key}"}, value)
            for key, value in (("micro_f1", 0.75), ("macro_f1", 0.5), ("samples_f1", 0.6))
        ]
        assert entries[0]["notes"] == "micro-F1 on the test split, closure up, 12 documents"
    adapter = hub.files("me/adapter")
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "taxonomy.json", "README.md"} <= set(adapter)
    assert not {"config.json", "model.safetensors"} & set(adapter)
    assert json.loads(adapter["adapter_config.json"])["base_model_name_or_path"] == "me/adapter-base"
    assert len(adapter["adapter_model.safetensors"]) < len(hub.files("me/adapter-base")["model.safetensors"])
    card = adapter["README.md"].decode()
    front = yaml.safe_load(card.split("---")[1])
    assert (front["library_name"], front["base_model"], front["base_model_relation"]) == ("peft", "me/adapter-base", "adapter")
    assert 'PeftModel.from_pretrained(base, "me/adapter")' in card
    again = hub.files("me/adapter-again")["README.md"].decode()
    assert again.count('"me/adapter-again")') == 3 and "adapter-folder" not in again.split("---")[2]
    assert "classifier is not trained" in hub.files("me/adapter-base")["README.md"].decode()
    assert json.loads(hub.files("me/untrained-adapter")["adapter_config.json"])["base_model_name_or_path"] == "me/adapter-base"
    no_base, a_folder, another_model = pushed["errors"]
    assert "needs a saved base checkpoint" in no_base and "merge_and_unload" in no_base
    assert "is the folder './adapter-base'" in a_folder
    assert "'me/adapter-base' has another" in another_model
    assert ("model", "me/wrong-adapter") not in hub.repositories

    from_folder = hub.files("me/from-folder")
    assert 'from_pretrained("me/from-folder")' in from_folder["README.md"].decode()
    assert {"config.json", "model.safetensors", "taxonomy.json", ".eval_results/hf_htc.yaml"} <= set(from_folder)
    assert b"not for others" not in b"".join(from_folder.values())

    metric = hub.files("me/hierarchical_f1", "space")
    assert {"hierarchical_f1.py", "hierarchical_scores.py", "label_sets.py", "taxonomy.py", "app.py", "requirements.txt"} <= set(
        metric
    )
    front = yaml.safe_load(metric["README.md"].decode().split("---")[1])
    assert (front["sdk"], front["app_file"]) == ("gradio", "app.py")
    assert 'evaluate.load("me/hierarchical_f1")' in metric["README.md"].decode()

    data = hub.files("me/news", "dataset")
    assert {
        "README.md",
        "taxonomy.tsv",
        "taxonomy.json",
        "data/train.parquet",
        "data/validation.parquet",
        "data/test.parquet",
    } == set(data)
    assert 'load_htc_dataset("me/news")' in data["README.md"].decode()
    assert set(hub.files("me/news-folder", "dataset")) == set(data)
    assert {"config.json", "model.safetensors", "tokenizer.json", "modeling_flat.py"} <= set(hub.files("me/trained"))


def test_nothing_pushed_tells_where_it_was_made(hub, work, pushed):
    places = [str(work[0]), str(work[0].parent), str(HERE), os.path.expanduser("~") + "/"]
    for (kind, repo_id), history in hub.repositories.items():
        for _, files in history:
            for path, content in files.items():
                for place in places:
                    assert place.encode() not in content, (kind, repo_id, path, place)


@pytest.mark.parametrize("way", ["with", "without"])
def test_what_was_pushed_loads(hub, work, pushed, way):
    folder, merged = work
    found = json.loads(run(hub, folder, LOAD, way, way, *METHODS).stdout.splitlines()[-1])
    batch = make_batch()

    def same(name, expected):
        torch.testing.assert_close(torch.tensor(found[name]), torch.as_tensor(expected), atol=1e-4, rtol=1e-5)

    with torch.no_grad():
        for method in METHODS:
            model = make_model(METHODS[method], make_tree())
            expected = model(**batch).logits
            for auto_class in ("AutoModel", "AutoModelForSequenceClassification"):
                assert torch.equal(torch.tensor(found[method + auto_class]), expected), method
        expected = make_model("hiagm", make_tree())(**batch).logits
        assert torch.equal(torch.tensor(found["base"]), expected)  # HiAGM before the adapter
        adapted = merged(**batch).logits
        assert (adapted - expected).abs().max() > 0.5
        for name in ("adapter", "adapter-again", "merged"):
            same(name, adapted)
        assert torch.equal(torch.tensor(found["from-folder"]), make_model("flat", make_tree())(**batch).logits)
    same("trained", pushed["trained"])
    from tiny_models import make_tokenizer

    tokenizer = make_tokenizer()
    for method in METHODS:
        expected = make_model(METHODS[method], make_tree()).predict("the match", tokenizer, top_k=2)["labels"]
        assert found[method + "labels"] == expected
    assert found["adapter labels"] == merged.predict("the match", tokenizer, top_k=2)["labels"]
    assert found["metric"]["hierarchical_f1"] == pytest.approx(2 / 3)

    loaded = load_htc_dataset(folder / "data")
    tree = make_tree()
    for name in ("news", "news-folder", "exported"):
        for split, rows in loaded.dataset.items():
            assert found[name][split] == {"text": rows["text"], "labels": tree.decode(rows["labels"])}
        if way == "with":
            assert found[f"{name} loaded"] == loaded.fingerprint


def test_refusals_are_clear_and_leave_nothing(hub, work, pushed):
    hub.sdks["me/hierarchical_f1"] = "docker"
    before = {key: len(history) for key, history in hub.repositories.items()}
    try:
        finished = run(hub, work[0], REFUSED, "refused")
    finally:
        hub.sdks["me/hierarchical_f1"] = "gradio"
    found = json.loads(finished.stdout.splitlines()[-1])
    assert {name: kind for name, (kind, _) in found.items()} == {
        "bad token": "OSError",
        "not mine": "OSError",
        "not mine, data": "OSError",
        "not mine, metric": "OSError",
        "type in the name": "ValueError",
        "other name": "ValueError",
        "breaks off": "OSError",
        "another kind of Space": "ValueError",
        "wrong type": "SystemExit",
        "no data set": "FileNotFoundError",
        "nothing": "SystemExit",
        "no connection": "OSError",
    }
    messages = {name: message for name, (_, message) in found.items()}
    assert messages["bad token"] == (
        "Nothing was pushed to 'me/x': the Hub does not know who you are. Log in with `hf auth login`, or pass a token with "
        "write access."
    )
    for name in ("not mine", "not mine, data", "not mine, metric"):
        assert "no right to write there (" in messages[name] and "under this namespace" in messages[name], name
    assert messages["type in the name"].startswith("'datasets/me/x' is no repository id.")
    assert "must be named `hierarchical_f1`" in messages["other name"]
    assert messages["breaks off"].startswith("Nothing was pushed to 'me/unlucky': the Hub answered 500: The server broke")
    assert "already a Space of another kind (docker)" in messages["another kind of Space"]
    assert messages["no connection"].startswith("Nothing was pushed to 'me/x': there is no connection to the Hub")
    assert all(len(message.splitlines()) == 1 for message in messages.values())
    assert "`--type dataset`, but 'flat' holds a model." in finished.stderr
    assert "holds neither a checkpoint" in finished.stderr
    after = {key: len(history) for key, history in hub.repositories.items() if key != ("model", "me/unlucky")}
    assert after == before
    assert hub.files("me/unlucky") == {}


def test_only_the_hubs_own_interface_is_used(hub, work, pushed):
    assert hub.requests
    assert hub.unexpected_requests() == []
