"""The use cases: check, train, resume, estimate, publish, load, evaluate.

The command line and the app call these and add nothing of their own. Importing this loads neither
torch nor gradio.
"""

from ditto_hub.api.choosing import choose
from ditto_hub.api.comparing import evaluate, make_judge, train_rival
from ditto_hub.api.estimating import estimate_devices, estimate_run, job_offers, planned_job
from ditto_hub.api.jobs import (
    attach,
    cancel_job,
    forget_job,
    has_job,
    job_backend,
    leave_job,
    require_job,
    submit,
    work_in_job,
)
from ditto_hub.api.keeping import (
    agree_to_keep,
    delete_saved,
    how_kept,
    keep_along,
    restore_run,
    save_run,
    saved_runs,
)
from ditto_hub.api.leasing import prepare, standing, work, write
from ditto_hub.api.publishing import pack, preview, who
from ditto_hub.api.training import (
    assisting,
    cancel,
    check_demos,
    create_run,
    default_config,
    drive,
    publish,
    read_demos,
    resume,
    stream,
    train,
    write_card,
)
from ditto_hub.api.writing import Voice, load
from ditto_hub.backends.writing import WriteRequest

__all__ = [
    "Voice",
    "WriteRequest",
    "agree_to_keep",
    "assisting",
    "attach",
    "cancel",
    "cancel_job",
    "check_demos",
    "choose",
    "create_run",
    "default_config",
    "delete_saved",
    "drive",
    "estimate_devices",
    "estimate_run",
    "evaluate",
    "forget_job",
    "has_job",
    "how_kept",
    "job_backend",
    "job_offers",
    "keep_along",
    "leave_job",
    "load",
    "make_judge",
    "pack",
    "planned_job",
    "prepare",
    "preview",
    "publish",
    "read_demos",
    "require_job",
    "restore_run",
    "resume",
    "save_run",
    "saved_runs",
    "standing",
    "stream",
    "submit",
    "train",
    "train_rival",
    "who",
    "work",
    "work_in_job",
    "write",
    "write_card",
]
