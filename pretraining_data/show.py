"""Records as text, for a person to read."""

from masking import reference
from masking.random_numbers import Draws
from masking.sentence_order import pairs_of_document
from tfrecords import compact

LEGEND = (
    "Words are separated by spaces; {label>given} is a masked piece: its label, and the piece in "
    "its place."
)


def format_instances(maker, tokenized, inv_vocab, number):
    """Return some instances of a block as text of several lines, str.

    Args:
        maker: `instances.InstanceMaker`.
        tokenized: `instances.Tokenized`.
        inv_vocab: dict from id to piece.
        number: int, the largest number of instances; each is the first of a different document.
    """
    text = tokenized.text
    draws = Draws(maker.random_seed, tokenized.index)
    parts = [LEGEND]
    for which in _spread_out(number, len(text.numbers)):
        begin, end = text.begins[which], text.ends[which]
        breaks = text.breaks[begin : end + 1]
        document = reference.Document(text.pieces[begin:end], breaks)
        number_in_block = int(text.numbers[which])
        of_document = draws.child(number_in_block, 0)
        pair, chunk_draws = pairs_of_document(breaks, maker.config, of_document)[0]
        sequence = reference.assemble(document, pair, maker.vocabulary)
        instance = reference.mask(
            sequence, pair.swapped, maker.config, maker.vocabulary, chunk_draws
        )
        parts.append(_format_instance(number_in_block, sequence, instance, inv_vocab))
    return "\n\n".join(parts)


def format_rows(maker, tokenized, inv_vocab, number):
    """Return `number` rows of a block as text, each with one of its possible maskings."""
    rows = maker.make_rows(tokenized)
    records = [record for batch in maker.make_records(tokenized) for record in batch.records]
    parts = [LEGEND + " This is one of many possible maskings of a row."]
    for which in _spread_out(number, len(rows)):
        row = compact.parse(records[which], maker.limits)
        draws = Draws(maker.random_seed, 0, which)
        masked = reference.mask_row(row, maker.config, maker.vocabulary, draws)
        text = "chunks in this row: {}; {} of {} positions are used"
        used, length = row.num_positions, maker.config.max_seq_length
        parts.append(text.format(len(rows[which]), used, length))
        for chunk, sequence, instance in zip(rows[which], masked.sequences, masked.instances):
            parts.append(_format_instance(chunk.document, sequence, instance, inv_vocab))
    return "\n\n".join(parts)


def _spread_out(number, total):
    """Return up to `number` of the numbers below `total`, evenly spread."""
    number = min(number, total)
    return [i * total // number for i in range(number)]


def _format_instance(document, sequence, instance, inv_vocab):
    masked = dict(zip(instance.masked_lm_positions, instance.masked_lm_ids))

    def piece(position):
        original = inv_vocab[sequence.ids[position]]
        if position not in masked:
            return original[2:] if original.startswith("##") else original
        given = inv_vocab[instance.input_ids[position]]
        return "{{{}>{}}}".format(inv_vocab[masked[position]], given)

    def segment(words):
        return " ".join("".join(map(piece, range(begin, end))) for begin, end in words)

    grams = [
        "".join(inv_vocab[i] for i in sequence.ids[gram.begin : gram.end])
        + " ({})".format(gram.num_words)
        for gram in instance.grams
    ]
    return "\n".join(
        [
            "document {}: {} pieces, {} masked; order: {}".format(
                document,
                len(instance.input_ids),
                len(masked),
                "swapped (label 1)" if instance.swapped else "as in the text (label 0)",
            ),
            "[CLS] " + segment(sequence.first_words) + " [SEP]",
            segment(sequence.second_words) + " [SEP]",
            "grams (words): " + ", ".join(grams),
        ]
    )
