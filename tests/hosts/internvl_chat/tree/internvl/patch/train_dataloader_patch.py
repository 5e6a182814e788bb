"""Replaces the Trainer's loader for everybody, and takes `seed_worker` by name."""

import transformers
from torch.utils.data import DataLoader
from transformers.trainer import seed_worker


def get_train_dataloader(self):
    collator = self._get_collator_with_removed_columns(self.data_collator, description="training")
    if self.args.use_packed_ds:
        return DataLoader(
            self.train_dataset, batch_size=self._train_batch_size, collate_fn=collator
        )
    return self.accelerator.prepare(
        DataLoader(
            self.train_dataset,
            batch_size=self._train_batch_size,
            collate_fn=collator,
            num_workers=self.args.dataloader_num_workers,
            worker_init_fn=seed_worker,
            sampler=self._get_train_sampler(),
        )
    )


def replace_train_dataloader():
    transformers.Trainer.get_train_dataloader = get_train_dataloader
