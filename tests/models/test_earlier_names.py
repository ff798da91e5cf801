"""Options that have another name today: the earlier one still loads, from a config.json and as a keyword, with one warning."""

import json

import pytest
from tiny_models import make_encoder_config, make_model, make_tree
from transformers import AutoConfig
from transformers.utils import logging

import hf_htc


EARLIER = [
    ("hisr", "sign", "ranking_sign", "printed"),
    ("hisr", "positive", "ranking_positive", "mean_of_paths"),
    ("hisr", "candidates", "ranking_candidates", "all_sequences"),
    ("hisr", "negatives", "ranking_negatives", "selected"),
    ("himtl", "base", "branch_method", "hitin"),
    ("himtl", "output", "branch_output", "masking"),
    ("himtl", "combine", "branch_combine", "mean"),
    ("hpt", "edges", "graph_edges", "released"),
    ("hpt", "template", "prompt_template", "released"),
    ("ptmt", "template", "prompt_template", "appendix"),
    ("ptmt", "problem", "level_problem", "single_label"),
]


@pytest.fixture
def warnings(monkeypatch):
    """What is warned of."""
    found, logger = [], logging.get_logger("hf_htc.models.configuration_htc")
    monkeypatch.setattr(type(logger), "warning_once", lambda self, message, *args: found.append(message))
    return found


def make_config(method, **options):
    return hf_htc.config_class(method)(text_config=make_encoder_config(), hierarchy=make_tree(), **options)


def test_every_earlier_name_is_tested():
    known = {(method, *pair) for method in hf_htc.METHODS for pair in hf_htc.config_class(method).attribute_map.items()}
    assert known == {(method, earlier, present) for method, earlier, present, _ in EARLIER}


@pytest.mark.parametrize(("method", "earlier", "present", "value"), EARLIER)
def test_an_earlier_name_is_the_present_one(method, earlier, present, value, tmp_path, warnings):
    config = make_config(method, **{earlier: value})
    assert getattr(config, present) == getattr(config, earlier) == value
    assert config.to_dict() == make_config(method, **{present: value}).to_dict()
    assert len(warnings) == 1 and f"`{earlier}` is now `{present}`" in warnings[0]
    config.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    assert content[present] == value and earlier not in content
    content[earlier] = content.pop(present)
    (tmp_path / "config.json").write_text(json.dumps(content))
    warnings.clear()
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert getattr(loaded, present) == value and len(warnings) == 1
    default = getattr(make_config(method), present)
    if method != "himtl":  # the other options of a branch hang on its method
        assert getattr(AutoConfig.from_pretrained(tmp_path, **{earlier: default}), present) == default


def test_an_earlier_name_builds_a_model_on_a_pretrained_encoder(tmp_path, warnings):
    make_model("flat", make_tree()).model.save_pretrained(tmp_path)
    model = hf_htc.model_class("hisr").from_text_encoder(tmp_path, make_tree(), sign="printed", node_dim=4)
    assert model.config.ranking_sign == "printed" and len(warnings) == 1


def test_two_names_with_two_values_are_refused():
    with pytest.raises(ValueError, match="`sign` is 'corrected' and `ranking_sign` is 'printed'"):
        make_config("hisr", sign="corrected", ranking_sign="printed")
    assert make_config("hisr", sign="printed", ranking_sign="printed").ranking_sign == "printed"
