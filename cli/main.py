"""The command ``spinesim``: finds the command that was called, and says refusals and warnings in one line each."""

from __future__ import annotations

import difflib
import errno
import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from spinesim.anatomy.memory import share_heap
from spinesim.errors import ScanWarning, SpinesimError, first_refusal

if TYPE_CHECKING:
    from pydantic import ValidationError

COMMANDS = {
    "deform": "Deform a healthy scan, or the built-in phantom, into scoliosis.",
    "simulate": "Simulate fractures, curves and more from a configuration.",
    "phantom": "Make the built-in healthy CT, with labels of all its structures.",
    "measure": "Measure curves, angles, rotations, discs and heights on a label map.",
    "shape": "Fit statistical shape models of the spine; sample, show and score them.",
    "train": "Train the networks that paint what a warp cannot know.",
}
"""Name of each command, which is also its file and its function, and what the overview says of it."""

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""


class Refusal(click.ClickException):
    """A sentence on stderr and exit code 2, as for wrong options."""

    exit_code = 2


class LazyGroup(click.Group):
    """A group that imports a command only when it is called: the overview and a typing error answer at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f".{name}", __package__), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Offer the nearest command where there is none of that name."""
        near = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if args[0] not in COMMANDS and near and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the command; without any word at all, help is shown."""
        if not args:
            return super().parse_args(ctx, args)
        with _refusals(ctx):
            return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what the user can mend ends in one sentence."""
        with _refusals(ctx), _warnings():
            return super().invoke(ctx)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="spinesim", message="%(prog)s %(version)s")
def main() -> None:
    """Deform a healthy spine CT into what a patient could have, and measure what came of it."""
    share_heap()


@contextmanager
def _refusals(ctx: click.Context) -> Iterator[None]:
    """Turn what the user can mend into a sentence and exit code 2, and Ctrl-C into exit code 130."""
    try:
        yield
    except SpinesimError as error:
        raise Refusal(str(error)) from error
    except click.UsageError as error:
        raise Refusal(_usage_sentence(error, ctx)) from error
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        ctx.exit(INTERRUPTED)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        raise Refusal(_system_sentence(error)) from error
    except ValueError as error:
        from pydantic import ValidationError

        if not isinstance(error, ValidationError):
            raise
        raise Refusal(_validation_sentence(error, _option_names(ctx))) from error


@contextmanager
def _warnings() -> Iterator[None]:
    """Say each doubt about the data once, as a line on stderr; other warnings go their own way."""
    with warnings.catch_warnings():
        show, said = warnings.showwarning, set()

        def tell(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, ScanWarning):
                show(message, category, *place, **more)
            elif str(message) not in said:
                said.add(str(message))
                click.echo(f"Warning: {message}", err=True)

        warnings.simplefilter("always", ScanWarning)
        warnings.showwarning = tell
        yield


def _usage_sentence(error: click.UsageError, ctx: click.Context) -> str:
    """What click refuses, and where the options are explained unless it names the one that was meant."""
    said = " ".join(error.format_message().split())
    if "Did you mean" in said:
        return said
    command = error.ctx.command_path if error.ctx else f"{ctx.command_path} {ctx.invoked_subcommand or ''}".rstrip()
    return f"{said.rstrip('.')}; see '{command} --help'"


def _system_sentence(error: OSError) -> str:
    """What the system refuses, and where."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}expected to read and write there, got {(error.strerror or str(error)).lower()}"


def _option_names(ctx: click.Context) -> dict[str, str]:
    """Option of the command that was called, by the name of its parameter."""
    command = COMMANDS.keys() & {ctx.invoked_subcommand} and main.get_command(ctx, ctx.invoked_subcommand or "")
    return {p.name: max(p.opts, key=len) for p in command.params if p.name} if command else {}


def _validation_sentence(error: ValidationError, options: dict[str, str]) -> str:
    """The first thing that a model refuses, under the name of the option that it came from."""
    field, said = first_refusal(error)
    near = difflib.get_close_matches(field.partition(".")[0], options, n=1, cutoff=0.5)
    name = options[near[0]] if near else field or error.title
    if error.errors()[0]["type"] == "extra_forbidden":
        return f"{field}: {said}{f'; did you mean {name}?' if near else ''}"
    return f"{name}: {said}"
