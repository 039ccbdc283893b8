"""Every network of the project as data: what it is for, where its files come from, their sums, its licence.

A sha256 stands here only where two or more independent public lock files state it for exactly this file. Where there is
None, the sum is the one that the hub states for the commit, else that of the first pull, and is checked from then on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Hints = Mapping[str, int | str]


@dataclass(frozen=True)
class Licence:
    """Terms of use of a network.

    Attributes:
        name: SPDX identifier in lower case, or a short name where SPDX has none.
        title: in full.
        url: where the text is.
        commercial: may it be used commercially: yes, only under conditions, no.
        free: no acceptance is asked for.
        terms: one sentence that is shown before the first pull.
    """

    name: str
    title: str
    url: str
    commercial: Literal["yes", "conditions", "no"]
    free: bool
    terms: str


@dataclass(frozen=True)
class File:
    """One file: its path below the network's folder, sha256 and size in bytes where known."""

    path: str
    sha256: str | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Release:
    """A file at an address; with `archive`, a zip whose members, flat or in a folder, are the network's files."""

    url: str
    archive: File | None = None

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class Hub:
    """A repository of the Hugging Face hub at a commit; `patterns` are further files to take, besides those named."""

    repo: str
    revision: str
    patterns: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


@dataclass(frozen=True)
class Packaged:
    """A part of bolid itself; `folder` is relative to the package."""

    folder: str

    def __str__(self) -> str:
        return f"bolid/{self.folder}"


@dataclass(frozen=True)
class Threshold:
    """A decision threshold that belongs to one network.

    Attributes:
        value: in the network's own unit, for faces the cosine of two embeddings.
        at: the operating point that it was chosen for.
    """

    value: float
    at: str


@dataclass(frozen=True)
class Entry:
    """A network.

    Attributes:
        name: on the command line.
        task: pose, face, caption, base, base-unet, clip, fid or judge.
        licence: terms of use.
        source: where the files come from.
        files: those that must be there; all of them, unless the source has patterns.
        hints: what a loader must be told, such as `image_size` or `det_size` in px.
        thresholds: by name; empty where nobody published one for this network.
        figures: thresholds that are read from a packaged network's figures: name -> (key of its value, operating
            point).
    """

    name: str
    task: str
    licence: Licence
    source: Release | Hub | Packaged
    files: tuple[File, ...]
    hints: Hints = field(default_factory=dict)
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    figures: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def bytes(self) -> int | None:
        """Size of what is fetched, None where a part of it is not known."""
        if isinstance(self.source, Release) and self.source.archive is not None:
            return self.source.archive.bytes
        sizes = [file.bytes for file in self.files]
        if isinstance(self.source, Packaged) or None in sizes:
            return None
        return sum(size or 0 for size in sizes)


APACHE = Licence(
    "apache-2.0", "Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0", "yes", True, "Free to use."
)
MIT = Licence("mit", "MIT License", "https://opensource.org/license/mit", "yes", True, "Free to use.")
AGPL = Licence(
    "agpl-3.0",
    "GNU Affero General Public License 3.0",
    "https://www.gnu.org/licenses/agpl-3.0.html",
    "conditions",
    False,
    "What is built with it and offered to others, over a network too, must be published under the same licence; "
    "Ultralytics sells other terms.",
)
INSIGHTFACE = Licence(
    "insightface-nc",
    "InsightFace model licence",
    "https://github.com/deepinsight/insightface#license",
    "no",
    False,
    "Non-commercial research only. Embeddings that are computed with it carry the question into your data.",
)
OPT = Licence(
    "opt-175b",
    "OPT-175B licence agreement",
    "https://github.com/facebookresearch/metaseq/blob/main/projects/OPT/MODEL_LICENSE.md",
    "no",
    False,
    "The card says MIT, but the network contains OPT, whose licence is for non-commercial research in all sizes; "
    "blip2-flan-t5-xl has no such part.",
)
OPENRAIL = Licence(
    "openrail++",
    "CreativeML Open RAIL++-M License",
    "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
    "conditions",
    False,
    "Commercial use is allowed; uses that harm people are not (attachment A), and the same restrictions must be passed "
    "on with the weights and everything derived from them.",
)

_INSIGHTFACE = "https://github.com/deepinsight/insightface/releases/download/v0.7"
_ULTRALYTICS = "https://github.com/ultralytics/assets/releases/download/v8.3.0"
_LIGHTNING = "c9a24f48e1c025556787b0c58dd67a091ece2e44"
_TOKENIZER_MERGES = "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a"
_TOKENIZER_VOCAB = "e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349"

POSE = (
    Entry(
        "yolo11n-pose",
        "pose",
        AGPL,
        Release(f"{_ULTRALYTICS}/yolo11n-pose.pt"),
        (File("yolo11n-pose.pt", "869e83fcdffdc7371fa4e34cd8e51c838cc729571d1635e5141e3075e9319dc0", 6_255_593),),
        {"image_size": 640},
    ),
    Entry(
        "yolo11x-pose",
        "pose",
        AGPL,
        Release(f"{_ULTRALYTICS}/yolo11x-pose.pt"),
        (File("yolo11x-pose.pt"),),
        {"image_size": 640},
    ),
)

_LANDMARKS = (
    File("1k3d68.onnx", "df5c06b8a0c12e422b2ed8947b8869faa4105387f199c477af038aa01f9a45cc", 143_607_619),
    File("2d106det.onnx", "f001b856447c413801ef5c42091ed0cd516fcd21f2d6b79635b1e733a7109dbf", 5_030_888),
    File("genderage.onnx", "4fde69b1c810857b88c64a335084f1c3fe8f01246c9a191b48c7bb756d6652fb", 1_322_532),
)
_SCRFD_10G = ("5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91", 16_923_827)

FACE = (
    Entry(
        "buffalo_l",
        "face",
        INSIGHTFACE,
        Release(
            f"{_INSIGHTFACE}/buffalo_l.zip",
            File("buffalo_l.zip", "80ffe37d8a5940d59a7384c201a2a38d4741f2f3c51eef46ebb28218a7b0ca2f", 288_621_354),
        ),
        (
            *_LANDMARKS,
            File("det_10g.onnx", *_SCRFD_10G),
            File("w600k_r50.onnx", "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43", 174_383_860),
        ),
        {"det_size": 640},
        {
            "same_person": Threshold(0.28, "two faces: 'same' of InsightFace's own demo"),
            "identity_keep": Threshold(0.40, "a face and the centre of the others: WithAnyone's cut"),
            "identity_reject": Threshold(0.28, "a face and the centre of the others: below InsightFace's 'same'"),
            "identity_merge": Threshold(0.60, "the centres of two galleries"),
        },
    ),
    Entry(
        "antelopev2",
        "face",
        INSIGHTFACE,
        Release(
            f"{_INSIGHTFACE}/antelopev2.zip",
            File("antelopev2.zip", "8e182f14fc6e80b3bfa375b33eb6cff7ee05d8ef7633e738d1c89021dcf0c5c5", 360_662_982),
        ),
        (
            *_LANDMARKS,
            File("glintr100.onnx", "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf", 260_665_334),
            File("scrfd_10g_bnkps.onnx", *_SCRFD_10G),
        ),
        {"det_size": 640},
    ),
)

CAPTION = (
    Entry(
        "blip2-flan-t5-xl",
        "caption",
        MIT,
        Hub(
            "Salesforce/blip2-flan-t5-xl",
            "0eb0d3b46c14c1f8c7680bca2693baafdb90bb28",
            ("*.json", "spiece.model", "model-*.safetensors"),
        ),
        (File("config.json"), File("model.safetensors.index.json")),
        {"image_size": 224},
    ),
    Entry(
        "blip2-opt-2.7b",
        "caption",
        OPT,
        Hub(
            "Salesforce/blip2-opt-2.7b",
            "59a1ef6c1e5117b3f65523d1c6066825bcf315e3",
            ("*.json", "merges.txt"),
        ),
        (
            File("config.json"),
            File("model.safetensors.index.json"),
            File(
                "model-00001-of-00002.safetensors",
                "b81228c9ac1b3dee1731ee71d51fe3b2c34f915019c44c25a793b51300ae24fc",
                9_996_328_120,
            ),
            File(
                "model-00002-of-00002.safetensors",
                "536bd73b8f1de7d94f503b23fea2eaa4f7f3ea5f74f8f874fcb21d6df1555a19",
                4_982_879_016,
            ),
        ),
        {"image_size": 224},
    ),
)

_SDXL = Entry(
    "sdxl-base-1.0",
    "base",
    OPENRAIL,
    Hub("stabilityai/stable-diffusion-xl-base-1.0", "462165984030d82259a11f4367a4eed129e94a7b"),
    (
        File("model_index.json", "6d7b93508390ab91ac5bfbe4aeb4dc2d83f7bb1b05fb069d714b5b0c75f70d44", 609),
        File(
            "scheduler/scheduler_config.json",
            "af3e45a949aff8b8341ab8b811429ec03fee857a700a1d9477363e4fff9666e2",
            479,
        ),
        File("text_encoder/config.json", "39b8b2e4b1949e36969caa425b6c81c68bace99198dd9078ce05d16ad401fe7f", 565),
        File(
            "text_encoder/model.fp16.safetensors",
            "660c6f5b1abae9dc498ac2d21e1347d2abdb0cf6c0c0c8576cd796491d9a6cdd",
            246_144_152,
        ),
        File("text_encoder_2/config.json", "a892d1c3a69a7e9247a24de2bc1d5891e3109a54696e53be20093af671072c34", 575),
        File(
            "text_encoder_2/model.fp16.safetensors",
            "ec310df2af79c318e24d20511b601a591ca8cd4f1fce1d8dff822a356bcdb1f4",
            1_389_382_176,
        ),
        File("tokenizer/merges.txt", _TOKENIZER_MERGES, 524_619),
        File(
            "tokenizer/special_tokens_map.json",
            "c4864a9376a8401918425bed71fc14fc0e81f9b59ec45c1cf96cccb2df508eac",
            472,
        ),
        File(
            "tokenizer/tokenizer_config.json",
            "19d7b034cb0cc3ce9766c2231373ab8aa8991fc72e2c8f76558bfaae3de0d563",
            737,
        ),
        File("tokenizer/vocab.json", _TOKENIZER_VOCAB, 1_059_962),
        File("tokenizer_2/merges.txt", _TOKENIZER_MERGES, 524_619),
        File(
            "tokenizer_2/special_tokens_map.json",
            "f118ab3a983206e4f32583448de6bd6aae4ee21869135cef1f5848a753cdaab6",
            460,
        ),
        File(
            "tokenizer_2/tokenizer_config.json",
            "c9d23941f76a41cbd50eda9290f57be7828f0a7a677939e9ef181f7e12bd1bdf",
            725,
        ),
        File("tokenizer_2/vocab.json", _TOKENIZER_VOCAB, 1_059_962),
        File("unet/config.json", "30ebc70750223e59006f7f2b4e1e6c102570aa19a9c4ae3e1fbe7591332dbae6", 1_680),
        File(
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "83e012a805b84c7ca28e5646747c90a243c65c8ba4f070e2d7ddc9d74661e139",
            5_135_149_760,
        ),
        File("vae/config.json", "0b331c8ac22ded5f9997a144a575c1d113d6169aff262c353f39015bd24a6264", 642),
        File(
            "vae/diffusion_pytorch_model.fp16.safetensors",
            "bcb60880a46b63dea58e9bc591abe15f8350bde47b405f9c38f4be70c6161e68",
            167_335_342,
        ),
    ),
    {"image_size": 1024, "variant": "fp16"},
)


def _lightning(steps: int, file: str, prediction: str) -> Entry:
    name = f"sdxl-lightning-{steps}step"
    hints: Hints = {"image_size": 1024, "steps": steps, "prediction_type": prediction, "base": "sdxl-base-1.0"}
    return Entry(name, "base-unet", OPENRAIL, Hub("ByteDance/SDXL-Lightning", _LIGHTNING), (File(file),), hints)


BASE = (
    _SDXL,
    _lightning(1, "sdxl_lightning_1step_unet_x0.safetensors", "sample"),
    _lightning(2, "sdxl_lightning_2step_unet.safetensors", "epsilon"),
    _lightning(4, "sdxl_lightning_4step_unet.safetensors", "epsilon"),
    _lightning(8, "sdxl_lightning_8step_unet.safetensors", "epsilon"),
)

JUDGES = (
    Entry(
        "clip-vit-large-patch14",
        "clip",
        MIT,
        Hub("openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41"),
        (
            File("config.json", "8a09b467700c58138c29d53c605b34ebc69beaadd13274a8a2af8ad2c2f4032a", 4_519),
            File("merges.txt", _TOKENIZER_MERGES, 524_619),
            File(
                "model.safetensors",
                "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
                1_710_540_580,
            ),
            File("preprocessor_config.json", "910e70b3956ac9879ebc90b22fb3bc8a75b6a0677814500101a4c072bd7857bd", 316),
            File("special_tokens_map.json", "f8c0d6c39aee3f8431078ef6646567b0aba7f2246e9c54b8b99d55c22b707cbf", 389),
            File("tokenizer.json", "a83e0809aa4c3af7208b2df632a7a69668c6d48775b3c3fe4e1b1199d1f8b8f4", 2_224_003),
            File("tokenizer_config.json", "deef455e52fa5e8151e339add0582e4235f066009601360999d3a9cda83b1129", 905),
            File("vocab.json", "3f0c4f7d2086b61b38487075278ea9ed04edb53a03cbb045b86c27190fa8fb69", 961_143),
        ),
        {"image_size": 224},
    ),
    Entry(
        "eva02-clip-l",
        "clip",
        MIT,
        Hub(
            "timm/eva02_large_patch14_clip_336.merged2b_s6b_b61k",
            "4f62907359c8506be7021582f360564693b22c15",
            ("open_clip_config.json", "tokenizer*.json", "special_tokens_map.json", "vocab.json", "merges.txt"),
        ),
        (
            File(
                "open_clip_model.safetensors",
                "f753bca0e8327f77e8845b0af2510d599c3e4614237007b48078c791f2cf391c",
                856_239_456,
            ),
        ),
        {"image_size": 336, "open_clip": "EVA02-L-14-336"},
    ),
    Entry(
        "openclip-vit-h",
        "clip",
        MIT,
        Hub(
            "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
            "1c2b8495b28150b8a4922ee1c8edee224c284c0c",
            ("preprocessor_config.json", "tokenizer*.json", "special_tokens_map.json", "vocab.json", "merges.txt"),
        ),
        (
            File("config.json"),
            File(
                "model.safetensors",
                "036e6e2bd49697511f4f8b8cb5ee465f93025f7a69a145eadeb9a881ace9b18d",
                3_944_552_236,
            ),
        ),
        {"image_size": 224},
    ),
    Entry(
        "inception-v3-fid",
        "fid",
        APACHE,
        Release(
            "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
        ),
        (
            File(
                "pt_inception-2015-12-05-6726825d.pth",
                "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
                95_628_359,
            ),
        ),
        {"image_size": 299},
    ),
)

DEMO = (
    Entry("demo-pose", "pose", AGPL, Packaged("demo/networks/pose"), (File("pose.pt"),)),
    Entry(
        "demo-face",
        "face",
        APACHE,
        Packaged("demo/networks/face"),
        (File("det.onnx"), File("rec.onnx")),
        {"det_size": 640},
        figures={"same_person": ("threshold_false_match_1e-3", "1e-3 false matches, procedural people not trained on")},
    ),
    Entry(
        "demo-base",
        "base",
        APACHE,
        Packaged("demo/networks/base"),
        (
            File("model_index.json"),
            File("scheduler/scheduler_config.json"),
            File("text_encoder/model.safetensors"),
            File("text_encoder_2/model.safetensors"),
            File("unet/diffusion_pytorch_model.safetensors"),
            File("vae/diffusion_pytorch_model.safetensors"),
        ),
        {"image_size": 128},
    ),
    Entry(
        "demo-base-lightning",
        "base-unet",
        APACHE,
        Packaged("demo/networks/base/unet_lightning"),
        (File("config.json"), File("diffusion_pytorch_model.safetensors")),
        {"image_size": 128, "steps": 4, "base": "demo-base"},
    ),
    Entry(
        "demo-judges",
        "judge",
        APACHE,
        Packaged("demo/networks/judges"),
        tuple(
            File(f"{each}/{name}") for each in ("attributes", "shape") for name in ("config.json", "model.safetensors")
        ),
    ),
    Entry(
        "demo-clip",
        "clip",
        APACHE,
        Packaged("demo/networks/judges/clip"),
        (
            File("config.json"),
            File("model.safetensors"),
            File("preprocessor_config.json"),
            File("tokenizer.json"),
            File("tokenizer_config.json"),
        ),
        {"image_size": 128},
    ),
)

ENTRIES: tuple[Entry, ...] = (*POSE, *FACE, *CAPTION, *BASE, *JUDGES, *DEMO)
