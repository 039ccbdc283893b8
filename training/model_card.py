"""The card beside exported adapter weights: what they are, what they came from, how any SDXL pipeline loads them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import atomic

FILE = "README.md"
DIMENSIONS = {"face": "an ArcFace embedding, 512 numbers, L2-normalised", "body": "a latent of the body encoder"}
LOADED = """```python
pipe.load_ip_adapter(folder, subfolder={subfolders}, weight_name={names}, image_encoder_folder=None)
pipe.set_ip_adapter_scale({scales})
pipe(prompt, ip_adapter_image_embeds=[{embeds}])  # each [1, 1, d]; with guidance [2, 1, d], zeros first
```"""


def write(folder: Path, conditions: Sequence[str], metadata: Mapping[str, str]) -> None:
    """Write `README.md` with the front matter that the Hugging Face hub reads.

    Args:
        folder: of the exported weights.
        conditions: names of the branches, in the order in which embeddings are passed.
        metadata: of the headers; `base` is the base model.
    """
    base = metadata.get("base", "")
    on_hub = base.count("/") == 1 and not base.startswith(("/", "."))  # else a folder of this machine
    front = ["---", *([f"base_model: {base}"] if on_hub else []), "library_name: diffusers"]
    front += ["tags:", "- ip-adapter", "- stable-diffusion-xl", "- bolid", "---"]
    loading = LOADED.format(
        subfolders=[""] * len(conditions),
        names=[f"{name}.safetensors" for name in conditions],
        scales=[1.0] * len(conditions),
        embeds=", ".join(f"{name}_embedding" for name in conditions),
    )
    lines = [*front, "", "# Adapter for SDXL: " + " and ".join(conditions), ""]
    lines += ["Decoupled cross-attention (IP-Adapter FaceID layout), one file a condition:", ""]
    lines += [f"- `{name}.safetensors`: takes {DIMENSIONS[name]}" for name in conditions]
    lines += ["", "Stock diffusers loads it:", "", loading, "", "| trained with | |", "|---|---|"]
    lines += [f"| {key} | `{value}` |" for key, value in sorted(metadata.items())]
    lines += ["", "No licence is chosen here: it depends on the base, on the networks that measured the photos, and on"]
    lines += ["the consent of the people in them. Say so before you pass these weights on.", ""]
    atomic.write_text(folder / FILE, "\n".join(lines))
