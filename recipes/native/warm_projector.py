"""Let the projector of a swapped host learn its new language model: everything else is frozen.

Plain conversations about images and videos, in InternVL's own meta format; no regions, no masks.
The plugin is attached for its data path alone (frames, wording, labels) and taken off again.

    python recipes/native/warm_projector.py --host out/swapped --data meta.json --out out/warmed
"""

from __future__ import annotations

import argparse


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", required=True, help="folder that `sama swap-llm` wrote")
    parser.add_argument("--data", required=True, help="InternVL meta file of plain conversations")
    parser.add_argument("--out", required=True, help="folder of the warmed host")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--dtype", default="bfloat16", help="bfloat16 or float32")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    import torch
    from transformers import Trainer, TrainingArguments

    from sama_plugin.data.sources import SourceConfig
    from sama_plugin.infer.load import load_host
    from sama_plugin.media.frames import FramePolicy
    from sama_plugin.model.attach import attach
    from sama_plugin.model.config import AggregatorConfig, SamaConfig, SegConfig
    from sama_plugin.train.material import training_material

    host, tokenizer = load_host(asked.host)
    host.to(getattr(torch, asked.dtype))
    config = SamaConfig(
        aggregator=AggregatorConfig(kind="none"),
        seg=SegConfig(segmenter="mini", weights="random"),  # nothing is segmented here
        frames=FramePolicy(aggregator=0, llm=8, prompted=0),
    )
    sama = attach(host, tokenizer, config)
    source = SourceConfig(format="internvl_meta", path=asked.data)
    dataset, collate = training_material(sama, (source,))
    sama.detach()
    host.requires_grad_(False)
    host.model.multi_modal_projector.requires_grad_(True)

    def plain(items: list) -> dict:
        """The host's own inputs."""
        return {name: value for name, value in collate(items).items() if name != "sama"}

    settings = TrainingArguments(
        output_dir=asked.out,
        max_steps=asked.steps,
        per_device_train_batch_size=asked.batch,
        learning_rate=asked.rate,
        lr_scheduler_type="cosine",
        warmup_steps=asked.steps // 30,
        logging_steps=10,
        save_strategy="no",
        remove_unused_columns=False,
        report_to=[],
    )
    Trainer(model=host, args=settings, train_dataset=dataset, data_collator=plain).train()
    host.save_pretrained(asked.out)
    tokenizer.save_pretrained(asked.out)


if __name__ == "__main__":
    main()
