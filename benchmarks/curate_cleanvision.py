"""cleanvision on a folder of photos, with the checks that bolid's stages 1, 2 and 6 answer; has its own environment.

python curate_cleanvision.py FOLDER PROCESSES; prints the seconds that the search took, without the imports.
"""

import sys
import time
import warnings

warnings.simplefilter("ignore")

CHECKS = ("dark", "light", "blurry", "odd_aspect_ratio", "odd_size", "exact_duplicates", "near_duplicates")


def main() -> None:
    """Run the search."""
    from cleanvision import Imagelab

    folder, processes = sys.argv[1:]
    begun = time.perf_counter()
    lab = Imagelab(data_path=folder, verbose=False)
    lab.find_issues({check: {} for check in CHECKS}, n_jobs=int(processes), verbose=False)
    print(f"\n{time.perf_counter() - begun}")


if __name__ == "__main__":
    main()
