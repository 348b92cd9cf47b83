"""Manifests against the settings of a trainer: both values are named."""

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


def test_what_fits_is_silent(made, tmp_path):
    assert check([made()]) == []
    assert check([made()], max_seq_length=512, max_predictions_per_seq=76) == []
    assert check([str(tmp_path / "without")]) == []


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"max_seq_length": 64}, "max_seq_length=128, here it is 64: set it to 128"),
        ({"max_predictions_per_seq": 19}, "max_predictions_per_seq=20, here it is 19"),
        ({"vocab_size": 100}, "vocab_size=21128, here it is 100"),
    ],
)
def test_what_cannot_be_used_is_an_error(made, changes, message):
    with pytest.raises(UserError, match=message):
        check([made()], **changes)


def test_a_larger_table_of_words_is_a_warning(made):
    assert check([made()], vocab_size=21136) == [
        "{} was made with vocab_size=21128, here it is 21136".format(made())
    ]


def test_records_of_two_vocabularies_do_not_mix(made):
    paths = [made(), made("b", vocab_sha256="00", outputs=["b"])]
    with pytest.raises(UserError, match="a and .*b were made with different vocabularies"):
        check(paths)


def test_missing_shards_are_told(made):
    (warning,) = check([made(outputs=["a", "b", "c"])])
    assert "one of 3 files that were made together; 2 are not read" in warning
