"""The use cases: check, train, resume, estimate, publish, load, evaluate.

The command line and the app call these and add nothing of their own. Importing this loads neither
torch nor gradio.
"""

from ditto_hub.api.comparing import evaluate, make_judge
from ditto_hub.api.training import (
    cancel,
    check_demos,
    create_run,
    default_config,
    drive,
    estimate_run,
    publish,
    read_demos,
    resume,
    stream,
    train,
    write_card,
)
from ditto_hub.api.writing import Voice, load

__all__ = [
    "Voice",
    "cancel",
    "check_demos",
    "create_run",
    "default_config",
    "drive",
    "estimate_run",
    "evaluate",
    "load",
    "make_judge",
    "publish",
    "read_demos",
    "resume",
    "stream",
    "train",
    "write_card",
]
