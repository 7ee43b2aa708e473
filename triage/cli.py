"""The command line: finds commands by entry point, and is the one place where an error becomes words and an exit code.

Each room registers its commands under `triage.commands`; this file names no room. Listing them reads the first line of
each docstring from the source file, so `triage --help` imports no room and no heavy package.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from triage.errors import TriageError

GROUP = "triage.commands"
EXIT_USAGE, EXIT_FAULT, EXIT_INTERRUPTED = 2, 3, 130
MISSING_HINT = (
    "in the checkout, `make demo` installs core and service, `make data-check` the data room, `make score-dev` the eval room, "
    "`make test-train` the training stack"
)


class _Commands(TyperGroup):
    """A group whose commands are looked up by entry point when they are needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(_entry_points())

    def get_command(self, ctx: Any, name: str) -> Any:
        entry = _entry_points().get(name)
        if entry is None:
            return None
        function = entry.load()
        if isinstance(function, typer.Typer):
            return typer.main.get_command(function)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name)(function)
        return typer.main.get_command(single)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rows = [(name, _first_line(entry)) for name, entry in sorted(_entry_points().items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _entry_points() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _first_line(entry: EntryPoint) -> str:
    """First docstring line of a command, or of the file of a group of commands, parsed from its source without importing it."""
    room, _, rest = entry.module.partition(".")
    spec = importlib.util.find_spec(room)
    if spec is None or not spec.submodule_search_locations:
        return ""
    path = Path(next(iter(spec.submodule_search_locations)), *rest.split(".")).with_suffix(".py")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return ""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == entry.attr:
            return (ast.get_docstring(node) or "").split("\n")[0]
    return (ast.get_docstring(tree) or "").split("\n")[0]


app = typer.Typer(cls=_Commands, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def root(context: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    """Turn messy customer messages into structured tickets."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"ticket-triage {installed('ticket-triage')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(EXIT_USAGE)


def main() -> None:
    """Run the command line and leave with its exit code: 0 ok, 1 the gate says no, 2 usage, 3 a fault, 130 Ctrl-C."""
    try:
        app()
    except TriageError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(EXIT_FAULT)
    except ModuleNotFoundError as error:
        print(f"error: this command needs the package {error.name}, which is not installed", file=sys.stderr)
        print(f"hint: {MISSING_HINT}", file=sys.stderr)
        sys.exit(EXIT_FAULT)
    except BrokenPipeError:
        sys.exit(EXIT_FAULT)
    except OSError as error:
        print(f"error: cannot read or write {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        print("hint: look at the place, its rights and the room on the disk; what was written before stays", file=sys.stderr)
        sys.exit(EXIT_FAULT)
    except KeyboardInterrupt:
        _say_stopped()
        sys.exit(EXIT_INTERRUPTED)
    except SystemExit as leaving:  # typer has turned Ctrl-C into its exit code, and says nothing
        if leaving.code == EXIT_INTERRUPTED:
            _say_stopped()
        raise


def _say_stopped() -> None:
    print("stopped; what was written stays, and a batch goes on when it is run again", file=sys.stderr)
