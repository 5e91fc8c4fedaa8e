"""The program itself: exit codes, known failures in one paragraph, the token of this machine."""

from __future__ import annotations

import os
import signal
import textwrap
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from ditto_hub.errors import DittoError, describe
from ditto_hub.tokens import MACHINE, Token
from ditto_hub.version import VERSION

EXIT_FAILED, EXIT_PAUSED, EXIT_INTERRUPTED = 1, 3, 130
EXIT_TERMINATED = 128 + signal.SIGTERM


class Program(click.Group):
    """Tell known failures in one paragraph and give them their exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        quieten_libraries()
        try:
            with sigterm_interrupts():
                return super().invoke(ctx)
        except DittoError as error:
            what, remedy = describe(error)
            told = f"Error: {what} {remedy}".strip()
            lines = textwrap.fill(told, 100, break_long_words=False, break_on_hyphens=False)
            click.echo(lines, err=True)
            ctx.exit(EXIT_FAILED)
        except (KeyboardInterrupt, click.Abort):
            click.echo("\nInterrupted; what was saved is kept.", err=True)
            ctx.exit(EXIT_INTERRUPTED)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does within the block, with an exit code of its own.

    Raises:
        SystemExit: it came, and the block ended as interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return
    came: list[int] = []

    def handle(number: int, frame: object) -> None:
        came.append(number)
        if not callable(signal.getsignal(signal.SIGINT)):  # as in a shell's background
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        if not came:
            raise
        click.echo("\nStopped by SIGTERM; what was saved is kept.", err=True)
        raise SystemExit(EXIT_TERMINATED) from None
    except SystemExit as ended:
        if came and ended.code == EXIT_INTERRUPTED:
            raise SystemExit(EXIT_TERMINATED) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def quieten_libraries() -> None:
    """Keep other libraries' bars and notes off the terminal; errors still come through."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for module in ("transformers", "trl", "peft", "torch", "huggingface_hub"):
        warnings.filterwarnings("ignore", module=module)


def token() -> Token:
    """Return whose Hub token a command uses: the one that the user has set up on this machine."""
    return MACHINE


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="ditto-hub")
def main() -> None:
    """Show a language model a few examples of your writing; get a LoRA adapter that writes so.

    DEMOS is a file of two to fifty demonstrations: JSON lines with `prompt` and `completion` or
    with `messages`, JSON, or CSV; or example:NAME for a set shipped with the package (workshop
    for a real language model; harbor, gazette, sprout for pocket). RUN is a run's id or folder.
    """
