import json

from bolid.shards import PackConfig, PackSummary, pack, read_manifest

from .conftest import Curation, encoded, pattern


def test_the_card_tells_rights_and_personal_data(packed: PackSummary) -> None:
    text = (packed.out / "README.md").read_text()
    assert text.startswith("---\nlicense: other\n")
    for expected in ("## Rights", "## Personal data", "gallery.example | 40", "© the photographer | 40", "val-*.tar"):
        assert expected in text


def test_values_of_the_crawl_cannot_break_the_card(curation: Curation) -> None:
    data = encoded(pattern(1, (32, 32)), "JPEG")
    curation.add("a", data, rights="x | y\n## Forged", url="not a url at all")
    text = (pack(curation.write(), PackConfig()).out / "README.md").read_text()
    assert "| x \\| y ## Forged | 1 |" in text


def test_croissant_names_every_file_with_its_digest(packed: PackSummary) -> None:
    described = json.loads((packed.out / "croissant.json").read_text())
    files = {one["@id"]: one for one in described["distribution"] if one["@type"] == "cr:FileObject"}
    manifest = read_manifest(packed.out)
    assert files.keys() == {"index.parquet", *manifest.shards}
    assert all(files[name]["sha256"] == entry.sha256 for name, entry in manifest.shards.items())
    assert described["conformsTo"][0] == "http://mlcommons.org/croissant/1.0"
