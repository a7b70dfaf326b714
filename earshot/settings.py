"""Settings: one pydantic class a component, from which its environment variables, its options and its docs come.

A field of `AgentSettings` named `gate` is the variable `EARSHOT_AGENT_GATE` and the option `--gate`; an option wins
over the variable, the variable over the default. Settings cannot be changed once read.
"""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_settings import PydanticBaseSettingsSource

PREFIX = "EARSHOT_"

GRPC_ADDRESS = r"(dns:///|ipv4:|ipv6:)?[^\s/]+:\d+"
"""Pattern of a gRPC server's address: host:port, or one of gRPC's own kinds; a URL is none."""


class SettingsError(ValueError):
    """A setting is unknown or its value is out of bounds; the message names the variable and what it takes."""


def shared(name: str, default: Any, **field: Any) -> Any:
    """A field whose variable is `EARSHOT_NAME` for every component, not `EARSHOT_COMPONENT_NAME`."""
    return Field(default, validation_alias=AliasChoices(name, f"{PREFIX}{name.upper()}"), **field)


def renamed(name: str, variable: str, default: Any, **field: Any) -> Any:
    """A field whose variable is `variable`: its own name would make one that is too long to read."""
    return Field(default, validation_alias=AliasChoices(name, variable), **field)


class Settings(BaseSettings):
    """Base of every component's settings: what all of them share."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True, populate_by_name=True)

    log_level: Literal["debug", "info", "warning", "error"] = shared(
        "log_level", "info", description="Least severity that is logged."
    )
    log_json: bool = shared("log_json", default=False, description="Log one JSON object a line.")

    @classmethod
    def settings_customise_sources(  # pydantic-settings asks for all of these arguments
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options, then Earshot's own variables: a machine's LOG_LEVEL or JSON is somebody else's."""
        if isinstance(env_settings, EnvSettingsSource):
            own = {name: value for name, value in env_settings.env_vars.items() if name.upper().startswith(PREFIX)}
            env_settings.env_vars = own
        return init_settings, env_settings

    @classmethod
    def variable(cls, field: str) -> str:
        """Name of the environment variable that sets `field`."""
        alias = cls.model_fields[field].validation_alias
        if isinstance(alias, AliasChoices):
            return str(alias.choices[-1])
        return f"{cls.model_config['env_prefix']}{field}".upper()

    @classmethod
    def option(cls, field: str) -> str:
        """Name of the command line's option that sets `field`."""
        alias = cls.model_fields[field].validation_alias
        name = str(alias.choices[0]) if isinstance(alias, AliasChoices) else field
        return f"--{name.replace('_', '-')}"

    @classmethod
    def opposite(cls, field: str) -> str:
        """Name of the option that says no to `field`, a yes or no."""
        return f"--no-{cls.option(field).removeprefix('--')}"

    @classmethod
    def giving(cls, field: str, value: object) -> str:
        """Name of the option that gives `field` this value."""
        return cls.opposite(field) if value is False else cls.option(field)

    @classmethod
    def read(cls, options: Mapping[str, Any] | None = None) -> Self:
        """Settings from `options` (those that are not None), then the environment, then the defaults.

        Raises SettingsError, with one line for each setting at fault.
        """
        given = {name: value for name, value in (options or {}).items() if value is not None}
        problems = cls._unknown_variables()
        try:
            settings = cls(**given)
        except ValidationError as error:
            problems += [cls._explain(dict(problem)) for problem in error.errors()]
            raise SettingsError("\n".join(problems)) from None
        if problems:
            raise SettingsError("\n".join(problems))
        return settings

    @classmethod
    def _unknown_variables(cls) -> list[str]:
        """Variables with the component's prefix that set nothing, and misspelt ones of those that all components share.

        Any other variable may be another component's, so it is let be.
        """
        known = [cls.variable(field) for field in cls.model_fields]
        others = sorted(name for name in os.environ if name.upper() not in known)
        prefix = cls.model_config["env_prefix"].upper()
        own = [name for name in others if prefix and name.upper().startswith(prefix)]
        shared_by_all = [name for name in known if not prefix or not name.startswith(prefix)]
        misspelt = [name for name in others if name not in own and _resembles(name.upper(), shared_by_all)]
        return [f"{name} is not a setting{_nearest(name.upper(), known, prefix)}" for name in own + misspelt]

    @classmethod
    def _explain(cls, problem: dict[str, Any]) -> str:
        place = str(problem["loc"][0]) if problem["loc"] else ""
        for field in cls.model_fields:
            if place.upper() in {field.upper(), cls.variable(field), cls.option(field)[2:].replace("-", "_").upper()}:
                # A pattern says less to a user than what the setting is.
                pattern = problem["type"] == "string_pattern_mismatch"
                takes = cls.model_fields[field].description if pattern else problem["msg"]
                return f"{cls.variable(field)} ({cls.option(field)}) cannot be {problem['input']!r}: {takes}"
        return f"{place} is not a setting{_nearest(place, list(cls.model_fields))}" if place else str(problem["msg"])


class KafkaSettings(Settings):
    """Base of the settings of what talks to Kafka."""

    bootstrap_servers: str = shared(
        "bootstrap_servers",
        "localhost:9092",
        pattern=r"^[^\s,:]+:\d+(,[^\s,:]+:\d+)*$",
        description="Kafka brokers to start from, as host:port, several separated by commas.",
    )


def _nearest(name: str, known: list[str], prefix: str = "") -> str:
    """A question after the one of `known` that `name` may have meant; prefixes, alike in all, do not count."""
    ends = {setting.removeprefix(prefix).removeprefix(PREFIX): setting for setting in known}
    close = difflib.get_close_matches(name.removeprefix(prefix).removeprefix(PREFIX), ends, n=1, cutoff=0.45)
    return f"; did you mean {ends[close[0]]}?" if close else ""


def _resembles(name: str, known: list[str]) -> bool:
    return name.startswith(PREFIX) and bool(difflib.get_close_matches(name, known, n=1, cutoff=0.9))


def settings_table(cls: type[Settings]) -> list[tuple[str, str, str, str]]:
    """A row for each setting of `cls`: variable, option, default, description. The docs' tables are made from it.

    The option of what is done by default is the one that leaves it undone.
    """
    return [
        (
            cls.variable(name),
            cls.giving(name, field.default is not True),
            _shown(field.default),
            field.description or "",
        )
        for name, field in cls.model_fields.items()
    ]


def _shown(default: object) -> str:
    return "" if default is None else str(default)
