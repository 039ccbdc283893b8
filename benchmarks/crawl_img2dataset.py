"""img2dataset on a list of addresses; runs in an environment of its own.

python crawl_img2dataset.py LIST.txt FOLDER PROCESSES THREADS MIN_SIZE MODE

"as it comes": no resize, every photo is decoded and encoded anew. "checked": decoded, and its bytes kept. "unchecked":
whatever came is written and nothing is looked at; no size is known then.
"""

import os
import sys
import warnings
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would look for a newer version on the internet
warnings.simplefilter("ignore")


def main() -> None:
    """Run the download."""
    import img2dataset

    file, folder, processes, threads, min_size, mode = sys.argv[1:]
    count = len(Path(file).read_text().split())
    img2dataset.download(
        url_list=file,
        input_format="txt",
        output_folder=folder,
        output_format="files",
        processes_count=int(processes),
        thread_count=int(threads),
        resize_mode="no",
        skip_reencode=mode != "as it comes",
        disable_all_reencoding=mode == "unchecked",
        min_image_size=int(min_size),
        compute_hash="sha256",
        number_sample_per_shard=max(1, -(-count // (2 * int(processes)))),
        enable_wandb=False,
        retries=0,
    )


if __name__ == "__main__":
    main()
