"""Upload of an export to the Hugging Face hub; private unless asked otherwise."""

from __future__ import annotations

import re
from pathlib import Path

from icpo_lite.core.errors import IcpoError, UsageError
from icpo_lite.core.files import redact

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def check_name(repo: str) -> str:
    """The name of a repository. Raises UsageError on anything else, before any work is done."""
    if not _NAME.fullmatch(repo):
        raise UsageError(f"--push: expected NAME or OWNER/NAME, found {repo!r}")
    return repo


def push(folder: Path, repo: str, *, private: bool = True) -> str:
    """Uploads all of `folder` in one commit; returns the address.

    The token is the hub library's own affair (`hf auth login`, HF_TOKEN) and is never read here.
    Raises IcpoError in one line, tokens taken out, when the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        made = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=made.repo_id, folder_path=folder, commit_message="Upload by icpo-lite"
        )
    except LocalTokenNotFoundError:
        raise IcpoError(
            "--push: expected to be logged in to the hub, found no token; run `hf auth login`, "
            "then the same command again"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise IcpoError(f"--push: the hub refused {repo}: {_why(error)}") from None
    return f"https://huggingface.co/{made.repo_id}"


def _why(error: Exception) -> str:
    """The first line of an error, and what the server itself said, tokens taken out."""
    line = str(error).strip().partition("\n")[0]
    said = " ".join(str(getattr(error, "server_message", None) or "").split())
    return str(redact(line if said in line else f"{line} {said}"))
