"""What the registry says of networks, and what it finds on this machine."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bolid.errors import ModelError, UsageError
from bolid.models import registry
from bolid.models.catalogue import APACHE, ENTRIES, Entry, File, Hub, Packaged, Release, Threshold

ISSUE = {  # the networks that the project names, and their tasks
    "yolo11n-pose": "pose",
    "yolo11x-pose": "pose",
    "buffalo_l": "face",
    "antelopev2": "face",
    "blip2-flan-t5-xl": "caption",
    "blip2-opt-2.7b": "caption",
    "sdxl-base-1.0": "base",
    "sdxl-lightning-1step": "base-unet",
    "sdxl-lightning-2step": "base-unet",
    "sdxl-lightning-4step": "base-unet",
    "sdxl-lightning-8step": "base-unet",
    "clip-vit-large-patch14": "clip",
    "eva02-clip-l": "clip",
    "openclip-vit-h": "clip",
    "inception-v3-fid": "fid",
    "demo-pose": "pose",
    "demo-face": "face",
    "demo-base": "base",
    "demo-base-lightning": "base-unet",
    "demo-judges": "judge",
    "demo-clip": "clip",
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("BOLID_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def put(here: Path, name: str, files: dict[str, bytes], source: str | None = None) -> None:
    """Lay out what a pull leaves."""
    for path, data in files.items():
        (here / name / path).parent.mkdir(parents=True, exist_ok=True)
        (here / name / path).write_bytes(data)
    listed = {path: {"bytes": len(data), "sha256": "0" * 64} for path, data in files.items()}
    record = {"source": source or str(registry.entry(name).source), "licence": "x", "pulled_at": "y", "files": listed}
    (here / name / "bolid-files.json").write_text(json.dumps(record))


def test_every_network_of_the_project_is_known():
    assert {name: registry.entry(name).task for name in registry.names()} == ISSUE


@pytest.mark.parametrize("network", ENTRIES, ids=lambda network: network.name)
def test_an_entry_is_complete(network):
    assert re.fullmatch(r"[a-z0-9._-]+", network.name)
    assert network.files
    for file in network.files:
        assert registry.is_inside(file.path)
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.bytes is None or file.bytes > 0
    if isinstance(network.source, Release):
        assert network.source.url.startswith("https://")
        assert network.source.archive is not None or len(network.files) == 1
    if isinstance(network.source, Hub):
        assert re.fullmatch(r"[0-9a-f]{40}", network.source.revision), "a branch may move"
    assert network.licence.url.startswith("https://")
    assert network.licence.free == (network.licence.name in ("apache-2.0", "mit"))


def test_a_base_that_a_network_belongs_to_is_known():
    assert {registry.entry(str(entry.hints["base"])).task for entry in ENTRIES if "base" in entry.hints} == {"base"}


def test_no_pickle_where_there_is_a_choice():
    names = [file.path for entry in ENTRIES if isinstance(entry.source, Hub) for file in entry.files]
    patterns = [pattern for entry in ENTRIES if isinstance(entry.source, Hub) for pattern in entry.source.patterns]
    assert not [name for name in names + patterns if name.endswith((".bin", ".pt", ".pth", ".ckpt", "*"))]


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("yolo11n_pose", "yolo11n-pose"),
        ("buffalo", "buffalo_l"),
        ("SDXL-base", "sdxl-base-1.0"),
        ("demo-fase", "demo-face"),
    ],
)
def test_a_wrong_name_is_answered_with_near_ones(wrong, near):
    with pytest.raises(UsageError, match=f"no network is called '{wrong}'; did you mean .*{near}"):
        registry.entry(wrong)


def test_a_name_like_no_other_is_answered_with_the_command():
    with pytest.raises(UsageError, match="see: bolid models list"):
        registry.entry("qqqqqqqq")


def test_a_network_is_known_by_its_repository_too():
    assert registry.entry("stabilityai/stable-diffusion-xl-base-1.0").name == "sdxl-base-1.0"


@pytest.mark.parametrize("name", ["yolo11n-pose", "buffalo_l", "sdxl-base-1.0"])
def test_what_is_not_here_is_an_error_that_says_what_to_run(name):
    with pytest.raises(ModelError, match=f"{name} is not here .*; run: bolid models pull {name}$"):
        registry.local(name)


def test_a_network_of_one_file_is_that_file_and_others_are_their_folder(here):
    put(here, "yolo11n-pose", {"yolo11n-pose.pt": b"x"})
    put(here, "buffalo_l", {"det_10g.onnx": b"x", "w600k_r50.onnx": b"y"})
    assert registry.local("yolo11n-pose") == here / "yolo11n-pose" / "yolo11n-pose.pt"
    assert registry.local("buffalo_l") == here / "buffalo_l"


def test_a_file_of_another_size_is_seen_without_reading_it(here):
    put(here, "yolo11n-pose", {"yolo11n-pose.pt": b"xyz"})
    (here / "yolo11n-pose" / "yolo11n-pose.pt").write_bytes(b"xy")
    with pytest.raises(ModelError, match=r"yolo11n-pose\.pt is damaged .*run: bolid models pull yolo11n-pose"):
        registry.local("yolo11n-pose")


def test_the_cache_folder_is_used_without_the_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("BOLID_MODELS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert registry.root() == tmp_path / "bolid" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert registry.root() == tmp_path / "home" / ".cache" / "bolid" / "models"


def test_resolve_takes_names_repositories_and_paths(here, tmp_path):
    put(here, "sdxl-base-1.0", {"model_index.json": b"{}"})
    for name in ("sdxl-base-1.0", "stabilityai/stable-diffusion-xl-base-1.0", here / "sdxl-base-1.0"):
        found = registry.resolve(name)
        assert (found.path, found.entry.name) == (here / "sdxl-base-1.0", "sdxl-base-1.0")
    (tmp_path / "own.pt").write_bytes(b"x")
    assert registry.resolve(tmp_path / "own.pt") == registry.Resolved(tmp_path / "own.pt", None)


def test_resolve_knows_a_network_by_any_path_to_it(here, tmp_path):
    put(here, "yolo11n-pose", {"yolo11n-pose.pt": b"x"})
    (tmp_path / "link").symlink_to(here)
    found = registry.resolve(tmp_path / "link" / "yolo11n-pose" / "yolo11n-pose.pt")
    assert found.entry.name == "yolo11n-pose"


def test_a_name_comes_before_a_folder_that_is_called_like_it(here, tmp_path, monkeypatch):
    put(here, "buffalo_l", {"det_10g.onnx": b"x"})
    (tmp_path / "buffalo_l").mkdir()
    monkeypatch.chdir(tmp_path)
    assert registry.resolve("buffalo_l").path == here / "buffalo_l"
    assert registry.resolve("./buffalo_l") == registry.Resolved(Path("buffalo_l"), None)


@pytest.mark.parametrize("wrong", ["/nowhere/net.pt", "./buffalo_x", "nobody/no-such-model"])
def test_a_path_that_does_not_exist_is_a_wrong_argument(wrong):
    with pytest.raises(UsageError, match=f"{re.escape(wrong)} does not exist"):
        registry.resolve(wrong)


@pytest.fixture
def packaged(monkeypatch, tmp_path) -> Path:
    """A packaged face network whose files lie in a folder of the test."""
    monkeypatch.setattr(registry, "PACKAGE", tmp_path)
    figures = {"same_person": ("threshold_at_fmr", "1e-3 false matches")}
    network = Entry("demo-face", "face", APACHE, Packaged("networks/face"), (File("det.onnx"),), {}, {}, figures)
    monkeypatch.setitem(registry._BY_NAME, "demo-face", network)
    return tmp_path / "networks" / "face"


def test_a_threshold_is_read_from_the_figures_of_the_training(packaged):
    packaged.mkdir(parents=True)
    assert registry.entry("demo-face").thresholds == {}
    (packaged / "figures.json").write_text('{"threshold_at_fmr": 0.3125, "photos": 10}')
    assert registry.entry("demo-face").thresholds == {"same_person": Threshold(0.3125, "1e-3 false matches")}
    (packaged / "figures.json").write_text('{"threshold_at_fmr": 0.5}')
    assert registry.entry("demo-face").thresholds["same_person"].value == 0.5


def test_a_packaged_network_is_found_or_said_how_it_is_made(packaged):
    with pytest.raises(
        ModelError, match=r"not in this installation of bolid .*run: python -m bolid\.demo\.train face$"
    ):
        registry.local("demo-face")
    packaged.mkdir(parents=True)
    (packaged / "det.onnx").write_bytes(b"x")
    assert registry.local("demo-face") == packaged / "det.onnx"


def test_thresholds_belong_to_the_network_that_they_were_published_for():
    assert [entry.name for entry in ENTRIES if entry.thresholds] == ["buffalo_l"]
    values = {name: each.value for name, each in registry.entry("buffalo_l").thresholds.items()}
    assert values == {"same_person": 0.28, "identity_keep": 0.40, "identity_reject": 0.28, "identity_merge": 0.60}
    assert registry.entry("antelopev2").thresholds == {}


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("a.onnx", True),
        ("unet/config.json", True),
        (".hidden/file", True),
        ("../a", False),
        ("a/../../b", False),
        ("/etc/passwd", False),
        ("a//b", False),
        ("./a", False),
        ("a\\..\\b", False),
        ("C:/a", False),
        ("a\0b", False),
        ("", False),
    ],
)
def test_paths_stay_inside(path, inside):
    assert registry.is_inside(path) == inside


def test_the_registry_imports_nothing_heavy():
    heavy = ("torch", "numpy", "requests", "huggingface_hub", "transformers", "pydantic", "PIL")
    code = f"import sys; from bolid.models import listing; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_network_is_on_the_page_of_the_networks():
    page = (registry.PACKAGE / "docs" / "models.md").read_text(encoding="utf-8")
    assert [name for name in registry.names() if f"`{name}`" not in page] == []
