"""Fine-tune a native InternVL on text conversations with nothing but transformers.

A plain script, as anybody has one: it loads an `InternVLForConditionalGeneration`, reads
conversations (one JSON list of {"role", "content"} a line) and hands both to
`transformers.Trainer`.

    python finetune.py --model FOLDER --conversations chats.jsonl --output_dir out --max_steps 100
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import torch
from transformers import (
    AutoTokenizer,
    HfArgumentParser,
    InternVLForConditionalGeneration,
    Trainer,
    TrainingArguments,
)

IGNORE = -100


@dataclass
class ScriptArguments:
    """What is trained on what."""

    model: str = field(metadata={"help": "folder or hub id of the host"})
    conversations: str = field(metadata={"help": "JSON lines, one conversation a line"})


class Conversations(torch.utils.data.Dataset):
    """Token ids of each conversation, through the tokenizer's chat template."""

    def __init__(self, path: str, tokenizer):
        self.tokenizer = tokenizer
        with open(path, encoding="utf-8") as lines:
            self.records = [json.loads(line) for line in lines if line.strip()]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> list[int]:
        text = self.tokenizer.apply_chat_template(self.records[index], tokenize=False)
        return self.tokenizer(text, add_special_tokens=False).input_ids


class Pad:
    """Ids of a batch padded on the right; padding is neither read nor learned."""

    def __init__(self, pad_id: int):
        self.pad_id = pad_id

    def __call__(self, rows: list[list[int]]) -> dict[str, torch.Tensor]:
        length = max(map(len, rows))
        ids = torch.tensor([row + [self.pad_id] * (length - len(row)) for row in rows])
        read = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
        return {
            "input_ids": ids,
            "attention_mask": read,
            "labels": ids.masked_fill(read == 0, IGNORE),
        }


def main() -> None:
    script, training = HfArgumentParser(
        (ScriptArguments, TrainingArguments)
    ).parse_args_into_dataclasses()
    tokenizer = AutoTokenizer.from_pretrained(script.model)
    model = InternVLForConditionalGeneration.from_pretrained(script.model)
    trainer = Trainer(
        model=model,
        args=training,
        train_dataset=Conversations(script.conversations, tokenizer),
        data_collator=Pad(tokenizer.pad_token_id),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
