"""``python -m kvcache`` is the command ``kvcache``, and this is where both start.

Here lives what must happen before anything slow is imported. Never here: a command (``cli``).
"""

import sys

__all__ = ["main"]

_INTERRUPTED = 130
"""What a shell shows for a program that Ctrl-C has ended."""


def main() -> None:
    """Run the command that ``sys.argv`` names, and exit with its code. A node first sees to its allocator."""
    try:
        if sys.argv[1:2] == ["node"]:
            from kvcache.memory import restart_with_c_allocator

            restart_with_c_allocator()
        from kvcache.cli import main as run

        run()
    except KeyboardInterrupt:  # while it still imports: from then on a command answers for itself
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
