"""A kill -9 before a chosen file-system operation, exact and without waiting."""

import builtins
import io
import json
import os
import signal
import tempfile
from pathlib import Path


COUNTED = ("replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir", "chmod")


def operations(write):
    """The file-system operations of `write()`, `list[str]`, run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "operations.json"
        assert _forked(write, report=report) == 0
        return json.loads(report.read_text())


def kill_at(write, number):
    """Runs `write()` in a process of its own that kills itself before its operation `number`, from 0."""
    assert _forked(write, number) == -signal.SIGKILL


def moments(found, words=(), least=20):
    """At least 20 numbers of operations over the whole, among them those that name one of `words`."""
    spread = {round(place * (len(found) - 1) / (least - 1)) for place in range(least)}
    named = {number for number, operation in enumerate(found) if any(word in operation for word in words)}
    return sorted(spread | named)


def _forked(write, number=None, report=None):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            done = _count(number)
            write()
            if report is not None:
                done, found = [], list(done)
                report.write_text(json.dumps(found))
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _count(number):
    """From here on every operation of this process is noted, and the one with the number is not reached."""
    found, kill, own = [], os.kill, os.getpid()

    def counting(name, function):
        def counted(path, *arguments, **options):
            writes = name != "open" or any("w" in str(a) or "x" in str(a) or "+" in str(a) for a in arguments[:1])
            if writes:
                if len(found) == number:
                    kill(own, signal.SIGKILL)
                found.append(f"{name} {path} {arguments[0] if arguments else ''}")
            return function(path, *arguments, **options)

        return counted

    for name in COUNTED:
        setattr(os, name, counting(name, getattr(os, name)))
    builtins.open = io.open = counting("open", builtins.open)
    os.fsync = lambda number: None  # a kill does not take the power away
    return found
