"""Linux Bugs and Amazon 5x5 from twins of the JSONL files."""

import json

import pytest
from original_twins import REAL, rows, tarred, warnings_of, written, zipped

from hf_htc.data import load_htc_dataset
from hf_htc.dataset_scripts.zangari import Amazon5x5, Bugs
from hf_htc.models.hierarchy import LabelHierarchy


def lines(labels, count):
    return "".join(json.dumps({"text": f"Text {i} ", "labels": labels[i % len(labels)]}) + "\n" for i in range(count))


BUGS = [["ACPI", "ACPI_Other"], ["Drivers", "Other"], ["Drivers", "Drivers_USB"]]
AMAZON = [["electronics", "electronics_audio"], ["video-games", "video-games_pc"]]


def load(name, folder, tmp_path):
    return load_htc_dataset(name, data_dir=str(folder), cache_dir=str(tmp_path / "cache"))


def test_both_out_of_one_folder(tmp_path, caplog):
    files = {
        "Bugs.zip": zipped({"train.jsonl": lines(BUGS, 10), "test.jsonl": lines(BUGS, 4)}),
        "amazon_train.jsonl": lines(AMAZON, 5),
        "amazon_test.jsonl": lines(AMAZON, 2),
    }
    folder = written(tmp_path / "zenodo", files)
    dataset, hierarchy = loaded = load("bugs", folder, tmp_path)
    assert {split: len(part) for split, part in dataset.items()} == {"train": 8, "validation": 2, "test": 4}
    assert hierarchy.names == ["ACPI", "Drivers", "ACPI_Other", "Drivers_Other", "Drivers_USB"]
    assert hierarchy.texts[3] == "Other" and loaded.label_closure == "closed"
    assert rows(dataset, hierarchy)["test"]["test-2"] == ("Text 1", ["Drivers", "Drivers_Other"])
    assert "bugs (default): 8 train documents, 18692 in the papers." in warnings_of(caplog)
    dataset, hierarchy = load("amazon5x5", folder, tmp_path)
    assert {split: len(part) for split, part in dataset.items()} == {"train": 4, "validation": 1, "test": 2}
    assert hierarchy.statistics()["labels_per_level"] == [2, 2]
    assert "amazon5x5 (default): 4 labels (2-2 by level), 30 (5-25) in the papers." in warnings_of(caplog)


def test_files_without_the_name_of_the_data_set(tmp_path):
    path = tmp_path / "data.tgz"
    path.write_bytes(tarred({"train.jsonl": lines(BUGS, 10), "test.jsonl": lines(BUGS, 4)}))
    assert len(load("bugs", path, tmp_path).dataset["test"]) == 4


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("{", r"bugs_train\.jsonl, line 2: not JSON"),
        ('{"text": "a", "labels": ["b"]}', r"bugs_train\.jsonl, line 2: expected `\{'text'"),
        ('{"labels": ["b", "c"]}', r"bugs_train\.jsonl, line 2: expected"),
        ("[]", r"bugs_train\.jsonl, line 2: expected"),
    ],
)
def test_broken_lines(tmp_path, line, match):
    folder = written(tmp_path / "z", {"bugs_train.jsonl": lines(BUGS, 1) + line, "bugs_test.jsonl": lines(BUGS, 1)})
    with pytest.raises(ValueError, match=match):
        load("bugs", folder, tmp_path)


def test_files_that_are_missing_or_too_many(tmp_path):
    folder = written(tmp_path / "z", {"readme.md": "files"})
    with pytest.raises(FileNotFoundError, match=r"'bugs' needs a training and a test file \(\.jsonl\).*zenodo\.7319518"):
        load("bugs", folder, tmp_path)
    written(folder, {"bugs_train.jsonl": lines(BUGS, 1)})
    with pytest.raises(ValueError, match=r"'bugs' needs one test file \(\.jsonl\); .* has none"):
        load("bugs", folder, tmp_path)
    written(folder, {"bugs_test.jsonl": lines(BUGS, 1), "old/bugs_train.jsonl": lines(BUGS, 1)})
    with pytest.raises(ValueError, match=r"needs one train file .* has \['bugs_train\.jsonl', 'old/bugs_train\.jsonl'\]"):
        load("bugs", folder, tmp_path)


@pytest.mark.skipif(not (REAL / "taxonomies").is_dir(), reason="the real taxonomies are not here")
@pytest.mark.parametrize(("cls", "file"), [(Bugs, "bugs_102_zangari.tsv"), (Amazon5x5, "amazon5x5_30_zangari.tsv")])
def test_the_real_labels_give_the_real_taxonomy(tmp_path, cls, file):
    """Full second-level names, and those that leave their first level out."""
    expected = LabelHierarchy.from_file(REAL / "taxonomies" / file)
    pairs = [list(edge) for edge in expected.to_edges() if edge[0] != "Root"]
    short = [[first, second.removeprefix(f"{first}_")] for first, second in pairs]
    folder = written(tmp_path / "z", {"train.jsonl": lines(pairs, len(pairs)), "test.jsonl": lines(short, len(pairs))})
    hierarchy = load(cls.NAME, folder, tmp_path).hierarchy
    assert sorted(hierarchy.to_edges()) == sorted(expected.to_edges())
    assert tuple(hierarchy.statistics()["labels_per_level"]) == cls.VARIANTS["default"].labels
