"""The model against a second one, written by hand in PyTorch: the same numbers from the same parameters."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from samples import CLASSES, DIMS, HEADS, KEYS, SPEAKERS, WIDTH, conversations, init, make_model, pack, tiny, unpack

from cmath_jax.config import LossConfig, OptimConfig
from cmath_jax.data.batches import Batch
from cmath_jax.data.corpus import Conversation
from cmath_jax.models.outputs import Outputs
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.losses import LossWeights, loss_terms, total_loss
from cmath_jax.training.optim import make_optimizer

torch = pytest.importorskip("torch")
from benchmarks import side_jax, side_torch, torch_batches, torch_cmath  # noqa: E402

torch.set_num_threads(1)  # the operations are tiny: threads would only wait for each other

LENGTHS = (5, 1, 4, 7)
ROWS = ((0, 2), (3, 1))
LOSS = LossConfig(gamma1=0.7, gamma2=1.3)
LEARNING_RATE = 1e-3
close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


def talks_of() -> list[Conversation]:
    talks = conversations(LENGTHS)
    talks[0].labels[1] = -1
    return talks


def ours(modalities: str, kernel: int) -> tuple[Any, Any, Batch]:
    """A model, parameters of which none is 0, and a packed batch of the conversations."""
    model, batch = make_model(modalities=modalities, kernel=kernel), pack(talks_of(), ROWS, 11, modalities)
    params = init(model, batch)
    rng = np.random.default_rng(4)
    return model, jax.tree.map(lambda x: x + jnp.asarray(rng.normal(0, 0.2, x.shape), x.dtype), params), batch


def theirs(modalities: str, kernel: int, params: Any) -> Any:
    module = torch_cmath.CMATH(
        {m: DIMS[m] for m in modalities},
        CLASSES,
        SPEAKERS,
        width=WIDTH,
        heads=HEADS,
        dropout=0.0,
        max_length=max(LENGTHS),
        kernel=kernel,
    )
    torch_cmath.load_parameters(module, params)
    return module


def run(model: Any, params: Any, batch: Batch) -> tuple[Any, Outputs, dict[str, jax.Array]]:
    """Gradients, outputs and losses."""
    weights = LossWeights.of(LOSS, np.ones(CLASSES, np.float32))

    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        outputs = model.apply({"params": params}, batch, train=True, rngs=KEYS)
        terms = {name: term.value() for name, term in loss_terms(outputs, batch, weights).items()}
        loss = total_loss(terms, weights)
        return loss, (outputs, {**terms, "loss": loss})

    grads, (outputs, terms) = jax.jit(jax.grad(loss_of, has_aux=True))(params)
    return grads, outputs, terms


def padded(x_nd: np.ndarray) -> Any:
    """[b, l, d] of PyTorch, from the utterances of all conversations in their order."""
    parts = np.split(x_nd, np.cumsum(LENGTHS)[:-1])
    return torch.nn.utils.rnn.pad_sequence([torch.from_numpy(part) for part in parts], batch_first=True)


@pytest.mark.slow
@pytest.mark.parametrize(("modalities", "kernel"), [("tav", 1), ("tav", 3), ("ta", 1), ("v", 1)])
def test_same_as_pytorch(modalities: str, kernel: int) -> None:
    """Logits, losses, the gradient of every parameter, and the parameters after a step of Adam."""
    model, params, batch = ours(modalities, kernel)
    grads, outputs, terms = run(model, params, batch)
    module = theirs(modalities, kernel, params)
    padded_batch = torch_batches.collate([*torch_batches.ConversationDataset(talks_of(), modalities)])
    eps_bld = padded(unpack((outputs.sample_rld - outputs.mean_rld) / outputs.deviation_rld, batch))

    there = module(padded_batch, eps_bld)
    for name, x_blx, x_rlx in (
        ("fused", there.logits_blc, outputs.logits_rlc),
        *((m, there.modality_logits[m], outputs.modality_logits[m]) for m in modalities),
        ("deviation", there.deviation_bld, outputs.deviation_rld),
        *((m, there.reconstructions[m], outputs.reconstructions[m]) for m in modalities),
    ):
        close(x_blx[padded_batch.umask_bl].detach().numpy(), unpack(x_rlx, batch), err_msg=name)

    optimizer = torch.optim.Adam(module.parameters(), LEARNING_RATE)
    weights = {"gamma1": LOSS.gamma1, "gamma2": LOSS.gamma2}
    step = partial(torch_cmath.train_step, module, padded_batch, optimizer, eps_bld=eps_bld, **weights)
    losses = {name: x.item() for name, x in step(precision="float32").items()}
    assert losses == pytest.approx({name: float(x) for name, x in terms.items()}, rel=1e-4)
    expected = torch_cmath.named_arrays(grads, modalities)
    assert sum(x.size for x in expected.values()) == sum(x.size for x in jax.tree.leaves(grads))
    assert expected.keys() == dict(module.named_parameters()).keys()
    for name, parameter in module.named_parameters():
        assert expected[name].any()
        close(parameter.grad.numpy(), expected[name], err_msg=name)

    tx = make_optimizer(OptimConfig(), lambda epoch: round(10 * epoch), 1)
    updates, _ = tx.update(grads, tx.init(params), params)
    after = optax.apply_updates(params, jax.tree.map(lambda x: LEARNING_RATE * x, updates))
    before = torch_cmath.named_arrays(params, modalities)
    for name, x in torch_cmath.named_arrays(after, modalities).items():
        moved = module.get_parameter(name).detach().numpy()
        # The first step of Adam has the sign of the gradient: only where that is sure is the step.
        sure = np.abs(expected[name]) > 1e-4
        close(moved[sure], x[sure], err_msg=name)
        assert (moved[sure] != before[name][sure]).all()


def test_padding_has_no_gradient() -> None:
    """Huge features in the padding change no loss and no gradient."""
    _, params, _ = ours("tav", 1)
    module = theirs("tav", 1, params)
    clean = torch_batches.collate([*torch_batches.ConversationDataset(talks_of(), "tav")])
    dirty = clean._replace(features={m: u_blm.clone() for m, u_blm in clean.features.items()})
    for u_blm in dirty.features.values():
        u_blm[~clean.umask_bl] = 1e30
    eps_bld = torch.zeros(*clean.label_bl.shape, WIDTH)
    results = []
    for batch in (clean, dirty):
        module.zero_grad()
        terms = torch_cmath.losses(module(batch, eps_bld), batch, 1.0, 1.2)
        terms["loss"].backward()
        results.append([terms["loss"].item(), *(p.grad.clone() for p in module.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_loader_serves_every_utterance_once_an_epoch() -> None:
    talks = talks_of()
    batches = [*torch_batches.make_loader(talks, "ta", 3)]
    assert [len(batch.label_bl) for batch in batches] == [3, 1]
    served = np.concatenate([batch.features["t"][batch.umask_bl].numpy() for batch in batches])
    there = np.concatenate([talk.features["t"] for talk in talks])
    np.testing.assert_array_equal(np.sort(served, axis=0), np.sort(there, axis=0))
    assert all((batch.label_bl[~batch.umask_bl] == -1).all() for batch in batches)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_lowers_the_loss(precision: str) -> None:
    torch.manual_seed(0)
    module = torch_cmath.CMATH(DIMS, CLASSES, SPEAKERS, width=WIDTH, heads=HEADS, dropout=0.2, max_length=7)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    losses = [
        torch_cmath.train_step(module, batch, optimizer, gamma1=1.0, gamma2=1.2, precision=precision)["loss"].item()
        for _ in range(20)
        for batch in torch_batches.make_loader(talks_of(), "tav", 4)
    ]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


@pytest.mark.slow
def test_both_sides_of_the_benchmark_train() -> None:
    config = tiny(parallel__devices=1)  # 11 conversations, 3 a step
    corpus = load_configured(config)
    ours, theirs = side_jax.Side(config, corpus), side_torch.Side(config, corpus)
    assert ours.steps_per_epoch == theirs.steps_per_epoch == 4
    # Ours stops at the end of an epoch, where the host plans the next one.
    assert [ours.advance(3)[0] for _ in range(3)] == [3, 1, 3]
    assert len(ours.planning) == 2
    assert theirs.advance(6)[0] == 6
    assert min(ours.advance(1)[1], theirs.advance(1)[1]) > 0
