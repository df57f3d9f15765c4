"""Operations of every part of a model, counted while it runs on tensors without data."""

from collections import defaultdict

import torch
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from bsaviz.study.cost_parts import operator_part, parts_of
from bsaviz.study.workload import sphere

ELSEWHERE = "elsewhere"


def count_parts(model, num_points, *, batch=1, training=True):
    """Billions of operations by part, counted by ``torch.utils.flop_counter``; a multiply-add is two.

    Matrix products and attention are counted, elementwise work is not. It is counted on tensors without data
    (``device="meta"``), so no more than the tree, and the graph where a model reads one, is built. Padding slots count,
    building trees and graphs does not. There dense attention runs in steps: its backward counts four products over the
    scores, where the fused kernels, which make the scores again, do five.

    Parameters
    ----------
    model : PointModel
    num_points, batch : int
        Points of a cloud, and clouds.
    training : bool
        Also count a forward with its backward.

    Returns
    -------
    dict of str to dict
        For ``"forward"`` and ``"training"``: GFLOP by part. What no part does is ``"elsewhere"``.
    """
    positions, features = sphere(num_points * batch, model.config)
    sample = torch.arange(batch).repeat_interleave(num_points)
    arguments = model.leaf_arguments(positions, features, model.tree(positions, sample))
    arguments["mask"] = None  # what is masked is computed all the same
    arguments = tree_map_only(torch.Tensor, lambda x: x.to("meta"), arguments)
    with torch.device("meta"):
        shadow = type(model)(model.config)
        with torch.no_grad():
            found = {"forward": _count(shadow.eval(), lambda: shadow.forward_leaves(**arguments))}
        if training:
            found["training"] = _count(shadow.train(), lambda: shadow.forward_leaves(**arguments).sum().backward())
    return found


def _count(model, call):
    counter = FlopCounterMode(display=False)
    tracker = counter.mod_tracker = _PartTracker(model)
    with counter:
        call()
    tracker.remove()
    gflop = defaultdict(float)
    for part, operations in counter.get_flop_counts().items():
        if part != "Global":
            for operation, count in operations.items():
                gflop[operator_part(operation) or part] += count / 1e9
    return dict(gflop)


class _PartTracker:
    """Stands in for the counter's tracker of modules: says which part of the model runs, forward or backward.

    The counter's own hooks the modules of every thread, and a count may run beside other models. Here only this model's
    modules are hooked. In the backward, every node of the graph says before it runs in which part it was made.
    """

    def __init__(self, model):
        self._running, self._of_node, self._hooks = [ELSEWHERE], {}, []
        for module, part in parts_of(model).items():
            self._hooks.append(module.register_forward_pre_hook(self._entering(part)))
            self._hooks.append(module.register_forward_hook(self._leaving))

    @property
    def parents(self):
        """What the counter adds an operation to."""
        return {"Global", self._running[-1]}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def remove(self):
        for hook in self._hooks:
            hook.remove()

    def _entering(self, part):
        def hook(module, args):
            self._name_nodes(args)  # what is not named yet was made outside
            self._running.append(part)

        return hook

    def _leaving(self, module, args, output):
        self._name_nodes(output)
        self._running.pop()

    def _name_nodes(self, values):
        """Give the nodes behind these tensors, as far as they have none, the part that runs now."""
        part = self._running[-1]
        nodes = [x.grad_fn for x in tree_leaves(values) if isinstance(x, torch.Tensor)]
        while nodes:
            node = nodes.pop()
            if node is None or node in self._of_node:
                continue
            self._of_node[node] = part
            node.register_prehook(self._running_backward(part))
            nodes += [after for after, _ in node.next_functions]

    def _running_backward(self, part):
        def hook(_gradients):
            self._running[:] = [part]

        return hook
