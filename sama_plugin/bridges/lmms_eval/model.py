"""`--model sama --model_args pretrained=HOST,adapter=FOLDER` for lmms-eval.

Questions of our own task packs are asked with their regions and answered with masks, as JSON in the
text that lmms-eval keeps. Questions of any other task are plain chat about their first video or
image. Requests are grouped by video, so each is decoded and encoded once.
"""

from __future__ import annotations

from typing import Any, Optional, Sequence

import numpy as np
from lmms_eval.api.model import lmms

from sama_plugin.bridges.lmms_eval.task import answer_text, case_of
from sama_plugin.errors import ConfigError
from sama_plugin.eval.asking import answer_cases
from sama_plugin.infer.load import fold_lora, load_sama
from sama_plugin.infer.session import VideoSession


class SamaForLmmsEval(lmms):
    """An attached host as lmms-eval sees it.

    Args:
        pretrained: packaged name or host checkpoint. adapter: `sama_adapter` folder.
        max_new_tokens: longest answer, unless the task says otherwise.
        masks: track what is grounded.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str = "mini",
        adapter: Optional[str] = None,
        max_new_tokens: int = 512,
        masks: bool = True,
        device: Optional[str] = None,
        batch_size: Any = 1,
        **options: Any,
    ):
        super().__init__()
        unknown = sorted(set(options) - {"max_batch_size"})
        if unknown:
            raise ConfigError(f"unknown model_args {', '.join(unknown)} of model sama")
        self.sama = fold_lora(load_sama(pretrained, adapter, device))
        self.longest, self.masks = int(max_new_tokens), bool(masks)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answers in the order of the requests."""
        ours: dict[str, list[tuple[int, Any, int]]] = {}
        answers: dict[int, str] = {}
        for place, request in enumerate(requests):
            context, settings, to_visual, number, task, split = request.args
            doc = self.task_dict[task][split][number]
            longest = int(settings.get("max_new_tokens", self.longest))
            case = case_of(doc)
            if case is None:
                answers[place] = self._chat(context, to_visual(doc), longest)
            else:
                ours.setdefault(case.video, []).append((place, case, longest))
        for group in ours.values():
            longest = max(longest for _, _, longest in group)
            cases = [case for _, case, _ in group]
            found = answer_cases(self.sama, cases, masks=self.masks, max_new_tokens=longest)
            for (place, _, _), prediction in zip(group, found):
                answers[place] = answer_text(prediction)
        return [answers[place] for place in range(len(requests))]

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not a generative task."""
        raise NotImplementedError("model sama answers in words; choose a generate_until task")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Rounds are turns of a session; no task of ours has them."""
        raise NotImplementedError("model sama has no multi-round tasks; choose generate_until")

    def _chat(self, question: str, visuals: Any, longest: int) -> str:
        """A plain question about the first video (a path) or picture."""
        if not visuals:
            raise ConfigError(f"model sama needs a video or a picture; {question[:60]!r} has none")
        first = visuals[0]
        source = first if isinstance(first, str) else np.asarray(first.convert("RGB"))[None]
        with VideoSession(self.sama, source) as session:
            return session.ask(question, masks=False, max_new_tokens=longest).text
