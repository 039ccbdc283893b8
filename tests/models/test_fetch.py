"""Networks onto the disk: cut, killed, refused, from mirrors, twice at once. All servers are on loopback."""

import hashlib
import io
import json
import os
import random
import signal
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from bolid import atomic
from bolid.errors import FetchError, ModelError, PolicyError, UsageError, WorkspaceError
from bolid.models import download, fetch, licences, registry
from bolid.models.catalogue import APACHE, INSIGHTFACE, Entry, File, Release

DATA = random.Random(1).randbytes(3_000_000)
SUM = hashlib.sha256(DATA).hexdigest()
KNOWN = File("net.pt", SUM, len(DATA))
UNKNOWN = File("net.pt")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder of networks, no mirror, no pauses."""
    monkeypatch.setenv("BOLID_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("BOLID_MIRROR", raising=False)
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    return tmp_path / "models"


@pytest.fixture
def known(monkeypatch):
    """Adds a network to the registry for the test."""

    def add(entry: Entry) -> Entry:
        monkeypatch.setitem(registry._BY_NAME, entry.name, entry)
        return entry

    return add


def single(file_server, sha256: str | None = None, **fields: object) -> Entry:
    file_server.files["/net.pt"] = DATA
    values = {"name": "net", "task": "pose", "licence": APACHE, "source": Release(f"{file_server.url}/net.pt")}
    return Entry(**(values | {"files": (File("net.pt", sha256),)} | fields))


def packed(members: dict[str, bytes], **attributes: int) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes.get(name.rpartition("/")[2].partition(".")[0], 0o644) << 16
            archive.writestr(info, data)
    return written.getvalue()


def pack_of(file_server, zipped: bytes, **fields: object) -> Entry:
    file_server.files["/pack.zip"] = zipped
    source = Release(f"{file_server.url}/pack.zip", File("pack.zip", hashlib.sha256(zipped).hexdigest(), len(zipped)))
    values = {"name": "pack", "task": "face", "licence": APACHE, "source": source}
    return Entry(**(values | {"files": (File("a.onnx"), File("b.onnx"))} | fields))


# --- one file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("want", [KNOWN, UNKNOWN])
def test_a_cut_answer_goes_on_where_it_was(file_server, tmp_path, want):
    file_server.files["/f"] = DATA
    file_server.cuts["/f"] = [20 * download.PIECE, 10 * download.PIECE]
    came = download.download(f"{file_server.url}/f", tmp_path / "net.pt", want)
    assert came == File("net.pt", SUM, len(DATA))
    assert (tmp_path / "net.pt").read_bytes() == DATA
    assert [request.range for request in file_server.requests] == [None, f"bytes={20 * 65536}-", f"bytes={30 * 65536}-"]
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]


def test_a_later_call_goes_on_where_an_earlier_one_failed(file_server, tmp_path, monkeypatch):
    file_server.files["/f"] = DATA
    file_server.cuts["/f"] = [20 * download.PIECE]
    monkeypatch.setattr(download, "TRIES", 0)
    with pytest.raises(FetchError, match=f"{20 * 65536} bytes are kept"):
        download.download(f"{file_server.url}/f", tmp_path / "net.pt", UNKNOWN)
    assert not (tmp_path / "net.pt").exists()
    download.download(f"{file_server.url}/f", tmp_path / "net.pt", UNKNOWN)
    assert (tmp_path / "net.pt").read_bytes() == DATA
    assert file_server.sent["/f"] == len(DATA)


def test_a_file_that_changed_on_the_server_is_not_joined_with_its_old_half(file_server, tmp_path, monkeypatch):
    file_server.files["/f"] = bytes(len(DATA))
    file_server.cuts["/f"] = [2_000_000]
    monkeypatch.setattr(download, "TRIES", 0)
    with pytest.raises(FetchError):
        download.download(f"{file_server.url}/f", tmp_path / "net.pt", UNKNOWN)
    file_server.files["/f"] = DATA
    assert download.download(f"{file_server.url}/f", tmp_path / "net.pt", UNKNOWN).sha256 == SUM
    assert (tmp_path / "net.pt").read_bytes() == DATA


def test_a_half_of_another_address_is_not_gone_on_with(file_server, tmp_path, monkeypatch):
    file_server.files |= {"/old": bytes(len(DATA)), "/f": DATA}
    file_server.cuts["/old"] = [2_000_000]
    monkeypatch.setattr(download, "TRIES", 0)
    with pytest.raises(FetchError):
        download.download(f"{file_server.url}/old", tmp_path / "net.pt", UNKNOWN)
    assert download.download(f"{file_server.url}/f", tmp_path / "net.pt", UNKNOWN).sha256 == SUM
    assert [request.range for request in file_server.requests if request.path == "/f"] == [None]


def test_killed_between_note_and_bytes_nothing_old_is_gone_on_with(file_server, tmp_path, monkeypatch):
    file_server.files["/f"] = DATA
    (tmp_path / "net.pt.part").write_bytes(bytes(1000))
    (tmp_path / "net.pt.part.json").write_text('{"url": "http://old.example/f", "validator": "old"}')
    with monkeypatch.context() as killed:
        killed.setattr(download, "_begun", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            download.download(f"{file_server.url}/f", tmp_path / "net.pt", UNKNOWN)
    assert download.download(f"{file_server.url}/f", tmp_path / "net.pt", UNKNOWN).sha256 == SUM


def test_a_server_that_answers_a_part_of_a_range_is_asked_for_the_rest(file_server, tmp_path):
    file_server.files["/f"] = DATA
    file_server.cuts["/f"] = [10 * download.PIECE]
    file_server.cap = 1_000_000
    assert download.download(f"{file_server.url}/f", tmp_path / "net.pt", UNKNOWN).sha256 == SUM
    starts = [10 * 65536 + n * 1_000_000 for n in range(3)]
    assert [request.range for request in file_server.requests] == [None, *(f"bytes={start}-" for start in starts)]


def test_a_wrong_half_is_found_by_the_sum_and_fetched_anew(file_server, tmp_path):
    file_server.files["/f"] = DATA
    (tmp_path / "net.pt.part").write_bytes(bytes(1000))
    assert download.download(f"{file_server.url}/f", tmp_path / "net.pt", KNOWN).sha256 == SUM
    assert [request.range for request in file_server.requests] == ["bytes=1000-", None]


@pytest.mark.parametrize("want", [KNOWN, UNKNOWN])
def test_a_server_without_ranges_is_asked_from_the_beginning(file_server, tmp_path, want):
    file_server.files["/f"] = DATA
    file_server.ranges = False
    file_server.cuts["/f"] = [1_000_000]
    assert download.download(f"{file_server.url}/f", tmp_path / "net.pt", want).sha256 == SUM
    assert file_server.sent["/f"] == 1_000_000 + len(DATA)


def test_without_validator_and_sum_nothing_is_gone_on_with(file_server, tmp_path):
    file_server.files["/f"] = DATA
    file_server.validators = False
    file_server.cuts["/f"] = [1_000_000]
    assert download.download(f"{file_server.url}/f", tmp_path / "net.pt", UNKNOWN).sha256 == SUM
    assert [request.range for request in file_server.requests] == [None, None]


def test_a_whole_part_needs_no_byte_more(file_server, tmp_path):
    file_server.files["/f"] = DATA
    (tmp_path / "net.pt.part").write_bytes(DATA)
    assert download.download(f"{file_server.url}/f", tmp_path / "net.pt", KNOWN).sha256 == SUM
    assert file_server.sent["/f"] == 0


def test_a_part_longer_than_the_file_is_thrown_away(file_server, tmp_path):
    file_server.files["/f"] = DATA
    (tmp_path / "net.pt.part").write_bytes(DATA + b"more")
    assert download.download(f"{file_server.url}/f", tmp_path / "net.pt", KNOWN).sha256 == SUM


def test_wrong_bytes_get_no_name(file_server, tmp_path):
    file_server.files["/f"] = DATA[:-1] + b"?"
    with pytest.raises(FetchError, match=f"expected {SUM}"):
        download.download(f"{file_server.url}/f", tmp_path / "net.pt", KNOWN)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_size_is_refused_before_it_is_fetched(file_server, tmp_path):
    file_server.files["/f"] = DATA + DATA
    with pytest.raises(FetchError, match="6000000 bytes, expected 3000000"):
        download.download(f"{file_server.url}/f", tmp_path / "net.pt", KNOWN)
    assert not (tmp_path / "net.pt").exists()


def test_redirects_are_followed(file_server, tmp_path):
    file_server.files["/blob"] = DATA
    file_server.redirects["/f"] = f"{file_server.url}/blob"
    assert download.download(f"{file_server.url}/f", tmp_path / "net.pt", KNOWN).sha256 == SUM


@pytest.mark.parametrize("state", [403, 404, 410])
def test_a_refusal_is_final(file_server, tmp_path, state):
    file_server.files["/f"] = DATA
    file_server.states["/f"] = [state]
    with pytest.raises(FetchError, match=f"HTTP {state}"):
        download.download(f"{file_server.url}/f", tmp_path / "net.pt", KNOWN)
    assert len(file_server.requests) == 1


def test_a_passing_fault_is_waited_out(file_server, tmp_path):
    file_server.files["/f"] = DATA
    file_server.states["/f"] = [503, 500, 429]
    assert download.download(f"{file_server.url}/f", tmp_path / "net.pt", KNOWN).sha256 == SUM


def test_a_server_that_stays_away_is_given_up(file_server, tmp_path):
    file_server.files["/f"] = DATA
    file_server.states["/f"] = [503] * 20
    with pytest.raises(FetchError, match="HTTP 503; run the same command again"):
        download.download(f"{file_server.url}/f", tmp_path / "net.pt", KNOWN)
    assert len(file_server.requests) == download.TRIES


def test_no_server_at_all_is_one_line(file_server, tmp_path):
    file_server.close()
    with pytest.raises(FetchError, match="cannot be fetched"):
        download.download(f"{file_server.url}/f", tmp_path / "net.pt", KNOWN)


def test_a_full_disk_is_the_usual_error(file_server, tmp_path):
    file_server.files["/f"] = DATA
    (tmp_path / "net.pt.part").symlink_to("/dev/full")  # every write to it fails as on a full disk
    with pytest.raises(WorkspaceError, match="the disk is full"):
        download.download(f"{file_server.url}/f", tmp_path / "net.pt", UNKNOWN)


# --- a network ------------------------------------------------------------------------------------------------------


def test_a_pulled_network_is_found_and_whole(file_server, known, here):
    known(single(file_server))
    (pulled,) = fetch.pull(["net"])
    assert (pulled.state, pulled.path, pulled.bytes) == ("pulled", here / "net" / "net.pt", len(DATA))
    assert registry.local("net").read_bytes() == DATA
    assert [(found.state, found.problems) for found in fetch.verify(["net"])] == [("whole", [])]
    listed = json.loads((here / "net" / "bolid-files.json").read_text())
    assert listed["files"] == {"net.pt": {"bytes": len(DATA), "sha256": SUM}}


def test_what_is_whole_is_not_fetched_again(file_server, known):
    known(single(file_server))
    fetch.pull(["net"])
    assert [pulled.state for pulled in fetch.pull(["net"])] == ["here"]
    assert len(file_server.requests) == 1


def test_verify_names_a_damaged_file_and_pull_mends_it(file_server, known, here):
    known(single(file_server))
    fetch.pull(["net"])
    (here / "net" / "net.pt").write_bytes(DATA[:-1] + b"?")
    found = {found.name: found for found in fetch.verify()}["net"]
    assert found.state == "damaged"
    assert found.problems == [f"{here / 'net' / 'net.pt'} is damaged"]
    fetch.pull(["net"])
    assert (here / "net" / "net.pt").read_bytes() == DATA


def test_a_lost_file_is_not_a_network(file_server, known, here):
    known(single(file_server))
    fetch.pull(["net"])
    (here / "net" / "net.pt").unlink()
    with pytest.raises(ModelError, match=r"net.pt is missing; run: bolid models pull net"):
        registry.local("net")
    assert fetch.verify(["net"])[0].problems == [f"{here / 'net' / 'net.pt'} is missing"]


def test_the_sum_of_the_first_pull_is_trusted_from_then_on(file_server, known, here):
    known(single(file_server))
    fetch.pull(["net"])
    (here / "net" / "net.pt").unlink()
    file_server.files["/net.pt"] = bytes(len(DATA))
    with pytest.raises(FetchError, match=f"expected {SUM}"):
        fetch.pull(["net"])
    assert not (here / "net" / "net.pt").exists()


def test_another_revision_is_fetched_anew(file_server, known, here):
    known(single(file_server))
    fetch.pull(["net"])
    file_server.files["/v2.pt"] = DATA[::-1]
    known(single(file_server, source=Release(f"{file_server.url}/v2.pt")))
    with pytest.raises(ModelError, match=r"holds .*/net.pt, but net is .*/v2.pt; run: bolid models pull net"):
        registry.local("net")
    fetch.pull(["net"])
    assert registry.local("net").read_bytes() == DATA[::-1]


def test_a_network_without_its_list_is_not_there(file_server, known, here):
    known(single(file_server))
    fetch.pull(["net"])
    (here / "net" / "bolid-files.json").unlink()
    with pytest.raises(ModelError, match="run: bolid models pull net"):
        registry.local("net")


@pytest.mark.parametrize("text", ["{", "[]", '{"files": {}}', '{"files": {"../x": {"sha256": "0", "bytes": 1}}}'])
def test_a_damaged_list_is_said(file_server, known, here, text):
    known(single(file_server))
    fetch.pull(["net"])
    (here / "net" / "bolid-files.json").write_text(text)
    with pytest.raises(ModelError, match="is damaged and must be deleted"):
        registry.local("net")
    with pytest.raises(ModelError, match="is damaged and must be deleted"):
        fetch.verify(["net"])


def test_two_pulls_of_one_network_exclude_each_other(file_server, known, here):
    known(single(file_server))
    with (
        atomic.locked(here / ".locks" / "net.lock", "the pull of net"),
        pytest.raises(WorkspaceError, match=f"the pull of net is in use by process {os.getpid()}"),
    ):
        fetch.pull(["net"])
    assert file_server.requests == []


# --- packs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["", "antelopev2/"])
def test_a_pack_lies_flat_however_it_was_zipped(file_server, known, here, inner):
    known(pack_of(file_server, packed({f"{inner}a.onnx": DATA, f"{inner}b.onnx": b"b", f"{inner}README": b"no"})))
    fetch.pull(["pack"])
    assert registry.local("pack") == here / "pack"
    assert sorted(path.name for path in (here / "pack").iterdir()) == ["a.onnx", "b.onnx", "bolid-files.json"]
    assert (here / "pack" / "a.onnx").read_bytes() == DATA


@pytest.mark.parametrize("name", ["../b.onnx", "/tmp/b.onnx", "x/../../b.onnx", "..\\b.onnx", "C:/b.onnx"])
def test_a_path_out_of_the_folder_is_refused(file_server, known, here, name):
    known(pack_of(file_server, packed({"a.onnx": DATA, name: b"evil"})))
    with pytest.raises(FetchError, match="would lead out of the folder"):
        fetch.pull(["pack"])
    assert not list(here.rglob("*.onnx"))


def test_a_link_in_a_pack_is_refused(file_server, known, here):
    known(pack_of(file_server, packed({"a.onnx": DATA, "b.onnx": b"/etc/passwd"}, b=stat.S_IFLNK | 0o777)))
    with pytest.raises(FetchError, match="would lead out of the folder"):
        fetch.pull(["pack"])


def test_a_bomb_is_refused(file_server, known, here):
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.onnx", bytes(10_000_000))
        archive.writestr("b.onnx", b"b")
    known(pack_of(file_server, written.getvalue()))
    with pytest.raises(FetchError, match="20 times its size"):
        fetch.pull(["pack"])
    assert not list(here.rglob("*.onnx"))


@pytest.mark.parametrize(
    ("zipped", "why"),
    [(b"no zip", "cannot be unpacked"), (packed({"a.onnx": DATA}), "holds 0 files b.onnx")],
)
def test_what_is_no_pack_is_said(file_server, known, zipped, why):
    known(pack_of(file_server, zipped))
    with pytest.raises(FetchError, match=why):
        fetch.pull(["pack"])


def test_a_member_with_other_bytes_than_the_registry_says_is_removed(file_server, known, here):
    files = (File("a.onnx", SUM), File("b.onnx", "0" * 64))
    known(pack_of(file_server, packed({"a.onnx": DATA, "b.onnx": b"b"}), files=files))
    with pytest.raises(FetchError, match=f"expected {'0' * 64}"):
        fetch.pull(["pack"])
    assert not (here / "pack" / "b.onnx").exists()
    assert not (here / "pack" / "bolid-files.json").exists()


def test_a_fetched_archive_is_not_fetched_again_when_unpacking_failed(file_server, known, here, monkeypatch):
    known(pack_of(file_server, packed({"a.onnx": DATA, "b.onnx": b"b"})))
    with monkeypatch.context() as broken:
        broken.setattr(fetch.packs, "unpack", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch.pull(["pack"])
    fetch.pull(["pack"])
    assert len(file_server.requests) == 1
    assert (here / "pack" / "a.onnx").read_bytes() == DATA


# --- licences -------------------------------------------------------------------------------------------------------


def test_a_licence_that_is_not_free_must_be_accepted_once(file_server, known, here):
    known(single(file_server, licence=INSIGHTFACE))
    with pytest.raises(PolicyError, match=r"InsightFace model licence .*--accept-licence"):
        fetch.pull(["net"])
    assert file_server.requests == []
    fetch.pull(["net"], accept=True)
    decided = json.loads((here / "licences" / "insightface-nc.json").read_text())
    assert (decided["accepted_for"], decided["accepted_by"]) == ("net", "--accept-licence")
    known(single(file_server, name="other", licence=INSIGHTFACE))
    assert [pulled.state for pulled in fetch.pull(["other"])] == ["pulled"]


def test_all_licences_are_asked_before_anything_is_fetched(file_server, known, here):
    known(single(file_server))
    known(single(file_server, name="other", licence=INSIGHTFACE))
    with pytest.raises(PolicyError):
        fetch.pull(["net", "other"])
    assert file_server.requests == []


def test_a_list_of_allowed_licences_refuses_all_others(file_server, known, here):
    known(single(file_server))
    known(single(file_server, name="other", licence=INSIGHTFACE))
    with pytest.raises(PolicyError, match=r"net is under apache-2\.0, which --allowed-licenses does not list"):
        fetch.pull(["net"], allowed=["mit"])
    with pytest.raises(PolicyError, match="other is under insightface-nc"):
        fetch.pull(["other"], accept=True, allowed=["apache-2.0"])
    fetch.pull(["net", "other"], allowed=["apache-2.0", "insightface-nc"])
    assert licences.decision(INSIGHTFACE).exists()


def test_a_licence_that_no_network_has_is_a_wrong_argument(file_server, known):
    known(single(file_server))
    with pytest.raises(UsageError, match=r"no network is under 'gpl'; licences are agpl-3\.0, apache-2\.0, "):
        fetch.pull(["net"], allowed=["gpl"])


# --- mirrors --------------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(file_server, known, here, monkeypatch, tmp_path) -> Path:
    """The folder of networks of another machine; its sources are then gone."""
    known(single(file_server))
    known(pack_of(file_server, packed({"a.onnx": DATA, "b.onnx": b"b"})))
    fetch.pull(["net", "pack"])
    here.rename(tmp_path / "mirror")
    file_server.files.clear()
    return tmp_path / "mirror"


def serve(file_server, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            file_server.files[f"/m/{path.relative_to(folder).as_posix()}"] = path.read_bytes()


@pytest.mark.parametrize("kind", ["folder", "address"])
def test_a_copy_of_a_folder_of_networks_is_a_mirror(file_server, elsewhere, here, monkeypatch, kind):
    serve(file_server, elsewhere)
    monkeypatch.setenv("BOLID_MIRROR", str(elsewhere) if kind == "folder" else f"{file_server.url}/m/")
    fetch.pull(["net", "pack"])
    assert registry.local("net").read_bytes() == DATA
    assert (registry.local("pack") / "b.onnx").read_bytes() == b"b"
    assert all(found.state == "whole" for found in fetch.verify(["net", "pack"]))


@pytest.mark.parametrize("kind", ["folder", "address"])
def test_files_as_they_were_released_are_a_mirror(file_server, known, here, monkeypatch, tmp_path, kind):
    known(single(file_server, SUM))
    known(pack_of(file_server, packed({"in/a.onnx": DATA, "in/b.onnx": b"b"})))
    for name in ("net/net.pt", "pack/pack.zip"):
        (tmp_path / "mirror" / name).parent.mkdir(parents=True)
        (tmp_path / "mirror" / name).write_bytes(file_server.files.pop(f"/{name.partition('/')[2]}"))
    serve(file_server, tmp_path / "mirror")
    monkeypatch.setenv("BOLID_MIRROR", str(tmp_path / "mirror") if kind == "folder" else f"{file_server.url}/m")
    fetch.pull(["net", "pack"])
    assert registry.local("net").read_bytes() == DATA
    assert (registry.local("pack") / "a.onnx").read_bytes() == DATA


@pytest.mark.parametrize("kind", ["folder", "address"])
def test_a_damaged_mirror_is_found(file_server, elsewhere, here, monkeypatch, kind):
    (elsewhere / "net" / "net.pt").write_bytes(DATA[:-1] + b"?")
    serve(file_server, elsewhere)
    monkeypatch.setenv("BOLID_MIRROR", str(elsewhere) if kind == "folder" else f"{file_server.url}/m")
    with pytest.raises(FetchError, match=f"expected {SUM}"):
        fetch.pull(["net"])
    assert not (here / "net" / "net.pt").exists()


def test_the_registry_outranks_the_list_of_a_mirror(file_server, elsewhere, known, monkeypatch):
    known(single(file_server, "0" * 64))
    monkeypatch.setenv("BOLID_MIRROR", str(elsewhere))
    with pytest.raises(FetchError, match=f"has sha256 {SUM}, expected {'0' * 64}; renew the mirror"):
        fetch.pull(["net"])


def test_a_mirror_of_another_revision_is_refused(file_server, elsewhere, known, monkeypatch):
    known(single(file_server, source=Release("https://example.org/v2.pt")))
    monkeypatch.setenv("BOLID_MIRROR", str(elsewhere))
    with pytest.raises(FetchError, match=r"but net is https://example\.org/v2\.pt; renew the mirror"):
        fetch.pull(["net"])


@pytest.mark.parametrize("kind", ["folder", "address"])
def test_what_a_mirror_lacks_is_not_fetched_from_elsewhere(file_server, known, monkeypatch, tmp_path, kind):
    known(single(file_server))
    monkeypatch.setenv("BOLID_MIRROR", str(tmp_path) if kind == "folder" else f"{file_server.url}/m")
    with pytest.raises(FetchError, match="BOLID_MIRROR"):
        fetch.pull(["net"])
    assert "/net.pt" not in [request.path for request in file_server.requests]


# --- processes ------------------------------------------------------------------------------------------------------


def started(*words: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bolid.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


PULL = ("models", "pull", "yolo11x-pose", "--accept-licence")


def test_a_killed_pull_goes_on(file_server, here):
    path = "/yolo11x-pose/yolo11x-pose.pt"
    file_server.files[path] = DATA
    file_server.holds[path] = 2_000_000
    process = started(*PULL, BOLID_MIRROR=file_server.url)
    part = here / "yolo11x-pose" / "yolo11x-pose.pt.part"
    file_server.wait_for(path, 2_000_000)
    while not (part.exists() and part.stat().st_size >= 1_000_000):  # written a piece at a time
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert registry.absence(registry.entry("yolo11x-pose")) is not None
    kept = part.stat().st_size
    again = started(*PULL, BOLID_MIRROR=file_server.url)
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert Path(out.strip()).read_bytes() == DATA
    assert [request.range for request in file_server.requests if request.path == path] == [None, f"bytes={kept}-"]


def test_of_two_pulls_at_once_one_waits_for_nothing_and_says_so(file_server, here):
    path = "/yolo11x-pose/yolo11x-pose.pt"
    file_server.files[path] = DATA
    file_server.holds[path] = 2_000_000
    first = started(*PULL, BOLID_MIRROR=file_server.url)
    file_server.wait_for(path, 2_000_000)
    second = started(*PULL, BOLID_MIRROR=file_server.url)
    _, err = second.communicate()
    assert second.returncode == 4
    assert f"the pull of yolo11x-pose is in use by process {first.pid}" in err
    file_server.release.set()
    _, err = first.communicate()
    assert first.returncode == 0, err
    assert registry.local("yolo11x-pose").read_bytes() == DATA
