"""Reading original files out of folders and archives: what comes out, and what is refused."""

import gzip
import io
import stat
import tarfile
import zipfile

import pytest

from hf_htc.data.archives import (
    ArchiveError,
    ArchiveLimits,
    iter_files,
    list_files,
    parse_xml,
    safe_member_name,
    text_lines,
)


FILES = {"a.txt": b"first", "folder/b.txt": b"second", "__MACOSX/._a.txt": b"litter"}


def zipped(files=FILES):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/", b"")
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files=FILES, mode="w:gz", extra=()):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        folder = tarfile.TarInfo(".")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return stream.getvalue()


def read(root, wanted=None, **limits):
    files = iter_files(list_files(root), wanted, root, ArchiveLimits(**limits))
    return {name: stream.read() for name, stream in files}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.zip", zipped()),
        ("x.tgz", tarred()),
        ("x.tar.gz", tarred()),
        ("X.TAR", tarred(mode="w")),
        ("x.tar.bz2", tarred(mode="w:bz2")),
        ("x.txz", tarred(mode="w:xz")),
    ],
)
def test_archives_of_all_kinds(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    expected = {f"{name}/a.txt": b"first", f"{name}/folder/b.txt": b"second"}
    assert read(tmp_path) == expected == read(tmp_path / name)
    assert read(tmp_path, lambda inner: inner.endswith("b.txt")) == {f"{name}/folder/b.txt": b"second"}


@pytest.mark.parametrize(("inner", "outer"), [("zip", "zip"), ("tgz", "zip"), ("zip", "tgz"), ("tgz", "tgz")])
def test_nested_archives(tmp_path, inner, outer):
    make = {"zip": zipped, "tgz": tarred}
    packed = make[inner]({"deep.txt": b"deep", "deep.gz": gzip.compress(b"line")})
    (tmp_path / f"o.{outer}").write_bytes(make[outer]({f"CD1/i.{inner}": packed, "later.txt": b"later"}))
    assert read(tmp_path) == {
        f"o.{outer}/CD1/i.{inner}/deep.txt": b"deep",
        f"o.{outer}/CD1/i.{inner}/deep": b"line",
        f"o.{outer}/later.txt": b"later",
    }
    with pytest.raises(ArchiveError, match="lies in more than 0 other archives"):
        read(tmp_path, depth=1)


def test_folders_plain_files_and_packed_files(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "plain.txt").write_bytes(b"plain")
    (tmp_path / ".DS_Store").write_bytes(b"litter")
    (tmp_path / "ids.dat.gz").write_bytes(gzip.compress(b"ids"))
    assert read(tmp_path) == {"ids.dat": b"ids", "sub/plain.txt": b"plain"}
    assert read(tmp_path, lambda name: name == "ids.dat") == {"ids.dat": b"ids"}
    with pytest.raises(FileNotFoundError, match="no folder or archive"):
        list_files(tmp_path / "nowhere")


def test_links_of_the_user_are_followed_once(tmp_path):
    (tmp_path / "disc").mkdir()
    (tmp_path / "disc" / "a.txt").write_bytes(b"a")
    data = tmp_path / "data"
    data.mkdir()
    (data / "CD1").symlink_to(tmp_path / "disc")
    (data / "again").symlink_to(data)
    (data / "b.txt").symlink_to(tmp_path / "disc" / "a.txt")
    assert read(data) == {"CD1/a.txt": b"a", "b.txt": b"a"}


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/etc/evil", "\\evil", "C:\\evil", "C:evil", "..\\evil", "a/\0b", ""]
)
def test_unsafe_paths(name):
    with pytest.raises(ArchiveError, match="'x.zip' holds the path"):
        safe_member_name(name, "x.zip")


def test_safe_paths():
    assert safe_member_name("./a//b\\c..d", "x.zip") == "a/b/c..d"


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt"])
def test_archives_with_unsafe_paths_are_refused(tmp_path, make, name):
    path = tmp_path / ("x.zip" if make is zipped else "x.tgz")
    path.write_bytes(make({"good.txt": b"good", name: b"evil"}))
    with pytest.raises(ArchiveError, match="leaves the archive"):
        read(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_tar_archives(tmp_path, kind):
    link = tarfile.TarInfo("link.txt")
    link.type, link.linkname = kind, "a.txt"
    (tmp_path / "x.tgz").write_bytes(tarred(extra=[link]))
    with pytest.raises(ArchiveError, match=r"'x\.tgz' holds 'link\.txt', which is a link or no plain file"):
        read(tmp_path)


def test_links_and_encrypted_members_in_zip_archives(tmp_path):
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError, match=r"'link\.txt', which is a link"):
        read(tmp_path)
    content = bytearray(zipped({"a.txt": b"a"}))
    content[content.rindex(b"PK\x01\x02", 0, content.rindex(b"a.txt")) + 8] |= 1  # the flag in the central directory
    (tmp_path / "x.zip").write_bytes(bytes(content))
    with pytest.raises(ArchiveError, match="encrypted"):
        read(tmp_path)


@pytest.mark.parametrize(("name", "make"), [("x.zip", zipped), ("x.tgz", tarred)])
def test_bombs(tmp_path, name, make):
    (tmp_path / name).write_bytes(make({"zeros.txt": bytes(3_000_000)}))
    assert len(read(tmp_path)[f"{name}/zeros.txt"]) == 3_000_000  # small ones are harmless
    with pytest.raises(ArchiveError, match="looks like an archive bomb"):
        read(tmp_path, free=100_000)
    with pytest.raises(ArchiveError, match="says that it is 3000000 bytes large; the limit is 1000"):
        read(tmp_path, member_size=1000)
    with pytest.raises(ArchiveError, match="unpacks to more than 1000 bytes"):
        read(tmp_path, total_size=1000, free=0)
    (tmp_path / name).write_bytes(make({f"{i}.txt": b"x" for i in range(5)}))
    with pytest.raises(ArchiveError, match="holds more than 4 files"):
        read(tmp_path, members=4)


def test_bombs_in_archives_in_archives_and_in_packed_files(tmp_path):
    bomb = zipped({"zeros.txt": bytes(3_000_000)})
    (tmp_path / "x.tgz").write_bytes(tarred({"a.zip": zipped({"b.zip": bomb})}))
    with pytest.raises(ArchiveError, match="archive bomb"):
        read(tmp_path, free=100_000)
    (tmp_path / "x.tgz").unlink()
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(3_000_000)))
    with pytest.raises(ArchiveError, match="archive bomb"):
        read(tmp_path, free=100_000)


def test_unwanted_members_of_a_zip_archive_are_not_unpacked(tmp_path):
    (tmp_path / "x.zip").write_bytes(zipped({"zeros.bin": bytes(3_000_000), "a.txt": b"a"}))
    assert read(tmp_path, lambda name: name.endswith(".txt"), free=100_000) == {"x.zip/a.txt": b"a"}


def test_a_member_is_streamed(tmp_path):
    """Its beginning is there without the rest being unpacked."""
    (tmp_path / "x.tgz").write_bytes(tarred({"large.txt": bytes(20_000_000), "b.txt": b"b"}))
    for _, stream in iter_files(list_files(tmp_path), None, tmp_path, ArchiveLimits(total_size=5_000_000)):
        assert stream.read(10) == bytes(10)
        break


@pytest.mark.parametrize("name", ["x.zip", "x.tgz", "x.gz", "x.tar"])
def test_what_is_no_archive_or_is_cut_off(tmp_path, name):
    (tmp_path / name).write_bytes(b"<html>404: not found</html>" * 40)
    with pytest.raises(ArchiveError, match=rf"'{name}' is (no archive|damaged)"):
        read(tmp_path)
    whole = {"x.zip": zipped, "x.tgz": tarred, "x.gz": lambda: gzip.compress(b"x" * 99), "x.tar": lambda: tarred(mode="w")}[
        name
    ]()
    # The first file's content begins at byte 1024 of the tar archive.
    (tmp_path / name).write_bytes(whole[:1027] if name == "x.tar" else whole[:-12])
    with pytest.raises(ArchiveError, match="damaged"):
        read(tmp_path)


def test_lines_and_their_encodings():
    def lines(data, *encodings):
        return list(text_lines(io.BufferedReader(io.BytesIO(data)), "a.txt", *encodings))

    assert lines(b"\xef\xbb\xbfa\r\nb\x0cc\n") == [(1, "a"), (2, "b\x0cc")]
    assert lines("ä\r\nb".encode("utf-16")) == [(1, "ä"), (2, "b")]
    assert lines(b"caf\xe9\ncaf\xc3\xa9", ("utf-8", "cp1252")) == [(1, "café"), (2, "café")]
    with pytest.raises(ValueError, match=r"a\.txt, after line \d: not UTF-16 text"):
        lines("a\n".encode("utf-16") + b"b\x00\x00\xdc")
    with pytest.raises(ValueError, match=r"a\.txt, line 2: not utf-8 text"):
        lines(b"a\ncaf\xe9")


def test_xml():
    head = b'<?xml version="1.0" encoding="iso-8859-1"?>\n<!DOCTYPE n SYSTEM "http://a.example/n.dtd">\n'
    document = head + b'<n a="1"><p>caf\xe9 &mdash; &amp;</p></n>'
    root = parse_xml(document, "a.xml")
    assert root.get("a") == "1" and root.find("p").text == "café — &"
    with pytest.raises(ValueError, match=r"a\.xml, line 2: not well-formed"):
        parse_xml(b"<n>\n<p></n>", "a.xml")


@pytest.mark.parametrize(
    "declaration",
    ['<!ENTITY x SYSTEM "file:///etc/passwd">', '<!ENTITY x "xxxxxxxxxx">', '<!ENTITY % x SYSTEM "http://a.example/x">'],
)
def test_xml_with_entities_of_its_own_is_refused(declaration):
    with pytest.raises(ValueError, match=r"a\.xml declares the XML entity 'x'"):
        parse_xml(f"<!DOCTYPE n [{declaration}]><n>&x;</n>".encode(), "a.xml")
