"""Pushing to a Hub and loading from it, with the package and without, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from local_hub import LocalHub
from tiny_models import make_batch, make_model, make_tree


HERE = Path(__file__).parent.parent

PUSH = """
import sys
from transformers import AutoTokenizer
from transformers import AutoModelForSequenceClassification
import hf_htc
for method in sys.argv[2:]:
    folder = f"{sys.argv[1]}/{method}"
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    hf_htc.push(model, AutoTokenizer.from_pretrained(folder), f"me/{method}")
"""
LOAD = """
import json, sys
trust = {}
if sys.argv[1] == "without":
    sys.modules["hf_htc"], trust = None, {"trust_remote_code": True}
else:
    import hf_htc
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
batch, result = {key: torch.tensor(value) for key, value in json.loads(sys.argv[2]).items()}, {}
for method in sys.argv[3:]:
    for auto_class in (AutoModel, AutoModelForSequenceClassification):
        model = auto_class.from_pretrained(f"me/{method}", **trust).eval()
        with torch.no_grad():
            result[method + auto_class.__name__] = model(**batch).logits.tolist()
    tokenizer = AutoTokenizer.from_pretrained(f"me/{method}", **trust)
    result[method + "labels"] = model.predict("the match", tokenizer, top_k=2)["labels"]
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def hub():
    hub = LocalHub()
    yield hub
    hub.close()


def test_round_trip_of_every_method(hub, tokenizer, tmp_path):
    methods, batch = ["flat", "hiagm"], make_batch()
    expected = {}
    for method in methods:
        model = make_model(method, make_tree())
        model.save_pretrained(tmp_path / method)
        tokenizer.save_pretrained(tmp_path / method)
        with torch.no_grad():
            expected[method] = model(**batch).logits
        expected[method + "labels"] = model.predict("the match", tokenizer, top_k=2)["labels"]

    def run(code, home, *arguments):
        environment = {**os.environ, **hub.environment(tmp_path / home), "PYTHONPATH": str(HERE)}
        finished = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=300
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
        return finished.stdout

    run(PUSH, "pusher", str(tmp_path), *methods)
    for method in methods:
        files = hub.files(f"me/{method}")
        assert {
            "README.md",
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            f"modeling_{method}.py",
            "hierarchy.py",
        } <= set(files)
        assert f'from_pretrained("me/{method}")' in files["README.md"].decode()  # the card's snippet loads this repository
        assert not any(str(tmp_path).encode() in content for content in files.values())
    for way in ("with", "without"):
        found = json.loads(run(LOAD, way, way, json.dumps({k: v.tolist() for k, v in batch.items()}), *methods).splitlines()[-1])
        for method in methods:
            for name in ("AutoModel", "AutoModelForSequenceClassification"):
                assert torch.equal(torch.tensor(found[method + name]), expected[method]), (way, method, name)
            assert found[method + "labels"] == expected[method + "labels"]
