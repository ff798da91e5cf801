"""The built-in data set, built once from the standard library of the Python that runs the tests."""

import platform
import sysconfig
from collections import Counter

import pytest

from hf_htc.data import check_dataset, load_htc_dataset
from hf_htc.dataset_scripts import python_docs
from hf_htc.dataset_scripts.python_docs import PythonDocs, docstrings, label_path, normalized, source_files, split_of


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("python_docs_cache"))


@pytest.fixture(scope="module")
def loaded(cache_dir):
    return load_htc_dataset("python_docs", cache_dir=cache_dir)


def test_size_splits_and_columns(loaded):
    dataset, hierarchy = loaded
    sizes = {split: len(rows) for split, rows in dataset.items()}
    total = sum(sizes.values())
    assert list(sizes) == ["train", "validation", "test"]
    assert total >= 5000
    assert 0.77 < sizes["train"] / total < 0.83 and 0.08 < sizes["test"] / total < 0.12
    assert set(dataset["train"].column_names) == {"text", "labels", "id"}
    assert hierarchy.is_tree and hierarchy.num_levels == 3
    ids = [i for rows in dataset.values() for i in rows["id"]]
    assert len(set(ids)) == len(ids)


def test_report_is_clean(loaded):
    report = check_dataset(*loaded)
    assert report.problems == []  # no duplicate inside or across splits, every label has training data
    assert report.label_closure == loaded.label_closure == "closed"
    assert all(split["words"]["min"] >= 8 for split in report.splits.values())


def test_chapters_modules_and_submodules_are_there(loaded):
    names = loaded.hierarchy.names
    assert {
        "Concurrent Execution",
        "Concurrent Execution/asyncio",
        "Concurrent Execution/asyncio/asyncio.locks",
        "Data Types/collections",
        "File and Directory Access/os.path",
        "Internet Protocols and Support/urllib/urllib.parse",
        "Structured Markup Processing Tools/xml/xml.etree",
        "Graphical User Interfaces with Tk/tkinter.ttk",
        "Development Tools/unittest",
    } <= set(names)
    assert {name for name in names if "/" not in name} <= set(python_docs.CHAPTERS)
    assert len({name for name in names if "/" not in name}) >= 25
    assert loaded.hierarchy.texts[names.index("Data Types/collections")] == "collections"


def test_every_label_has_ten_training_texts_and_less_than_its_parent(loaded):
    dataset, hierarchy = loaded
    counts = Counter(label for row in dataset["train"]["labels"] for label in row)
    for label in range(hierarchy.num_labels):
        assert counts[label] >= 10
        assert all(counts[label] < counts[parent] for parent in hierarchy.parents[label])


def test_texts_are_the_docstrings_and_nothing_more(loaded):
    """Read again, in another way: by importing a few modules."""
    import inspect
    import json
    import textwrap

    rows = {
        i: (text, labels)
        for split in loaded.dataset.values()
        for i, text, labels in zip(split["id"], split["text"], split["labels"])
    }
    names = loaded.hierarchy.names
    expected = {
        "textwrap:dedent": (textwrap.dedent, {"Text Processing Services"}),
        "json.decoder:JSONDecoder": (json.JSONDecoder, {"Internet Data Handling", "Internet Data Handling/json"}),
        "json.decoder:JSONDecoder.raw_decode": (
            json.JSONDecoder.raw_decode,
            {"Internet Data Handling", "Internet Data Handling/json"},
        ),
    }
    for key, (thing, labels) in expected.items():
        assert rows[key][0] == inspect.getdoc(thing)
        assert {names[i] for i in rows[key][1]} == labels


def test_two_builds_are_equal_and_the_second_load_reads_the_cache(loaded, cache_dir, tmp_path, monkeypatch):
    assert load_htc_dataset("python_docs", cache_dir=str(tmp_path)).fingerprint == loaded.fingerprint
    monkeypatch.setattr(PythonDocs, "_examples", None)  # a rebuild would fail
    again = load_htc_dataset("python_docs", cache_dir=cache_dir)
    assert again.fingerprint == loaded.fingerprint and again.hierarchy == loaded.hierarchy


def test_cache_is_keyed_by_python_and_builder_version(cache_dir):
    folder = PythonDocs(cache_dir=cache_dir).cache_dir
    assert f"cpython-{platform.python_version()}" in folder or platform.python_implementation() != "CPython"
    assert folder.endswith(str(PythonDocs.VERSION))


def test_missing_sources_are_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path / "lib")})
    with pytest.raises(FileNotFoundError, match=r"sources of the standard library are not at '.*lib' \(0 of some 400"):
        PythonDocs(cache_dir=str(tmp_path / "cache")).download_and_prepare()
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_places_of_modules():
    assert label_path("asyncio.queues") == ["Concurrent Execution", "asyncio", "asyncio.queues"]
    assert label_path("concurrent.futures._base") == ["Concurrent Execution", "concurrent.futures"]
    assert label_path("xml.dom.minidom") == ["Structured Markup Processing Tools", "xml", "xml.dom"]
    assert label_path("posixpath") == ["File and Directory Access", "os.path"]
    assert label_path("os") == ["Generic Operating System Services", "os"]
    assert label_path("_collections_abc") == ["Data Types", "collections", "collections.abc"]
    for module in (
        "idlelib.run",
        "lib2to3.main",
        "test.test_re",
        "encodings.cp1252",
        "ensurepip",
        "concurrent",
        "_osx_support",
    ):
        assert label_path(module) == []


def test_docstrings_of_a_source():
    source = (
        '"""Module."""\nclass A:\n    """Class."""\n    async def m(self):\n        """  Method\n        text."""\n'
        '        def inner():\n            """Inner."""\n'
        'try:\n    def f():\n        """Try."""\nexcept ImportError:\n    def f():\n        """Except."""\n'
        'if x:\n    pass\nelse:\n    class B:\n        "Else."\ndef none(): pass\n'
    )
    assert sorted(docstrings(source)) == [
        ("", "Module."),
        ("A", "Class."),
        ("A.m", "Method\ntext."),
        ("B", "Else."),
        ("f", "Except."),
        ("f", "Try."),
    ]


def test_source_files_leave_out_tests_and_strangers(tmp_path):
    for name in (
        "json/__init__.py",
        "json/tool.py",
        "json/tests/test_a.py",
        "site-packages/json.py",
        "idlelib/run.py",
        "re.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("")
    assert [module for module, _ in source_files(tmp_path)] == ["json", "json.tool", "re"]


def test_split_depends_on_the_normalized_text_only():
    assert normalized(" A\n b  C ") == "a b c"
    assert split_of("Some text") == split_of("some\n  TEXT ")
    counts = Counter(split_of(f"text {i}") for i in range(5000))
    assert abs(counts["train"] - 4000) < 120 and abs(counts["test"] - 500) < 90


def test_merged_texts_have_the_labels_of_all_places(tmp_path, monkeypatch):
    """One text in two modules of two chapters, and chapters large enough to be labels."""
    filler = "".join(f'def f{i}():\n    """Does the thing number {i} of module NAME with great care."""\n' for i in range(40))
    same = 'def same():\n    """This one stands in both modules, word for word."""\n'
    for name in ("json", "re"):
        (tmp_path / f"{name}.py").write_text(filler.replace("NAME", name) + same)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    files = source_files(tmp_path)
    monkeypatch.setattr(python_docs, "source_files", lambda stdlib: files * 50)  # as if there were a hundred files
    examples = PythonDocs(cache_dir=str(tmp_path / "cache"))._examples()
    assert len(examples) == 81
    shared = next(example for example in examples if example["text"].startswith("This one"))
    assert shared["labels"] == ["Internet Data Handling", "Text Processing Services"]
    # The only module of a chapter holds all of the chapter's texts and is no label of its own.
    assert {label for example in examples for label in example["labels"]} == set(shared["labels"])
