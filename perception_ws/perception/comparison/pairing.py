"""Which frames of two replays are the same ones, though their recording may have moved, or got another name."""

from __future__ import annotations

from collections import Counter

from perception.replay.report import ReplayReport


def pair_frames(first: ReplayReport, second: ReplayReport) -> tuple[list[tuple[int, int]], bool]:
    """Where each frame that both have stands in one and in the other, and whether these are of the same bytes."""
    recordings = [_hashes(report) for report in (first, second)]
    same = set(recordings[0].values()) & set(recordings[1].values())
    single = all(len(hashes) == 1 for hashes in recordings)
    keys = [_identify(report, same, single=single) for report in (first, second)]
    place_of = {key: place for place, key in enumerate(keys[1])}
    common = [(place, key) for place, key in enumerate(keys[0]) if key in place_of]
    return [(place, place_of[key]) for place, key in common], all(key[0] in same for _, key in common)


def _identify(report: ReplayReport, same: set[str], *, single: bool) -> list[tuple[str, str, int, int]]:
    """For each frame its recording, topic and stamp, and how many frames with these came before it.

    Folders get other names, so a recording is known by its bytes. Where the other report has none of the same bytes it
    is known by its name; or by being the only one, since it may have been cut or encoded anew under another name.
    """
    hashes = _hashes(report)
    streams = []
    for stream, name in zip(report.stream_names, recording_names(report), strict=True):
        digest = hashes.get(name)
        streams.append((digest if digest in same else '' if single else name, stream[len(name) :]))
    seen: Counter[tuple[str, str, int]] = Counter()
    keys = []
    for number, stamp_ns in zip(report.streams, report.recorded_ns, strict=True):
        key = (*streams[number], stamp_ns)
        keys.append((*key, seen[key]))
        seen[key] += 1
    return keys


def recording_names(report: ReplayReport) -> list[str]:
    """Of each stream, the name of its recording."""
    names = _hashes(report)
    # 'drive_2/front' begins with 'drive', too.
    return [max(filter(stream.startswith, names), key=len, default='') for stream in report.stream_names]


def _hashes(report: ReplayReport) -> dict[str, str]:
    """Of each recording by its name."""
    return {item['name']: item['sha256'] for item in report.scores.provenance.get('recordings', ())}
