"""Documents of a folder are read, and what cannot be read harms nobody but itself."""

import os
from pathlib import Path

import pytest

from octarm.cli.ingest import child, folder
from octarm.cli.ingest.child import parsed
from octarm.cli.ingest.document import Document, Unreadable
from octarm.cli.ingest.folder import bytes_of, document_of, files_of
from octarm.cli.ingest.html import text_of
from tests.support.pdf_files import a_pdf, an_encrypted_pdf


def the_document(path: Path) -> Document:
    (file,) = files_of(path.parent, (path.name,))
    return document_of(file, bytes_of(file))


def test_lists_documents_by_name_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.md", "a.TXT", "sub/c.html", "sub/d.pdf", "e.py", ".hidden.md", ".git/f.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("text")

    assert [file.name for file in files_of(tmp_path)] == [
        "a.TXT",
        "b.md",
        "sub/c.html",
        "sub/d.pdf",
    ]
    assert [file.name for file in files_of(tmp_path, ("*.md", "sub/*.pdf"))] == [
        "b.md",
        "sub/d.pdf",
    ]


def test_follows_no_symbolic_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("secret")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "file.md").symlink_to(outside / "secret.md")
    (inside / "folder").symlink_to(outside)
    (inside / "real.md").write_text("text")

    assert [file.name for file in files_of(inside)] == ["real.md"]


def test_a_file_that_became_a_link_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text")
    (tmp_path / "b.md").write_text("text")
    first, second = files_of(tmp_path)
    first.path.unlink()
    first.path.symlink_to("/etc/passwd")
    second.path.unlink()
    os.mkfifo(second.path)

    with pytest.raises(Unreadable, match="symbolic links"):
        bytes_of(first)
    with pytest.raises(Unreadable, match="not a file"):
        bytes_of(second)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="No such file"):
        files_of(tmp_path / "none")


def test_bounds_what_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MAX_TEXT_BYTES", 1024 * 1024)
    (tmp_path / "a.md").write_bytes(b"x" * (1024 * 1024 + 1))

    with pytest.raises(Unreadable, match="larger than 1 MiB"):
        the_document(tmp_path / "a.md")


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"", "no text"), (b" \n\t", "no text"), (b"a\0b", "binary"), (b"\xff\xfeab", "not UTF-8")],
)
def test_says_why_a_text_cannot_be_read(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "a.txt").write_bytes(data)

    with pytest.raises(Unreadable, match=why):
        the_document(tmp_path / "a.txt")


def test_reads_markdown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("\ufeff# Title\n\ntext ä\n")

    document = the_document(tmp_path / "a.md")

    assert document.text == "# Title\n\ntext ä\n"
    assert [heading.title for heading in document.headings] == ["Title"]


def test_reads_html_as_one_sees_it(tmp_path: Path) -> None:
    html = """<!doctype html><html><head><title>The page</title><style>p {}</style></head>
    <body><h2>Sec&#116;ion <em>one</em></h2><p>First   line<br>second &amp; third.</p>
    <script>alert("x")</script><ul><li>a<li>b</ul><pre>  kept
      as is</pre><table><tr><td>1</td><td>2</td></tr></table></body></html>"""
    (tmp_path / "a.html").write_text(html)

    document = the_document(tmp_path / "a.html")

    assert document.text == (
        "Section one\n\nFirst line\nsecond & third.\n\na\nb\n\n  kept\n      as is\n\n1\t2"
    )
    assert [(one.start, one.level, one.title) for one in document.headings] == [
        *((0, 1, "The page"), (0, 2, "Section one"))
    ]


def test_headings_of_html_stand_where_they_are_said_to() -> None:
    text, headings = text_of("<p>x</p><h1>One</h1>a<svg><title>no</title></svg><h2> Two </h2>b")

    assert [text[one.start :].startswith(one.title) for one in headings] == [True, True]


def test_reads_pdf_by_page(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(a_pdf("First (page)\nsecond line", "Another page"))

    document = the_document(tmp_path / "a.pdf")

    assert document.text == "First (page)\nsecond line\n\nAnother page"
    assert document.page_of(document.text.index("Another")) == 2
    assert document.page_of(document.text.index("second")) == 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (an_encrypted_pdf("geheim"), "encrypted"),
        (b"no pdf at all", "a broken PDF"),
        (a_pdf("cut off")[:200], "a broken PDF"),
        (b"", "a broken PDF"),
        (a_pdf(""), "no text"),
    ],
)
def test_says_why_a_pdf_cannot_be_read(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "a.pdf").write_bytes(data)

    with pytest.raises(Unreadable, match=why):
        the_document(tmp_path / "a.pdf")


def test_an_empty_password_opens_what_only_forbids_printing() -> None:
    assert child.read("pdf", an_encrypted_pdf("")).text == "secret plans"


def test_html_that_takes_for_ever_is_given_up() -> None:
    with pytest.raises(Unreadable, match="too much"):
        parsed("html", b"<a b='" * 300_000, cpu_s=1)


def test_declarations_without_sense_are_said() -> None:
    with pytest.raises(Unreadable, match="broken HTML"):
        parsed("html", b"<![<![<![")
