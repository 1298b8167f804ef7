"""MixtureSampler: a pure function of (seed, k) that gives each data set its share and each image its turn."""

from __future__ import annotations

from collections import Counter

import pytest

from perception.errors import ConfigError
from training.data.mixture import MixtureSampler, seed_of, seeded_generator


def test_draws_do_not_depend_on_what_was_drawn_before() -> None:
    in_order = [MixtureSampler([5, 7, 3], [2.0, 1.0, 0.5], 4).draw(k) for k in range(200)]
    sampler = MixtureSampler([5, 7, 3], [2.0, 1.0, 0.5], 4)
    backwards = [sampler.draw(k) for k in reversed(range(200))]
    assert in_order == backwards[::-1]


def test_every_stretch_of_draws_has_the_shares_of_the_weights() -> None:
    sampler = MixtureSampler([50, 70, 30], [0.5, 0.3, 0.2], 0)
    draws = [sampler.draw(k)[0] for k in range(10_000)]
    for start in range(0, 9_900, 100):
        counts = Counter(draws[start : start + 100])
        assert all(abs(counts[dataset] - share) <= 3 for dataset, share in ((0, 50), (1, 30), (2, 20)))


def test_every_epoch_of_a_dataset_shows_each_image_once_in_a_new_order() -> None:
    sampler = MixtureSampler([6, 11], [1, 1], 3)
    draws = [sampler.draw(k) for k in range(400)]
    for dataset, length in ((0, 6), (1, 11)):
        indices = [sample for drawn, sample in draws if drawn == dataset]
        epochs = [indices[start : start + length] for start in range(0, len(indices) - length + 1, length)]
        assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > len(epochs) // 2


def test_without_weights_every_image_comes_equally_often() -> None:
    sampler = MixtureSampler([2, 8], None, 0)
    counts = Counter(sampler.draw(k) for k in range(100))
    assert len(counts) == 10
    assert set(counts.values()) == {10}


def test_far_draws_are_as_exact_as_near_ones() -> None:
    sampler = MixtureSampler([10, 10], [1 / 3, 2 / 3], 0)
    assert Counter(sampler.draw(10**15 + k)[0] for k in range(300)) == {0: 100, 1: 200}


def test_seeds_and_datasets_have_orders_of_their_own() -> None:
    orders = {seed: [MixtureSampler([100], None, seed).draw(k) for k in range(100)] for seed in (0, 1)}
    assert orders[0] != orders[1]
    sampler = MixtureSampler([100, 100], [1, 1], 0)
    draws = [sampler.draw(k) for k in range(200)]
    assert [sample for dataset, sample in draws if not dataset] != [sample for dataset, sample in draws if dataset]


def test_a_weight_of_zero_leaves_a_dataset_out_even_an_empty_one() -> None:
    for lengths, weights in (([4, 0, 5], [1, 0, 1]), ([4, 5, 0], [1, 1, 0]), ([0, 4], [0, 1])):
        sampler = MixtureSampler(lengths, weights, 0)
        drawn = {sampler.draw(k)[0] for k in range(50)}
        assert drawn == {place for place, weight in enumerate(weights) if weight}


@pytest.mark.parametrize(
    ('lengths', 'weights', 'seed'),
    [
        ([3, 4], [1.0], 0),
        ([3, 4], [1.0, -1.0], 0),
        ([3, 4], [0.0, 0.0], 0),
        ([3, 4], [float('nan'), 1.0], 0),
        ([3, 0], [1.0, 1.0], 0),
        ([], None, 0),
        ([3], None, -1),
    ],
)
def test_mixtures_that_cannot_be_drawn_are_refused(lengths: list[int], weights: list[float] | None, seed: int) -> None:
    with pytest.raises(ConfigError, match='weights'):
        MixtureSampler(lengths, weights, seed)


def test_seeds_mix_all_their_numbers() -> None:
    seeds = {seed_of(seed, 0, k) for seed in range(20) for k in range(50)}
    assert len(seeds) == 1_000
    assert seeded_generator(1, 2).initial_seed() != seeded_generator(2, 1).initial_seed()
