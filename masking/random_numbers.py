"""The random numbers of all masks and swaps: functions of a key, without a generator's state."""

import numpy as np


class Stream:
    """The streams of `Draws`, one for each random decision."""

    SHORT, TARGET, MIDDLE, SWAP, ORDER, ACTION, REPLACEMENT, FIRST_GRAMS, SECOND_GRAMS = range(9)


class Draws:
    """Random numbers that depend on a key alone, and not on earlier draws.

    Draws(seed, document, duplicate).uniform(Stream.SWAP) is an array with the random number of one
    key. If a part of the key is an array, every element of the array has its own key and number.
    The parts of a key are hashed one after the other by the finalizer of SplitMix64
    (Steele, Lea and Flood 2014). The numbers of a stream are hashes of a counter in the same way.

    Args:
        *key: int or int array each; shapes broadcast.
    """

    def __init__(self, *key):
        self._state = _hash_all(np.zeros(1, np.uint64), key)

    def child(self, *key):
        """Return the Draws of this key extended by further parts."""
        return self._of_state(_hash_all(self._state, key))

    def take(self, rows):
        """Return the Draws of some of the keys; `rows` is any index of a numpy array."""
        return self._of_state(self._state[rows])

    @classmethod
    def concatenate(cls, draws):
        """Return the Draws of all keys of a sequence of one-dimensional Draws."""
        return cls._of_state(np.concatenate([one._state for one in draws]))

    @classmethod
    def _of_state(cls, state):
        draws = cls()
        draws._state = state
        return draws

    def bits(self, stream, counter=0, rows=slice(None)):
        """Return uint64 random bits.

        Args:
            stream: int, or int array with one for each key.
            counter: int or int array, the position in the stream.
            rows: int array, the key of each counter; by default every key once, in order.
        """
        return _hash_all(self.child(stream)._state[rows], (counter,))

    def uniform(self, stream, counter=0, rows=slice(None)):
        """Return float64 in [0, 1); takes the arguments of `bits`."""
        return (self.bits(stream, counter, rows) >> np.uint64(11)) * 2.0**-53

    def below(self, stream, size):
        """Return int64 in [0, size); `size` is an int, or an int array with one for each key."""
        return (self.uniform(stream) * size).astype(np.int64)

    def order_keys(self, counter, rows=slice(None)):
        """Return uint64 below 2**56 that sort the counters at random.

        The low 16 bits are the counter. The 40 random bits above the counter leave room for the
        number of an instance, so that one sort of int64 can sort many instances (`graph`).
        """
        counter = np.asarray(counter, np.uint64)
        return self.bits(Stream.ORDER, counter, rows) >> np.uint64(24) << np.uint64(16) | counter


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
