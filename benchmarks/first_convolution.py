"""What it is worth that OpenVINO's first convolution reads an image as it came, in each precision.

The same network is compiled with what comes before that convolution and without it. Both are asked in turn, in another
order each round; times are medians, ratios medians of the ratios of each round.

Run: python -m benchmarks.first_convolution [--model-base-path DIR] [--rounds N] [--batches 1,16]
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.engines import seconds_in_turn
from serving.catalogue import find_version
from serving.engines.conversion import convert
from serving.engines.first_convolution import read_as_it_came
from serving.engines.int8 import Int8, NotQuantised, quantised
from serving.engines.openvino_core import CORE
from serving.engines.openvino_engine import Precision, compile_network, computes_bf16
from serving.engines.openvino_network import CompiledNetwork
from serving.starter import ensure_starter

if TYPE_CHECKING:
    from serving.engines.conversion import Converted


def both(version_dir: Path, converted: Converted, precision: Precision) -> dict[str, CompiledNetwork]:
    """The version's network as it is converted, and as it is served."""
    compiled = {}
    for name in ("as converted", "as it came"):
        network = CORE.read_model(converted.network)
        if precision is Precision.INT8:
            network = quantised(network, Int8.read(version_dir).calibration)
        if name == "as it came" and not read_as_it_came(network):
            raise SystemExit("this network begins in another way, so nothing is changed about it")
        compiled[name] = CompiledNetwork(partial(compile_network, network, precision))
    return compiled


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-base-path", type=Path, help="another model than the starter")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--batches", default="1,16", help="images at once")
    options = parser.parse_args()
    version_dir = find_version(options.model_base_path or ensure_starter()).folder
    converted = convert(version_dir)
    print(f"{options.rounds} rounds, medians")
    print(f"{'precision':<10} {'batch':>5} {'as converted':>13} {'as it came':>11} {'ratio':>6}   (images/s)")
    for precision in Precision:
        if precision is Precision.BF16 and not computes_bf16():
            continue
        try:
            networks = both(version_dir, converted, precision)
        except NotQuantised as error:
            print(f"{precision:<10} {error}")
            continue
        for batch in map(int, options.batches.split(",")):
            shape = (batch, *converted.images.shape[1:])
            images = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
            runs = {name: partial(network.compute, images) for name, network in networks.items()}
            before, after = seconds_in_turn(runs, options.rounds).values()
            ratio = statistics.median(old / new for old, new in zip(before, after, strict=True))
            speeds = [f"{batch / statistics.median(own):.1f}" for own in (before, after)]
            print(f"{precision:<10} {batch:>5} {speeds[0]:>13} {speeds[1]:>11} {ratio:>6.2f}")


if __name__ == "__main__":
    main()
