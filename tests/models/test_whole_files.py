"""Files and folders that are there as a whole or not at all."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch
from tiny_models import make_encoder_config, make_model, make_tree

from hf_htc.models import whole_files
from hf_htc.models.whole_files import new_folder, whole_file, whole_folder_update, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "scores.v1.json"
    for text in ("first", "second"):
        with whole_file(path) as partial:
            partial.write_text(text)
            assert partial.suffix == ".json" and (not path.exists() or path.read_text() == "first")
        assert path.read_text() == text and names(path.parent) == [path.name]


def test_an_interrupted_file_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("earlier")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "earlier" and names(tmp_path) == [path.name]
    with pytest.raises(ZeroDivisionError), whole_file(str(path)):
        raise ZeroDivisionError  # before anything is written
    assert path.read_text() == "earlier"


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_takes_its_place_when_it_is_whole(tmp_path, exists):
    folder = tmp_path / "above" / "export.v1"
    if exists:
        folder.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), new_folder(folder) as partial:
        (partial / "half").mkdir()
        raise KeyboardInterrupt
    assert names(folder.parent) == ([folder.name] if exists else [])
    with new_folder(folder) as partial:
        (partial / "whole").write_text("")
    assert names(folder.parent) == [folder.name] and names(folder) == ["whole"]


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(FileExistsError, match="give a new folder"), new_folder(path):
            pass
    assert names(tmp_path) == ["mine.txt"] and (tmp_path / "mine.txt").read_text() == "mine"


# ---------------------------------------------------------------------- where a renaming beside the target cannot be


def write_new(folder):
    with new_folder(folder) as partial:
        (partial / "data").mkdir()
        (partial / "data" / "a.txt").write_text("a")
        (partial / "README.md").write_text("b")


def check_new(folder):
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*")} == {"data", "data/a.txt", "README.md"}


def update(folder, text):
    with whole_folder_update(folder) as partial:
        for name in ("a.txt", "b.txt"):
            (partial / name).write_text(text)


def texts(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_new_folder_into_which_another_process_writes(tmp_path):
    with pytest.raises(FileExistsError, match="Another process has written"), new_folder(tmp_path / "new") as partial:
        (partial / "a.txt").write_text("ours")
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "b.txt").write_text("theirs")
    assert texts(tmp_path / "new") == {"b.txt": "theirs"} and names(tmp_path) == ["new"]


def test_a_link_stays_a_link(tmp_path):
    real, link = tmp_path / "disk" / "scores.json", tmp_path / "scores.json"
    real.parent.mkdir()
    real.write_text("old")
    link.symlink_to(real)
    with whole_file(link) as partial:
        partial.write_text("new")
    assert link.is_symlink() and real.read_text() == "new" and names(real.parent) == ["scores.json"]
    for number, write, check in ((1, write_new, check_new), (2, lambda f: update(f, "x"), lambda f: None)):
        folder, link = tmp_path / f"disk{number}", tmp_path / f"link{number}"
        folder.mkdir()
        link.symlink_to(folder)
        write(link)
        check(link)
        assert link.is_symlink() and names(folder)
    update(link, "y")
    assert texts(folder) == {"a.txt": "y", "b.txt": "y"}
    # A link among the files of a set, and one to nothing.
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to(tmp_path / "elsewhere.txt")
    update(folder, "z")
    assert (folder / "a.txt").is_symlink() and (tmp_path / "elsewhere.txt").read_text() == "z"


@pytest.fixture(params=["tmpfs", "simulated"])
def mount(request, tmp_path, monkeypatch):
    """A folder that cannot be renamed or replaced, with 2 MB of room where it is a real mount."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    if request.param == "simulated":
        replace = os.replace

        def refusing(source, target):
            if Path(target) == folder:
                raise OSError(errno.EBUSY, "Device or resource busy", str(target))
            if (Path(source).parent == folder) != (Path(target).parent == folder) and Path(source).is_dir():
                raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))
            replace(source, target)

        monkeypatch.setattr(os, "replace", refusing)
        yield folder
        return
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)  # weights may still be mapped


def test_a_mount_point(mount):
    write_new(mount)
    check_new(mount)
    assert names(mount.parent) == ["mounted"]
    with pytest.raises(FileExistsError):
        write_new(mount)
    update(mount, "old")
    with pytest.raises(KeyboardInterrupt), whole_folder_update(mount) as partial:
        (partial / "a.txt").write_text("half")
        raise KeyboardInterrupt
    assert (mount / "a.txt").read_text() == "old" and names(mount) == ["README.md", "a.txt", "b.txt", "data"]
    with whole_file(mount / "a.txt") as partial:
        partial.write_text("new")
    assert (mount / "a.txt").read_text() == "new" and len(names(mount)) == 4


def test_a_full_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        update(folder / "set", "old")
        model = make_model("flat", make_tree())
        model.save_pretrained(folder / "model")
        for target, write in (
            (folder / "set", lambda: update(folder / "set", "x" * 1_500_000)),
            (folder / "set", lambda: update(folder, "x" * 1_500_000)),
            (
                folder / "model",
                lambda: make_model("flat", make_tree(), make_encoder_config(vocab_size=50_000)).save_pretrained(folder / "model"),
            ),
        ):
            before, free = names(target), shutil.disk_usage(folder).free
            with pytest.raises(OSError, match="No space left"):
                write()
            assert names(target) == before and names(folder) == ["model", "set"] and shutil.disk_usage(folder).free == free
        assert texts(folder / "set") == {"a.txt": "old", "b.txt": "old"}
        loaded = type(model).from_pretrained(folder / "model")
        assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values()))
    finally:
        subprocess.run(["umount", "-l", folder], check=True)  # weights may still be mapped


def test_a_full_disk_that_is_found_out_at_the_end(tmp_path, monkeypatch):
    update(tmp_path / "set", "old")

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (
        lambda: update(tmp_path / "set", "new"),
        lambda: write_new(tmp_path / "new"),
        lambda: write_text(tmp_path / "set" / "a.txt", "new"),
    ):
        with pytest.raises(OSError, match="No space left"):
            write()
    assert names(tmp_path) == ["set"] and texts(tmp_path / "set") == {"a.txt": "old", "b.txt": "old"}


def test_below_a_folder_without_the_right_to_write():
    """In a process that is nobody's where this one may write everywhere."""
    work = Path(tempfile.mkdtemp())
    try:
        work.chmod(0o755)
        for name in ("set", "new"):
            (work / name).mkdir()
            (work / name).chmod(0o777)
        (work / "scores.json").write_text("old and longer")
        (work / "scores.json").chmod(0o666)
        work.chmod(0o555)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if os.getuid() == 0:
                    os.setuid(65534)
                for text in ("old", "new"):
                    update(work / "set", text)
                write_new(work / "new")
                write_text(work / "scores.json", "new")
                with pytest.raises(PermissionError):
                    write_text(work / "other.json", "new")
                with pytest.raises(PermissionError):
                    write_new(work / "other")
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert names(work) == ["new", "scores.json", "set"] and (work / "scores.json").read_text() == "new"
        assert texts(work / "set") == {"a.txt": "new", "b.txt": "new"}
        check_new(work / "new")
    finally:
        work.chmod(0o755)
        shutil.rmtree(work)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EACCES])
def test_a_file_that_cannot_be_replaced_is_overwritten(tmp_path, monkeypatch, number):
    path = tmp_path / "scores.json"
    path.write_text("old and longer")

    def refusing(source, target):
        raise OSError(number, "refused", str(target))

    monkeypatch.setattr(os, "replace", refusing)
    write_text(path, "new")
    assert path.read_text() == "new" and names(tmp_path) == ["scores.json"]
    copy, calls = shutil.copyfileobj, []

    def full(source, target, *more):
        calls.append(target)
        if len(calls) == 2:  # the old content aside, the new content
            target.write(b"ha")
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, target, *more)

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "newer")
    assert path.read_text() == "new" and names(tmp_path) == ["scores.json"]


def test_the_rights_are_those_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "a.txt") as partial, tempfile.NamedTemporaryFile(dir=tmp_path, delete=False) as stream:
            stream.write(b"a")
            stream.close()
            os.replace(stream.name, partial)  # its writer's alone, as what safetensors writes
        make_model("flat", make_tree()).save_pretrained(tmp_path / "model")
        make_model("flat", make_tree()).save_pretrained(tmp_path / "model")
    finally:
        os.umask(before)
    for path in (tmp_path / "a.txt", *(tmp_path / "model").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640, path.name
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o750


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    target = tmp_path / "checkpoint.v1"

    def die(write):
        child = os.fork()
        if child == 0:
            write()
        os.waitpid(child, 0)

    def write_half(context, path):
        with context(path) as partial:
            partial.mkdir(exist_ok=True) if context is not whole_file else partial.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    update(target, "old")
    for context, path, write in (
        (whole_folder_update, target, lambda: update(target, "new")),
        (whole_file, target / "a.txt", lambda: write_text(target / "a.txt", "newer")),
        (new_folder, tmp_path / "new", lambda: write_new(tmp_path / "new")),
    ):
        die(lambda context=context, path=path: write_half(context, path))
        left = [name for folder in (tmp_path, target) for name in names(folder) if ".partial-" in name]
        assert len(left) == 1, (context, left)
        write()
        assert not [name for folder in (tmp_path, target) for name in names(folder) if ".partial-" in name]
    # What another process of this machine is writing stays, and what one of another machine has written lately.
    (alive, old) = (f".partial-{whole_files._HOST}-{os.getppid()}-00000000", ".partial-00000000-1-00000000")
    for name in (alive, old):
        (target / name).mkdir()
    update(target, "x")
    assert names(target) == [old, alive, "a.txt", "b.txt"]
    os.utime(target / old, (0, 0))
    update(target, "y")
    assert names(target) == [alive, "a.txt", "b.txt"]


def test_a_stream_is_written_to(tmp_path):
    """`--output /dev/stdout`."""
    reading, writing = os.pipe()
    write_text(f"/dev/fd/{writing}", "text")
    os.close(writing)
    assert os.read(reading, 100) == b"text"
    os.close(reading)
    with pytest.raises(OSError, match="is a folder; give the path of a file"):
        write_text(tmp_path, "text")


def test_the_working_directory_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_new(".")
    check_new(Path("."))
    update("", "x")
    assert Path("a.txt").read_text() == "x"


@pytest.mark.parametrize("exists", [False, True])
def test_another_process_writes_into_the_folder_meanwhile(tmp_path, exists):
    """As in a checkpoint of several processes, each of which writes its random state there."""
    folder = tmp_path / "checkpoint"
    if exists:
        folder.mkdir()
    with whole_folder_update(folder) as partial:
        (partial / "model.safetensors").write_text("weights")
        folder.mkdir(exist_ok=True)
        (folder / "rng_state_1.pth").write_text("state")
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "rng_state_1.pth"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
