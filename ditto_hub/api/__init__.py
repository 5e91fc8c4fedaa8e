"""The use cases: check, train, resume, estimate, publish, export, load, evaluate.

The command line and the app call these and add nothing of their own. Importing this loads neither
torch nor gradio.
"""

from ditto_hub.api.adapters import Voice, load
from ditto_hub.api.choosing import choose
from ditto_hub.api.comparing import evaluate, stream_evaluate, train_rival
from ditto_hub.api.creation import (
    check,
    check_demos,
    create_run,
    default_config,
    outside_pocket,
    read_demos,
)
from ditto_hub.api.estimating import (
    estimate_devices,
    estimate_run,
    job_offers,
    live_prices,
    planned_job,
)
from ditto_hub.api.exporting import can_write_gguf, export, pack_gguf
from ditto_hub.api.job_runs import (
    attach,
    cancel,
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
from ditto_hub.api.preferences import preferences, preferences_bytes
from ditto_hub.api.prompting import (
    PromptWritten,
    prompts_for,
    prompts_lease_s,
    stream_prompts,
    with_prompts,
)
from ditto_hub.api.publishing import pack, preview, publish, stream_publish
from ditto_hub.api.training import assisting, drive, resume, stream, stream_resume, train
from ditto_hub.backends.generation import WriteRequest

__all__ = [
    "PromptWritten",
    "Voice",
    "WriteRequest",
    "agree_to_keep",
    "assisting",
    "attach",
    "can_write_gguf",
    "cancel",
    "cancel_job",
    "check",
    "check_demos",
    "choose",
    "create_run",
    "default_config",
    "delete_saved",
    "drive",
    "estimate_devices",
    "estimate_run",
    "evaluate",
    "export",
    "forget_job",
    "has_job",
    "how_kept",
    "job_backend",
    "job_offers",
    "keep_along",
    "leave_job",
    "live_prices",
    "load",
    "outside_pocket",
    "pack",
    "pack_gguf",
    "planned_job",
    "preferences",
    "preferences_bytes",
    "prepare",
    "preview",
    "prompts_for",
    "prompts_lease_s",
    "publish",
    "read_demos",
    "require_job",
    "restore_run",
    "resume",
    "save_run",
    "saved_runs",
    "standing",
    "stream",
    "stream_evaluate",
    "stream_prompts",
    "stream_publish",
    "stream_resume",
    "submit",
    "train",
    "train_rival",
    "with_prompts",
    "work",
    "work_in_job",
    "write",
]
