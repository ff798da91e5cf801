"""hf_htc: hierarchical text classification on the Hugging Face stack.

Importing the package registers every method with transformers' Auto classes, so that `AutoModel.from_pretrained` and
`AutoModelForSequenceClassification.from_pretrained` load its checkpoints without remote code.
"""

import importlib
import os
import sys

from hf_htc.models.errors import HTCError

from .models.version import __version__ as __version__


# model_type: (config module, config class, modeling module, model class)
METHODS = {
    "flat": ("configuration_flat", "FlatConfig", "modeling_flat", "FlatForHierarchicalTextClassification"),
    "hiagm": ("configuration_hiagm", "HiAGMConfig", "modeling_hiagm", "HiAGMForHierarchicalTextClassification"),
    "himatch": ("configuration_himatch", "HiMatchConfig", "modeling_himatch", "HiMatchForHierarchicalTextClassification"),
    "hitin": ("configuration_hitin", "HiTINConfig", "modeling_hitin", "HiTINForHierarchicalTextClassification"),
    "himtl": ("configuration_himtl", "HiMTLConfig", "modeling_himtl", "HiMTLForHierarchicalTextClassification"),
    "hisr": ("configuration_hisr", "HiSRConfig", "modeling_hisr", "HiSRForHierarchicalTextClassification"),
    "hpt": ("configuration_hpt", "HPTConfig", "modeling_hpt", "HPTForHierarchicalTextClassification"),
    "ptmt": ("configuration_ptmt", "PTMTTaxoFormerConfig", "modeling_ptmt", "PTMTTaxoFormerForHierarchicalTextClassification"),
    "hidec": ("configuration_hidec", "HiDECConfig", "modeling_hidec", "HiDECForHierarchicalTextClassification"),
}

_EXPORTS = {
    "HTCConfig": "models.configuration_htc",
    "HTCPreTrainedModel": "models.modeling_htc",
    "HTCOutput": "models.modeling_htc",
    "LabelHierarchy": "models.hierarchy",
    "TextRCNNConfig": "models.configuration_textrcnn",
    "TextRCNNModel": "models.modeling_textrcnn",
    "load_htc_dataset": "data",
    "HTCDataCollator": "data",
    "build_trainer": "training",
    "train_with_accelerate": "training",
    "build_text_rcnn": "training.word_vectors",
    "HTCTrainer": "training",
    "HTCTrainingArguments": "training",
    "save": "hub",
    "push": "hub",
    "push_checkpoint": "hub",
    "push_dataset": "hub",
    "push_metric": "hub",
    "export_onnx": "hub",
    "OnnxClassifier": "hub",
    "HierarchicalTextClassificationPipeline": "pipeline",
}
for _config_module, _config, _modeling_module, _model in METHODS.values():
    _EXPORTS[_config] = f"models.{_config_module}"
    _EXPORTS[_model] = f"models.{_modeling_module}"

__all__ = sorted([*_EXPORTS, "METHODS", "__version__", "config_class", "model_class", "register"])


def config_class(method):
    """The config class of a method by its short name, e.g. `"hiagm"`."""
    return _method(method, 0)


def model_class(method):
    """The model class of a method by its short name."""
    return _method(method, 2)


def _method(method, position):
    if method not in METHODS:
        raise HTCError(f"There is no method {method!r}; the methods are {', '.join(METHODS)}.")
    module, name = METHODS[method][position : position + 2]
    return getattr(importlib.import_module(f".models.{module}", __name__), name)


def register():
    """Registers all methods with `AutoConfig`, `AutoModel` and `AutoModelForSequenceClassification`, the text encoder TextRCNN
    with the first two, and the pipeline `"hierarchical-text-classification"`; more calls do nothing."""
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

    from .models.configuration_textrcnn import TextRCNNConfig
    from .models.modeling_textrcnn import TextRCNNModel
    from .pipeline import register_pipeline

    AutoConfig.register(TextRCNNConfig.model_type, TextRCNNConfig, exist_ok=True)
    AutoModel.register(TextRCNNConfig, TextRCNNModel, exist_ok=True)
    TextRCNNConfig.register_for_auto_class()
    TextRCNNModel.register_for_auto_class("AutoModel")
    for method in METHODS:
        config, model = config_class(method), model_class(method)
        AutoConfig.register(config.model_type, config, exist_ok=True)
        for auto_class in (AutoModel, AutoModelForSequenceClassification):
            auto_class.register(config, model, exist_ok=True)
        # Saving then copies the code beside the weights and names it for both Auto classes (`auto_map`).
        config.register_for_auto_class()
        model.register_for_auto_class("AutoModelForSequenceClassification")
    register_pipeline()


def __getattr__(name):
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__


def _is_command_line():
    """Whether this process is `hf-htc ...`, whose commands register when they need a model, so that `--help` is instant."""
    program = os.path.basename(sys.argv[0] if sys.argv else "").lower()
    if program.removesuffix(".exe").removesuffix("-script.py") == "hf-htc":
        return True
    # `python -m hf_htc`: as long as the package is imported, sys.argv does not name the module.
    arguments = [*sys.orig_argv, ""]
    return program == "-m" and "-m" in arguments and arguments[arguments.index("-m") + 1] in ("hf_htc", "hf_htc.cli.main")


if not _is_command_line():
    register()
