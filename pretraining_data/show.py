"""Instances as text, for a person to read."""

from pretraining_data import masking_reference
from pretraining_data.draws import Draws
from pretraining_data.sentence_order import pairs_of_document


def format_instances(maker, tokenized, inv_vocab, number):
    """Return some instances of a block as text of several lines, str.

    Args:
        maker: `instances.InstanceMaker`.
        tokenized: `instances.Tokenized`.
        inv_vocab: dict from id to piece.
        number: int, the most instances; each is the first of another document.
    """
    text = tokenized.text
    draws = Draws(maker.random_seed, tokenized.index)
    total = len(text.numbers)
    parts = [
        "Words are separated by spaces; {label>given} is a masked piece: its label,"
        " and the piece in its place."
    ]
    for i in range(min(number, total)):
        which = i * total // min(number, total)
        begin, end = text.begins[which], text.ends[which]
        breaks = text.breaks[begin : end + 1]
        document = masking_reference.Document(text.pieces[begin:end], breaks)
        number_in_block = int(text.numbers[which])
        of_document = draws.child(number_in_block, 0)
        pair, chunk_draws = pairs_of_document(breaks, maker.config, of_document)[0]
        sequence = masking_reference.assemble(document, pair, maker.vocabulary)
        instance = masking_reference.mask(
            sequence, pair.swapped, maker.config, maker.vocabulary, chunk_draws
        )
        parts.append(_format_instance(number_in_block, sequence, instance, inv_vocab))
    return "\n\n".join(parts)


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
