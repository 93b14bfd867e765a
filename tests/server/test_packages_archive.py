from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from package_sources import contents, tgz

from oomol_connect_sdk.server.packages import InstallError, Limits
from oomol_connect_sdk.server.packages.archive import unpack
from oomol_connect_sdk.server.packages.tree import PackageTree, copy_directory

MEGABYTE = 1024 * 1024


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def tar(
    *members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], encoding: str = "utf-8"
) -> bytes:
    buffer = io.BytesIO()
    options: Any = {"format": tarfile.GNU_FORMAT, "encoding": encoding}
    with tarfile.open(fileobj=buffer, mode="w:gz", **options) as archive:
        for item in members:
            info, content = item if isinstance(item, tuple) else (item, b"")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(
    *names: str, mode: int = stat.S_IFREG | 0o644, method: int = zipfile.ZIP_STORED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo()
            info.filename = name
            info.external_attr = mode << 16
            info.compress_type = method
            archive.writestr(info, b"content")
    return buffer.getvalue()


def unpacked(tmp_path: Path, archive: bytes, limits: Limits | None = None) -> dict[str, str]:
    """Unpack, and check that nothing was written anywhere else; even when that is refused."""
    inside = tmp_path / "inside"
    inside.mkdir(parents=True)
    (inside / "archive").write_bytes(archive)
    root = inside / "unpacked"
    try:
        unpack(inside / "archive", root, limits or Limits())
        return contents(root)
    finally:
        assert list(tmp_path.iterdir()) == [inside]
        assert {path.name for path in inside.iterdir()} == {"archive", "unpacked"}
        assert (inside / "archive").read_bytes() == archive
        assert not [path for path in root.rglob("*") if path.is_symlink()]


MALICIOUS = {
    "an absolute path": (tar(member("/tmp/evil")), "absolute path"),
    "two slashes": (tar(member("//evil")), "absolute path"),
    "a path that leads out": (tar(member("../evil")), "leads out"),
    "a path that leads out later": (tar(member("a/b/../../../evil")), "leads out"),
    "a directory outside": (tar(member("../evil", tarfile.DIRTYPE)), "leads out"),
    "a drive": (tar(member("C:/evil")), "Windows"),
    "a drive and a backslash": (tar(member("C:\\evil")), "Windows"),
    "a backslash that leads out": (tar(member("..\\evil")), "Windows"),
    "a stream": (tar(member("file:evil")), "Windows"),
    "a dot at the end": (tar(member("evil.")), "Windows"),
    "a line break": (tar(member("a\nb")), "control characters"),
    "a symbolic link": (tar(member("link", tarfile.SYMTYPE, linkname="/etc/passwd")), "a link"),
    "a symbolic link and a file through it": (
        tar(member("a", tarfile.SYMTYPE, linkname=".."), (member("a/evil"), b"x")),
        "a link",
    ),
    "a hard link": (
        tar((member("a"), b"x"), member("b", tarfile.LNKTYPE, linkname="a")),
        "a link",
    ),
    "a hard link to a file outside": (
        tar(member("b", tarfile.LNKTYPE, linkname="../archive")),
        "a link",
    ),
    "a pipe": (tar(member("pipe", tarfile.FIFOTYPE)), "device"),
    "a character device": (tar(member("null", tarfile.CHRTYPE, devmajor=1, devminor=3)), "device"),
    "a block device": (tar(member("disk", tarfile.BLKTYPE, devmajor=8)), "device"),
    "a name twice": (tar((member("a"), b"1"), (member("a"), b"2")), "twice"),
    "names that differ in case": (tar((member("a"), b"1"), (member("A"), b"2")), "case"),
    "directories that differ in case": (tar(member("a/x"), member("A/y")), "case"),
    "a file that is a directory": (tar(member("a"), member("a/b")), "twice"),
    "a directory that is a file": (tar(member("a/b"), member("a")), "twice"),
    "no name": (tar(member("./")), "no name"),
    "a name without end": (tar(member("a/" * 2000 + "a")), "too long"),
    "a name that is not UTF-8": (tar(member("\xe4"), encoding="latin-1"), "broken"),
    "a zip with an absolute path": (zipped("/tmp/evil"), "absolute path"),
    "a zip that leads out": (zipped("a/../../evil"), "leads out"),
    "a zip with a drive": (zipped("C:/evil"), "Windows"),
    "a zip with a backslash": (zipped("..\\evil"), "Windows"),
    "a zip with a symbolic link": (zipped("link", mode=stat.S_IFLNK | 0o777), "a link"),
    "a zip with a pipe": (zipped("pipe", mode=stat.S_IFIFO | 0o644), "device"),
    "a zip with an unusual method": (zipped("a", method=zipfile.ZIP_LZMA), "not known"),
    "a zip with names that differ in case": (zipped("a", "A"), "case"),
    "a tar that is not packed": (gzip.decompress(tar(member("a"))), "neither a .tgz nor a .zip"),
    "nothing": (b"", "neither a .tgz nor a .zip"),
    "a gzip of something else": (gzip.compress(b"hello" * 1000), "broken"),
    "half a tgz": (tar((member("a"), os.urandom(5000)))[:3000], "broken"),
    "half a zip": (zipped("a", "b")[:80], "broken"),
}


@pytest.mark.parametrize(("archive", "reason"), MALICIOUS.values(), ids=MALICIOUS.keys())
def test_a_malicious_or_broken_archive_is_refused_and_writes_nothing_elsewhere(
    tmp_path: Path, archive: bytes, reason: str
) -> None:
    with pytest.raises(InstallError, match=reason):
        unpacked(tmp_path, archive)


def test_a_tgz_bomb_goes_off_at_the_limit_and_not_in_memory(tmp_path: Path) -> None:
    bomb = tgz({"zeros": bytes(50 * MEGABYTE)})
    assert len(bomb) < MEGABYTE
    with pytest.raises(InstallError, match="limit of 10485760 bytes"):
        unpacked(tmp_path, bomb, Limits(expanded=10 * MEGABYTE))
    assert not list(tmp_path.rglob("*.tar"))


def test_a_zip_bomb_goes_off_at_the_limit_whatever_its_headers_say(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50 * MEGABYTE))
    with pytest.raises(InstallError, match="limit of 10485760 bytes"):
        unpacked(tmp_path, buffer.getvalue(), Limits(expanded=10 * MEGABYTE))


def test_the_limit_counts_all_files_together(tmp_path: Path) -> None:
    files = {str(number): bytes(1000) for number in range(10)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    assert len(unpacked(tmp_path / "fits", buffer.getvalue(), Limits(expanded=10_000))) == 10
    with pytest.raises(InstallError, match="limit of 9999 bytes"):
        unpacked(tmp_path / "not", buffer.getvalue(), Limits(expanded=9_999))


@pytest.mark.parametrize("name", ["{}", "same", "deep/{}/er"])
def test_an_archive_of_too_many_entries_is_refused(tmp_path: Path, name: str) -> None:
    members = [member(name.format(number), tarfile.DIRTYPE) for number in range(101)]
    with pytest.raises(InstallError, match="limit of 100 entries"):
        unpacked(tmp_path, tar(*members), Limits(entries=100))


def test_a_header_too_large_for_memory_is_refused(tmp_path: Path) -> None:
    header = member("long", tarfile.XHDTYPE)
    with pytest.raises(InstallError, match="headers is larger"):
        unpacked(tmp_path, tar((header, bytes(16 * MEGABYTE)), member("a")))


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    header = bytearray(member("a").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + struct.pack(">h", -1024)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(InstallError, match=r"negative size|broken"):
        unpacked(tmp_path, gzip.compress(bytes(header) + bytes(1024)))


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    info = member("holes", tarfile.REGTYPE, pax_headers={"GNU.sparse.size": "1000000000000"})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    with pytest.raises(InstallError, match=r"neither a file nor a directory|broken"):
        unpacked(tmp_path, buffer.getvalue())


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    archive = bytearray(zipped("a"))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        archive[archive.index(signature) + flags] |= 1
    with pytest.raises(InstallError, match="encrypted"):
        unpacked(tmp_path, bytes(archive))


def test_modes_are_reduced_to_whether_a_file_is_executable(tmp_path: Path) -> None:
    unpacked(
        tmp_path,
        tar(
            (member("set-user-id", mode=0o6777), b"x"),
            (member("secret", mode=0o000), b"x"),
            member("closed", tarfile.DIRTYPE, mode=0o000),
            (member("closed/file", mode=0o666), b"x"),
        ),
    )
    root = tmp_path / "inside" / "unpacked"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}
    plain = 0o666 & ~current_umask()
    assert modes["set-user-id"] == 0o755
    assert modes["secret"] == modes["file"] == plain
    assert modes["closed"] & 0o700 == 0o700


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


LEFT_OUT = {
    "node_modules/a/index.js": "x",
    "tasks/t/node_modules/b.js": "x",
    ".git/config": "x",
    ".oomol/state": "x",
    ".venv/bin/python": "x",
    "tasks/__pycache__/a.pyc": "x",
    "tasks/.DS_Store": "x",
    ".oo-thumbnail.json": "x",
}


def test_what_belongs_to_the_place_a_package_was_made_is_left_out(tmp_path: Path) -> None:
    kept = {"package.oo.yaml": "name: a", "tasks/a/main.py": "", ".gitignore": "", "git": ""}
    assert unpacked(tmp_path, tgz({**kept, **LEFT_OUT}, prefix="")) == kept


@pytest.mark.parametrize("name", ["./package/a", "package//a", "package/./a"])
def test_harmless_spellings_of_a_name_are_understood(tmp_path: Path, name: str) -> None:
    assert unpacked(tmp_path, tar((member(name), b"x"))) == {"package/a": "x"}


def test_names_in_any_language_are_kept(tmp_path: Path) -> None:
    names = ["数据/图　表.txt", "+slotflow#1/a b.yaml", "👨‍👩.txt"]
    files = dict.fromkeys(names, "x")
    assert unpacked(tmp_path / "tgz", tgz(files, prefix="")) == files
    assert unpacked(tmp_path / "zip", zipped(*names)) == dict.fromkeys(names, "content")


def test_a_copied_directory_follows_the_same_rules(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name, text in {**LEFT_OUT, "a/b.txt": "x"}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    (source / ".venv" / "link").symlink_to("/")
    copy_directory(source, PackageTree(tmp_path / "copy", Limits()))
    assert contents(tmp_path / "copy") == {"a/b.txt": "x"}
    (source / "a" / "link").symlink_to("b.txt")
    with pytest.raises(InstallError, match="'a/link' is a link"):
        copy_directory(source, PackageTree(tmp_path / "second", Limits()))
    (source / "a" / "link").unlink()
    os.mkfifo(source / "a" / "pipe")
    with pytest.raises(InstallError, match="'a/pipe' is neither a file nor"):
        copy_directory(source, PackageTree(tmp_path / "third", Limits()))


SEEDS = [tgz({"a/b": b"x" * 700, "c": b"y"}), gzip.decompress(tgz({"a": "x"})), zipped("a/b", "c")]


@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), max_size=8),
    packed=st.booleans(),
)
@settings(
    max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_archive_is_unpacked_inside_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    seed: bytes,
    changes: list[tuple[int, int]],
    packed: bool,
) -> None:
    damaged = bytearray(seed)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    archive = gzip.compress(bytes(damaged), 1) if packed else bytes(damaged)
    limits = Limits(expanded=MEGABYTE, entries=100)
    try:
        unpacked(tmp_path_factory.mktemp("fuzz"), archive, limits)
    except (InstallError, UnicodeDecodeError):
        return
