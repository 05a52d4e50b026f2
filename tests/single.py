"""The config of a run on one device, with everything that has a state: averages, a schedule, clipping."""

from samples import tiny

ONE_DEVICE = tiny(
    parallel__devices=1, optim__average=0.9, optim__schedule="cosine", optim__warmup_epochs=0.5, optim__clip_norm=1.0
)
