import os
import signal
import subprocess
import sys
import time

import psutil
from bolid.processes import WorkerPool

START = (
    "import os, time; from bolid.processes import WorkerPool\n"
    "if __name__ == '__main__':\n"
    "    with WorkerPool(2) as pool:\n"
    "        print(pool.submit(os.getpid).result(), flush=True); time.sleep(60)\n"
)


def test_workers_do_the_work():
    with WorkerPool(2) as pool:
        assert list(pool.map(abs, [-1, 2, -3])) == [1, 2, 3]


def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "start.py"
    script.write_text(START)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        for _ in range(200):  # at most ten seconds
            if not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE:
                return
            time.sleep(0.05)
    raise AssertionError(f"worker {worker.pid} outlived its parent")
