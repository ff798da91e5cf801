"""hf_htc: hierarchical text classification on the Hugging Face stack.

After `import hf_htc`, `AutoModel.from_pretrained`, `AutoModelForSequenceClassification.from_pretrained` and
`pipeline("hierarchical-text-classification")` of transformers load the checkpoints of every method without remote code, whichever
of the two packages was imported first. The import itself is light: torch, transformers and the methods come when they are used.
"""

import importlib

from . import logging, registration
from .methods import METHODS, MethodInfo, method_info, register_method
from .models.version import __version__ as __version__


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
for _info in METHODS.built_in():
    for _place in (_info.config, _info.model):
        _module, _name = _place.split(":")
        _EXPORTS[_name] = _module.removeprefix("hf_htc.")

__all__ = ["METHODS", "MethodInfo", "__version__", "config_class", "model_class", "register", "register_method"]
__all__ += sorted(_EXPORTS)


def config_class(method):
    """The config class of a method by its short name, e.g. `"hiagm"`."""
    return method_info(method).config_class


def model_class(method):
    """The model class of a method by its short name."""
    return method_info(method).model_class


def register():
    """Imports the Auto classes and the pipelines of transformers, with which importing the package registers every method, the
    text encoder TextRCNN and the pipeline `"hierarchical-text-classification"`; more calls do nothing."""
    for module in registration.ACTIONS:
        if module.startswith("transformers."):
            importlib.import_module(module)


def __getattr__(name):
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__


logging.install()
registration.install()
