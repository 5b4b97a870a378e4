"""The one command line: a Click group, a file a command."""


def main() -> None:
    """Entry point of `icpo-lite`."""
