"""The losses: tensors in, scalar out, no state, no settings."""

from harness.losses.dino import dino_loss
from harness.losses.gram import gram_loss
from harness.losses.ibot import ibot_loss
from harness.losses.koleo import koleo_loss
from harness.losses.sinkhorn import sinkhorn_knopp

__all__ = ["dino_loss", "gram_loss", "ibot_loss", "koleo_loss", "sinkhorn_knopp"]
