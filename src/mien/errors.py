"""The exception for errors that the user can fix."""


class MienError(Exception):
    """An error that the user can fix; the message states what was passed, what was expected and how to fix it."""
