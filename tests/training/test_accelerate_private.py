"""The one private call of accelerate. Checked with accelerate 1.15.0."""

import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized

from hf_htc.training.accelerate_private import forget_other_precision


@pytest.fixture(autouse=True)
def _fresh():
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def test_nothing_is_set_up_by_asking():
    forget_other_precision("bf16")
    assert not is_initialized()


def test_a_second_run_may_have_another_precision():
    assert Accelerator(cpu=True, mixed_precision="no").mixed_precision == "no"
    with pytest.raises(ValueError, match="already been initialized"):  # why the call is needed
        Accelerator(cpu=True, mixed_precision="bf16")
    forget_other_precision("no")
    assert is_initialized()
    forget_other_precision("bf16")
    assert Accelerator(cpu=True, mixed_precision="bf16").mixed_precision == "bf16"
