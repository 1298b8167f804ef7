"""The whole of ``perception compare-networks``: load, count, let all take turns, replay each, write it down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch

from perception.bag.source import require_exists
from perception.errors import ConfigError, RecordingError
from perception.interfaces import LabelSpace
from perception.network_comparison.accuracy import check_data, replay_candidate
from perception.network_comparison.candidates import Failure, load_candidates, name_twins
from perception.network_comparison.latency import Perceivers, Way, build_perceivers, measure_latency
from perception.network_comparison.page import COMPARISON_FILE, PAGE_FILE, write_outputs
from perception.network_comparison.result import REPLAYS, NetworkComparison, Settings
from perception.output_folder import STOPPED, StopRequest, claim_folder, keep_apart, refuse_report
from perception.replay.provenance import describe_machine, versions
from perception.replay.recordings import ReplayOptions, name_recordings, open_streams
from perception.replay.report import PAGE_FILE as REPLAY_PAGE
from perception.replay.report import REPORT_FILE
from perception.replay.truth import NOWHERE, is_folder
from perception.resources import SAMPLE_BAG


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """What the command line says.

    Attributes:
        data: Recordings with truth, as ``replay`` takes them; none: accuracy is not measured.
        replay: How they are replayed; its ``output`` is that of the comparison.
        ways: Backends and precisions to measure latency with; accuracy with the first
            that this machine serves.
        backends_named, precisions_named: Whether somebody asked for just these, see ``build_perceivers``.
        device: Where networks run.
        rounds: Turns of each that count.
    """

    data: tuple[Path, ...] = ()
    replay: ReplayOptions
    ways: tuple[Way, ...] = (Way(backend='eager', precision='fp32'),)
    backends_named: bool = False
    precisions_named: bool = False
    device: str = 'auto'
    rounds: int = 20


def compare_networks(models: Sequence[str], options: ComparisonOptions, *, progress: bool = True) -> NetworkComparison:
    """Compare networks, and write comparison.json, comparison.html and a replay of each into the output folder.

    What cannot be done for one network is noted, and the others go on. A signal ends it early: what there is, is
    written.

    Args:
        models: Checkpoint files and names of networks.

    Raises:
        PerceptionError: If nothing could be started: no checkpoint that can be loaded, no way to run one, data without
            truth, an output that is taken.
    """
    output = options.replay.output
    _check_paths(options)
    candidates, failures = load_candidates(models)
    trained = [candidate for candidate in candidates if candidate.checkpoint.trained]
    if options.data and trained:
        failures += check_data(trained, options.data, options.replay)
    picture, image_rgb = _open_picture(candidates[0].labels, options)
    with claim_folder(output), StopRequest() as stop:
        _check_output(output, overwrite=options.replay.overwrite)
        perceivers, unserved, refused = build_perceivers(
            candidates,
            options.ways,
            options.device,
            backends_named=options.backends_named,
            precisions_named=options.precisions_named,
        )
        comparison = NetworkComparison(
            settings=_describe_settings(options, perceivers, picture, image_rgb),
            candidates=tuple(candidates),
            failures=(*failures, *refused),
            unserved=unserved,
            notes=tuple(name_twins(candidates)),
        )
        try:
            for step in _measure(comparison, perceivers, image_rgb, options, stop, progress=progress):
                comparison = step
        except KeyboardInterrupt:
            comparison = replace(comparison, ended_by=STOPPED)
        write_outputs(comparison, output)
    return comparison


def _measure(
    comparison: NetworkComparison,
    perceivers: Perceivers,
    image_rgb: np.ndarray,
    options: ComparisonOptions,
    stop: StopRequest,
    *,
    progress: bool,
) -> Iterator[NetworkComparison]:
    """The comparison after each step: whenever somebody asks to stop, the last one has all that was measured."""
    latencies, failed = measure_latency(perceivers, image_rgb, options.rounds, stop, progress=progress)
    comparison = replace(comparison, latencies=latencies, failures=(*comparison.failures, *failed))
    yield comparison
    refused = {failure.checkpoint for failure in comparison.failures if failure.stage == 'accuracy'}
    for candidate in comparison.candidates if options.data else ():
        if not candidate.checkpoint.trained or candidate.name in refused:
            continue
        report, fault = replay_candidate(
            candidate,
            options.data,
            replace(options.replay, output=options.replay.output / REPLAYS / candidate.name),
            comparison.settings.ways[0],
            options.device,
            progress=progress,
        )
        faults = [Failure(checkpoint=candidate.name, stage='accuracy', reason=fault)] if fault else []
        comparison = replace(comparison, failures=(*comparison.failures, *faults))
        if report is not None:
            comparison = comparison.with_report(candidate, report)
        yield comparison


def _check_paths(options: ComparisonOptions) -> None:
    """Refuse recordings that are not there, and an output that lies in what is read."""
    truth = options.replay.truth
    for path in options.data:
        require_exists(path)
    for source in [*options.data, *([Path(truth)] if is_folder(truth) else [])]:
        keep_apart(options.replay.output, source, COMPARISON_FILE, PAGE_FILE, REPLAYS)


def _check_output(output: Path, *, overwrite: bool) -> None:
    refuse_report(output, COMPARISON_FILE, overwrite=overwrite)
    if (output / REPLAYS).exists() and not overwrite:
        raise ConfigError(
            f'{output} holds a comparison that was killed; name another --output, or begin anew with --overwrite.'
        )
    # At once: whoever looks for the result of a run that failed must not find that of an earlier one.
    for name in (COMPARISON_FILE, PAGE_FILE):
        (output / name).unlink(missing_ok=True)
    for name in (REPORT_FILE, REPLAY_PAGE):
        for file in (output / REPLAYS).glob(f'*/{name}'):
            file.unlink()


def _open_picture(labels: LabelSpace, options: ComparisonOptions) -> tuple[str, np.ndarray]:
    """What latency is measured on, the first frame of the data or of the sample drive: its name, (H, W, 3) uint8."""
    path = options.data[0] if options.data else SAMPLE_BAG
    topics = options.replay.topics if options.data else ()
    (recording,) = name_recordings([path], options.replay.output)
    untrue = ReplayOptions(output=options.replay.output, topics=topics, truth=NOWHERE)
    stream = next(open_streams(recording, labels, untrue))
    frame = next(iter(stream.source), None)
    if frame is None:
        raise RecordingError(f'{path} holds no frame that can be decoded.')
    return f'the first frame of {stream.name if options.data else "the sample drive"}', frame.image_rgb


def _describe_settings(
    options: ComparisonOptions, perceivers: Perceivers, picture: str, image_rgb: np.ndarray
) -> Settings:
    devices = {perceiver.device for perceiver in perceivers.values()}
    served = {way for _, way in perceivers}
    return Settings(
        ways=tuple(way for way in options.ways if way in served),
        machine=describe_machine(max(devices)),  # 'cuda...' comes behind 'cpu'
        threads=torch.get_num_threads(),
        versions=versions(),
        rounds=options.rounds,
        picture=picture,
        picture_hw=(image_rgb.shape[0], image_rgb.shape[1]),
        at=datetime.now(timezone.utc).isoformat(timespec='seconds'),
    )
