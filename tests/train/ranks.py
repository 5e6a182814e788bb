"""What each rank of a distributed test runs: `torchrun ... ranks.py OUT DATA [DEEPSPEED [LAYOUT]]`.

Even items of the mixture are grounded, odd ones text only, so that with two ranks and one sample a
rank the first rank never sees text alone and the second never sees anything else. With a LAYOUT,
"padded" or "packed", a rank takes two samples a step, and so one of each.
"""

from __future__ import annotations

import sys

from torch.utils.data import Dataset


class Alternating(Dataset):
    """Grounded, text, grounded, text ..."""

    def __init__(self, samples):
        self.samples = [samples["grounded"], samples["text"]] * 4

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def main(out: str, data: str, zero: str = "", layout: str = "") -> None:
    from torch.utils.data import SequentialSampler

    from sama_plugin.data.sources import open_source
    from sama_plugin.train.run import build_trainer
    from tests.train.factories import tiny_run

    if zero:
        import deepspeed

        # Gloo does: nothing is compiled in a test.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    config = tiny_run(data, out, mask_decoder=True, steps=3, save_every=2)
    config.train.deepspeed = zero or None
    config.train.batch_size = 2 if layout else 1
    config.train.packing = layout == "packed"
    trainer = build_trainer(config)
    samples = {sample.id: sample for sample in open_source(config.data[0])}
    trainer.train_dataset = Alternating(samples)
    trainer._get_train_sampler = lambda *_: SequentialSampler(trainer.train_dataset)
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main(*sys.argv[1:])
