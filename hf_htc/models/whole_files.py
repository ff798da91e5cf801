"""Files and folders that are there as a whole or not at all, whatever ends the writing: an exception, a full disk, a kill.

What is written stands in a *partial* file or folder first, which then takes its place. Its name says who writes it; what a killed
process has left is removed by the next one that writes to the same place. A link stays a link: its target gets the new content.

* [`whole_file`]: one file. The partial one stands beside it and replaces it by one renaming.
* [`new_folder`]: a folder that was missing or empty. The partial one stands beside it and becomes it by one renaming; where that
  cannot be (a mount point, a parent that one may not write to, the working directory) it stands inside, and its files are placed
  as below.
* [`whole_folder_update`]: files of a folder that belong together, such as a checkpoint. The new set is written inside the folder
  and is *decided on* when its folder is renamed from `.partial-...` to `.whole-...`. From there on the files are placed one by
  one, as links where the file system has them, so that `.whole-...` stays complete until all of them have their places. A kill
  in between leaves it there, and [`finish_update`] or the next writing places the rest. Until then:

  - Of a checkpoint, the first file that is placed is a `config.json` that leads transformers to the weights in `.whole-...`
    (by `transformers_weights`, which it never writes down itself). So every loader reads the old config with the old weights or
    the new with the new, at any moment. The last one placed is the new `config.json` itself.
  - PEFT knows no such lead: `adapter_config.json` is taken away first and placed last. In between, the folder loads by what calls
    [`finish_update`], as all commands do, and by nothing else.

The one exception is a single file that cannot be replaced, because it is a mount point itself or because its folder takes no new
files: it is overwritten. Its old content comes back after an exception, but not after a kill.
"""

import errno
import json
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
import time
import zlib
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .errors import HTCFileExistsError, HTCOSError


# `.[name.]partial-<host>-<process>-<random>[.suffix]`, or `whole` in place of `partial`.
_OURS = re.compile(
    r"\.(?:(?P<stem>.+)\.)?(?P<state>partial|whole)-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<token>[0-9a-f]{8})(?P<suffix>\..+)?"
)
_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
# Whether a process of another machine is still there cannot be seen from here; its leftovers go when they are a day old.
_OLD_SECONDS = 24 * 3600
# Tokens of what this process is writing: a process of the same number may have been killed before.
_LIVE: set[str] = set()
# Another file system, a mount point, no right to write there; a folder into which another process has written meanwhile.
_CANNOT_REPLACE = {errno.EXDEV, errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTEMPTY, errno.EEXIST}
_NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS}
# Inside a partial folder: what is needed to place its files, no part of them.
_OWN = ".update"
_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
_WEIGHTS = re.compile(r"model(?:\.(?P<variant>.+?))?(?:-\d{5}-of-\d{5})?\.safetensors")
_INDEX = re.compile(r"model\.safetensors\.index(?:\.(?P<variant>.+?))?\.json")


@contextmanager
def whole_file(path):
    """
    Gives a path with the ending of `path` beside it; the file written there takes the place of `path` when the block ends, and is
    gone when the block raises. Missing folders are made.

    Args:
        path (`str`): The file.

    Yields:
        `pathlib.Path`: where to write.

    Raises:
        `OSError`: `path` is a folder, or one may not write there.
    """
    given, path = Path(path), Path(os.path.realpath(path))
    if path.is_dir():
        raise HTCOSError(f"{str(path)!r} is a folder; give the path of a file.")
    if given.exists() and not given.is_file():  # a pipe or a terminal: nothing to be replaced
        with tempfile.TemporaryDirectory() as elsewhere:
            yield Path(elsewhere) / given.name
            with open(given, "wb") as stream, open(Path(elsewhere) / given.name, "rb") as content:
                shutil.copyfileobj(content, stream)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent, path)
    partial, elsewhere, mode = _partial(path), None, 0
    try:
        try:
            with open(partial, "x"):
                mode = partial.stat().st_mode
            partial.unlink()
        except OSError as error:
            if error.errno not in _NO_RIGHT or not os.access(path, os.W_OK):
                raise
            elsewhere = Path(tempfile.mkdtemp())
            partial = elsewhere / partial.name
        yield partial
        _complete(partial, mode)
        _move(partial, path)
    finally:
        _forget(partial)
        if elsewhere is not None:
            shutil.rmtree(elsewhere, ignore_errors=True)


def write_text(path, text):
    """Writes a text file in UTF-8, see [`whole_file`]."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def new_folder(folder):
    """
    Gives an empty folder, which becomes `folder` when the block ends, and is gone when the block raises.

    Args:
        folder (`str`): New or empty; what a killed process has left in it does not count.

    Yields:
        `pathlib.Path`: where to write.

    Raises:
        `FileExistsError`: `folder` is a file, or not empty.
    """
    target = Path(os.path.realpath(folder))
    if target.is_dir():
        finish_update(target)
        _sweep(target)
    if target.exists() and not (target.is_dir() and _is_empty(target)):
        raise HTCFileExistsError(f"{str(folder)!r} exists and is not empty; give a new folder.")
    with _staged(target) as partial:
        yield partial


@contextmanager
def whole_folder_update(folder, removes=()):
    """
    Gives an empty folder; the files written there, also in folders of it, become files of `folder` when the block ends, all of
    them or, when the block raises, none. Other files stay, except weights that the new ones make stale: other shards of the same
    variant.

    Args:
        folder (`str`): Made if missing.
        removes (`Iterable[str]`, *optional*): Files of `folder`, by relative path, that go with what is replaced; those that are
            written anew stay.

    Yields:
        `pathlib.Path`: where to write.

    Raises:
        `OSError`: `folder` is a file, or one may not write there.
    """
    target = Path(os.path.realpath(folder))
    if target.exists() and not target.is_dir():
        raise HTCOSError(f"{str(folder)!r} is a file; give a folder.")
    if target.is_dir():
        finish_update(target)
        _sweep(target)
    with _staged(target, removes) as partial:
        yield partial


def finish_update(folder):
    """
    Places the files of an update that was decided on and then cut off; nothing else is changed.

    Args:
        folder (`str`): As in [`whole_folder_update`]. What is no folder has nothing to finish.
    """
    target = Path(os.path.realpath(folder))
    if not target.is_dir():
        return
    for whole in _ours_in(target, "whole"):
        with _lock(whole):
            if whole.is_dir():  # else another process has been quicker
                _place(whole, target)


def stale_weights(present, written):
    """
    Weights files that are no longer those of a checkpoint: shards, index or single file of a variant that was written anew.

    Args:
        present (`list[str]`), written (`list[str]`): Names of the files that are there, and of the new ones.

    Returns:
        `list[str]`
    """
    variants = {_variant(name) for name in written} - {None}
    return [name for name in present if _variant(name) in variants and name not in written]


# ---------------------------------------------------------------------- partial files and folders


def _partial(path):
    """A new name beside `path`, with its ending. What is written for a partial file or folder looks like that one."""
    stem, suffix = _name_parts(path)
    token = secrets.token_hex(4)
    _LIVE.add(token)
    return path.with_name(f".{stem + '.' if stem else ''}partial-{_HOST}-{os.getpid()}-{token}{suffix or ''}")


def _partial_inside(folder):
    return _partial(folder / f".partial-{_HOST}-0-00000000")


def _name_parts(path):
    """What partial files and folders of `path` have in their names: in front, `None` of those inside, and behind, or `None`."""
    ours = _OURS.fullmatch(path.name)
    if ours:
        return ours["stem"], ours["suffix"]
    # Names have 255 bytes at most.
    return path.stem.encode()[:150].decode(errors="ignore"), path.suffix if 0 < len(path.suffix) < 30 else None


def _forget(partial):
    """Takes away what is left of a partial file or folder of this process."""
    _LIVE.discard(_OURS.fullmatch(partial.name)["token"])
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    elif os.path.lexists(partial):
        partial.unlink(missing_ok=True)


def _ours_in(folder, state, of=None):
    """What we have named `state` in a folder: for the file or folder `of`, or for the folder itself."""
    parts, found = (None, None) if of is None else _name_parts(of), []
    for entry in os.scandir(folder):
        name = _OURS.fullmatch(entry.name)
        if name and name["state"] == state and (name["stem"], name["suffix"]) == parts:
            found.append(Path(entry.path))
    return found


def _is_empty(folder):
    return all(_OURS.fullmatch(path.name) for path in folder.iterdir())


def _sweep(folder, of=None):
    """Removes what killed processes have left in a folder, as far as one may."""
    try:
        for path in _ours_in(folder, "partial", of):
            if _is_abandoned(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError:
        pass  # one may not look into this folder or take anything away, or another process just did


def _is_abandoned(path):
    name = _OURS.fullmatch(path.name)
    if name["host"] != _HOST:
        return time.time() - path.stat().st_mtime > _OLD_SECONDS
    if int(name["pid"]) == os.getpid():
        return name["token"] not in _LIVE
    try:
        os.kill(int(name["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False


@contextmanager
def _staged(target, removes=()):
    beside = _make_beside(target) if not target.exists() or _is_empty(target) else None
    partial = beside
    try:
        if beside is None:
            partial = _partial_inside(target)
            partial.mkdir()
        mode = partial.stat().st_mode
        yield partial
        _complete(partial, mode)
        if beside is not None:
            if _become(beside, target):
                return
            partial = _partial_inside(target)
            shutil.copytree(beside, partial)
            _complete(partial)
        _decide(partial, target, removes)
    finally:
        for left in {beside, partial} - {None}:
            _forget(left)


def _make_beside(target):
    """A partial folder beside the target, or `None` where it could not become the target."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent, target)
    if target.exists():
        is_mount = os.path.ismount(target) or target.stat().st_dev != target.parent.stat().st_dev
        if is_mount or any(target.iterdir()) or target == Path(os.path.realpath(os.getcwd())):
            return None
    partial = _partial(target)
    try:
        partial.mkdir()
    except OSError as error:
        _forget(partial)
        if error.errno not in _NO_RIGHT or not target.exists():
            raise
        return None
    return partial


def _become(partial, target):
    """Renames a folder to a missing or empty one; whether that could be done."""
    try:
        if target.exists():
            shutil.copymode(target, partial)
            if os.name == "nt":
                target.rmdir()
        os.replace(partial, target)
    except OSError as error:
        if error.errno not in _CANNOT_REPLACE or not target.is_dir():
            raise
        return False
    return True


def _complete(path, mode=0):
    """
    Brings a file or all files of a folder to the disk, so that a renaming does not get there before them. They get the rights in
    `mode`, those of a file made here; what safetensors and others write is their writer's alone.
    """
    for file in [path] if path.is_file() else [entry for entry in path.rglob("*") if entry.is_file()]:
        rights = stat.S_IMODE(file.stat().st_mode)
        if rights | mode & 0o666 != rights:
            with suppress(OSError):  # where all files have the same rights
                file.chmod(rights | mode & 0o666)
        with open(file, "rb") as stream:
            try:
                os.fsync(stream.fileno())
            except OSError as error:  # not every file system can, and a full one is found out here
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                    raise


def _move(source, target):
    """Renames a file, or copies it to its place where it cannot be renamed."""
    try:
        os.replace(source, target)
        return
    except OSError as error:
        if error.errno not in _CANNOT_REPLACE:
            raise
        reason = error
    beside = _partial(target)
    try:
        shutil.copyfile(source, beside)
        _complete(beside)
        os.replace(beside, target)
    except OSError as error:
        if error.errno not in _CANNOT_REPLACE:
            raise
        if not os.access(target, os.W_OK):
            raise reason from None
        _overwrite(source, target)
    finally:
        _forget(beside)


def _overwrite(source, target):
    with tempfile.TemporaryFile() as earlier, open(target, "r+b") as stream:
        shutil.copyfileobj(stream, earlier)
        try:
            with open(source, "rb") as new:
                _refill(stream, new)
        except BaseException:
            _refill(stream, earlier)
            raise


def _refill(stream, content):
    stream.seek(0), content.seek(0)
    shutil.copyfileobj(content, stream)
    stream.truncate()
    stream.flush()
    os.fsync(stream.fileno())


# ---------------------------------------------------------------------- sets of files


def _decide(partial, target, removes):
    """From the renaming on, the new set counts; then places its files."""
    whole = target / partial.name.replace("partial-", "whole-", 1)
    own = partial / _OWN
    own.mkdir()
    names = _files(partial)
    lead = _lead(partial, names, whole.name)
    if lead is not None:
        (own / _CONFIG).write_text(lead, encoding="utf-8")
    (own / "removes.json").write_text(json.dumps(sorted(set(removes) - set(names))), encoding="utf-8")
    _complete(own)
    with _lock(partial):
        os.replace(partial, whole)
        try:
            _place(whole, target)
        except BaseException:  # an interrupt should not leave the rest to others
            if whole.is_dir():
                _place(whole, target)
            raise


def _files(folder):
    """Relative paths of all files in it, ours left out."""
    paths = (Path(root, name).relative_to(folder) for root, _, names in os.walk(folder) for name in names)
    return sorted(path.as_posix() for path in paths if path.parts[0] != _OWN)


def _lead(partial, names, folder):
    """The text of a config that leads to the weights of a checkpoint in `folder`; `None` of what is no checkpoint."""
    weights = [name for name in names if _variant(name) is not None]
    if _CONFIG not in names or not weights:
        return None
    index = next((name for name in weights if _INDEX.fullmatch(name)), None)
    leads_to = weights[0]
    if index is not None:  # which names its shards from the checkpoint's folder on
        content = json.loads((partial / index).read_text(encoding="utf-8"))
        content["weight_map"] = {key: f"{folder}/{name}" for key, name in content["weight_map"].items()}
        leads_to = f"{_OWN}/model.safetensors.index.json"
        (partial / leads_to).write_text(json.dumps(content), encoding="utf-8")
    config = json.loads((partial / _CONFIG).read_text(encoding="utf-8"))
    return json.dumps({**config, "transformers_weights": f"{folder}/{leads_to}"})


def _variant(name):
    """The variant of a weights file by its name, `""` where it has none; `None` of another file."""
    found = _INDEX.fullmatch(name) or _WEIGHTS.fullmatch(name)
    return None if found is None else found["variant"] or ""


def _place(whole, target):
    """Gives the files of a set their places. Cut off and done again, it ends the same."""
    names = _files(whole)
    removes = json.loads((whole / _OWN / "removes.json").read_text(encoding="utf-8"))
    lead = whole / _OWN / _CONFIG
    code = [name for name in names if name.endswith(".py")]  # of the new config; the old one's is ours, too
    last = [name for name in (_CONFIG, _ADAPTER) if name in names]
    for name in code:
        _put(whole / name, target / name)
    if lead.is_file():
        _put(lead, target / _CONFIG)
        for name in removes:  # an adapter's config would be read before the checkpoint's
            _remove(target / name)
    elif _ADAPTER in names:
        _remove(target / _ADAPTER)
    # Files before folders: a data set's README and taxonomy before its documents.
    for name in sorted(set(names) - set(code) - set(last), key=lambda name: (name.count("/"), name)):
        _put(whole / name, target / name)
    for name in [*removes, *stale_weights([path.name for path in target.iterdir()], names)]:
        _remove(target / name)
    for name in last:
        _put(whole / name, target / name)
    done = whole.with_name(whole.name.replace("whole-", "partial-", 1))  # half taken away, it must not be placed again
    os.replace(whole, done)
    shutil.rmtree(done)


def _put(source, target):
    """A file in its place by one renaming; the source stays."""
    target = Path(os.path.realpath(target))
    if target.exists() and os.path.samefile(source, target):
        return  # a renaming would leave both names
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent, target)
    partial = _partial(target)
    try:
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)
            _complete(partial)
        _move(partial, target)
    finally:
        _forget(partial)


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _lock(folder):
    """Of several processes that would place the same files one does; a killed one holds no lock. Windows has no such locks."""
    with ExitStack() as stack:
        with suppress(ImportError, OSError):  # not every file system has locks; or another process has just placed the files
            import fcntl

            fcntl.flock(stack.enter_context(open(folder / _OWN / "removes.json", "rb")), fcntl.LOCK_EX)
        yield
