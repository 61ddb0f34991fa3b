"""docs/commands.md is what the commands say of themselves.

`python tests/story/test_commands_page.py` writes it anew.
"""

from __future__ import annotations

from pathlib import Path

import click

from modelyard.cli.main import cli

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
HEAD = "# Commands\n\nWhat `--help` says of each; written by the commands themselves.\n"


def page() -> str:
    parts = [HEAD]

    def add(command: click.Command, name: str, parent: click.Context | None) -> None:
        ctx = click.Context(command, info_name=name, parent=parent, max_content_width=100, terminal_width=100)
        parts.append(f"\n## {ctx.command_path}\n\n```text\n{command.get_help(ctx).strip()}\n```\n")
        if isinstance(command, click.Group):
            for child in command.list_commands(ctx):
                found = command.get_command(ctx, child)
                assert found is not None
                add(found, child, ctx)

    add(cli, "modelyard", None)
    return "".join(parts)


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"run: python {Path(__file__).relative_to(PAGE.parents[1])}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
