"""What the accelerate loop takes from accelerate's private side, where there is no public way. It lies in this room because the
loop alone uses it; `tests/training/test_accelerate_private.py` names the version that it was checked with."""

from accelerate.state import AcceleratorState, is_initialized


def forget_other_precision(precision: str) -> None:
    """
    Lets this process train with another precision than an earlier run did; accelerate keeps the first one and refuses others.

    Args:
        precision (`str`): `"no"`, `"bf16"` or `"fp16"`: of the run that begins.
    """
    if is_initialized() and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()
