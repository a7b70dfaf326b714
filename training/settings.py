"""Settings of the retraining job and of the judging of a model: options of `earshot retrain`, `earshot evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from earshot.settings import GRPC_ADDRESS, Settings

if TYPE_CHECKING:
    from serving.network import Architecture


def folders_of(text: str) -> tuple[Path, ...]:
    """Folders that are separated by commas."""
    return tuple(Path(part) for part in text.split(",") if part)


SHRINK = r"^$|^[1-8],[1-8]$"
"""How mel bands and frames that are averaged into one are written."""


def shrink_of(text: str, default: tuple[int, int]) -> tuple[int, int]:
    """Mel bands and frames that are averaged into one, of a text that keeps to `SHRINK`; default: where it is empty."""
    if not text:
        return default
    rows, columns = map(int, text.split(","))
    return rows, columns


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
    background: str = Field(
        "",
        description="Recordings of what is of no class, as speech or a room's own noise, to be labelled unknown: a "
        "folder, or several separated by commas.",
    )

    @property
    def folders(self) -> tuple[Path, ...]:
        """The data sets' folders."""
        return folders_of(self.data)


OF_FINE_TUNING = ("epochs", "patience", "augment", "noise", "learning_rate", "freeze", "bfloat16")
"""Settings that a head on frozen features has no use for."""


class RetrainSettings(DataSettings, env_prefix="EARSHOT_TRAINING_"):
    """What to train on, how it is judged, and where the model goes."""

    image_dir: Path | None = Field(
        None,
        description="Spectrograms as `python -m training.spectrograms` writes them, a folder for each class; with or "
        "without --data.",
    )
    weights: str = Field(
        "imagenet",
        description="Inception V3 to start from: imagenet (Keras downloads it), its .h5 file, starter (that of the "
        "starter model), or a file of 8 bit weights, as `python -m training.distil` writes; "
        "several that were taught alike, joined by +, are networks side by side, whose answers are averaged.",
    )
    calibrate_by: str = Field(
        "",
        description="Weights that were taught like --weights but without some of the recordings, several separated by "
        "commas: what they have not heard chooses and calibrates a head, or calibrates fine-tuning, by networks that "
        "begin with each. As many joined by + as in --weights. Empty: what --weights has not heard.",
    )
    model_dir: Path | None = Field(
        None, description="Folder that keeps what Keras downloads of Inception V3; none: Keras's own, ~/.keras."
    )
    generated_background: int = Field(
        60,
        ge=0,
        le=10_000,
        description="Noises of 30 s to make and to learn as unknown too, beside --background: hiss, gusts, hum of the "
        "mains and near silence; 0: none, and the model may call noise one of its classes.",
    )
    evaluate: str = Field(
        "all",
        description="Folds to judge the recipe on, each unseen by the model that it judges: all but those of "
        "--hold-out, none, or 1,2.",
    )
    protocol: Literal["folds", "random"] = Field(
        "folds",
        description="random: also judge a random split of the clips, as the tutorial did, beside the whole folds.",
    )
    hold_out: str = Field("", description="Folds that the published model never sees, as 1,2; empty: it sees all.")
    model_base_path: Path | None = Field(
        None, description="Folder that gets the model as its next numeric version; none: nothing is published."
    )
    compact: Path | None = Field(None, description="Write the model as one small file here too.")
    report: Path | None = Field(
        None, description="Write what was measured here, FILE.json for programs and FILE.html for people."
    )
    run_dir: Path | None = Field(
        None,
        description="Folder that gets a folder for this run, named by its time: report, settings, versions, class "
        "names and learning curves.",
    )
    output_labels: Path | None = Field(None, description="Write the class names here, one a line.")
    summaries_dir: Path | None = Field(None, description="Write summaries for TensorBoard below this folder.")
    cache: Path | None = Field(
        None,
        description="Folder for what can be computed again: bottlenecks, noises (1 MB each), unfinished runs; none: "
        "one in ~/.cache/earshot.",
    )
    bottleneck_dir: Path | None = Field(
        None, description="Folder for bottlenecks; none: the folder bottlenecks of the cache."
    )
    method: Literal["bottlenecks", "finetune"] = Field(
        "bottlenecks",
        description="Train a head on the network's features, which takes minutes on a CPU, or the whole network or its "
        "upper blocks (--freeze), which takes minutes to hours there.",
    )
    taps: str = Field(
        "",
        description="Blocks of Inception V3 whose features the head is trained on; empty: the one that its weights "
        "were taught for sound with; of any others mixed2,mixed3, or mixed7 for fine-tuning.",
    )
    bands: int = Field(
        0,
        ge=0,
        le=8,
        description="Frequency bands that features are pooled in; 0: as the weights were taught, or 3, or 2 for "
        "fine-tuning.",
    )
    shrink: str = Field(
        "",
        pattern=SHRINK,
        description="Mel bands and frames of the image that are averaged into one, as 2,2; empty: as the weights were "
        "taught, or 1,1, or 1,2 for fine-tuning.",
    )
    epochs: int = Field(
        0, ge=0, le=1000, description="Epochs of fine-tuning; 0: 30, or 4 of weights that were taught for sound."
    )
    patience: int = Field(
        0,
        ge=0,
        le=1000,
        description="Epochs of fine-tuning without a lower loss on a part that is not learnt from, after which it ends "
        "there; all recordings are then learnt from for as many epochs as were best. 0: it takes all epochs.",
    )
    augment: bool | None = Field(
        None,
        description="Have fine-tuning hear clips moved in time and pitch, with stripes silenced, and mixed; with "
        "--no-augment as they are. None: as they are by weights that were taught for sound, else the former.",
    )
    noise: float = Field(
        0.0,
        ge=0,
        le=1,
        description="How often fine-tuning has another sound beside a clip, 5 to 30 dB below it: of the background, or "
        "of any clip where there is none.",
    )
    how_many_training_steps: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="Most steps of the head's solver for each strength of regularisation, 0: 1000; batches of "
        "fine-tuning, to a whole epoch, instead of --epochs.",
    )
    learning_rate: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Highest learning rate of fine-tuning; 0: 0.0004, or 0.00003 of weights that were taught for "
        "sound.",
    )
    freeze: str = Field(
        "",
        pattern=r"^$|^mixed(\d|10)$",
        description="Block of Inception V3 up to which all stay as they are in fine-tuning, that one too, as mixed4: "
        "those above learn alone, which is quicker; empty: all learn.",
    )
    bfloat16: bool = Field(
        False, description="Have fine-tuning compute in bfloat16: faster where CPU or GPU has it, a little less exact."
    )
    balance: bool = Field(
        False,
        description="Have each class count alike, in the loss and in what is chosen, however many clips it has; by "
        "default each clip does.",
    )
    batch: int = Field(16, ge=1, le=256, description="Images at once through the network.")
    precision: float = Field(
        0.5,
        ge=0,
        le=1,
        description="A class is believed from the lowest score from which on at least this share of its answers is "
        "right; below it a label is unknown.",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of everything that is random.")

    @property
    def folders(self) -> tuple[Path, ...]:
        """The data sets' folders."""
        return (*super().folders, *([self.image_dir] if self.image_dir else ()))

    @property
    def publishes(self) -> bool:
        """Whether a model comes of it, beside figures."""
        return bool(self.model_base_path or self.compact)

    @property
    def calibrating(self) -> tuple[str, ...]:
        """Names of the weights that calibrate."""
        return tuple(name for name in self.calibrate_by.split(",") if name)

    def architecture(self, input_range: tuple[float, float], taught: Architecture | None = None) -> Architecture:
        """The network that these settings ask for, by default the one that the weights were taught in.

        Raises NetworkError.
        """
        from serving.network import Architecture

        if taught:
            default = taught
        elif self.method == "bottlenecks":
            default = Architecture(("mixed2", "mixed3"), 3)
        else:
            default = Architecture(("mixed7",), 2, shrink=(1, 2))
        taps = tuple(self.taps.split(",")) if self.taps else default.taps
        bands, shrink = self.bands or default.bands, shrink_of(self.shrink, default.shrink)
        return Architecture(taps, bands, input_range, shrink, default.inceptions)


class EvaluateSettings(DataSettings, env_prefix="EARSHOT_EVALUATE_"):
    """Which model is judged on which clips, and where the report goes."""

    model: Path | None = Field(
        None, description="SavedModel to judge: a version's folder, or the base path, whose highest version is taken."
    )
    model_server: str = Field(
        "",
        pattern=f"^$|^{GRPC_ADDRESS}$",
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
