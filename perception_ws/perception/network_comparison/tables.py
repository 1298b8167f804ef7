"""The figures of a comparison of networks as rows of words: the same in the terminal and on the page."""

from __future__ import annotations

from tabulate import tabulate

from perception.benchmark.rounds import Spread
from perception.metrics.tables import share
from perception.network_comparison.candidates import Candidate
from perception.network_comparison.result import NetworkComparison

NETWORK_HEAD = ('', 'checkpoint', 'network', 'input', 'parameters M', 'GMAC', 'mIoU %', 'AP50 %', 'AP50:95 %')
LATENCY_HEAD = ('', 'checkpoint', 'run by', 'median ms', 'quartiles ms', 'network alone ms', 'times the first')


def network_rows(comparison: NetworkComparison) -> list[list[str]]:
    """One row for each network, with its number; columns as NETWORK_HEAD."""
    return [
        [str(number), candidate.name, *_network_cells(comparison, candidate)]
        for number, candidate in enumerate(comparison.candidates, start=1)
    ]


def _network_cells(comparison: NetworkComparison, candidate: Candidate) -> list[str]:
    cost, means = candidate.cost, comparison.means(candidate)
    scores = [comparison.why_unscored(candidate), '', '']
    if means is not None:
        scores = [share(means.iou), share(means.ap50), share(means.ap)]
    return [
        candidate.checkpoint.title,
        f'{cost.image_hw[0]}x{cost.image_hw[1]}',
        f'{cost.parameters / 1e6:.3f}',
        f'{cost.macs / 1e9:.2f}',
        *scores,
    ]


def latency_rows(comparison: NetworkComparison) -> list[list[str]]:
    """One row for each network and way to run it; columns as LATENCY_HEAD."""
    return [
        [
            str(number),
            candidate.name,
            f'{latency.way}, {latency.device}',
            f'{latency.whole.median:.2f}',
            _quartiles(latency.whole),
            f'{latency.network.median:.2f}',
            'n/a' if latency.ratio is None else f'{latency.ratio:.3f}',
        ]
        for number, candidate in enumerate(comparison.candidates, start=1)
        for latency in comparison.latencies.get(candidate.name, ())
    ]


def describe_latency(comparison: NetworkComparison) -> str:
    """How latency was measured, in a sentence or two."""
    settings = comparison.settings
    height, width = settings.picture_hw
    return (
        f'{settings.rounds} rounds in which all took turns, on {settings.picture} ({height}x{width}); '
        f'{settings.machine}, {settings.threads} threads. Preparing the picture, network and '
        'post-processing; ratios are taken round by round, by the same way to run.'
    )


def describe_accuracy(comparison: NetworkComparison) -> str:
    """How accuracy was measured, in a sentence; empty: it was not."""
    if not comparison.reports:
        return ''
    report = next(iter(comparison.reports.values()))
    return (
        f'Accuracy by {comparison.settings.ways[0]} on {len(report.agreement):,} frames of '
        f'{", ".join(report.stream_names)}, truth: {"; ".join(dict.fromkeys(report.truth))}.'
    )


def describe_gaps(comparison: NetworkComparison) -> list[str]:
    """What is missing and what a reader must know, a sentence each; what failed comes last."""
    unserved = [f'{way} cannot be run here: {reason}' for way, reason in comparison.unserved.items()]
    stopped = [f'ENDED EARLY BY {comparison.ended_by}.'] if comparison.ended_by else []
    failed = [f'FAILED {failure}' for failure in comparison.failures]
    return [*comparison.remarks(), *unserved, *stopped, *failed]


def format_comparison(comparison: NetworkComparison) -> str:
    """The comparison as text for a terminal."""
    networks = tabulate(
        network_rows(comparison), NETWORK_HEAD, disable_numparse=True, colalign=('right', *['left'] * 3, *['right'] * 5)
    )
    parts = [networks]
    rows = latency_rows(comparison)
    if rows:
        align = ('right', 'left', 'left', *['right'] * 4)
        parts += [tabulate(rows, LATENCY_HEAD, disable_numparse=True, colalign=align), describe_latency(comparison)]
    told = [describe_accuracy(comparison), *describe_gaps(comparison)]
    return '\n\n'.join([*parts, '\n'.join(filter(None, told))]).rstrip()


def _quartiles(spread: Spread) -> str:
    return f'{spread.lower_quartile:.2f} - {spread.upper_quartile:.2f}'
