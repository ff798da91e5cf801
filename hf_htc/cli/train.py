"""`hf-htc train`: from texts and a taxonomy to a checkpoint with card, manifest, predictions and report."""

import json
import os
import shlex
import signal
import sys
import time
from dataclasses import dataclass, field, fields
from pathlib import Path

from hf_htc.cli.common import DataArguments, naming, score_table, set_up_logging
from hf_htc.cli.parsing import given_options, option_parser, parse, show_help
from hf_htc.methods import METHODS
from hf_htc.models.errors import HTCError
from hf_htc.training.options import TrainingOptions


LOOPS = ("trainer", "accelerate")
EXIT_SIGTERM = 128 + signal.SIGTERM  # as of a program that SIGTERM ends; Ctrl-C gives 130


@dataclass
class RunArguments:
    """What is trained."""

    group = "model"

    method: str = field(default="flat", metadata={"help": lambda: f"The method: {', '.join(METHODS)}."})
    text_encoder: str | None = field(
        default=None, metadata={"help": "A pretrained encoder: whatever AutoModel.from_pretrained takes."}
    )
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the encoder's Hub repository."})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Let code run that lies in the encoder's repository; only of authors whom you trust."}
    )
    method_options: str | None = field(
        default=None, metadata={"help": "Options of the method's config as JSON, e.g. '{\"node_dim\": 100}'."}
    )
    max_length: int | None = field(
        default=None, metadata={"range": "[1, inf)", "help": "Cut texts at this many tokens; by default what the encoder takes."}
    )
    lora: bool = field(
        default=False, metadata={"help": "Train low-rank adapters of the encoder (PEFT) and the whole classifier."}
    )
    lora_rank: int = field(default=16, metadata={"range": "[1, inf)", "help": "Rank of the adapters."})
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"range": "[1, inf)", "help": "Stop when neither micro- nor macro-F1 has improved in this many evaluations."},
    )
    paper_settings: bool = field(
        default=False,
        metadata={
            "help": "Take the training settings that the method's paper states, as its page lists them; options that are given "
            "a value keep it."
        },
    )
    loop: str = field(
        default="trainer",
        metadata={
            "help": "'trainer': transformers' Trainer; 'accelerate': a loop on bare accelerate with the same results.",
        },
    )

    def hub_options(self):
        """How the text encoder is loaded: keywords of `from_pretrained`, those at their defaults left out."""
        given = {"revision": self.revision, "trust_remote_code": self.trust_remote_code}
        return {name: value for name, value in given.items() if value}


PROGRAM = "hf-htc train"
DESCRIPTION = "Trains a model, scores it and saves it with card, predictions and reports."
MORE = (
    "Every other option of transformers' TrainingArguments is one, too: `--help_all` shows them.\nOptions may also "
    "stand in a YAML file, given as first argument."
)
EXAMPLE = (
    "hf-htc train --method hiagm --text_encoder bert-base-uncased --train_file train.csv --label_separator ';' "
    "--path_separator / --output_dir my_model"
)


def run(arguments):
    show_help(arguments, [DataArguments, RunArguments, TrainingOptions], PROGRAM, f"{DESCRIPTION}\n{MORE}", EXAMPLE)
    from hf_htc.training import HTCTrainingArguments

    classes = [DataArguments, RunArguments, HTCTrainingArguments]
    show_help_all(arguments, classes, PROGRAM, DESCRIPTION)
    data, options, training = parse_with_paper_settings(classes, arguments, PROGRAM, DESCRIPTION)[0]
    set_up_logging()
    if options.loop not in LOOPS:
        raise HTCError(f"`--loop` is {options.loop!r}; it is {' or '.join(map(repr, LOOPS))}.")
    train(data, options, training, shlex.join(["hf-htc", "train", *public_arguments(arguments)]))


def show_help_all(arguments, classes, program, description):
    """Prints every option, those of the Trainer among them, and ends, where `--help_all` asks for it."""
    if {"--help_all", "--help-all"} & set(arguments):
        option_parser(classes, program, description).parse_args(["--help"])


def parse_with_paper_settings(classes, arguments, program, description):
    """
    As [`parse`]; where `--paper_settings` is given, the settings of the method's paper stand before the other options, which win.

    Returns:
        `tuple[list, list[str]]`: the instances, and the arguments that they were made from.

    Raises:
        [`HTCError`]: as [`parse`], and for a method without a paper.
    """
    instances = parse(classes, arguments, program, description)
    options = next(instance for instance in instances if isinstance(instance, RunArguments))
    if not options.paper_settings:
        return instances, arguments
    from hf_htc.training import paper_settings

    given = given_options(arguments, classes, program)
    settings = paper_settings(options.method)
    taken = {name: value for name, value in settings.items() if name not in given}
    kept = [name for name in settings if name in given]
    print(
        f"Of the paper of {options.method}: "
        + (", ".join(f"{name} {value}" for name, value in taken.items()) or "nothing")
        + (f"; yours: {', '.join(f'{name} {given[name]}' for name in kept)}" if kept else "")
        + ".",
        flush=True,
    )
    place = 1 if arguments[0].endswith((".yaml", ".yml")) else 0  # a file of options stays the first
    words = [word for name, value in taken.items() for word in (f"--{name}", str(value))]
    arguments = [*arguments[:place], *words, *arguments[place:]]
    return parse(classes, arguments, program, description), arguments


def train(data, options, training, command):
    """Trains, evaluates and saves; returns the run manifest."""
    from transformers import AutoTokenizer, set_seed

    import hf_htc
    from hf_htc.hub import save
    from hf_htc.hub.saving import save_run
    from hf_htc.models.saving import public_name
    from hf_htc.training import check_launch
    from hf_htc.training.launch import leave_group
    from hf_htc.training.loop_checkpoints import checkpoint_to_resume
    from hf_htc.training.manifest import run_manifest, source_commit

    check_launch(look_at_launcher=True)  # before the data is read
    source_commit()  # the code that runs, not what is committed by the end
    model_class = hf_htc.model_class(options.method)
    if options.text_encoder is None:
        raise HTCError(
            "`--text_encoder` is missing: name a pretrained encoder, e.g. `--text_encoder bert-base-uncased`. Without one, build "
            "an encoder from the training texts, `hf-htc textrcnn --output_dir textrcnn ...` with the same data options, and "
            "train with `--text_encoder textrcnn`."
        )
    method_options = _method_options(options.method_options)
    checkpoint_to_resume(training.resume_from_checkpoint, training.output_dir, options.loop)  # told before the data is read
    set_seed(training.seed)
    started = time.time()
    hub = options.hub_options()
    with naming("text encoder", options.text_encoder):
        tokenizer = AutoTokenizer.from_pretrained(options.text_encoder, **hub)
    dataset, hierarchy = loaded = data.load(seed=training.seed)
    if "train" not in dataset:
        raise HTCError(
            f"There is no training data; the splits are {list(dataset)}. Give `--train_file` or a `--dataset` with a train split."
        )
    print(
        f"{data.name()}: {hierarchy}; " + ", ".join(f"{split} {len(rows):,}" for split, rows in dataset.items()),
        flush=True,
    )
    model = model_class.from_text_encoder(
        options.text_encoder, hierarchy=hierarchy, tokenizer=tokenizer, hub_kwargs=hub, **method_options
    )
    if options.lora:
        from hf_htc.data import label_csr
        from hf_htc.training.lora import add_lora

        model.set_label_statistics(label_csr(dataset["train"]))
        model = add_lora(model, options.lora_rank)
    loaded_seconds = time.time() - started
    started = time.time()
    model, training, log_history, stopped_by, is_main_process = run_loop(model, training, dataset, tokenizer, options)
    seconds = {"load": round(loaded_seconds, 1), "train": round(time.time() - started, 1)}
    if stopped_by is not None:
        print("A checkpoint to go on from was written; go on with `--resume_from_checkpoint true`.", file=sys.stderr)
        if stopped_by == signal.SIGTERM:
            sys.exit(EXIT_SIGTERM)
        raise KeyboardInterrupt
    settings = {
        "text_encoder": Path(options.text_encoder).name,
        **_changed(options),
        **data.settings(),
        **method_options,
        **_changed(training, skip=("output_dir", "logging_dir", "run_name")),
    }
    leave_group()  # what follows is the first process's alone, and makes no training arguments, which would wait for the others
    if not is_main_process:
        return None

    if options.lora:
        model = model.merge_and_unload()  # a checkpoint that loads like any other

    def make_manifest(results):
        manifest = run_manifest(
            command,
            data.name(),
            dataset,
            loaded.hierarchy,
            settings,
            training.seed,
            public_name(options.text_encoder) or None,
            {split: result.scores for split, result in results.items()},
            seconds,
        )
        return {**manifest, "log": losses_and_scores(log_history)}

    # In the order of their worth: whatever fails, what was written before is there.
    folder = save(model, tokenizer, training.output_dir, run=make_manifest({}))
    results = evaluate_splits(model, tokenizer, dataset, training.per_device_eval_batch_size, folder.name)
    write_predictions(results, folder)
    seconds["total"] = round(seconds["load"] + time.time() - started, 1)
    manifest = make_manifest(results)
    save_run(model, folder, manifest)
    write_reports(results, folder, model, f"{options.method} on {data.name()}", log=manifest["log"])
    print("\n" + score_table([(f"{options.method}, {split}", result.scores) for split, result in results.items()]))
    print(f"\nSaved to {folder}: weights, tokenizer, README.md (model card), run.json, report and predictions.")
    return manifest


def run_loop(model, training, dataset, tokenizer, options):
    """
    Trains in the loop that was asked for.

    Returns:
        `tuple`: the model, the settings with the learning rates, the log, the signal that ended the training or `None`, and
        whether this process writes.
    """
    from hf_htc.training import EitherMetricEarlyStopping, build_trainer, train_with_accelerate
    from hf_htc.training.loop_checkpoints import checkpoint_to_resume
    from hf_htc.training.preparation import base_model, with_learning_rates

    training = with_learning_rates(training, base_model(model).config)
    splits = (dataset["train"], dataset.get("validation"), tokenizer)
    patience = options.early_stopping_patience
    if options.loop == "accelerate":
        result = train_with_accelerate(model, training, *splits, max_length=options.max_length, early_stopping=patience)
        stopped_by = (result.signal or signal.SIGINT) if result.interrupted else None
        return result.model, training, result.state.log_history, stopped_by, result.is_main_process
    callbacks = None if patience is None else [EitherMetricEarlyStopping(patience)]
    trainer = build_trainer(model, training, *splits, callbacks=callbacks, max_length=options.max_length)
    if trainer.is_fsdp_enabled:
        # The main process evaluates and saves alone, and would wait for the parts of the weights that others hold.
        raise HTCError("Weights spread by FSDP are trained with `--loop accelerate`, which brings them together at the end.")
    trainer.train(resume_from_checkpoint=checkpoint_to_resume(training.resume_from_checkpoint, training.output_dir, "trainer"))
    stopped_by = (trainer.interrupt_callback.signal or signal.SIGINT) if trainer.interrupted else None
    return model, training, trainer.state.log_history, stopped_by, trainer.is_world_process_zero()


def evaluate_splits(model, tokenizer, dataset, batch_size, checkpoint):
    """[`EvaluationResult`] of the validation and test splits, as far as they are there."""
    from hf_htc.evaluation.predictions import evaluate_model

    return {
        split: evaluate_model(model, tokenizer, dataset[split], batch_size=batch_size, checkpoint=checkpoint)
        for split in ("validation", "test")
        if split in dataset
    }


def losses_and_scores(log_history):
    """The entries of a training log that a manifest keeps, for the curves of a report."""
    return [entry for entry in log_history if "loss" in entry or "eval_loss" in entry]


def write_predictions(results, folder):
    """`predictions_<split>.jsonl` for every [`EvaluationResult`] of `results`, `dict` by split."""
    from hf_htc.data import documents

    for split, result in results.items():
        documents.write_predictions(result.records, Path(folder) / f"predictions_{split}.jsonl")


def write_reports(results, folder, model, title, **more):
    """`report_<split>.md` for every [`EvaluationResult`], then `report_<split>.html` where matplotlib is there; `more` as for
    [`build_report`]."""
    from importlib.util import find_spec

    from hf_htc.evaluation.report import build_report
    from hf_htc.models.whole_files import write_text

    hierarchy, counts = model.config.get_hierarchy(), model.config.label_counts
    for split, result in results.items():
        report = build_report(result, hierarchy, f"{title}, {split}", counts, **more)
        write_text(Path(folder) / f"report_{split}.md", report.to_markdown())
    if find_spec("matplotlib") is not None:
        for split, result in results.items():
            report = build_report(result, hierarchy, f"{title}, {split}", counts, figures=True, **more)
            write_text(Path(folder) / f"report_{split}.html", report.to_html())


def public_arguments(arguments):
    """Command-line arguments as a manifest may show them: local paths are cut to their last part, tokens are hidden."""
    shown, secret = [], False
    for argument in arguments:
        option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        shown.append(option + equals + ("***" if value and (secret or option.endswith("_token")) else public_value(value)))
        secret = not equals and option.endswith("_token")
    return shown


def public_value(value):
    """A setting as a manifest may show it: a local path is cut to its last part."""
    is_path = os.path.isabs(value) or value.startswith((".", "~")) or os.path.exists(value)
    return (Path(value).name or value) if is_path else value


def _method_options(text):
    if not text:
        return {}
    if isinstance(text, dict):  # from a YAML file
        return text
    try:
        options = json.loads(text)
    except ValueError as error:
        raise HTCError(f"`--method_options` is not valid JSON: {error}.") from error
    if not isinstance(options, dict):
        raise HTCError("`--method_options` must be a JSON object, e.g. '{\"node_dim\": 100}'.")
    return options


def _changed(arguments, skip=()):
    """The settings that differ from their defaults, and the learning rates."""
    default = type(arguments)() if type(arguments) is RunArguments else type(arguments)("out")
    changed = {}
    for f in fields(arguments):
        value = getattr(arguments, f.name)
        if f.name in ("method_options", "text_encoder", *skip) or f.name.endswith("_token") or not f.init:
            continue
        if value != getattr(default, f.name) or f.name in (
            "learning_rate",
            "per_device_train_batch_size",
            "num_train_epochs",
            "method",
        ):
            changed[f.name] = value if isinstance(value, (int, float, bool, type(None))) else public_value(str(value))
    return changed
