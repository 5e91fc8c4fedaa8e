"""What a Hub Job costs beside the run itself: setting up is paid for too."""

from __future__ import annotations

SETUP_S = 300  # to fetch the image, install the packages and load the base model


def job_usd(seconds: float, usd_per_hour: float) -> float:
    """Return what a job costs in dollars.

    Args:
        seconds: that the run takes, without setting up.
        usd_per_hour: of the hardware.
    """
    return (seconds + SETUP_S) / 3600 * usd_per_hour
