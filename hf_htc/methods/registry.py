"""`MethodInfo` and `METHODS`, the mapping of all methods."""

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError, HTCImportError, HTCTypeError, reason_of


logger = get_logger(__name__)

# The group in which a package names the [`MethodInfo`] of its method.
ENTRY_POINTS = "hf_htc.methods"
# The modules beside this one, in the order in which methods are listed.
BUILT_IN = ("flat", "hiagm", "himatch", "hitin", "himtl", "hisr", "hpt", "ptmt", "hidec")

# No paper states ranges that were searched, only the values that were used. Each range holds those stated for a BERT-like encoder
# (HiAGM forks 2e-5; HPT 3e-5, batch 16; HBM and HiDEC 5e-5, batch 64, weight decay 0.1; HiMatch weight decay 0.01) and our own
# defaults.
SHARED_SEARCH_SPACE = {
    "learning_rate": {"type": "log_uniform", "low": 1e-5, "high": 5e-4},
    "per_device_train_batch_size": {"type": "categorical", "choices": [16, 32, 64]},
    "weight_decay": {"type": "categorical", "choices": [0.0, 0.01, 0.1]},
    "text_dropout": {"type": "uniform", "low": 0.0, "high": 0.5},
}


@dataclass(frozen=True)
class MethodInfo:
    """
    All that the package knows of a method.

    Args:
        name (`str`): What `hf-htc train --method` calls it: lower-case letters, digits, `_` and `-`.
        model_type (`str`): The `model_type` of its config, which tells its checkpoints from others.
        config (`str` or `Callable`): The config class, a subclass of [`HTCConfig`]: `"package.module:Class"`, which is imported
            when it is needed, or a function that gives it.
        model (`str` or `Callable`): The model class, a subclass of [`HTCPreTrainedModel`], in the same form.
        title (`str`): What cards and pages call it.
        citation (`str`, *optional*): BibTeX of its paper, for the card.
        search_space (`dict`, *optional*): What `hf-htc tune` searches, in the form of `hf_htc.training.search_spaces`. Defaults
            to what all methods share.
        paper_settings (`dict` or `Path`, *optional*): The training settings of its paper, for `hf-htc train --paper_settings`:
            values by option, or a YAML file of them.
        tiny_options (`dict`, *optional*): Options of the config that make a model of a few dimensions, for tests and dry runs.
        decides_in_units (`bool`, *optional*, defaults to `False`): Whether its config has `unit_loss` and its model
            `output_units`, so that `hf-htc units` shows its decisions.

    Raises:
        `HTCError`: a name or a path of another form. `HTCTypeError`: a config or model that is neither a path nor callable.
    """

    name: str
    model_type: str
    config: str | Callable[[], type]
    model: str | Callable[[], type]
    title: str
    citation: str | None = None
    search_space: Mapping[str, Any] = field(default_factory=lambda: dict(SHARED_SEARCH_SPACE))
    paper_settings: Mapping[str, Any] | Path | None = None
    tiny_options: Mapping[str, Any] = field(default_factory=dict)
    decides_in_units: bool = False

    def __post_init__(self):
        for what in ("name", "model_type"):
            value = getattr(self, what)
            if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", value):
                raise HTCError(f"The `{what}` of a method is {value!r}; it has lower-case letters, digits, `_` and `-`.")
        for what in ("config", "model"):
            value = getattr(self, what)
            if isinstance(value, str):
                if not re.fullmatch(r"[\w.]+:\w+", value):
                    raise HTCError(f"The `{what}` of the method {self.name!r} is {value!r}; its form is 'package.module:Class'.")
            elif not callable(value) or isinstance(value, type):
                raise HTCTypeError(
                    f"The `{what}` of the method {self.name!r} is {value!r}; it is 'package.module:Class' or a function that "
                    "gives the class."
                )

    @property
    def config_class(self):
        """The config class; imports its module."""
        return self._checked("config", self._load("config"))

    @property
    def model_class(self):
        """The model class; imports its module."""
        return self._checked("model", self._load("model"))

    def _load(self, what):
        place = getattr(self, what)
        if not isinstance(place, str):
            return place()
        module, name = place.split(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise HTCImportError(
                f"The {what} class of the method {self.name!r}, {place!r}, cannot be imported: {reason_of(error)}."
            ) from error

    def _checked(self, what, found):
        model_type = getattr(found if what == "config" else getattr(found, "config_class", None), "model_type", None)
        if model_type != self.model_type:
            raise HTCError(
                f"The {what} class of the method {self.name!r} is {found!r} with the `model_type` {model_type!r}; the method is "
                f"registered with {self.model_type!r}. Write the same in both places."
            )
        return found


def built_in_settings(name):
    """The file of the training settings of a built-in method's paper."""
    return Path(__file__).parent.parent / "training" / "paper_settings" / f"{name}.yaml"


class MethodRegistry(Mapping):
    """[`MethodInfo`] by name: the built-in methods, those that were registered, and those that installed packages name by entry
    points, which are read when a name is not among the others or all are listed."""

    def __init__(self):
        self._infos = {}
        self._has_entry_points = False

    def __getitem__(self, name):
        self._read_built_in()
        if name not in self._infos:
            self._read_entry_points()
        return self._infos[name]

    def __iter__(self):
        self._read_built_in()
        self._read_entry_points()
        return iter(list(self._infos))

    def __len__(self):
        return sum(1 for _ in self)

    def __repr__(self):
        return f"METHODS({', '.join(self)})"

    def built_in(self):
        """The methods of this package, `list[MethodInfo]`; no entry point is read."""
        self._read_built_in()
        return [self._infos[name] for name in BUILT_IN]

    def add(self, info):
        """Takes a method in, see [`register_method`]."""
        self._read_built_in()
        self._add(info)

    def _add(self, info):
        if not isinstance(info, MethodInfo):
            raise HTCTypeError(f"A method is registered as a MethodInfo, not as {type(info).__name__}.")
        for other in self._infos.values():
            if info == other:
                return
            for what in ("name", "model_type"):
                if getattr(info, what) == getattr(other, what):
                    raise HTCError(f"The {what} {getattr(info, what)!r} belongs to the method {other.name!r} already.")
        self._infos[info.name] = info

    def _read_built_in(self):
        if not self._infos:
            for name in BUILT_IN:
                self._add(importlib.import_module(f".{name}", __package__).INFO)

    def _read_entry_points(self):
        if self._has_entry_points:
            return
        self._has_entry_points = True
        from importlib.metadata import entry_points

        for point in entry_points(group=ENTRY_POINTS):
            try:
                self._add(point.load())
            except Exception as error:  # whatever another package does, ours goes on without it
                logger.warning("The method %r of %r is left out: %s.", point.name, point.value, reason_of(error))


METHODS = MethodRegistry()


def register_method(info):
    """
    Makes a method known: to `hf-htc train --method`, the Auto classes of transformers, `hf-htc tune`, cards and benchmarks.

    A package that others install names its [`MethodInfo`] by an entry point instead, and needs no call:

    ```toml
    [project.entry-points."hf_htc.methods"]
    mine = "my_package.method:INFO"
    ```

    Args:
        info ([`MethodInfo`]): The method. The same one may come twice.

    Raises:
        `HTCError`: another method has its name or its `model_type`. `HTCTypeError`: no `MethodInfo`.
    """
    METHODS.add(info)


def method_info(method):
    """
    A method by its short name.

    Args:
        method (`str`): E.g. `"hiagm"`.

    Returns:
        [`MethodInfo`]

    Raises:
        `HTCError`: there is none; the methods are listed.
    """
    if method not in METHODS:
        raise HTCError(f"There is no method {method!r}; the methods are {', '.join(METHODS)}.")
    return METHODS[method]


def method_of(model_type):
    """The [`MethodInfo`] of a `model_type`; `None` for one of another kind."""
    return next((info for info in METHODS.values() if info.model_type == model_type), None)
