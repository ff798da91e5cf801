"""The benchmark of the metrics on a few documents: it runs, and its numbers are scikit-learn's."""

import importlib.util
import re
from pathlib import Path

import pytest


def test_small_run(capsys):
    pytest.importorskip("hiclass")
    path = Path(__file__).parents[2] / "benchmarks" / "metrics.py"
    spec = importlib.util.spec_from_file_location("metrics_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sizes = {"documents": 200, "ranked_documents": 20, "ranked_labels": 80, "hiclass_documents": 50}
    module.main([part for name, size in sizes.items() for part in (f"--{name}", str(size))])
    out = capsys.readouterr().out
    assert out.startswith("200 documents x 103 labels") and "20 documents x 80 labels, all scores" in out
    assert len(re.findall(r"equal numbers; .* of scikit-learn's time", out)) == 2
    assert out.count(" MiB") == 3 and "scaled to all documents" in out
