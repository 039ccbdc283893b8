"""Everything that bolid refuses or cannot do, one class a cause, one exit code a class.

    BolidError                 1  (never raised itself)
    ├── UsageError             2  a wrong argument on the command line
    │   └── ConfigError        3  a wrong key or value in a configuration or site definition
    ├── WorkspaceError         4  the workspace is missing, in use by another process, read-only or full
    ├── SiteError              5  the site could not be crawled
    │   └── LayoutError        6  the site's pages are not those that its definition describes
    ├── PolicyError            7  refused: robots.txt, rights, a missing contact, a licence not accepted
    ├── DataError              8  input data is empty, damaged or contradicts itself
    │   └── AccountingError    9  in = kept + rejected + failed does not hold
    ├── MissingExtraError     10  an optional dependency is not installed
    ├── ModelError            11  weights are missing or do not fit
    │   └── FetchError        13  a network could not be fetched, or what came is not what it should be
    └── TrainingError         12  a training run cannot start, continue or stay finite

A bug exits with 1 and a traceback; Ctrl-C exits with 130. The message of every error names the thing, the cause
and the next action.
"""

from collections.abc import Iterator


class BolidError(Exception):
    """Base of all errors that are not bugs; `exit_code` is what the command returns."""

    exit_code = 1


class UsageError(BolidError):
    """An argument of a command is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration or site definition holds an unknown key or a value out of range."""

    exit_code = 3


class WorkspaceError(BolidError):
    """The workspace is missing, locked by another process, read-only or full."""

    exit_code = 4


class SiteError(BolidError):
    """The site could not be crawled."""

    exit_code = 5


class LayoutError(SiteError):
    """No selector of the site definition matched: the site changed, or it is another site."""

    exit_code = 6


class PolicyError(BolidError):
    """The action is possible but refused by a rule that protects people or hosts."""

    exit_code = 7


class DataError(BolidError):
    """Input data is empty, damaged or contradicts itself."""

    exit_code = 8


class AccountingError(DataError):
    """Photos were lost or counted twice: in = kept + rejected + failed does not hold."""

    exit_code = 9


class MissingExtraError(BolidError):
    """An optional dependency is not installed; the message is the one line to run.

    Args:
        package: name of the package that could not be imported.
        extra: the extra of bolid that brings it.
    """

    exit_code = 10

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'bolid[{extra}]'")


class ModelError(BolidError):
    """Weights are missing or do not fit the network."""

    exit_code = 11


class FetchError(ModelError):
    """A network could not be fetched, or what came is not what it should be."""

    exit_code = 13


class TrainingError(BolidError):
    """A training run cannot start, continue or stay finite."""

    exit_code = 12


def error_classes(root: type[BolidError] = BolidError) -> Iterator[type[BolidError]]:
    """Yield `root` and its subclasses of this module, parents first (the source of the table in docs/cli.md)."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == __name__:
            yield from error_classes(child)


EXTRA_OF = {
    "torch": "train",
    "diffusers": "train",
    "transformers": "train",
    "accelerate": "train",
    "safetensors": "train",
    "huggingface_hub": "train",
    "tensorboard": "train",
    "ultralytics": "pose",
    "insightface": "face",
    "onnxruntime": "face",
    "ray": "ray",
    "c2pa": "c2pa",
}
"""Optional package -> the extra of bolid that brings it."""
