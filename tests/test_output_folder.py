"""One run at a time in a folder. Stopping on request: what is in hand is finished, whoever has no patience is heard."""

import errno
import fcntl
import os
import signal
import time
from pathlib import Path
from typing import IO

import pytest

from perception.errors import ConfigError, PerceptionError
from perception.output_folder import SAME_S, StopRequest, claim_folder, refuse_report


def refuse(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    for _ in range(2):
        with claim_folder(tmp_path / 'a' / 'b'):
            with (
                pytest.raises(PerceptionError, match=r'Another run is writing to .*b; choose another'),
                claim_folder(tmp_path / 'a' / 'b'),
            ):
                pass
            with claim_folder(tmp_path / 'other'):
                pass


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOTSUP], ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_named(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise refuse(number)

    monkeypatch.setattr(fcntl, 'flock', flock)
    said = f'Cannot lock --output {tmp_path} .*{os.strerror(number)}.*choose a folder on a local disk'
    with pytest.raises(PerceptionError, match=said), claim_folder(tmp_path):
        pass


@pytest.mark.parametrize('refused', ['mkdir', 'open'])
def test_a_folder_that_may_not_be_written_is_named(
    refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise refuse(errno.EACCES)

    # Tests may run as root, whom no folder refuses.
    monkeypatch.setattr(Path, refused, fail)
    said = f'Cannot write to --output {tmp_path}: .*Permission denied.*Name a folder that you may write to'
    with pytest.raises(PerceptionError, match=said), claim_folder(tmp_path):
        pass


@pytest.mark.parametrize(
    ('overwrite', 'advice'),
    [(False, 'name another --output, or give --overwrite.'), (None, 'name another --output.')],
    ids=['can be told', 'has no such option'],
)
def test_a_report_is_replaced_only_where_somebody_said_so(overwrite: bool | None, advice: str, tmp_path: Path) -> None:
    refuse_report(tmp_path, 'report.json', overwrite=overwrite)
    (tmp_path / 'report.json').touch()
    refuse_report(tmp_path, 'report.json', overwrite=True)
    with pytest.raises(ConfigError) as refused:
        refuse_report(tmp_path, 'report.json', overwrite=overwrite)
    assert str(refused.value) == f'{tmp_path} holds a report already; {advice}'


def test_signals_that_come_together_are_one_and_a_later_one_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with StopRequest() as stop:
        stop.check()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            stop.check()
        later = time.monotonic() + 2 * SAME_S
        monkeypatch.setattr(time, 'monotonic', lambda: later)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_what_is_done_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        stop.forget()
        stop.check()
        later = time.monotonic() + 2 * SAME_S
        monkeypatch.setattr(time, 'monotonic', lambda: later)
        os.kill(os.getpid(), signal.SIGTERM)  # a launcher's second one comes while the report is written
        assert stop.requested


def test_afterwards_signals_are_what_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_folder_that_nothing_was_written_to_goes_again(tmp_path: Path) -> None:
    own, there, written = tmp_path / 'a' / 'own', tmp_path / 'there', tmp_path / 'written'
    there.mkdir()
    for folder in (own, there, written):
        with claim_folder(folder):
            if folder is written:
                (folder / 'report.json').touch()
    assert not own.exists()
    assert there.is_dir()
    assert (written / 'report.json').is_file()


def test_a_claim_that_was_given_up_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = fcntl.flock

    def late(lock: IO[str], how: int) -> None:
        (tmp_path / 'run' / '.lock').unlink()  # by the run that held it until now
        take(lock, how)

    monkeypatch.setattr(fcntl, 'flock', late)
    with pytest.raises(PerceptionError, match='has just given up'), claim_folder(tmp_path / 'run'):
        pass
