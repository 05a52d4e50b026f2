"""CMATH as this field writes it: eager PyTorch, padded batches (`benchmarks.torch_batches`), Adam.

The reference of `benchmarks.single_device`, for speed, and of tests/models/test_torch_cmath.py, for numbers: it follows
docs/model.md and shares no code with `cmath_jax.models`. The model is the paper's full one, for any modalities; the
teacher is stopped. `load_parameters` gives it the parameters of a Flax model.

Shapes: b conversations of a batch, l utterances of the longest, d width, c classes, h heads.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.torch_batches import PaddedBatch
from cmath_jax.data.corpus import UNLABELLED

NORM_EPSILON = 1e-6  # of every LayerNorm, as in Flax
SMALLEST_DEVIATION = 1e-6
TORCH_NAMES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}


class Attention(nn.Module):
    """Multi-head attention of every utterance to the utterances of its conversation (eqs 9, 11)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width)
        self.weight_dropout = nn.Dropout(dropout)
        self.output_dropout = nn.Dropout(dropout)

    def forward(self, asking_bld: Tensor, answering_bld: Tensor, umask_bl: Tensor) -> Tensor:
        size, length, width = asking_bld.shape

        def split(x_bld: Tensor) -> Tensor:
            return x_bld.view(size, length, self.heads, width // self.heads).transpose(1, 2)

        query_bhlx = split(self.query(asking_bld))
        key_bhlx = split(self.key(answering_bld))
        value_bhlx = split(self.value(answering_bld))
        score_bhll = query_bhlx @ key_bhlx.transpose(-2, -1) / math.sqrt(width / self.heads)
        score_bhll = score_bhll.masked_fill(~umask_bl[:, None, None, :], -torch.inf)
        weight_bhll = self.weight_dropout(score_bhll.softmax(-1))
        mixed_bld = (weight_bhll @ value_bhlx).transpose(1, 2).reshape(size, length, width)
        return self.output_dropout(self.output(mixed_bld))


class FeedForward(nn.Module):
    """The feed-forward layer of a block: as many hidden units as the width, GELU."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.project = nn.Linear(width, width)
        self.hidden_dropout = nn.Dropout(dropout)
        self.output_dropout = nn.Dropout(dropout)

    def forward(self, x_bld: Tensor) -> Tensor:
        return self.output_dropout(self.project(self.hidden_dropout(functional.gelu(self.hidden(x_bld)))))


class Block(nn.Module):
    """What follows an attention (eqs 10, 11): two norms after two residuals."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.feed_forward = FeedForward(width, dropout)
        self.output_norm = nn.LayerNorm(width, eps=NORM_EPSILON)

    def forward(self, attended_bld: Tensor, central_bld: Tensor) -> Tensor:
        b_bld = self.attention_norm(attended_bld + central_bld)
        return self.output_norm(self.feed_forward(b_bld) + b_bld)


class CMATransformer(nn.Module):
    """The cross-modality augmented transformer of one central modality (eqs 9-14)."""

    def __init__(self, central: str, modalities: str, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.central = central
        self.attentions = nn.ModuleDict({m: Attention(width, heads, dropout) for m in modalities})
        self.blocks = nn.ModuleDict({m: Block(width, dropout) for m in modalities})
        self.gate = nn.Linear(width, width, bias=False) if len(modalities) > 1 else None

    def forward(self, h: Mapping[str, Tensor], umask_bl: Tensor) -> Tensor:
        h_c = h[self.central]
        attended = {m: attention(h_c, h[m], umask_bl) for m, attention in self.attentions.items()}
        attended[self.central] = total(attended.values())
        z = torch.stack([block(attended[m], h_c) for m, block in self.blocks.items()])
        return z[0] if self.gate is None else (self.gate(z).softmax(0) * z).sum(0)


class Outputs(NamedTuple):
    """What the losses need.

    Attributes:
      logits_blc: of the fused classifier.
      modality_logits: m -> [b, l, c].
      mean_bld, deviation_bld, sample_bld: of the fused Gaussian.
      augmented: m -> H'_m [b, l, d].
      reconstructions: m -> U''_m [b, l, d_m].
    """

    logits_blc: Tensor
    modality_logits: dict[str, Tensor]
    mean_bld: Tensor
    deviation_bld: Tensor
    sample_bld: Tensor
    augmented: dict[str, Tensor]
    reconstructions: dict[str, Tensor]


class CMATH(nn.Module):
    """The whole model.

    Args:
      dims: m -> d_m, of the modalities that take part.
      max_length: of a conversation, in utterances.
    """

    position_ld: Tensor

    def __init__(
        self,
        dims: Mapping[str, int],
        classes: int,
        speakers: int,
        *,
        width: int,
        heads: int,
        dropout: float,
        max_length: int,
        kernel: int = 1,
    ) -> None:
        super().__init__()
        modalities = "".join(dims)

        def convolution(features: int, outputs: int, bias: bool) -> nn.Conv1d:
            return nn.Conv1d(features, outputs, kernel, padding=kernel // 2, bias=bias)

        def perceptrons() -> nn.ModuleDict:
            layers = {m: (nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for m in modalities}
            return nn.ModuleDict({m: nn.Sequential(*mlp) for m, mlp in layers.items()})

        self.down = nn.ModuleDict({m: convolution(d_m, width, False) for m, d_m in dims.items()})
        self.up = nn.ModuleDict({m: convolution(width, d_m, True) for m, d_m in dims.items()})
        self.speaker = nn.Embedding(speakers, width)
        self.register_buffer("position_ld", position_encoding(max_length, width), persistent=False)
        self.transformers = nn.ModuleDict(
            {m: CMATransformer(m, modalities, width, heads, dropout) for m in modalities},
        )
        self.means = perceptrons()
        self.deviations = perceptrons()
        self.classifier = nn.Linear(width, classes)
        self.classifiers = nn.ModuleDict({m: nn.Linear(width, classes) for m in modalities})
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: PaddedBatch, eps_bld: Tensor | None = None) -> Outputs:
        """With `eps_bld` as the noise of the fusion; without, it is drawn in training and 0 in evaluation."""
        umask_bl = batch.umask_bl
        compressed = {m: convolve(self.down[m], u_blm, umask_bl) for m, u_blm in batch.features.items()}
        restored = {m: convolve(self.up[m], u_bld, umask_bl) for m, u_bld in compressed.items()}

        shared_bld = self.speaker(batch.speaker_bl) + self.position_ld[: umask_bl.shape[1]]
        h = {m: self.dropout(u_bld + shared_bld) for m, u_bld in compressed.items()}
        augmented = {m: transformer(h, umask_bl) for m, transformer in self.transformers.items()}

        mean_bld = torch.stack([mlp(augmented[m]) for m, mlp in self.means.items()]).float().mean(0)
        raw_mbld = torch.stack([mlp(augmented[m]) for m, mlp in self.deviations.items()]).float()
        deviation_bld = (functional.softplus(raw_mbld) + SMALLEST_DEVIATION).mean(0)
        if eps_bld is None:
            eps_bld = torch.randn_like(mean_bld) if self.training else torch.zeros_like(mean_bld)
        sample_bld = mean_bld + eps_bld * deviation_bld

        return Outputs(
            logits_blc=self.classifier(self.dropout(sample_bld)),
            modality_logits={m: linear(self.dropout(augmented[m])) for m, linear in self.classifiers.items()},
            mean_bld=mean_bld,
            deviation_bld=deviation_bld,
            sample_bld=sample_bld,
            augmented=augmented,
            reconstructions=restored,
        )


def total(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack([*terms]).sum(0)


def convolve(convolution: nn.Module, x_blf: Tensor, umask_bl: Tensor) -> Tensor:
    """Over the utterances of each conversation; 0 in padding, so that a further convolution sees none of it."""
    y_blf = convolution(x_blf.transpose(1, 2)).transpose(1, 2)
    return torch.where(umask_bl[..., None], y_blf, 0.0)


def position_encoding(length: int, width: int) -> Tensor:
    """float32 [length, width]: P of eqs 6, 7."""
    index_d = torch.arange(width)
    rate_d = 10000.0 ** (-(index_d - index_d % 2) / width)
    angle_ld = torch.arange(length)[:, None] * rate_d.double()
    return torch.where(index_d % 2 == 0, angle_ld.sin(), angle_ld.cos()).float()


def losses(outputs: Outputs, batch: PaddedBatch, gamma1: float, gamma2: float) -> dict[str, Tensor]:
    """The terms of eq. 24 and their weighted sum, `loss`: means over the labelled utterances of the batch."""
    valid_bl = batch.label_bl != UNLABELLED
    count = valid_bl.sum()

    def masked(x_blx: Tensor) -> Tensor:
        """0 where nothing is labelled, before anything is computed from it: there is no gradient, not even NaN."""
        return torch.where(valid_bl[..., None], x_blx.float(), 0.0)

    def distance(x_bld: Tensor, y_bld: Tensor) -> Tensor:
        return (masked(x_bld) - masked(y_bld)).square().mean(-1).sum() / count

    def surprise(logits_blc: Tensor) -> Tensor:
        return functional.cross_entropy(masked(logits_blc).transpose(1, 2), batch.label_bl, ignore_index=UNLABELLED)

    def divergence(student_blc: Tensor, teacher_blc: Tensor) -> Tensor:
        log_student_blc, log_teacher_blc = masked(student_blc).log_softmax(-1), masked(teacher_blc).log_softmax(-1)
        return functional.kl_div(log_student_blc, log_teacher_blc, reduction="sum", log_target=True) / count

    students = outputs.modality_logits.values()
    fused_blc, sample_bld = outputs.logits_blc.detach(), outputs.sample_bld.detach()
    terms = {
        "ce": total(surprise(logits_blc) for logits_blc in (outputs.logits_blc, *students)),
        "kl": total(divergence(logits_blc, fused_blc) for logits_blc in students),
        "mse": total(distance(h_bld, sample_bld) for h_bld in outputs.augmented.values()),
        "reconstruction": total(distance(u_blm, batch.features[m]) for m, u_blm in outputs.reconstructions.items()),
    }
    loss = terms["ce"] + terms["reconstruction"] + gamma1 * terms["mse"] + gamma2 * terms["kl"]
    return {**terms, "loss": loss}


def train_step(
    model: CMATH,
    batch: PaddedBatch,
    optimizer: torch.optim.Optimizer,
    *,
    gamma1: float,
    gamma2: float,
    precision: str,
    eps_bld: Tensor | None = None,
) -> dict[str, Tensor]:
    """One step; `precision` is float32 or bfloat16, which computes under autocast. Returns its `losses`."""
    optimizer.zero_grad()
    device = next(model.parameters()).device
    batch = batch.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        outputs = model(batch, eps_bld)
    terms = losses(outputs, batch, gamma1, gamma2)
    terms["loss"].backward()
    optimizer.step()
    return {name: term.detach() for name, term in terms.items()}


def load_parameters(model: CMATH, params: Mapping[str, Any]) -> None:
    """Copies the parameters of a Flax model of the same sizes into this one."""
    model.load_state_dict({name: torch.from_numpy(x) for name, x in named_arrays(params, [*model.down]).items()})


def named_arrays(params: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of a Flax tree (parameters, gradients) under the names and in the shapes that PyTorch has for them.

    There, equal layers are one array: stacked in front, [central, source] or [modality, mean or deviation]; queries,
    keys and values, of which several have the same input, side by side, [modality, input, other modality, output].
    """
    named: dict[str, np.ndarray] = {}

    def take(name: str, path: str, *stack: int, beside: int | None = None) -> None:
        for ours, x in reduce(getitem, path.split("/"), params).items():
            layer = np.asarray(x)[stack]
            layer = layer if beside is None else layer[..., beside, :]
            named[f"{name}.{TORCH_NAMES[ours]}"] = np.array(layer.T if ours == "kernel" else layer)

    take("speaker", "speaker")
    take("classifier", "classifier")
    for c, m in enumerate(modalities):
        take(f"down.{m}", f"down_{m}")
        take(f"up.{m}", f"up_{m}")
        take(f"classifiers.{m}", "classifiers", c)
        for p, perceptrons in enumerate(("means", "deviations")):
            take(f"{perceptrons}.{m}.0", "fusion/hidden", c, p)
            take(f"{perceptrons}.{m}.2", "fusion/output", c, p)
        for x, source in enumerate(modalities):
            attention, block = f"transformers.{m}.attentions.{source}", f"transformers.{m}.blocks.{source}"
            take(f"{attention}.query", "cma/attention/query", c, beside=x)
            for part in ("key", "value"):
                take(f"{attention}.{part}", f"cma/attention/{part}", x, beside=c)
            take(f"{attention}.output", "cma/attention/output", c, x)
            for part in ("attention_norm", "output_norm"):
                take(f"{block}.{part}", f"cma/block/{part}", c, x)
            for part in ("hidden", "project"):
                take(f"{block}.feed_forward.{part}", f"cma/block/{part}", c, x)
        if len(modalities) > 1:
            take(f"transformers.{m}.gate", "cma/gate", c)
    return named
