"""MixtureSampler: which sample of which data set is the k-th of a run, as a pure function of (seed, weights, k).

The data sets are interleaved as evenly as their weights allow: after any k draws each has had its share within about
one draw per data set. Within a data set every epoch is a new permutation, so that every image is seen equally often;
a phase with other weights goes on elsewhere in the epochs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch

from perception.errors import ConfigError


def seed_of(*numbers: int) -> int:
    """Mix non-negative integers into one 64-bit seed; neighbouring inputs give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def seeded_generator(*numbers: int) -> torch.Generator:
    """A CPU generator seeded from non-negative integers, such as a run's seed and a sample's number."""
    # The sign bit is left out: manual_seed takes signed numbers.
    return torch.Generator().manual_seed(seed_of(*numbers) >> 1)


class MixtureSampler:
    """Draws from data sets by weight."""

    def __init__(self, lengths: Sequence[int], weights: Sequence[float] | None, seed: int) -> None:
        """Plan the mixture.

        Args:
            lengths: Samples in each data set.
            weights: Relative share of each in the draws; None gives every sample the same.
            seed: Not negative.

        Raises:
            ConfigError: If the weights do not fit the data sets, or one with weight is empty.
        """
        shares = list(lengths if weights is None else weights)
        usable = all(math.isfinite(share) and share >= 0 for share in shares) and sum(shares) > 0
        if len(shares) != len(lengths) or not usable or seed < 0:
            raise ConfigError(
                f'A mixture of {len(lengths)} data sets needs as many weights, none negative and not all zero, and a '
                f'seed of at least 0; got weights {shares}, seed {seed}.'
            )
        if any(share > 0 and length < 1 for share, length in zip(shares, lengths, strict=True)):
            raise ConfigError(f'Data sets of {list(lengths)} samples have weights {shares}; an empty one must have 0.')
        self._lengths, self._seed = list(lengths), seed
        exact = [Fraction(share).limit_denominator(1_000_000) for share in shares]
        # Of the draws that reach data set d, those before it left out, the part that stops there. Fractions, because
        # rounding must not depend on how large k is.
        rests = [sum(exact[place:], Fraction(0)) for place in range(len(exact))]
        self._stops = [share / rest if rest else rest for share, rest in zip(exact, rests, strict=True)]
        self._permutations: dict[int, tuple[int, list[int]]] = {}

    def draw(self, k: int) -> tuple[int, int]:
        """Data set and sample of draw k, counted from 0."""
        position = k
        for dataset_index, stop in enumerate(self._stops):
            count = math.floor(position * stop)
            if math.floor((position + 1) * stop) > count:
                epoch, place = divmod(count, self._lengths[dataset_index])
                return dataset_index, self._permutation(dataset_index, epoch)[place]
            position -= count
        raise AssertionError('the last data set with a weight takes every draw that reaches it')

    def _permutation(self, dataset_index: int, epoch: int) -> list[int]:
        kept = self._permutations.get(dataset_index)
        if kept is None or kept[0] != epoch:
            generator = seeded_generator(self._seed, 1 + dataset_index, epoch)
            kept = epoch, torch.randperm(self._lengths[dataset_index], generator=generator).tolist()
            self._permutations[dataset_index] = kept
        return kept[1]
