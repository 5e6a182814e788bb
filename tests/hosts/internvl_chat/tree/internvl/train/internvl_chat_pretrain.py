"""Pre-training: as fine-tuning, but every rank keeps its own part of the records only."""

import json
import os
from functools import partial

import torch.distributed as dist
from internvl.model.internvl_chat import InternVLChatModel
from internvl.patch.train_dataloader_patch import replace_train_dataloader
from internvl.train import internvl_chat_finetune as finetune
from internvl.train.data import (
    ConcatDataset,
    PackedDataset,
    TCSLoader,
    concat_pad_data_collator,
    packed_collate_fn,
)
from internvl.train.internvl_chat_finetune import (
    DataTrainingArguments,
    ModelArguments,
    init_dist,
    len2weight,
)
from transformers import AutoTokenizer, HfArgumentParser, Trainer, TrainingArguments

has_tcs_loader = False


class LazySupervisedDataset(finetune.LazySupervisedDataset):
    def __init__(self, meta, ds_name, tokenizer, loader, tokens, size):
        super(LazySupervisedDataset, self).__init__(  # noqa: UP008
            meta, ds_name, tokenizer, loader, tokens, size
        )
        self.total_ranks = dist.get_world_size()
        share = max(1, len(self.raw_data) // self.total_ranks)
        self.raw_data = self.raw_data[share * dist.get_rank() :][:share]
        self.packed = False

    def __len__(self):
        return len(self.raw_data) * (1 if self.packed else self.total_ranks)


def build_datasets(data_args, tokenizer, tcs_loader, model, size=64):
    with open(data_args.meta_path) as file:
        meta = json.load(file)
    datasets = [
        LazySupervisedDataset(entry, name, tokenizer, tcs_loader, model.num_image_token, size)
        for name, entry in meta.items()
    ]
    if not data_args.use_packed_ds:
        return ConcatDataset(datasets)
    for one in datasets:
        one.packed = True
    names = "num_images_expected", "max_packed_tokens", "max_buffer_size", "strict_mode"
    limits = {name: getattr(data_args, name) for name in (*names, "replacement")}
    weights = [1 / len(datasets)] * len(datasets)
    return PackedDataset(datasets, weights, dist.get_rank(), dist.get_world_size(), **limits)


def main():
    replace_train_dataloader()
    init_dist(launcher=os.environ.get("LAUNCHER", "slurm"), backend="nccl")
    parser = HfArgumentParser((ModelArguments, DataTrainingArguments, TrainingArguments))
    model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    training_args.use_packed_ds = data_args.use_packed_ds
    tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path)
    loader = TCSLoader("~/petreloss.conf") if has_tcs_loader else None
    model = InternVLChatModel.from_pretrained(model_args.model_name_or_path)
    model.img_context_token_id = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    dataset = build_datasets(data_args, tokenizer, loader, model)
    model.requires_grad_(False)
    if model_args.use_llm_lora:
        model.wrap_llm_lora(model_args.use_llm_lora, 2 * model_args.use_llm_lora)
        model.config.use_llm_lora = model_args.use_llm_lora
    collator = concat_pad_data_collator
    if data_args.use_packed_ds:
        collator = partial(
            packed_collate_fn,
            data_collator=concat_pad_data_collator,
            max_item_length=data_args.max_packed_tokens if data_args.strict_mode else 0,
            micro_num=training_args.train_batch_size,
            len2weight=partial(len2weight, loss_reduction=data_args.loss_reduction),
        )
    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=dataset,
        tokenizer=tokenizer,
        data_collator=collator,
    )
    trainer.train()
    trainer.save_model()
    return trainer
