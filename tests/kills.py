"""Kills at chosen moments: a function runs in a child process that ends itself, as by `kill -9`, at its k-th operation on a
file.

Operations are what changes a file system: opening for writing, writing, flushing, renaming, removing, cutting, making folders,
and what changes an SQLite file through SQLAlchemy. They are counted in the child only, by patches that the parent never has.
"""

import builtins
import contextlib
import gc
import io
import os
import shutil
import signal


def operations(function):
    """Runs a function to its end in a child process; returns how many operations it has."""
    code, count = _in_child(function, None)
    assert code == 0, "the function fails by itself"
    return count


def kill_at(moment, function):
    """Runs a function in a child process that is killed before its `moment`-th operation, counted from 1."""
    code, _ = _in_child(function, moment)
    assert code == -signal.SIGKILL, f"moment {moment} is behind the last operation"


def _in_child(function, moment):
    read, write = os.pipe()
    gc.freeze()  # the child's collections would copy the parent's memory
    child = os.fork()
    if child == 0:
        os.close(read)
        code = 1
        try:
            signal.alarm(60)  # a child that hangs is a failed test
            counter = _Counter(moment)
            counter.patch()
            with open(os.devnull, "r+") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                counter.is_on = True
                function()
                counter.is_on = False
            os.write(write, str(counter.count).encode())
            code = 0
        finally:
            os._exit(code)
    gc.unfreeze()
    os.close(write)
    with os.fdopen(read) as stream:
        count = stream.read()
    _, status = os.waitpid(child, 0)
    return (-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)), int(count or 0)


class _Counter:
    def __init__(self, moment):
        self.moment, self.count, self.is_on = moment, 0, False

    def tick(self):
        if not self.is_on:
            return
        self.count += 1
        if self.count == self.moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, function):
        def counted(*args, **kwargs):
            self.tick()
            return function(*args, **kwargs)

        return counted

    def patch(self):
        for name in ("replace", "rename", "unlink", "remove", "rmdir", "mkdir", "truncate", "link"):
            setattr(os, name, self.before(getattr(os, name)))
        shutil.rmtree = self.before(shutil.rmtree)
        opened = io.open

        def counting_open(file, mode="r", *args, **kwargs):
            stream = opened(file, mode, *args, **kwargs)
            return _Stream(stream, self) if set(mode) & set("wax+") else stream

        builtins.open = io.open = counting_open
        with contextlib.suppress(ImportError):
            from sqlalchemy import Engine, event

            event.listen(Engine, "commit", lambda connection: self.tick())
            event.listen(Engine, "before_cursor_execute", lambda *args: self.tick() if args[2][:6] != "SELECT" else None)


class _Stream:
    """A file that is written: each operation is counted, and reaches the file half before the process may end."""

    def __init__(self, stream, counter):
        self._stream, self._counter = stream, counter
        counter.tick()

    def write(self, content):
        half = len(content) // 2
        self._stream.write(content[:half])
        self._stream.flush()
        self._counter.tick()
        self._stream.write(content[half:])
        return len(content)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        self._counter.tick()
        self._stream.flush()

    def truncate(self, *size):
        self._counter.tick()
        return self._stream.truncate(*size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._counter.tick()
        self._stream.close()

    def __iter__(self):
        return iter(self._stream)

    def __getattr__(self, name):
        return getattr(self._stream, name)
