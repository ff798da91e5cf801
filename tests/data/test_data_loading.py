"""Every form in which data comes gives the same texts, ids and hierarchy."""

import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_examples import DAG_EDGES, EDGES, ROWS

from hf_htc.data import HTCDataset, label_closure, load_htc_dataset
from hf_htc.data.sources import split_files
from hf_htc.models.hierarchy import LabelHierarchy


def names(loaded, split="train"):
    return [sorted(loaded.hierarchy.names[i] for i in row) for row in loaded.dataset[split]["labels"]]


EXPECTED = [sorted(row["labels"]) for row in ROWS]


def write(kind, tmp_path, rows=ROWS, split="train"):
    path = tmp_path / f"{split}.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=1))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        tab = "," if kind == "csv" else "\t"
        cells = [["text", "labels", "id"], *([r["text"], "; ".join(r["labels"]), r["id"]] for r in rows)]
        path.write_text("\n".join(tab.join(f'"{cell}"' for cell in row) for row in cells))
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_data(kind, tmp_path, taxonomy, cache_dir):
    loaded = load_htc_dataset(
        train_file=write(kind, tmp_path),
        validation_file=write(kind, tmp_path, ROWS[:2], "validation"),
        taxonomy=taxonomy,
        label_separator=";" if kind in ("csv", "tsv") else None,
        cache_dir=cache_dir,
    )
    assert isinstance(loaded, HTCDataset)
    dataset, hierarchy = loaded
    assert names(loaded) == EXPECTED and names(loaded, "validation") == EXPECTED[:2]
    assert list(dataset["train"]["text"]) == [row["text"] for row in ROWS]
    assert dataset["train"].column_names == ["text", "labels", "id"]
    assert dataset["train"].features["labels"] == datasets.List(datasets.Value("int32"))
    assert list(dataset["train"]["id"]) == ["a", "b", "c", "d"]
    assert hierarchy == LabelHierarchy.from_file(taxonomy)


def test_csv_and_jsonl_have_one_fingerprint(tmp_path, taxonomy):
    csv = load_htc_dataset(train_file=write("csv", tmp_path), taxonomy=taxonomy, label_separator=";", validation_fraction=0)
    jsonl = load_htc_dataset(train_file=write("jsonl", tmp_path), taxonomy=taxonomy, validation_fraction=0)
    assert csv.fingerprint == jsonl.fingerprint
    other = load_htc_dataset(train_file=write("jsonl", tmp_path, ROWS[:3]), taxonomy=taxonomy, validation_fraction=0)
    assert other.fingerprint != jsonl.fingerprint


def test_label_ids_are_sorted_unique_and_those_of_the_hierarchy(jsonl, taxonomy):
    row = {"text": "x", "labels": ["football", "sport", "football", "ball"]}
    dataset, hierarchy = load_htc_dataset(train_file=jsonl([row]), taxonomy=taxonomy, validation_fraction=0)
    ids = dataset["train"][0]["labels"]
    assert ids == sorted(hierarchy.id(name) for name in ("sport", "ball", "football"))


def test_one_label_a_row_and_trailing_separators(text_file, taxonomy):
    one = load_htc_dataset(train_file=text_file("text,labels\nx,sport\ny, politics \n"), taxonomy=taxonomy, validation_fraction=0)
    assert names(one) == [["sport"], ["politics"]]
    several = load_htc_dataset(
        train_file=text_file("text,labels\nx,sport|ball|\ny,|politics\n"),
        taxonomy=taxonomy,
        label_separator="|",
        validation_fraction=0,
    )
    assert names(several) == [["ball", "sport"], ["politics"]]


def test_long_csv_field_quotes_line_breaks_bom_and_umlauts(text_file, taxonomy):
    long = "ä" * 200_000
    content = '\ufefftext,labels\n"one\ntwo, ""quoted""",sport\n' + long + ",politics\n"
    dataset, _ = load_htc_dataset(train_file=text_file(content), taxonomy=taxonomy, validation_fraction=0)
    assert list(dataset["train"]["text"]) == ['one\ntwo, "quoted"', long]


def test_other_column_names_and_a_column_in_the_way(jsonl, taxonomy):
    rows = [{"body": "x", "topics": ["sport"], "text": "headline", "labels": 3}]
    dataset, _ = load_htc_dataset(
        train_file=jsonl(rows), taxonomy=taxonomy, text_column="body", label_column="topics", validation_fraction=0
    )
    assert dataset["train"].column_names == ["text", "labels"]
    assert dataset["train"][0]["text"] == "x"


def test_other_columns_that_mix_types_are_kept_as_json(jsonl, taxonomy, caplog):
    rows = [{"text": "x", "labels": ["sport"], "note": 1}, {"text": "y", "labels": ["sport"], "note": {"a": "b"}}]
    dataset, _ = load_htc_dataset(train_file=jsonl(rows), taxonomy=taxonomy, validation_fraction=0)
    assert list(dataset["train"]["note"]) == ["1", '{"a": "b"}']
    assert "'note' of train.jsonl mixes types" in caplog.text


# ---------------------------------------------------------------- paths


PATHS = [["sport/ball/football"], ["politics"], ["sport/water", "politics/elections"]]
PATH_NODES = ["politics", "politics/elections", "sport", "sport/ball", "sport/ball/football", "sport/water"]


def path_file(form, jsonl, text_file):
    if form == "list":
        return jsonl([{"text": f"t{i}", "labels": row} for i, row in enumerate(PATHS)]), {"path_separator": "/"}
    if form == "nested":
        rows = [{"text": f"t{i}", "labels": [p.split("/") for p in row]} for i, row in enumerate(PATHS)]
        return jsonl(rows), {}
    content = "text,labels\n" + "".join(f"t{i},{';'.join(row)}\n" for i, row in enumerate(PATHS))
    return text_file(content.replace("/", " / ")), {"path_separator": "/", "label_separator": ";"}


@pytest.mark.parametrize("form", ["list", "nested", "string"])
def test_paths_give_the_tree(form, jsonl, text_file, caplog):
    path, options = path_file(form, jsonl, text_file)
    loaded = load_htc_dataset(train_file=path, validation_fraction=0, **options)
    assert sorted(loaded.hierarchy.names) == PATH_NODES
    assert names(loaded) == [sorted(row) for row in PATHS]
    assert loaded.label_closure == "as_given" and "closure='up'" in caplog.text
    closed = load_htc_dataset(train_file=path, validation_fraction=0, closure="up", **options)
    assert closed.label_closure == "closed"
    assert names(closed)[0] == ["sport", "sport/ball", "sport/ball/football"]
    assert closed.hierarchy.texts[closed.hierarchy.id("sport/ball")] == "ball"


def test_columns_of_levels_are_one_path(text_file):
    content = "text,l1,l2,l3\nx,sport,ball,football\ny,politics,,\nz,sport,ball,\n"
    loaded = load_htc_dataset(train_file=text_file(content), label_column=["l1", "l2", "l3"], closure="up", validation_fraction=0)
    assert names(loaded) == [["sport", "sport/ball", "sport/ball/football"], ["politics"], ["sport", "sport/ball"]]
    assert loaded.dataset["train"].column_names == ["text", "labels"]


def test_paths_against_a_taxonomy_of_segments(jsonl, taxonomy):
    rows = [{"text": "x", "labels": ["sport/ball/football"]}, {"text": "y", "labels": ["ball/tennis", "politics"]}]
    loaded = load_htc_dataset(train_file=jsonl(rows), taxonomy=taxonomy, path_separator="/", validation_fraction=0)
    assert names(loaded) == [["football"], ["politics", "tennis"]]


# ---------------------------------------------------------------- taxonomy, closure, labels


def test_closure_up_in_a_dag_takes_every_parent(jsonl, tmp_path):
    path = tmp_path / "dag.tsv"
    path.write_text(DAG_EDGES)
    loaded = load_htc_dataset(
        train_file=jsonl([{"text": "x", "labels": ["polo"]}, {"text": "y", "labels": ["politics"]}]),
        taxonomy=path,
        closure="up",
        validation_fraction=0,
    )
    assert names(loaded) == [["ball", "polo", "sport", "water"], ["politics"]]
    assert loaded.label_closure == "closed" and not loaded.hierarchy.is_tree


def test_labels_used_keeps_what_occurs_in_any_split(jsonl, taxonomy):
    train = jsonl([{"text": "x", "labels": ["football"]}])
    test = jsonl([{"text": "y", "labels": ["elections"]}], "test.jsonl")
    files = {"train_file": train, "test_file": test, "taxonomy": taxonomy, "validation_fraction": 0}
    used = load_htc_dataset(labels="used", **files)
    assert used.hierarchy.label_names == ["football", "elections"]
    assert used.hierarchy.names[2:] == ["sport", "politics", "ball"]
    assert names(used) == [["football"]] and names(used, "test") == [["elections"]]
    closed = load_htc_dataset(labels="used", closure="up", **files)
    assert sorted(closed.hierarchy.label_names) == ["ball", "elections", "football", "politics", "sport"]
    assert names(closed, "test") == [["elections", "politics"]]


def test_flat_labels_without_taxonomy_are_said_so(jsonl, caplog):
    loaded = load_htc_dataset(train_file=jsonl(ROWS), validation_fraction=0)
    assert loaded.hierarchy.num_levels == 1
    assert loaded.hierarchy.label_names == sorted({name for row in ROWS for name in row["labels"]})
    assert "the 7 labels are taken as flat" in caplog.text


def test_integer_labels_are_ids_of_the_hierarchy_object(jsonl):
    hierarchy = LabelHierarchy.from_edges([tuple(line.split("\t")) for line in EDGES.splitlines()])
    rows = [{"text": "x", "labels": [0, 2]}, {"text": "y", "labels": [1]}]
    loaded = load_htc_dataset(train_file=jsonl(rows), taxonomy=hierarchy, validation_fraction=0)
    assert [list(row) for row in loaded.dataset["train"]["labels"]] == [[0, 2], [1]]
    assert loaded.hierarchy is hierarchy


def test_class_labels_are_read_by_name(tmp_path, taxonomy, cache_dir):
    features = datasets.Features(
        {"text": datasets.Value("string"), "labels": datasets.List(datasets.ClassLabel(names=["politics", "sport"]))}
    )
    rows = datasets.Dataset.from_dict({"text": ["x", "y"], "labels": [[1], [0, 1]]}, features=features)
    rows.to_parquet(str(tmp_path / "train.parquet"))
    loaded = load_htc_dataset(
        train_file=tmp_path / "train.parquet", taxonomy=taxonomy, validation_fraction=0, cache_dir=cache_dir
    )
    assert names(loaded) == [["sport"], ["politics", "sport"]]


def test_unlabelled_rows_are_kept_when_asked(jsonl, taxonomy):
    rows = [{"text": "x", "labels": []}, {"text": "y", "labels": ["sport"]}, {"text": "z", "labels": None}]
    loaded = load_htc_dataset(
        train_file=jsonl(rows), taxonomy=taxonomy, allow_unlabelled=True, closure="up", validation_fraction=0
    )
    assert names(loaded) == [[], ["sport"], []]


# ---------------------------------------------------------------- validation split


def many(count=200):
    return [{"text": f"text number {i}", "labels": ["sport" if i % 2 else "politics"]} for i in range(count)]


def test_validation_comes_from_train_only_and_does_not_depend_on_row_order(jsonl, taxonomy, caplog):
    test = jsonl(many(50), "test.jsonl")
    options = {"test_file": test, "taxonomy": taxonomy}
    first = load_htc_dataset(train_file=jsonl(many()), **options).dataset
    assert "20 of 200 training documents" in caplog.text and "seed=42" in caplog.text
    again = load_htc_dataset(train_file=jsonl(many()[::-1]), **options).dataset
    assert list(first) == ["train", "validation", "test"]
    assert (len(first["train"]), len(first["validation"]), len(first["test"])) == (180, 20, 50)
    assert set(first["train"]["text"]) | set(first["validation"]["text"]) == {row["text"] for row in many()}
    assert set(first["validation"]["text"]) == set(again["validation"]["text"])
    assert list(first["test"]["text"]) == [row["text"] for row in many(50)]
    other = load_htc_dataset(train_file=jsonl(many()), seed=7, **options).dataset
    assert set(other["validation"]["text"]) != set(first["validation"]["text"])
    half = load_htc_dataset(train_file=jsonl(many()), validation_fraction=0.5, **options).dataset
    assert len(half["validation"]) == 100


def test_equal_texts_stay_on_one_side(jsonl, taxonomy):
    rows = [{"text": f"text {i % 20}", "labels": ["sport"]} for i in range(200)]
    dataset, _ = load_htc_dataset(train_file=jsonl(rows), taxonomy=taxonomy)
    assert not set(dataset["train"]["text"]) & set(dataset["validation"]["text"])
    assert len(dataset["validation"]) % 10 == 0 and len(dataset["validation"]) > 0


def test_no_validation_is_made_where_none_can_or_shall_be(jsonl, taxonomy, caplog):
    assert list(load_htc_dataset(train_file=jsonl(ROWS[:1]), taxonomy=taxonomy).dataset) == ["train"]
    assert "too few" in caplog.text
    assert list(load_htc_dataset(test_file=jsonl(ROWS), taxonomy=taxonomy).dataset) == ["test"]
    given = load_htc_dataset(train_file=jsonl(many()), validation_file=jsonl(ROWS, "v.jsonl"), taxonomy=taxonomy)
    assert len(given.dataset["train"]) == 200 and len(given.dataset["validation"]) == 4


# ---------------------------------------------------------------- folders


def test_save_and_load_give_back_ids_and_fingerprint(jsonl, tmp_path, cache_dir):
    path = tmp_path / "dag.tsv"
    path.write_text(DAG_EDGES)
    for number, options in enumerate([{}, {"labels": "used"}, {"labels": "used", "closure": "up"}]):
        saved = load_htc_dataset(
            train_file=jsonl(ROWS),
            test_file=jsonl(ROWS[:2], "test.jsonl"),
            taxonomy=path,
            validation_fraction=0,
            **options,
        )
        folder = tmp_path / f"saved{number}"
        saved.save(folder)
        again = load_htc_dataset(folder, validation_fraction=0, cache_dir=cache_dir)
        assert again.hierarchy == saved.hierarchy
        assert again.fingerprint == saved.fingerprint
        assert not list(tmp_path.glob(".saved*"))
        with pytest.raises(FileExistsError, match="not empty; give a new folder"):
            saved.save(folder)


def test_plain_folder_with_shards_and_a_named_taxonomy(tmp_path, cache_dir):
    folder = tmp_path / "plain"
    (folder / "data").mkdir(parents=True)
    for i in range(2):
        rows = pa.Table.from_pylist(ROWS[2 * i : 2 * i + 2])
        pq.write_table(rows, folder / "data" / f"train-0000{i}-of-00002.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS[:1]), folder / "data" / "test-00000-of-00001.parquet")
    # More taxonomy files than data files: they must not be taken for data.
    for name in ("taxonomy.tsv", "a.tsv", "b.tsv", "c.tsv", "d.tsv"):
        (folder / name).write_text(EDGES)
    (folder / "dag.tsv").write_text(DAG_EDGES)
    loaded = load_htc_dataset(folder, cache_dir=cache_dir, validation_fraction=0)
    assert names(loaded) == EXPECTED and loaded.hierarchy.num_labels == 7
    assert load_htc_dataset(folder, taxonomy="dag.tsv", cache_dir=cache_dir).hierarchy.num_labels == 8


def test_folder_with_configs_in_its_readme(tmp_path, cache_dir):
    folder = tmp_path / "configured"
    (folder / "odd").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "odd" / "one.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS[:1]), folder / "odd" / "two.parquet")
    (folder / "taxonomy.tsv").write_text(EDGES)
    (folder / "README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: big\n  data_files: [{split: train, path: odd/one.parquet}, "
        "{split: dev, path: odd/two.parquet}]\n"
        "- config_name: small\n  data_files: [{split: test, path: odd/two.parquet}]\n---\n# x\n"
    )
    big = load_htc_dataset(folder, config_name="big", cache_dir=cache_dir).dataset
    assert {split: len(rows) for split, rows in big.items()} == {"train": 4, "validation": 1}
    small = load_htc_dataset(folder, config_name="small", cache_dir=cache_dir).dataset
    assert {split: len(rows) for split, rows in small.items()} == {"test": 1}


def test_split_files_knows_split_words_and_prefers_parquet():
    found = split_files(
        [
            "train.parquet",
            "train.jsonl",
            "dev.jsonl",
            "data/test-0.parquet",
            "training.csv",
            "oos_test.parquet",
            "x/test.csv",
        ]
    )
    assert found == {"train": ["train.parquet"], "validation": ["dev.jsonl"], "test": ["data/test-0.parquet"]}


def test_a_second_load_is_equal_and_closure_is_measured(tmp_path, taxonomy, cache_dir):
    path = write("parquet", tmp_path)
    first = load_htc_dataset(train_file=path, taxonomy=taxonomy, validation_fraction=0, cache_dir=cache_dir)
    second = load_htc_dataset(train_file=path, taxonomy=taxonomy, validation_fraction=0, cache_dir=cache_dir)
    assert first.fingerprint == second.fingerprint
    # A rewritten file must not come from the cache.
    write("parquet", tmp_path, ROWS[:2])
    third = load_htc_dataset(train_file=path, taxonomy=taxonomy, validation_fraction=0, cache_dir=cache_dir)
    assert len(third.dataset["train"]) == 2
    assert label_closure(first.dataset, first.hierarchy) == "closed"
    assert label_closure([[first.hierarchy.id("football")]], first.hierarchy) == "as_given"


# ---------------------------------------------------------------- Hub


def test_hub_repository_without_configs_is_read_as_a_folder(tmp_path, monkeypatch, cache_dir):
    from fnmatch import fnmatch

    from huggingface_hub.errors import EntryNotFoundError

    from hf_htc.data import sources

    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "train.parquet")
    for name in ("taxonomy.tsv", "a.tsv", "b.tsv"):
        (tmp_path / name).write_text(EDGES)
    calls = []

    def no_readme(repo_id, name, **hub):
        calls.append((repo_id, name, hub["repo_type"], hub["revision"], hub["token"]))
        raise EntryNotFoundError("404")

    def snapshot(repo_id, allow_patterns, **hub):
        assert repo_id == "someone/data" and hub == {"repo_type": "dataset", "revision": "v1", "token": "t"}
        for name in ("train.parquet", "data/dev-00000-of-00001.parquet", "taxonomy.tsv", "a.tsv", "test.jsonl"):
            assert any(fnmatch(name, pattern) for pattern in allow_patterns), name
        assert not any(fnmatch("model.safetensors", pattern) for pattern in allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(sources, "hf_hub_download", no_readme)
    monkeypatch.setattr(sources, "snapshot_download", snapshot)
    options = {"revision": "v1", "token": "t", "cache_dir": cache_dir, "validation_fraction": 0}
    loaded = load_htc_dataset("someone/data", **options)
    assert names(loaded) == EXPECTED and loaded.hierarchy.num_labels == 7
    assert calls == [("someone/data", "README.md", "dataset", "v1", "t")]


def test_hub_repository_with_configs_goes_through_datasets(tmp_path, monkeypatch):
    from huggingface_hub.errors import EntryNotFoundError

    from hf_htc.data import sources

    (tmp_path / "README.md").write_text("---\nconfigs:\n- config_name: one\n---\n")
    (tmp_path / "taxonomy.tsv").write_text(EDGES)

    def download(repo_id, name, **hub):
        if not (tmp_path / name).exists():
            raise EntryNotFoundError("404")
        return str(tmp_path / name)

    def load(repo_id, **options):
        assert repo_id == "someone/data" and options["name"] == "one" and options["revision"] is None
        return datasets.DatasetDict(dev=datasets.Dataset.from_list(ROWS))

    monkeypatch.setattr(sources, "hf_hub_download", download)
    monkeypatch.setattr(sources, "load_dataset", load)
    loaded = load_htc_dataset("someone/data", config_name="one")
    assert names(loaded, "validation") == EXPECTED and loaded.hierarchy.num_labels == 7
