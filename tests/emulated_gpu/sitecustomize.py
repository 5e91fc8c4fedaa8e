"""Let the real `spaces` package run on a machine without CUDA: a GPU worker computes on its CPU.

On PYTHONPATH this waits for `import spaces`. Before it, the few probes of CUDA that a CPU build of
torch lacks are put in; after it, a worker's two steps that need a driver (take the device, copy
packed tensors onto it) are replaced, and the GPU's model is said to be the one ZeroGPU has.
Everything else is the package's own: packing, scheduling, forking, queues, errors.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

GPU = "Model: \t\t NVIDIA RTX PRO 6000 Blackwell Server Edition\n"


def before_spaces() -> None:
    """Give a CPU build of torch what spaces looks for."""
    import torch

    def _is_in_bad_fork() -> bool:  # pickled by its name; a CPU build has a lambda
        return False

    _is_in_bad_fork.__module__, _is_in_bad_fork.__qualname__ = "torch.cuda", "_is_in_bad_fork"
    torch.cuda._is_in_bad_fork = _is_in_bad_fork
    torch.version.cuda = "12.8"
    torch.cuda.is_bf16_supported = lambda *_, **__: False  # it computes as the CPU does
    if not hasattr(torch._C, "_cuda_init"):
        torch._C._cuda_init = lambda: None


def after_spaces() -> None:
    """Put the CPU in the place of the worker's device."""
    from spaces.zero import config
    from spaces.zero import torch as device

    device.init = lambda uuid: None
    device.move = move
    config._read_gpu_information = lambda: GPU
    config.get_config.cache_clear()


def move(callback: Any = None) -> None:
    """Read the packed tensors back, as the package's own does onto a GPU."""
    import torch
    from spaces.zero.torch import patching

    for fake, original in list(patching.cuda_aliases.items()):
        if original is not None:
            fake.data = torch.Tensor.detach(original)
    for pack in patching.tensor_packs:
        rows = [row for batch in pack.batches for row in batch] + list(pack.big_tensors)
        with open(pack.path(), "rb") as file:
            for tensor, size, aligned in rows:
                data = torch.frombuffer(bytearray(file.read(aligned)), dtype=torch.uint8)[:size]
                restored = data.view(tensor.dtype).view(tensor.shape).clone()
                for fake in pack.fakes[tensor]:
                    fake.data = restored


class _Finder(importlib.abc.MetaPathFinder):
    busy = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "spaces" or self.busy:
            return None
        self.busy = True  # torch may look for spaces too
        before_spaces()
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        self.busy = False
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)  # refuses where gradio asks for it while it is imported itself
                after_spaces()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Finder())
