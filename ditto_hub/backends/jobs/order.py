"""What a Hub Job that works on a run is made of: image, packages, command, time, labels.

Everything here stands on the job's page for whoever may see the account, so nothing of a person's
is in it: demonstrations and the package come from a private repo, which the job opens with the
token that it gets as a secret.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from ditto_hub.backends.jobs.records import JobOrder
from ditto_hub.cost.job_price import SETUP_S
from ditto_hub.runs.folder import Run

# Torch and the GPU's libraries come with the image: the version the tests run on, an exact tag.
# CUDA 12.6 works with every driver since 525, but knows no Blackwell; that flavor gets CUDA 13.
IMAGE = "pytorch/pytorch:2.13.0-cuda12.6-cudnn9-runtime"
BLACKWELL_IMAGE = "pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime"
# What `requirements.txt` gives as ranges, at the versions that were tested together.
PACKAGES = (
    "accelerate==1.15.0", "annotated-types==0.8.0", "click==8.5.1", "datasets==5.2.0",
    "filelock==4.2.11", "huggingface-hub==2.4.0", "jinja2==3.1.6", "matplotlib==3.11.2",
    "numpy==2.4.6", "peft==0.21.2", "platformdirs==4.14.8", "psutil==7.2.2",
    "pydantic==2.14.4", "safetensors==0.8.0", "scikit-learn==1.9.1", "tokenizers==0.23.3",
    "torch==2.13.0", "transformers==5.24.0", "trl==1.16.0",
)  # fmt: skip

UNKNOWN_S = 3 * 3600  # where nobody can tell; its double is within a sign-in's 8 hours
FLOOR_S = 3600  # a time limit costs nothing unless it is reached
SAVE_EVERY_S = 300.0
ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_XET_CLIENT_RETRY_BASE_DELAY": "500ms",  # a GPU waits meanwhile, and is paid for
    "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "3",
    "PIP_BREAK_SYSTEM_PACKAGES": "1",  # the image's Python is the system's, and ours alone
    "PYTHONUNBUFFERED": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
SCRIPT = """set -e
export DITTO_HUB_JOB_STARTED=$(date +%s)
install() { python -m pip install --quiet --no-input --root-user-action=ignore "$@"; }
install PACKAGES
FETCH='import sys; from huggingface_hub import hf_hub_download as fetch
print(fetch(sys.argv[1], sys.argv[2], revision=sys.argv[3]))'
install --no-deps --no-compile --force-reinstall "$(python -c "$FETCH" REPO WHEEL COMMIT)"
exec python -m ditto_hub work-in-job REPO
"""


@dataclass(frozen=True)
class JobPlan:
    """Say on what a run is to be worked on, and for how long it may take.

    Args:
        flavor: name of the hardware.
        expected_s: seconds the run should take there; None where nobody can tell.
        usd_per_hour: price of the flavor, where known.
        keep: leave the private repo when the result is home.
        packages: requirements, each at an exact version.
    """

    flavor: str
    expected_s: float | None = None
    usd_per_hour: float | None = None
    keep: bool = False
    packages: tuple[str, ...] = PACKAGES

    @property
    def timeout_s(self) -> int:
        """Twice what is expected, setting up counted in; never the platform's half hour."""
        expected = UNKNOWN_S if self.expected_s is None else self.expected_s
        return max(FLOOR_S, math.ceil(2 * (expected + SETUP_S)))

    @property
    def image(self) -> str:
        """The image that knows the flavor's hardware."""
        return BLACKWELL_IMAGE if self.flavor.startswith("rtx-pro") else IMAGE


@dataclass(frozen=True)
class Place:
    """Say where a run and the package's wheel are kept.

    Args:
        repo: of the run.
        commit: that holds both.
        wheel: its path there.
    """

    repo: str
    commit: str
    wheel: str


def make_order(
    run: Run, plan: JobPlan, place: Place, attempt: int, secrets: Mapping[str, str]
) -> JobOrder:
    """Return the order for a job on a run that is kept in a repo."""
    words = {
        "PACKAGES": shlex.join(plan.packages),
        "REPO": shlex.quote(place.repo),
        "WHEEL": shlex.quote(place.wheel),
        "COMMIT": shlex.quote(place.commit),
    }
    script = SCRIPT
    for name, value in words.items():
        script = script.replace(name, value)
    return JobOrder(
        image=plan.image,
        command=("bash", "-c", script),
        flavor=plan.flavor,
        timeout_s=plan.timeout_s,
        environment={**ENVIRONMENT, "DITTO_HUB_JOB_TIMEOUT_S": str(plan.timeout_s)},
        secrets=secrets,
        labels=labels(run, attempt),
    )


def labels(run: Run, attempt: int | None = None) -> dict[str, str]:
    """Return the labels by which a run's jobs are found."""
    told = {"app": "ditto-hub", "run": run.record.id}
    return told if attempt is None else {**told, "attempt": str(attempt)}
