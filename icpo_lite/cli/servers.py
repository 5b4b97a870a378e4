"""The server that a command line names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from icpo_lite.core.endpoint import EndpointOptions

#: Requests that a server is sent at once where nobody says how many.
CONCURRENCY = 16


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
