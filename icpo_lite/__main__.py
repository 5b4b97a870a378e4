"""`python -m icpo_lite` is the same program as `icpo-lite`."""

from icpo_lite.cli import main

if __name__ == "__main__":
    main()
