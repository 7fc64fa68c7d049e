"""The one exception that means: the input is wrong, not the program."""


class InputError(ValueError):
    """Bad input from a person or a file. Its message is one line: which field, which value, what would be right.

    The command line prints it without a traceback and exits with code 2.
    """
