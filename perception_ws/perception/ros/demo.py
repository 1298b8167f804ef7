"""``perception demo``: frames of a bag, a folder or a video through the real node over the real middleware.

A second process runs camera_node; this one plays the frames and listens as a user's node would. What came back is
written down: overlay pictures, a film, and summary.json with counts, drops, latency and the time of each stage.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.signals import SignalHandlerOptions
from tqdm import tqdm

from perception.bag.source import FrameSource
from perception.errors import PerceptionError, RecordingError
from perception.output_folder import STOPPED, StopRequest, claim_folder, keep_apart, refuse_report
from perception.replay.report import REPORT_FILE
from perception.replay.run import RESULTS_FILE
from perception.ros.demo_summary import print_summary, summarise
from perception.ros.node_process import NodeProcess, isolate_middleware
from perception.ros.player import ANSWER_TIMEOUT_S, FramePlayer
from perception.ros.playing import play_to_end
from perception.video import VideoWriter

NAMESPACE = '/camera'
FILM_FILE, SUMMARY_FILE, LOG_FILE = 'overlay.mp4', 'summary.json', 'node.log'
UNFINISHED = '.unfinished_demo'
"""In the output folder, where a run writes until frames have come back: one that fails costs no earlier results."""
_RESULTS = (SUMMARY_FILE, 'overlay_*.jpg', FILM_FILE, LOG_FILE)


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What the command line says.

    Attributes:
        output: Folder for pictures, film and summary.
        model: The node's model_path.
        rate_hz: Send so many frames a second, come what may; 0 sends the next frame when the last one is answered.
        transport: ``raw`` or ``compressed``.
        pictures: How many overlay pictures to keep, spread over the run.
        max_frames: Stop after so many; 0 plays all.
    """

    output: Path
    model: str = ''
    backend: str = 'eager'
    device: str = 'auto'
    precision: str = 'fp32'
    score_threshold: float = 0.3
    rate_hz: float = 0.0
    transport: str = 'raw'
    pictures: int = 12
    max_frames: int = 0
    video: bool = True


class PictureBook:
    """Keeps every n-th overlay as a picture and all of them as a film."""

    def __init__(self, output: Path, options: DemoOptions, source: FrameSource) -> None:
        total = _frames_to_play(source, options) or 100 * options.pictures
        self._wanted = set(np.linspace(0, total - 1, options.pictures).astype(int).tolist())
        self.pictures: list[str] = []
        self._output = output
        self._last: tuple[int, np.ndarray] | None = None
        self.video_path = output / FILM_FILE if options.video else None
        rate_hz = options.rate_hz or source.frame_rate_hz or 10.0
        self._video = VideoWriter(self.video_path, rate_hz) if self.video_path else None

    def add(self, index: int, overlay_rgb: np.ndarray) -> None:
        self._last = index, overlay_rgb
        if index in self._wanted:
            self._save(index, overlay_rgb)
        if self._video:
            self._video.write(overlay_rgb)

    def close(self) -> None:
        """Finish the film; the last overlay is kept where frames that never came left room for it."""
        if self._last and len(self.pictures) < len(self._wanted):
            self._save(*self._last)
        if self._video:
            self._video.close()

    def _save(self, index: int, overlay_rgb: np.ndarray) -> None:
        path = self._output / f'overlay_{index:06d}.jpg'
        if path.name not in self.pictures:
            cv2.imwrite(str(path), cv2.cvtColor(overlay_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
            self.pictures.append(path.name)


def run_demo(source: FrameSource, options: DemoOptions) -> dict[str, Any]:
    """Play the frames, write the results and print them.

    Returns:
        The content of summary.json.

    Raises:
        PerceptionError: If the output holds a replay, or the node does not start, or ends while frames are played. What
            had come until then is kept; where nothing had, the results of an earlier demo are.
    """
    output = options.output
    keep_apart(output, source.path, *_RESULTS, UNFINISHED)
    with claim_folder(output):
        _check_output(output)
        # To the end: whenever a signal comes, what came back is put in its place.
        with StopRequest() as stop:
            return _run(source, options, output, stop)


def _run(source: FrameSource, options: DemoOptions, output: Path, stop: StopRequest) -> dict[str, Any]:
    unfinished = _begin(output)
    isolate_middleware(os.environ)  # type: ignore[arg-type]
    parameters: dict[str, str | int | float | bool] = {
        'model_path': options.model,
        'backend': options.backend,
        'device': options.device,
        'precision': options.precision,
        'score_threshold': options.score_threshold,
        'image_transport': options.transport,
    }
    book = PictureBook(unfinished, options, source)
    # ROS's own handlers would end its context at once, and with it the way to the node's last report.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    player = FramePlayer(NAMESPACE, on_overlay=book.add)
    try:
        with NodeProcess(namespace=NAMESPACE, parameters=parameters, log=unfinished / LOG_FILE) as node:

            def check() -> None:
                stop.check()
                node.check_alive()

            player.wait_for_node(check)
            play = partial(_play, source, options, player)
            seconds, interrupted = play_to_end(player, play, stop, node.check_alive)
    finally:
        book.close()
        player.close()
        rclpy.try_shutdown()
    folder = output if player.answered() else unfinished
    interrupted = interrupted.replace(str(unfinished), str(folder))  # names the log
    summary = summarise(player, source, seconds=seconds, pictures=book.pictures, interrupted=interrupted)
    (unfinished / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + '\n')
    if folder == output:
        _finish(unfinished, output)
    seen = [*(['pictures'] if book.pictures else []), *([FILM_FILE] if (folder / FILM_FILE).exists() else [])]
    print_summary(summary, folder, [*seen, SUMMARY_FILE, LOG_FILE])
    if interrupted and interrupted != STOPPED:
        raise PerceptionError(interrupted)
    if not interrupted and not summary['frames']['answered']:
        raise PerceptionError(f'No frame was answered; {folder / LOG_FILE} may say why.')
    return summary


def _check_output(output: Path) -> None:
    """A replay keeps its folder to itself; an earlier demo may be replaced."""
    refuse_report(output, REPORT_FILE, overwrite=None)
    if any(output.glob(RESULTS_FILE)) or any(output.glob(f'*/{RESULTS_FILE}')):
        raise RecordingError(f'{output} holds an unfinished replay; name another --output.')


def _begin(output: Path) -> Path:
    """An empty folder for this run; what one that failed left there goes."""
    unfinished = output / UNFINISHED
    try:
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir()
    except OSError as error:
        raise PerceptionError(f'Cannot write to --output {output}: {error}') from error
    return unfinished


def _finish(unfinished: Path, output: Path) -> None:
    """Put a run in the place of an earlier one. Killed in between, it leaves a part of one of them, never of both."""
    try:
        for old in (file for name in _RESULTS for file in output.glob(name)):
            old.unlink(missing_ok=True)
        # The summary goes first and comes last: where it lies, all that it tells of does.
        for new in sorted(unfinished.iterdir(), key=lambda file: file.name == SUMMARY_FILE):
            new.replace(output / new.name)
        unfinished.rmdir()
    except OSError as error:
        raise PerceptionError(
            f'Cannot write to --output {output}: {error}. The results are in {unfinished}.'
        ) from error


def _frames_to_play(source: FrameSource, options: DemoOptions) -> int | None:
    counts = [count for count in (source.frame_count, options.max_frames) if count]
    return min(counts) if counts else None


def _play(source: FrameSource, options: DemoOptions, player: FramePlayer, check: Callable[[], None]) -> None:
    """Send every frame and wait for what belongs to it, or send at a fixed rate and take what comes."""
    with tqdm(total=_frames_to_play(source, options), desc=f'{player.model}', unit='frame') as bar:
        due = time.monotonic()
        for index, frame in enumerate(source):
            if options.max_frames and index >= options.max_frames:
                break
            outgoing = player.prepare(frame.image_rgb)
            if options.rate_hz:
                player.spin_for(due - time.monotonic(), check)
                due += 1 / options.rate_hz
            stamp_ns = player.send(outgoing)
            settled = options.rate_hz or player.spin_until(
                partial(player.is_settled, stamp_ns), ANSWER_TIMEOUT_S, check
            )
            if not settled:
                size = f'{frame.image_rgb.nbytes / 2**20:.1f} MiB raw'
                tqdm.write(f'No answer to frame {index} ({size}); large ones need --transport compressed.')
            check()
            bar.update()
        player.settle(check)
