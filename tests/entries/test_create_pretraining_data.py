"""create_pretraining_data.py from flags to records: the records hold the text."""

import hashlib
import os
import re
import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf

import create_pretraining_data
from common import cli
from common.errors import UserError
from tfrecords import compact, reader
from tfrecords.manifest import read_manifest
from tfrecords.wire import pretraining_schema

TEXT = """清晨五点半，菜市场的卷帘门准时升起。
这座用了三十一年的老市场，上周刚刚结束为期四个月的改造。
原来坑洼的水泥地换成了防滑石材，头顶的铁皮棚也被透光的天窗取代。

ALBERT的参数只有1200万个，比BERT少得多。
研究人员说：“训练它用了TensorFlow，也可以用PyTorch。”

一心一意

啊

人工智能正在改变人们的生活，从手机到汽车，从医院到学校，到处都能看到它的影子，没有例外
"""


JSON_LINES = """{"title": "标题是一句话", "content": "第一篇的正文。\\n它有两行。"}
{"title": "另一个标题", "content": null}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


def run(root, folder, **changes):
    """Run main; return the path of the records."""
    values = {
        "input_file": str(folder / "text.txt"),
        "output_file": str(folder / "out.tfrecord"),
        "vocab_file": str(root / "albert_config" / "vocab.txt"),
        "max_seq_length": 40,
        "max_predictions_per_seq": 4,
        "num_workers": 1,
        "overwrite": True,
    }
    values.update(changes)
    argv = ["create"] + ["--{}={}".format(name, value) for name, value in values.items()]
    create_pretraining_data.main(cli.parse(create_pretraining_data.define_flags, argv))
    return values["output_file"]


def read(path):
    """Return the records of a file as dicts of lists."""
    made = []
    for record in tf.io.tf_record_iterator(path):
        features = tf.train.Example.FromString(record).features.feature
        made.append(
            {
                name: list(feature.int64_list.value or feature.float_list.value)
                for name, feature in sorted(features.items())
            }
        )
    return made


def restore(record):
    """Return the two segments, unmasked, in their true order."""
    ids = list(record["input_ids"])
    for position, label, weight in zip(
        record["masked_lm_positions"], record["masked_lm_ids"], record["masked_lm_weights"]
    ):
        if weight:
            ids[position] = label
    size = sum(record["input_mask"])
    second = record["segment_ids"].index(1)
    first, second = ids[1 : second - 1], ids[second : size - 1]
    return second + first if record["next_sentence_labels"] == [1] else first + second


def test_records_hold_the_documents(root, folder, tokenizer):
    path = run(root, folder, short_seq_prob=0, dupe_factor=3)
    made = read(path)
    expected = []
    for document in TEXT.split("\n\n"):
        pieces = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(document))
        expected.append(pieces)
    restored = ["".join(map(chr, restore(record))) for record in made]
    for pieces in expected:
        whole = "".join(map(chr, pieces))
        parts = [part for part in restored if part in whole]
        if len(pieces) == 1:
            assert not parts
        else:
            assert len("".join(set(parts))) == len(whole)
            assert len(parts) == 3 * len(set(parts))
    assert len(made) == len(restored)
    reader.check_records([path], pretraining_schema(40, 4))


def test_records_have_the_published_form(root, folder, tokenizer):
    cls, sep, mask = (tokenizer.vocab[piece] for piece in ("[CLS]", "[SEP]", "[MASK]"))
    made = read(run(root, folder, dupe_factor=20))
    assert len(made) >= 80
    swapped = sum(record["next_sentence_labels"][0] for record in made)
    assert 0.3 < swapped / len(made) < 0.7
    for record in made:
        ids, size = record["input_ids"], sum(record["input_mask"])
        assert record["input_mask"] == [1] * size + [0] * (40 - size)
        assert ids[size:] == record["segment_ids"][size:] == [0] * (40 - size)
        assert ids[0] == cls
        assert [i for i, piece in enumerate(ids) if piece == sep] == [
            record["segment_ids"].index(1) - 1, size - 1
        ]  # fmt: skip
        num_masked = int(sum(record["masked_lm_weights"]))
        assert num_masked <= 4
        assert record["masked_lm_weights"] == [1.0] * num_masked + [0.0] * (4 - num_masked)
        positions = record["masked_lm_positions"][:num_masked]
        assert positions == sorted(set(positions))
        is_one_word = positions[-1] - positions[0] == num_masked - 1
        assert num_masked <= size // 10 or is_one_word
        assert not any(record["masked_lm_positions"][num_masked:])
        assert not any(record["masked_lm_ids"][num_masked:])
        assert {i for i in range(size) if ids[i] == mask} <= set(positions)


def test_whole_words_are_masked_whole(root, folder, tokenizer):
    made = read(run(root, folder, ngram=1, dupe_factor=40, masked_lm_prob=0.2))
    idiom = tokenizer.convert_tokens_to_ids(list("人工智能"))
    seen = 0
    for record in made:
        weights = sum(map(int, record["masked_lm_weights"]))
        labels = record["masked_lm_ids"][:weights]
        positions = record["masked_lm_positions"][:weights]
        if idiom[2] in labels:
            at = labels.index(idiom[2])
            assert labels[at - 2 : at + 2] == idiom
            assert positions[at + 1] - positions[at - 2] == 3
            seen += 1
    assert seen >= 3


@pytest.mark.parametrize("whole_words", [True, False])
def test_characters_of_a_word_part_only_without_whole_words(root, folder, tokenizer, whole_words):
    changes = {"ngram": 1, "dupe_factor": 40, "do_whole_word_mask": whole_words}
    made = read(run(root, folder, masked_lm_prob=0.2, **changes))
    # In the text both characters are only in the word 人工智能.
    one, other = tokenizer.convert_tokens_to_ids(["工", "智"])
    labels = [set(record["masked_lm_ids"]) for record in made]
    assert any(one in masked for masked in labels)
    parted = any((one in masked) != (other in masked) for masked in labels)
    assert parted is not whole_words


def test_published_labels_are_an_option(root, folder, tokenizer):
    plain = read(run(root, folder))
    marked = read(run(root, folder, published_labels=True))
    assert [record["input_ids"] for record in plain] == [record["input_ids"] for record in marked]
    pieces = [
        [tokenizer.convert_ids_to_tokens(record["masked_lm_ids"]) for record in made]
        for made in (plain, marked)
    ]
    different = [
        (one, other)
        for ones, others in zip(*pieces)
        for one, other in zip(ones, others)
        if one != other
    ]
    assert different
    assert all(other == "##" + one for one, other in different)


def test_one_seed_gives_the_same_bytes_and_another_does_not(root, folder):
    def digest(**changes):
        path = run(root, folder, **changes)
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()

    assert digest() == digest()
    assert digest() != digest(random_seed=1)


def test_several_outputs_share_the_records(root, folder):
    whole = read(run(root, folder))
    paths = [str(folder / name) for name in "abc"]
    run(root, folder, output_file=",".join(paths))
    parts = [record for path in paths for record in read(path)]
    assert sorted(map(str, parts)) == sorted(map(str, whole))
    assert all(len(read(path)) < len(whole) / 2 for path in paths)
    manifest = read_manifest(paths[0])
    assert manifest["outputs"] == paths


def test_instances_of_a_document_are_scattered(root, folder):
    made = read(run(root, folder, dupe_factor=30))
    idioms = [i for i, record in enumerate(made) if sum(record["input_mask"]) == 7]
    assert len(idioms) >= 30
    assert max(idioms) - min(idioms) > len(made) * 0.6


def test_the_manifest_holds_flags_versions_and_counts(root, folder):
    path = run(root, folder)
    manifest = read_manifest(path)
    assert manifest["flags"]["max_seq_length"] == 40
    assert manifest["flags"]["ngram"] == 3
    assert manifest["segmenter"].startswith("rjieba ")
    assert manifest["vocab_sha256"].startswith("45bbac6b")
    assert manifest["vocab_size"] == 21128
    assert manifest["inputs"][0]["sha256"] == hashlib.sha256(TEXT.encode("utf-8")).hexdigest()
    counts = manifest["counts"]
    assert counts["documents"] == 5
    assert counts["documents_dropped_as_too_short"] == 1
    assert counts["sentences"] == 8
    assert counts["sentences_dropped_as_empty"] == 0
    assert counts["instances"] == len(read(path))
    made = read(path)
    assert counts["masked"] == sum(sum(record["masked_lm_weights"]) for record in made)
    assert counts["positions"] == sum(sum(record["input_mask"]) for record in made)
    assert counts["instances_swapped"] == sum(record["next_sentence_labels"][0] for record in made)
    parts = ("masked_by_mask", "masked_kept", "masked_by_random")
    assert counts["masked"] == sum(counts[part] for part in parts)
    assert manifest["statistics"]["mask_rate"] == pytest.approx(
        counts["masked"] / counts["positions"], abs=1e-4
    )


def test_documents_are_counted_for_each_field(root, folder, caplog):
    (folder / "text.txt").write_text(JSON_LINES, encoding="utf-8")
    counts = read_manifest(run(root, folder, input_format="jsonl"))["counts"]
    assert counts["documents_with_field_title"] == 2
    assert counts["documents_with_field_content"] == 1
    assert "documents_with_field_content: 1" in caplog.text


@pytest.mark.parametrize(
    "text, is_warned",
    [
        ("第一篇文章。它有两句。\n第二篇文章。\n", True),
        ("第一篇文章。它有两句。\n\n第二篇文章。\n\n", False),  # the text that sed G writes
    ],
)
def test_a_corpus_of_one_document_gets_a_warning(root, folder, caplog, text, is_warned):
    (folder / "text.txt").write_text(text, encoding="utf-8")
    run(root, folder)
    assert ("sed G FILE" in caplog.text) == is_warned


def test_pages_of_wikiextractor(root, folder, tokenizer):
    page = '<doc id="1" url="x" title="数学">\n数学\n\n数学是一门学科。\n\n</doc>\n'
    (folder / "text.txt").write_text(page, encoding="utf-8")
    made = read(run(root, folder, input_format="wikiextractor", short_seq_prob=0.0))
    text = "".join(tokenizer.convert_ids_to_tokens(restore(made[0])))
    assert text == "数学数学是一门学科。"


def test_every_short_document_has_a_mask(root, folder):
    (folder / "text.txt").write_text("一心一意\n\n天气\n\nabcdefgh 北京\n", encoding="utf-8")
    made = read(run(root, folder))
    assert made
    assert all(sum(record["masked_lm_weights"]) for record in made)


def test_unknown_characters_are_counted(root, folder):
    (folder / "text.txt").write_text("我爱𠀀𠀀。他说😀。", encoding="utf-8")
    manifest = read_manifest(run(root, folder))
    assert manifest["counts"]["pieces_unknown"] == 3
    assert manifest["statistics"]["commonest_unknown"] == {"𠀀": 2, "😀": 1}


def test_unknown_words_are_counted_by_their_unknown_characters(root, folder):
    (folder / "text.txt").write_text("价¥99😀😀。" + "a" * 300 + "。", encoding="utf-8")
    manifest = read_manifest(run(root, folder))
    assert manifest["counts"]["pieces_unknown"] == 2
    assert manifest["statistics"]["commonest_unknown"] == {"😀": 2, "a" * 20: 1}


def test_characters_without_a_piece_are_counted(root, folder):
    (folder / "text.txt").write_text("一\0二\0\n\ufffd三四\n", encoding="utf-8")
    counts = read_manifest(run(root, folder))["counts"]
    assert counts["pieces"] == 4
    assert counts["characters_dropped_as_nul"] == 2
    assert counts["characters_dropped_as_replacement"] == 1


@pytest.mark.parametrize("compress, shards", [(False, 1), (True, 3)])
def test_the_manifest_counts_the_records_that_exist(root, folder, compress, shards):
    """The test reads all records back and counts them again."""
    run(root, folder, compress=compress, num_output_shards=shards, dupe_factor=9)
    paths = sorted(map(str, folder.glob("out-*.tfrecord")))
    options = tf.io.TFRecordOptions("GZIP" if compress else "")
    made = [
        tf.train.Example.FromString(record).features.feature
        for path in paths
        for record in tf.io.tf_record_iterator(path, options)
    ]
    manifest = read_manifest(paths[0])
    counts, flags = manifest["counts"], manifest["flags"]
    assert manifest["outputs"] == paths
    assert len(made) == counts["instances"]
    values = {}
    schema = pretraining_schema(flags["max_seq_length"], flags["max_predictions_per_seq"])
    for feature in schema:
        kind = "float_list" if feature.dtype == "float32" else "int64_list"
        lists = [getattr(one[feature.name], kind).value for one in made]
        assert set(map(len, lists)) == {feature.length}
        values[feature.name] = sum(map(sum, lists))
    assert values["input_mask"] == counts["positions"]
    assert values["masked_lm_weights"] == counts["masked"]
    assert values["next_sentence_labels"] == counts["instances_swapped"]
    fill = counts["positions"] / (len(made) * flags["max_seq_length"])
    assert manifest["statistics"]["fill"] == pytest.approx(fill, abs=1e-5)


@pytest.mark.parametrize("name", ["rjieba", "jieba", "none"])
def test_every_segmenter_works(root, folder, name):
    manifest = read_manifest(run(root, folder, segmenter=name))
    assert manifest["segmenter"].split()[0] == name


def test_non_chinese_text_needs_no_segmenter(root, folder):
    (folder / "text.txt").write_text("Unaffable researchers train ALBERT.\nThey wait.\n")
    manifest = read_manifest(run(root, folder, non_chinese=True))
    assert manifest["segmenter"] == "none"


@pytest.mark.parametrize(
    "data",
    [
        "一。\x00二\x00三。\n\x00\n四五六".encode("utf-8"),  # NUL bytes
        ("长" * 30000).encode("utf-8"),  # a line that fills many sequences
        b"a" * 3000 + b" b\n",  # a word too long for pieces: [UNK]
        ("一二\n\n" * 50).encode("utf-8"),  # documents of one sentence
        "\u2028一二\u2028三\u0085四".encode("utf-8"),
        "[CLS]一[SEP]二[MASK]三".encode("utf-8"),
    ],
)
def test_strange_text_is_handled_and_nothing_is_lost(root, folder, tokenizer, data):
    (folder / "text.txt").write_bytes(data)
    path = run(root, folder, dupe_factor=1)
    made = read(path)
    specials = {tokenizer.vocab[piece] for piece in ("[CLS]", "[SEP]", "[MASK]", "[PAD]")}
    restored = [restore(record) for record in made]
    assert not any(specials & set(pieces) for pieces in restored)
    pieces = sum(
        len(tokenizer.tokenize(document)) for document in data.decode("utf-8").split("\n\n")
    )
    assert sum(map(len, restored)) == pieces
    assert read_manifest(path)["counts"]["pieces"] == pieces


def missing_input(folder):
    return {"input_file": str(folder / "missing.txt")}, "missing.txt"


def glob_without_match(folder):
    return {"input_file": str(folder / "*.none")}, "*.none"


def empty_input(folder):
    (folder / "text.txt").write_bytes(b"")
    return {}, "text.txt holds no text"


def one_piece(folder):
    (folder / "text.txt").write_text("啊\n\n哦\n", encoding="utf-8")
    return {}, "no instance came out of 2 documents, documents_dropped_as_too_short: 2"


def only_bad_lines(folder):
    (folder / "text.txt").write_text("{\n" * 8, encoding="utf-8")
    changes = {"input_format": "jsonl", "skip_bad_lines": True}
    return changes, "no instance came out of 0 documents, lines_dropped_as_not_json: 8"


def text_as_json_lines(folder):
    return {"input_format": "jsonl"}, "text.txt holds no JSON lines: give --input_format=text"


def json_lines_as_text(folder):
    (folder / "text.txt").write_text(JSON_LINES, encoding="utf-8")
    return {}, "give --input_format=jsonl and choose --text_fields from: title, content"


def misspelled_field(folder):
    (folder / "text.txt").write_text(JSON_LINES, encoding="utf-8")
    changes = {"input_format": "jsonl", "text_fields": "title,contnet"}
    return changes, "most of its text is in content, and no document at its beginning has text in"


def field_of_no_document(folder):
    (folder / "text.txt").write_text(JSON_LINES, encoding="utf-8")
    changes = {"input_format": "jsonl", "text_fields": "content,titel"}
    return changes, "has text in titel; the first has text in title, content"


def bad_utf8(folder):
    (folder / "text.txt").write_bytes(TEXT.encode("utf-8") + "你好\n".encode("gb18030"))
    return {}, "text.txt, line 13: not UTF-8"


def vocabulary_without_mask(folder):
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n一\n", encoding="utf-8")
    return {"vocab_file": str(folder / "vocab.txt")}, "[MASK]"


def vocabulary_of_special_pieces(folder):
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", encoding="utf-8")
    return {"vocab_file": str(folder / "vocab.txt")}, "all pieces are special"


def too_many_predictions(folder):
    return {"max_predictions_per_seq": 10**8}, "max_predictions_per_seq"


def too_long_grams(folder):
    return {"ngram": 10**8}, "ngram"


def no_number(folder):
    return {"masked_lm_prob": "nan"}, "masked_lm_prob"


def enormous_seed(folder):
    return {"random_seed": 2**63}, "random_seed"


def output_is_a_folder(folder):
    return {"output_file": str(folder)}, "is a folder"


def output_is_input_by_another_name(folder):
    (folder / "link").symlink_to(folder / "text.txt")
    return {"output_file": str(folder / "link")}, "link is an input too"


def remote_work_folder(folder):
    return {"work_dir": "gs://bucket/work"}, "gs://bucket/work is not local"


def output_that_cannot_be_written(folder):
    return {"output_file": "/proc/none/out", "work_dir": str(folder)}, "cannot write /proc/none"


def missing_vocabulary(folder):
    return {"vocab_file": str(folder / "none.txt")}, "none.txt"


def output_is_input(folder):
    return {"output_file": str(folder / "text.txt")}, "text.txt is an input too"


def output_twice(folder):
    return {"output_file": "{0}/a,{0}/a".format(folder)}, "named twice"


def output_in_a_file(folder):
    return {"output_file": str(folder / "text.txt" / "out")}, "cannot write"


def too_many_outputs(folder):
    paths = ",".join(str(folder / str(i)) for i in range(500))
    return {"output_file": paths}, "too few for 500 output files"


def sequences_too_short(folder):
    return {"max_seq_length": 5}, "max_seq_length"


def wrong_segmenter(folder):
    return {"segmenter": "ltp"}, "segmenter"


def wrong_probability(folder):
    return {"masked_lm_prob": 1.5}, "masked_lm_prob"


def dictionary_for_rjieba(folder):
    return {"segmenter": "rjieba", "user_dict": str(folder / "text.txt")}, "--segmenter=jieba"


MISTAKES = [
    missing_input, glob_without_match, empty_input, one_piece, bad_utf8, vocabulary_without_mask,
    missing_vocabulary, output_is_input, output_twice, output_in_a_file, too_many_outputs,
    sequences_too_short, wrong_segmenter, wrong_probability, dictionary_for_rjieba, no_number,
    enormous_seed, output_is_a_folder, output_is_input_by_another_name, remote_work_folder,
    output_that_cannot_be_written, only_bad_lines, vocabulary_of_special_pieces,
    too_many_predictions, too_long_grams, text_as_json_lines, json_lines_as_text,
    field_of_no_document, misspelled_field,
]  # fmt: skip


@pytest.mark.parametrize("make", MISTAKES, ids=lambda make: make.__name__)
def test_mistakes_are_named_and_leave_nothing(root, folder, make):
    changes, message = make(folder)
    before = sorted(os.listdir(str(folder)))
    with pytest.raises(UserError) as raised:
        run(root, folder, **changes)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert sorted(os.listdir(str(folder))) == before


@pytest.mark.parametrize("name", ["input_file", "output_file", "vocab_file"])
def test_required_flags(name):
    argv = ["create"] + [
        "--{}=x".format(other) for other in ("input_file", "output_file", "vocab_file")
        if other != name
    ]  # fmt: skip
    with pytest.raises(UserError, match=name):
        cli.parse(create_pretraining_data.define_flags, argv)


def test_the_command_line(root, folder):
    """The published command works in its own process; a mistake gives one line and status 2."""
    command = [
        sys.executable, str(root / "create_pretraining_data.py"),
        "--input_file={}/text.txt".format(folder), "--output_file={}/out".format(folder),
        "--vocab_file={}/albert_config/vocab.txt".format(root), "--do_lower_case=True",
        "--max_seq_length=512", "--max_predictions_per_seq=51", "--masked_lm_prob=0.10",
    ]  # fmt: skip
    assert subprocess.run(command, stderr=subprocess.PIPE, check=False).returncode == 0
    reader.check_records([str(folder / "out")], pretraining_schema(512, 51))
    (folder / "text.txt").unlink()
    done = subprocess.run(command, stderr=subprocess.PIPE, universal_newlines=True, check=False)
    assert done.returncode == 2
    assert "text.txt" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_script_runs_from_anywhere(root, folder):
    output = "{}/out".format(folder)
    subprocess.run(
        ["bash", str(root / "create_pretrain_data.sh"), "--output_file=" + output,
         "--dupe_factor=1"],
        cwd=str(folder),
        check=True,
    )  # fmt: skip
    manifest = read_manifest(output)
    assert manifest["flags"]["max_seq_length"] == 512
    assert manifest["flags"]["do_whole_word_mask"] is True
    assert manifest["counts"]["instances"] >= 30


@pytest.mark.parametrize(
    "text, warning",
    [
        ("我们今天去看电影。\n电影很好看，大家都喜欢。\n", None),
        ("我们今天去看电影。\n".encode("utf-8").decode("latin1") * 3, "UNKNOWN PIECES"),
        ("我们今天去看电影。\n\n电影很好看，大家都喜欢。\n\n", "SHORT DOCUMENTS"),
        ("我 们 今 天 去 看 电 影 。\n电 影 很 好 看。\n", "SINGLE CHARACTERS"),
    ],
)
def test_text_in_another_encoding_and_lone_sentences_get_a_warning(
    root, folder, caplog, text, warning
):
    (folder / "text.txt").write_text(text, encoding="utf-8")
    run(root, folder)
    for words in ("UNKNOWN PIECES", "SHORT DOCUMENTS", "SINGLE CHARACTERS"):
        assert (words in caplog.text) == (words == warning)


COMPACT = {"record_format": "compact", "do_whole_word_mask": False}


def test_compact_records_of_small_files_get_a_warning(root, folder, caplog):
    small = "我们今天去看电影。\n电影很好看。\n"
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(small, encoding="utf-8")
    run(root, folder, input_file=str(folder / "[ab].txt"), **COMPACT)
    assert "SMALL FILES" in caplog.text
    caplog.clear()
    (folder / "text.txt").write_text(small + "\n" + small, encoding="utf-8")
    run(root, folder, output_file=str(folder / "joined"), **COMPACT)
    assert "SMALL FILES" not in caplog.text


def read_rows(path, **limits):
    content = read_manifest(path)
    flags = content["flags"]
    limits = compact.Limits(
        flags["max_seq_length"], flags["max_chunks_per_row"], content["vocab_size"]
    )
    return [compact.parse(record, limits) for record in tf.io.tf_record_iterator(path)]


@pytest.mark.parametrize("max_chunks", [1, 8])
def test_compact_records_hold_the_text_once(root, folder, tokenizer, max_chunks):
    path = run(root, folder, short_seq_prob=0, max_chunks_per_row=max_chunks, **COMPACT)
    rows = read_rows(path)
    chunks = []
    for row in rows:
        assert 1 <= len(row.lengths) <= max_chunks
        begins = [sum(row.lengths[:i]) for i in range(len(row.lengths))]
        for begin, length, splits in zip(begins, row.lengths, row.splits):
            pieces = row.pieces[begin : begin + length].tolist()
            chunks.append(tokenizer.convert_ids_to_tokens(pieces))
            marks = [chunks[-1][split - 1] for split in splits]
            assert all(mark in "。，！”取改" or mark == "造" for mark in marks), marks
    expected = [tokenizer.tokenize(document) for document in TEXT.split("\n\n")]
    expected = [pieces for pieces in expected if len(pieces) > 1]
    whole = sum(map(len, expected))
    assert sum(map(len, chunks)) == whole
    for pieces in chunks:
        text = "".join(pieces)
        assert any(text in "".join(document) for document in expected)
    counts = read_manifest(path)["counts"]
    assert (counts["rows"], counts["instances"]) == (len(rows), len(chunks))
    assert counts["positions"] == whole + 3 * len(chunks)


def test_compact_records_are_shown_with_one_masking(root, folder, capsys):
    run(root, folder, show=2, **COMPACT)
    shown = capsys.readouterr().out
    assert "one of many possible maskings" in shown
    assert re.search(r"chunks in this row: \d; \d+ of 40 positions are used", shown)
    assert "[CLS]" in shown and "[MASK]}" in shown


def test_flags_that_compact_records_do_not_need(root, folder):
    with pytest.raises(UserError, match="--dupe_factor=10 with --record_format=compact"):
        run(root, folder, dupe_factor=10, **COMPACT)
    run(root, folder, dupe_factor=1, **COMPACT)
    run(root, folder, **COMPACT)


@pytest.mark.parametrize("size, is_refused", [((1 << 16) + 1, True), (1 << 16, False)])
def test_a_vocabulary_that_is_too_large_for_two_bytes(root, folder, size, is_refused):
    vocab = folder / "vocab.txt"
    pieces = (root / "albert_config" / "vocab.txt").read_text(encoding="utf-8").split("\n")[:21128]
    pieces += ["more{}".format(i) for i in range(size - len(pieces))]
    vocab.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    if is_refused:
        with pytest.raises(UserError, match="room for 65536 pieces, and it has 65537: give --rec"):
            run(root, folder, vocab_file=vocab, **COMPACT)
        run(root, folder, vocab_file=vocab, record_format="published")
    else:
        assert read_rows(run(root, folder, vocab_file=vocab, **COMPACT))


def test_articles_of_one_line_are_not_taken_for_lone_sentences(root, folder, caplog):
    article = "我们今天去看电影。电影很好看，大家都喜欢。" * 10 + "\n"
    (folder / "text.txt").write_text("\n".join([article] * 3), encoding="utf-8")
    run(root, folder)
    assert "if each line is a whole article, give --split_sentences=True" in caplog.text
    caplog.clear()
    run(root, folder, split_sentences=True, overwrite=True)
    assert "SHORT DOCUMENTS" not in caplog.text
