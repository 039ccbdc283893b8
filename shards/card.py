"""`README.md` of a dataset: what it holds, how it is read, whose rights and whose faces are in it."""

from collections import Counter
from urllib.parse import urlsplit

import pyarrow as pa

from .manifest import Manifest
from .schema import META_FIELDS, SPLITS

MOST = 10
"""Hosts and rights statements that are listed one by one."""


def card_text(manifest: Manifest, photos: pa.Table) -> str:
    """Return the dataset card, Markdown with the header that the Hugging Face hub reads.

    Args:
        manifest: of the dataset.
        photos: the kept rows of the curated table, for the addresses and the rights.
    """
    sections = (
        _header(manifest),
        _contents(manifest),
        _reading(),
        _sample(),
        _rights(photos),
        _people(),
        _making(manifest),
    )
    return "\n".join(sections)


def _header(manifest: Manifest) -> str:
    files = "".join(
        f"  - split: {split}\n    path: {split}-*.tar\n" for split in SPLITS if manifest.splits[split].shards
    )
    return (
        "---\nlicense: other\nlicense_name: see-rights\ntask_categories:\n- text-to-image\ntags:\n- webdataset\n"
        f"- identity\n- personal-data\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n"
    )


def _contents(manifest: Manifest) -> str:
    rows = "\n".join(
        f"| {split} | {entry.identities} | {entry.samples} | {entry.shards} | {entry.bytes} |"
        for split, entry in manifest.splits.items()
    )
    retired = (
        f"\n{manifest.retired} further samples are retired: they lie in the tars and every reader must skip them.\n"
    )
    return (
        "# Photos of people, grouped by person\n\n"
        "Plain WebDataset tars: one photo a sample, the samples of a person side by side in one tar, no person in two "
        "splits.\n\n| split | people | photos | tars | bytes |\n|---|---:|---:|---:|---:|\n"
        f"{rows}\n{retired if manifest.retired else ''}"
    )


def _reading() -> str:
    return """## Reading

```python
from bolid.shards import IdentityBatchSampler, IdentityDataset, collate
from torch.utils.data import DataLoader

people = IdentityDataset("path/to/this/folder", "train", refs=4, size=(768, 1024))
order = IdentityBatchSampler(people.index, identities_per_batch=8, seed=0)
loader = DataLoader(people, batch_sampler=order, collate_fn=collate, num_workers=4)
```

Without bolid: `webdataset.WebDataset("train-000000.tar")` or
`datasets.load_dataset("webdataset", data_files={"train": "train-*.tar"}, streaming=True)`. Both know nothing of
retired samples; leave out the keys for which `index.parquet` says `retired`.
"""


def _sample() -> str:
    fields = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in META_FIELDS.items())
    return f"""## A sample

| part | what |
|---|---|
| `.jpg` | the picture; apply its EXIF orientation before anything else |
| `.json` | see the next table; the same keys and types in every sample |
| `.npy` | face embedding, float32 `[512]`, zeros where there is none |
| `.txt` | caption, UTF-8, may be empty |

Coordinates are pixels of the oriented picture as stored. Zeros with `pose_model` empty mean: not measured.

| key of `.json` | type and meaning |
|---|---|
{fields}
"""


def _rights(photos: pa.Table) -> str:
    return f"""## Rights

The photos were collected from the addresses below; bolid grants no right in them. Most photos of this kind are owned
by photographers and agencies. Whoever uses or shares this dataset must have a right to do so for each photo: a
licence, or a legal exception such as text and data mining (in the EU: articles 3 and 4 of Directive 2019/790, the
latter only where the owner has not reserved it). `url`, `page_url`, `robots` and `rights` of each sample say what was
known at the time of the crawl.

{_counted("Host", _hosts(photos))}
{_counted("Statement of rights", _values(photos, "rights"))}"""


def _people() -> str:
    return """## Personal data

Every sample is personal data: the photo of an identifiable person, with a name. Face embeddings are biometric data
(in the EU: article 9 of the GDPR when used to identify a person). Original files may carry EXIF data, with places and
times. Before you use the dataset:

- know your legal basis, and keep the dataset only as long as you need it;
- do not use it to identify, rate or track people, and do not make pictures of real people that deceive or degrade;
- it is meant for adults only; remove every photo of a minor at once;
- a person may ask to be removed: retire their samples, which every reader of bolid then skips, and repack to delete
  the bytes. Models trained before keep what they learned.
"""


def _making(manifest: Manifest) -> str:
    options = "\n".join(f"| `{name}` | `{value}` |" for name, value in manifest.options.model_dump(mode="json").items())
    return f"""## How it was made

{manifest.tool}, format {manifest.format} {manifest.format_version}, {manifest.packs} pack(s), the last one of the
curation `{manifest.curation}`.
`manifest.json` holds the sha256 of every tar, `index.parquet` that of every part; `bolid shards verify` checks them.

| option | value |
|---|---|
{options}
"""


def _values(photos: pa.Table, column: str) -> Counter[str]:
    if column not in photos.column_names:
        return Counter()
    return Counter(str(value or "not stated") for value in photos[column].to_pylist())


def _hosts(photos: pa.Table) -> Counter[str]:
    counted: Counter[str] = Counter()
    for url, count in _values(photos, "url").items():
        counted[urlsplit(url).hostname or "not stated"] += count
    return counted


def _counted(title: str, values: Counter[str]) -> str:
    ordered = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    lines = [f"| {_cell(value)} | {count} |" for value, count in ordered[:MOST]]
    if len(ordered) > MOST:
        lines.append(f"| {len(ordered) - MOST} others | {sum(count for _, count in ordered[MOST:])} |")
    return f"| {title} | photos |\n|---|---:|\n" + "\n".join(lines or ["| not stated | |"]) + "\n"


def _cell(value: str) -> str:
    """Keep a value inside its table cell."""
    return " ".join(value.replace("|", "\\|").split())[:200]
