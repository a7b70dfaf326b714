"""Settings of the retraining job and of the judging of a model: options of `earshot retrain`, `earshot evaluate`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from earshot.settings import Settings


class DataSettings(Settings):
    """Base of the settings of what hears labelled clips."""

    data: str = Field(
        "",
        description="Labelled clips: the folder of UrbanSound8K, of ESC-50, or one with a folder for each class; "
        "several separated by commas.",
    )
    class_map: Path | None = Field(
        None,
        description="CSV table with the columns label and class: renames labels, leaves out those with an empty class; "
        "label * is all others.",
    )

    @property
    def folders(self) -> tuple[Path, ...]:
        """The data sets' folders."""
        return tuple(Path(part) for part in self.data.split(",") if part)


class RetrainSettings(DataSettings, env_prefix="EARSHOT_TRAINING_"):
    """What to train on, how it is judged, and where the model goes."""

    weights: str = Field(
        "imagenet",
        description="Inception V3 to start from: imagenet (Keras downloads it), its .h5 file, or one of 8 bit weights.",
    )
    evaluate: str = Field(
        "all", description="Folds to judge the recipe on, each unseen by the model that it judges: all, none, or 1,2."
    )
    hold_out: str = Field("", description="Folds that the published model never sees, as 1,2; empty: it sees all.")
    model_dir: Path | None = Field(None, description="Model base path for the new version; none: nothing is published.")
    compact: Path | None = Field(None, description="Write the model as one small file here too.")
    report: Path | None = Field(
        None, description="Write what was measured here, FILE.json for programs and FILE.html for people."
    )
    cache: Path | None = Field(None, description="Folder of the bottleneck cache; none: a folder in ~/.cache/earshot.")
    taps: str = Field("mixed2,mixed3", description="Blocks of Inception V3 whose features the head is trained on.")
    bands: int = Field(3, ge=1, le=8, description="Frequency bands that features are pooled in.")
    batch: int = Field(16, ge=1, le=256, description="Images at once through the network.")
    precision: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of right answers from which on a class is believed; below that score a label is unknown.",
    )
    seed: int = Field(0, ge=0, description="Seed of everything that is random.")


class EvaluateSettings(DataSettings, env_prefix="EARSHOT_EVALUATE_"):
    """Which model is judged on which clips, and where the report goes."""

    model: Path | None = Field(
        None, description="SavedModel to judge: a version's folder, or the base path, whose highest version is taken."
    )
    model_server: str = Field(
        "",
        pattern=r"^$|^(dns:///|ipv4:|ipv6:)?[^\s/]+:\d+$",
        description="Judge the model of this server instead: its gRPC address, as host:port.",
    )
    model_name: str = Field("earshot", min_length=1, description="Name of the model on that server.")
    folds: str = Field("all", description="Folds to judge it on, as 1,2; all: every clip.")
    threshold: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Score below which a worker would label `unknown`, whatever lower threshold the model brings.",
    )
    batch: int = Field(16, ge=1, le=128, description="Spectrograms in one request.")
    report: Path | None = Field(
        None, description="Write what was measured here, FILE.html for people and FILE.json for programs."
    )
