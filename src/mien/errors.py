"""The one exception that means: the user can mend this."""


class MienError(Exception):
    """A user's mistake. The message says what was passed, what was expected and how to mend it."""
