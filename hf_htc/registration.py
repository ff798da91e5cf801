"""Makes the methods known to transformers when transformers is used, so that `import hf_htc` imports neither it nor torch.

What this needs of transformers beside its public names is `_extra_content`, where the Auto mappings keep what was registered:
`register` takes classes alone, and so would import every method for the sake of one.
"""

import importlib
import sys
from importlib.abc import MetaPathFinder
from importlib.util import find_spec

from .methods import METHODS, MethodInfo, method_of
from .models.errors import HTCImportError


# The text encoder has a config and a model as a method has them.
TEXT_RCNN = MethodInfo(
    name="textrcnn",
    model_type="htc_textrcnn",
    config="hf_htc.models.configuration_textrcnn:TextRCNNConfig",
    model="hf_htc.models.modeling_textrcnn:TextRCNNModel",
    title="TextRCNN",
)


class LazyConfigs(dict):
    """Config classes by `model_type`: what was registered with transformers and, imported when asked for, ours."""

    def _infos(self):
        return {info.model_type: info for info in (*METHODS.values(), TEXT_RCNN)}

    def __contains__(self, key):
        return super().__contains__(key) or key in self._infos()

    def __missing__(self, key):
        self[key] = self._infos()[key].config_class
        return self[key]

    def __iter__(self):
        return iter({**dict.fromkeys(super().__iter__()), **self._infos()})

    def __len__(self):
        return sum(1 for _ in self)

    def keys(self):
        return list(self)

    def values(self):
        return [self[key] for key in self]

    def items(self):
        return [(key, self[key]) for key in self]


class LazyModels(LazyConfigs):
    """Model classes by config class: what was registered with transformers and, imported when asked for, ours."""

    def __init__(self, content=(), has_text_encoder=False):
        super().__init__(content)
        self.has_text_encoder = has_text_encoder

    def _info(self, config_class):
        model_type = getattr(config_class, "model_type", None)
        info = TEXT_RCNN if self.has_text_encoder and model_type == TEXT_RCNN.model_type else method_of(model_type)
        # A class of the same `model_type` may come from the code beside a checkpoint; its model does, too.
        return info if info is not None and info.config_class is config_class else None

    def _infos(self):
        infos = [*METHODS.values(), *([TEXT_RCNN] if self.has_text_encoder else [])]
        return {info.config_class: info for info in infos}

    def __contains__(self, key):
        return dict.__contains__(self, key) or self._info(key) is not None

    def __missing__(self, key):
        info = self._info(key)
        if info is None:
            raise KeyError(key)
        self[key] = info.model_class
        return self[key]


def _extend(mapping, kind, *options):
    """Puts our classes into a mapping of transformers, beside what others have registered there."""
    content = getattr(mapping, "_extra_content", None)
    if not isinstance(content, dict):
        import transformers

        raise HTCImportError(
            f"hf_htc cannot register its methods with transformers {transformers.__version__}, whose Auto classes differ.",
            mend="Install a version of transformers that this version of hf_htc names in its requirements.",
        )
    if not isinstance(content, kind):
        mapping._extra_content = kind(content, *options)


def _extend_configs(module):
    _extend(module.CONFIG_MAPPING, LazyConfigs)


def _extend_models(module):
    _extend(module.MODEL_MAPPING, LazyModels, True)
    _extend(module.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, LazyModels)


def _import_pipeline(module):
    importlib.import_module("hf_htc.pipeline")  # which registers the task


# Saving then copies the code beside the weights and names it for both Auto classes (`auto_map`); methods inherit it.
def _save_config_code(module):
    for name in ("HTCConfig", "TextRCNNConfig"):
        if name in vars(module):
            getattr(module, name).register_for_auto_class()


def _save_model_code(module):
    for name, auto_class in (("HTCPreTrainedModel", "AutoModelForSequenceClassification"), ("TextRCNNModel", "AutoModel")):
        if name in vars(module):
            getattr(module, name).register_for_auto_class(auto_class)


# What is done when a module has been imported.
ACTIONS = {
    "transformers.models.auto.configuration_auto": _extend_configs,
    "transformers.models.auto.modeling_auto": _extend_models,
    "transformers.pipelines": _import_pipeline,
    "hf_htc.models.configuration_htc": _save_config_code,
    "hf_htc.models.configuration_textrcnn": _save_config_code,
    "hf_htc.models.modeling_htc": _save_model_code,
    "hf_htc.models.modeling_textrcnn": _save_model_code,
}


class AfterImport(MetaPathFinder):
    """Finds the modules of `ACTIONS` as the other finders do, and has their action done after their own code."""

    def __init__(self):
        self._searching = set()

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in ACTIONS or fullname in self._searching:
            return None
        self._searching.add(fullname)
        try:
            spec = find_spec(fullname)
        finally:
            self._searching.discard(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            if module.__name__ == fullname:
                ACTIONS[fullname](module)

        spec.loader.exec_module = exec_module
        return spec


def install():
    """Does the actions of what is imported already, and has the others done later; more calls do nothing."""
    if any(isinstance(finder, AfterImport) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, AfterImport())
    for name, action in ACTIONS.items():
        if name in sys.modules:
            action(sys.modules[name])
