"""Model cards, saving, pushing, export."""

import importlib


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
