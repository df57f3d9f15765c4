"""One optimiser step, and the same step as a CUDA graph.

A small model's step is a few hundred kernels, and launching them one by one takes ten times as long as they run. Where
every step has the same shapes, nothing in a step needs the host: it counts itself, looks up its cars, its learning rate
and its averaging weight by that number, and writes down its loss. So it can be recorded once as a CUDA graph and
launched as one.
"""

import warnings

import torch

from bsaviz._checks import BsavizError
from bsaviz.training.losses import loss_of

_WARM = 3  # steps taken one kernel at a time before the recording: kernels are compiled and memory is laid out


class Step:
    """Calling it takes the next step of a run: forward, backward, clipping, AdamW, moving average.

    Parameters
    ----------
    run : Run
    config : TrainConfig
    feed : Table or Drawn
        What each step reads, see :mod:`bsaviz.training.feed`.
    why_not : str or None
        Why the steps cannot be recorded; None where they can.
    ranks : Ranks

    Raises
    ------
    BsavizError
        When ``config.cuda_graph`` is True and the steps cannot be recorded.
    """

    def __init__(self, run, config, feed, why_not, ranks):
        self.run, self.config, self.feed, self.ranks = run, config, feed, ranks
        self.trained = [p for p in run.model.parameters() if p.requires_grad]
        device, self.rate = self.trained[0].device, run.optimiser.param_groups[0]["lr"]
        steps = range(config.steps)
        listed = lambda value: torch.tensor([value(step) for step in steps], dtype=self.rate.dtype, device=device)
        self.rates, self.weights = listed(config.learning_rate_at), listed(config.average_weight_at)
        self.number = torch.full((1,), run.step, device=device)
        self.graph, self._warm = None, _WARM
        why_not = "there is no CUDA device here" if device.type != "cuda" else why_not
        self._records = config.cuda_graph is not False and why_not is None
        if self._records:
            self._stream = torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.current_stream(device))
        elif config.cuda_graph:
            raise BsavizError(f"cuda_graph=True, but the steps cannot be recorded: {why_not}; leave cuda_graph None")
        elif config.cuda_graph is None and device.type == "cuda":
            self._say(why_not)

    def __call__(self):
        if self._records and self._warm == 0 and self.graph is None:
            self._record()
        if self.graph is not None:
            self.graph.replay()
        elif self._records:
            self._warm -= 1
            with torch.cuda.stream(self._stream):
                self._take()
            torch.cuda.current_stream().wait_stream(self._stream)
        else:
            self._take()
        self.run.step += 1

    def close(self):
        """Let the recording go, and with it the gradients, which lie in its memory."""
        if self.graph is not None:
            torch.cuda.synchronize()
            self.run.optimiser.zero_grad()
            self.graph = None

    def _take(self):
        run, config, model = self.run, self.config, self.run.model
        batch = self.feed.at(self.number if self.feed.static else run.step)
        half = config.bf16 and self.rate.is_cuda
        # Weights are cast anew in each step: a cache would keep those of the step that was recorded.
        with torch.autocast("cuda", torch.bfloat16, enabled=half, cache_enabled=False):
            out = model.forward_leaves(**batch.arguments)
        out = out.flatten(0, 1).index_select(0, batch.inverse)
        loss = loss_of(config.loss, out, batch.target, model, batch.sizes)
        loss = loss if batch.weight == 1 else loss * batch.weight
        run.optimiser.zero_grad()
        loss.backward()
        loss = self.ranks.summed(self.trained, loss.detach())
        if config.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.trained, config.clip)
        self.rate.copy_(self.rates.index_select(0, self.number)[0])
        run.optimiser.step()
        if run.average is not None:
            move_average(run.average, model, self.weights.index_select(0, self.number)[0])
        run.history.loss.index_copy_(0, self.number, loss.float().view(1))
        self.number.add_(1)

    def _record(self):
        graph = torch.cuda.CUDAGraph()
        self.run.optimiser.zero_grad()  # the recording makes its own gradients, in memory that stays where it is
        try:
            # Other threads (a notebook's, NCCL's watchdog) may use the device meanwhile.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._take()
        except RuntimeError as error:
            if self.config.cuda_graph:
                raise BsavizError(
                    f"cuda_graph=True, but a step of this model cannot be recorded ({_first_line(error)}); leave "
                    "cuda_graph None"
                ) from error
            self._records = False
            self._say(f"recording one failed: {_first_line(error)}")
        else:
            self.graph = graph

    def _say(self, why_not):
        if self.ranks.first:
            warnings.warn(f"steps are launched kernel by kernel, since {why_not}", stacklevel=2)


@torch.no_grad()
def move_average(average, model, weight):
    """Move each averaged parameter towards the model's by the part `weight`, a tensor without dimensions."""
    parameters = dict(model.named_parameters())
    held, new = list(average.values()), [parameters[name].detach() for name in average]
    steps = torch._foreach_sub(new, held)
    torch._foreach_mul_(steps, weight.to(held[0].dtype))
    torch._foreach_add_(held, steps)


def _first_line(error):
    return str(error).splitlines()[0] if str(error) else type(error).__name__
