"""The one error that a user's mistake raises."""


class UserError(ValueError):
    """A mistake that the user can mend: the message names the thing, what was found and what to do.

    The command-line tools print it without a traceback and exit with status 2.
    """
