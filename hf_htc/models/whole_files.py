"""Files and folders that are there as a whole or not at all: written beside the target, which they then replace."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from .errors import HTCFileExistsError


@contextmanager
def whole_file(path):
    """
    Gives a path with the ending of `path` beside it; the file written there takes the place of `path` when the block ends, and is
    gone when the block raises. Missing folders are made.

    Args:
        path (`str`): The file.

    Yields:
        `pathlib.Path`: where to write.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(folder):
    """
    Gives an empty folder beside `folder`, which becomes `folder` when the block ends, and is gone when the block raises.

    Args:
        folder (`str`): New or empty.

    Yields:
        `pathlib.Path`: where to write.

    Raises:
        `FileExistsError`: `folder` is a file, or not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HTCFileExistsError(f"{str(folder)!r} exists and is not empty; give a new folder.")
    partial = _beside(folder)
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process with the same number
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            folder.rmdir()  # not every system replaces an empty folder
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _beside(path):
    return path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
