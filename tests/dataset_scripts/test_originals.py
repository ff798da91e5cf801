"""What all builders of the papers' data sets have in common."""

import importlib
import json
import re
from pathlib import Path

import pytest
from original_twins import warnings_of, written

from hf_htc.data import BUILDERS, load_htc_dataset
from hf_htc.dataset_scripts.clinc150 import Clinc150
from hf_htc.dataset_scripts.originals import Variant, two_level_hierarchy


ROOT = Path(__file__).parents[2]
NAMES = sorted(set(BUILDERS) - {"python_docs"})
FILES = {
    "data_full.json": json.dumps({part: [["pay", "pay_bill"]] for part in ("train", "val", "test")}),
    "domains.json": json.dumps({"banking": ["pay_bill"]}),
}


def builder_class(name):
    module, _, attribute = BUILDERS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", NAMES)
def test_every_builder_says_what_it_needs_and_has_a_page(name, tmp_path):
    cls = builder_class(name)
    assert name == cls.NAME and [config.name for config in cls.BUILDER_CONFIGS] == list(cls.VARIANTS)
    with pytest.raises(FileNotFoundError, match=rf"'{name}' is made from its original files; .*https?://.*`data_dir`"):
        load_htc_dataset(name)
    # An empty folder: one message with the place to get the files from.
    with pytest.raises(FileNotFoundError, match=rf"'{name}' needs .*, not found in .*https?://"):
        load_htc_dataset(name, data_dir=str(tmp_path))
    page = importlib.import_module(cls.__module__).__doc__
    assert all(f"* **{part}" in page for part in ("Files", "Texts", "Labels", "Splits", "License", "Checked"))
    assert f'load_htc_dataset("{name}", data_dir=' in page
    row = re.search(rf"^\| \[`{name}`\].*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
    assert all(f"`{variant}`" in row for variant in cls.VARIANTS) or len(cls.VARIANTS) == 1
    for variant in cls.VARIANTS.values():
        if isinstance(variant.labels, tuple):
            assert f"{'-'.join(map(str, variant.labels))}" in row
        assert set(variant.documents) <= {"train", "validation", "test"} and variant.documents


class Small(Clinc150):
    """CLINC150 with the numbers of the twin."""

    VARIANTS = {"in_scope": Variant("Of the right size.", {"train": 1, "validation": 1, "test": 1}, (1, 1))}


def test_equal_numbers_are_not_worth_a_word_and_others_are_told_once(tmp_path, caplog):
    folder = str(written(tmp_path / "data", FILES))
    Small(data_dir=folder, cache_dir=str(tmp_path / "small")).download_and_prepare()
    assert warnings_of(caplog) == []
    Clinc150(data_dir=folder, cache_dir=str(tmp_path / "cache")).download_and_prepare()
    told = warnings_of(caplog)
    assert len(told) == 4 and "1 train documents, 15000 in the papers" in told[0] and "2 labels" in told[3]
    Clinc150(data_dir=folder, cache_dir=str(tmp_path / "cache")).download_and_prepare()
    assert warnings_of(caplog) == told


def test_prepared_data_are_found_again_by_every_way_to_the_folder(tmp_path, monkeypatch):
    folder = written(tmp_path / "data", FILES)
    cache = str(tmp_path / "cache")
    first = load_htc_dataset("clinc150", data_dir=str(folder), cache_dir=cache)
    monkeypatch.setattr(Clinc150, "_generate_examples", None)  # a rebuild would fail
    monkeypatch.chdir(folder.parent)
    (tmp_path / "link").symlink_to(folder)
    for path in ("data", folder, "./data/", "link"):
        assert load_htc_dataset("clinc150", data_dir=path, cache_dir=cache).fingerprint == first.fingerprint


def test_a_taxonomy_of_the_user_takes_the_place_of_the_builders(tmp_path):
    folder = written(tmp_path / "data", FILES)
    (tmp_path / "own.tsv").write_text("Root\tmoney\nmoney\tbanking\nbanking\tpay_bill\n")
    options = {"data_dir": str(folder), "cache_dir": str(tmp_path / "cache"), "taxonomy": str(tmp_path / "own.tsv")}
    assert load_htc_dataset("clinc150", **options).hierarchy.num_levels == 3


def test_second_level_names_that_are_not_unique():
    pairs = [("b", "x"), ("a", "x"), ("a", "y"), ("a", "b"), ("a", "y"), ("a", "a_z")]
    hierarchy, names = two_level_hierarchy(pairs)
    assert hierarchy.names == ["b", "a", "b_x", "a_x", "y", "a_b", "a_z"]
    assert names["a", "x"] == "a_x" and names["a", "y"] == "y"
    assert [hierarchy.texts[hierarchy.id(name)] for name in ("b_x", "a_z")] == ["x", "z"]
