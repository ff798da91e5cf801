"""What the accelerate loop takes from accelerate's private side, because there is no public way. It stands in this room, which alone
uses it; `tests/training/test_accelerate_private.py` says with which version it was checked."""

from accelerate.state import AcceleratorState, is_initialized


def forget_other_precision(precision: str) -> None:
    """
    Lets this process train with another precision than an earlier run did; accelerate keeps the first one and refuses others.

    Args:
        precision (`str`): `"no"`, `"bf16"` or `"fp16"`: of the run that begins.
    """
    if is_initialized() and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()
