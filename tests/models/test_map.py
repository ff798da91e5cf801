"""The map in `hf_htc/models/__init__.py`: whose each file is, computed from the imports."""

import ast
from pathlib import Path

import hf_htc
import hf_htc.models


MODELS = Path(hf_htc.models.__file__).parent


def siblings(file):
    """Names of the siblings that a file imports; what stands under `if TYPE_CHECKING:` is never imported."""
    found, waiting = set(), [ast.parse(file.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found.add(node.module)
        is_for_types = isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING"
        waiting.extend(node.orelse if is_for_types else ast.iter_child_nodes(node))
    return found


IMPORTS = {file.stem: siblings(file) for file in MODELS.glob("*.py") if file.stem != "__init__"}
FAMILIES = {"graph": {"hiagm", "himatch", "himtl", "hisr"}, "prompt": {"hpt", "ptmt"}, "unit": {"hpt", "ptmt", "hidec"}}


def reached(files):
    """All that `files` import, by themselves and through others, `files` among them."""
    found, waiting = set(files), list(files)
    while waiting:
        new = IMPORTS[waiting.pop()] - found
        found |= new
        waiting.extend(new)
    return found


def carried():
    """Of each file the methods whose checkpoints carry it."""
    of_method = {method: reached([f"configuration_{method}", f"modeling_{method}"]) for method in hf_htc.METHODS}
    return {file: frozenset(method for method in of_method if file in of_method[method]) for file in IMPORTS}


def test_the_map_is_what_the_imports_say():
    found = {}
    for file, methods in carried().items():
        found.setdefault(methods, set()).add(file)
    written = hf_htc.models.__doc__.split("```")[1].replace("\n    ", " ").strip().splitlines()
    rows = [line.split(": ") for line in written]
    assert {frozenset(methods.split()): set(files.split()) for methods, files in rows} == found
    assert [files.split() for _, files in rows] == [sorted(files.split()) for _, files in rows]


def test_a_prefix_says_whose_a_file_is():
    for file, methods in carried().items():
        first = file.partition("_")[0].removesuffix("s")
        if first in FAMILIES:
            assert methods <= FAMILIES[first], f"{file} travels with {sorted(methods)}"
        elif first in hf_htc.METHODS:
            assert first in methods, f"{file} is not {first}'s"
        elif first not in ("configuration", "modeling"):
            assert methods == set(hf_htc.METHODS), f"{file} travels with {sorted(methods)} alone, so it needs a prefix"


def test_imports_go_in_no_circle():
    for file, imported in IMPORTS.items():
        assert file not in reached(imported), f"{file} imports itself, through {sorted(imported)}"


def test_no_file_is_longer_than_600_lines():
    lengths = {file: len((MODELS / f"{file}.py").read_text().splitlines()) for file in IMPORTS}
    assert {file: length for file, length in lengths.items() if length > 600} == {}
