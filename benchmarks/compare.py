"""Trains several methods on one data set with default settings and puts them beside a linear SVM.

    python benchmarks/compare.py DATA_FOLDER --text_encoder ENCODER --max_length 128 --epochs 3 --output results/NAME.json

`DATA_FOLDER` is whatever `load_htc_dataset` takes. `--text_encoder textrcnn` builds a TextRCNN from the training texts, once for
each of `--word_vectors` (`corpus`, `random`, a file in GloVe's format). The SVM is fitted twice: on the texts cut at the same
number of tokens, and on the whole texts. `--shuffle_labels` trains on labels dealt to the wrong documents: what is left is the
label prior.
Results (scores, settings, versions, times) go to the output file, one entry a run; a finished run is not run again.
"""

import argparse
import json
import re
import shlex
import time
from pathlib import Path

import numpy as np
import torch
from datasets import DatasetDict
from transformers import AutoTokenizer, set_seed

import hf_htc
from hf_htc.cli.common import score_table, set_up_logging
from hf_htc.data import label_csr
from hf_htc.evaluation.baselines import svm_baseline
from hf_htc.evaluation.predictions import evaluate_model
from hf_htc.evaluation.ranking import ranking_scores
from hf_htc.training import HTCTrainingArguments, build_trainer
from hf_htc.training.manifest import run_manifest, source_commit
from hf_htc.training.word_vectors import build_text_rcnn


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--text_encoder", required=True)
    parser.add_argument("--encoder_name", default=None, help="the encoder's public name, for the results")
    parser.add_argument("--methods", nargs="+", default=["svm", "flat", "hiagm"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--word_vectors", nargs="+", default=["corpus"], help="of a TextRCNN: corpus, random or a file")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=None)
    parser.add_argument("--classifier_learning_rate", type=float, default=None)
    parser.add_argument("--sampling", default="random", help="random or group_by_length")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16 in training and evaluation")
    parser.add_argument("--method_options", default="{}", help="options of the method's config as JSON")
    parser.add_argument("--label", default="", help="said behind the method in the results, e.g. of --method_options")
    for split in ("train", "validation", "test"):
        parser.add_argument(f"--{split}_documents", type=int, default=None, help="draw this many, by the seed")
    parser.add_argument("--shuffle_labels", action="store_true")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--work", default="runs/compare")
    options = parser.parse_args(arguments)
    set_up_logging()
    source_commit()  # the code that runs, not what is committed by the end
    loaded = hf_htc.load_htc_dataset(options.dataset)
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    for seed in options.seeds:
        dataset = prepare(loaded.dataset, options, seed)
        for method in options.methods:
            if method == "svm":
                runs = [("svm", options.word_vectors[0]), ("svm, whole texts", None)]
            elif options.text_encoder == "textrcnn":
                runs = [(f"{method}{options.label}, {Path(kind).name} vectors", kind) for kind in options.word_vectors]
            else:
                runs = [(method + options.label, None)]
            for name, vectors in runs:
                key = f"{name}{', shuffled labels' if options.shuffle_labels else ''}, seed {seed}"
                if key in results:
                    continue
                started = time.time()
                if method == "svm":
                    scores, settings, log = run_svm(name, dataset, loaded.hierarchy, options, seed)
                else:
                    encoder = text_encoder(dataset, options, seed, vectors)
                    scores, settings, log = run_method(method, key, encoder, dataset, loaded.hierarchy, options, seed)
                manifest = run_manifest(
                    command(options, parser, method, seed, vectors),
                    Path(options.dataset).name, dataset, loaded.hierarchy, settings, seed,
                    "TextRCNN" if options.text_encoder == "textrcnn" else options.encoder_name, scores,
                    {"total": round(time.time() - started, 1)},
                )  # fmt: skip
                results[key] = {**manifest, "log": log}
                options.output.parent.mkdir(parents=True, exist_ok=True)
                options.output.write_text(json.dumps(results, indent=1) + "\n")
                print(
                    score_table([(f"{k}, {split}", s) for k, r in results.items() for split, s in r["scores"].items()]),
                    flush=True,
                )


def command(options, parser, method, seed, vectors):
    """The command of one run; text encoder, output and work folders are left to the reader."""
    parts = [f"python benchmarks/compare.py {Path(options.dataset).name} --max_length {options.max_length}"]
    parts.append(f"--epochs {options.epochs} --methods {method} --seeds {seed}")
    keys = ["train_documents", "validation_documents", "test_documents"]
    if method != "svm":
        keys += ["batch_size", "learning_rate", "classifier_learning_rate", "sampling", "method_options", "label"]
        if options.text_encoder == "textrcnn":
            parts.append(f"--text_encoder textrcnn --word_vectors {Path(vectors).name}")
    parts += [
        f"--{key} {shlex.quote(str(getattr(options, key)))}" for key in keys if getattr(options, key) != parser.get_default(key)
    ]
    flags = [f"--{flag}" for flag in ("bf16", "shuffle_labels") if getattr(options, flag) and (flag != "bf16" or method != "svm")]
    return " ".join(parts + flags)


def prepare(dataset, options, seed):
    """The splits of one run: cut to `--train_documents` and the like, labels dealt anew for `--shuffle_labels`."""
    dataset = DatasetDict(dataset)
    for split in dataset:
        limit = getattr(options, f"{split}_documents")
        if limit is not None and limit < len(dataset[split]):
            dataset[split] = dataset[split].shuffle(seed=seed).select(range(limit))
    if options.shuffle_labels:
        order = np.random.default_rng(seed).permutation(len(dataset["train"]))
        labels = dataset["train"]["labels"]
        features = dataset["train"].features["labels"]
        dataset["train"] = (
            dataset["train"].remove_columns("labels").add_column("labels", [labels[i] for i in order], feature=features)
        )
    return dataset


def text_encoder(dataset, options, seed, vectors=None):
    """Folder or name of the text encoder; a TextRCNN is built from the training texts and kept."""
    if options.text_encoder != "textrcnn":
        return options.text_encoder
    name = f"textrcnn-{Path(options.dataset).name}-{len(dataset['train'])}-{options.max_length}-{Path(vectors).name}-{seed}"
    folder = Path(options.work) / name
    if not (folder / "config.json").exists():
        set_seed(seed)
        encoder, tokenizer = build_text_rcnn(dataset["train"]["text"], vectors, max_length=options.max_length, seed=seed)
        tokenizer.save_pretrained(folder)
        encoder.save_pretrained(folder)
    return str(folder)


def run_svm(name, dataset, hierarchy, options, seed):
    if name == "svm":
        tokenizer = AutoTokenizer.from_pretrained(text_encoder(dataset, options, seed, options.word_vectors[0]))

        def cut(rows):
            offsets = tokenizer(rows["text"], truncation=True, max_length=options.max_length, return_offsets_mapping=True)[
                "offset_mapping"
            ]
            return {"text": [text[: max(end for _, end in spans)] for text, spans in zip(rows["text"], offsets)]}

        dataset = dataset.map(cut, batched=True)
    closed = hierarchy.is_closed(dataset["train"]["labels"])
    scores = svm_baseline(dataset, hierarchy, "up" if closed else "none", seed=seed)
    return scores, {"max_length": options.max_length if name == "svm" else None}, []


def run_method(method, key, encoder, dataset, hierarchy, options, seed):
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    own = json.loads(options.method_options)
    model = hf_htc.model_class(method).from_text_encoder(encoder, hierarchy=hierarchy, tokenizer=tokenizer, **own)
    folder = f"{options.work}/{Path(options.dataset).name}-{re.sub('[^a-z0-9]+', '-', key)}"
    args = HTCTrainingArguments(
        folder, num_train_epochs=options.epochs, seed=seed,
        logging_steps=20, save_only_model=True, save_total_limit=1, eval_strategy="epoch",
        per_device_train_batch_size=options.batch_size, learning_rate=options.learning_rate,
        classifier_learning_rate=options.classifier_learning_rate, train_sampling_strategy=options.sampling,
        bf16=options.bf16, use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    trainer = build_trainer(model, args, dataset["train"], dataset["validation"], tokenizer, max_length=options.max_length)
    trainer.train()
    with torch.autocast(model.device.type, torch.bfloat16, enabled=options.bf16):
        results = {split: evaluate_model(model, tokenizer, dataset[split]) for split in ("validation", "test")}
    write_predictions(results["test"].records, hierarchy, options.output, key)
    scores = {split: {**result.scores, **ranking(result, dataset[split], hierarchy)} for split, result in results.items()}
    settings = {
        key: getattr(trainer.args, key)
        for key in ("learning_rate", "classifier_learning_rate", "per_device_train_batch_size", "num_train_epochs")
    }
    settings.update(own, train_sampling_strategy=options.sampling)
    settings.update(
        max_length=options.max_length, bf16=options.bf16, pooling=model.config.pooling, threads=torch.get_num_threads()
    )
    if hasattr(model.config, "mlm_head"):
        settings["pretrained_mlm_head"] = model.config.mlm_head == "pretrained"
    log = [{k: v for k, v in entry.items() if k in ("step", "epoch", "loss", "eval_loss", "eval_micro_f1", "eval_macro_f1")}
           for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]  # fmt: skip
    return scores, settings, log


def ranking(result, documents, hierarchy):
    """R@5 and nDCG@5 of the ten best labels that every record keeps."""
    ranked = [[hierarchy.id(name) for name, _ in record["top_k"]] for record in result.records]
    gold = label_csr(documents)
    return ranking_scores(ranked, hierarchy.close(gold) if result.scores["closure"] == "up" else gold, hierarchy.num_labels)


def write_predictions(records, hierarchy, output, key):
    """Predicted label ids of the test documents, for `significance.py`: a CSR pair beside the result file."""
    labels = [sorted(hierarchy.id(name) for name in record["labels"]) for record in records]
    indptr = np.cumsum([0, *map(len, labels)])
    file = prediction_file(output, key)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, indptr=indptr.astype(np.int32), indices=np.concatenate(labels).astype(np.int32))


def prediction_file(output, key):
    """Where the predictions of the run `key` of a result file are."""
    return output.parent / "predictions" / output.stem / (re.sub("[^a-z0-9]+", "-", key.lower()).strip("-") + ".npz")


if __name__ == "__main__":
    main()
