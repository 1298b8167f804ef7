"""MCAP files, by the records of the official library (https://mcap.dev/spec): whole, without an index, or cut short.

The format is a row of records, messages in packed chunks among them, and an index behind. What a writer may leave out
of the index is found by reading the file once, record by record; so is what is left in front of a cut.
"""

from __future__ import annotations

import functools
import heapq
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.records import Channel, Chunk, McapRecord, Schema
from mcap.records import Message as MessageRecord
from mcap.stream_reader import breakup_chunk

from perception.bag.storage.interface import CDR, ROS1, CutShortError, Message, Topic, full_type_name
from perception.errors import RecordingError

MAGIC = b'\x89MCAP0\r\n'
_HEADER = struct.Struct('<BQ')
"""Of a record: what it is and the length of its content."""
_COMPRESSIONS = ('', 'zstd', 'lz4')
_LOOSE_BYTES = 1 << 20
_ENCODINGS = {'ros2msg': CDR, 'ros2idl': CDR, 'ros1msg': ROS1}
"""Of messages, by that of their schema, for writers that name only the latter."""


@dataclass(kw_only=True)
class _Block:
    """A stretch of a file that is read at once: a chunk, or messages that lie outside of chunks."""

    begin: int
    end: int
    start_ns: int
    channels: set[int] | None = None
    """None: nobody knows."""
    loose: bool = False


@dataclass(kw_only=True)
class _Index:
    channels: dict[int, Channel] = field(default_factory=dict)
    schemas: dict[int, Schema] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    blocks: list[_Block] = field(default_factory=list)
    ended_by: RecordingError | None = None


class McapFile:
    """A .mcap file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        state = path.stat()
        self._index = _find_index(path, state.st_size, state.st_mtime_ns)
        self.ended_by = self._index.ended_by
        counts: Counter[tuple[str, str, str]] = Counter()
        keys = {number: self._key(channel) for number, channel in self._index.channels.items()}
        for number, key in keys.items():
            counts[key] += self._index.counts[number]
        topics = {key: Topic(name=key[0], type=key[1], encoding=key[2], count=count) for key, count in counts.items()}
        self._topics = {number: topics[key] for number, key in keys.items()}
        self.topics = tuple(topics.values())
        self._file = path.open('rb')

    def _key(self, channel: Channel) -> tuple[str, str, str]:
        schema = self._index.schemas.get(channel.schema_id)
        known = _ENCODINGS.get(schema.encoding, '') if schema else ''
        return channel.topic, full_type_name(schema.name) if schema else '', channel.message_encoding or known

    def messages(self, topics: Collection[Topic]) -> Iterator[Message]:
        wanted = {number for number, topic in self._topics.items() if topic in topics}
        blocks = [b for b in self._index.blocks if b.channels is None or not wanted.isdisjoint(b.channels)]
        waiting: list[tuple[int, int, MessageRecord]] = []
        number = 0
        for block in sorted(blocks if wanted else (), key=lambda block: block.start_ns):
            # Chunks may overlap in time, so a message waits until no later chunk can hold an earlier one.
            while waiting and waiting[0][0] < block.start_ns:
                yield self._message(heapq.heappop(waiting)[2])
            for record in _read_block(self._file, block):
                if isinstance(record, MessageRecord) and record.channel_id in wanted:
                    heapq.heappush(waiting, (record.log_time, number, record))
                    number += 1
        while waiting:
            yield self._message(heapq.heappop(waiting)[2])
        if self.ended_by is not None:
            raise self.ended_by

    def _message(self, record: MessageRecord) -> Message:
        return Message(self._topics[record.channel_id], record.log_time, record.data)

    def close(self) -> None:
        self._file.close()


@functools.lru_cache(maxsize=64)  # a recording is opened several times
def _find_index(path: Path, size: int, mtime_ns: int) -> _Index:
    with path.open('rb') as file:
        file.seek(max(0, size - len(MAGIC)))
        whole = file.read() == MAGIC
        found = _read_summary(file, size) if whole else None
        return found or _scan(path, file, size, whole)


def _read_summary(file: BinaryIO, size: int) -> _Index | None:
    """The index that the writer left; None if it is not enough to find every message, or damaged."""
    file.seek(0)
    summary = None
    with suppress(Exception):  # on bytes that make no sense: a dozen unrelated types
        summary = SeekingReader(file, record_size_limit=size).get_summary()
    if summary is None or summary.statistics is None:
        return None
    statistics, chunks = summary.statistics, summary.chunk_indexes
    counts = Counter(statistics.channel_message_counts)
    if len(chunks) != statistics.chunk_count or (statistics.message_count and not chunks):
        return None
    if counts.total() != statistics.message_count or len(summary.channels) != statistics.channel_count:
        return None
    if any(channel.schema_id not in {0, *summary.schemas} for channel in summary.channels.values()):
        return None
    blocks = [
        _Block(
            begin=chunk.chunk_start_offset,
            end=chunk.chunk_start_offset + chunk.chunk_length,
            start_ns=chunk.message_start_time,
            channels=set(chunk.message_index_offsets) or None,
        )
        for chunk in chunks
    ]
    return _Index(channels=summary.channels, schemas=summary.schemas, counts=counts, blocks=blocks)


def _scan(path: Path, file: BinaryIO, size: int, whole: bool) -> _Index:
    """The index of a file without a sufficient one, up to where its records end or make no sense."""
    index, end, cause = _Index(), len(MAGIC), 'no record begins there'
    try:
        for opcode, begin, end, content in _walk(file, len(MAGIC), size):
            if opcode == Opcode.DATA_END:
                return index
            _note(index, opcode, begin, end, _parse(opcode, content))
    except Exception as error:  # as above
        whole, cause = True, str(error).rstrip('.') or type(error).__name__
    counted = f'all {index.counts.total():,} messages that are whole'
    index.ended_by = (
        RecordingError(f'near byte {end:,} of {path.name}: {cause}; {counted} in front of it were read')
        if whole
        else CutShortError(f'{path} was cut short, as by a loss of power: {counted} were read, its end is missing.')
    )
    return index


def _walk(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Opcode, first byte, the byte behind it and content of each whole record; the content only where it is needed."""
    while begin + _HEADER.size <= end:
        file.seek(begin)
        opcode, length = _HEADER.unpack(file.read(_HEADER.size))
        behind = begin + _HEADER.size + length
        # Kind 0 is what blocks that never reached the disk are filled with.
        if opcode == 0 or behind > end:
            return
        yield opcode, begin, behind, file.read(length) if opcode in _PARSERS else b''
        begin = behind


def _parse_chunk(content: bytes) -> list[McapRecord]:
    chunk = Chunk.read(_stream(content))
    if chunk.compression not in _COMPRESSIONS:
        raise RecordingError(f'a chunk is packed by {chunk.compression!r}; expected zstd, lz4 or none')
    return breakup_chunk(chunk)


def _stream(content: bytes) -> ReadDataStream:
    return ReadDataStream(BytesIO(content))


_PARSERS: dict[int, Callable[[bytes], list[McapRecord]]] = {
    Opcode.SCHEMA: lambda content: [Schema.read(_stream(content))],
    Opcode.CHANNEL: lambda content: [Channel.read(_stream(content))],
    Opcode.MESSAGE: lambda content: [MessageRecord.read(_stream(content), len(content))],
    Opcode.CHUNK: _parse_chunk,
}


def _parse(opcode: int, content: bytes) -> list[McapRecord]:
    """The records in a record: those in a chunk, or itself; none where it is of no interest."""
    return _PARSERS[opcode](content) if opcode in _PARSERS else []


def _note(index: _Index, opcode: int, begin: int, end: int, records: Iterable[McapRecord]) -> None:
    """Add what lies in a stretch of the file to the index."""
    times: list[int] = []
    channels: set[int] = set()
    for record in records:
        if isinstance(record, Schema):
            index.schemas[record.id] = record
        elif isinstance(record, Channel):
            index.channels[record.id] = record
        elif isinstance(record, MessageRecord):
            index.counts[record.channel_id] += 1
            times.append(record.log_time)
            channels.add(record.channel_id)
    if not times:
        return
    last = index.blocks[-1] if index.blocks else None
    if opcode == Opcode.MESSAGE and last and last.loose and last.end == begin and end - last.begin < _LOOSE_BYTES:
        last.end, last.start_ns = end, min(last.start_ns, *times)
        last.channels = channels | (last.channels or set())
    else:
        loose = opcode == Opcode.MESSAGE
        index.blocks.append(_Block(begin=begin, end=end, start_ns=min(times), channels=channels, loose=loose))


def _read_block(file: BinaryIO, block: _Block) -> Iterator[McapRecord]:
    read = block.begin
    for opcode, _, end, content in _walk(file, block.begin, block.end):
        yield from _parse(opcode, content)
        read = end
    if read != block.end:
        raise RecordingError('its index is wrong')
