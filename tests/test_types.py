"""The public surface is annotated, so that a type checker looks into it: mypy passes over functions without annotations."""

import ast
import importlib
import inspect
from functools import cached_property
from pathlib import Path

import pytest

import hf_htc
import hf_htc.data
import hf_htc.hub
import hf_htc.metrics.hierarchical_f1 as metrics
import hf_htc.training
from hf_htc.evaluation.predictions import evaluate_model, predict_file
from hf_htc.models.hierarchy import LabelHierarchy
from hf_htc.models.prediction import PredictionMixin


PACKAGE = Path(hf_htc.__file__).parent


def public_objects():
    """By name; of `hf_htc.models` the taxonomy and `predict`."""
    found = {"LabelHierarchy": LabelHierarchy, "PredictionMixin": PredictionMixin}
    found |= {"evaluate_model": evaluate_model, "predict_file": predict_file}
    exports = {name: hf_htc for name, module in hf_htc._EXPORTS.items() if not module.startswith("models")}
    for room in (hf_htc.data, hf_htc.hub, hf_htc.training, metrics):
        exports |= dict.fromkeys(room.__all__, room)
    found |= {name: getattr(room, name) for name, room in exports.items()}
    return {name: value for name, value in found.items() if inspect.isfunction(value) or inspect.isclass(value)}


def functions_of(value):
    """The functions that a user of `value` calls."""
    if inspect.isfunction(value):
        return [value]
    found = []
    for name, member in vars(value).items():
        if name.startswith("_") and name not in ("__init__", "__call__"):
            continue
        if isinstance(member, (classmethod, staticmethod)):
            member = member.__func__
        elif isinstance(member, property):
            member = member.fget
        elif isinstance(member, cached_property):
            member = member.func
        # What a dataclass or a named tuple made has no line of its own.
        if (
            inspect.isfunction(member)
            and member.__module__.startswith("hf_htc")
            and "<string>" not in member.__code__.co_filename
        ):
            found.append(inspect.unwrap(member))
    return found


@pytest.mark.parametrize("name", sorted(public_objects()))
def test_the_public_surface_is_annotated(name):
    for function in functions_of(public_objects()[name]):
        signature = inspect.signature(function)
        bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")]
        assert not bare, f"{function.__qualname__}: {bare}"
        assert signature.return_annotation is not signature.empty, f"{function.__qualname__} does not say what it returns"


@pytest.mark.parametrize("room", ["data", "hub"])
def test_a_type_checker_sees_the_lazy_exports(room):
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == importlib.import_module(f"hf_htc.{room}")._EXPORTS


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()
