"""Which models a server offers: TensorFlow Serving's ModelServerConfig, read and checked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import text_format

from earshot.tfserving import messages
from serving.layout import FILE_SCHEME
from serving.modelserver.version_policy import VersionPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message
    from tensorflow_serving.config import model_server_config_pb2

PLATFORM = "tensorflow"


class InvalidConfig(ValueError):
    """A configuration cannot be followed; the message says where and why."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model: where its versions are, which are served, and what they are called."""

    name: str
    base_path: Path
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = field(default_factory=dict)
    """Version that each label (`stable`, `canary`) stands for."""


def read_text_proto(path: Path, message: Message) -> None:
    """Fill `message` from a file in protobuf's text format; raises InvalidConfig."""
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), message)
    except OSError as error:
        raise InvalidConfig(f"cannot read {path} ({error.strerror})") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{path} is not a {message.DESCRIPTOR.name} in protobuf's text format: {error}") from error


def read_models(path: Path, *, may_be_empty: bool = False) -> list[ModelConfig]:
    """The models of a file that `--model-config-file` names; raises InvalidConfig.

    may_be_empty: whether a file without a list has no models, as that of a server that gets them over gRPC; where it
    has named some, such a file is being written, most likely.
    """
    config = messages.ModelServerConfig()
    read_text_proto(path, config)
    if config.WhichOneof("config") is None and not may_be_empty:
        raise InvalidConfig(f"{path} has no model_config_list")
    try:
        return models_of(config)
    except InvalidConfig as error:
        raise InvalidConfig(f"{path}: {error}") from None


def models_of(config: model_server_config_pb2.ModelServerConfig) -> list[ModelConfig]:
    """The models of a configuration; raises InvalidConfig."""
    if config.WhichOneof("config") == "custom_model_config":
        raise InvalidConfig("a custom_model_config is not supported; list the models in model_config_list")
    models = [_model(each) for each in config.model_config_list.config]
    names = Counter(model.name for model in models)
    if repeated := next((name for name, count in names.items() if count > 1), None):
        raise InvalidConfig(f"Illegal to list model {repeated} multiple times in config list")
    return models


def _model(config: model_server_config_pb2.ModelConfig) -> ModelConfig:
    if not config.name:
        raise InvalidConfig("a model has no name")
    if config.model_type and config.model_platform:
        raise InvalidConfig(f"Illegal setting both model_type(deprecated) and model_platform, for model {config.name}")
    tensorflow = config.model_platform == PLATFORM or config.model_type == messages.ModelType["TENSORFLOW"]
    if not tensorflow:
        raise InvalidConfig(f'model {config.name} needs model_platform: "{PLATFORM}", the only one there is')
    path = Path(config.base_path.removeprefix(FILE_SCHEME))
    if not path.is_absolute() or "\0" in config.base_path:
        raise InvalidConfig(
            f"Expected model {config.name} to have an absolute path or URI; got base_path()={config.base_path}"
        )
    for label in config.version_labels:
        if not label:
            raise InvalidConfig(f"model {config.name} has a version label without a name")
    return ModelConfig(config.name, path, _policy(config), dict(config.version_labels))


def _policy(config: model_server_config_pb2.ModelConfig) -> VersionPolicy:
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy(newest=None)
    if choice == "specific":
        if not policy.specific.versions:
            raise InvalidConfig(f"model {config.name} names no version in its specific policy")
        return VersionPolicy(specific=tuple(policy.specific.versions))
    return VersionPolicy(newest=policy.latest.num_versions or 1)
