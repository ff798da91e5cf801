"""What is imported when: the package is light, and registers its methods with transformers in any order of imports."""

import subprocess
import sys

import pytest
from tiny_models import make_model, make_tokenizer, make_tree

import hf_htc


HEAVY = ("torch", "transformers", "datasets", "accelerate", "evaluate", "peft", "scipy", "numpy")


def imported(program, *arguments):
    """Which of `HEAVY` a fresh process has imported after a program, and what it has printed before."""
    code = f"{program}\nimport sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.splitlines()
    return eval(last), printed


@pytest.mark.parametrize(
    "program, allowed",
    {
        "import hf_htc": [],
        "import hf_htc; hf_htc.METHODS['hiagm']; list(hf_htc.METHODS); dir(hf_htc)": [],
        "from hf_htc.models.errors import HTCError": [],
        "from hf_htc import LabelHierarchy; LabelHierarchy.from_paths(['a/b', 'a/c'])": ["numpy"],
        "import hf_htc.training": [],
        "from hf_htc.training import paper_settings; paper_settings('hpt')": [],
        "from hf_htc.metrics.hierarchical_f1.errors import MetricError": None,  # the metric is one of `evaluate`
    }.items(),
    ids=str,
)
def test_what_an_import_brings(program, allowed):
    found, _ = imported(program)
    assert not {"torch", "transformers"} & set(found)
    assert allowed is None or found == allowed


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("himatch")
    make_model("himatch", make_tree()).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


LOADED = """
import sys
def loaded(model):
    methods = ("flat", "hiagm", "himatch", "hpt")
    print(type(model).__name__, [name for name in methods if f"hf_htc.models.modeling_{name}" in sys.modules])
"""
WAYS = {
    "hf_htc first": "import hf_htc; from transformers import AutoModel; loaded(AutoModel.from_pretrained(sys.argv[1]))",
    "transformers first": "import transformers, hf_htc; loaded(transformers.AutoModel.from_pretrained(sys.argv[1]))",
    "Auto classes first": (
        "from transformers import AutoConfig, AutoModelForSequenceClassification as Auto; import hf_htc; "
        "loaded(Auto.from_config(AutoConfig.from_pretrained(sys.argv[1])))"
    ),
    "config class first": (
        "from hf_htc.models.configuration_himatch import HiMatchConfig; from transformers import AutoModel; "
        "loaded(AutoModel.from_config(HiMatchConfig.from_pretrained(sys.argv[1])))"
    ),
    "model class first": (
        "from hf_htc import HiMatchForHierarchicalTextClassification as Model; from transformers import AutoModel; "
        "Model.from_pretrained(sys.argv[1]); loaded(AutoModel.from_pretrained(sys.argv[1]))"
    ),
    "pipeline": (
        "import hf_htc; from transformers import pipeline; "
        "loaded(pipeline('hierarchical-text-classification', model=sys.argv[1]).model)"
    ),
    "pipeline first": (
        "from transformers import pipeline; import hf_htc; "
        "loaded(pipeline('hierarchical-text-classification', model=sys.argv[1]).model)"
    ),
    "pipeline class first": (
        "from hf_htc.pipeline import HierarchicalTextClassificationPipeline; from transformers import pipeline; "
        "loaded(pipeline('hierarchical-text-classification', model=sys.argv[1]).model)"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_checkpoints_load_in_any_order_of_imports(checkpoint, way):
    """And of the methods only the one that is asked for is imported (HiMatch is HiAGM with a second loss)."""
    _, printed = imported(LOADED + WAYS[way], checkpoint)
    assert printed[-1] == "HiMatchForHierarchicalTextClassification ['hiagm', 'himatch']"


def test_mappings_of_transformers_hold_every_method():
    from transformers import (
        CONFIG_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        MODEL_MAPPING,
        BertConfig,
        GPT2Config,
    )

    from hf_htc import TextRCNNConfig, TextRCNNModel

    extra = CONFIG_MAPPING._extra_content
    assert {"htc_textrcnn", *(info.model_type for info in hf_htc.METHODS.values())} <= set(extra.keys())
    assert len(extra) == len(list(extra)) == len(extra.values()) == len(extra.items())
    assert "htc_none" not in CONFIG_MAPPING and "bert" in CONFIG_MAPPING
    with pytest.raises(KeyError, match="htc_none"):
        CONFIG_MAPPING["htc_none"]
    for mapping in (MODEL_MAPPING, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING):
        found = dict(mapping._extra_content.items())
        assert all(found[info.config_class] is info.model_class for info in hf_htc.METHODS.values())
        assert mapping[BertConfig].__name__.startswith("Bert")
        assert GPT2Config in mapping
    assert MODEL_MAPPING[TextRCNNConfig] is TextRCNNModel
    for mapping, config in (
        (MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, TextRCNNConfig),
        (MODEL_FOR_MASKED_LM_MAPPING, hf_htc.FlatConfig),
    ):
        assert config not in mapping
        with pytest.raises(KeyError):
            mapping[config]


def test_what_was_registered_before_stays():
    program = (
        "from transformers import AutoConfig, AutoModel, BertConfig, BertModel\n"
        "class MyConfig(BertConfig): model_type = 'mine'\n"
        "class MyModel(BertModel): config_class = MyConfig\n"
        "AutoConfig.register('mine', MyConfig); AutoModel.register(MyConfig, MyModel)\n"
        "import hf_htc\n"
        "class Other(MyConfig): model_type = 'other'\n"
        "AutoConfig.register('other', Other)\n"
        "print(AutoModel._model_mapping[MyConfig].__name__, type(AutoConfig.for_model('mine')).__name__)\n"
        "print(type(AutoConfig.for_model('other')).__name__, type(AutoConfig.for_model('htc_hpt')).__name__)\n"
    )
    assert imported(program)[1] == ["MyModel MyConfig", "Other HPTConfig"]


def test_pickled_mappings_hold_classes():
    import pickle

    from transformers import CONFIG_MAPPING

    copy = pickle.loads(pickle.dumps(CONFIG_MAPPING))
    assert copy["htc_hiagm"] is hf_htc.HiAGMConfig
    assert type(copy._extra_content) is dict


def test_transformers_of_another_kind_is_named():
    from hf_htc.registration import LazyConfigs, _extend

    with pytest.raises(hf_htc.registration.HTCImportError, match=r"cannot register its methods with transformers \d"):
        _extend(object(), LazyConfigs)
