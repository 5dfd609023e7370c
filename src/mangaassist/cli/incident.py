"""The `incident` group; what people on call do is in :mod:`mangaassist.cli.oncall`."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Know that it broke, know why, and know that people know.")
