"""Search of a method's settings: Optuna around the training of a [`HTCTrainer`], on validation data only."""

import contextlib
import sqlite3
import statistics
import time
import zlib
from pathlib import Path

from accelerate.utils import release_memory
from transformers import TrainerCallback, set_seed
from transformers.trainer_utils import HPSearchBackend

from hf_htc.data import label_csr
from hf_htc.evaluation.fingerprint import check_same
from hf_htc.evaluation.streaming import score_names
from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError, HTCImportError, refusing
from hf_htc.training.arguments import own_copy
from hf_htc.training.callbacks import InterruptCallback
from hf_htc.training.preparation import base_model, optimizer_factory
from hf_htc.training.search_spaces import default_values, holds, method_part, suggest, training_part
from hf_htc.training.trainer import build_trainer


logger = get_logger(__name__)

STUDY_NAME = "hf_htc"


def import_optuna():
    """Optuna, without its own log lines. Raises `ImportError` that says how to install it."""
    try:
        import optuna
    except ImportError as error:
        raise HTCImportError("The search of settings needs Optuna, which is not installed: pip install 'hf_htc[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def objectives(hierarchy):
    """
    The scores that can be a trial's value: those of every evaluation, `"loss"`, and `"mean"`, that of micro- and macro-F1.

    Args:
        hierarchy ([`LabelHierarchy`]): Its levels have scores of their own.

    Returns:
        `dict`: `"maximize"` or `"minimize"` by name.
    """
    return {**dict.fromkeys(["mean", *score_names(hierarchy)], "maximize"), "loss": "minimize"}


def check_objective(objective, hierarchy):
    """The direction of an objective; raises [`HTCError`] with all of them for one that no evaluation gives."""
    known = objectives(hierarchy)
    if objective not in known:
        raise HTCError(f"`objective` is {objective!r}; allowed are {', '.join(map(repr, known))}.", field="objective")
    return known[objective]


@contextlib.contextmanager
def naming_study(study_file):
    """Turns what SQLite says of a study file into an error that names the file."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    with refusing(
        f"The study file {str(study_file)!r} cannot be used",
        (SQLAlchemyError, StorageInternalError, sqlite3.Error),
        mend="Is another search writing it? A damaged file is made anew with `--overwrite`, which loses its trials.",
    ):
        yield


def remove_study(study_file):
    """Removes a study file and what SQLite keeps beside it."""
    for ending in ("", "-journal", "-wal", "-shm"):
        Path(f"{study_file}{ending}").unlink(missing_ok=True)


def open_study(study_file=None, seed=42, pruning=False, settings=None, direction="maximize"):
    """
    A new study, or the one in a file, ready to go on.

    Trials that were cut off are done again, with the same values. What is drawn depends on the seed and the finished trials
    alone, see [`SamplerByTrial`]: a study that was interrupted at any moment and resumed has the trials of one that was not.

    Args:
        study_file (`str` or `Path`, *optional*): SQLite file, made where there is none; one process at a time. In memory by
            default.
        seed (`int`, *optional*, defaults to 42): Of the sampler.
        pruning (`bool`, *optional*, defaults to `False`): Stop trials that are behind the others, see [`MedianAtSameShare`].
        settings (`dict`, *optional*): The [`~hf_htc.evaluation.fingerprint.fingerprint`] of everything that makes trials
            comparable.
        direction (`str`, *optional*, defaults to `"maximize"`): Or `"minimize"`.

    Returns:
        `optuna.Study`

    Raises:
        `ImportError`: Optuna is not installed. `ValueError`: the trials in the file were made with other settings; the file is no
        study, is damaged or in use.
    """
    optuna = import_optuna()
    if study_file is None:
        return _opened(optuna, optuna.storages.InMemoryStorage(), "", seed, pruning, settings, direction)
    Path(study_file).parent.mkdir(parents=True, exist_ok=True)
    with naming_study(study_file):
        return _opened(optuna, f"sqlite:///{Path(study_file)}", Path(study_file).name, seed, pruning, settings, direction)


def _opened(optuna, storage, name, seed, pruning, settings, direction):
    study = optuna.create_study(
        storage=storage,
        study_name=STUDY_NAME,
        sampler=SamplerByTrial(seed),
        pruner=MedianAtSameShare() if pruning else optuna.pruners.NopPruner(),
        direction=direction,
        load_if_exists=True,
    )
    known = study.user_attrs.get("settings")
    if known is None and not study.trials:
        study.set_user_attr("settings", settings)
    elif settings is not None:
        check_same(known, settings, name)
    repeated = {trial.user_attrs.get("repeats") for trial in study.trials}
    for trial in study.trials:
        if trial.state.name == "RUNNING":  # its process is gone
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    for trial in study.trials:
        if is_cut_off(trial) and trial.number not in repeated:
            enqueue(study, {**trial.user_attrs.get("given", {}), **trial.params}, repeats=trial.number)
    return study


def enqueue(study, values, **attributes):
    """Has the next trial take values; they stay with it, also when it ends before it has asked for them."""
    study.enqueue_trial(values, user_attrs={"given": values, **attributes})


def is_cut_off(trial):
    """Whether a trial was ended from outside, by Ctrl-C or with its process; one that failed by itself says why."""
    return trial.state.name == "FAIL" and "reason" not in trial.user_attrs


def finished_trials(study):
    """Trials that count: complete, pruned or failed by themselves."""
    return [trial for trial in study.trials if trial.state.is_finished() and not is_cut_off(trial)]


def search(
    make_model,
    args,
    train_dataset,
    eval_dataset,
    tokenizer,
    space,
    study,
    trials=20,
    timeout=None,
    objective="micro_f1",
    callbacks=None,
    max_length=None,
    before_trial=None,
    first_model=None,
):
    """
    Runs trials until `trials` are finished, those in the study included.

    Every trial has a new model with label statistics of its own and starts from `args.seed`: two trials differ by their settings
    alone, and `hf-htc train` with a trial's settings and the same seed gives the trial's scores. The first trial has the values
    of `args` and of the method's defaults, as far as the space holds them. No checkpoint is written. A trial that fails is
    recorded with its reason, and the search goes on.

    A trial's value is that of the evaluation whose checkpoint `args` would keep: the one with the best
    `args.metric_for_best_model`, or the last one when `args.load_best_model_at_end` is off.

    Args:
        make_model (`Callable[[dict], HTCPreTrainedModel]`): A new model from options of the method's config.
        first_model (`HTCPreTrainedModel`, *optional*): `make_model({})`, where it was made already.
        args ([`HTCTrainingArguments`]): Settings that are not searched; not changed.
        train_dataset, eval_dataset (`datasets.Dataset`): Training and validation documents, as in [`build_trainer`].
        tokenizer (`PreTrainedTokenizer`): The text encoder's.
        space (`dict`): From [`~hf_htc.training.search_spaces.search_space`].
        study (`optuna.Study`): From [`open_study`].
        trials (`int`, *optional*, defaults to 20): Finished trials to have at the end.
        timeout (`float`, *optional*): Seconds after which no further trial begins.
        objective (`str`, *optional*, defaults to `"micro_f1"`): One of [`objectives`]; the study has its direction.
        callbacks (`list[TrainerCallback]`, *optional*), max_length (`int`, *optional*): As in [`build_trainer`].
        before_trial (`Callable[[], None]`, *optional*): Called when a trial begins.

    Returns:
        `optuna.trial.FrozenTrial`: the best trial.

    Raises:
        `ValueError`: an unknown objective, no validation data, several processes, or no trial that was complete.
    """
    import_optuna()
    if trials < 1:
        raise HTCError(f"`trials` is {trials}; it is at least 1.")
    if eval_dataset is None:
        raise HTCError("There is no validation data to choose settings on; give `--validation_file` or `--validation_fraction`.")
    if args.world_size > 1:
        raise HTCError(f"The search runs in one process, not in {args.world_size}; start it without a launcher.")
    first_model = make_model({}) if first_model is None else first_model
    direction = check_objective(objective, base_model(first_model).config.get_hierarchy())
    if study.direction.name.lower() != direction:
        raise HTCError(f"The study has the direction {study.direction.name.lower()!r}; {objective!r} needs {direction!r}.")
    watch, args = _Watch(args, objective, before_trial), own_copy(args)
    args.load_best_model_at_end, args.save_strategy = False, type(args.save_strategy)("no")
    trainer = build_trainer(
        first_model,
        args,
        train_dataset,
        eval_dataset,
        tokenizer,
        callbacks=[watch, *(callbacks or [])],
        max_length=max_length,
        optimizer_cls_and_kwargs=(TrialOptimizer, {"args": args}),
    )
    # What trials set is set in the Trainer's own settings.
    trainer.optimizer_cls_and_kwargs = (TrialOptimizer, {"args": trainer.args})
    # Its Ctrl-C ends one training with a checkpoint, and the next trial would begin.
    trainer.remove_callback(InterruptCallback)
    limit = base_model(trainer.model).config.max_text_length
    statistics_of_labels = label_csr(train_dataset)
    if not study.trials:
        enqueue(study, starting_values(space, trainer.args, base_model(trainer.model).config))

    def model_init(trial):
        # All values at once, so that also a trial whose model cannot be made is recorded with them.
        values = suggest(trial, space)
        model = make_model({name: values[name] for name in method_part(space)})
        base = base_model(model)
        base.config.max_text_length = limit
        if base.config.label_counts is None:
            base.set_label_statistics(statistics_of_labels)
        # As in a training of its own, where the Trainer is made after the model: the same dropout, the same order of documents.
        set_seed(args.seed)
        return model

    trainer.model_init = model_init
    # As `trainer.hyperparameter_search` sets them; it would make a study of its own.
    trainer.hp_search_backend = HPSearchBackend.OPTUNA
    trainer.hp_space = lambda trial: suggest(trial, training_part(space))
    trainer.compute_objective = watch.value_of
    left = trials - len(finished_trials(study))
    if left > 0:
        study.optimize(lambda trial: watch.run(trainer, trial), n_trials=left, timeout=timeout, catch=(Exception,))
    if not any(trial.state.name == "COMPLETE" for trial in study.trials):
        reasons = [trial.user_attrs["reason"] for trial in study.trials if "reason" in trial.user_attrs]
        raise HTCError(
            f"No trial was complete; {len(reasons)} failed" + (f", the last one because: {reasons[-1]}" if reasons else ".")
        )
    return study.best_trial


def starting_values(space, args, config):
    """The values that options have without a search, as far as the space holds them."""
    values = default_values(space, args, config)
    return {name: value for name, value in values.items() if holds(space[name], value)}


class SamplerByTrial:
    """
    An Optuna sampler: a tree-structured Parzen estimator that is made anew for every value, from the seed, the number of finished
    trials and the option's name.

    So a value depends on nothing that ends with a process. Optuna's own sampler goes on with one stream of random numbers, which
    a resumed study would begin again, and which values that are given beforehand shift.

    Args:
        seed (`int`): Of all values.
    """

    def __init__(self, seed):
        self.seed = seed

    def sample_independent(self, study, trial, param_name, param_distribution):
        """A value of one option."""
        import optuna

        seed = zlib.crc32(f"{self.seed} {len(finished_trials(study))} {param_name}".encode())
        sampler = optuna.samplers.TPESampler(seed=seed)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def infer_relative_search_space(self, study, trial):
        """Options that are drawn together: none."""
        return {}

    def sample_relative(self, study, trial, search_space):
        """Values of options that are drawn together: none."""
        return {}

    def before_trial(self, study, trial):
        """Nothing is prepared."""

    def after_trial(self, study, trial, state, values):
        """Nothing is kept."""

    def reseed_rng(self):
        """Nothing is drawn from a stream."""


class TrialOptimizer:
    """An optimizer factory that reads the settings when the optimizer is made: a trial sets them after the Trainer was made."""

    def __call__(self, model, *, args):
        factory, keywords = optimizer_factory(args, model)
        return factory()(model, **keywords)


class MedianAtSameShare:
    """
    An Optuna pruner: stops a trial whose value is worse than the median of the complete trials at the same share of training.

    Trials with other batch sizes or epochs have other numbers of steps, so that Optuna's own median pruner, which compares at
    equal steps, would find nothing to compare with.

    Args:
        min_trials (`int`, *optional*, defaults to 4): Complete trials before any is stopped.
    """

    def __init__(self, min_trials=4):
        self.min_trials = min_trials

    def prune(self, study, trial):
        steps, others = trial.user_attrs.get("steps"), []
        if not steps or trial.last_step is None:
            return False
        share = trial.last_step / steps
        for other in study.get_trials(deepcopy=False):
            if other.state.name != "COMPLETE":
                continue
            earlier = [step for step in other.intermediate_values if step <= share * other.user_attrs["steps"] + 1e-9]
            if earlier:
                others.append(other.intermediate_values[max(earlier)])
        sign = -1 if study.direction.name == "MINIMIZE" else 1
        value = trial.intermediate_values[trial.last_step]
        return len(others) >= self.min_trials and sign * value < sign * statistics.median(others)


class _Watch(TrainerCallback):
    """Follows one trial after the other: its value, its scores, its seconds, why it failed."""

    def __init__(self, args, objective, before_trial=None):
        self.names = ("micro_f1", "macro_f1") if objective == "mean" else (objective,)
        self.keeps_best = args.load_best_model_at_end
        metric = args.metric_for_best_model or "loss"
        self.metric = metric if metric.startswith("eval_") else f"eval_{metric}"
        self.sign = 1 if args.greater_is_better else -1
        self.before_trial = before_trial
        self.trial = None

    def value_of(self, metrics):
        """The trial's value after an evaluation."""
        if self.metric not in metrics:
            raise HTCError(f"`metric_for_best_model` is {self.metric!r}, which no evaluation gives; they give {sorted(metrics)}.")
        kept = self.sign * metrics[self.metric]
        if not self.keeps_best or self.best is None or kept > self.best:
            self.best = kept
            numbers = {key.removeprefix("eval_"): value for key, value in metrics.items() if isinstance(value, (int, float))}
            self.scores = {key: value for key, value in numbers.items() if not key.endswith(("runtime", "per_second"))}
        return sum(self.scores[name] for name in self.names) / len(self.names)

    def on_train_begin(self, args, state, control, **kwargs):
        self.trial.set_user_attr("steps", state.max_steps)

    def run(self, trainer, trial):
        """Trains once with the values of a trial and notes what becomes of it. Returns its value."""
        import optuna

        if self.before_trial is not None:
            self.before_trial()
        self.trial, self.best, self.scores = trial, None, {}
        # An evaluation that failed has left counts behind.
        trainer.compute_metrics.scorer.reset()
        trainer.objective = None
        begun, outcome = time.time(), "cut off"
        try:
            trainer.train(trial=trial)
            if trainer.objective is None:  # nothing was evaluated on the way
                trainer.objective = trainer.compute_objective(trainer.evaluate())
            outcome = f"{trainer.objective:.4f}"
            # The next trial has another model, and an optimizer of its own.
            trainer.model_wrapped, trainer.model = release_memory(trainer.model_wrapped, trainer.model)
            trainer.accelerator.clear()
            return trainer.objective
        except optuna.TrialPruned:
            outcome = "stopped early, behind the others"
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error.__cause__ or error}".split())
            trial.set_user_attr("reason", reason)
            outcome = f"failed, {reason}"
            raise
        finally:
            trial.set_user_attr("scores", self.scores)
            trial.set_user_attr("seconds", round(time.time() - begun, 1))
            values = ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                               for key, value in trial.params.items())  # fmt: skip
            logger.info(f"Trial {trial.number}: {outcome} ({values})")


def trial_records(study):
    """What became of every trial, JSON-able: number, state, value, options, scores, seconds, reason of a failure."""
    records = []
    for trial in study.trials:
        if trial.state.name == "WAITING":
            continue
        state = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "running"}.get(trial.state.name, "failed")
        record = {
            "number": trial.number,
            "state": "cut off" if is_cut_off(trial) else state,
            "value": trial.value if state == "complete" else None,
            "params": trial.params,
        }
        attributes = {key: trial.user_attrs[key] for key in ("scores", "seconds", "reason", "repeats") if key in trial.user_attrs}
        records.append({**record, **attributes})
    return records
