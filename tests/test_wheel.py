"""A wheel holds every module and data file of the package, and nothing else."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_is_complete(tmp_path: Path):
    # From a copy: setuptools leaves a folder `build` in the tree, and would pack what an older one left there.
    leave_out = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "tests", "demo-*", "bolid-data")
    copy = shutil.copytree(ROOT, tmp_path / "copy", ignore=leave_out)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path / "dist"),
        str(copy),
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = [package.removeprefix("bolid").replace(".", "/").strip("/") for package in settings["packages"]]
    modules = {f"bolid/{path.relative_to(ROOT)}" for folder in folders for path in (ROOT / folder).glob("*.py")}
    data = {
        f"bolid/{path.relative_to(ROOT)}"
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package.removeprefix("bolid").replace(".", "/").strip("/")).glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert data
    assert packed == modules | data


def test_every_folder_with_modules_is_a_listed_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    inits = {path.parent for path in ROOT.rglob("__init__.py")}
    ours = {path for path in inits if not {".venv", "build", "tests"} & set(path.relative_to(ROOT).parts)}
    names = {".".join(["bolid", *path.relative_to(ROOT).parts]) for path in ours}
    assert names == set(settings["packages"])
