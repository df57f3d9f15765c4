"""What is minimised: the published loss of each set."""

import math

import torch
import torch.nn.functional as F

LOSSES = {
    "mse": "mean squared error of the normalised target",
    "relative_l2": "relative L2 error in physical units, mean over the samples",
    "nll": "negative log-likelihood of the normalised target under the predicted normal distribution",
}
_LEAST_STD = 1e-6  # of a predicted distribution (published)


def loss_of(kind, out, target, model, sizes):
    r"""Loss of a batch.

    With t the target normalised by the model's ``output_mean`` and ``output_std``:

    - ``"mse"``: mean of :math:`(o - t)^2`;
    - ``"relative_l2"``: mean over the samples of :math:`\|\hat y - y\| / \|y\|`, y in physical units;
    - ``"nll"``: the outputs are a mean and a width of each column,
      mean of :math:`\tfrac12 ((t - \mu)/s)^2 + \ln s + \tfrac12 \ln 2\pi` with
      :math:`s = \mathrm{softplus}(w) + 10^{-6}` (arXiv 2502.17019, molecular dynamics).

    Parameters
    ----------
    kind : {"mse", "relative_l2", "nll"}
    out : Tensor (P, out_features)
        Of the model's forward.
    target : Tensor (P, T)
        In physical units.
    model : PointModel
    sizes : sequence of int
        Points of each sample.
    """
    out, columns = out.float(), target.shape[1]
    mean, std = model.output_mean[:columns], model.output_std[:columns]
    if kind == "relative_l2":
        off = (out * std + mean - target).split(list(sizes))
        parts = [part.norm() / true.norm() for part, true in zip(off, target.split(list(sizes)))]
        return torch.stack(parts).mean()
    normalised = (target - mean) / std
    if kind == "mse":
        return F.mse_loss(out, normalised)
    width = F.softplus(out[:, columns:]) + _LEAST_STD
    return (((normalised - out[:, :columns]) / width).square() / 2 + width.log()).mean() + math.log(2 * math.pi) / 2


def normalise(model, samples, cars, kind):
    """Put the target's mean and standard deviation into the model: the set's published ones, or the samples'.

    Parameters
    ----------
    model : PointModel
    samples : sequence of bsaviz.training.batches.Sample
    cars : sequence of Car or of bsaviz.datasets.Sample
    kind : str
        The loss: the widths that ``"nll"`` predicts are left as they are.
    """
    published = getattr(cars[0], "target_mean", None), getattr(cars[0], "target_std", None)
    if None in published:
        targets = torch.cat([sample.target for sample in samples]).double()
        std, mean = torch.std_mean(targets, dim=0, correction=0)
        std = torch.where(std > 0, std, 1)  # a constant target is learnt as it is
    else:
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in published)
    columns = samples[0].target.shape[1]
    if kind == "nll":
        model.output_mean.zero_()
        model.output_std.fill_(1)
    model.output_mean[:columns] = mean.to(model.output_mean)
    model.output_std[:columns] = std.to(model.output_std)
