"""A worker's own Prometheus metrics, beside those of Faust; base units, few and bounded labels."""

from __future__ import annotations

from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from earshot.deadletters import Stage

_STEPS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

SEGMENTS = Counter("earshot_processor_segments", "Records read from the segments topic.")
LABELS = Counter("earshot_processor_labels", "Labels that Kafka has acknowledged.", ["label"])
DEAD_LETTERS = Counter("earshot_processor_dead_letters", "Dead letters that Kafka has acknowledged.", ["stage"])
IN_FLIGHT = Gauge("earshot_processor_in_flight_segments", "Records read whose label or dead letter is not yet written.")
BATCH = Histogram(
    "earshot_processor_batch_segments", "Segments that were processed together.", buckets=(1, 2, 4, 8, 16, 32)
)
SPECTROGRAM_S = Histogram("earshot_processor_spectrogram_seconds", "Time to compute a spectrogram.", buckets=_STEPS_S)
PREDICT_S = Histogram(
    "earshot_processor_predict_seconds", "Time of a request that the model answered.", buckets=_STEPS_S
)
RETRIES = Counter("earshot_processor_predict_retries", "Requests to the model sent again.", ["code"])
END_TO_END_S = Histogram(
    "earshot_processor_end_to_end_seconds",
    "Time from the segment's append to Kafka to the acknowledgement of its label.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
MODEL_READY = Gauge("earshot_processor_model_ready", "1 once the model has answered and fits, 0 before.")

# Counters begin at 0 when the worker does: Prometheus does not see the first step of one that begins at 1.
for _stage in get_args(Stage):
    DEAD_LETTERS.labels(stage=_stage)
