"""`htc_calibration.json`: thresholds and conformal sets of an adapter.

A whole checkpoint has them in its config.json. An adapter has none: its folder would be taken for a checkpoint, and its base
serves several adapters, each with a classifier of its own.
"""

import json
from pathlib import Path

from transformers.utils import cached_file

from .errors import HTCError


CALIBRATION_FILE = "htc_calibration.json"
KEYS = ("thresholds", "conformal")


def read_calibration(name_or_path, **hub_kwargs):
    """
    Thresholds and conformal sets of an adapter, `dict` with both; `None` where the adapter is not calibrated.

    Args:
        name_or_path (`str`): Folder or Hub id of the adapter.
        hub_kwargs: `revision`, `token`, `cache_dir`, ... as `cached_file` takes them.

    Raises:
        `ValueError`: the file holds something else.
    """
    file = cached_file(
        str(name_or_path),
        CALIBRATION_FILE,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **hub_kwargs,
    )
    if file is None:
        return None
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or set(content) != set(KEYS):
        raise HTCError(f"{CALIBRATION_FILE} of {str(name_or_path)!r} is damaged; calibrate the adapter again.")
    return content


def set_calibration(config, calibration):
    """Puts what [`read_calibration`] gave into a config, which checks it."""
    for key in KEYS:
        setattr(config, key, calibration[key])
    config.validate()
