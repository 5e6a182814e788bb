"""`attach(model, tokenizer, config)`: give a host two senses; `detach()`: take them away without a
trace.

What attach does to the host, all of it undone by detach: inert hooks (`taps.py`), one submodule
`model.sama`, and a `forward` on the instance that understands the extra keyword `sama=SamaBatch`.
The tokenizer is copied. The frozen segmenter stays outside the module tree, so no optimiser,
sharding or checkpoint of the host ever sees it.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import threading
from typing import Any, Iterator, Optional

import torch
from torch import Tensor, nn

from sama_plugin.data.batch import SamaBatch
from sama_plugin.dialog.tokens import TokenIds, add_tokens, kin_ids
from sama_plugin.errors import HostError, SlotError
from sama_plugin.hosts.base import HostAdapter, VisualRows, find_adapter
from sama_plugin.hosts.tokenizer import refuse_split_tokens
from sama_plugin.model.config import SamaConfig
from sama_plugin.model.looking import looking_loss
from sama_plugin.model.sama import SamaModules, VisualCache
from sama_plugin.model.sharding import whole
from sama_plugin.model.start import start_from
from sama_plugin.model.taps import Call, Taps
from sama_plugin.nn.pointing import Seen
from sama_plugin.segment.base import Segmenter, build_segmenter


def attach(
    model: nn.Module,
    tokenizer: Any,
    config: Optional[SamaConfig] = None,
    *,
    segmenter: Optional[Segmenter] = None,
    share_tokenizer: bool = False,
) -> SamaModel:
    """Attach the plugin to a host, before or after PEFT wrapped it.

    Args:
        model: the host, or a PeftModel around it.
        tokenizer: the host's tokenizer; a copy receives the new tokens unless `share_tokenizer`
            (patched scripts that pass one tokenizer object around need that).
        config: sizes and choices; defaults to the released ones.
        segmenter: a built segmenter; by default the one `config.seg.segmenter` names.

    Raises:
        HostError: unknown host, a compiled host (hooks set later never fire there), already
            attached, or a tokenizer that splits a token that stands for something.
    """
    config = config or SamaConfig()
    host = unwrap(model)
    _refuse_compiled(model, host)
    if isinstance(getattr(host, "sama", None), SamaModules):
        raise HostError(
            "this model already has the plugin attached; call detach() on the first handle before "
            "attaching again"
        )
    adapter = find_adapter(host, config.frame_side)
    if segmenter is None:
        with _seeded(config.seed):
            segmenter = build_segmenter(config.seg.segmenter, config.seg.weights)
    if not share_tokenizer:
        tokenizer = adapter.chat_tokenizer(host, copy.deepcopy(tokenizer))
    tables = (adapter.input_embeddings(host), adapter.output_embeddings(host))
    ids = add_tokens(tokenizer)
    refuse_split_tokens(tokenizer, adapter.image_token())
    with whole(table.weight for table in tables):
        return SamaModel(host, adapter, tokenizer, ids, config, segmenter)


class SamaModel:
    """Handle on an attached host: calls, losses, trainable parameters, detach.

    Attributes:
        host: the unwrapped host model. adapter: how it is held. segmenter: frozen.
        tokenizer: the one that knows the new tokens. ids: those of the new tokens.
        modules: the trainable submodule (also `host.sama`).
        last_losses: parts of the most recent training loss, detached scalars.
    """

    def __init__(
        self,
        host: nn.Module,
        adapter: HostAdapter,
        tokenizer: Any,
        ids: TokenIds,
        config: SamaConfig,
        segmenter: Segmenter,
    ):
        self.host, self.adapter, self.tokenizer, self.ids = host, adapter, tokenizer, ids
        self.config, self.segmenter = config, segmenter
        self.last_losses: dict[str, Tensor] = {}
        self.image_id = tokenizer.convert_tokens_to_ids(adapter.image_token())
        self._lock = threading.RLock()
        with _seeded(config.seed):
            self.modules = SamaModules(
                config,
                adapter.width(host),
                adapter.grid(host),
                len(ids.in_order()),
                segmenter,
                _embedding_scale(host, adapter) if config.compat == "default" else None,
            )
            self._start_rows()
        start_from(self.modules, config.start_from)
        device = adapter.input_embeddings(host).weight.device
        self.modules.to(device)
        segmenter.to(device)
        host.add_module("sama", self.modules)
        scale = _lookup_scale(host, adapter)
        self.taps = Taps(host, adapter, self.modules, ids, self.image_id, scale)
        self._forward_before = host.__dict__.get("forward")
        host.forward = self._wrap_forward(host.forward)
        host.sama.handle = _Unregistered(self)

    def detach(self) -> nn.Module:
        """Remove hooks, submodule and forward; returns the host, as it was before `attach`."""
        if self.taps.call is not None:
            raise HostError("a plugin call is active; finish it before detaching")
        self.taps.remove()
        if self._forward_before is None:
            del self.host.forward
        else:
            self.host.forward = self._forward_before
        del self.host.sama
        return self.host

    def mark_trainable(self) -> list[str]:
        """Switch gradients on for the plugin's parameters (PEFT may have switched them off);
        returns their names.
        """
        unused = getattr(self.segmenter, "decoder_parameters_unused_by_vectors", ())
        names = []
        for name, parameter in self.modules.named_parameters():
            trained = not any(
                name == f"mask_decoder.{part}" or name.startswith(f"mask_decoder.{part}.")
                for part in unused
            )
            parameter.requires_grad_(trained)
            if trained:
                names.append(name)
        return names

    @contextlib.contextmanager
    def call(
        self,
        batch: Optional[SamaBatch],
        cache: Optional[VisualCache] = None,
        shown: Optional[Seen] = None,
    ) -> Iterator[Call]:
        """Make the taps act for the block; one call a model at a time.

        Args:
            shown: frames that this conversation has read in an earlier call, see `seen`.
        """
        if not self._lock.acquire(blocking=False):
            raise HostError(
                "another thread is inside a plugin call on this model; use one model a thread"
            )
        try:
            if self.taps.call is not None:
                raise HostError("a plugin call is active on this model; calls do not nest")
            self.taps.call = call = Call(batch, cache, shown=shown)
            fields = [
                (owner, name, getattr(owner, name))
                for owner, name in self.adapter.vocabulary_fields(self.host)
            ]
            for owner, name, size in fields:
                setattr(owner, name, max(size, self.taps.vocabulary))
            try:
                yield call
            finally:
                for owner, name, size in fields:
                    setattr(owner, name, size)
                self.taps.call = None
        finally:
            self._lock.release()

    def encode_frames(self, pixels: Tensor) -> VisualRows:
        """(N, 3, S, S) to projected visual tokens, without gradient, taps inert."""
        with torch.no_grad():
            return self.adapter.encode_frames(self.host, pixels.to(self.device))

    @property
    def device(self) -> torch.device:
        """Where the host's embeddings live."""
        return self.adapter.input_embeddings(self.host).weight.device

    def seen(self, call: Call) -> Optional[Seen]:
        """The frames that a call has read, for the calls that go on from there; None where it read
        none, or nothing of ours looks at them.
        """
        if call.read is None or self.modules.pointer is None:
            return None
        return call.looking.seen if call.looking else self.modules.pointer.seen(call.read)

    def seg_states(self, call: Call) -> Tensor:
        """(S, C) final hidden states at the [SEG] tokens of a teacher-forced call, in text
        order.
        """
        if call.hidden.shape[:2] != call.ids.shape:
            raise SlotError(
                f"the head saw {tuple(call.hidden.shape[:2])} positions of sequences of "
                f"{tuple(call.ids.shape)}: logits_to_keep leaves out [SEG]; switch it off in the "
                "training script"
            )
        return call.hidden[call.ids == self.ids.seg]

    def _training_forward(self, forward: Any, batch: SamaBatch, args: tuple, kwargs: dict) -> Any:
        batch = batch.to(self.device)
        self.segmenter.to(self.device)
        with self.call(batch) as call:
            output = forward(*args, **self.adapter.forward_inputs(self.host, kwargs))
            planned = (batch.region_vectors, self.modules.aggregator.count(batch))
            if call.written != planned:
                raise SlotError(
                    f"{call.written} (region, context) slots were written for samples "
                    f"{', '.join(batch.sample_ids[:4])}, {planned} were planned; token sequences "
                    "and the plugin's batch must come from one collator"
                )
            if getattr(output, "loss", None) is None or self.modules.seg_head is None:
                return output
            parts = self.modules.mask_losses(
                self.seg_states(call),
                call.looking.seen if call.looking else call.read,
                batch,
                self.segmenter,
            )
            if call.looking is not None and kwargs.get("labels") is not None:
                parts["look"] = self.config.seg.look_weight * looking_loss(
                    call.looking, call.ids, kwargs["labels"], self.ids, batch, self.modules.grid
                )
            router = self.adapter.router_loss(self.host, call.router, kwargs.get("attention_mask"))
            if router is not None:
                parts["router"] = router
        self.last_losses = {
            "text": output.loss.detach(),
            **{name: part.detach() for name, part in parts.items()},
        }
        output.loss = output.loss + sum(parts.values()).to(output.loss.dtype)
        return output

    def _wrap_forward(self, forward: Any) -> Any:
        handle = self

        @functools.wraps(forward)
        def sama_forward(*args, sama: Optional[SamaBatch] = None, **kwargs):
            if sama is None:
                return forward(*args, **kwargs)
            return handle._training_forward(forward, sama, args, kwargs)

        signature = inspect.signature(forward)
        extra = inspect.Parameter("sama", inspect.Parameter.KEYWORD_ONLY, default=None)
        parameters = list(signature.parameters.values())
        at = next((i for i, p in enumerate(parameters) if p.kind is p.VAR_KEYWORD), len(parameters))
        sama_forward.__signature__ = signature.replace(
            parameters=[*parameters[:at], extra, *parameters[at:]]
        )
        return sama_forward

    @torch.no_grad()
    def _start_rows(self) -> None:
        """New rows start at the mean of the host's rows, inputs with its spread, so that no new
        token stands out; with `start_rows: kin` the inputs of [SEG] and of the phrase marks start
        as the host's own tokens for boxes and references, where it has them.
        """
        pairs = (
            (self.modules.input_rows, self.adapter.input_embeddings(self.host), 1.0),
            (self.modules.output_rows, self.adapter.output_embeddings(self.host), 0.1),
        )
        for rows, table, spread in pairs:
            weight = table.weight.detach().float()
            mean, std = weight.mean(0), weight.std(0)
            noise = torch.randn(rows.weight.shape) * std.cpu() * spread
            rows.weight.copy_(mean.cpu() + noise)
        if self.config.start_rows == "kin":
            table = self.adapter.input_embeddings(self.host).weight
            for row, kin in kin_ids(self.tokenizer).items():
                self.modules.input_rows.weight[row] = table[kin].float().cpu()


class _Unregistered:
    """Carries the handle on the submodule without making a module cycle; copies and pickles carry
    nothing.
    """

    def __init__(self, handle: SamaModel):
        self._handle = handle

    def __call__(self) -> SamaModel:
        return self._handle

    def __reduce__(self):
        raise TypeError(
            "an attached model cannot be pickled; save the plugin with save_adapter and attach "
            "again"
        )


def unwrap(model: nn.Module) -> nn.Module:
    """The host inside PEFT, DDP or a DeepSpeed engine; the model itself if there is no wrapping."""
    while True:
        if hasattr(model, "get_base_model"):
            model = model.get_base_model()
        elif (
            isinstance(model, nn.parallel.DistributedDataParallel)
            or type(model).__name__ == "DeepSpeedEngine"
        ):
            model = model.module
        else:
            return model


def attached(model: nn.Module) -> SamaModel:
    """The handle of an attached model, however it is wrapped; HostError if the plugin is not
    attached.
    """
    modules = getattr(unwrap(model), "sama", None)
    if not isinstance(modules, SamaModules):
        raise HostError(
            "the plugin is not attached to this model; call sama_plugin.attach(model, tokenizer, "
            "config) first"
        )
    return modules.handle()


@torch.no_grad()
def _embedding_scale(host: nn.Module, adapter: HostAdapter) -> float:
    """Standard deviation of the host's input embeddings."""
    return float(adapter.input_embeddings(host).weight.detach().float().std())


@torch.no_grad()
def _lookup_scale(host: nn.Module, adapter: HostAdapter) -> float:
    """By how much the host's embedding module multiplies what it looks up (gemma: sqrt(C)), found
    by trying it; the plugin's vectors are kept in the units of the table, so that one checkpoint
    fits versions of a host that scale here and versions that scale later.
    """
    embedding = adapter.input_embeddings(host)
    if type(embedding) is nn.Embedding:
        return 1.0
    weight = embedding.weight[: min(64, embedding.weight.shape[0])].float()
    found = embedding(torch.arange(weight.shape[0], device=weight.device)).float()
    scale = float((found * weight).sum() / (weight * weight).sum())
    return 1.0 if abs(scale - 1) < 1e-3 else scale


def _refuse_compiled(*models: nn.Module) -> None:
    for model in models:
        for name, module in model.named_modules():
            if (
                type(module).__name__ == "OptimizedModule"
                or getattr(module, "_compiled_call_impl", None) is not None
            ):
                raise HostError(
                    f"{name or type(model).__name__} is already compiled and would never run the "
                    "plugin's hooks; attach first, compile afterwards"
                )


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
