"""Opening what is a file and nothing else; which files of a folder are meant; names that may become paths."""

import os

import pytest

from face4d.errors import InputError
from face4d.runtime.files import MAX_NAME, is_name, matching, read_bytes, report_passed_over, require_name


def test_content_comes_back(tmp_path):
    for content in (b"", b"abc", os.urandom(300_000)):
        (tmp_path / "a").write_bytes(content)
        assert read_bytes(tmp_path / "a", "bytes") == content


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: os.mkfifo(path), "a pipe, socket or device"),
        (lambda path: path.symlink_to("nowhere"), "a link to nothing"),
        (lambda path: path.symlink_to(path.name), "links in a circle"),
        (lambda path: path.symlink_to("/dev/zero"), "a pipe, socket or device"),
    ],
)
def test_what_is_no_file_is_one_line_and_never_waits(tmp_path, make, found):
    make(tmp_path / "a")
    with pytest.raises(InputError, match=f"expected a mesh, found {found}"):
        read_bytes(tmp_path / "a", "a mesh")


def test_a_name_with_a_zero_byte_is_no_file():
    with pytest.raises(InputError, match="zero byte"):
        read_bytes("a\0b", "a mesh")


def test_capitals_count_and_hidden_files_do_not():
    names = ["a.PLY", "b.ply", "._b.ply", ".DS_Store", "c.ply.txt", "ply", "d.Ply"]
    assert matching(names, {".ply"}) == ["a.PLY", "b.ply", "d.Ply"]


def test_what_is_passed_over_is_counted_and_named_in_one_line(caplog):
    report_passed_over("photos", [], "photos")
    assert not caplog.records
    report_passed_over("photos", ["e.heic", "d.x", "c.x", "b.x"], "photos (.jpg)")
    assert [record.getMessage() for record in caplog.records] == [
        "note: photos: 4 passed over, no photos (.jpg): b.x, c.x, d.x and 1 more"
    ]


@pytest.mark.parametrize(
    "name", ["mouth-open", "Sad2", "FaceTalk_170725_00137_TA", "Freude groß", "笑顔", "a.b", "a b", "x" * MAX_NAME]
)
def test_names_are_names(name):
    assert is_name(name) and require_name("a.pt", "a label", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        ".hidden",
        "a/b",
        "/etc/passwd",
        "..\\x",
        "a\0",
        "a\n",
        "a\x1b[1m",
        " a",
        "C:a",
        "x" * (MAX_NAME + 1),
        3,
        None,
        ["a"],
    ],
)
def test_what_could_lead_elsewhere_is_no_name(name):
    with pytest.raises(InputError, match="a.pt: expected a label of letters"):
        require_name("a.pt", "a label", name)
