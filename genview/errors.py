"""The one exception a user is meant to read."""


class GenviewError(Exception):
    """Something the user can mend: the message says what is wrong, where (file, row or key), and what to do.

    Command lines print the message alone, without a traceback, and exit with status 1.
    """
