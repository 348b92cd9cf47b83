"""Manifests: written and read back, and compared with the settings of a training run."""

import os

import pytest

from common.errors import UserError
from tfrecords import manifest


@pytest.fixture
def made(tmp_path):
    """A records file with a manifest; a function that changes the manifest."""
    path = str(tmp_path / "a")

    def write(name="a", **changes):
        values = {
            "flags": {"max_seq_length": 128, "max_predictions_per_seq": 20},
            "vocab_size": 21128,
            "vocab_sha256": "45bb",
            "outputs": [path],
        }
        values.update(changes)
        manifest.write_manifest(str(tmp_path / name), values)
        return str(tmp_path / name)

    return write


def check(paths, max_seq_length=128, max_predictions_per_seq=20, vocab_size=21128):
    return manifest.check_manifests(paths, max_seq_length, max_predictions_per_seq, vocab_size)


def test_equal_settings_and_larger_limits_give_no_warning(made, tmp_path):
    assert check([made()]) == []
    assert check([made()], max_seq_length=512, max_predictions_per_seq=76) == []
    assert check([str(tmp_path / "without")]) == []


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"max_seq_length": 64}, "max_seq_length=128, here it is 64: set --max_seq_length to 128"),
        ({"max_predictions_per_seq": 19}, "max_predictions_per_seq=20, here it is 19"),
        ({"vocab_size": 100}, "vocab_size=21128, here it is 100"),
    ],
)
def test_records_that_cannot_be_used_are_an_error(made, changes, message):
    with pytest.raises(UserError, match=message):
        check([made()], **changes)


def test_a_larger_vocabulary_of_the_model_is_a_warning(made):
    assert check([made()], vocab_size=21136) == [
        "{} was made with vocab_size=21128, here it is 21136".format(made())
    ]


def test_records_of_two_vocabularies_do_not_mix(made):
    paths = [made(), made("b", vocab_sha256="00", outputs=["b"])]
    with pytest.raises(UserError, match="a and .*b were made with different vocabularies"):
        check(paths)


def test_missing_shards_are_a_warning(made):
    (warning,) = check([made(outputs=["a", "b", "c"])])
    assert "one of 3 files that were made together; 2 are not read" in warning


def test_manifest_round_trip(tmp_path):
    path = str(tmp_path / "sub" / "a.tfrecord")
    assert manifest.read_manifest(path) is None
    manifest.write_manifest(path, {"flags": {"max_seq_length": 128}, "字": "汉"})
    assert manifest.read_manifest(path) == {"flags": {"max_seq_length": 128}, "字": "汉"}
    assert os.listdir(str(tmp_path / "sub")) == ["a.tfrecord.manifest.json"]


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe{}"])
def test_a_damaged_manifest_is_named(tmp_path, content):
    (tmp_path / "a.manifest.json").write_bytes(content)
    with pytest.raises(UserError, match="a.manifest.json"):
        manifest.read_manifest(str(tmp_path / "a"))


def test_the_folder_of_a_manifest_may_have_the_characters_of_a_pattern(tmp_path):
    folder = tmp_path / "d[1]"
    folder.mkdir()
    path = str(folder / "a.tfrecord")
    (folder / ("a.tfrecord" + manifest.MANIFEST_SUFFIX)).write_text('{"outputs": ["a.tfrecord"]}')
    assert manifest.find_manifests([path]) == {path: {"outputs": ["a.tfrecord"]}}
