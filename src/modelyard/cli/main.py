"""`modelyard`: the table of commands. Each is imported when it is called, so that help costs nothing."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
import traceback
from typing import Any

import click

from modelyard import __version__
from modelyard.errors import ModelyardError
from modelyard.project.secrets import masked

COMMANDS = {
    "ask": ("modelyard.cli.ask:ask", "One answer with its page citations."),
    "config": ("modelyard.cli.config:config", "The project file's values, and where each came from."),
    "data": ("modelyard.cli.data:data", "What is in the corpus, and what could not be read."),
    "evaluate": ("modelyard.cli.evaluate:evaluate", "Let a release sit the exam, and judge it."),
    "explain": ("modelyard.cli.evaluate:explain", "Why a decision was made, and whether it holds when made again."),
    "init": ("modelyard.cli.init:init", "Make a project."),
    "release": (
        "modelyard.cli.release:release",
        "Releases: list, show, diff, promote, rollback, history, export, import.",
    ),
    "run": ("modelyard.cli.run:run", "The whole loop: prepare, build, evaluate, gate, deploy."),
    "search": ("modelyard.cli.ask:search", "What retrieval alone finds."),
    "serve": ("modelyard.cli.serve:serve", "Serve the champion: gateway, worker processes, chat page."),
    "token": ("modelyard.cli.token:token", "Tokens that let callers in: create, list, revoke."),
}


class Lazy(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx) from None


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="modelyard")
def cli() -> None:
    """From a folder of documents to an evaluated, versioned, served and reversible model."""


def main() -> None:
    """The console script. Exit codes: 0 done, 2 bad input, 3 gate failed, 4 gate abstained and not admitted, and those
    in `modelyard.errors`."""
    # What is imported stays, half a million objects: to look through them as often as by default takes 1.6 s of a run.
    gc.set_threshold(20_000, 20, 20)
    # Nor once more as the interpreter ends: 0.9 s where MLflow is imported.
    atexit.register(gc.freeze)
    # Nothing we stand on may report home, or look for prices and models on the network.
    for name, value in (("MLFLOW_DISABLE_TELEMETRY", "true"), ("DO_NOT_TRACK", "true")):
        os.environ.setdefault(name, value)
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        _say("interrupted: run the same command again, it goes on where it stopped")
        sys.exit(130)
    except click.ClickException as e:
        e.show()
        sys.exit(e.exit_code)
    except KeyboardInterrupt:
        _say("interrupted: run the same command again, it goes on where it stopped")
        sys.exit(130)
    except ModelyardError as e:
        _say(str(e))
        sys.exit(e.exit_code)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as e:
        _say(_system(e))
        sys.exit(8)
    except Exception as e:  # noqa: BLE001 - a defect of ours: one line too, and the traceback for whoever asks
        if os.environ.get("MODELYARD_DEBUG"):
            click.echo(masked(traceback.format_exc()), err=True, nl=False)
        what = masked(" ".join(f"{type(e).__name__}: {e}".split()))
        _say(f"internal error: {what} (set MODELYARD_DEBUG=1 for the traceback)")
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _system(e: OSError) -> str:
    import errno

    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({e.filename or 'while writing'}): free some space and run again, nothing is lost"
    return f"{e.filename or 'the operating system'}: {e.strerror or e}"


def _say(text: str) -> None:
    click.echo(f"modelyard: {text}", err=True)


if __name__ == "__main__":
    main()
