"""``perception replay-live``: a recording through the running node at the recording's own pace, judged as it comes.

What only a live run can tell: how long each output takes from the image's stamp, and which frames are dropped and why.
Scores are of the frames that were answered. Thresholds make the exit code a gate.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import rclpy
from rclpy.signals import SignalHandlerOptions
from tabulate import tabulate
from tqdm import tqdm

from perception.bag.source import FrameSource
from perception.errors import ConfigError, DatasetError, ShapeError
from perception.interfaces import GroundTruth, LabelSpace
from perception.labels import describe
from perception.metrics import Report
from perception.metrics.page_sections import Section
from perception.metrics.report_page import write_report_page
from perception.metrics.tables import format_report
from perception.output_folder import StopRequest, claim_folder, keep_apart, refuse_report
from perception.replay.report import PAGE_FILE, REPORT_FILE
from perception.replay.truth import TruthSource
from perception.ros.demo_summary import count_text, print_summary, summarise
from perception.ros.live_gate import Thresholds, find_faults, find_missed
from perception.ros.node_process import NodeProcess, isolate_middleware
from perception.ros.pace import Pace, pace_findings
from perception.ros.player import (
    ANSWER_TIMEOUT_S,
    RUNNING_NODE_TIMEOUT_S,
    START_TIMEOUT_S,
    FramePlayer,
    OutgoingFrame,
)
from perception.ros.playing import play_to_end
from perception.ros.scene_judge import SceneJudge
from perception.throughput import read_ahead

REPORT_FILES = (PAGE_FILE, REPORT_FILE, 'summary.json')
LOG_FILE = 'node.log'
OWN_NAMESPACE = '/replay'


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
        transport: ``raw`` or ``compressed``, of the node that is started; one that runs is sent what it listens to.
        frames: Stop after so many; 0: all.
        truth_wanted: A run without any truth is of no use.
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
    truth_wanted: bool = False
    thresholds: Thresholds


def run_live_replay(
    source: FrameSource, truth: TruthSource, options: LiveOptions, labels: LabelSpace
) -> dict[str, Any]:
    """Play the recording, write the results and print them.

    Returns:
        The content of summary.json; ``faults`` says why the run is of no use, if so, and ``missed`` lists the
        thresholds that were not reached.

    Raises:
        PerceptionError: If no node answers, the one that was started cannot start, or the output folder is taken.
    """
    keep_apart(options.output, source.path)
    with claim_folder(options.output):
        refuse_report(options.output, REPORT_FILE, overwrite=options.overwrite)
        # At once: whoever looks for the report of a run that failed must not find that of an earlier one.
        for name in (*REPORT_FILES, LOG_FILE):
            (options.output / name).unlink(missing_ok=True)
        return _run(source, truth, options, labels)


def _run(source: FrameSource, truth: TruthSource, options: LiveOptions, labels: LabelSpace) -> dict[str, Any]:
    output = options.output
    if not options.node:
        isolate_middleware(os.environ)  # type: ignore[arg-type]
    pace = Pace(options.speed)
    source.on_skip = lambda stamp_ns, error: truth.pass_over(stamp_ns)
    # To the end: whenever a signal comes, what was measured is written.
    with StopRequest() as stop, SceneJudge(labels, ANSWER_TIMEOUT_S) as judge:
        # ROS's own handlers would end its context at once, and with it the way to the node's last report.
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        player = FramePlayer(options.node or OWN_NAMESPACE, on_scene=judge.judge)

        def play(check: Callable[[], None]) -> None:
            total = min(filter(None, (source.frame_count, options.frames)), default=None)
            with read_ahead(_read(source, truth, options.frames, player)) as frames:
                _play(frames, total, pace, player, judge, check)
            player.settle(check)

        try:
            seconds, interrupted = _meet_node(player, labels, options, stop, play)
        finally:
            player.close()
            rclpy.try_shutdown()
        report = judge.report({'network': player.model, 'recording': source.path.name, 'truth': truth.description})
        summary = summarise(player, source, seconds=seconds, pictures=[], interrupted=interrupted)
        summary |= {'truth': truth.description, 'scored': len(report.frames), 'bad_truth': judge.bad_truth}
        balance = truth.balance(whole=not (interrupted or options.frames))
        summary |= {'unmatched_truth': balance.unmatched, 'truth_remarks': list(balance.remarks)}
        summary['pace'] = pace.summary()
        summary['faults'] = find_faults(summary, truth_wanted=options.truth_wanted)
        summary['missed'] = find_missed(summary, report, options.thresholds)
        _write(output, summary, report, labels)
        print_summary(summary, output, REPORT_FILES if options.node else (*REPORT_FILES, LOG_FILE))
    if report.frames:
        print(f'\n{format_report(report)}')
    for text in (*balance.remarks, *pace_findings(summary['pace'])):
        print(text)
    for text in summary['missed']:
        print(f'MISSED: {text}')
    return summary


def _meet_node(
    player: FramePlayer,
    labels: LabelSpace,
    options: LiveOptions,
    stop: StopRequest,
    play: Callable[[Callable[[], None]], None],
) -> tuple[float, str]:
    """Start a node, or find the one that runs, and play to it; returns the seconds, and what ended it early."""
    with ExitStack() as stack:
        check_alive: Callable[[], None] = _nothing
        if not options.node:
            parameters = {**options.parameters, 'image_transport': options.transport}
            node = NodeProcess(namespace=OWN_NAMESPACE, parameters=parameters, log=options.output / LOG_FILE)
            check_alive = stack.enter_context(node).check_alive

        def check() -> None:
            stop.check()
            check_alive()

        default_s = RUNNING_NODE_TIMEOUT_S if options.node else START_TIMEOUT_S
        player.wait_for_node(check, options.start_timeout_s or default_s)
        _check_labels(player, labels, check)
        if options.node:
            player.await_first_report(check)
        return play_to_end(player, play, stop, check_alive)


def _nothing() -> None:
    """A node of somebody else's is not watched."""


def _check_labels(player: FramePlayer, labels: LabelSpace, check: Callable[[], None]) -> None:
    """Refuse a node whose class ids mean something else."""
    player.spin_until(lambda: len(player.label_infos) == 2, 5.0, check)
    for name, classes in (('detections', labels.detection), ('segmentation', labels.segmentation)):
        info = player.label_infos.get(name)
        theirs = [] if info is None else [entry.class_name for entry in info.class_map][: len(classes)]
        if theirs != [label.name for label in classes]:
            raise ConfigError(
                f'The node publishes the {name} classes {theirs}; the truth is read as label space '
                f"{describe(labels)}. Give --labels with the name or the file of the node's."
            )


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """A frame that is ready to be sent, with what is known of it."""

    stamp_ns: int
    outgoing: OutgoingFrame
    truth: GroundTruth | None
    bad_truth: str


def _read(source: FrameSource, truth: TruthSource, most: int, player: FramePlayer) -> Iterator[_Frame]:
    for index, frame in enumerate(islice(source, most or None)):
        known, bad_truth = None, ''
        try:
            known = truth.of(index + source.skipped.total(), frame)
        except (DatasetError, ShapeError) as error:
            bad_truth = str(error)
        yield _Frame(
            stamp_ns=frame.stamp_ns, outgoing=player.prepare(frame.image_rgb), truth=known, bad_truth=bad_truth
        )


def _play(
    frames: Iterator[_Frame],
    total: int | None,
    pace: Pace,
    player: FramePlayer,
    judge: SceneJudge,
    check: Callable[[], None],
) -> None:
    """Send each frame when its time has come, whatever the node is doing."""
    with tqdm(total=total, desc=player.model, unit='frame') as bar:
        for index, frame in enumerate(frames):
            if frame.truth is not None:
                judge.expect(index, frame.truth)
            if frame.bad_truth:
                judge.bad_truth.append(frame.bad_truth)
            due = pace.due(frame.stamp_ns)
            player.spin_for(due - time.monotonic(), check)
            pace.note_sent(due)
            player.send(frame.outgoing)
            check()
            bar.update()


def _write(output: Path, summary: dict[str, Any], report: Report, labels: LabelSpace) -> None:
    (output / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
    report.save(output / REPORT_FILE)
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
            + ''.join(f' {text}' for text in pace_findings(summary['pace']))
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
