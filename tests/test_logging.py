"""`hf_htc.logging`: one logger, as loud as transformers, seen once."""

import logging
import os
import subprocess
import sys

import pytest
from transformers.utils import logging as transformers_logging

import hf_htc
from hf_htc.models.errors import HTCError


MESSAGE = "Pooling: 'cls', the encoder's own."
SAY = f"logging.getLogger('hf_htc.models.modeling_htc').info({MESSAGE!r})"


def stderr_of(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", "import logging\n" + program], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    "program, environment, expected",
    [
        (f"import hf_htc; {SAY}", {}, [MESSAGE]),
        (f"import hf_htc; {SAY}", {"TRANSFORMERS_VERBOSITY": "error"}, []),
        (f"import hf_htc; hf_htc.logging.set_verbosity('warning'); {SAY}", {}, []),
        (f"import hf_htc; logging.basicConfig(); {SAY}", {}, [f"INFO:hf_htc.models.modeling_htc:{MESSAGE}"]),
        (f"logging.getLogger('hf_htc').setLevel('ERROR'); import hf_htc; {SAY}", {}, []),
        (f"from hf_htc.cli.common import set_up_logging; set_up_logging(); {SAY}", {}, [MESSAGE]),
    ],
)
def test_what_is_seen_in_a_fresh_process(program, environment, expected):
    assert stderr_of(program, **environment) == expected


def test_transformers_is_followed():
    logger, before = hf_htc.logging.get_logger("hf_htc.data.x"), transformers_logging.get_verbosity()
    try:
        seen = {}
        for name in ("critical", "error", "warning", "info", "debug"):
            transformers_logging.set_verbosity(hf_htc.logging.LEVELS[name])
            levels = ("debug", "info", "warning", "error", "critical")
            seen[name] = [n for n in levels if logger.isEnabledFor(hf_htc.logging.LEVELS[n])]
        transformers_logging.set_verbosity_error()
        hf_htc.logging.set_verbosity("info")
        assert logger.isEnabledFor(logging.INFO) and hf_htc.logging.get_verbosity() == logging.INFO
    finally:
        hf_htc.logging.set_verbosity("notset")
        transformers_logging.set_verbosity(before)
    every = ["debug", "info", "warning", "error", "critical"]
    assert seen == {"critical": every[4:], "error": every[3:], "warning": every[1:], "info": every[1:], "debug": every}


def test_a_level_that_is_none():
    for level in ("loud", -1, True, None):
        with pytest.raises(HTCError, match="The verbosity is .*; it is a level of Python's logging or one of 'debug', "):
            hf_htc.logging.set_verbosity(level)
