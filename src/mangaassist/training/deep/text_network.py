"""The network as PyTorch sees it while it learns; :mod:`text_model` answers without PyTorch."""

from __future__ import annotations

import torch
from torch import nn


class Network(nn.Module):
    """Margins of ``classes`` labels from weighted bags of ``buckets`` n-grams."""

    def __init__(self, buckets: int, width: int, hidden: int, classes: int, *, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(buckets, width, mode="sum")
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.hidden = nn.Linear(width, hidden)
        self.output = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: torch.Tensor, offsets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Margins, shape (bags, classes), of bags that begin at ``offsets``."""
        inner = torch.relu(self.embedding(ids, offsets, per_sample_weights=weights))
        margins: torch.Tensor = self.output(self.dropout(torch.relu(self.hidden(inner))))
        return margins
