"""Killed at any moment, interrupted, run twice at once: the stored set is the same and nothing is asked for twice."""

import fcntl
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys

import pytest
from bolid.crawler.crawl import crawl
from bolid.errors import WorkspaceError

# Runs a crawl; kills itself without warning at the n-th call of one method, before or after its work.
CHILD = """
import json, os, signal, sys
from pathlib import Path
from bolid.crawler.crawl import CrawlOptions, crawl
from bolid.crawler.frontier import Frontier
from bolid.crawler.store import Store
from bolid.workspace import Workspace

folder, options, where, calls, after = json.loads(sys.argv[1])
if where:
    owner = {"Frontier": Frontier, "Store": Store}[where.split(".")[0]]
    name = where.split(".")[1]
    original, count = getattr(owner, name), 0
    def deadly(*args, **kwargs):
        global count
        count += 1
        if count == calls and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if count == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, deadly)
crawl(Workspace(Path(folder)), CrawlOptions.model_validate(options))
"""


def child(workspace, options, where="", calls=1, after=False) -> subprocess.Popen[bytes]:
    argument = json.dumps([str(workspace.root), options.model_dump(mode="json"), where, calls, after])
    return subprocess.Popen([sys.executable, "-c", CHILD, argument], stderr=subprocess.DEVNULL, cwd="/")


def final_files(workspace) -> dict[str, bytes]:
    return {file.stem: file.read_bytes() for file in workspace.images.rglob("*.jpg") if not file.name.startswith(".")}


def hashes(gallery) -> dict[str, str]:
    people = [p for letter in gallery.people.values() for p in letter]
    return {
        hashlib.sha256(photo).hexdigest(): f"/img/{p.slug}/{n}.jpg" for p in people for n, photo in enumerate(p.photos)
    }


def fill(gallery) -> None:
    gallery.add("anna_petrova", 9, seed=1)
    gallery.add("boris_ivanov", 8, seed=2)
    gallery.add("boris_smirnov", 5, seed=3)


MOMENTS = [
    ("Frontier.listing_read", 1, False),
    ("Frontier.gallery_read", 2, True),
    ("Frontier.claim_photos", 6, True),
    ("Frontier.photo_located", 5, True),
    ("Frontier.photos_storing", 1, False),
    ("Frontier.photos_storing", 1, True),
    ("Store._place", 1, True),
    ("Frontier.photos_stored", 1, True),
]


@pytest.mark.parametrize(("where", "calls", "after"), MOMENTS)
def test_killed_and_resumed(gallery, workspace, options, where, calls, after) -> None:
    fill(gallery)
    process = child(workspace, options(), where, calls, after)
    assert process.wait(30) == -signal.SIGKILL
    expected = hashes(gallery)
    before = final_files(workspace)
    # No half file ever carries a final name.
    assert all(hashlib.sha256(content).hexdigest() == name for name, content in before.items())
    gallery.log.clear()
    summary = crawl(workspace, options())
    assert final_files(workspace).keys() == expected.keys()
    assert (summary.stored, summary.pending) == (22, 0)
    assert not gallery.photos_asked.keys() & {expected[name] for name in before}
    assert not [file for file in workspace.images.rglob("*") if file.name.endswith(".tmp")]


def test_killed_again_and_again(gallery, workspace, options) -> None:
    """Each process dies at its sixth photo request; no photo with a final name is asked for by a later one."""
    fill(gallery)
    expected = hashes(gallery)
    running: list[subprocess.Popen[bytes]] = []

    async def deadly(request):
        if request.path.startswith("/img/") and sum(gallery.photos_asked.values()) == 6:
            running[-1].kill()

    gallery.before = deadly
    for _ in range(3):
        before = final_files(workspace)
        gallery.log.clear()
        running.append(child(workspace, options(concurrency=2)))
        assert running[-1].wait(30) == -signal.SIGKILL
        assert not gallery.photos_asked.keys() & {expected[name] for name in before}
    gallery.before = None
    before = final_files(workspace)
    gallery.log.clear()
    assert crawl(workspace, options()).stored == 22
    assert final_files(workspace).keys() == expected.keys()
    assert not gallery.photos_asked.keys() & {expected[name] for name in before}


def test_ctrl_c_leaves_a_frontier_that_goes_on(gallery, workspace, options) -> None:
    fill(gallery)
    running: list[subprocess.Popen[bytes]] = []

    async def interrupting(request):
        if sum(gallery.photos_asked.values()) == 6:
            running[-1].send_signal(signal.SIGINT)
            gallery.before = None

    gallery.before = interrupting
    running.append(child(workspace, options(concurrency=2)))
    assert running[-1].wait(30) != 0
    with sqlite3.connect(workspace.frontier) as database:
        states = {row[0] for row in database.execute("SELECT DISTINCT state FROM photos")}
    database.close()
    assert states <= {"pending", "done"}
    assert workspace.images_table.exists()
    expected, before = hashes(gallery), final_files(workspace)
    gallery.log.clear()
    assert crawl(workspace, options()).stored == 22
    assert not gallery.photos_asked.keys() & {expected[name] for name in before}


def test_ctrl_c_is_exit_code_130(gallery, workspace) -> None:
    fill(gallery)
    command = [sys.executable, "-m", "bolid.cli", "crawl", gallery.url, "--allow-private", gallery.host_port,
               "--min-photos", "1", "--min-res", "100", "--rate", "20", "-w", str(workspace.root)]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")

    async def interrupting(request):
        if request.path.startswith("/img/"):
            gallery.before = None
            process.send_signal(signal.SIGINT)

    gallery.before = interrupting
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert workspace.images_table.exists()


def test_two_crawls_on_one_workspace(gallery, workspace, options) -> None:
    gallery.add("anna_petrova", 2, seed=1)
    workspace.root.mkdir(parents=True)
    with workspace.frontier.with_suffix(".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(str(os.getpid()))
        lock.flush()
        with pytest.raises(WorkspaceError, match=str(os.getpid())):
            crawl(workspace, options())
    assert gallery.log == []
    assert crawl(workspace, options()).stored == 2
