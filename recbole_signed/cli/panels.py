"""The order of the commands in the help, and the panels that they stand in."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

PANELS = {
    "Data": ("convert", "stats", "data", "synth"),
    "Experiments": ("run", "models", "tune", "compare", "significance", "tradeoff", "respond", "replay"),
    "A fitted model": ("recommend", "segments"),
    "Live service": ("serve", "api-key", "state", "simulate", "experiment"),
    "This package": ("doctor", "upstream"),
}
"""The commands of each panel: in the order in which somebody meets them who begins with a raw file."""


class InPanels(TyperGroup):
    """The commands by what they are for, in place of the order of the modules that define them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, panel by panel; what no panel has is last."""
        known = [name for names in PANELS.values() for name in names if name in self.commands]
        return known + [name for name in self.commands if name not in known]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command with its panel, or None."""
        command: Any = super().get_command(ctx, cmd_name)
        for panel, names in PANELS.items():
            if command is not None and cmd_name in names:
                command.rich_help_panel = panel
        return command
