"""The identity bank: `c_body` of every known identity, so that generating a person later needs no photo of them.

`identities.safetensors` holds `mu` and `logvar`, `[I, d]`; row i belongs to row i of `identities.parquet`
(`identity`, `slug`, `views`).

Shapes: I identities, d latent.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .. import atomic
from ..errors import DataError, ModelError

WEIGHTS_FILE = "identities.safetensors"
TABLE_FILE = "identities.parquet"

_SCHEMA = pa.schema(
    [
        pa.field("identity", pa.int64(), nullable=False),
        pa.field("slug", pa.string(), nullable=False),
        pa.field("views", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class IdentityBank:
    """Posteriors of `c_body`, a row an identity.

    Attributes:
        identities: numbers, as in the shards.
        slugs: names in addresses and tables.
        views: how many photos each posterior comes from.
        mu, logvar: `[I, d]` float32.
    """

    identities: Sequence[int]
    slugs: Sequence[str]
    views: Sequence[int]
    mu: Tensor
    logvar: Tensor

    def row(self, identity: str | int) -> int:
        """Return the row of an identity, by its number or its slug.

        Raises:
            DataError: it is not in the bank; the message names the near match.
        """
        name = str(identity)
        for row, (number, slug) in enumerate(zip(self.identities, self.slugs, strict=True)):
            if name in (slug, str(number)):
                return row
        close = difflib.get_close_matches(name, self.slugs, n=3)
        hint = f"near it: {', '.join(close)}" if close else f"for example {', '.join(self.slugs[:3])}"
        raise DataError(
            f"the identity '{name}' is not among the {len(self.slugs)} of the bank; {hint} (all are in {TABLE_FILE})"
        )

    def latent(self, identity: str | int) -> Tensor:
        """Return the mean of `c_body` of an identity, `[1, d]`; raises DataError as `row`."""
        row = self.row(identity)
        return self.mu[row : row + 1]

    def save(self, folder: Path) -> None:
        """Write both files into `folder`; the table, which is the index, last."""
        with atomic.replacing(folder / WEIGHTS_FILE) as temporary:
            save_file({"mu": self.mu.contiguous(), "logvar": self.logvar.contiguous()}, temporary)
        columns = {"identity": list(self.identities), "slug": list(self.slugs), "views": list(self.views)}
        with atomic.replacing(folder / TABLE_FILE) as temporary:
            pq.write_table(pa.table(columns, _SCHEMA), temporary)

    @classmethod
    def load(cls, folder: Path) -> "IdentityBank":
        """Read what `save` wrote.

        Raises:
            ModelError: the bank is missing, damaged, or its files do not belong together.
        """
        try:
            table = pq.read_table(folder / TABLE_FILE, schema=_SCHEMA).to_pydict()
            weights = load_file(folder / WEIGHTS_FILE)
            bank = cls(table["identity"], table["slug"], table["views"], weights["mu"], weights["logvar"])
        except FileNotFoundError as error:
            raise ModelError(f"there is no identity bank in {folder}; run: bolid train vae") from error
        except (OSError, KeyError, SafetensorError, pa.ArrowException) as error:
            raise ModelError(f"the identity bank in {folder} is damaged ({error}); run: bolid train vae") from error
        if not len(bank.identities) == len(bank.mu) == len(bank.logvar):
            raise ModelError(f"{folder}/{TABLE_FILE} and {WEIGHTS_FILE} do not belong together; run: bolid train vae")
        return bank
