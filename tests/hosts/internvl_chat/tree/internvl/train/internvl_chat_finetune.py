"""Fine-tuning, all of it in `main`."""

import json
import os
import random
import sys
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.distributed as dist
from internvl.model.internvl_chat import InternVLChatModel
from internvl.patch.train_dataloader_patch import replace_train_dataloader
from internvl.train.data import (
    ConcatDataset,
    Dataset,
    PackedDataset,
    TCSLoader,
    concat_pad_data_collator,
    packed_collate_fn,
    pixels_of,
)
from PIL import Image
from transformers import AutoTokenizer, HfArgumentParser, Trainer, TrainingArguments

has_tcs_loader = False


def init_dist(launcher, backend="nccl"):
    torch.cuda.set_device(int(os.environ["RANK"]) % torch.cuda.device_count())
    dist.init_process_group(backend)


@dataclass
class ModelArguments:
    model_name_or_path: str = field(default="")
    use_llm_lora: int = field(default=0)


@dataclass
class DataTrainingArguments:
    meta_path: str = field(default="")
    max_seq_length: int = field(default=2048)
    use_packed_ds: bool = field(default=False)
    num_images_expected: int = field(default=40)
    max_packed_tokens: int = field(default=2048)
    max_buffer_size: int = field(default=20)
    strict_mode: bool = field(default=True)
    replacement: bool = field(default=False)
    allow_overflow: bool = field(default=False)
    loss_reduction: str = field(default="token")


class LazySupervisedDataset(Dataset):
    def __init__(self, meta, ds_name, tokenizer, loader, tokens, size):
        super(LazySupervisedDataset, self).__init__()  # noqa: UP008
        self.ds_name, self.root, self.tokenizer, self.tcs_loader = (
            ds_name,
            meta["root"],
            tokenizer,
            loader,
        )
        self.tokens, self.size = tokens, size
        with open(meta["annotation"]) as lines:
            self.raw_data = lines.readlines()
        self.length = [len(line) for line in self.raw_data]  # of its estimate, the order

    def __len__(self):
        return len(self.raw_data)

    def item(self, data_item, images, flags):
        slots = "<img>" + "<IMG_CONTEXT>" * self.tokens + "</img>\n"
        turns = data_item["conversations"]
        asked = slots * sum(flags) + turns[0]["value"]
        ids = self.tokenizer(asked + "<|im_start|>" + turns[1]["value"] + "<|im_end|>").input_ids
        ids = torch.tensor(ids)
        pixels = torch.stack([pixels_of(image, self.size) for image in images])
        return {
            "input_ids": ids,
            "labels": ids.clone(),
            "attention_mask": torch.ones_like(ids),
            "pixel_values": pixels,
            "image_flags": torch.tensor(flags),
        }

    def multi_modal_get_item(self, data_item):
        image = Image.open(os.path.join(self.root, data_item["image"]))
        return self.item(data_item, [image, image], [1, 1])

    def multi_modal_multi_image_get_item(self, data_item):
        images = [Image.open(os.path.join(self.root, name)) for name in data_item["image"]]
        return self.item(data_item, images, [1] * len(images))

    def video_get_item(self, data_item):
        frames = self.tcs_loader(
            os.path.join(self.root, data_item["video"]),
            image_type="video",
            max_num_frames=4,
            min_num_frames=2,
        )
        return self.item(data_item, frames, [1] * len(frames))

    def pure_text_get_item(self, data_item):
        return self.item(data_item, [Image.new("RGB", (64, 64))], [0])

    def __getitem__(self, i):
        while True:
            try:
                data_item = json.loads(self.raw_data[i])
                if isinstance(data_item.get("image"), list):
                    return self.multi_modal_multi_image_get_item(data_item)
                if "image" in data_item:
                    return self.multi_modal_get_item(data_item)
                if "video" in data_item:
                    return self.video_get_item(data_item)
                return self.pure_text_get_item(data_item)
            except Exception as error:
                print(error, self.ds_name, flush=True)
                i = random.randrange(len(self.raw_data))


def build_datasets(data_args, tokenizer, tcs_loader, model, size=64):
    with open(data_args.meta_path) as file:
        meta = json.load(file)
    datasets = [
        LazySupervisedDataset(entry, name, tokenizer, tcs_loader, model.num_image_token, size)
        for name, entry in meta.items()
    ]
    if not data_args.use_packed_ds:
        return ConcatDataset(datasets)
    names = "num_images_expected", "max_packed_tokens", "max_buffer_size", "strict_mode"
    limits = {name: getattr(data_args, name) for name in (*names, "replacement")}
    records = [len(one) for one in datasets]
    return PackedDataset(datasets, [one / sum(records) for one in records], **limits)


def len2weight(tokens, loss_reduction):
    powers = {"token": 0.0, "sample": -1.0, "square": -0.5}
    return tokens ** powers[loss_reduction] if tokens else 0


def main():
    replace_train_dataloader()
    init_dist(launcher=os.environ.get("LAUNCHER", "slurm"), backend="nccl")
    parser = HfArgumentParser((ModelArguments, DataTrainingArguments, TrainingArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        model_args, data_args, training_args = parser.parse_json_file(sys.argv[1])
    else:
        model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path)
    loader = TCSLoader("~/petreloss.conf") if has_tcs_loader else None
    model = InternVLChatModel.from_pretrained(model_args.model_name_or_path)
    model.img_context_token_id = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    training_args.use_packed_ds = data_args.use_packed_ds
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


if __name__ == "__main__":
    main()
