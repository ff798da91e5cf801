"""The run manifest: what a run was, so that its numbers can be trusted and made again."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_htc.data import dataset_fingerprint
from hf_htc.models.version import __version__


if TYPE_CHECKING:
    from datasets import DatasetDict

    from hf_htc.models.hierarchy import LabelHierarchy


PACKAGES = ("torch", "transformers", "datasets", "accelerate", "evaluate", "huggingface_hub", "peft", "numpy")


def run_manifest(
    command: str,
    dataset_name: str,
    dataset: DatasetDict,
    hierarchy: LabelHierarchy,
    settings: dict[str, Any],
    seed: int,
    text_encoder: str | None = None,
    scores: dict[str, Any] | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """
    Args:
        command (`str`): The command that made the run; local paths are left out by the caller.
        dataset_name (`str`), dataset (`DatasetDict`), hierarchy ([`LabelHierarchy`]): The data.
        settings (`dict`): What differs from a default, and the learning rates.
        seed (`int`): Of everything random.
        text_encoder (`str`, *optional*): The encoder's public name.
        scores (`dict`, *optional*): By split.
        seconds (`dict`, *optional*): Wall-clock seconds by phase.

    Returns:
        `dict`: JSON-able; holds no path, user or host name.
    """
    return {
        "command": command,
        "dataset": {
            "name": dataset_name,
            "fingerprint": dataset_fingerprint(dataset, hierarchy),
            "documents": {split: len(rows) for split, rows in dataset.items()},
            "num_labels": hierarchy.num_labels,
            "num_levels": hierarchy.num_levels,
        },
        "text_encoder": text_encoder,
        "settings": settings,
        "seed": seed,
        "versions": versions(),
        "commit": source_commit(),
        "machine": {"processor": platform.machine(), "cores": len_cpus(), "accelerator": accelerator_name()},
        "peak_memory_gib": round(peak_memory_gib(), 3),
        "seconds": seconds or {},
        "scores": scores or {},
    }


def versions() -> dict[str, str]:
    """Versions of Python, hf_htc and the packages under it."""
    found = {"python": platform.python_version(), "hf_htc": __version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def source_commit():
    """The commit of a source checkout of hf_htc, with `-dirty` when files differ, results of benchmarks apart; `None` for an
    installed package.

    Asked once per process: a long run calls it when it begins, so that a commit made meanwhile is not taken for its own."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno", "--", ".", ":!benchmarks/results", ":!benchmarks/README.md"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("-dirty" if dirty else "")


def peak_memory_gib():
    """Largest resident memory of this process so far, in GiB; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 30 if sys.platform == "darwin" else 1 << 20)


def len_cpus():
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def accelerator_name():
    """Name of the GPU, or `"none"`."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
