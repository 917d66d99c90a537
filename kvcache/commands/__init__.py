"""The commands of the command line, one module for each group of them.

Here lives what a person or a script sees: options, tables, lines, exit codes. Never here: how anything is done; that is
the client's, the node's and the control plane's. ``kvcache get`` must start fast, so what one command alone needs is
imported where it begins.
"""

__all__: list[str] = []
