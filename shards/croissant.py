"""`croissant.json`: the dataset described in Croissant 1.0 (MLCommons), for catalogues and loaders."""

import json
from typing import Any

from .manifest import Manifest
from .schema import INDEX_FILE

Json = dict[str, Any]

CONTEXT: Json = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

INDEX_FIELDS = {
    "key": ("sc:Text", "sample key"),
    "identity": ("sc:Integer", "number of the person"),
    "split": ("sc:Text", "train, val or test"),
    "shard": ("sc:Text", "tar that holds the sample"),
    "width": ("sc:Integer", "pixels, oriented"),
    "height": ("sc:Integer", "pixels, oriented"),
    "pose_confidence": ("sc:Float", "mean confidence of the body keypoints"),
    "retired": ("sc:Boolean", "whether readers must skip the sample"),
}


def croissant_text(manifest: Manifest) -> str:
    """Return the description as JSON-LD."""
    files = [_index_file(manifest), *_tars(manifest), *_parts(manifest)]
    description: Json = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": "bolid-shards",
        "description": "Photos of people, grouped by person, in WebDataset tars; see README.md.",
        "version": f"{manifest.format_version}.{manifest.packs}.0",
        "license": "see the section Rights of README.md",
        "url": ".",
        "rai:personalSensitiveInformation": "Photos, names and face embeddings of identifiable people.",
        "rai:dataUseCases": "Training of generative models that keep a person's proportions; see README.md for limits.",
        "distribution": files,
        "recordSet": [_samples(), _index_records()],
    }
    return json.dumps(description, indent=1, ensure_ascii=False) + "\n"


def _index_file(manifest: Manifest) -> Json:
    return {
        "@type": "cr:FileObject",
        "@id": INDEX_FILE,
        "name": INDEX_FILE,
        "contentUrl": INDEX_FILE,
        "encodingFormat": "application/x-parquet",
        "sha256": manifest.index_sha256,
    }


def _tars(manifest: Manifest) -> list[Json]:
    return [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name,
            "contentSize": f"{entry.bytes} B",
            "encodingFormat": "application/x-tar",
            "sha256": entry.sha256,
        }
        for name, entry in manifest.shards.items()
    ]


def _parts(manifest: Manifest) -> list[Json]:
    holders = [{"@id": name} for name in manifest.shards]
    types = {"jpg": "image/jpeg", "json": "application/json", "npy": "application/octet-stream", "txt": "text/plain"}
    return [
        {
            "@type": "cr:FileSet",
            "@id": f"{suffix}-parts",
            "name": f"{suffix}-parts",
            "containedIn": holders,
            "encodingFormat": encoding,
            "includes": f"*.{suffix}",
        }
        for suffix, encoding in types.items()
    ]


def _samples() -> Json:
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "field": [
            _field("samples/picture", "sc:ImageObject", "the photo", {"fileSet": {"@id": "jpg-parts"}}),
            _field("samples/file", "sc:Text", "<key>.jpg", {"fileSet": {"@id": "jpg-parts"}}, "filename"),
        ],
    }


def _field(name: str, kind: str, meaning: str, source: Json, file_property: str = "content") -> Json:
    return {
        "@type": "cr:Field",
        "@id": name,
        "name": name,
        "description": meaning,
        "dataType": kind,
        "source": {**source, "extract": {"fileProperty": file_property}},
    }


def _index_records() -> Json:
    return {
        "@type": "cr:RecordSet",
        "@id": "index",
        "name": "index",
        "key": {"@id": "index/key"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"index/{name}",
                "name": f"index/{name}",
                "description": meaning,
                "dataType": kind,
                "source": {"fileObject": {"@id": INDEX_FILE}, "extract": {"column": name}},
            }
            for name, (kind, meaning) in INDEX_FIELDS.items()
        ],
    }
