"""How a command is made from a settings class, and how it fails: for every command of `earshot`."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from earshot.logs import configure_logs
from earshot.settings import Settings, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

APP: dict[str, Any] = {
    "pretty_exceptions_enable": False,
    # Plain text: in 80 columns Rich's tables cut the names of variables, which people copy from there.
    "rich_markup_mode": None,
    "context_settings": {
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        # --model_base_path is --model-base-path: TensorFlow's own programs spell theirs so.
        "token_normalize_func": lambda name: name.replace("_", "-"),
    },
}
"""What every `typer.Typer` of the project is made with."""

USAGE_ERROR = 2
"""Exit status where a setting, an argument or the surroundings are at fault and the message says what to do."""

TRY_AGAIN = 75
"""Exit status where the same command may do later what the surroundings kept it from: EX_TEMPFAIL of sysexits.h."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as a shell gives it."""


def fail(message: object, status: int = USAGE_ERROR) -> typer.Exit:
    """Print one clear message to stderr, and return the exception that ends the command with `status`."""
    typer.secho(f"earshot: {message}", fg="red", err=True)
    return typer.Exit(status)


def interrupted(then: str) -> typer.Exit:
    """Print to stderr that Ctrl-C ended the command and what is `then`; returns the exception that ends it."""
    typer.secho(f"earshot: interrupted; {then}", err=True)
    return typer.Exit(INTERRUPTED)


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Fail with what to install where a package is missing that the project's `extra` has."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise fail(
            f"{package} is not installed; this command needs `pip install '.[{extra}]'` in the project's folder"
        ) from None


def logs_as_set() -> None:
    """Log as the environment says, for a command without a settings class; ends it where that says nothing known."""
    try:
        shared = Settings.read()
    except SettingsError as error:
        raise fail(error) from None
    configure_logs(shared.log_level, json=shared.log_json)


def settings_command(settings: type[Settings]) -> Callable[[Callable[[Any], None]], Callable[..., None]]:
    """Turn `run(settings)` into a command with one option for each field of a settings class.

    Options, environment variables, defaults and help texts all come from the class's fields.
    """

    def decorate(run: Callable[[Any], None]) -> Callable[..., None]:
        def command(**options: Any) -> None:
            try:
                values = settings.read(options)
            except SettingsError as error:
                raise fail(error) from None
            configure_logs(values.log_level, json=values.log_json)
            run(values)

        parameters = []
        # A command's own options first, those that every command has last.
        for name, field in sorted(settings.model_fields.items(), key=lambda item: item[0] in Settings.model_fields):
            flag = settings.option(name)
            is_flag = field.annotation in {bool, bool | None}
            option = typer.Option(
                f"{flag}/{settings.opposite(name)}" if is_flag else flag,
                help=f"{field.description} ({settings.variable(name)}, default {_shown(field.get_default())})",
                metavar=None if is_flag else _kind(field.annotation),
                show_default=False,
            )
            # Values stay text until the settings class parses them, so that there is one set of messages.
            kind = bool | None if is_flag else str | None
            parameters.append(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
                )
            )
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__doc__ = run.__doc__
        command.__name__ = run.__name__
        return command

    return decorate


def _kind(annotation: Any) -> str:
    """What an option takes, as help shows it: INTEGER, or the words that it may be."""
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    kinds = {int: "INTEGER", float: "NUMBER", Path: "PATH"}
    return next((kinds[part] for part in (annotation, *get_args(annotation)) if part in kinds), "TEXT")


def _shown(default: object) -> str:
    return "none" if default in (None, "") else str(default)
