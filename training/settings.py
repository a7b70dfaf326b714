"""Settings of the retraining job: variables `EARSHOT_TRAINING_*`, options of `earshot retrain`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from earshot.settings import Settings


class RetrainSettings(Settings, env_prefix="EARSHOT_TRAINING_"):
    """What to train on, how it is judged, and where the model goes."""

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
    report: Path | None = Field(None, description="Write what was measured here, as JSON, with every clip's answer.")
    cache: Path | None = Field(None, description="Folder of the bottleneck cache; none: a folder in ~/.cache/earshot.")
    taps: str = Field("mixed2,mixed3", description="Blocks of Inception V3 whose features the head is trained on.")
    bands: int = Field(3, ge=1, le=8, description="Frequency bands that features are pooled in.")
    batch: int = Field(16, ge=1, le=256, description="Images at once through the network.")
    seed: int = Field(0, ge=0, description="Seed of everything that is random.")

    @property
    def folders(self) -> tuple[Path, ...]:
        """The data sets' folders."""
        return tuple(Path(part) for part in self.data.split(",") if part)
