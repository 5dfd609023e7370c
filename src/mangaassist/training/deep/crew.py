"""The processes that train together, and the three ways they share a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Strategy = Literal["single", "ddp", "fsdp"]
STRATEGIES: tuple[Strategy, ...] = ("single", "ddp", "fsdp")


@dataclass(frozen=True, slots=True)
class Crew:
    """This process among those of its job.

    Attributes:
        rank: 0 to ``size`` - 1; rank 0 alone writes.
        size: number of processes.
        strategy: "single" (one process), "ddp" (every process holds the model, gradients are averaged) or
            "fsdp" (every process holds a slice of every parameter).
    """

    rank: int = 0
    size: int = 1
    strategy: Strategy = "single"

    def share(self, model: torch.nn.Module) -> torch.nn.Module:
        """What the loss calls in place of ``model``; FSDP also shards ``model`` itself."""
        if self.strategy == "ddp":
            from torch.nn.parallel import DistributedDataParallel

            return DistributedDataParallel(model)
        if self.strategy == "fsdp":
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh("cpu", (self.size,))
            for child in model.children():
                fully_shard(child, mesh=mesh)
            fully_shard(model, mesh=mesh)
        return model

    def gather(self, mine: bytes) -> list[bytes]:
        """``mine`` of every process, by rank."""
        if self.strategy == "single":
            return [mine]
        import torch
        from torch import distributed

        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        distributed.all_gather(lengths, torch.tensor([len(mine)]))
        longest = int(max(lengths))
        padded = torch.frombuffer(bytearray(mine.ljust(longest)), dtype=torch.uint8)
        bodies = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size)]
        distributed.all_gather(bodies, padded)
        return [body.numpy().tobytes()[: int(length)] for body, length in zip(bodies, lengths, strict=True)]


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of ``tensor`` with every shard in it; every process of the crew must ask."""
    gathered: Any = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    copy: torch.Tensor = gathered.detach().clone(memory_format=_contiguous())
    return copy


def fill(target: torch.Tensor, source: torch.Tensor) -> None:
    """Write ``source``, a whole tensor, into ``target``, this process's shard of it or all of it."""
    import torch

    with torch.no_grad():
        target.copy_(like(target, source))


def like(target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """``source`` cut the way ``target`` is."""
    mesh = getattr(target, "device_mesh", None)
    if mesh is None:
        return source
    from torch.distributed.tensor import distribute_tensor

    # Every process has read the same file: nobody needs to send anything.
    return distribute_tensor(source, mesh, target.placements, src_data_rank=None)  # type: ignore[attr-defined]


def _contiguous() -> torch.memory_format:
    import torch

    return torch.contiguous_format
