"""Checkpoints of strangers: loaded without the package, and those of earlier releases."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import VARIANTS, make_batch, make_hierarchy, make_model
from transformers import AutoModelForSequenceClassification

import hf_htc


METHODS = list(hf_htc.METHODS)
# Nested code of our own and both variants: what a folder must bring beside the method's two files.
NESTED = [
    "hiagm, TextRCNN",
    "hiagm, LA, TextRCNN",
    "hiagm, TreeLSTM",
    "himatch, TextRCNN",
    "himatch, dot product",
    "himtl, HiTIN",
    "hidec, TextRCNN",
]
MODELS = Path(hf_htc.__file__).parent / "models"
GOLDEN = Path(__file__).parent.parent / "fixtures" / "checkpoints"

LOAD = """
import json, sys
sys.modules["hf_htc"] = None  # this process cannot import the package
import torch
from transformers import AutoModel, AutoModelForSequenceClassification
folders, batch = json.loads(sys.argv[1]), {key: torch.tensor(value) for key, value in json.loads(sys.argv[2]).items()}
result = {}
for folder in folders:
    for auto_class in (AutoModel, AutoModelForSequenceClassification):
        model = auto_class.from_pretrained(folder, trust_remote_code=True).eval()
        assert type(model).__module__.startswith("transformers_modules"), type(model).__module__
        with torch.no_grad():
            result[folder + auto_class.__name__] = model(**batch).logits.tolist()
    model.save_pretrained(folder + "-again")
    model = AutoModel.from_pretrained(folder + "-again", trust_remote_code=True).eval()
    with torch.no_grad():
        result[folder + "again"] = model(**batch).logits.tolist()
print(json.dumps(result))
"""


def test_checkpoints_load_in_a_process_without_the_package(tmp_path):
    batch, expected = make_batch(), {}
    for method in [*METHODS, *NESTED]:
        for kind in ("tree", "dag"):
            folder = tmp_path / f"{method.replace(', ', '-')}_{kind}"
            model = make_model(method, make_hierarchy(kind))
            model.save_pretrained(folder)
            with torch.no_grad():
                expected[str(folder)] = model(**batch).logits
    arguments = [json.dumps(list(expected)), json.dumps({key: value.tolist() for key, value in batch.items()})]
    finished = subprocess.run(
        [sys.executable, "-c", LOAD, *arguments], capture_output=True, text=True, timeout=300, cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # as in this process: the last digit of a sum depends on the threads
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    found = json.loads(finished.stdout.splitlines()[-1])
    for folder, logits in expected.items():
        for name in ("AutoModel", "AutoModelForSequenceClassification", "again"):
            assert torch.equal(torch.tensor(found[folder + name]), logits), (folder, name)


def test_saved_code_is_whole_and_names_both_auto_classes(tmp_path):
    for method in METHODS:
        make_model(method, make_hierarchy("tree")).save_pretrained(tmp_path / method)
        auto_map = json.loads((tmp_path / method / "config.json").read_text())["auto_map"]
        assert set(auto_map) == {"AutoConfig", "AutoModel", "AutoModelForSequenceClassification"}
        for file in (tmp_path / method).glob("*.py"):
            assert file.read_bytes() == (MODELS / file.name).read_bytes()


def test_models_import_only_siblings_and_what_a_checkpoint_may_need():
    allowed = {"torch", "transformers", "huggingface_hub", "numpy"}
    for file in MODELS.glob("*.py"):
        tree = ast.parse(file.read_text())
        tried = {id(node) for block in ast.walk(tree) if isinstance(block, ast.Try) for node in ast.walk(block)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and node.module and "." not in node.module, f"{file.name}: {ast.unparse(node)}"
                assert (MODELS / f"{node.module}.py").exists(), f"{file.name}: {ast.unparse(node)}"
                continue
            if isinstance(node, (ast.Import, ast.ImportFrom)) and id(node) not in tried:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
                for name in names:
                    top = name.split(".")[0]
                    assert top in allowed or top in sys.stdlib_module_names, f"{file.name}: {ast.unparse(node)}"


@pytest.mark.parametrize("folder", sorted(path.name for path in GOLDEN.glob("*-*")))
def test_golden_checkpoints_of_every_release_give_their_logits(folder):
    stored = json.loads((GOLDEN / folder / "expected.json").read_text())
    model = AutoModelForSequenceClassification.from_pretrained(GOLDEN / folder).eval()
    with torch.no_grad():
        output = model(
            **{key: torch.tensor(value) for key, value in stored["batch"].items()}, labels=torch.tensor(stored["labels"])
        )
    torch.testing.assert_close(output.logits, torch.tensor(stored["logits"]), atol=1e-5, rtol=1e-4)
    assert float(output.loss) == pytest.approx(stored["loss"], rel=1e-4)
    assert model.config.get_hierarchy().fingerprint() == stored["hierarchy"]


def test_there_is_a_golden_checkpoint_of_every_method():
    names = {method.replace(", ", "_").replace(" ", "_").lower() for method in [*hf_htc.METHODS, *VARIANTS]}
    assert {path.name.rsplit("-", 1)[0] for path in GOLDEN.glob("*-*")} == names
