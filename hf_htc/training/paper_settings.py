"""The training settings that the papers state, for `hf-htc train --paper_settings`: one YAML file per built-in
method in the folder of this name; a method of another package has a file or a dict in its [`MethodInfo`].

Each line is an option of `hf-htc train`, its value, and where the paper has it. What a paper does not state is not there, so that
our own default holds. The options of a method's config need no such file: their defaults are the paper's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hf_htc.methods import method_info
from hf_htc.models.errors import HTCError


if TYPE_CHECKING:
    pass


def paper_settings(method: str) -> dict[str, Any]:
    """
    The training settings of a method's paper.

    Args:
        method (`str`): The method's short name.

    Returns:
        `dict`: values by option of `hf-htc train`, in their order there.

    Raises:
        `ValueError`: an unknown method, or one that comes from no paper.
    """

    settings = method_info(method).paper_settings
    if settings is None:
        raise HTCError(
            f"The method {method!r} comes from no paper, so that there are no settings of one. Leave `--paper_settings` out: the "
            "defaults are those that learn.",
            field="paper_settings",
        )
    if isinstance(settings, Path):
        return yaml.safe_load(settings.read_text(encoding="utf-8"))
    return dict(settings)
