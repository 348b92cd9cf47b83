"""Blocks of documents: nothing lost, the same ends whatever is read at a time, clear errors."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import corpus
from pipeline.errors import UserError


def blocks_of(data, block_bytes=1):
    return list(corpus.read_blocks(["a.txt"], block_bytes, open_file=lambda _: io.BytesIO(data)))


def documents_of(data, block_bytes=1):
    return [
        document
        for block in blocks_of(data, block_bytes)
        for document in corpus.parse_documents(block).documents
    ]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("一。\n二。\n\n三。\n", [["一。", "二。"], ["三。"]]),
        ("一。\r\n二。\r\n\r\n三。", [["一。", "二。"], ["三。"]]),
        ("\n\n \n一。\n \t\n\n\n二。\n\n", [["一。"], ["二。"]]),
        ("  一。　\n　\n二。", [["一。"], ["二。"]]),
        ("\ufeff一。\n\n二。", [["一。"], ["二。"]]),
        ("一\u2028二\x0c三\x85四\n\n五", [["一\u2028二\x0c三\x85四"], ["五"]]),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 1000])
def test_documents(text, expected, block_bytes):
    assert documents_of(text.encode("utf-8"), block_bytes) == expected


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([b"a", b"\n", b"\n\n", b" \n", b"\r\n"]), min_size=1, max_size=60),
    st.integers(1, 20),
    st.integers(1, 7),
)
def test_blocks_hold_everything_and_do_not_depend_on_what_is_read_at_a_time(
    parts, block_bytes, read_bytes
):
    data = b"x" + b"".join(parts)
    blocks = blocks_of(data, block_bytes)
    assert b"".join(block.data for block in blocks) == data
    assert [block.index for block in blocks] == list(range(len(blocks)))
    for before, block in zip(blocks, blocks[1:]):
        assert block.first_line == before.first_line + before.data.count(b"\n")
        assert len(before.data) >= block_bytes
        assert before.data.endswith(b"\n")
    whole = io.BytesIO(data)
    slow = io.BytesIO(data)
    slow.read = lambda _: whole.read(read_bytes)
    assert list(corpus.read_blocks(["a.txt"], block_bytes, open_file=lambda _: slow)) == blocks
    assert documents_of(data, block_bytes) == documents_of(data, 10**6)


def test_files_end_documents_and_blocks_are_numbered_through(tmp_path):
    paths = []
    for name in "ab":
        paths.append(str(tmp_path / name))
        (tmp_path / name).write_text("一。\n\n二。", encoding="utf-8")
    blocks = list(corpus.read_blocks(paths, 1))
    assert [(block.index, block.path) for block in blocks] == list(
        zip(range(4), [paths[0]] * 2 + [paths[1]] * 2)
    )


@pytest.mark.parametrize("data", [b"", b"\n\n \n"])
def test_a_file_without_text_is_named(data):
    with pytest.raises(UserError, match="a.txt holds no text"):
        blocks_of(data)


@pytest.mark.parametrize("block_bytes", [1, 1000])
def test_bad_utf8_is_named_with_its_line(block_bytes):
    data = "一。\n\n二。\n".encode("utf-8") + "三。\n".encode("gb18030") + b"\n\nend"
    with pytest.raises(UserError, match="a.txt, line 4: not UTF-8"):
        documents_of(data, block_bytes)
