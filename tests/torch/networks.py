"""Small networks, exported as people export theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


class Doubler(torch.nn.Module):
    """y[n, 3] = 2 x[n, 3]; the twos are weights."""

    def __init__(self) -> None:
        super().__init__()
        self.twos = torch.nn.Parameter(torch.full((3,), 2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.twos


class Pair(torch.nn.Module):
    """Named outputs, one of them nested, an option and a tensor by its name."""

    def forward(self, ids: torch.Tensor, scale: float, *, mask: torch.Tensor) -> dict[str, Any]:
        return {"logits": ids * scale, "hidden": [ids + mask, ids - mask], "none": None}


class Several(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + torch.ones(3, dtype=x.dtype), x.sum()


class Hungry(torch.nn.Module):
    """As many numbers as it is asked for."""

    def forward(self, size: torch.Tensor) -> torch.Tensor:
        return torch.zeros([int(size.item())]).sum()


def export(path: Path, module: torch.nn.Module, args: tuple[Any, ...], dynamic: Any = None, **kwargs: Any) -> Path:
    """Write a program of torch.export; dynamic: its dynamic shapes."""
    program = torch.export.export(module.eval(), args, kwargs, dynamic_shapes=dynamic)
    torch.export.save(program, path)
    return path


def export_doubler(path: Path) -> Path:
    """The doubler for any number of rows."""
    return export(path, Doubler(), (torch.zeros(2, 3),), ({0: torch.export.Dim("n")},))
