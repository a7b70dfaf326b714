"""What the memory of training a head comes to for a data set of any size, on features that are drawn at random.

The solver is stopped after its first step, which takes as much memory as all others. Noises are left out. Beside it the
process of `earshot retrain` has TensorFlow and Keras, and the images of a few clips at a time: what a real run had is
`peak_memory_mb` of its report.

Run: python -m benchmarks.memory [--clips N] [--features N,N]
"""

from __future__ import annotations

import argparse
import resource

import numpy as np

from training.heads.head import OutOfFold, cross_validated, train_head

CLASSES = 10
LEARNT, KEPT = 3, 4
"""Windows of a clip of 4 s, as most of UrbanSound8K are, that a head learns from, and of which features are kept."""


def peak_mb() -> float:
    """The most memory (RSS) that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Print megabytes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, default=8732, help="UrbanSound8K has 8,732")
    parser.add_argument("--features", default="1728,4608", help="of each tapped block; those of the default recipe")
    options = parser.parse_args()
    widths = [int(width) for width in options.features.split(",")]
    rng = np.random.default_rng(0)
    before = peak_mb()
    kept = [rng.random((KEPT, sum(widths)), dtype=np.float32).astype(np.float16) for _ in range(options.clips)]
    targets = np.repeat(rng.integers(0, CLASSES, options.clips), LEARNT)
    groups = [f"recording {clip // 6}" for clip in range(options.clips) for _ in range(LEARNT)]
    weights = np.ones(len(targets))

    def rows() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        return np.concatenate([each[:LEARNT] for each in kept], dtype=np.float32)

    said = cross_validated(rows(), targets, weights, groups, CLASSES, steps=1, widths=widths)
    train_head(rows(), targets, weights, CLASSES, OutOfFold.together([said]), steps=1, widths=widths)
    print(f"{options.clips} clips of {sum(widths)} features: {peak_mb() - before:.0f} MB more than before")


if __name__ == "__main__":
    main()
