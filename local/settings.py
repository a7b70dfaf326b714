"""Settings of the demo and of replaying; what they run is imported when they run."""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, BaseModel, Field

from earshot.settings import KafkaSettings, Settings

SAMPLES = Path(__file__).parent.parent / "samples"


class Replayed(BaseModel):
    """What simulated devices play."""

    input: Path | None = Field(
        None,
        description="Folder of recordings (WAV, FLAC, OGG, MP3 at any rate; a folder per class, or UrbanSound8K's "
        "names, gives the truth); none: the project's samples.",
    )
    devices: int = Field(
        3,
        ge=1,
        le=1000,
        description="Simulated devices that share the recordings out; where there are fewer, some play one again.",
    )
    speed: float = Field(1.0, ge=0, le=10_000, description="Times real time; 0 is as fast as it goes.")

    @property
    def folder(self) -> Path:
        """Where the recordings are."""
        return self.input or SAMPLES


class DemoSettings(Settings, Replayed, env_prefix="EARSHOT_DEMO_"):
    """What the demo plays, and how."""

    mic: bool = Field(default=False, description="Listen to this machine's default microphone until Ctrl-C.")
    json_path: Path | None = Field(
        None, validation_alias=AliasChoices("json", "EARSHOT_DEMO_JSON"), description="File for the summary as JSON."
    )
    model: Path | None = Field(None, description="Folder of the model's numeric versions; none: the starter model.")


class ReplaySettings(KafkaSettings, Replayed, env_prefix="EARSHOT_REPLAY_"):
    """What to replay, and to which Kafka."""
