"""The command itself: its subcommands, its exit codes, and the errors that it prints."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence

import click

from brats3d import __version__
from brats3d.cli.crossval_command import crossval
from brats3d.cli.data_commands import audit, convert, phantom, prepare, split
from brats3d.cli.plan_command import plan
from brats3d.cli.result_commands import compare, report, score, view, where
from brats3d.cli.workflow_commands import evaluate, predict, pretrain, train
from brats3d.errors import ExplainedError
from brats3d.files import cause_of

MAX_LINE = 4000
"""Limit of the characters printed of one line of an error."""


class Commands(click.Group):
    """A group of subcommands, listed in the order in which people use them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the subcommands in the order of this file."""
        return list(self.commands)


@click.group(cls=Commands, context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="brats3d")
@click.option("--verbose", is_flag=True, help="Show the traceback of an error.")
def cli(verbose: bool) -> None:
    """Brain tumour segmentation on BraTS: check the data, train, evaluate, segment.

    Research only; not a medical device.
    """


for subcommand in (
    phantom,
    convert,
    prepare,
    audit,
    split,
    plan,
    pretrain,
    train,
    evaluate,
    crossval,
    predict,
    score,
    compare,
    report,
    view,
    where,
):
    cli.add_command(subcommand)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0 done, 1 bad data, 2 usage error, 130 or 143 stopped by a signal.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verbose = "--verbose" in arguments  # accepted at any position
    try:
        return cli([argument for argument in arguments if argument != "--verbose"], standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print("brats3d: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stopped:  # a signal has stopped a training after saving it
        return stopped.code if isinstance(stopped.code, int) else 1
    except Exception as error:
        if verbose:
            traceback.print_exc()
        cause = cause_of(error)
        print(f"brats3d: error: {_printable(explain(cause))}", file=sys.stderr)
        return cause.exit_code if isinstance(cause, ExplainedError) else 1
    finally:
        _flush_output()


def _flush_output() -> None:
    """Write the rest of the output. Discard it if nobody reads it, as after ``brats3d audit DIR | head -1``."""
    try:
        print(end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def explain(error: BaseException) -> str:
    """Return the message of an expected error; for any other error, its type as well."""
    if isinstance(error, (ValueError, OSError, FloatingPointError)):
        text = str(error).strip()
        # torch puts the traceback of a worker process into the message; the original message follows the last type.
        return re.split(r"^[\w.]*Error: ", text, flags=re.MULTILINE)[-1] if text.startswith("Caught ") else text
    return f"{type(error).__name__}: {error} (--verbose shows where)"


def _printable(text: str) -> str:
    """Escape control characters and cut very long lines: file names may contain anything."""
    lines = re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text).split("\n")
    return "\n".join(line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} ..." for line in lines)
