"""Random numbers that are a function of a key, for every decision that makes an instance."""

import numpy as np

# Streams of `Draws`: which decision a number is for.
SHORT, TARGET, MIDDLE, SWAP, ORDER, ACTION, REPLACEMENT, FIRST_GRAMS, SECOND_GRAMS = range(9)


class Draws:
    """Random numbers that are a function of a key alone, never of what was drawn before.

    Draws(seed, document, duplicate).uniform(SWAP) is one such number, as an array of one. A part
    of the key may be an array: then there is one key, and one number, for each of its elements.
    A key is hashed, one of its parts after the other, by the finalizer of SplitMix64 (Steele, Lea
    and Flood 2014), and so is the counter of the numbers of a stream, which is that generator.

    Args:
        *key: int or int array each; shapes broadcast.
    """

    def __init__(self, *key):
        self._state = _hash_all(np.zeros(1, np.uint64), key)

    def child(self, *key):
        """Return the Draws of this key with further parts."""
        return self._of_state(_hash_all(self._state, key))

    def take(self, rows):
        """Return the Draws of some of the keys; `rows` is whatever indexes an array."""
        return self._of_state(self._state[rows])

    @classmethod
    def concatenate(cls, draws):
        """Return one Draws of the keys of several, of one dimension."""
        return cls._of_state(np.concatenate([one._state for one in draws]))

    @classmethod
    def _of_state(cls, state):
        draws = cls()
        draws._state = state
        return draws

    def bits(self, stream, counter=0, rows=slice(None)):
        """Return uint64 random bits.

        Args:
            stream: int, or int array: one for each key.
            counter: int or int array, which number of the stream.
            rows: int array, which of the keys each counter is for; all, in order, if left out.
        """
        return _hash_all(self.child(stream)._state[rows], (counter,))

    def uniform(self, stream, counter=0, rows=slice(None)):
        """Return float64 in [0, 1), as `bits`."""
        return (self.bits(stream, counter, rows) >> np.uint64(11)) * 2.0**-53

    def below(self, stream, size):
        """Return int64 in [0, size); `size` is an int, or an int array: one for each key."""
        return (self.uniform(stream) * size).astype(np.int64)

    def order_keys(self, counter, rows=slice(None)):
        """Return uint64 that bring the counters into random order; their low 16 bits hold them."""
        counter = np.asarray(counter, np.uint64)
        return self.bits(ORDER, counter, rows) >> np.uint64(16) << np.uint64(16) | counter


_GOLDEN = np.array([0x9E3779B97F4A7C15], np.uint64)


def _hash_all(state, parts):
    for part in parts:
        part = np.atleast_1d(np.asarray(part, np.int64)).view(np.uint64)
        z = part * _GOLDEN + (state + _GOLDEN)
        z ^= z >> np.uint64(30)
        z *= np.uint64(0xBF58476D1CE4E5B9)
        z ^= z >> np.uint64(27)
        z *= np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        state = z
    return state
