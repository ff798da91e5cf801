"""Search spaces of `hf-htc tune`: one dict per method ([`MethodInfo`]), typed ranges by the name of an option.

An entry is `{"type": "log_uniform" | "uniform" | "integer", "low": ..., "high": ...}`, both ends included, or
`{"type": "categorical", "choices": [...]}`. Options are those of the method's config and those of the training arguments in
`TRAINING_OPTIONS`. A YAML file with the same entries adds to a method's space or replaces parts of it; `null` takes an option
out.
"""

import difflib
import math
from pathlib import Path

from hf_htc.methods import METHODS
from hf_htc.models.errors import HTCError, HTCFileNotFoundError, refusing


# What a trial can set after the Trainer was made, and the kind of its values.
TRAINING_OPTIONS = {
    "learning_rate": "number",
    "classifier_learning_rate": "number",
    "weight_decay": "number",
    "warmup_steps": "number",
    "max_grad_norm": "number",
    "adam_beta1": "number",
    "adam_beta2": "number",
    "adam_epsilon": "number",
    "num_train_epochs": "number",
    "per_device_train_batch_size": "integer",
    "gradient_accumulation_steps": "integer",
    "lr_scheduler_type": "schedule",
}
# Options of a config that say what the model is or was trained on, not how well it may learn.
_NOT_SEARCHED = {
    "text_config",
    "hierarchy",
    "label_closure",
    "thresholds",
    "conformal",
    "coding_tree",
    "coding_trees",
    "max_text_length",
    "label_counts",
    "num_train_documents",
    "hf_htc_version",
}

# Above as many nodes a config chooses the width by itself, so that the model stays small enough to train.
_LARGE_HIERARCHY = 2000


def search_space(method, config_class, num_nodes=0, fixed=(), changes=None, encoder_rate=None, defaults=None):
    """
    The space of a method: its own one, around the defaults, without what is fixed, with the changes of the user.

    Args:
        method (`str`): The method's short name.
        config_class (`type`): The method's config class, whose fields can be searched.
        num_nodes (`int`, *optional*, defaults to 0): Nodes of the hierarchy; above 2,000 `node_dim` is left to the config.
        fixed (`Iterable[str]`, *optional*): Options that the user has given a value.
        changes (`dict`, *optional*): Entries that add or replace; `None` instead of an entry takes the option out.
        encoder_rate (`float`, *optional*): The learning rate that the text encoder's config recommends (TextRCNN's does); the
            method's range, made for pretrained transformers, becomes one around it.
        defaults (`dict`, *optional*): The value that every option has without a search, from [`default_values`]. An entry of the
            method's own space that does not hold it grows so far; one whose option has no value in this model is left out.
            Entries of the user stay as they are.

    Returns:
        `dict`

    Raises:
        `ValueError`: an option that cannot be searched (close names are given), one that is fixed as well, a bad entry, nothing
        left to search.
    """
    space = {name: entry for name, entry in METHODS[method].search_space.items() if name not in set(fixed)}
    if num_nodes > _LARGE_HIERARCHY:
        space.pop("node_dim", None)
    if encoder_rate is not None and "learning_rate" in space:
        space["learning_rate"] = {"type": "log_uniform", "low": encoder_rate / 10, "high": 5 * encoder_rate}
    if defaults is not None:
        space = {name: grown(entry, defaults[name]) for name, entry in space.items() if defaults.get(name) is not None}
    known = searchable(config_class)
    for name, entry in (changes or {}).items():
        if name not in known:
            close = difflib.get_close_matches(str(name), sorted(known), n=3)
            raise HTCError(
                f"The search space has the option {name!r}, which cannot be searched."
                + (f" Did you mean {close}?" if close else f" Options: {sorted(known)}.")
            )
        if entry is None:
            space.pop(name, None)
        elif name in fixed:
            raise HTCError(f"`{name}` has a value and an entry in the search space; leave out one of the two.")
        else:
            space[name] = entry
    if not space:
        raise HTCError("Nothing is left to search: every option of the search space has a value or was taken out.")
    return {name: checked_entry(name, entry) for name, entry in space.items()}


def default_values(names, args, config):
    """
    The values that options have without a search.

    Args:
        names (`Iterable[str]`): Options of a search space.
        args ([`HTCTrainingArguments`]): A learning rate that is left open is the method's recommendation.
        config ([`HTCConfig`]): Of a model on the encoder that is trained, so that no option is `"auto"` any more.

    Returns:
        `dict`: by option; `None` for one that the model does not have.
    """
    values = {}
    for name in names:
        value = getattr(args if name in TRAINING_OPTIONS else config, name, None)
        if value is None and name in TRAINING_OPTIONS:
            value = config.recommended_training.get(name)
        values[name] = getattr(value, "value", value)  # an enum of transformers
    return values


def grown(entry, value):
    """An entry that holds a value: as it is, or grown up to it. What is no number fits into no range."""
    if holds(entry, value):
        return entry
    if entry["type"] == "categorical":
        choices = [*entry["choices"], value]
        are_numbers = all(isinstance(choice, (int, float)) and not isinstance(choice, bool) for choice in choices)
        return {"type": "categorical", "choices": sorted(choices) if are_numbers else choices}
    if isinstance(value, (str, bool)):
        return {"type": "categorical", "choices": [value]}
    kind = entry["type"]
    if (kind == "log_uniform" and value <= 0) or (kind == "integer" and value != int(value)):
        kind = "uniform"
    return {"type": kind, "low": min(entry["low"], value), "high": max(entry["high"], value)}


def searchable(config_class):
    """Names of all options that a search space may hold."""
    from transformers import PreTrainedConfig

    fields = {name for name in config_class.__dataclass_fields__ if not name.startswith("_")}
    return (fields - set(PreTrainedConfig.__dataclass_fields__) - _NOT_SEARCHED) | set(TRAINING_OPTIONS)


def read_search_space(path):
    """
    The entries of a YAML file.

    Raises:
        `FileNotFoundError`: there is no such file. `ValueError`: it holds no `option: entry` lines.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise HTCFileNotFoundError(f"There is no search space file {str(path)!r}.")
    with refusing(f"{path.name!r} is not valid YAML", (yaml.YAMLError, UnicodeDecodeError, RecursionError)):
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(content, dict):
        raise HTCError(
            f"{path.name!r} must hold `option: entry` lines, e.g. `learning_rate: {{type: log_uniform, low: 1e-5, high: 1e-3}}`; "
            f"it holds a {type(content).__name__}."
        )
    return content


def checked_entry(name, entry):
    """
    An entry with its numbers as numbers (YAML 1.1 reads `1e-4` as a string).

    Raises:
        `ValueError`: an unknown type, a missing or unknown key, ends that are no numbers or in the wrong order, values that the
        option cannot have.
    """
    keys = {kind: {"low", "high"} for kind in ("log_uniform", "uniform", "integer")} | {"categorical": {"choices"}}
    kind = entry.get("type") if isinstance(entry, dict) else None
    if kind not in keys:
        raise HTCError(
            f"The search space of `{name}` is {entry!r}; give a `type`, one of {', '.join(map(repr, keys))}, and its values, "
            "e.g. `{type: uniform, low: 0, high: 0.5}` or `{type: categorical, choices: [16, 32]}`."
        )
    for key in sorted(keys[kind] ^ (set(entry) - {"type"})):
        state = "lacks" if key in keys[kind] else "has the unknown key"
        close = difflib.get_close_matches(str(key), sorted(keys[kind]), n=1)
        raise HTCError(
            f"The search space of `{name}` {state} {key!r}; {kind!r} has {sorted(keys[kind])}."
            + (f" Did you mean {close[0]!r}?" if state != "lacks" and close else "")
        )
    if kind == "categorical":
        checked = {"type": kind, "choices": _choices(name, entry["choices"])}
    else:
        low, high = (_number(name, key, entry[key], kind == "integer") for key in ("low", "high"))
        if not low < high:
            raise HTCError(f"The search space of `{name}` goes from {low} to {high}; `low` must be less than `high`.")
        if kind == "log_uniform" and low <= 0:
            raise HTCError(f"The search space of `{name}` begins at {low}; 'log_uniform' begins above 0.")
        checked = {"type": kind, "low": low, "high": high}
    _check_training_values(name, checked)
    return checked


def _choices(name, choices):
    if not isinstance(choices, list) or not choices or not all(isinstance(c, (str, int, float, bool)) for c in choices):
        raise HTCError(f"The `choices` of `{name}` are {choices!r}; give a list of numbers, words or true/false.")
    if len({repr(choice) for choice in choices}) < len(choices):
        raise HTCError(f"The `choices` of `{name}` hold a value twice: {choices}.")
    return [_as_number(choice) if isinstance(choice, str) else choice for choice in choices]


def _number(name, key, value, whole):
    number = _as_number(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
        raise HTCError(f"`{key}` in the search space of `{name}` is {value!r}; it must be a number.")
    if whole and number != int(number):
        raise HTCError(f"`{key}` in the search space of `{name}` is {value!r}; 'integer' needs whole numbers.")
    return int(number) if whole else float(number)


def _as_number(text):
    try:
        return float(text)
    except ValueError:
        return text


def _check_training_values(name, entry):
    """The options of a config are checked by the config itself, see [`check_against_config`]."""
    kind = TRAINING_OPTIONS.get(name)
    if kind is None:
        return
    from transformers import SchedulerType

    schedules = [schedule.value for schedule in SchedulerType]
    right, allowed = {
        "number": (lambda v: not isinstance(v, (str, bool)) and v >= 0, "numbers of at least 0"),
        "integer": (lambda v: not isinstance(v, (str, bool)) and v >= 1 and v == int(v), "whole numbers of at least 1"),
        "schedule": (lambda v: v in schedules, f"the names {schedules}"),
    }[kind]
    for value in entry_values(entry):
        if not right(value):
            raise HTCError(f"The search space of `{name}` holds {value!r}; the option takes {allowed}.")
    if kind == "integer" and entry["type"] not in ("integer", "categorical"):
        raise HTCError(f"The search space of `{name}` is {entry['type']!r}; the option takes whole numbers: 'integer'.")


def check_against_config(space, make_config):
    """
    Has the config judge both ends or all choices of every option of its own, one at a time.

    Args:
        space (`dict`): From [`search_space`].
        make_config (`Callable[..., HTCConfig]`): Makes the method's config with one more option.

    Raises:
        `ValueError`: the first value that the config refuses.
    """
    from huggingface_hub.errors import StrictDataclassError

    for name, entry in method_part(space).items():
        for value in entry_values(entry):
            try:
                make_config(**{name: value})
            except (ValueError, TypeError, StrictDataclassError) as error:
                reason = " ".join(str(error.__cause__ or error).split())
                raise HTCError(f"The search space holds {name} = {value!r}, which does not work: {reason}") from error


def entry_values(entry):
    """The choices, or both ends."""
    return entry["choices"] if entry["type"] == "categorical" else [entry["low"], entry["high"]]


def holds(entry, value):
    """Whether a value lies in an entry."""
    if entry["type"] == "categorical":
        return value in entry["choices"]
    return isinstance(value, (int, float)) and not isinstance(value, bool) and entry["low"] <= value <= entry["high"]


def training_part(space):
    """The entries of the training arguments."""
    return {name: entry for name, entry in space.items() if name in TRAINING_OPTIONS}


def method_part(space):
    """The entries of the method's config."""
    return {name: entry for name, entry in space.items() if name not in TRAINING_OPTIONS}


def suggest(trial, space):
    """Values of a trial, `dict` by option; asking a trial again gives the same ones."""
    values = {}
    for name, entry in space.items():
        if entry["type"] == "categorical":
            values[name] = trial.suggest_categorical(name, entry["choices"])
        elif entry["type"] == "integer":
            values[name] = trial.suggest_int(name, entry["low"], entry["high"])
        else:
            values[name] = trial.suggest_float(name, entry["low"], entry["high"], log=entry["type"] == "log_uniform")
    return values
