"""Model cards, saving, pushing, export."""

import importlib
from typing import TYPE_CHECKING


if TYPE_CHECKING:  # what a type checker sees; at run time `__getattr__` imports
    from .adapters import load_calibration as load_calibration
    from .card import model_card as model_card
    from .demo import launch_demo as launch_demo
    from .export import export_onnx as export_onnx
    from .onnx_classifier import OnnxClassifier as OnnxClassifier
    from .saving import push as push
    from .saving import save as save
    from .sharing import push_checkpoint as push_checkpoint
    from .sharing import push_dataset as push_dataset
    from .sharing import push_metric as push_metric
    from .space import push_space as push_space
    from .space import write_space as write_space


_EXPORTS = {
    "model_card": "card",
    "load_calibration": "adapters",
    "save": "saving",
    "push": "saving",
    "push_checkpoint": "sharing",
    "push_dataset": "sharing",
    "push_metric": "sharing",
    "push_space": "space",
    "write_space": "space",
    "launch_demo": "demo",
    "export_onnx": "export",
    "OnnxClassifier": "onnx_classifier",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name):
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
