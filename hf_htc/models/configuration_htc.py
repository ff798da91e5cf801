"""`HTCConfig`: what every hierarchical text classification model has in its configuration."""

import difflib
from copy import deepcopy
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.utils import logging

from .configuration_textrcnn import TextRCNNConfig
from .errors import HTCError
from .hierarchy import LabelHierarchy
from .hierarchy_identity import IDENTITY
from .version import __version__
from .whole_checkpoints import check_config_content, config_errors, find_config, read_config


logger = logging.get_logger(__name__)

STRUCTURE_ENCODERS = ("gcn", "tree_lstm", "none")
# Keywords of `PreTrainedConfig` that `from_text_encoder` passes on although they are no fields of ours.
_COMMON_KEYWORDS = {
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "dtype",
    "tie_word_embeddings",
    "attn_implementation",
}
# What transformers itself writes into a config.json or passes when it reads one.
_LOADING_KEYWORDS = {
    "model_type",
    "auto_map",
    "name_or_path",
    "transformers_weights",  # of a checkpoint that is being replaced, see whole_files.py
    "custom_pipelines",
    "tokenizer_class",
    "task_specific_params",
    "use_cache",  # set by the Trainer
    "is_encoder_decoder",
}


@strict
class HTCConfig(PreTrainedConfig):
    """
    Configuration shared by all methods.

    Args:
        text_config (`PreTrainedConfig` or `dict`, *optional*): Configuration of the text encoder, any that `AutoModel`
            knows. Defaults to BERT's.
        hierarchy ([`LabelHierarchy`] or `dict`, *optional*): The taxonomy. Stored as plain lists; label names live in
            `id2label` only. Without one, the labels of `id2label` stand alone, without edges.
        label_closure (`str`, *optional*, defaults to `"as_given"`): `"closed"` when every training document carries all
            ancestor labels of its labels, else `"as_given"`. Recorded from the training labels; decides how predictions
            are closed by default.
        coherence (`str`, *optional*, defaults to `"none"`): `"decoder"`: every label gets the largest logit among itself and its
            descendants, so that no child is predicted without its parent; `"training"`: the loss knows of it as well
            (C-HMCNN). Needs closed labels.
        pooling (`str`, *optional*, defaults to `"auto"`): How token states become one text vector: `"cls"` (first token),
            `"mean"`, `"last"` (last token, for decoders), `"pooler"` (the encoder's own pooler output). `"auto"` takes what
            the encoder was trained with and is replaced by it.
        text_dropout (`float`, *optional*, defaults to 0.1): Dropout on the text vector.
        thresholds (`float` or `list[float]`, *optional*): Score from which a label is predicted, in [0, 1], one for all or
            one per label, as tuned on validation data. Numbers and arrays of numpy and torch become plain numbers. `None` means
            0.5. Never shifts `logits`.
        conformal (`dict`, *optional*): Calibrated label sets, as `hf-htc calibrate --conformal` makes them; read by
            [`~HTCPreTrainedModel.predict_sets`].
        max_text_length (`int`, *optional*): Longest text in tokens, special tokens included; `None` until an encoder or a
            tokenizer says so.
        label_counts (`list[int]`, *optional*): Training documents of each label, `num_labels` entries.
        num_train_documents (`int`, *optional*): Number of training documents behind `label_counts`.
        initializer_range (`float`, *optional*, defaults to 0.02): Standard deviation of new weights.
        hf_htc_version (`str`, *optional*): Version of hf_htc that wrote the config.

    Raises:
        `StrictDataclassError` (with the `ValueError` as its cause): a value out of range, a
        hierarchy that does not fit `id2label`, a config written by a newer major or minor version. `from_pretrained` and
        `from_text_encoder` raise the `ValueError` itself, an `HTCError`.
    """

    model_type = "htc"
    sub_configs_defaults = {"text_config": SubConfigSpec(AutoConfig, model_type="bert")}
    keys_to_ignore_at_inference = ["losses", "units", "hidden_states", "attentions"]
    # Learning rates on a pretrained encoder where the user says nothing; measured, see the method's page.
    pretrained_learning_rates = {"learning_rate": 1e-4, "classifier_learning_rate": 5e-3}

    text_config: dict | PreTrainedConfig | None = None
    hierarchy: dict | LabelHierarchy | None = None
    label_closure: str = "as_given"
    coherence: str = "none"
    pooling: str = "auto"
    text_dropout: float | int = 0.1
    thresholds: Any = None  # a float or a list of floats, whatever kind of numbers was given
    conformal: dict | None = None
    max_text_length: int | None = None
    label_counts: list | None = None
    num_train_documents: int | None = None
    initializer_range: float | int = 0.02
    hf_htc_version: str | None = __version__

    def __post_init__(self, **kwargs):
        if isinstance(self.hierarchy, LabelHierarchy):
            names = self.hierarchy.label_names
            kwargs["id2label"] = dict(enumerate(names))
            kwargs["label2id"] = {name: i for i, name in enumerate(names)}
            kwargs.pop("num_labels", None)
            self.hierarchy = hierarchy_to_config(self.hierarchy)
        # Not by AutoConfig, which does not know it where the package is not installed.
        if isinstance(self.text_config, dict) and self.text_config.get("model_type") == TextRCNNConfig.model_type:
            self.text_config = TextRCNNConfig(**self.text_config)
        # By `attribute_map`, transformers' own: an option's earlier name, in a config.json or a call, sets the present one.
        earlier = {name: kwargs.pop(name) for name in sorted(set(kwargs) & set(self.attribute_map))}
        for name, value in earlier.items():
            self._check_not_both(name, value)
            super().__setattr__(name, value)
        self._warn_of_earlier_names(earlier)
        # The stock text-classification pipeline applies a sigmoid only when told so.
        kwargs.setdefault("problem_type", "multi_label_classification")
        unknown = sorted(set(kwargs) - _COMMON_KEYWORDS - _LOADING_KEYWORDS - set(dir(PreTrainedConfig)))
        unknown = [key for key in unknown if not key.startswith("_")]
        if unknown:
            logger.warning(f"{type(self).__name__} does not know {unknown}; kept in the config, used by nothing.")
        super().__post_init__(**kwargs)

    def _check_not_both(self, name, value):
        present = self.attribute_map[name]
        given = getattr(self, present)
        if given != value and given != type(self).__dataclass_fields__[present].default:
            raise HTCError(f"`{name}` is {value!r} and `{present}` is {given!r}; `{name}` is its earlier name, give one of them.")

    def _warn_of_earlier_names(self, names):
        if names:
            renamed = ", ".join(f"`{name}` is now `{self.attribute_map[name]}`" for name in names)
            logger.warning_once(f"{type(self).__name__}: {renamed}. The earlier names still work.")

    def __setattr__(self, key, value):
        if key in self.attribute_map:
            self._warn_of_earlier_names([key])
        super().__setattr__(key, plain_numbers(value) if key == "thresholds" else value)

    # ------------------------------------------------------------------ loading and saving

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """As transformers' own; a config that is damaged or is another method's is an `HTCError` that names it."""
        place = str(pretrained_model_name_or_path)
        file = find_config(place, kwargs.get("subfolder"), kwargs.get("revision"), kwargs.get("cache_dir"))
        if file is not None:
            read_config(file)
        return super().from_pretrained(pretrained_model_name_or_path, **{"name_or_path": place, **kwargs})

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """
        A config of the content of a config.json.

        Raises:
            `HTCError` (`HTCOSError` where `name_or_path` says which config it is): it is another method's, has lost its
            hierarchy, has labels that do not fit it, or holds values of a wrong type or out of range.
        """
        with config_errors(kwargs.get("name_or_path")):
            check_config_content(config_dict, cls.model_type)
            made = super().from_dict(config_dict, **kwargs)
            (made[0] if isinstance(made, tuple) else made).get_hierarchy()
        return made

    @property
    def recommended_training(self):
        """Learning rates that `hf_htc.training` uses where the user says nothing, by the field of the training arguments."""
        rates = dict(self.pretrained_learning_rates)
        own = getattr(self.text_config, "recommended_learning_rate", None)
        return rates if own is None else {**rates, "learning_rate": own}

    @property
    def num_prompt_tokens(self):
        """`int`: positions that the method adds to every text."""
        return 0

    # ------------------------------------------------------------------ checks, run at construction and at saving

    def validate_version(self):
        if self.hf_htc_version is None:
            return
        try:
            written = tuple(int(part) for part in self.hf_htc_version.split(".")[:2])
        except ValueError:
            raise HTCError(f"`hf_htc_version` is {self.hf_htc_version!r}; expected a version such as {__version__!r}.") from None
        if written > tuple(int(part) for part in __version__.split(".")[:2]):
            raise HTCError(
                f"This config was written by hf_htc {self.hf_htc_version}, which is newer than the installed {__version__}. "
                "Update with `pip install -U hf_htc`."
            )

    def validate_hierarchy(self):
        if isinstance(self.hierarchy, dict):
            parents = self.hierarchy.get("parents")
            if not isinstance(parents, list) or len(parents) < self.num_labels:
                count = len(parents) if isinstance(parents, list) else 0
                raise HTCError(
                    f"`hierarchy` has {count} nodes for {self.num_labels} labels; the taxonomy and `id2label` do not match."
                )
            num_structure_only = len(self.hierarchy.get("structure_names") or [])
            if len(parents) != self.num_labels + num_structure_only:
                raise HTCError(
                    f"`hierarchy` has {len(parents)} nodes, but {self.num_labels} labels and {num_structure_only} "
                    "structure-only names; the taxonomy and `id2label` do not match."
                )

    def validate_choices(self):
        for key, allowed in (
            ("label_closure", ("closed", "as_given")),
            ("coherence", ("none", "decoder", "training")),
            ("pooling", ("auto", "cls", "mean", "last", "pooler")),
        ):
            if getattr(self, key) not in allowed:
                raise HTCError(f"`{key}` is {getattr(self, key)!r}; allowed are {', '.join(map(repr, allowed))}.")
        for key in [name for name in type(self).__dataclass_fields__ if name.endswith("_dropout")]:
            if getattr(self, key) is not None and not 0 <= getattr(self, key) < 1:
                raise HTCError(f"`{key}` is {getattr(self, key)}; a dropout probability lies in [0, 1).")
        if self.max_text_length is not None and self.max_text_length < 1:
            raise HTCError(f"`max_text_length` is {self.max_text_length}; it counts tokens and is at least 1.")

    def validate_coherence(self):
        if self.label_counts is not None:
            check_coherence(self.coherence, self.label_closure == "closed")

    def validate_thresholds(self):
        check_thresholds(self.thresholds, self.num_labels)

    def validate_conformal(self):
        check_conformal(self.conformal)

    def validate_label_counts(self):
        if self.label_counts is not None and len(self.label_counts) != self.num_labels:
            raise HTCError(f"`label_counts` has {len(self.label_counts)} entries for {self.num_labels} labels.")

    # ------------------------------------------------------------------ the taxonomy

    def get_hierarchy(self):
        """The [`LabelHierarchy`] of this config, built anew only when `id2label` or `hierarchy` has been replaced."""
        names, plain = [self.id2label[i] for i in range(self.num_labels)], self.hierarchy
        cached, source = self.__dict__.get("_label_hierarchy", (None, None))
        if cached is None or cached.label_names != names or source is not plain:
            if cached is None or cached.label_names != names or source != plain:
                cached = hierarchy_from_config(plain, names)
            self.__dict__["_label_hierarchy"] = cached, plain
        return cached

    def to_dict(self):
        content = super().to_dict()
        content.pop("_label_hierarchy", None)
        if content.get("hierarchy") is None:  # always with a taxonomy: a config.json without one has lost it
            content["hierarchy"] = {"parents": [[] for _ in range(self.num_labels)]}
        return content

    def __deepcopy__(self, memo):
        # The cached hierarchy is shared, not copied: it never changes and may hold 30,000 nodes.
        copied = self.__class__.__new__(self.__class__)
        memo[id(self)] = copied
        for key, value in self.__dict__.items():
            copied.__dict__[key] = value if key == "_label_hierarchy" else deepcopy(value, memo)
        return copied

    def num_hierarchy_nodes(self):
        """`M`: labels and structure-only nodes."""
        return self.num_labels if self.hierarchy is None else len(self.hierarchy["parents"])


def hierarchy_to_config(hierarchy):
    """The plain form in `config.json`: everything but the label names, which `id2label` holds already."""
    content = hierarchy.to_dict()
    plain = {"parents": content["parents"]}
    if hierarchy.num_nodes > hierarchy.num_labels:
        plain["structure_names"] = content["names"][hierarchy.num_labels :]
    for key in ("texts", "descriptions", *IDENTITY):
        if key in content:
            plain[key] = content[key]
    return plain


def hierarchy_from_config(plain, label_names):
    """The inverse of [`hierarchy_to_config`]; without a taxonomy the labels stand alone."""
    if plain is None:
        return LabelHierarchy(label_names, [[] for _ in label_names])
    names = label_names + list(plain.get("structure_names") or [])
    facts = {key: plain[key] for key in ("texts", "descriptions", *IDENTITY) if key in plain}
    return LabelHierarchy(names, plain["parents"], len(label_names), **facts)


def check_thresholds(thresholds, num_labels):
    """Raises `ValueError` unless `thresholds` is `None`, a number in [0, 1] or a list of `num_labels` such numbers."""
    if thresholds is None:
        return
    values = thresholds if isinstance(thresholds, (list, tuple)) else [thresholds]
    if isinstance(thresholds, (list, tuple)) and len(values) != num_labels:
        raise HTCError(f"`thresholds` has {len(values)} entries for {num_labels} labels; give one number or one a label.")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise HTCError(f"The threshold {value!r} is out of range; thresholds are numbers in [0, 1].")


def plain_numbers(value):
    """Numbers and arrays of numpy and torch as Python's own, also inside a list; everything else as it is."""
    if isinstance(value, (list, tuple)):
        return [plain_numbers(entry) for entry in value]
    return value.tolist() if hasattr(value, "tolist") else value


def check_conformal(conformal):
    """Raises `ValueError` unless `conformal` is `None` or what a calibration gives."""
    wanted = {"back_off": "quantile", "risk": "boundary"}
    if conformal is not None and (conformal.get("kind") not in list(wanted) or wanted[conformal["kind"]] not in conformal):
        raise HTCError(
            f"`conformal` is {conformal!r}; it has a `kind`, 'back_off' with a `quantile` or 'risk' with a `boundary`, as "
            "`hf-htc calibrate` writes it."
        )


def check_coherence(coherence, is_closed):
    """Raises `ValueError` for an option that needs closed labels where the training labels are not."""
    if coherence != "none" and not is_closed:
        raise HTCError(
            f"`coherence={coherence!r}` needs closed labels, but training documents have labels without their ancestors. Load "
            "the data with `load_htc_dataset(..., closure='up')`, or leave `coherence` out."
        )


def check_structure_encoder(config):
    """Raises `ValueError` unless the options of the structure encoder are possible together."""
    if config.structure_encoder not in STRUCTURE_ENCODERS:
        raise HTCError(
            f"`structure_encoder` is {config.structure_encoder!r}; allowed are {', '.join(map(repr, STRUCTURE_ENCODERS))}."
        )
    if not isinstance(config.node_dim, int) or config.node_dim < 1:
        raise HTCError(f"`node_dim` is {config.node_dim!r}; give a whole number of at least 1, or 'auto'.")
    if config.structure_encoder == "tree_lstm" and config.node_dim % 2:
        raise HTCError(f"`node_dim` is {config.node_dim}; a TreeLSTM has half of it in each direction, so give an even number.")
    if config.num_structure_layers < 1:
        raise HTCError(f"`num_structure_layers` is {config.num_structure_layers}; it is at least 1.")
    if config.prior not in ("ratio", "sibling"):
        raise HTCError(f"`prior` is {config.prior!r}; allowed are 'ratio', 'sibling'.")


def check_config_keywords(config_class, keywords):
    """Raises `ValueError` naming the first keyword that no field of `config_class` takes."""
    fields = {name for name in config_class.__dataclass_fields__ if not name.startswith("_")}
    for key in keywords:
        if key not in fields | _COMMON_KEYWORDS | set(config_class.attribute_map):
            close = difflib.get_close_matches(key, sorted(fields), n=3)
            raise HTCError(
                f"{config_class.__name__} has no option {key!r}."
                + (f" Did you mean {close}?" if close else f" Options: {sorted(fields)}.")
            )
