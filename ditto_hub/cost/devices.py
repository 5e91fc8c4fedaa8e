"""Devices, prices and quotas: plain data, each figure with its source and date.

Every rate here is from a maker's data sheet (dense, without sparsity) and so computed, not
measured, save where a device says otherwise; what a program reaches of it stands in roofline.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from ditto_hub.errors import ConfigError
from ditto_hub.words import Message, Text

GB = 10**9
SHEET = Message("cost.sheet")
# hub-docs, jobs-pricing.md (Spaces cost the same); cpu-basic Spaces are free
PRICES_DATE = "2026-08-22"


@dataclass(frozen=True)
class Device:
    """Describe a device that a run may use.

    Args:
        name: the Hub's flavor, or ours where it has none.
        words: for a person.
        memory_bytes: of the GPU, or of the machine where there is none.
        bandwidth: bytes a second from that memory.
        flops: multiplications and additions a second in `weight_bytes`' type.
        weight_bytes: of one weight as it is loaded there: 2 in bfloat16, 4 in float32.
        host_s: seconds that one layer's launches cost the host in a forward pass.
        source: of memory, bandwidth and flops.
        date: of the source, as a year and month.
        rates: "computed" from that source, or "measured" as it says.
        quota_factor: quota seconds asked for a second declared; 0 where there is no quota.
    """

    name: str
    words: Text
    memory_bytes: int
    bandwidth: float
    flops: float
    weight_bytes: int = 2
    host_s: float = 1.0e-3
    source: Message = SHEET
    date: str = "2026-11"
    rates: str = "computed"
    quota_factor: float = 0.0

    @property
    def price_usd_h(self) -> float | None:
        """Dollars an hour, or None where none is asked by the hour."""
        return PRICES.get(self.name)

    @property
    def leased(self) -> bool:
        """Tell whether it is had for a minute at a time, against a quota."""
        return self.quota_factor > 0


_TABLE = (
    Device("cpu-basic", Message("cost.device_cpu", cores=2, gb=16), 16 * GB, 2.0e10, 1.0e11, 4,
           3.0e-4, Message("cost.sheet_cpu"), "2026-11", "measured"),
    Device("cpu-upgrade", Message("cost.device_cpu", cores=8, gb=32), 32 * GB, 4.0e10, 4.0e11, 4,
           3.0e-4, Message("cost.sheet_cpu_four")),
    # no bfloat16 in hardware: float32, off its tensor cores
    Device("t4-small", "NVIDIA T4, 16 GB", 16 * GB, 3.2e11, 8.1e12, 4),
    Device("l4x1", "NVIDIA L4, 24 GB", 24 * GB, 3.0e11, 1.21e14),
    Device("a10g-small", "NVIDIA A10G, 24 GB", 24 * GB, 6.0e11, 7.0e13),
    Device("l40sx1", "NVIDIA L40S, 48 GB", 48 * GB, 8.64e11, 3.62e14),
    Device("a100-large", "NVIDIA A100, 80 GB", 80 * GB, 2.04e12, 3.12e14),
    Device("rtx-pro-6000", "NVIDIA RTX PRO 6000, 96 GB", 96 * GB, 1.6e12, 4.8e14),
    Device("h200", "NVIDIA H200, 141 GB", 141 * GB, 4.8e12, 9.89e14),
    Device("zero-a10g", Message("cost.device_zerogpu"), 48 * GB, 8.0e11, 2.4e14,
           source=Message("cost.sheet_half"), quota_factor=1.5),
    Device("zero-a10g-xlarge", Message("cost.device_zerogpu_xlarge"), 96 * GB, 1.6e12,
           4.8e14, quota_factor=2.0),
)  # fmt: skip
DEVICES: dict[str, Device] = {device.name: device for device in _TABLE}

# Dollars an hour, billed by the minute.
PRICES: dict[str, float] = {
    "cpu-basic": 0.01,
    "cpu-upgrade": 0.03,
    "t4-small": 0.40,
    "t4-medium": 0.60,
    "l4x1": 0.80,
    "a10g-small": 1.00,
    "a10g-large": 1.50,
    "l40sx1": 1.80,
    "a100-large": 2.50,
    "rtx-pro-6000": 2.75,
    "h200": 5.00,
}

# One GPU is used, so a flavor with more beside it computes as its sibling does.
ALIKE = {"t4-medium": "t4-small", "a10g-large": "a10g-small", "zerogpu": "zero-a10g"}


@dataclass(frozen=True)
class Quota:
    """Say what a kind of account may use of ZeroGPU in the 24 hours after its first use.

    Args:
        name: of the kind.
        seconds: a day.
        source: with its date.
    """

    name: str
    seconds: int
    source: str = "hub-docs, spaces-zerogpu.md, 2026-08-22"


QUOTAS: dict[str, Quota] = {
    quota.name: quota
    for quota in (
        Quota("anonymous", 120),
        Quota("free", 300),
        Quota("pro", 2400),
        Quota("team", 2400),
        Quota("enterprise", 3600),
    )
}


def find_device(name: str) -> Device:
    """Return a device by its name.

    Raises:
        ConfigError: there is no figure for such a device.
    """
    found = DEVICES.get(ALIKE.get(name, name))
    if found is None:
        raise ConfigError("cost.unknown_hardware", name=name, value=", ".join([*DEVICES, *ALIKE]))
    return found
