"""The Hub's Jobs, asked with bounded time, refused in words."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from huggingface_hub.errors import HfHubHTTPError

from ditto_hub.backends.jobs.records import Flavor, JobOrder, JobState
from ditto_hub.errors import HubBusyError, HubError, RunError
from ditto_hub.hub import transfer
from ditto_hub.hub.bounds import TOKENS_PAGE, bounds, told
from ditto_hub.hub.client import Account, HubClient
from ditto_hub.hub.kept import repo_of
from ditto_hub.hub.targets import WRITERS, require_alive
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import Token
from ditto_hub.words import Message

BILLING_PAGE = "https://huggingface.co/settings/billing"
PUBLIC = "https://huggingface.co"
STARTING = Message("hub.doing.start_job")


class HubDesk:
    """Ask for jobs and keep runs, as one user; see `ditto_hub.backends.jobs.records.Desk`.

    Args:
        token: of the user.
        namespace: whose credit pays and whose repos keep the run; default the user's own.
        endpoint: of the Hub; None takes HF_ENDPOINT or the public one.

    Raises:
        HubError: there is no token that may write, or the namespace is somebody else's.
    """

    def __init__(
        self, token: Token | str, namespace: str | None = None, endpoint: str | None = None
    ) -> None:
        self.client = HubClient(token, endpoint)
        self.account = self.client.who()
        require_alive(self.account)
        self.namespace = _own_namespace(self.account, namespace)

    def flavors(self) -> Sequence[Flavor]:
        """Return the hardware the Hub offers now, with its prices."""
        doing = Message("hub.doing.job_hardware")
        rows = self.client.repeat(doing, self.client.api.list_jobs_hardware)
        return [_flavor(row) for row in rows]

    @property
    def token(self) -> Token:
        """Whose token it asks with."""
        return self.client.whose

    def life_s(self) -> float | None:
        """Return the seconds the token has left, or None where the Hub does not tell."""
        return self.account.expires_s

    def secrets(self) -> dict[str, str]:
        """Return the token under the name the Hub's client looks for."""
        return {"HF_TOKEN": self.client.token}

    def submit(self, order: JobOrder) -> JobState:
        """Start a job, once.

        The Hub's client never repeats this call. Where its answer is lost, the job is looked for
        by its labels before the loss is told.

        Raises:
            HubError: refused, with the reason in words.
        """
        environment = dict(order.environment)
        if self.client.endpoint != PUBLIC:
            environment["HF_ENDPOINT"] = self.client.endpoint
        try:
            with refused_in_words(STARTING, self.namespace):
                job = self.client.api.run_job(
                    image=order.image,
                    command=list(order.command),
                    env=environment,
                    secrets=dict(order.secrets),
                    flavor=order.flavor,
                    timeout=order.timeout_s,
                    labels=dict(order.labels),
                    namespace=self.namespace,
                    token=self.client.token,
                )
        except HubBusyError:
            time.sleep(bounds().waits_s[0] if bounds().waits_s else 0.0)
            for state in self.find(order.labels):
                return state
            raise
        return _state(job)

    def find(self, labels: Mapping[str, str]) -> list[JobState]:
        """Return the jobs that carry these labels."""

        def call() -> list[Any]:
            return list(
                self.client.api.list_jobs(
                    labels=dict(labels), namespace=self.namespace, token=self.client.token
                )
            )

        doing = Message("hub.doing.list_jobs")
        with refused_in_words(doing, self.namespace):
            return [_state(job) for job in self.client.repeat(doing, call)]

    def inspect(self, job_id: str) -> JobState:
        """Return what a job is doing; one that the Hub no longer knows is DELETED."""

        def call() -> Any:
            return self.client.api.inspect_job(
                job_id=job_id, namespace=self.namespace, token=self.client.token
            )

        doing = Message("hub.doing.ask_job", job_id=job_id)
        try:
            with refused_in_words(doing, self.namespace):
                return _state(self.client.repeat(doing, call))
        except HubError as error:
            if _status(error) == 404:
                return JobState(job_id, "DELETED")
            raise

    def log(self, job_id: str, tail: int | None = None) -> Iterator[str]:
        """Yield the lines a job has printed so far; ends after seconds, whatever the job does."""
        with told(Message("hub.doing.read_log", job_id=job_id)):
            yield from self.client.api.fetch_job_logs(
                job_id=job_id, namespace=self.namespace, tail=tail, token=self.client.token
            )

    def cancel(self, job_id: str) -> None:
        """Stop a job; one that has ended already is left alone."""

        def call() -> None:
            self.client.api.cancel_job(
                job_id=job_id, namespace=self.namespace, token=self.client.token
            )

        doing = Message("hub.doing.cancel_job", job_id=job_id)
        with refused_in_words(doing, self.namespace):
            self.client.repeat(doing, call)

    def repo(self, run: Run) -> str:
        """Return the id of the repo where a run is kept or would be."""
        return repo_of(run.record.id, self.namespace)

    def keeps(self, run: Run) -> bool:
        """Tell whether a run is kept already."""
        return self.client.info(self.repo(run)) is not None

    def save(self, run: Run, extra: Mapping[str, bytes]) -> tuple[str, str]:
        """Keep a run in its private repo; return the repo's id and the commit."""
        kept = transfer.save(self.client, run, self.namespace, extra)
        return kept.repo_id, kept.commit

    def fetch(self, run: Run, further: bool = False) -> bool:
        """Bring what the repo holds of a run into its folder; see `transfer.fetch`."""
        return transfer.fetch(self.client, self.repo(run), run, further)

    def forget(self, run: Run) -> None:
        """Delete the repo that keeps a run."""
        with contextlib.suppress(RunError):
            transfer.delete(self.client, self.repo(run))


def _own_namespace(account: Account, wish: str | None) -> str:
    if not wish or wish.lower() == account.name.lower():
        return account.name
    role = account.organisations.get(wish)
    if role is None or (role and role not in WRITERS):
        mine = ", ".join([account.name, *account.organisations])
        raise HubError("hub.may_not_start", account=account.name, wish=wish, mine=mine)
    return wish


def _flavor(row: Any) -> Flavor:
    hourly = {"minute": 60.0, "hour": 1.0, "second": 3600.0}.get(row.unit_label)
    accelerator = row.accelerator
    words = row.pretty_name + (f", {accelerator.vram}" if accelerator else "")
    return Flavor(row.name, words, hourly and row.unit_cost_usd * hourly)


def _state(job: Any) -> JobState:
    stage = getattr(job.status.stage, "value", job.status.stage)
    message = " ".join(str(job.status.message or "").split())[:200]
    seconds = job.durations.running_secs if job.durations else None
    return JobState(job.id, str(stage), message, job.url, seconds)


def _status(error: BaseException) -> int:
    response = getattr(error.__cause__, "response", None)
    return int(response.status_code) if response is not None else 0


@contextlib.contextmanager
def refused_in_words(doing: Message, namespace: str) -> Iterator[None]:
    """Tell the refusals that are particular to jobs: no credit, no scope, no such hardware.

    Raises:
        HubError: in the place of whatever the block raises.
    """
    try:
        with told(doing):
            yield
    except HubError as error:
        said = error.__cause__
        if not isinstance(said, HfHubHTTPError):
            raise
        status = said.response.status_code
        words = (said.response.headers.get("X-Error-Message") or said.server_message or "").strip()
        if status == 402:
            raise HubError(
                "hub.no_credit",
                namespace=namespace,
                said=Message("hub.says", said=words) if words else "",
                billing_page=BILLING_PAGE,
            ) from said
        if status == 403:
            raise HubError(
                "hub.jobs_refused",
                doing=doing,
                namespace=namespace,
                said=words or f"HTTP {status}",
                tokens_page=TOKENS_PAGE,
            ) from said
        if status == 400 and doing == STARTING:
            raise HubError("hub.job_rejected", said=words or f"HTTP {status}") from said
        raise
