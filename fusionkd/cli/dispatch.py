"""The console command ``fusionkd``, and what becomes of errors."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from jsonargparse import ArgumentError

from fusionkd.errors import UserError

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("fusionkd.cli.training:train", "train a model: fit, validate, test or predict"),
    "simulate": ("fusionkd.simulation.command:main", "write a simulated world in nuScenes' format"),
    "compare-worlds": (
        "fusionkd.simulation.comparison_command:main",
        "print a simulated world beside real frames",
    ),
    "visualize": ("fusionkd.visualize.command:main", "draw points, predictions and annotations of a frame"),
    "streaming": ("fusionkd.realtime.streaming_command:main", "accuracy when the world goes on while a model computes"),
    "export": ("fusionkd.export.command:main", "write a model as one file for ONNX Runtime or TensorRT"),
    "check-deadline": ("fusionkd.realtime.command:main", "measure a model and hold it against a deadline contract"),
    "cascade": ("fusionkd.cli.cascade:main", "train stages one after the other, each teaching the next"),
    "train-teachers": ("fusionkd.cli.teachers:main", "train the shipped teachers again"),
    "cache-teachers": ("fusionkd.cli.cache_teachers:main", "keep teachers' answers about all training frames"),
    "fit-deadline": (
        "fusionkd.realtime.sizing_command:main",
        "measure untrained students of many sizes on a device",
    ),
}
"""Subcommands of ``fusionkd``: the function that does the work, and a line of help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The console command ``fusionkd``.

    Args:
        arguments: Without the program's name; None takes those of the process.

    Returns:
        The exit status.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print("usage: fusionkd COMMAND ...\n\ncommands:")
        for name, (_, text) in COMMANDS.items():
            print(f"  {name:<16}{text}")
        return 0
    name, rest = given[0], given[1:]
    if name not in COMMANDS:
        print(f"error: there is no command '{name}'; there are: {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    module, function = COMMANDS[name][0].split(":")
    # Imported when it is asked for: a picture needs no Lightning, a training no Open3D.
    return guarded(getattr(import_module(module), function), rest)


def guarded(command: Callable[[Sequence[str]], object], arguments: Sequence[str]) -> int:
    """Run a command; a user's mistake becomes one message and exit status 2, without a traceback."""
    try:
        result = command(arguments)
    except Exception as error:
        message = message_for_user(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return 2
    return result if isinstance(result, int) else 0


def message_for_user(error: BaseException) -> str | None:
    """What to tell about an error that the user can mend; None for any other error.

    A ``UserError`` may come wrapped: by a loader's process in a text with its traceback, by jsonargparse in the error
    of the option whose object was being built.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause).rsplit("UserError: ", maxsplit=1)[-1].strip()
        cause = cause.__cause__ or cause.__context__
    return str(error) if isinstance(error, ArgumentError) else None
