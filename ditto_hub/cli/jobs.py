"""Hub Jobs on the command line: starting one, going on with one, and being one."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any

import click

from ditto_hub.cli.program import EXIT_FAILED, main, token
from ditto_hub.cli.terminal import JsonLines, job_words
from ditto_hub.errors import DittoError

if TYPE_CHECKING:
    from ditto_hub.api.job_runs import JobBackend
    from ditto_hub.runs.folder import Run


def job_options(command: Any) -> Any:
    """Add the options that say where a run executes."""
    options = [
        click.option("--backend", type=click.Choice(["local", "job"]),
                     help="This machine, or a Hub Job that your account pays"
                     " [default: local; where it was, for resume]."),
        click.option("--flavor", metavar="NAME",
                     help="Hardware of the job, such as a10g-small or l4x1."),
        click.option("--namespace", metavar="NAME",
                     help="Organisation that pays and keeps the run [default: yourself]."),
        click.option("--keep-repo", is_flag=True,
                     help="Leave the private repo that the job used when the result is here."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def require_options(backend: str | None, flavor: str | None, namespace: str | None) -> None:
    """Refuse options that do not go together, and hardware there is none of.

    Raises:
        click.UsageError: one lacks the other.
    """
    from ditto_hub import api

    if backend == "job" and not flavor:
        raise click.UsageError("--backend job needs --flavor, such as a10g-small.")
    if flavor and backend != "job":
        raise click.UsageError("--flavor needs --backend job.")
    if flavor:
        api.require_job(flavor, token(), namespace)


def backend_for(run: Run, **options: Any) -> JobBackend | None:
    """Return what a run goes on with: a job started or found now, or None for this machine."""
    from ditto_hub import api

    job = run.record.job
    flavor = options["flavor"] or job.get("flavor")
    if options["backend"] == "local" or not (options["backend"] or job):
        api.leave_job(run, token())
        return None
    if not flavor:
        raise click.UsageError("--backend job needs --flavor, such as a10g-small.")
    found = api.job_backend(
        run, flavor, token=token(), namespace=options["namespace"], keep=bool(options["keep_repo"])
    )
    if not api.has_job(run):
        found.submit(run)
    click.echo(job_words(run.record.job), err=True)
    return found


# ---- inside the job ------------------------------------------------------------------------------


class Frames(logging.Formatter):
    """Show where an error came from without its message, which may hold a person's text."""

    def formatException(self, ei: Any) -> str:
        """Return the frames and the error's type."""
        return "".join([*traceback.format_tb(ei[2]), ei[0].__name__])


@main.command("work-in-job", hidden=True)
@click.argument("repo_id")
def work_in_job(repo_id: str) -> None:
    """Work on the run that a private repo keeps; what a Hub Job runs."""
    from ditto_hub import api

    handler = logging.StreamHandler()
    handler.setFormatter(Frames("%(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)
    asked: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append("stopped"))
    limit, began = (
        os.environ.get("DITTO_HUB_JOB_TIMEOUT_S"),
        os.environ.get("DITTO_HUB_JOB_STARTED"),
    )
    ends_at = float(began) + float(limit) if limit and began else None
    show = JsonLines()
    try:
        for event in api.work_in_job(
            repo_id,
            os.environ.get("JOB_ID", ""),
            ends_at,
            should_stop=lambda: asked[0] if asked else "",
        ):
            show.see(event)
    except DittoError:
        raise  # told by the program, in one paragraph
    except Exception as error:
        click.echo(
            "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__, err=True
        )
        sys.exit(EXIT_FAILED)
