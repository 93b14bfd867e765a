from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomol_connect_sdk.server.file_names import attachment, disposition_names, safe_name


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        ("report.pdf", "report.pdf"),
        ("größe 文字 🎉.txt", "größe 文字 🎉.txt"),
        (".hidden", ".hidden"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\system.ini", "system.ini"),
        ("/etc/passwd", "passwd"),
        ("C:\\autoexec.bat", "autoexec.bat"),
        ("C:autoexec.bat", "C_autoexec.bat"),
        ("\\\\server\\share\\file", "file"),
        ("a/b\\c/d", "d"),
        ("file\0.txt", "file_.txt"),
        ("line\r\nbreak", "line__break"),
        ("", "file"),
        (".", "file"),
        ("..", "file"),
        ("...", "file"),
        ("folder/", "file"),
        ("   ", "file"),
        ("ends with dots. .", "ends with dots"),
        ("con", "_con"),
        ("NUL.txt", "_NUL.txt"),
        ("com1.tar.gz", "_com1.tar.gz"),
        ("console", "console"),
        ('a<b>c:d"e|f?g*h', "a_b_c_d_e_f_g_h"),
        ("lone \ud800 surrogate", "lone _ surrogate"),
        ("x" * 300 + ".txt", "x" * 196 + ".txt"),
        ("ü" * 300, "ü" * 100),
        ("x." + "y" * 300, "x." + "y" * 198),
    ],
)
def test_a_name_becomes_a_name_and_nothing_more(given_name: str, name: str) -> None:
    assert safe_name(given_name) == name


@given(st.text())
def test_no_name_leads_anywhere(name: str) -> None:
    safe = safe_name(name)
    root = os.path.abspath("folder")
    assert os.path.dirname(os.path.normpath(os.path.join(root, safe))) == root
    assert 0 < len(safe.encode()) <= 200
    assert not set(safe) & set('\0/\\<>:"|?*')
    assert safe == safe_name(safe)


def test_every_safe_name_can_be_a_file(tmp_path: Path) -> None:
    for name in ("ü" * 300, "...", "a:b", "NUL", "x" * 500 + ".y"):
        (tmp_path / safe_name(name)).write_text("fine")


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (b'form-data; name="files"; filename="a.txt"', ("files", "a.txt")),
        (b"form-data; name=files; filename=a.txt", ("files", "a.txt")),
        (b'form-data;name="n" ; FILENAME = "a;b.txt"', ("n", "a;b.txt")),
        (b'form-data; name="n"; filename=""', ("n", "")),
        (b'form-data; name="n"', ("n", None)),
        (b"form-data", (None, None)),
        (b"", (None, None)),
        ('form-data; name="n"; filename="größe 文字.txt"'.encode(), ("n", "größe 文字.txt")),
        (b'form-data; name="n"; filename="\xff.txt"', ("n", "\ufffd.txt")),
        (b'form-data; name="n"; filename="a%22b%0D%0A.txt"', ("n", 'a"b\r\n.txt')),
        (b'form-data; name="n"; filename="a\\"b.txt"', ("n", 'a"b.txt')),
        (b'form-data; name="n"; filename="50%25.txt"', ("n", "50%25.txt")),
        (
            b"form-data; name=n; filename=x; filename*=UTF-8''gr%C3%B6%C3%9Fe.txt",
            ("n", "größe.txt"),
        ),
        (b"form-data; name=n; filename*=utf-8'de'a%2Fb", ("n", "a/b")),
        (b"form-data; name=n; filename*=iso-8859-1''%FC", ("n", "ü")),
        (b"form-data; name=n; filename=x; filename*=klingon''%FC", ("n", "x")),
        (b'form-data; name="a"; name="b"', ("a", None)),
        (b'form-data; name="unclosed', (None, None)),
    ],
)
def test_names_are_read_from_a_disposition(
    header: bytes, names: tuple[str | None, str | None]
) -> None:
    assert disposition_names(header) == names


@given(st.binary(max_size=300))
def test_any_disposition_can_be_read(header: bytes) -> None:
    disposition_names(header)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_the_name_of_a_download_survives_its_header(name: str) -> None:
    header = attachment(name)
    assert header.isascii()
    assert header.isprintable()
    assert disposition_names(header.encode())[1] == name
