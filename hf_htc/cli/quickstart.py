"""`hf-htc quickstart`: the whole way once, without a download. Builds a TextRCNN text encoder with word vectors of the training
texts, trains a flat model and HiAGM on it, puts them beside a linear SVM, saves, reloads in a new process and predicts."""

import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from hf_htc.cli.common import DataArguments, parse, score_table, set_up_logging
from hf_htc.models.whole_files import whole_folder_update


SENTENCES = [
    "Wait until the task is done and return its result; raise an exception if the coroutine was cancelled.",
    "Parse the header of an email message and return the list of addresses in it.",
    "Return a decimal number rounded to the precision of the current context.",
]
# Chosen on the validation split; an encoder without pretraining takes a higher rate than a pretrained one, and a narrow node
# dimension is enough for it.
EPOCHS = 9.0
SETTINGS = {
    "text_encoder": {"word_vectors": "corpus", "max_length": 128},
    "learning_rate": 4e-3,
    "classifier_learning_rate": {"flat": 5e-3, "hiagm": 1e-3},
    "options": {"flat": {}, "hiagm": {"node_dim": 64, "transformation_dropout": 0.2}},
}

# What a stranger would type: two imports, one load, one call.
RELOAD = """
import json, sys
import hf_htc
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, sentences = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForSequenceClassification.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
for sentence, found in zip(sentences, model.predict(sentences, tokenizer)):
    print(sentence)
    for path in found["paths"] or [["(no label above the threshold)"]]:
        print("   " + " > ".join(path))
"""


@dataclass
class QuickstartArguments:
    """What is trained, and where it goes."""

    output_dir: str = field(default="quickstart", metadata={"help": "Folder of the checkpoint."})
    dataset: str = field(default="python_docs", metadata={"help": "A built-in data set or a data set folder."})
    epochs: float = field(default=EPOCHS, metadata={"range": "(0, inf)", "help": "Epochs of each model."})
    seed: int = field(default=42, metadata={"range": "[0, 4294967295]", "help": "Of everything random."})


def run(arguments):
    (options,) = parse(
        [QuickstartArguments], arguments, "hf-htc quickstart", __doc__.split(": ", 1)[1], "hf-htc quickstart --output_dir first"
    )
    set_up_logging()
    quickstart(Path(options.output_dir), options.dataset, options.epochs, options.seed)


def quickstart(output_dir, dataset_name, epochs, seed):
    from transformers import set_seed

    import hf_htc
    from hf_htc.cli.train import evaluate_splits, losses_and_scores, write_predictions, write_reports
    from hf_htc.evaluation.baselines import svm_baseline
    from hf_htc.hub import save
    from hf_htc.training import HTCTrainingArguments, build_trainer
    from hf_htc.training.manifest import run_manifest
    from hf_htc.training.word_vectors import build_text_rcnn

    started = time.time()
    dataset, hierarchy = loaded = hf_htc.load_htc_dataset(dataset_name)
    dataset_name = DataArguments(dataset_name).name()
    print(f"{dataset_name}: {hierarchy}; " + ", ".join(f"{split} {len(rows):,}" for split, rows in dataset.items()))
    print(hierarchy.tree(max_nodes=15) + "\n", flush=True)
    begun = time.time()
    set_seed(seed)
    encoder, tokenizer = build_text_rcnn(dataset["train"]["text"], seed=seed, **SETTINGS["text_encoder"])
    encoder_folder = str(output_dir / "checkpoints" / "textrcnn")
    with whole_folder_update(encoder_folder) as partial:
        encoder.save_pretrained(partial)
    rows, seconds = [], {"load": round(begun - started, 1), "text_encoder": round(time.time() - begun, 1)}
    print(f"TextRCNN with {len(tokenizer):,} words and word vectors of the training texts: {seconds['text_encoder']:.0f} seconds")
    for method in ("flat", "hiagm"):
        print(f"\nTraining {method}, {epochs:g} epochs", flush=True)
        set_seed(seed)
        begun = time.time()
        model = hf_htc.model_class(method).from_text_encoder(
            encoder_folder, hierarchy=hierarchy, tokenizer=tokenizer, **SETTINGS["options"][method]
        )
        args = HTCTrainingArguments(
            str(output_dir / "checkpoints" / method),
            num_train_epochs=epochs,
            learning_rate=SETTINGS["learning_rate"],
            classifier_learning_rate=SETTINGS["classifier_learning_rate"][method],
            train_sampling_strategy="group_by_length",
            logging_steps=50,
            save_total_limit=1,
            seed=seed,
        )
        trainer = build_trainer(model, args, dataset["train"], dataset["validation"], tokenizer)
        trainer.train()
        results = evaluate_splits(model, tokenizer, dataset, args.per_device_eval_batch_size, output_dir.name)
        seconds[method] = round(time.time() - begun, 1)
        rows.append((method, results["test"].scores))
    try:
        closure = rows[-1][1]["closure"]
        rows.append(("TF-IDF + linear SVM", svm_baseline(dataset, hierarchy, closure, splits=("test",))["test"]))
    except ImportError as error:
        print(error)
    manifest = run_manifest(
        "hf-htc quickstart",
        dataset_name,
        dataset,
        loaded.hierarchy,
        {
            "epochs": epochs,
            **{k: v.get(method, v) if isinstance(v, dict) else v for k, v in SETTINGS.items()},
        },
        seed,
        None,
        {split: result.scores for split, result in results.items()},
        {**seconds, "total": round(time.time() - started, 1)},
    )
    manifest["comparison"] = {name: {key: value for key, value in scores.items() if "f1" in key} for name, scores in rows}
    manifest["log"] = losses_and_scores(trainer.state.log_history)
    folder = save(model, tokenizer, output_dir, run=manifest, example_text=SENTENCES[0])
    write_predictions(results, folder)
    write_reports(results, folder, model, f"HiAGM on {dataset_name}", log=manifest["log"])
    print(f"\nTest scores (closure {closure}):\n" + score_table(rows))
    print(f"\nSaved to {folder}: weights, tokenizer, README.md (model card), run.json, report and predictions.")
    print("\nReloaded in a new process through AutoModelForSequenceClassification:\n", flush=True)
    reload_and_predict(folder)
    print(f"\n{time.time() - started:.0f} seconds in all.")


def reload_and_predict(folder):
    """Loads the checkpoint in a fresh process, as a reader of the Hub would, and prints the paths of three sentences."""
    import json

    subprocess.run([sys.executable, "-c", RELOAD, str(folder), json.dumps(SENTENCES)], check=True)
