"""What a user types as ``genview COMMAND``: one module for each command, listed in ``table``.

A module has ``HELP`` (a line), ``EXAMPLE`` (commands that can be copied), ``arguments(parser)`` and ``run(arguments)``.
"""
