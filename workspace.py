"""Where everything lies on disk, and nothing else."""

import os
from dataclasses import dataclass
from pathlib import Path

from .errors import WorkspaceError

ENVIRONMENT = "BOLID_WORKSPACE"
DEFAULT = Path("bolid-data")
EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg"}
"""Pillow's name of a format -> file extension, where it is not the name in lower case."""


@dataclass(frozen=True)
class Workspace:
    """The folder a project's files live in; properties are paths, none is created by asking for it."""

    root: Path

    @classmethod
    def resolve(cls, given: Path | None = None) -> "Workspace":
        """Return the workspace of `given`, else of `$BOLID_WORKSPACE`, else `./bolid-data`."""
        return cls(given or Path(os.environ.get(ENVIRONMENT) or DEFAULT))

    def required(self, path: Path, made_by: str) -> Path:
        """Return `path` when it exists.

        Raises:
            WorkspaceError: it does not; the message names the command that makes it.
        """
        if not path.exists():
            raise WorkspaceError(f"{path} does not exist; run first: {made_by}")
        return path

    @property
    def frontier(self) -> Path:
        """SQLite file with the state of every address of the crawl."""
        return self.root / "crawl.sqlite"

    @property
    def images(self) -> Path:
        """Folder of the original bytes, named by their sha256."""
        return self.root / "images"

    @property
    def images_table(self) -> Path:
        """Parquet with a row for each stored photo."""
        return self.root / "images.parquet"

    @property
    def curation(self) -> Path:
        """Folder of stage results."""
        return self.root / "curation"

    @property
    def curated_table(self) -> Path:
        """Parquet with a row for each photo and its verdict."""
        return self.root / "curated.parquet"

    @property
    def rejects_table(self) -> Path:
        """Parquet with a row for each photo that was not kept, and why."""
        return self.root / "rejects.parquet"

    @property
    def proposals_table(self) -> Path:
        """Parquet with a row for each reason to merge two identities."""
        return self.root / "proposals.parquet"

    @property
    def report(self) -> Path:
        """HTML report of the curation."""
        return self.root / "report.html"

    @property
    def shards(self) -> Path:
        """Folder of the packed dataset."""
        return self.root / "shards"

    @property
    def runs(self) -> Path:
        """Folder of the training runs."""
        return self.root / "runs"

    @property
    def pictures(self) -> Path:
        """Folder of generated pictures."""
        return self.root / "pictures"

    @property
    def evaluation(self) -> Path:
        """Folder of figures and their report."""
        return self.root / "evaluation"

    def image(self, sha256: str, extension: str) -> Path:
        """Path of the photo with these bytes: `images/ab/<sha256>.<extension>`."""
        return self.images / sha256[:2] / f"{sha256}.{extension}"

    def photo(self, sha256: str, format_: str) -> Path:
        """Path of the photo with these bytes, by Pillow's name of its format (`JPEG` -> `.jpg`)."""
        return self.image(sha256, EXTENSIONS.get(format_, format_.lower()))

    def run(self, name: str) -> Path:
        """Folder of one training run."""
        return self.runs / name

    def export(self, run: str) -> Path:
        """Folder of a run's exported weights, by the run's name or by the path of a run or of the weights themselves.

        Raises:
            WorkspaceError: there is none; the message names the command that makes it.
        """
        named = [] if os.sep in run else [self.run(run) / "export"]
        candidates = [*named, Path(run) / "export", Path(run)]
        for folder in candidates:
            if any(folder.glob("*.safetensors")):
                return folder
        raise WorkspaceError(
            f"{candidates[0]} holds no weights; train the run first: bolid train vae|adapter --run {run}"
        )
