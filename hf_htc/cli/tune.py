"""`hf-htc tune`: searches a method's settings on the validation data and writes the best ones for `hf-htc train`."""

import json
import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path

from hf_htc.cli.common import DataArguments, naming, set_up_logging
from hf_htc.cli.parsing import given_options, show_help
from hf_htc.cli.train import (
    MORE,
    RunArguments,
    _changed,
    _method_options,
    parse_with_paper_settings,
    public_arguments,
    public_value,
    show_help_all,
)
from hf_htc.models.errors import HTCError
from hf_htc.models.whole_files import write_text
from hf_htc.training.options import TrainingOptions


@dataclass
class TuneArguments:
    """How the search goes; everything else is as in `hf-htc train`, and what is given a value there is not searched."""

    group = "search"

    trials: int = field(
        default=20, metadata={"range": "[1, inf)", "help": "Trials to have in the end, those of an earlier run included."}
    )
    timeout: float | None = field(
        default=None, metadata={"range": "(0, inf)", "help": "Begin no further trial after this many seconds."}
    )
    study_file: str | None = field(
        default=None,
        metadata={"help": "SQLite file of the trials, to go on from; by default study.db in `--output_dir`."},
    )
    objective: str = field(
        default="micro_f1",
        metadata={
            "help": "The validation score to raise: 'micro_f1', 'macro_f1', their 'mean', or any other that an evaluation gives, "
            "e.g. 'samples_f1' or 'level_2_micro_f1'; 'loss' is lowered."
        },
    )
    pruning: bool = field(
        default=False, metadata={"help": "Stop trials that are below the median of the others at the same share of training."}
    )
    search_space: str | None = field(
        default=None,
        metadata={
            "help": "YAML file that changes the method's search space, e.g. `learning_rate: {type: log_uniform, low: 1e-5, "
            "high: 1e-3}`; `null` takes an option out."
        },
    )
    overwrite: bool = field(default=False, metadata={"help": "Starts a new study in place of the one that is there."})


# What does not change a trial's scores, so that a search may go on with another value.
_FREE = ("output_dir", "run_name", "report_to", "disable_tqdm", "log", "save", "dataloader_num", "per_device_eval", "eval_accum")
_REFUSED = {
    "resume_from_checkpoint": "the search goes on by itself from its `--study_file`",
    "push_to_hub": "the search makes no checkpoint; push what `hf-htc train` makes of the best settings",
}


PROGRAM = "hf-htc tune"
DESCRIPTION = (
    "Searches a method's settings on the validation data. Options are those of `hf-htc train` and those of the search;\none "
    "with a value is not searched."
)
EXAMPLE = "hf-htc tune --method hiagm --trials 20 --text_encoder bert-base-uncased --train_file train.csv --output_dir tuned"


def run(arguments):
    light = [DataArguments, RunArguments, TuneArguments, TrainingOptions]
    show_help(arguments, light, PROGRAM, f"{DESCRIPTION}\n{MORE}", EXAMPLE)
    from hf_htc.training import HTCTrainingArguments

    classes = [DataArguments, RunArguments, TuneArguments, HTCTrainingArguments]
    show_help_all(arguments, classes, PROGRAM, DESCRIPTION)
    (data, options, tuning, training), all_arguments = parse_with_paper_settings(classes, arguments, PROGRAM, DESCRIPTION)
    set_up_logging()
    own = {"paper_settings", *(f.name for f in fields(TuneArguments))}  # whose values are given one by one
    given = {name: value for name, value in given_options(all_arguments, classes, PROGRAM).items() if name not in own}
    tune(data, options, tuning, training, given, shlex.join(["hf-htc", "tune", *public_arguments(arguments)]))


def tune(data, options, tuning, training, given, command):
    """
    Searches; writes `study.db`, `trials.json` and `best.yaml` into `--output_dir` and prints the command of the best trial.

    Args:
        data ([`DataArguments`]), options ([`RunArguments`]), tuning ([`TuneArguments`]), training ([`HTCTrainingArguments`])
        given (`dict`): The options that were given a value, from [`given_options`].
        command (`str`): For the manifest; without local paths.

    Returns:
        `dict`: the content of `trials.json`.
    """
    from transformers import AutoConfig, AutoTokenizer, set_seed

    import hf_htc
    from hf_htc.data import label_csr
    from hf_htc.evaluation.fingerprint import fingerprint
    from hf_htc.models.saving import public_name
    from hf_htc.training import EitherMetricEarlyStopping
    from hf_htc.training.manifest import peak_memory_gib, run_manifest
    from hf_htc.training.preparation import base_model
    from hf_htc.training.search_spaces import check_against_config, default_values, read_search_space, search_space
    from hf_htc.training.tuning import (
        check_objective,
        finished_trials,
        import_optuna,
        naming_study,
        open_study,
        remove_study,
        search,
        trial_records,
    )

    import_optuna()  # before anything takes time
    check_options(options, tuning, given)
    model_class, config_class = hf_htc.model_class(options.method), hf_htc.config_class(options.method)
    method_options = _method_options(options.method_options)
    changes = read_search_space(tuning.search_space) if tuning.search_space is not None else None
    fixed = {*given, *method_options}
    space = search_space(options.method, config_class, fixed=fixed, changes=changes)  # wrong files are told before data is read
    set_seed(training.seed)
    hub = options.hub_options()
    with naming("text encoder", options.text_encoder):
        tokenizer = AutoTokenizer.from_pretrained(options.text_encoder, **hub)
        text_config = AutoConfig.from_pretrained(options.text_encoder, **hub)
    dataset, hierarchy = data.load(seed=training.seed)
    direction = check_objective(tuning.objective, hierarchy)
    if "metric_for_best_model" not in given and tuning.objective != "mean":
        training.metric_for_best_model = given["metric_for_best_model"] = tuning.objective
        if direction == "minimize":
            training.greater_is_better = given["greater_is_better"] = False
    for split in ("train", "validation"):
        if split not in dataset:
            raise HTCError(f"There is no {split} data; the splits are {list(dataset)}. Give `--{split}_file`.")
    # The fingerprint is that of the whole data set, as in the manifest of a training; from here on there is no test split.
    manifest = run_manifest(
        command,
        data.name(),
        dataset,
        hierarchy,
        {
            "text_encoder": public_value(options.text_encoder),
            **_changed(options),
            **data.settings(),
            **method_options,
            **_changed(training, skip=("output_dir", "logging_dir", "run_name", *space)),
        },
        training.seed,
        public_name(options.text_encoder) or None,
    )
    train_split, validation_split = dataset["train"], dataset["validation"]
    del dataset
    print(f"{data.name()}: {hierarchy}; train {len(train_split):,}, validation {len(validation_split):,}", flush=True)
    train_labels = label_csr(train_split)

    def make_model(trial_options):
        model = model_class.from_text_encoder(
            options.text_encoder, hierarchy=hierarchy, tokenizer=tokenizer, hub_kwargs=hub, **{**method_options, **trial_options}
        )
        model.set_label_statistics(train_labels)
        if options.lora:
            from hf_htc.training.lora import add_lora

            model = add_lora(model, options.lora_rank)
        return model

    set_seed(training.seed)
    first_model = make_model({})
    config = base_model(first_model).config
    defaults = default_values(space, training, config)
    encoder_rate = getattr(text_config, "recommended_learning_rate", None)
    space = search_space(options.method, config_class, hierarchy.num_nodes, fixed, changes, encoder_rate, defaults)
    check_against_config(
        space, lambda **option: config_class(text_config=text_config, hierarchy=hierarchy, **{**method_options, **option})
    )
    output_dir = Path(training.output_dir)
    data_options = {f.name for f in fields(DataArguments)}
    study_file = Path(tuning.study_file or output_dir / "study.db")
    settings = fingerprint(
        {
            "command": "tune",
            "data": manifest["dataset"]["fingerprint"],
            "method": options.method,
            "objective": tuning.objective,
            "seed": training.seed,
            "pruning": tuning.pruning,
            "search_space": space,
            "method_options": method_options,
            **{
                name: public_value(value) if isinstance(value, str) else value
                for name, value in given.items()
                if name not in data_options and name != "method_options" and not name.startswith(_FREE)
            },
        },
        base_model(first_model),
        tokenizer,
    )
    if tuning.overwrite:
        remove_study(study_file)
        for name in ("trials.json", "best.yaml"):
            (output_dir / name).unlink(missing_ok=True)
    study = open_study(study_file, training.seed, tuning.pruning, settings, direction)
    kept = len(finished_trials(study))
    if kept:
        print(f"Trials there already: {kept}. The search goes on from them.", flush=True)

    def write_trials():
        complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
        content = {
            **manifest,
            "objective": tuning.objective,
            "search_space": space,
            "splits_used": ["train", "validation"],
            "best": study.best_trial.number if complete else None,
            "scores": {"validation": study.best_trial.user_attrs["scores"]} if complete else {},
            "peak_memory_gib": round(peak_memory_gib(), 3),
            "seconds": {"trials": round(sum(trial.user_attrs.get("seconds", 0) for trial in study.trials), 1)},
            "trials": trial_records(study),
        }
        write_text(output_dir / "trials.json", json.dumps(content, indent=1) + "\n")
        return content

    patience = options.early_stopping_patience
    with naming_study(study_file):
        try:
            best = search(
                make_model,
                training,
                train_split,
                validation_split,
                tokenizer,
                space,
                study,
                trials=tuning.trials,
                timeout=tuning.timeout,
                objective=tuning.objective,
                callbacks=[EitherMetricEarlyStopping(patience)] if patience else None,
                max_length=options.max_length,
                before_trial=write_trials,
                first_model=first_model,
            )
        except KeyboardInterrupt:
            print(f"Trials kept: {len(finished_trials(study))}. The same command goes on from them.", flush=True)
            raise
        finally:
            content = write_trials()
    settings = best_settings(given, method_options, best.params, output_dir / "best")
    write_yaml(settings, output_dir / "best.yaml")
    states = [record["state"] for record in content["trials"]]
    print(
        f"\n{len(states)} trials: "
        + ", ".join(f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed", "cut off") if state in states)
        + f". Best: trial {best.number}, {tuning.objective} {best.value:.4f} on validation data.\n"
    )
    print(train_command(settings))
    print(f"\nThe same settings are in {output_dir / 'best.yaml'}: hf-htc train {shlex.quote(str(output_dir / 'best.yaml'))}")
    return content


def check_options(options, tuning, given):
    """Raises `ValueError` for options that make no sense in a search."""
    if options.text_encoder is None:
        raise HTCError(
            "`--text_encoder` is missing: name a pretrained encoder, e.g. `--text_encoder bert-base-uncased`, or the folder that "
            "`hf-htc textrcnn` has made."
        )
    if options.loop != "trainer":
        raise HTCError(f"`--loop` is {options.loop!r}; the search runs in the Trainer, whose results are the same.")
    for name, instead in _REFUSED.items():
        if given.get(name):
            raise HTCError(f"`--{name}` is no option of a search: {instead}.")


def best_settings(given, method_options, params, output_dir):
    """The options of `hf-htc train` that repeat a trial, `dict` by name."""
    from hf_htc.training.search_spaces import TRAINING_OPTIONS

    settings = {name: value for name, value in given.items() if name != "method_options"}
    own = {**method_options, **{name: value for name, value in params.items() if name not in TRAINING_OPTIONS}}
    if own:
        settings["method_options"] = own
    settings.update({name: value for name, value in params.items() if name in TRAINING_OPTIONS})
    settings["output_dir"] = str(output_dir)
    return settings


def write_yaml(settings, path):
    import yaml

    write_text(path, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def train_command(settings):
    """`hf-htc train ...` with these settings, quoted for a shell."""
    words = ["hf-htc", "train"]
    data_options = {f.name for f in fields(DataArguments)}
    for name, value in settings.items():
        if isinstance(value, list) and name not in data_options:
            words += [f"--{name}", *map(str, value)]
            continue
        text = (
            json.dumps(value) if isinstance(value, (dict, bool)) else ",".join(value) if isinstance(value, list) else str(value)
        )
        words += [f"--{name}", text]
    return shlex.join(words)
