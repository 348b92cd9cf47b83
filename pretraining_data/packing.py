"""Packs chunks of text into rows of at most S positions.

    join     every chunk goes into the fullest row that has room for it, the longest chunks first:
             best fit decreasing (Johnson 1973)
    refill   the emptiest rows are taken apart: their chunks are cut to fit the room of other rows

The chunks of a row are from different documents, because a model would otherwise be trained on two
distant parts of a text as if they were unrelated.
"""

from typing import NamedTuple

from tfrecords.compact import NUM_SEPARATORS

# How many rows with equal room are tried for a chunk. Few of these rows hold the document of the
# chunk already.
ROWS_TRIED = 8
# A chunk is cut only if a row has at least this much room, in positions.
LEAST_ROOM = 16
# A part ends at the end of a sentence if at most this share of the room is then unused.
MOST_UNUSED = 1 / 8


class Chunk(NamedTuple):
    """Consecutive pieces [begin, end) of a document."""

    begin: int
    end: int
    document: int

    @property
    def size(self):
        """Number of positions that the chunk takes in a row."""
        return self.end - self.begin + NUM_SEPARATORS


def pack(chunks, levels, capacity, max_chunks):
    """Return rows, lists of `Chunk`, of at most `capacity` positions and `max_chunks` chunks.

    Args:
        chunks: list of `Chunk`.
        levels: list of `sentence_order.Level`: where a chunk may be cut, the best places first.
        capacity: int, S.
        max_chunks: int, 1 or more; with 1 every chunk is a row.
    """
    if max_chunks == 1:
        return [[chunk] for chunk in chunks]
    return refill(join(chunks, capacity, max_chunks), levels, capacity, max_chunks)


def join(chunks, capacity, max_chunks):
    """Return rows that hold every chunk uncut; takes the arguments of `pack`."""
    rows = []
    rows_with = [[] for _ in range(capacity + 1)]  # the open rows that have this much room
    rooms = 0  # bit r is 1 if `rows_with[r]` is not empty
    for chunk in sorted(chunks, key=lambda chunk: -chunk.size):
        row, room = [], capacity
        candidates = rooms >> chunk.size << chunk.size
        while candidates:
            least = (candidates & -candidates).bit_length() - 1
            candidates &= candidates - 1
            place = _find_row(rows_with[least], chunk)
            if place is not None:
                row, room = rows_with[least].pop(place), least
                rooms &= ~(0 if rows_with[least] else 1 << least)
                break
        if not row:
            rows.append(row)
        row.append(chunk)
        room -= chunk.size
        if len(row) < max_chunks:
            rows_with[room].append(row)
            rooms |= 1 << room
    return rows


def _find_row(rows, chunk):
    """Return the place of a row that does not hold the chunk's document, or None."""
    for place in range(len(rows) - 1, max(len(rows) - 1 - ROWS_TRIED, -1), -1):
        if _has_no_document(rows[place], chunk):
            return place
    return None


def _has_no_document(row, chunk):
    return all(other.document != chunk.document for other in row)


def refill(rows, levels, capacity, max_chunks):
    """Take the emptiest rows apart to fill others; takes the arguments of `pack`.

    Args:
        rows: list of rows, which are lists of `Chunk`.

    Returns:
        List of rows with the same pieces.
    """
    rooms = [capacity - sum(chunk.size for chunk in row) for row in rows]
    order = sorted(range(len(rows)), key=rooms.__getitem__)
    full = [rows[i] for i in order if rooms[i] < LEAST_ROOM]
    # The emptiest row is the last.
    open_rows = [(rooms[i], rows[i]) for i in order if rooms[i] >= LEAST_ROOM]
    while open_rows:
        _, row = open_rows.pop()
        left = []  # the parts of chunks for which no row has room
        for chunk in row:
            left += _move_parts(chunk, open_rows, full, levels, max_chunks)
        if left:
            full.append(left)
            break
    return full + [row for _, row in open_rows]


def _move_parts(chunk, open_rows, full, levels, max_chunks):
    """Move a chunk, in parts, into the emptiest rows; returns what is left, a list of `Chunk`."""
    for place in reversed(range(len(open_rows))):
        room, row = open_rows[place]
        if len(row) == max_chunks or not _has_no_document(row, chunk):
            continue
        end = _cut(chunk, room, levels)
        if end is None:
            continue
        open_rows.pop(place)
        part, chunk = chunk._replace(end=end), chunk._replace(begin=end)
        row.append(part)
        room -= part.size
        if chunk.begin < chunk.end or room < LEAST_ROOM:
            full.append(row)
        else:
            open_rows.append((room, row))
            open_rows.sort(key=lambda room_and_row: room_and_row[0])
        if chunk.begin == chunk.end:
            return []
    return [chunk]


def _cut(chunk, room, levels):
    """Return the end of the longest part of a chunk that fits into `room`, or None.

    The part fills at least half of the room. Both the part and the rest of the chunk have at least
    two pieces.
    """
    if chunk.size <= room:
        return chunk.end
    limit = min(chunk.begin + room - NUM_SEPARATORS, chunk.end - 2)
    for level in levels:
        end = int(level.last_until(limit))
        if limit - end <= MOST_UNUSED * room:
            break
    return end if end - chunk.begin >= max(room // 2 - NUM_SEPARATORS, 2) else None
