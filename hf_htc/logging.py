"""Messages of the package: all of them go through one logger, `hf_htc`, which is as loud as transformers is.

What a user must know ("Pooling: ...", "learning_rate = ...") is said at the level `INFO`. It is seen on stderr where transformers
has its default, `WARNING`, and not where transformers was told to say errors alone. `transformers.logging.set_verbosity` and
`TRANSFORMERS_VERBOSITY` change both packages; [`set_verbosity`] changes this one alone. A program that has set up Python's own
logging gets the messages there, and only there.
"""

import logging
import os
import sys
from logging import CRITICAL, DEBUG, ERROR, INFO, NOTSET, WARNING

from hf_htc.models.errors import HTCError


NAME = "hf_htc"
LEVELS = {"debug": DEBUG, "detail": INFO, "info": INFO, "warning": WARNING, "error": ERROR, "critical": CRITICAL}


class FollowingLogger(logging.Logger):
    """Has the level that was set or, where none was, that of transformers; loggers below it ask it for theirs."""

    @property
    def level(self):
        if self.own_level != NOTSET:
            return self.own_level
        followed = logging.getLogger("transformers").level
        if followed == NOTSET:  # not imported yet
            followed = LEVELS.get(os.environ.get("TRANSFORMERS_VERBOSITY", "").lower(), WARNING)
        return INFO if followed == WARNING else followed

    @level.setter
    def level(self, level):
        self.own_level = level


class LastHandler(logging.StreamHandler):
    """Writes to stderr what no handler of the program's own takes."""

    def emit(self, record):
        if not logging.getLogger().handlers:
            self.stream = sys.stderr  # of now: it may have been replaced since the import
            super().emit(record)


def get_logger(name=NAME):
    """
    The logger of a module.

    Args:
        name (`str`, *optional*): The module's name, `hf_htc.` before it.
    """
    return logging.getLogger(name)


def get_verbosity():
    """The level from which on messages are seen, as an `int` of Python's logging."""
    return logging.getLogger(NAME).level


def set_verbosity(level):
    """
    Sets the level from which on the package's messages are seen.

    Args:
        level (`int` or `str`): Of Python's logging: `logging.INFO`, or its name, `"info"`; `0` or `"notset"` follows
            transformers again.

    Raises:
        `HTCError`: no such level.
    """
    names = {**LEVELS, "notset": NOTSET}
    number = names.get(level.lower()) if isinstance(level, str) else level
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise HTCError(f"The verbosity is {level!r}; it is a level of Python's logging or one of {', '.join(map(repr, names))}.")
    logging.getLogger(NAME).setLevel(number)


def install():
    """Makes the logger of the package one that follows transformers; more calls do nothing."""
    logger = logging.getLogger(NAME)
    if not isinstance(logger, FollowingLogger):
        level = logger.level  # a program may have set it before the package was imported
        logger.__class__ = FollowingLogger
        logger.setLevel(level)
        handler = LastHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
