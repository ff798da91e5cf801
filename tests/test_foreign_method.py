"""A tenth method, in a package of its own: three files and an entry point, and nothing of ours is touched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import make_encoder_config, make_label_sets, make_texts, make_tokenizer, make_tree
from transformers import AutoModel

import hf_htc
from hf_htc.methods import MethodInfo, method_info, register_method
from hf_htc.methods.registry import MethodRegistry
from hf_htc.models.errors import HTCError, HTCImportError, HTCTypeError


ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "tenth/__init__.py": """
from hf_htc import MethodInfo

INFO = MethodInfo(
    name="tenth",
    model_type="htc_tenth",
    config="tenth.configuration_tenth:TenthConfig",
    model="tenth.modeling_tenth:TenthForHierarchicalTextClassification",
    title="The Tenth",
    citation="@misc{tenth, title = {A Tenth Method}}",
    search_space={"sharpness": {"type": "uniform", "low": 0.5, "high": 2.0}},
    paper_settings={"weight_decay": 0.25},
    tiny_options={"sharpness": 1.5},
)
""",
    "tenth/configuration_tenth.py": """
from hf_htc.models.configuration_htc import HTCConfig
from huggingface_hub.dataclasses import strict


@strict
class TenthConfig(HTCConfig):
    model_type = "htc_tenth"
    sharpness: float = 1.0
""",
    "tenth/modeling_tenth.py": """
from hf_htc.models.modeling_flat import FlatClassifier, FlatForHierarchicalTextClassification

from .configuration_tenth import TenthConfig


class TenthClassifier(FlatClassifier):
    def __init__(self, config):
        super().__init__(config)
        self.sharpness = config.sharpness

    def forward(self, text):
        return self.sharpness * super().forward(text)


class TenthForHierarchicalTextClassification(FlatForHierarchicalTextClassification):
    config: TenthConfig

    def __init__(self, config):
        super().__init__(config)
        self.classifier = TenthClassifier(config)
        self.post_init()
""",
    "tenth-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tenth\nVersion: 1.0\n",
    "tenth-1.0.dist-info/entry_points.txt": "[hf_htc.methods]\ntenth = tenth:INFO\nbroken = tenth:NOTHING\n",
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The package, an encoder and data."""
    folder, tree = tmp_path_factory.mktemp("work"), make_tree()
    for name, text in FILES.items():
        (folder / "packages" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "packages" / name).write_text(text)
    AutoModel.from_config(make_encoder_config(num_hidden_layers=1)).save_pretrained(folder / "encoder")
    make_tokenizer().save_pretrained(folder / "encoder")
    tree.save(folder / "taxonomy.tsv")
    for split, size in (("train", 24), ("validation", 6)):
        names = tree.decode(make_label_sets(tree, size, seed=size))
        rows = [{"text": text, "labels": row} for text, row in zip(make_texts(size, seed=size), names)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(work, *arguments):
    """What a process that has the package prints."""
    path = os.pathsep.join([str(work / "packages"), str(ROOT / "benchmarks")])
    done = subprocess.run(
        [sys.executable, *arguments], cwd=work, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


LOOK = """
import json, sys
from transformers import AutoModel, AutoModelForSequenceClassification
import bench, hf_htc
from hf_htc.training import paper_settings
from hf_htc.training.search_spaces import search_space
from tenth.modeling_tenth import TenthForHierarchicalTextClassification as Model
models = [auto.from_pretrained("model") for auto in (AutoModel, AutoModelForSequenceClassification)]
assert all(type(model) is Model for model in models), models
assert models[0].config.sharpness == 0.75 and models[0].classifier.sharpness == 0.75
assert list(hf_htc.METHODS)[-1] == "tenth" and len(hf_htc.METHODS) == 10
assert hf_htc.model_class("tenth") is Model
print(json.dumps([bench.VARIANTS["tenth"].method, paper_settings("tenth"), search_space("tenth", Model.config_class)]))
"""


@pytest.mark.slow  # three processes: one trains, one loads, one shows help
def test_a_tenth_method_from_another_package(work):
    done = run(
        work, "-m", "hf_htc", "train", "--method", "tenth", "--text_encoder", "encoder",
        "--method_options", '{"sharpness": 0.75}', "--train_file", "train.jsonl",
        "--validation_file", "validation.jsonl", "--taxonomy", "taxonomy.tsv", "--use_cpu", "--output_dir", "model",
        "--num_train_epochs", "1", "--disable_tqdm", "true", "--paper_settings",
    )  # fmt: skip
    assert "Of the paper of tenth: weight_decay 0.25." in done.stdout
    assert "The method 'broken' of 'tenth:NOTHING' is left out" in done.stderr
    card = (work / "model" / "README.md").read_text()
    assert "The Tenth" in card and "title = {A Tenth Method}" in card and "hf_htc: hierarchical text classification" in card
    assert json.loads((work / "model" / "config.json").read_text())["model_type"] == "htc_tenth"
    assert (work / "model" / "modeling_tenth.py").exists()  # its code travels with it, as ours does
    found = json.loads(run(work, "-c", LOOK).stdout.splitlines()[-1])
    assert found == ["tenth", {"weight_decay": 0.25}, {"sharpness": {"type": "uniform", "low": 0.5, "high": 2.0}}]
    assert "hidec, tenth" in " ".join(run(work, "-m", "hf_htc", "train", "--help").stdout.split())


@pytest.fixture
def registry(monkeypatch):
    """A registry of this test alone."""
    own = MethodRegistry()
    monkeypatch.setattr("hf_htc.methods.registry.METHODS", own)
    return own


def info(**changes):
    flat = hf_htc.METHODS["flat"]
    return MethodInfo(
        **{"name": "mine", "model_type": "mine", "config": flat.config, "model": flat.model, "title": "M", **changes}
    )


def test_registering_by_hand(registry):
    from hf_htc.models.configuration_flat import FlatConfig

    mine = info(model_type="my_type", config=lambda: type("MyConfig", (FlatConfig,), {"model_type": "my_type"}))
    register_method(mine)
    register_method(mine)  # twice does no harm
    assert list(registry)[-1] == "mine" and method_info("mine").config_class.__name__ == "MyConfig"
    assert method_info("mine").search_space == hf_htc.methods.SHARED_SEARCH_SPACE
    with pytest.raises(HTCError, match="The name 'mine' belongs to the method 'mine' already"):
        register_method(info(model_type="another"))
    with pytest.raises(HTCError, match="The model_type 'htc_hpt' belongs to the method 'hpt' already"):
        register_method(info(model_type="htc_hpt", name="other"))
    with pytest.raises(HTCTypeError, match="as a MethodInfo, not as tuple"):
        register_method(("configuration_mine", "MineConfig"))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"name": "My Method"}, "The `name` of a method is 'My Method'; it has lower-case"),
        ({"model_type": None}, "The `model_type` of a method is None"),
        ({"config": "my_package.config"}, "its form is 'package.module:Class'"),
        ({"model": 3}, "`model` of the method 'mine' is 3; it is 'package.module:Class' or a function"),
        ({"config": MethodInfo}, "or a function that gives the class"),
    ],
)
def test_what_an_info_refuses(changes, message):
    with pytest.raises(HTCError, match=message):
        info(**changes)


def test_classes_that_do_not_fit():
    with pytest.raises(
        HTCImportError, match="config class of the method 'mine', 'no_package.x:Y', cannot be imported: No module"
    ):
        _ = info(config="no_package.x:Y").config_class
    with pytest.raises(HTCError, match="with the `model_type` 'htc_flat'; the method is registered with 'mine'"):
        _ = info().model_class


def test_built_in_methods_say_what_their_classes_say():
    for name, method in hf_htc.METHODS.items():
        assert method.name == name and method.config_class.model_type == method.model_type
        assert method.decides_in_units == hasattr(method.config_class, "unit_loss")
        assert method.model_class.config_class is method.config_class
        method.config_class(hierarchy=make_tree(), **method.tiny_options)
