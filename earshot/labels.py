"""A label: what was heard in one segment, as JSON on the `labels` topic. Its JSON Schema is `label.schema.json`."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from earshot.segments import Record, Trigger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from earshot.segments import Segment

LABEL_TYPE = "earshot.label.v1"
UNKNOWN = "unknown"
"""Label of a sound that is of no class; a model may have it as a class of its own, learnt from background sounds."""
SCHEMA_PATH = Path(__file__).with_name("label.schema.json")

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "earshot/labels")


class InvalidLabel(ValueError):
    """A record does not keep to the contract of the `labels` topic; the message says in what."""


class Label(BaseModel):
    """What was heard in one segment."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    label_id: str = Field(description="UUID made from segment id, model name and version: the same if made again.")
    segment_id: str = Field(description="Id of the segment on the segments topic.")
    device_id: str = Field(description="Name of the microphone host.")
    start: AwareDatetime = Field(description="When the segment's first sample was heard.")
    duration_s: float = Field(gt=0, description="Seconds of sound.")
    label: str = Field(description="The most likely class; `unknown` where that is background, or its score too low.")
    score: float = Field(ge=0, le=1, description="Score of the most likely class.")
    scores: dict[str, float] = Field(description="The most likely classes and their scores, the highest first.")
    trigger: Trigger = Field(description="What opened the segment.")
    level_dbfs: float = Field(description="Decibels relative to full scale, root mean square over the segment.")
    model_name: str = Field(description="Name of the model that was asked.")
    model_version: int = Field(ge=1, description="Version of the model that answered.")

    @classmethod
    def of(
        cls,
        segment: Segment,
        scores: Mapping[str, float],
        *,
        model_name: str,
        model_version: int,
        top_k: int = 5,
        threshold: float = 0.0,
        thresholds: Mapping[str, float] | None = None,
    ) -> Self:
        """The label of `segment` from every class's score.

        It is `unknown` where the best score is below `threshold`, or below its own class's in `thresholds`.
        """
        ranked = sorted(scores.items(), key=lambda item: item[1], reverse=True)[:top_k]
        best, score = ranked[0]
        least = max(threshold, (thresholds or {}).get(best, 0.0))
        return cls(
            label_id=label_id(segment.segment_id, model_name, model_version),
            segment_id=segment.segment_id,
            device_id=segment.device_id,
            start=segment.start,
            duration_s=segment.duration_s,
            label=best if score >= least else UNKNOWN,
            score=round(min(score, 1.0), 6),
            scores={name: round(value, 6) for name, value in ranked},
            trigger=segment.trigger,
            level_dbfs=round(segment.level_dbfs, 2),
            model_name=model_name,
            model_version=model_version,
        )

    def to_record(self) -> Record:
        """The record for the `labels` topic; the device is the key."""
        headers = {
            "ce_specversion": "1.0",
            "ce_id": self.label_id,
            "ce_source": f"/earshot/models/{self.model_name}/{self.model_version}",
            "ce_type": LABEL_TYPE,
            "content-type": "application/json",
        }
        return Record(
            self.device_id.encode(),
            self.model_dump_json().encode(),
            [(name, text.encode()) for name, text in headers.items()],
        )

    @classmethod
    def from_record(cls, value: bytes | None) -> Self:
        """The label of a record's value; raises InvalidLabel where it breaks the contract."""
        try:
            return cls.model_validate_json(value or b"")
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, fault['loc']))} {fault['msg']}".strip() for fault in error.errors()]
            raise InvalidLabel("; ".join(faults)) from error


def label_id(segment_id: str, model_name: str, model_version: int) -> str:
    """Id of the label that a model version gives a segment; the same each time, so a consumer can drop repeats."""
    return str(uuid.uuid5(_NAMESPACE, f"{segment_id}/{model_name}/{model_version}"))


def label_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a label; `python -m earshot.labels` writes it to `label.schema.json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Label.model_json_schema()}


if __name__ == "__main__":
    SCHEMA_PATH.write_text(json.dumps(label_schema(), indent=2) + "\n")
