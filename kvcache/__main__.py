"""``python -m kvcache`` is the command ``kvcache``, and this is where both start.

Here lives what must happen before anything slow is imported. Never here: a command (``cli``).
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command that ``sys.argv`` names, and exit with its code. A node first sees to its allocator."""
    if sys.argv[1:2] == ["node"]:
        from kvcache.memory import restart_with_c_allocator

        restart_with_c_allocator()
    from kvcache.cli import main as run

    run()


if __name__ == "__main__":
    main()
