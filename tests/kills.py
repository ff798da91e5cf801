"""Kills at chosen moments: a function runs in a child process that ends itself, as by `kill -9`, before its k-th operation on a
file. Exact, and without waiting.

Operations are what changes a file system: opening for writing, writing, flushing, renaming, removing, cutting, making folders,
and what changes an SQLite file through SQLAlchemy. They are noted in the child only, by patches that the parent never has.
"""

import builtins
import contextlib
import gc
import io
import json
import os
import shutil
import signal
import tempfile

from tqdm.std import TqdmDefaultWriteLock


def operations(function):
    """Runs a function to its end in a child process; returns its operations, `list[str]`."""
    code, found = _recorded(function, None)
    assert code == 0, "the function fails by itself"
    return found


def kill_at(function, number):
    """Runs a function in a child process that is killed before its operation `number`, counted from 0."""
    code, _ = _recorded(function, number)
    assert code == -signal.SIGKILL, f"operation {number} is behind the last one"


def moments(found, words=(), least=20):
    """At least 20 numbers of operations over the whole, among them those that name one of `words`."""
    spread = {round(place * (len(found) - 1) / (least - 1)) for place in range(least)}
    named = {number for number, operation in enumerate(found) if any(word in operation for word in words)}
    return sorted(spread | named)


def end_of(function):
    """Runs a function in a child process; returns its exit code, that of a signal negative."""
    gc.freeze()  # the child's collections would copy the parent's memory
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(120)  # a child that hangs is a failed test
            # The lock of progress bars is shared, and the parent would wait for ever for a killed child that holds it.
            TqdmDefaultWriteLock.acquire = TqdmDefaultWriteLock.release = lambda self, *args, **kwargs: True
            function()
            code = 0
        finally:
            os._exit(code)
    gc.unfreeze()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(*_):
    """Ends this process without a word, as a power cut does."""
    os.kill(os.getpid(), signal.SIGKILL)


def _recorded(function, number):
    with tempfile.TemporaryFile("w+") as notes:

        def run():
            recorder = _Recorder(number)
            recorder.patch()
            with open(os.devnull, "r+") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                recorder.is_on = True
                function()
                recorder.is_on = False
            json.dump(recorder.found, notes)
            notes.flush()

        code = end_of(run)
        notes.seek(0)
        return code, json.loads(notes.read() or "[]")


class _Recorder:
    def __init__(self, number):
        self.number, self.found, self.is_on = number, [], False

    def note(self, what):
        if not self.is_on:
            return
        if len(self.found) == self.number:
            kill()
        self.found.append(what)

    def before(self, function):
        def noted(path, *args, **kwargs):
            self.note(f"{function.__name__} {path} {args[0] if args else ''}")
            return function(path, *args, **kwargs)

        return noted

    def patch(self):
        for name in ("replace", "rename", "unlink", "remove", "rmdir", "mkdir", "truncate", "link", "chmod"):
            setattr(os, name, self.before(getattr(os, name)))
        shutil.rmtree = self.before(shutil.rmtree)
        os.fsync = lambda number: None  # a kill does not take the power away
        opened = io.open

        def noting_open(file, mode="r", *args, **kwargs):
            if not set(mode) & set("wax+"):
                return opened(file, mode, *args, **kwargs)
            self.note(f"open {file} {mode}")
            return _Stream(opened(file, mode, *args, **kwargs), self)

        builtins.open = io.open = noting_open
        with contextlib.suppress(ImportError):
            from sqlalchemy import Engine, event

            event.listen(Engine, "commit", lambda connection: self.note("commit"))
            event.listen(Engine, "before_cursor_execute", lambda *args: self.note("execute") if args[2][:6] != "SELECT" else None)


class _Stream:
    """A file that is written: each operation is noted, and reaches the file half before the process may end."""

    def __init__(self, stream, recorder):
        self._stream, self._recorder = stream, recorder

    def write(self, content):
        half = len(content) // 2
        self._stream.write(content[:half])
        self._stream.flush()
        self._recorder.note("write")
        self._stream.write(content[half:])
        return len(content)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        self._recorder.note("flush")
        self._stream.flush()

    def truncate(self, *size):
        self._recorder.note("truncate")
        return self._stream.truncate(*size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._recorder.note("close")
        self._stream.close()

    def __iter__(self):
        return iter(self._stream)

    def __getattr__(self, name):
        return getattr(self._stream, name)
