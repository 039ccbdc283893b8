import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bolid import atomic
from bolid.errors import WorkspaceError


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path):
    target = tmp_path / "a.txt"
    atomic.write_text(target, "old")
    with pytest.raises(ZeroDivisionError), atomic.replacing(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_killed_write_leaves_nothing_under_the_final_name(tmp_path: Path):
    code = (
        "import os, signal, sys; from pathlib import Path; from bolid import atomic\n"
        "with atomic.replacing(Path(sys.argv[1])) as t:\n"
        "    t.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.txt")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "a.txt").exists()


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission")]
)
def test_refusals_of_the_system_say_what_to_do(number: int, advice: str, tmp_path: Path):
    with pytest.raises(WorkspaceError, match=advice), atomic.storage_errors(tmp_path):
        raise OSError(number, os.strerror(number))


def test_other_errors_of_the_system_stay_bugs(tmp_path: Path):
    with pytest.raises(OSError, match="Bad file"), atomic.storage_errors(tmp_path):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def test_a_path_through_a_file_is_a_message(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match=r"is a file|file is where"):
        atomic.write_text(tmp_path / "file" / "a.txt", "x")


def test_a_lock_names_its_owner_and_dies_with_it(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from bolid import atomic\n"
        "with atomic.locked(Path(sys.argv[1]), 'it'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with (
            pytest.raises(WorkspaceError, match=f"in use by process {owner.pid}"),
            atomic.locked(tmp_path / "lock", "it"),
        ):
            pass
        owner.kill()
        owner.wait()
    with atomic.locked(tmp_path / "lock", "it"):
        pass


def test_a_path_that_cannot_be_is_a_message(tmp_path: Path):
    with pytest.raises(WorkspaceError, match="too long"):
        atomic.write_text(tmp_path / ("x" * 5000) / "a.txt", "x")
    with pytest.raises(WorkspaceError, match="another path"):
        atomic.write_text(Path("/proc/nope/a.txt"), "x")
