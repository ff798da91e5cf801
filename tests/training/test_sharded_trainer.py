"""Weights spread by FSDP2: the plain Trainer in two processes, which layers are spread, what is saved."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import infer_auto_device_map
from loop_runs import make_arguments
from tiny_models import ENCODERS, VARIANTS, make_batch, make_model, make_tree
from torch import distributed
from torch.distributed.fsdp import fully_shard
from training_data import make_dataset, without_dropout
from transformers import AutoModelForSequenceClassification

import hf_htc
from hf_htc.training import build_trainer


HERE = Path(__file__).parent
# Every block of the methods that is spread by itself, and encoders with and without such blocks.
MODELS = ["flat", "hiagm", "hiagm, TreeLSTM", "hiagm, LA, TextRCNN", "himatch", "himatch, dot product", "hitin", "himtl, mask"]
# The first two read the word embeddings twice: as input, and in the masked language modelling.
MODELS += ["hpt", "ptmt", "hidec", "hidec, expand"]

# What stays whole in a model; the first of each is around the word embeddings.
NAMED = {
    "bert": ("BertEmbeddings", "BertLayer"), "flat": ("BertEmbeddings", "BertLayer"),
    "roberta": ("RobertaEmbeddings", "RobertaLayer"),
    "modernbert": ("ModernBertEmbeddings", "ModernBertEncoderLayer"), "t5": (None, "T5Block"), "gpt2": (None, "GPT2Block"),
    "deberta-v2": (None,), "distilbert": (None,), "htc_textrcnn": (None,), "flat, TextRCNN": (None,),
    "hiagm": ("BertEmbeddings", "BertLayer", "HierarchyGCN"), "hiagm, LA": ("BertEmbeddings", "BertLayer", "HierarchyGCN"),
    "hiagm, TreeLSTM": ("BertEmbeddings", "BertLayer", "TreeLSTMPass"), "hiagm, TextRCNN": (None, "HierarchyGCN"),
    "hiagm, LA, TextRCNN": (None, "TreeLSTMPass"),
    "himatch": ("BertEmbeddings", "BertLayer", "HierarchyGCN", "LabelGCN"),
    "himatch, TextRCNN": (None, "HierarchyGCN", "LabelGCN"), "himatch, dot product": ("BertEmbeddings", "BertLayer", "LabelGCN"),
    "flat, coherent": ("BertEmbeddings", "BertLayer"),
    "hisr": ("BertEmbeddings", "BertLayer", "HierarchyGCN"), "hisr, TextRCNN": (None, "HierarchyGCN"),
    "hitin": ("BertEmbeddings", "BertLayer", "TreeIsomorphismNetwork"), "hitin, TextRCNN": (None, "TreeIsomorphismNetwork"),
    "hitin, K=3, max": ("BertEmbeddings", "BertLayer", "TreeIsomorphismNetwork"),
    "himtl": ("BertEmbeddings", "BertLayer", "BranchGCN"),
    "himtl, TextRCNN": (None, "BranchGCN"), "himtl, mask": ("BertEmbeddings", "BertLayer", "BranchGCN"),
    "himtl, HiTIN": ("BertEmbeddings", "BertLayer"),
    "hpt": ("BertEmbeddings", "BertLayer"), "hpt, BCE": ("BertEmbeddings", "BertLayer"),
    "hpt, HBM": ("BertEmbeddings", "BertLayer"), "hpt, joint": ("BertEmbeddings", "BertLayer"),
    "ptmt": ("BertEmbeddings", "BertLayer"), "ptmt, HBM": ("BertEmbeddings", "BertLayer"),
    "ptmt, appendix": ("BertEmbeddings", "BertLayer"),
    **dict.fromkeys(["hidec", "hidec, BCE", "hidec, ZLPR", "hidec, expand"], ("BertEmbeddings", "BertLayer", "HiDECClassifier")),
    "hidec, TextRCNN": (None, "HiDECClassifier"),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------- two processes


LOAD = """
import json, sys
sys.modules["hf_htc"] = None  # this process cannot import the package
import torch
from transformers import AutoModel
batch = {key: torch.tensor(value) for key, value in json.loads(sys.argv[1]).items()}
with torch.no_grad():
    models = [AutoModel.from_pretrained(folder, trust_remote_code=True).eval() for folder in sys.argv[2:]]
    print(json.dumps([model(**batch).logits.tolist() for model in models]))
"""


@pytest.mark.slow
def test_the_trainer_with_spread_weights_and_one_process_agree(tokenizer, tmp_path):
    """Loss, scores and logits; checkpoints to go on from, and folders that load with and without the package."""
    folders = {name: tmp_path / name.replace(", ", "-") for name in MODELS}
    for name, folder in folders.items():
        make_model(name, make_tree()).save_pretrained(folder / "start")
        tokenizer.save_pretrained(folder / "start")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    finished = subprocess.run(
        [*launch, str(HERE / "run_sharded.py"), str(tmp_path), *(folder.name for folder in folders.values())],
        env=environment, timeout=300, capture_output=True, text=True,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    batch, expected = make_batch(), {}
    for name, folder in folders.items():
        seen = json.loads((folder / "seen.json").read_text())
        model = without_dropout(AutoModelForSequenceClassification.from_pretrained(folder / "start"))
        options = {"per_device_train_batch_size": 16, "warmup_steps": 0.1, "weight_decay": 0.0, "optim": "adamw_torch"}
        one = build_trainer(
            model, make_arguments(tmp_path / "one", **options), make_dataset(48), make_dataset(20, seed=5), tokenizer
        )
        one.train()
        found, wanted = ([e for e in log if "loss" in e] for log in (seen["whole"]["log"], one.state.log_history))
        assert len(wanted) == 6 and [e["loss"] for e in found] == pytest.approx([e["loss"] for e in wanted], rel=1e-5), name
        for key, value in one.evaluate().items():
            if not key.endswith(("runtime", "_per_second", "closure")):
                assert seen["whole"]["scores"][key] == pytest.approx(value, rel=1e-4), (name, key)
        with torch.no_grad():
            logits = model.eval()(**batch).logits
        torch.testing.assert_close(torch.tensor(seen["whole"]["logits"]), logits, rtol=1e-3, atol=1e-4)

        losses = [[e.get("loss") for e in seen[run]["log"]] for run in ("whole", "resumed")]
        assert losses[0] == losses[1] and seen["whole"]["logits"] == seen["resumed"]["logits"], name
        expected[folder / "whole"] = expected[folder / "resumed"] = seen["whole"]["logits"]
        for saved, logits in expected.items():
            with torch.no_grad():
                loaded = AutoModelForSequenceClassification.from_pretrained(saved).eval()(**batch).logits
            torch.testing.assert_close(loaded, torch.tensor(logits), rtol=1e-5, atol=1e-6)
        for saved in (folder / "whole", folder / "out" / "checkpoint-3"):
            assert python_files(saved) == python_files(folder / "start")
        assert "and this process has only a part. In all processes, call `trainer.save_model(folder)`" in seen["refused"]
        assert not (folder / "part").exists()
        blocks = {*NAMED["bert" if name == "flat" else name][1:], "Embedding", type(model).__name__}
        assert set(seen["spread"]) == {f"FSDP{block}" for block in blocks}

    arguments = [json.dumps({key: value.tolist() for key, value in batch.items()}), *map(str, expected)]
    finished = subprocess.run([sys.executable, "-c", LOAD, *arguments], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-3000:]
    found = json.loads(finished.stdout.splitlines()[-1])
    torch.testing.assert_close(torch.tensor(found), torch.tensor(list(expected.values())), rtol=1e-5, atol=1e-6)


def python_files(folder):
    return {path.name: path.read_text() for path in folder.glob("*.py")}


# ---------------------------------------------------------------------------------------------- which layers stay whole


@pytest.fixture
def fsdp(monkeypatch):
    """Switches on what `accelerate launch` and the Trainer set under FSDP."""
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    return lambda: monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")


@pytest.mark.parametrize("name", [*ENCODERS, *VARIANTS, *hf_htc.METHODS])
def test_only_layers_that_the_model_has_are_named(name, fsdp):
    encoder = name if name in ENCODERS else None
    model = make_model("flat" if encoder else name, make_tree(), encoder, statistics=False)
    around_words, *layers = NAMED[name]
    assert model._no_split_modules == {around_words, *layers} - {None}
    fsdp()
    assert model._no_split_modules == set(layers)


def test_names_may_be_added(fsdp):
    model = make_model("flat", make_tree(), statistics=False)
    model._no_split_modules = ["FlatClassifier", "NoLayerOfThisModel"]
    assert model._no_split_modules == {"BertEmbeddings", "BertLayer", "FlatClassifier"}


def test_a_device_map_keeps_the_embeddings_together(fsdp):
    model = make_model("hiagm", make_tree(), statistics=False)
    words = model.get_input_embeddings().weight.nbytes
    room = {"cpu": 4 * words, "disk": 10**6}  # for the word embeddings and what accelerate keeps free, not for their layer

    def parts(names):
        placed = infer_auto_device_map(model, room, no_split_module_classes=names)
        return [key for key in placed if key.startswith("model.embeddings.")]

    names = model._no_split_modules
    assert parts(names - {"BertEmbeddings"}) and not parts(names)


# ---------------------------------------------------------------------------------------------- saving


@pytest.fixture
def spread(fsdp):
    """Spreads a model over the processes, of which there is one."""
    fsdp()
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    mesh = distributed.init_device_mesh("cpu", (1,))

    def do(model):
        names = model._no_split_modules
        for module in [module for module in model.modules() if type(module).__name__ in names]:
            fully_shard(module, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    yield do
    distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["flat", "hiagm"])
def test_spread_weights_are_saved_as_whole_ones(name, spread, tmp_path):
    model = make_model(name, make_tree())
    own_class = type(model)
    model.save_pretrained(tmp_path / "whole")
    model(**make_batch())
    spread(model)
    of_torch = type(model)
    assert of_torch.__name__ == f"FSDP{own_class.__name__}" and of_torch.__module__.startswith("torch.")
    logits = model(**make_batch()).logits
    weights = {key: value.full_tensor() if hasattr(value, "full_tensor") else value for key, value in model.state_dict().items()}
    model.save_pretrained(tmp_path / "other_process", is_main_process=False, state_dict={})
    assert not (tmp_path / "other_process").exists() or not list((tmp_path / "other_process").iterdir())
    model.save_pretrained(tmp_path / "spread", state_dict=weights)
    files = [{path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in ("whole", "spread")]
    assert files[0] == files[1] and f"modeling_{name}.py" in files[0]
    assert type(model) is of_torch and torch.equal(model(**make_batch()).logits, logits)


def test_a_part_of_the_weights_is_not_saved(spread, tmp_path):
    model = spread(make_model("flat", make_tree()))
    with pytest.raises(ValueError, match=r"spread over the processes \(FSDP\).* pass `state_dict=weights`"):
        model.save_pretrained(tmp_path / "part")
    assert not (tmp_path / "part").exists()
