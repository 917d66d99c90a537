"""``python -m kvcache`` is the command ``kvcache``."""

from kvcache.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
