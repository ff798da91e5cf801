"""The files around the package say what is true of it."""

import configparser
import re
import subprocess
from pathlib import Path

import make_tables
import pytest

import hf_htc


ROOT = Path(__file__).parent.parent
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def test_every_package_is_listed_and_mapped():
    listed = set(SETUP["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "hf_htc").rglob("__init__.py")}
    expected = {".".join(folder.parts) for folder in folders}
    mapping = dict(line.split(" = ") for line in SETUP["options"]["package_dir"].strip().splitlines())
    for name, folder in mapping.items():
        assert (ROOT / folder / "__init__.py").exists(), folder
        expected.add(name)
    assert listed == expected


def test_the_seven_packages_are_core_dependencies():
    required = {re.split(r"[<>=\[]", line)[0] for line in SETUP["options"]["install_requires"].split()}
    assert {"transformers", "datasets", "accelerate", "evaluate", "torch", "huggingface-hub", "peft"} <= required
    assert {"test", "plot", "demo", "export", "dev"} <= set(SETUP["options.extras_require"])


def test_the_version_stands_in_one_place():
    assert SETUP["metadata"]["version"] == "attr: hf_htc.models.version.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+", hf_htc.__version__)
    others = [path for path in (ROOT / "hf_htc").rglob("*.py") if f'"{hf_htc.__version__}"' in path.read_text(encoding="utf-8")]
    assert others == [ROOT / "hf_htc" / "models" / "version.py"]


def test_exports_exist():
    for name in hf_htc.__all__:
        assert getattr(hf_htc, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hf_htc.nothing


def test_importing_the_package_registers_every_method():
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

    for method in hf_htc.METHODS:
        config, model = hf_htc.config_class(method), hf_htc.model_class(method)
        assert type(AutoConfig.for_model(config.model_type)) is config
        assert AutoModel._model_mapping[config] is model
        assert AutoModelForSequenceClassification._model_mapping[config] is model


def test_every_method_has_a_page_and_a_row_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for method in hf_htc.METHODS:
        assert (ROOT / "model_cards" / f"{method}.md").exists()
        assert f"| `{method}` |" in readme


def test_result_tables_are_those_of_the_result_files():
    results = make_tables.load()
    for path, content in (
        (ROOT / "README.md", make_tables.summary(results)),
        (ROOT / "benchmarks" / "README.md", make_tables.details(results, make_tables.load_folder("significance"))),
        (ROOT / "benchmarks" / "README.md", make_tables.zero_shot(make_tables.load_folder("zero_shot"))),
        (ROOT / "benchmarks" / "README.md", make_tables.frequency(make_tables.load_folder("frequency"))),
        (ROOT / "benchmarks" / "README.md", make_tables.conformal(make_tables.load_folder("conformal"))),
    ):
        assert content in path.read_text(encoding="utf-8"), f"run `python benchmarks/make_tables.py`: {path.name} is out of date"


def test_no_file_names_the_machine_it_was_made_on():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if files.returncode:
        return  # not a git checkout
    pattern = re.compile(r"(?<![\w.])/(home|root|work|Users)/\w")
    for name in files.stdout.splitlines():
        if name.endswith((".npz", ".png", ".safetensors", ".parquet")) or name == "tests/test_repository.py":
            continue
        text = (ROOT / name).read_text(encoding="utf-8", errors="replace")
        found = [line for line in text.splitlines() if pattern.search(line) and "example" not in line and "/home/me" not in line]
        assert not found, (name, found[:3])
