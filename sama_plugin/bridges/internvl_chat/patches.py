"""The changes to the script's globals, as data; what they were written against is in
`assets/patches/internvl_chat.json`.

Only bindings of the script's own module are changed: the Trainer of transformers and the host's
model class stay what they are for everybody else.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable, Optional

from sama_plugin.assets import asset
from sama_plugin.patching.fingerprint import Fingerprint
from sama_plugin.patching.launch import LaunchOptions
from sama_plugin.patching.patch import Patch

if TYPE_CHECKING:
    from sama_plugin.bridges.internvl_chat.claims import Tree
    from sama_plugin.bridges.internvl_chat.prepare import Preparation

HOST = "internvl_chat"
MODEL = "internvl.model.internvl_chat:InternVLChatModel"
WHY = {
    "build_datasets": "attaches the plugin to the model and gives the datasets our records",
    "collator": "lays the host's items and ours into one batch",
    "trainer": "learning rates, loss parts, the canary and sama_adapter/ beside the host's files",
    "init_dist": "starts without a launcher, and without CUDA over gloo",
    "attention": "the script asks for flash-attn, which is not installed",
    "videos": "local videos, which the tree cannot read without its storage client",
    "videos_on": "switches the video loader on",
    "arguments": "flags of the recipes that the installed transformers no longer knows",
    "packed_collator": "lays whole samples of a packed row end to end (--use_packed_ds)",
    "packed_attention": "packed rows need no flash-attn, which is not installed or not wanted",
    "wrap_llm_lora": "the script calls it for --use_llm_lora, and this tree's class has none",
}


BINDINGS: dict[str, tuple[str, str]] = {
    "build_datasets": ("build_datasets", "wrap"),
    "collator": ("concat_pad_data_collator", "replace"),
    "packed_collator": ("packed_collate_fn", "replace"),
    "packed_attention": ("replace_qwen3_attention_class", "replace"),
    "trainer": ("Trainer", "replace"),
    "init_dist": ("init_dist", "wrap"),
    "videos": ("TCSLoader", "replace"),
    "videos_on": ("has_tcs_loader", "replace"),
    "arguments": ("TrainingArguments", "replace"),
}
"""Names of the script's own module. The gpt_oss tree calls `has_tcs_loader` `use_tcs_loader`, and
it alone has `replace_qwen3_attention_class`."""
NOTES = """Generated from `sama_plugin/bridges/internvl_chat/patches.py`. Only bindings of the
script's own module and two methods of the tree's model class are changed; instances of its dataset
move one class further. Shims for newer libraries: `sama_plugin/hosts/internvl_chat/shims.py`.
Fingerprints: `fingerprints.json`."""


def known_patches(
    script: ModuleType, tree: Tree, preparation: Preparation, options: LaunchOptions
) -> list[Patch]:
    """Every patch that this script, this tree and these libraries need."""
    from sama_plugin.bridges.internvl_chat.packed_batch import PackedCollator

    plain = _lacks_flash_attention(options)
    makers: dict[str, Optional[Callable[[Any], Any]]] = {
        "build_datasets": _datasets(preparation),
        "collator": lambda _: preparation.collate,
        "packed_collator": lambda _: PackedCollator(),
        "packed_attention": _own_attention if plain and tree != HOST else None,
        "trainer": lambda _: _trainer(preparation),
        "init_dist": _init_dist,
        "videos": _videos(script),
        "videos_on": _videos_on(script),
        "arguments": _arguments(options),
    }
    switch = "use_tcs_loader" if tree == "internvl_chat_gpt_oss" else "has_tcs_loader"
    patches = []
    for id_, make in makers.items():
        name, kind = BINDINGS[id_]
        name = switch if id_ == "videos_on" else name
        if make is not None:
            patches.append(_patch(id_, f"{script.__name__}:{name}", kind, make, script))
    if plain:
        target = f"{MODEL}.from_pretrained"
        patches.append(_patch("attention", target, "wrap", _attention(options.attention)))
    if tree == "internvl_chat_gpt_oss":
        from sama_plugin.hosts.internvl_chat.lora import wrap_llm_lora

        target = f"{MODEL}.wrap_llm_lora"
        patches.append(_patch("wrap_llm_lora", target, "add", lambda _: _copy(wrap_llm_lora)))
    return patches


def touched() -> str:
    """The list in `patches/internvl_chat/README.md`."""
    from sama_plugin.patching.touched import table

    script = "internvl.train.internvl_chat_finetune"
    rows = [(id_, f"{script}:{name}", kind, WHY[id_]) for id_, (name, kind) in BINDINGS.items()]
    rows.append(("attention", f"{MODEL}.from_pretrained", "wrap", WHY["attention"]))
    rows.append(("wrap_llm_lora", f"{MODEL}.wrap_llm_lora", "add", WHY["wrap_llm_lora"]))
    known = {id_: read_fingerprints(id_) for id_ in WHY}
    return table(HOST, rows, known, NOTES)


def read_fingerprints(id_: str) -> tuple[Fingerprint, ...]:
    """Code that a patch was written against; empty where any code will do."""
    content = json.loads(asset(f"patches/{HOST}.json").read_text(encoding="utf-8"))
    return tuple(Fingerprint.read(entry) for entry in content.get(id_, ()))


def _patch(
    id_: str, target: str, kind: Any, make: Any, script: Optional[ModuleType] = None
) -> Patch:
    needs = None
    if script is not None:
        needs = (f"{script.__name__}:main", target.partition(":")[2])
    return Patch(
        f"{HOST}.{id_}", target, WHY[id_], make, kind, known=read_fingerprints(id_), needs=needs
    )


def _datasets(preparation: Preparation) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        @functools.wraps(original)
        def build_datasets(data_args: Any, tokenizer: Any, loader: Any, model: Any, **more: Any):
            preparation.before(data_args, tokenizer, model)
            return preparation.after(original(data_args, tokenizer, loader, model, **more))

        return build_datasets

    return make


def _trainer(preparation: Preparation) -> type:
    from sama_plugin.bridges.internvl_chat.trainer import InternVLChatTrainer

    own = {"ledger": preparation.ledger, "allowed": preparation.allowed}
    return type("InternVLChatTrainer", (InternVLChatTrainer,), own)


def _init_dist(original: Any) -> Any:
    from sama_plugin.bridges.internvl_chat.install import alone_or_without_gpu

    return alone_or_without_gpu(original)


def _videos(script: ModuleType) -> Optional[Callable[[Any], Any]]:
    if _has_storage_client(script):
        return None
    from sama_plugin.bridges.internvl_chat.videos import LocalVideos

    return lambda _: LocalVideos


def _videos_on(script: ModuleType) -> Optional[Callable[[Any], Any]]:
    return None if _has_storage_client(script) else lambda _: True


def _has_storage_client(script: ModuleType) -> bool:
    return getattr(script, "has_tcs_loader", getattr(script, "use_tcs_loader", False))


def _arguments(options: LaunchOptions) -> Optional[Callable[[Any], Any]]:
    from sama_plugin.hosts.internvl_chat import shims

    if not shims.LOST_ARGUMENTS or options.compat == "off":
        return None
    return lambda _: shims.LegacyArguments


def _lacks_flash_attention(options: LaunchOptions) -> bool:
    return bool(options.attention) or importlib.util.find_spec("flash_attn") is None


def _attention(wanted: str) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        @functools.wraps(original)
        def from_pretrained(cls: Any, *args: Any, config: Any = None, **more: Any) -> Any:
            if config is not None:
                _set_attention(config.llm_config, wanted)
            return original(cls, *args, config=config, **more)

        return from_pretrained

    return make


def _set_attention(language: Any, wanted: str) -> None:
    """Language models that the tree brings itself (InternLM2, Phi3) know no `sdpa`; InternLM2 reads
    the name without underscore."""
    own = not type(language).__module__.startswith("transformers.")
    chosen = wanted or ("eager" if own else "sdpa")
    language._attn_implementation = chosen
    if hasattr(language, "attn_implementation"):
        language.attn_implementation = chosen


def _own_attention(original: Any) -> Any:
    def kept(model: Any) -> None:
        """Leaves the language model its own attention."""

    return kept


def _copy(function: Any) -> Any:
    """A function of our own to be marked and put into the host, so that ours stays unmarked."""

    @functools.wraps(function)
    def copied(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return copied
