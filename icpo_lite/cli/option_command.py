"""Commands whose options stand for keys: an error names the option that was typed."""

from __future__ import annotations

import re
from typing import Any

import click

from icpo_lite.core.errors import IcpoError

#: Key of a recipe or of a settings object → the options that may stand for it, the likeliest first.
_OPTIONS = {
    "model_name_or_path": ("--model",),
    "dataset_name": ("--data", "--dataset"),
    "max_completion_length": ("--max-new-tokens",),
    "columns": ("--column",),
    "base_url": ("--endpoint", "--base-url", "--user-base-url"),
    "model": ("--endpoint-model", "--user-model", "--model"),
    "api_key_env": ("--api-key-env", "--user-api-key-env"),
    "output_dir": ("--output",),
}


class OptionCommand(click.Command):
    """A command without a recipe on its line: what is said of a key is said of its option."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except IcpoError as error:
            error.args = (self.in_options(str(error), ctx.params), *error.args[1:])
            raise

    def in_options(self, message: str, given: dict[str, Any]) -> str:
        """The message with the names of options where it has keys that no option of ours is."""
        options = self._options(given)

        def named(key: str) -> str | None:
            spelled = f"--{key.replace('_', '-')}"
            return next((o for o in (*_OPTIONS.get(key, ()), spelled) if o in options), None)

        message = re.sub(r"^[A-Z]\w+(?=: [a-z_]+: )[^:]*: ", "", message)
        if (found := re.match(r"([a-z_]+): ", message)) and (option := named(found[1])):
            message = f"{option}: {message[found.end() :]}"
        message = re.sub(r"endpoint\.([a-z_]+)", lambda match: named(match[1]) or match[0], message)
        if column := named("columns"):
            message = message.replace("`columns`", f"{column} OURS=THEIRS")
        if bad_row := named("on_bad_row"):
            return message.replace("on_bad_row: skip", f"{bad_row} skip")
        # Without such an option the row itself is what can be changed.
        return message.replace(" or set on_bad_row: skip", "")

    def _options(self, given: dict[str, Any]) -> list[str]:
        """All long options, without those of a server that was not asked for."""
        declared = [p for p in self.params if isinstance(p, click.Option)]
        user_server = given.get("user") == "endpoint" and not given.get("endpoint_url")
        names = [max(p.opts, key=len) for p in declared]
        if user_server:  # `eval` may name two servers
            return [
                name for name in names if name not in ("--endpoint", "--model", "--api-key-env")
            ]
        return [name for name in names if not name.startswith("--user-")]
