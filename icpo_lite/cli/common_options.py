"""Options that several commands have, each said once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from icpo_lite.core.endpoint import EndpointOptions

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Command], Command]

#: Requests that a server is sent at once where nobody says how many.
CONCURRENCY = 16


def device_option() -> Option[Any]:
    """`--device`: where a model runs."""
    return click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
    )


def force_option(command: str) -> Option[Any]:
    """`--force`: write over what another program, or a hand, has written."""
    return click.option(
        "--force", is_flag=True, help=f"Write over a file that `{command}` did not write."
    )


def output_option(what: str, **kind: Any) -> Option[Any]:
    """`-o`: where the result goes. kind: of the path, such as dir_okay or a default."""
    given = {name: kind.pop(name) for name in ("default", "required") if name in kind}
    shown = given.get("default") is not None
    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path, **kind),
        show_default=shown,
        help=what,
        **given,
    )


def port_option(what: str) -> Option[Any]:
    """`--port` of a page that is served here."""
    return click.option("--port", type=click.IntRange(0, 65535), default=None, help=what)


def concurrency_option(what: str) -> Option[Any]:
    """`--concurrency`: how much a server is asked at once."""
    return click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        default=CONCURRENCY,
        show_default=True,
        help=what,
    )


def key_option() -> Option[Any]:
    """`--api-key-env`: the key of the server behind `--endpoint`, never in the command line."""
    return click.option("--api-key-env", help="With --endpoint: environment variable with the key.")


def named_server(
    option: str, base_url: str, model: str, api_key_env: str | None, concurrency: int = CONCURRENCY
) -> EndpointOptions:
    """The server at a URL. option: the one that named it, for errors."""
    from pydantic import ValidationError

    from icpo_lite.core.endpoint import EndpointOptions

    try:
        return EndpointOptions(
            base_url=base_url, model=model, api_key_env=api_key_env, concurrency=concurrency
        )
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise click.UsageError(f"{option}: {message}") from None
