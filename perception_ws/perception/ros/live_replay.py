"""``perception replay-live``: a recording through the running node at the recording's own pace, judged as it comes.

What only a live run can tell: how long each output takes from the image's stamp, and which frames are dropped and why.
Scores are of the frames that were answered. Thresholds make the exit code a gate.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.signals import SignalHandlerOptions
from tabulate import tabulate
from tqdm import tqdm

from perception.bag.source import FrameSource
from perception.errors import ConfigError, DatasetError, RecordingError
from perception.interfaces import Detections, GroundTruth, LabelSpace, SceneResult
from perception.labels import CITYSCAPES_11_3
from perception.metrics import Evaluator, Report
from perception.metrics.page_sections import Section
from perception.metrics.report_page import write_report_page
from perception.metrics.tables import format_report
from perception.output_folder import STOPPED, StopRequest, claim_folder, keep_apart
from perception.replay.truth import TruthSource
from perception.ros.demo_summary import count_text, print_summary, summarise
from perception.ros.node_process import NodeProcess, isolate_middleware
from perception.ros.player import RUNNING_NODE_TIMEOUT_S, START_TIMEOUT_S, FramePlayer

REPORT_FILES = ('report.html', 'report.json', 'summary.json')
LOG_FILE = 'node.log'


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What a run must reach; None: does not matter."""

    min_mean_iou: float | None = None
    min_ap50: float | None = None
    max_latency_p95_ms: float | None = None
    max_lost_share: float | None = None
    """Of the frames sent, those that got no full answer: dropped by the node or lost on the way."""


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """What the command line says.

    Attributes:
        output: Folder of summary.json, report.json and report.html.
        overwrite: Replace the report of an earlier run in that folder.
        node: Namespace of a node that runs already; empty: one is started for this run.
        start_timeout_s: How long that node may take to become active; None: START_TIMEOUT_S for one that is started,
            RUNNING_NODE_TIMEOUT_S for one that runs.
        parameters: Of the node that is started.
        speed: 1 plays at the pace of the recording, 2 twice as fast.
        transport: ``raw`` or ``compressed``.
        frames: Stop after so many; 0: all.
        thresholds: Of the verdict.
    """

    output: Path
    overwrite: bool = False
    node: str = ''
    start_timeout_s: float | None = None
    parameters: dict[str, str | int | float | bool]
    speed: float = 1.0
    transport: str = 'raw'
    frames: int = 0
    thresholds: Thresholds


class SceneJudge:
    """Scores what comes back against the truth of the frame that it belongs to."""

    def __init__(self, labels: LabelSpace) -> None:
        self.evaluator = Evaluator(labels)
        self.bad_truth: list[str] = []
        self._truths: dict[int, GroundTruth] = {}

    def expect(self, index: int, truth: GroundTruth) -> None:
        """The truth of a frame that is about to be sent."""
        self._truths[index] = truth

    def judge(self, index: int, detections: Detections, mask: np.ndarray) -> None:
        """Score one answer; frames without truth are not scored."""
        truth = self._truths.pop(index, None)
        if truth is not None:
            self.evaluator.add(SceneResult(detections=detections, mask=mask), truth, f'{index:06d}')


def run_live_replay(
    source: FrameSource, truth: TruthSource, options: LiveOptions, labels: LabelSpace = CITYSCAPES_11_3
) -> dict[str, Any]:
    """Play the recording, write the results and print them.

    Returns:
        The content of summary.json; ``missed`` lists the thresholds that were not reached.

    Raises:
        PerceptionError: If no node answers, the one that was started ends, or the output folder is taken.
    """
    keep_apart(options.output, source.path)
    with claim_folder(options.output):
        if (options.output / 'report.json').exists() and not options.overwrite:
            raise RecordingError(
                f'{options.output} holds a report already; name another --output, or give --overwrite.'
            )
        # At once: whoever looks for the report of a run that failed must not find that of an earlier one.
        for name in (*REPORT_FILES, LOG_FILE):
            (options.output / name).unlink(missing_ok=True)
        return _run(source, truth, options, labels)


def _run(source: FrameSource, truth: TruthSource, options: LiveOptions, labels: LabelSpace) -> dict[str, Any]:
    output = options.output
    namespace = options.node or '/replay'
    if not options.node:
        isolate_middleware(os.environ)  # type: ignore[arg-type]
    judge = SceneJudge(labels)
    # ROS's own handlers would end its context at once, and with it the way to the node's last report.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    player = FramePlayer(namespace, compressed=options.transport == 'compressed', on_scene=judge.judge)
    interrupted = ''
    try:
        with StopRequest() as stop, ExitStack() as stack:
            check_alive: Callable[[], None] = _nothing
            if not options.node:
                parameters = {**options.parameters, 'image_transport': options.transport}
                node = NodeProcess(namespace=namespace, parameters=parameters, log=output / LOG_FILE)
                check_alive = stack.enter_context(node).check_alive

            def check() -> None:
                stop.check()
                check_alive()

            default_s = RUNNING_NODE_TIMEOUT_S if options.node else START_TIMEOUT_S
            player.wait_for_node(check, options.start_timeout_s or default_s)
            _check_labels(player, labels, check)
            if options.node:
                player.await_first_report(check)
            started = time.monotonic()
            try:
                _play(source, truth, options, player, judge, check)
                player.settle(check)
            except KeyboardInterrupt:
                interrupted = STOPPED
            except RecordingError as error:
                interrupted = str(error)
            with suppress(KeyboardInterrupt):  # a second Ctrl-C ends the wait
                player.await_final_report(check_alive)
            seconds = max(player.last_arrival - started, 1e-9)
    finally:
        player.close()
        rclpy.try_shutdown()
    summary = summarise(player, source, seconds=seconds, pictures=[], interrupted=interrupted)
    report = judge.evaluator.report(
        {'network': player.model, 'recording': source.path.name, 'truth': truth.description}
    )
    summary |= {'truth': truth.description, 'scored': len(report.frames), 'bad_truth': judge.bad_truth}
    summary['missed'] = find_missed(summary, report, options.thresholds)
    _write(output, summary, report, labels)
    print_summary(summary, output, REPORT_FILES if options.node else (*REPORT_FILES, LOG_FILE))
    if report.frames:
        print(f'\n{format_report(report)}')
    for text in summary['missed']:
        print(f'MISSED: {text}')
    return summary


def find_missed(summary: dict[str, Any], report: Report, thresholds: Thresholds) -> list[str]:
    """The thresholds that a run did not reach; one that could not be measured is missed."""
    frames = summary['frames']
    latency = max((values['p95'] for values in summary['latency_ms'].values()), default=None)
    unanswered = frames['unanswered'] / frames['sent'] if frames['sent'] else None
    counted = f' ({frames["unanswered"]} of {frames["sent"]})'
    judged = (
        ('mean IoU', report.segmentation.mean_iou, '', thresholds.min_mean_iou, True),
        ('AP50', report.detection.mean_ap50, '', thresholds.min_ap50, True),
        ('latency p95 in ms', latency, '', thresholds.max_latency_p95_ms, False),
        ('share of frames without an answer', unanswered, counted, thresholds.max_lost_share, False),
    )
    missed = []
    for name, value, detail, limit, at_least in judged:
        if limit is None:
            continue
        wanted = f'{"at least" if at_least else "at most"} {limit:g} is wanted'
        if value is None:
            missed.append(f'{name} could not be measured; {wanted}')
        elif (value < limit) if at_least else (value > limit):
            missed.append(f'{name} is {value:.4g}{detail}; {wanted}')
    return missed


def _nothing() -> None:
    """A node of somebody else's is not watched."""


def _check_labels(player: FramePlayer, labels: LabelSpace, check: Callable[[], None]) -> None:
    """Refuse a node whose class ids mean something else."""
    player.spin_until(lambda: len(player.label_infos) == 2, 5.0, check)
    for name, classes in (('detections', labels.detection), ('segmentation', labels.segmentation)):
        info = player.label_infos.get(name)
        theirs = [] if info is None else [entry.class_name for entry in info.class_map][: len(classes)]
        if theirs != [label.name for label in classes]:
            raise ConfigError(f'The node publishes the {name} classes {theirs}; the truth has {labels.name!r}.')


def _play(
    source: FrameSource,
    truth: TruthSource,
    options: LiveOptions,
    player: FramePlayer,
    judge: SceneJudge,
    check: Callable[[], None],
) -> None:
    """Send each frame when its time has come, whatever the node is doing."""
    total = min(filter(None, (source.frame_count, options.frames)), default=None)
    begin, first_ns = time.monotonic(), None
    with tqdm(total=total, desc=player.model, unit='frame') as bar:
        for index, frame in enumerate(source):
            if options.frames and index >= options.frames:
                break
            first_ns = frame.stamp_ns if first_ns is None else first_ns
            try:
                known = truth.of(index + source.skipped.total(), frame)
            except DatasetError as error:
                known = None
                judge.bad_truth.append(str(error))
            if known is not None:
                judge.expect(index, known)
            due = begin + (frame.stamp_ns - first_ns) / 1e9 / options.speed
            player.spin_for(due - time.monotonic(), check)
            player.send(frame.image_rgb)
            check()
            bar.update()


def _write(output: Path, summary: dict[str, Any], report: Report, labels: LabelSpace) -> None:
    (output / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
    report.save(output / 'report.json')
    frames = summary['frames']
    rows = [[f'stamp to {name}', *values.values()] for name, values in summary['latency_ms'].items()]
    rows += [[name, *values.values()] for name, values in summary['stages_ms'].items()]
    table = tabulate(rows, headers=['ms', 'median', 'p95', 'max'], tablefmt='html', floatfmt='.1f')
    latency = Section(
        title='Live',
        body=f'<div class="scroll">{table.replace("<table>", "<table class=figures>")}</div>',
        note=(
            f'{frames["sent"]:,} frames sent, {frames["answered"]:,} answered, {summary["frames_per_s"]:.1f} a second; '
            f'unanswered: {frames["unanswered"]:,}; dropped by the node: {count_text(frames["dropped"])}; lost on the '
            f'way: {count_text(frames["lost_on_the_way"])}.'
        ),
    )
    write_report_page(
        output / 'report.html',
        report,
        labels,
        title=f'{summary["model"]} live',
        subtitle=f'{summary["source"]}, truth: {summary["truth"]}',
        extra=[latency],
    )
