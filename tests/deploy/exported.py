"""Prints the metrics that the real processes export, as Prometheus's text: run as `python -m tests.deploy.exported`.

A process of its own, as Faust registers its metrics once a process.
"""

from __future__ import annotations

import sys

from prometheus_client import REGISTRY, generate_latest

import processors.metrics
import producers.metrics
from processors.app import create_app
from processors.settings import ProcessorSettings
from serving.modelserver.metrics import ServingMetrics

if __name__ == "__main__":
    assert producers.metrics.FRAMES, processors.metrics.SEGMENTS  # their import is what registers them
    create_app(ProcessorSettings.read())
    sys.stdout.write((generate_latest(REGISTRY) + generate_latest(ServingMetrics().registry)).decode())
