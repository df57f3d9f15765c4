"""One readable training loop, its checkpoints and its metrics."""

from bsaviz.training.batches import feature_width, model_sizes
from bsaviz.training.checkpoint import checkpoint_info, load_model, packaged_model, save_model
from bsaviz.training.config import TrainConfig, pick_device
from bsaviz.training.loop import TrainResult, train
from bsaviz.training.metrics import evaluate
from bsaviz.training.ranks import joined
from bsaviz.training.worker import TrainingWorker

__all__ = [
    "TrainConfig",
    "TrainResult",
    "TrainingWorker",
    "checkpoint_info",
    "evaluate",
    "feature_width",
    "joined",
    "load_model",
    "model_sizes",
    "packaged_model",
    "pick_device",
    "save_model",
    "train",
]
