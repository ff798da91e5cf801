"""The training settings that the papers state, one YAML file per method, for `hf-htc train --paper_settings`.

Each line is an option of `hf-htc train`, its value, and where the paper has it. What a paper does not state is not there, so that
our own default holds. The options of a method's config need no such file: their defaults are the paper's.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml

from hf_htc.models.errors import HTCError


if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def paper_settings(method: str) -> dict[str, Any]:
    """
    The training settings of a method's paper.

    Args:
        method (`str`): The method's short name.

    Returns:
        `dict`: values by option of `hf-htc train`, in the order of the file.

    Raises:
        `ValueError`: an unknown method, or one that comes from no paper.
    """
    import hf_htc

    hf_htc.config_class(method)
    file = settings_file(method)
    if not file.is_file():
        raise HTCError(
            f"The method {method!r} comes from no paper, so that there are no settings of one. Leave `--paper_settings` out: the "
            "defaults are those that learn.",
            field="paper_settings",
        )
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def settings_file(method: str) -> Traversable:
    """The file of a method, whether it is there or not."""
    return resources.files("hf_htc.training") / "paper_settings" / f"{method}.yaml"
