"""A minimal stage for tests: GPT-2 with dropout, random data from every generator, the whole loop.

As a script (`python tiny_stage.py OUTPUT STEP SIGNAL`) it sends itself the signal inside a step.
"""

import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tiny import tiny_model

from zhenlong.data import Mixture
from zhenlong.loop import Learner, Run, StepLoss, TrainingOptions
from zhenlong.models.options import ModelOptions
from zhenlong.options import take_options

DEFAULTS = {"batch_size": 4, "epochs": 3.6, "lr": 1e-2, "warmup_steps": 2, "weight_decay": 0.1}
DEFAULTS |= {"save_every": 2, "progress": False}


def write_weights(model, tokenizer, folder: Path) -> None:
    folder.mkdir()
    save_file({name: p.detach().clone() for name, p in model.named_parameters()}, folder / "model.safetensors")


def do_nothing(run: Run, step: int) -> None:
    pass


def tiny_stage(output, *, records: int = 10, during=do_nothing, loss_scale: float = 1.0, **options) -> Path:
    """Ten records in batches of four: an epoch ends in steps 3, 5 and 8. `during` is called inside each step."""
    config = {"records": records, "options": options}
    model_options, options = take_options(options, ModelOptions(device="cpu"), TrainingOptions(**DEFAULTS))
    with Run(output, config, options, "tiny", model_options=model_options) as run:
        if run.finished:
            return run.output
        model = tiny_model("gpt2", n_embd=16, n_layer=1, n_head=2, n_positions=32)
        order = Mixture([records], seed=options.seed)
        total = options.total_steps(records)
        learner = Learner(model, options, total)
        run.track(learner=learner, order=order)
        for step in run.steps(total):
            batch = order.draw(options.batch_size)
            ids = torch.stack([record(index, run.generator("data")) for index in batch])  # [R, T]
            metrics = learner.step(ids.split(2), lambda one: loss_of(model, one, loss_scale), count=len(batch))
            run.ledger.count(tokens=ids.numel())
            run.log(metrics | {"records": batch, "noise": random.random() + np.random.random()})  # noqa: NPY002
            if run.should_sample():
                run.write_samples([{"prompt": [{"role": "user", "content": "?"}], "response": str(step)}])
            during(run, step)
        return run.finish(model, None, write_weights)


def record(index: int, generator: torch.Generator) -> torch.Tensor:
    return torch.cat([torch.full((4,), index), torch.randint(100, (4,), generator=generator)])


def loss_of(model, ids: torch.Tensor, scale: float) -> StepLoss:
    loss = model(input_ids=ids, labels=ids).loss * scale
    return StepLoss(loss * len(ids))


if __name__ == "__main__":
    torch.set_num_threads(1)
    at, number = int(sys.argv[2]), getattr(signal, sys.argv[3])
    tiny_stage(sys.argv[1], during=lambda run, step: os.kill(os.getpid(), number) if step == at else None)
