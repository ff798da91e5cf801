"""Bad inputs of every kind, over every command and Python entry point: each gets one clear error that names the culprit, no
traceback, an exit code that is not 0, and nothing is left behind."""

# One case per line.
# ruff: noqa: E501

import dataclasses
import importlib
import json
import re
import shutil
import tarfile
import zipfile

import pytest
import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file, save_file
from tiny_models import make_encoder_config, make_label_sets, make_model, make_texts, make_tokenizer, make_tree
from transformers import AutoModel

import hf_htc
import hf_htc.evaluation.unit_view
import hf_htc.training
from hf_htc import HTCDataCollator, HTCTrainingArguments, LabelHierarchy, build_trainer, load_htc_dataset
from hf_htc.cli.main import main, users_error
from hf_htc.hub import save
from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer
from hf_htc.training.arguments import RANGES


FAST = "--num_train_epochs 1 --report_to none --disable_tqdm true"


# ---------------------------------------------------------------------------------------------------------------- what is given

GOOD_ROW = {"text": "the match", "labels": ["weather"]}


def lines(*rows):
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()


# Files of documents: content, and what the one error must say.
DATA = {
    "no_such_file.jsonl": (None, "no_such_file.jsonl"),
    "empty.jsonl": (b"", "empty.jsonl"),
    "blank.jsonl": (b"\n \n\n", "blank.jsonl"),
    "cut.jsonl": (lines(GOOD_ROW)[:-9], "cut.jsonl.*line 1"),
    "cut_later.jsonl": (lines(GOOD_ROW, GOOD_ROW) + b'{"text": "a', "cut_later.jsonl, line 3"),
    "no_json.jsonl": (lines(GOOD_ROW, "the match;weather"), "no_json.jsonl, line 2"),
    "number.jsonl": (lines(GOOD_ROW, "17"), "number.jsonl, line 2"),
    "null.jsonl": (lines(GOOD_ROW, "null"), "null.jsonl, line 2"),
    "deep.jsonl": (lines(GOOD_ROW, '{"text": ' + "[" * 20_000 + "]" * 20_000 + "}"), "deep.jsonl, line 2"),
    "twin_keys.jsonl": (lines(GOOD_ROW, '{"text": "a", "labels": ["weather"], "text": "b"}'), "twin_keys.jsonl, line 2.*'text'"),
    "surrogate.jsonl": (lines(GOOD_ROW, '{"text": "a \\ud800 b", "labels": ["weather"]}'), "surrogate.jsonl, line 2"),
    "surrogate_label.jsonl": (lines(GOOD_ROW, '{"text": "a", "labels": ["\\udfff"]}'), "surrogate_label.jsonl, line 2"),
    "nan_label.jsonl": (lines(GOOD_ROW, '{"text": "a", "labels": [NaN]}'), "nan_label.jsonl, line 2"),
    "number_label.jsonl": (lines(GOOD_ROW, '{"text": "a", "labels": [3.5]}'), "number_label.jsonl, line 2"),
    "object_label.jsonl": (lines(GOOD_ROW, '{"text": "a", "labels": [{"x": 1}]}'), "object_label.jsonl, line 2"),
    "true_label.jsonl": (lines(GOOD_ROW, '{"text": "a", "labels": [true]}'), "true_label.jsonl, line 2"),
    "huge_label.jsonl": (lines(GOOD_ROW, '{"text": "a", "labels": [1' + "0" * 30 + "]}"), "huge_label.jsonl, line 2"),
    "unknown_label.jsonl": (lines(GOOD_ROW, {"text": "a", "labels": ["whether"]}), "unknown_label.jsonl, line 2.*'whether'"),
    "empty_label.jsonl": (lines(GOOD_ROW, {"text": "a", "labels": [""]}), "empty_label.jsonl, line 2"),
    "null_label.jsonl": (lines(GOOD_ROW, {"text": "a", "labels": [None]}), "null_label.jsonl, line 2"),
    "no_labels.jsonl": (lines(GOOD_ROW, {"text": "a", "labels": []}), "no_labels.jsonl, line 2"),
    "no_label_column.jsonl": (lines({"text": "a"}), "no_label_column.jsonl.*'labels'"),
    "no_text_column.jsonl": (lines({"labels": ["weather"]}), "no_text_column.jsonl.*'text'"),
    "number_text.jsonl": (lines(GOOD_ROW, {"text": 3, "labels": ["weather"]}), "number_text.jsonl, line 2"),
    "list_text.jsonl": (lines(GOOD_ROW, {"text": ["a"], "labels": ["weather"]}), "list_text.jsonl, line 2"),
    "empty_text.jsonl": (lines(GOOD_ROW, {"text": " ", "labels": ["weather"]}), "empty_text.jsonl, line 2"),
    "null_text.jsonl": (lines(GOOD_ROW, {"text": None, "labels": ["weather"]}), "null_text.jsonl, line 2"),
    "ragged.csv": (b"text,labels\nthe match,weather\nthe goal,weather,more\n", "ragged.csv, line 3"),
    "twin_header.csv": (b"text,text,labels\na,b,weather\n", "twin_header.csv.*'text'"),
    "header_only.csv": (b"text,labels\n", "header_only.csv"),
    "binary.csv": (bytes(range(256)) * 8, "binary.csv"),
    "picture.jsonl": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "picture.jsonl"),
    "page.csv": (b"<!DOCTYPE html><html><body>Not found</body></html>\n", "page.csv"),
    "no_parquet.parquet": (b"PAR1 this is none", "no_parquet.parquet"),
    "empty.parquet": (b"", "empty.parquet"),
    "no_zip.zip": (b"PK\x03\x04 this is none", "no_zip.zip"),
    "cut.csv.gz": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03KLN\xa9", "cut.csv.gz"),
    "unknown.docx": (b"PK\x03\x04 words", "unknown.docx"),
    "list_of_numbers.json": (b"[1, 2, 3]", "list_of_numbers.json"),
    "deep.json": (b"[" * 20_000 + b"]" * 20_000, "deep.json"),
    "empty_list.json": (b"[]", "empty_list.json"),
}  # fmt: skip

# Without documents there is nothing to predict, an empty text gets an empty record, and words are joined.
GOOD_TO_PREDICT = (
    "empty.jsonl",
    "blank.jsonl",
    "header_only.csv",
    "empty_list.json",
    "empty_text.jsonl",
    "null_text.jsonl",
    "list_text.jsonl",
)

TAXONOMIES = {
    "none.tsv": (None, "none.tsv"),
    "empty.tsv": (b"", "empty.tsv"),
    "cycle.tsv": (b"Root\ta\na\tb\nb\tc\nc\ta\n", "cycle"),
    "own_parent.tsv": (b"Root\ta\na\ta\n", "own_parent.tsv, line 1"),
    "empty_child.tsv": (b"Root\ta\na\t\n", "empty_child.tsv.*line 2|line 2.*empty_child.tsv"),
    "binary.tsv": (bytes(range(256)), "binary.tsv"),
    "cut.json": (b'{"names": ["a", "b"], "parents": [[],', "cut.json"),
    "number.json": (b"3", "number.json"),
    "deep.json": (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "deep.json"),
    "twin.json": (b'{"sport": {"football": {}}, "sport": {"tennis": {}}}', "twin.json.*'sport'"),
    "unknown_parent.json": (b'{"names": ["a", "b"], "parents": [[], [7]], "num_labels": 2}', "unknown_parent.json.*7|7.*unknown_parent"),
    "twin_names.json": (b'{"names": ["a", "a"], "parents": [[], []], "num_labels": 2}', "twin_names.json.*'a'|'a'.*twin_names"),
    "short.json": (b'{"names": ["a", "b"], "parents": [[]], "num_labels": 2}', "short.json"),
    "text_parents.json": (b'{"names": ["a", "b"], "parents": [[], ["x"]], "num_labels": 2}', "text_parents.json"),
    "too_many.json": (b'{"names": ["a"], "parents": [[]], "num_labels": 9}', "too_many.json"),
    "surrogate.json": (b'{"\\ud800": {"b": {}}}', "surrogate.json"),
}  # fmt: skip

# How a checkpoint is spoilt, and what the error must say.
CHECKPOINTS = {
    "no_config": "config.json",
    "no_weights": "weights|safetensors",
    "empty_weights": "model.safetensors|damaged",
    "cut_weights": "damaged|incomplete",
    "text_weights": "damaged|incomplete|model.safetensors",
    "no_classifier": "classifier",
    "no_encoder": "model\\.",
    "wrong_shape": "classifier",
    "nan_weights": "NaN|finite",
    "infinite_weights": "NaN|finite",
    "other_method": "flat|hiagm",
    "no_hierarchy": "hierarchy",
    "cut_config": "config.json",
    "list_config": "config.json",
    "deep_config": "config.json",
    "unknown_type": "model_type|htc_none|none",
    "newer_version": "newer",
    "bad_choice": "pooling",
    "bad_dropout": "text_dropout",
    "bad_threshold": "threshold",
    "few_thresholds": "threshold",
    "few_labels": "labels",
    "bad_hierarchy": "hierarchy|parent",
    "no_tokenizer": "tokenizer",
    "cut_tokenizer": "tokenizer",
    "big_vocabulary": "tokenizer|vocabulary|embedding",
}

COMMANDS_ON_CHECKPOINTS = {
    "predict": "predict {checkpoint} --input {good}/predict.jsonl --output {out}/p.jsonl",
    "evaluate": "evaluate {checkpoint} --test_file {good}/test.jsonl --output_dir {out}/evaluated",
    "calibrate": "calibrate {checkpoint} --validation_file {good}/test.jsonl --thresholds global --output_dir {out}/calibrated",
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Good files, a good checkpoint, and everything bad."""
    root = tmp_path_factory.mktemp("bad")
    good = root / "good"
    for folder in ("good", "data", "taxonomies", "checkpoints"):
        (root / folder).mkdir()
    tree, tokenizer = make_tree(), make_tokenizer()
    tree.save(good / "taxonomy.tsv")
    tree.save(good / "taxonomy.json")
    AutoModel.from_config(make_encoder_config(num_hidden_layers=1)).save_pretrained(good / "encoder")
    tokenizer.save_pretrained(good / "encoder")
    for split, size in (("train", 12), ("test", 8)):
        names = tree.decode(make_label_sets(tree, size, seed=size))
        rows = [{"text": text, "labels": row} for text, row in zip(make_texts(size, seed=size), names)]
        (good / f"{split}.jsonl").write_bytes(lines(*rows))
    (good / "predict.jsonl").write_bytes(lines({"text": "the match"}, {"text": "the vote"}))
    save(make_model("flat", tree, num_hidden_layers=1), tokenizer, good / "checkpoint")
    save(make_model("hpt", tree), tokenizer, good / "hpt")
    records = [{"id": i, "labels": ["weather"], "closure": "none", "checkpoint": "x"} for i in range(8)]
    (good / "a.jsonl").write_bytes(lines(*records))
    (good / "settings.yaml").write_text("num_train_epochs: 1\n")
    for folder, files in (("data", DATA), ("taxonomies", TAXONOMIES)):
        for name, (content, _) in files.items():
            if content is not None:
                (root / folder / name).write_bytes(content)
    for name in CHECKPOINTS:
        shutil.copytree(good / "checkpoint", root / "checkpoints" / name)
        spoil(root / "checkpoints" / name, name)
    make_more(root)
    return root


def spoil(folder, how):
    """Makes a good checkpoint a bad one."""
    weights, config = folder / "model.safetensors", folder / "config.json"
    tensors, content = load_file(weights), json.loads(config.read_text())
    changes = {
        "unknown_type": {"model_type": "htc_none"},
        "newer_version": {"hf_htc_version": "99.0.0"},
        "bad_choice": {"pooling": "middle"},
        "bad_dropout": {"text_dropout": 1.5},
        "bad_threshold": {"thresholds": 1.5},
        "few_thresholds": {"thresholds": [0.5, 0.5]},
        "other_method": {"model_type": "htc_hiagm"},
        "bad_hierarchy": {"hierarchy": {**content["hierarchy"], "parents": [[1], [0], *content["hierarchy"]["parents"][2:]]}},
    }
    if how in changes:
        config.write_text(json.dumps(content | changes[how]))
    elif how in ("no_config", "no_weights"):
        (config if how == "no_config" else weights).unlink()
    elif how in ("empty_weights", "cut_weights", "text_weights"):
        whole = weights.read_bytes()
        weights.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"none of them"}[how.split("_")[0]])
    elif how in ("no_classifier", "no_encoder"):
        start = "classifier." if how == "no_classifier" else "model.encoder."
        save_file({k: v for k, v in tensors.items() if not k.startswith(start)}, weights, {"format": "pt"})
    elif how in ("wrong_shape", "nan_weights", "infinite_weights"):
        key = next(k for k in tensors if k.startswith("classifier.") and tensors[k].dim() == 2)
        if how == "wrong_shape":
            tensors[key] = tensors[key][:-1].clone()
        else:
            tensors[key][0, 0] = float("nan" if how == "nan_weights" else "inf")
        save_file(tensors, weights, {"format": "pt"})
    elif how == "no_hierarchy":
        content.pop("hierarchy")
        config.write_text(json.dumps(content))
    elif how == "few_labels":
        content["id2label"] = {k: v for k, v in content["id2label"].items() if int(k) < 5}
        content["label2id"] = {v: int(k) for k, v in content["id2label"].items()}
        config.write_text(json.dumps(content))
    elif how in ("cut_config", "list_config", "deep_config"):
        text = config.read_text()
        deep = '{"a":' * 20_000 + "1" + "}" * 20_000
        config.write_text({"cut": text[: len(text) // 2], "list": "[1, 2]", "deep": deep}[how.split("_")[0]])
    elif how == "no_tokenizer":
        for file in folder.glob("token*"):
            file.unlink()
    elif how == "cut_tokenizer":
        (folder / "tokenizer.json").write_text('{"version": ')
    elif how == "big_vocabulary":
        tokenizer = make_tokenizer()
        tokenizer.add_tokens([f"new{i}" for i in range(500)])
        tokenizer.save_pretrained(folder)
    else:
        raise AssertionError(how)


def make_more(root):
    """Bad files of the other commands."""
    bad = root / "data"
    (bad / "list.yaml").write_text("- 1\n- 2\n")
    (bad / "broken.yaml").write_text("a: [1,\n")
    (bad / "unknown.yaml").write_text("learning_rat: 1\n")
    (bad / "deep.yaml").write_text("[" * 5_000 + "]" * 5_000)
    (bad / "space_unknown.yaml").write_text("learning_rat: {type: log_uniform, low: 1.0e-5, high: 1.0e-3}\n")
    (bad / "space_order.yaml").write_text("learning_rate: {type: log_uniform, low: 1.0e-3, high: 1.0e-5}\n")
    (bad / "space_type.yaml").write_text("learning_rate: {type: gauss, low: 1.0e-5, high: 1.0e-3}\n")
    (bad / "space_list.yaml").write_text("- learning_rate\n")
    (bad / "study.db").write_bytes(b"no database")
    (bad / "records_no_labels.jsonl").write_bytes(lines({"id": 0, "closure": "none"}))
    (bad / "records_few.jsonl").write_bytes(lines({"id": 0, "labels": [], "closure": "none", "checkpoint": "x"}))
    (bad / "records_unknown.jsonl").write_bytes(
        lines(*({"id": i, "labels": ["whether"], "closure": "none", "checkpoint": "x"} for i in range(8)))
    )
    (bad / "vectors.txt").write_text("the 0.1 0.2\nmatch 0.1\n")
    (bad / "vectors_words.txt").write_text("the 0.1 0.2\nmatch a b\n")
    with zipfile.ZipFile(bad / "climbing.zip", "w") as archive:
        archive.writestr("../../evil.txt", "x")
    with tarfile.open(bad / "empty.tar.gz", "w:gz"):
        pass
    (bad / "folder").mkdir()
    (bad / "a_file").write_text("x")


# ------------------------------------------------------------------------------------------------------------ the command line

TRAIN = f"train --train_file {{good}}/train.jsonl --taxonomy {{good}}/taxonomy.tsv --text_encoder {{good}}/encoder {FAST}"
TRAIN_OUT = TRAIN + " --output_dir {out}/model"
PREDICT = "predict {good}/checkpoint --input {good}/predict.jsonl --output {out}/p.jsonl"
EVALUATE = "evaluate {good}/checkpoint --test_file {good}/test.jsonl --output_dir {out}/evaluated"
CALIBRATE = "calibrate {good}/checkpoint --validation_file {good}/test.jsonl --output_dir {out}/calibrated"
COMPARE = (
    "compare {good}/a.jsonl {good}/a.jsonl --test_file {good}/test.jsonl --taxonomy {good}/taxonomy.tsv --output {out}/c.json"
)
CHECK = "data check --train_file {good}/train.jsonl --taxonomy {good}/taxonomy.tsv --output {out}/report.md"
DATA_EXPORT = "data export --train_file {good}/train.jsonl --taxonomy {good}/taxonomy.tsv --output_dir {out}/data"
EXPORT = "export {good}/checkpoint {out}/onnx"
UNITS = "units {good}/hpt --text match --output {out}/units.json"
DEMO = "demo {good}/checkpoint --space {out}/space"
TEXTRCNN = "textrcnn --train_file {good}/train.jsonl --taxonomy {good}/taxonomy.tsv --output_dir {out}/rcnn --min_count 1"
TUNE = TRAIN.replace("train ", "tune ", 1).replace(
    "{good}/train.jsonl", "{good}/train.jsonl --validation_file {good}/test.jsonl", 1
)
TUNE += " --output_dir {out}/tuned --trials 1"
BASES = {
    "train": TRAIN_OUT, "predict": PREDICT, "evaluate": EVALUATE, "calibrate": CALIBRATE + " --thresholds global",
    "compare": COMPARE, "export": EXPORT, "units": UNITS, "demo": DEMO, "textrcnn": TEXTRCNN, "tune": TUNE,
}  # fmt: skip

OPTIONS = [
    # command, what is added, what the error says
    ("train", "--method flatt", "flatt"),
    ("train", "--method_options {{", "method_options"),
    ("train", "--method_options [1]", "method_options"),
    ("train", '--method_options {{"node_dimm":3}}', "node_dimm"),
    ("train", '--method_options {{"text_dropout":"x"}}', "text_dropout"),
    ("train", '--method_options {{"text_dropout":-1}}', "text_dropout"),
    ("train", '--method hiagm --method_options {{"node_dim":0}}', "node_dim"),
    ("train", '--method hiagm --method_options {{"structure_encoder":"gnc"}}', "structure_encoder"),
    ("train", '--method hidec --method_options {{"unit_loss":"zplr"}}', "unit_loss"),
    ("train", '--method_options {{"pooling":"middle"}}', "pooling"),
    ("train", '--method_options {{"coherence":"yes"}}', "coherence"),
    ("train", "--loop accelerated", "accelerated"),
    ("train", "--loop accelerate --label_smoothing_factor 0.1", "label_smoothing_factor"),
    ("train", "--loop accelerate --optim galore_adamw", "optim|galore"),
    ("train", "--loop accelerate --group_by_length true", "group_by_length"),
    ("train", "--text_encoder {bad}/folder", "folder"),
    ("train", "--text_encoder {bad}/a_file", "a_file"),
    ("train", "--text_encoder nobody/none", "nobody/none"),
    ("train", "--train_file {bad}/folder", "folder"),
    ("train", "--train_fil {good}/train.jsonl", "train_fil"),
    ("train", "--dataset python_docs", "python_docs|train_file"),
    ("train", "--text_column body", "'body'"),
    ("train", "--label_column topics", "'topics'"),
    ("train", "--label_column text", "'text'"),
    ("train", "--closure down", "down"),
    ("train", "--labels some", "some"),
    ("train", "--resume_from_checkpoint true", "checkpoint"),
    ("train", "--resume_from_checkpoint {bad}/folder", "folder"),
    ("train", "--metric_for_best_model micro_f2", "micro_f2"),
    ("train", "--lr_scheduler_type none", "lr_scheduler_type|none"),
    ("train", "--optim adamm", "adamm"),
    ("train", "--eval_strategy sometimes", "sometimes"),
    ("train", "--save_strategy steps --eval_strategy epoch --load_best_model_at_end true", "load_best_model_at_end"),
    ("train", "--bf16 true --fp16 true", "bf16|fp16"),
    ("train", "--learning_rate fast", "learning_rate"),
    ("train", "--seed 1.5", "seed"),
    ("train", "--num_train_epochs", "num_train_epochs"),
    ("train", "--max_length 2", "max_length|2"),
    ("predict", "--input {bad}/none.jsonl", "none.jsonl"),
    ("predict", "--input {bad}/folder", "folder"),
    ("predict", "--text_column body", "'body'"),
    ("predict", "--closure down", "down"),
    ("predict", "--decoder best", "best"),
    ("predict", "--coherence training", "training"),
    ("predict", "--threshold half", "threshold"),
    ("predict", "--output {bad}/folder", "folder"),
    ("predict", "--output {bad}/a_file/p.jsonl", "a_file"),
    ("predict", "--checkpoint {bad}/folder", "folder"),
    ("predict", "--checkpoint {good}/encoder", "encoder"),
    ("predict", "--checkpoint {good}/a.jsonl", "a.jsonl"),
    ("predict", "--checkpoint {out}/nothing/there/at/all", "all"),
    ("evaluate", "--split train", "train"),
    ("evaluate", "--score_closure down", "down"),
    ("evaluate", "--decoder best", "best"),
    ("evaluate", "--coherence none2", "none2"),
    ("evaluate", "--output_dir {bad}/a_file", "a_file"),
    ("evaluate", "--taxonomy {taxonomies}/cycle.tsv", "cycle"),
    ("evaluate", "--text_column body", "'body'"),
    ("calibrate", "--split test", "test"),
    ("calibrate", "--split train", "train"),
    ("calibrate", "--thresholds leaf", "leaf"),
    ("calibrate", "--conformal_kind all --conformal 0.9", "all"),
    ("calibrate", "--output_dir {bad}/a_file", "a_file"),
    ("compare", "--first {bad}/none.jsonl", "none.jsonl"),
    ("compare", "--second {bad}/records_no_labels.jsonl", "records_no_labels.jsonl"),
    ("compare", "--second {bad}/records_few.jsonl", "records_few.jsonl"),
    ("compare", "--second {bad}/records_unknown.jsonl", "whether"),
    ("compare", "--second {bad}/no_json.jsonl", "no_json.jsonl"),
    ("compare", "--second {bad}/deep.jsonl", "deep.jsonl"),
    ("compare", "--split train", "train"),
    ("compare", "--score_closure down", "down"),
    ("export", "--checkpoint {bad}/folder", "folder"),
    ("export", "--output {good}/encoder", "encoder"),
    ("export", "--max_length 4096", "max_length|4096"),
    ("units", "--checkpoint {good}/checkpoint", "flat|units"),
    ("units", "--plot {out}/p.unknown", "unknown|plot"),
    ("demo", "--decoder best", "best"),
    ("demo", "--examples {bad}/none.txt", "none.txt"),
    ("demo", "--examples {bad}/no_json.jsonl", "no_json.jsonl"),
    ("demo", "--space {good}/encoder", "encoder"),
    ("demo", "--port 8000", "--port"),
    ("demo", "--private true", "--private"),
    ("textrcnn", "--word_vectors {bad}/none.txt", "none.txt"),
    ("textrcnn", "--word_vectors {bad}/vectors.txt", "vectors.txt|Line 2"),
    ("textrcnn", "--word_vectors {bad}/vectors_words.txt", "vectors_words.txt|match"),
    ("textrcnn", "--min_count 1000", "min_count"),
    ("tune", "--objective accuracy", "accuracy"),
    ("tune", "--loop accelerate", "loop"),
    ("tune", "--search_space {bad}/none.yaml", "none.yaml"),
    ("tune", "--search_space {bad}/list.yaml", "list.yaml"),
    ("tune", "--search_space {bad}/broken.yaml", "broken.yaml"),
    ("tune", "--search_space {bad}/deep.yaml", "deep.yaml"),
    ("tune", "--search_space {bad}/space_unknown.yaml", "learning_rat"),
    ("tune", "--search_space {bad}/space_order.yaml", "learning_rate"),
    ("tune", "--search_space {bad}/space_type.yaml", "gauss"),
    ("tune", "--search_space {bad}/space_list.yaml", "space_list.yaml"),
    ("tune", "--study_file {bad}/study.db", "study.db"),
    ("tune", "--study_file {bad}/folder", "folder"),
    ("tune", "--resume_from_checkpoint true", "resume_from_checkpoint"),
]

LINES = [
    ("trian", "trian"),
    ("data chek", "chek"),
    ("data check", "name_or_path|dataset"),
    ("data check --dataset nobody/none", "nobody/none"),
    ("data check --dataset {bad}/folder", "folder"),
    ("data check --dataset {bad}/climbing.zip", "climbing.zip"),
    ("data check --train_file {good}/train.jsonl --label_separator=", "label_separator"),
    ("data check --train_file {good}/train.jsonl --path_separator / --label_separator /", "separator"),
    ("data check --train_file {good}/train.jsonl --data_dir {bad}", "data_dir"),
    ("data check --dataset wos --data_dir {bad}/empty.tar.gz", "empty.tar.gz|wos|meta"),
    ("data check --dataset wos", "data_dir"),
    ("data check --dataset wos --config_name 9 --data_dir {bad}/folder", "9"),
    ("data check --dataset rcv1 --data_dir {bad}/none", "none"),
    (DATA_EXPORT + " --citation {bad}/none.bib", "none.bib"),
    (DATA_EXPORT.replace("{out}/data", "{good}/encoder"), "encoder"),
    (DATA_EXPORT.replace("{out}/data", "{bad}/a_file"), "a_file"),
    (DATA_EXPORT.replace("{out}/data", "{bad}/a_file/below"), "a_file"),
    ("data export --train_file {good}/train.jsonl", "output_dir"),
    ("info {bad}/none", "none"),
    ("info {bad}/folder", "folder"),
    ("info {good}/encoder", "encoder"),
    ("info {good}/taxonomy.tsv --max_nodes x", "max_nodes"),
    ("push {bad}/folder me/news", "folder"),
    ("push {bad}/none me/news", "none"),
    ("push {good}/checkpoint me/news --type dataset", "dataset"),
    ("push {good}/checkpoint", "repo_id"),
    ("quickstart --epochs x", "epochs"),
    ("quickstart --epochs -1", "epochs"),
    ("train", "text_encoder"),
    ("train {bad}/none.yaml", "none.yaml"),
    ("train {bad}/list.yaml", "list.yaml"),
    ("train {bad}/broken.yaml", "broken.yaml"),
    ("train {bad}/unknown.yaml", "learning_rat"),
    ("train {bad}/deep.yaml", "deep.yaml"),
    ("train --text_encoder {good}/encoder --output_dir {out}/model", "name_or_path|train_file"),
    (TRAIN + " --output_dir {bad}/a_file", "a_file"),
    (TRAIN + " --output_dir {bad}/a_file/below", "a_file"),
    ("train --test_file {good}/test.jsonl --taxonomy {good}/taxonomy.tsv --text_encoder {good}/encoder --output_dir {out}/m", "train"),
    ("predict", "checkpoint"),
    ("predict {good}/checkpoint --output {out}/p.jsonl", "input"),
    ("predict {good}/checkpoint --input {good}/predict.jsonl", "output"),
    ("evaluate", "checkpoint"),
    ("evaluate {good}/checkpoint --output_dir {out}/evaluated", "name_or_path|test_file"),
    ("evaluate {good}/checkpoint --test_file {good}/test.jsonl --embeddings true", "output_dir"),
    ("calibrate", "checkpoint"),
    ("calibrate {good}/checkpoint --validation_file {good}/test.jsonl", "thresholds"),
    ("compare {good}/a.jsonl", "second"),
    ("export {good}/checkpoint", "output"),
    ("units {good}/hpt --test_file {good}/test.jsonl --row 99", "99"),
    ("units {good}/hpt --text=", "empty|text"),
    ("demo", "checkpoint"),
    ("demo {good}/checkpoint --push me/news", "--space"),
    ("textrcnn --train_file {good}/train.jsonl", "output_dir"),
    ("tune --text_encoder {good}/encoder --output_dir {out}/t", "name_or_path|train_file"),
]  # fmt: skip

PROGRAMS = {
    "calibrate": ("calibrate", "CalibrateArguments"), "compare": ("compare", "CompareArguments"),
    "evaluate": ("evaluate", "EvaluateArguments"), "export": ("export", "ExportArguments"),
    "predict": ("predict", "PredictArguments"), "textrcnn": ("textrcnn", "TextRCNNArguments"),
    "train": ("train", "RunArguments"), "tune": ("tune", "TuneArguments"), "units": ("units", "UnitsArguments"),
}  # fmt: skip


def out_of(interval):
    """Numbers just outside an interval, and what is no number."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    below = low - 1 if interval[0] == "[" else low
    values = [below if below % 1 else int(below)]
    if high != float("inf"):
        above = high + 1 if interval[-1] == "]" else high
        values.append(above if above % 1 else int(above))
    return values


def ranged():
    """`(command, option, value)` of every numeric option, out of its range."""
    for command, (module, name) in PROGRAMS.items():
        arguments = getattr(importlib.import_module(f"hf_htc.cli.{module}"), name)
        for f in dataclasses.fields(arguments):
            is_number = str(f.type).split(" ")[0] in ("int", "float") or f.type in (int, float)
            assert not is_number or "range" in f.metadata, f"{command} --{f.name} has no range"
            if "range" in f.metadata:
                for value in [*out_of(f.metadata["range"]), *(["nan"] if "float" in str(f.type) else [])]:
                    yield command, f.name, value
    for name, interval in RANGES.items():
        for value in out_of(interval):
            yield "train", name, value


def snapshot(folder):
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def unspoilt(work):
    return snapshot(work)


@pytest.fixture
def refused(work, unspoilt, capsys, tmp_path):
    """Runs a command that must fail; checks all that is promised of an error, and that it says what it should."""

    def run(line, says=None, **places):
        names = {"good": work / "good", "bad": work / "data", "taxonomies": work / "taxonomies", "out": tmp_path, **places}
        arguments = [part.format(**names) for part in line.split(" ")]
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        err = capsys.readouterr().err
        assert exit_.value.code in (1, 2), err
        assert "Traceback" not in err
        errors = [row for row in err.splitlines() if row.startswith("hf-htc")]
        assert len(errors) == 1 and err.splitlines()[-1] == errors[0], err
        if says is not None:
            assert re.search(says, errors[0]), errors[0]
        assert not errors[0].endswith((": .", ": None.", ":"))
        assert snapshot(tmp_path) == {}, "something is left behind"
        assert snapshot(work) == unspoilt, "the input was changed"
        return errors[0]

    return run


@pytest.mark.parametrize("name", DATA)
def test_files_of_documents(refused, name):
    column = "--taxonomy {good}/taxonomy.tsv --output_dir {out}/data"
    refused(f"data export --train_file {{bad}}/{name} {column}", DATA[name][1])


@pytest.mark.parametrize("name", [name for name in DATA if "label" not in name and name not in GOOD_TO_PREDICT])
def test_files_to_predict(refused, name):
    refused(f"predict {{good}}/checkpoint --input {{bad}}/{name} --output {{out}}/p.jsonl", name)


@pytest.mark.parametrize("name", TAXONOMIES)
def test_taxonomies(refused, name):
    line = "data export --train_file {good}/train.jsonl --output_dir {out}/data --taxonomy {taxonomies}/" + name
    refused(line, TAXONOMIES[name][1])
    refused("info {taxonomies}/" + name, TAXONOMIES[name][1])


@pytest.mark.parametrize("how", CHECKPOINTS)
@pytest.mark.parametrize("command", COMMANDS_ON_CHECKPOINTS)
def test_checkpoints(refused, work, how, command):
    error = refused(COMMANDS_ON_CHECKPOINTS[command], CHECKPOINTS[how], checkpoint=work / "checkpoints" / how)
    assert how in error or how in ("bad_hierarchy", "few_labels"), "the checkpoint is not named"


@pytest.mark.parametrize("command, added, says", OPTIONS)
def test_options(refused, command, added, says):
    refused(f"{BASES[command]} {added}", says)


@pytest.mark.parametrize("line, says", LINES)
def test_lines(refused, line, says):
    refused(line, says)


@pytest.mark.parametrize("command, option, value", ranged())
def test_numbers_out_of_range(refused, command, option, value):
    error = refused(f"{BASES[command]} --{option}={value}", option)
    assert str(value).split(".")[0] in error or value == "nan"


# ------------------------------------------------------------------------------------------------------------------- in Python


@pytest.fixture(scope="module")
def model():
    return make_model("flat", make_tree())


def split(**changes):
    """A small data set with a column changed."""
    return Dataset.from_dict({"text": ["the match", "the vote"], "labels": [[0], [1, 2]], **changes})


def trainer_of(model, tmp_path, dataset=None, tokenizer=True, evaluated=None, **options):
    args = HTCTrainingArguments(str(tmp_path / "out"), report_to="none", use_cpu=True, **options)
    return build_trainer(model, args, split() if dataset is None else dataset, evaluated, make_tokenizer() if tokenizer else None)


def scored(predictions, references, **options):
    scorer = HierarchicalScorer(make_tree().parents, **options)
    scorer.add(predictions, references)
    return scorer.compute()


IN_PYTHON = {
    # a name: (what is called with the model and a folder, what the error says)
    "predict a number": (lambda m, p: m.predict(3, make_tokenizer()), "Text|int|iter"),
    "predict a list of numbers": (lambda m, p: m.predict([3], make_tokenizer()), "Text 0"),
    "predict none": (lambda m, p: m.predict([None], make_tokenizer()), "Text 0"),
    "predict an empty text": (lambda m, p: m.predict(["a", " "], make_tokenizer()), "Text 1"),
    "predict bytes": (lambda m, p: m.predict([b"a"], make_tokenizer()), "Text 0"),
    "predict without tokenizer": (lambda m, p: m.predict("a", None), "tokenizer"),
    "top_k 0": (lambda m, p: m.predict("a", make_tokenizer(), top_k=0), "top_k"),
    "top_k true": (lambda m, p: m.predict("a", make_tokenizer(), top_k=True), "top_k"),
    "top_k 1.5": (lambda m, p: m.predict("a", make_tokenizer(), top_k=1.5), "top_k"),
    "batch_size 0": (lambda m, p: m.predict("a", make_tokenizer(), batch_size=0), "batch_size"),
    "threshold 2": (lambda m, p: m.predict("a", make_tokenizer(), threshold=2), "threshold"),
    "threshold nan": (lambda m, p: m.predict("a", make_tokenizer(), threshold=float("nan")), "threshold"),
    "threshold text": (lambda m, p: m.predict("a", make_tokenizer(), threshold="0.5"), "threshold"),
    "threshold list too short": (lambda m, p: m.predict("a", make_tokenizer(), threshold=[0.5]), "thresholds"),
    "closure": (lambda m, p: m.predict("a", make_tokenizer(), closure="down"), "closure"),
    "decoder": (lambda m, p: m.predict("a", make_tokenizer(), decoder="best"), "decoder"),
    "sets without calibration": (lambda m, p: m.predict_sets("a", make_tokenizer()), "calibrat"),
    "forward without input": (lambda m, p: m(), "input_ids"),
    "forward with two inputs": (
        lambda m, p: m(input_ids=torch.ones(1, 3, dtype=torch.long), inputs_embeds=torch.ones(1, 3, 16)), "inputs_embeds"),
    "forward too long": (lambda m, p: m(input_ids=torch.ones(1, 99, dtype=torch.long)), "99"),
    "narrow attention mask": (
        lambda m, p: m(input_ids=torch.ones(2, 5, dtype=torch.long), attention_mask=torch.ones(2, 3, dtype=torch.long)),
        "attention_mask"),
    "labels out of range": (
        lambda m, p: m(input_ids=torch.ones(1, 3, dtype=torch.long), labels=torch.tensor([[99]])), "99"),
    "labels twice": (lambda m, p: m(input_ids=torch.ones(1, 3, dtype=torch.long), labels=torch.tensor([[1, 1]])), "twice"),
    "integer multi-hot": (
        lambda m, p: m(input_ids=torch.ones(1, 3, dtype=torch.long), labels=torch.tensor([[0, 1] + [0] * 11])), "float"),
    "narrow multi-hot": (lambda m, p: m(input_ids=torch.ones(1, 3, dtype=torch.long), labels=torch.ones(1, 5)), "shape"),
    "multi-hot above 1": (lambda m, p: m(input_ids=torch.ones(1, 3, dtype=torch.long), labels=torch.full((1, 13), 2.0)), "0, 1"),
    "multi-hot nan": (
        lambda m, p: m(input_ids=torch.ones(1, 3, dtype=torch.long), labels=torch.full((1, 13), float("nan"))), "NaN"),
    "labels as a list": (lambda m, p: m(input_ids=torch.ones(1, 3, dtype=torch.long), labels=[[1]]), "tensor"),
    "statistics of nothing": (lambda m, p: m.set_label_statistics([]), "no documents"),
    "statistics out of range": (lambda m, p: m.set_label_statistics([[99]]), "99"),
    "statistics of names": (lambda m, p: m.set_label_statistics([["whether"]]), "whether"),
    "statistics of 0/1 integers": (lambda m, p: m.set_label_statistics([[0, 1] + [0] * 11]), "multi-hot|twice|float"),
    "save into a file": (lambda m, p: m.save_pretrained(file_in(p)), "file"),
    "hub.save into a file": (lambda m, p: save(m, make_tokenizer(), file_in(p)), "a_file"),
    "base_model without adapter": (lambda m, p: save(m, make_tokenizer(), p / "x", base_model="me/base"), "base_model"),
    "trainer without tokenizer": (lambda m, p: trainer_of(m, p, tokenizer=False), "tokenizer"),
    "trainer on a DatasetDict": (lambda m, p: trainer_of(m, p, DatasetDict({"train": split()})), "DatasetDict"),
    "trainer on nothing": (lambda m, p: trainer_of(m, p, split().select([])), "empty"),
    "trainer without text": (lambda m, p: trainer_of(m, p, split().rename_column("text", "body")), "'text'"),
    "trainer with wrong ids": (lambda m, p: trainer_of(make_model("flat", make_tree(), statistics=False), p, split(labels=[[0], [99]])), "99"),
    "trainer with negative ids": (lambda m, p: trainer_of(make_model("flat", make_tree(), statistics=False), p, split(labels=[[0], [-3]])), "-3"),
    "trainer with float labels": (lambda m, p: trainer_of(make_model("flat", make_tree(), statistics=False), p, split(labels=[[0.5], [1.0]])), "labels|multi-hot"),
    "trainer closure": (
        lambda m, p: build_trainer(m, HTCTrainingArguments(str(p / "out"), report_to="none"), split(), None, make_tokenizer(), closure="down"), "closure"),
    "label smoothing": (lambda m, p: HTCTrainingArguments(str(p / "out"), label_smoothing_factor=0.1), "label_smoothing_factor"),
    "negative rate": (lambda m, p: HTCTrainingArguments(str(p / "out"), classifier_learning_rate=-1.0), "classifier_learning_rate"),
    "patience": (lambda m, p: hf_htc.training.EitherMetricEarlyStopping(0), "patience"),
    "collator without input_ids": (lambda m, p: HTCDataCollator(make_tokenizer())([{"labels": [1]}]), "input_ids"),
    "collator mixed labels": (
        lambda m, p: HTCDataCollator(make_tokenizer())([{"input_ids": [1], "labels": [1]}, {"input_ids": [1], "labels": [0.0, 1.0]}]), "labels|Labels"),
    "collator names": (lambda m, p: HTCDataCollator(make_tokenizer())([{"input_ids": [1], "labels": ["a"]}]), "Labels|labels"),
    "collator half labelled": (
        lambda m, p: HTCDataCollator(make_tokenizer())([{"input_ids": [1], "labels": [1]}, {"input_ids": [1]}]), "1"),
    "collator twice": (lambda m, p: HTCDataCollator(make_tokenizer())([{"input_ids": [1], "labels": [3, 3]}]), "twice"),
    "an unknown method": (lambda m, p: hf_htc.model_class("flatt"), "flatt"),
    "an unknown option": (lambda m, p: hf_htc.config_class("flat")(text_config=make_encoder_config(), hierarchy=make_tree(), pooling="middle"), "pooling"),
    "a dropout of 1": (lambda m, p: hf_htc.config_class("flat")(text_config=make_encoder_config(), hierarchy=make_tree(), text_dropout=1.0), "text_dropout"),
    "from_text_encoder, no folder": (lambda m, p: hf_htc.model_class("flat").from_text_encoder(str(p / "none"), make_tree()), "none"),
    "from_text_encoder, unknown option": (
        lambda m, p: hf_htc.model_class("flat").from_text_encoder(str(p), make_tree(), node_dimm=3), "node_dimm"),
    "from_pretrained, no folder": (lambda m, p: hf_htc.model_class("flat").from_pretrained(str(p / "none")), "none"),
    "hierarchy without names": (lambda m, p: LabelHierarchy([], []), "label|name|node|empty"),
    "hierarchy with a cycle": (lambda m, p: LabelHierarchy(["a", "b"], [[1], [0]]), "cycle|'a'"),
    "hierarchy with a twin": (lambda m, p: LabelHierarchy(["a", "a"], [[], []]), "'a'"),
    "hierarchy with an empty name": (lambda m, p: LabelHierarchy(["a", ""], [[], []]), "empty|''"),
    "hierarchy with an unknown parent": (lambda m, p: LabelHierarchy(["a", "b"], [[], [7]]), "7"),
    "hierarchy with few parents": (lambda m, p: LabelHierarchy(["a", "b"], [[]]), "parents"),
    "hierarchy with a number as name": (lambda m, p: LabelHierarchy(["a", 3], [[], []]), "3"),
    "hierarchy with many labels": (lambda m, p: LabelHierarchy(["a"], [[]], 7), "7"),
    "paths with an empty segment": (lambda m, p: LabelHierarchy.from_paths(["a//b"]), "a//b"),
    "edges that name no label": (lambda m, p: LabelHierarchy.from_edges([("Root", "a")], labels=["b"]), "'b'"),
    "encode an unknown name": (lambda m, p: make_tree().encode([["whether"]]), "whether"),
    "decode an unknown id": (lambda m, p: make_tree().decode([[99]]), "99"),
    "close an unknown id": (lambda m, p: make_tree().close([[99]]), "99"),
    "an unknown label": (lambda m, p: make_tree().id("whether"), "whether"),
    "load nothing": (lambda m, p: load_htc_dataset(), "name_or_path"),
    "load both": (lambda m, p: load_htc_dataset("python_docs", train_file="x"), "python_docs"),
    "load an unknown data set": (lambda m, p: load_htc_dataset("nobody/none"), "nobody/none"),
    "validation_fraction 1": (lambda m, p: load_htc_dataset("python_docs", validation_fraction=1), "validation_fraction"),
    "closure of data": (lambda m, p: load_htc_dataset("python_docs", closure="down"), "closure"),
    "labels of data": (lambda m, p: load_htc_dataset("python_docs", labels="few"), "labels"),
    "no label column": (lambda m, p: load_htc_dataset(train_file="x", label_column=[]), "label_column"),
    "metric: unequal numbers": (lambda m, p: scored([[0]], [[0], [1]]), "1|2"),
    "metric: out of range": (lambda m, p: scored([[99]], [[0]]), "99"),
    "metric: twice": (lambda m, p: scored([[-5]], [[0]]), "-5"),
    "metric: closure": (lambda m, p: scored([[0]], [[0]], closure="down"), "closure"),
    "metric: unknown score": (lambda m, p: hf_score(average="mean"), "average"),
    "metric: unknown name": (lambda m, p: hf_score(predictions=[["x"]], references=[["a"]]), "x"),
    "metric: unknown metrics": (lambda m, p: hf_score(metrics=["accuracy"]), "accuracy"),
    "metric: beta": (lambda m, p: hf_score(beta=-1), "beta"),
    "metric: zero_division": (lambda m, p: hf_score(zero_division=7), "zero_division"),
    "metric: no taxonomy": (lambda m, p: hf_score(parents=None), "parents"),
    "metric: cycle": (lambda m, p: hf_score(parents={"a": ["b"], "b": ["a"]}), "cycle|'a'"),
    "register an unknown decoder": (lambda m, p: m.label_decoder("best"), "best"),
    "output_units of flat": (lambda m, p: hf_htc.evaluation.unit_view.unit_view(m, make_tokenizer(), "a", None), "flat|units"),
}  # fmt: skip


def hf_score(**options):
    from hf_htc.metrics.hierarchical_f1.hierarchical_f1 import HierarchicalF1

    given = {"predictions": [["a"]], "references": [["a"]], "parents": {"a": [], "b": ["a"]}, **options}
    return HierarchicalF1().compute(**given)


def file_in(folder):
    (folder / "a_file").write_text("x")
    return folder / "a_file"


@pytest.mark.parametrize("name", IN_PYTHON)
def test_in_python(model, tmp_path, name):
    call, says = IN_PYTHON[name]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(Exception) as caught:
        call(model, tmp_path)
    message = users_error(caught.value)
    assert message is not None, repr(caught.value)
    assert re.search(says, message), message
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert {path.name for path in tmp_path.iterdir()} <= {"a_file", "out"}
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_there_are_many():
    commands = len(DATA) * 2 + 2 * len(TAXONOMIES) + len(CHECKPOINTS) * len(COMMANDS_ON_CHECKPOINTS) + len(OPTIONS) + len(LINES)
    assert commands + len(list(ranged())) + len(IN_PYTHON) > 300
