"""A judge behind an OpenAI-compatible endpoint, with the standard library alone.

Slow, overloaded, broken and rambling servers are normal: a reply has a deadline as a whole, headers
and all (`deadline`), 408, 429, 5xx, late, cut-off and malformed replies are tried again with
doubling pauses (or as long as Retry-After says), everything is counted, and nothing raises in the
middle of a benchmark. What is refused for good (400, 401, 404) does raise: the next thousand
questions would fail alike. A single question that is refused by an endpoint that answers others
(too long, a content filter) is counted and stays without a reply.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from typing import Any, Callable, Optional

from sama_plugin.errors import ConfigError
from sama_plugin.eval.deadline import exchange
from sama_plugin.eval.judge import JudgeConfig, Question, Reply, Usage
from sama_plugin.eval.judge_cache import JudgeCache, key_of

PASSING = (408, 409, 425, 429)
"""Tried again, as every code from 500 on."""
OF_THE_QUESTION = (400, 413, 422)
_MALFORMED = (
    *(ValueError, KeyError, IndexError, TypeError, AttributeError),
    *(OverflowError, RecursionError),  # a number of tokens, a depth that nobody sends
)
_SHOWN = 200


class _TryAgain(Exception):
    """A reply was not usable; `wait` is what the server asked for, in seconds."""

    def __init__(self, message: str, wait: Optional[float] = None):
        super().__init__(message)
        self.wait = wait


class _Refused(Exception):
    """The endpoint answers others, but not this question."""


class HttpJudge:
    """Asks `config.model` at `config.url`, through the cache.

    Args:
        cache: None asks every time.
        sleep: how to pause; tests pass one that does not.
    """

    def __init__(
        self,
        config: JudgeConfig,
        cache: Optional[JudgeCache] = None,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.config, self.cache, self._sleep = config, cache, sleep
        self.usage = Usage()
        self._heard = False
        self.name = f"{config.model} at {config.url} (temperature {config.temperature:g})"

    def ask(self, question: Question) -> Reply:
        """One reply.

        Raises:
            ConfigError: the endpoint refuses this model, key or path.
        """
        key = key_of(self.config, question)
        stored = self.cache.get(key) if self.cache else None
        if stored is not None:
            self._account_cached(stored)
            return Reply(stored["text"], cached=True)
        if self._spent():
            self.usage.over_budget += 1
            return Reply(None, "the judge's budget is spent")
        try:
            answer = self._insist(question)
        except _Refused as error:
            self.usage.failed += 1
            return Reply(None, str(error))
        except _TryAgain as error:
            self.usage.failed += 1
            return Reply(None, f"no usable reply in {self.config.tries} tries: {error}")
        if self.cache:
            self.cache.put(key, question, answer)
        return Reply(answer["text"])

    def _insist(self, question: Question) -> dict[str, Any]:
        pause = self.config.pause
        for attempt in range(1, self.config.tries + 1):
            try:
                self.usage.asked += 1
                return self._read(self._post(question))
            except _TryAgain as error:
                if attempt == self.config.tries:
                    raise
                self.usage.retried += 1
                wait = error.wait if error.wait is not None else pause
                self._sleep(min(wait, self.config.longest_pause))
                pause *= 2
        raise AssertionError("the last try returns or raises")

    def _post(self, question: Question) -> bytes:
        body = {
            "model": self.config.model,
            "temperature": self.config.temperature,
            "max_tokens": self.config.max_tokens,
            "messages": [
                {"role": "system", "content": question.system},
                {"role": "user", "content": question.user},
            ],
        }
        headers = {"Content-Type": "application/json"}
        secret = os.environ.get(self.config.key_variable)
        if secret:
            headers["Authorization"] = f"Bearer {secret}"
        url = self.config.url.rstrip("/") + "/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            return exchange(request, self.config.deadline)
        except urllib.error.HTTPError as error:
            raise self._refused(error) from error
        except (OSError, http.client.HTTPException) as error:
            raise _TryAgain(f"{type(error).__name__}: {error}") from error

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        if error.code in PASSING or error.code >= 500:
            return _TryAgain(f"HTTP {error.code}", _seconds(error.headers.get("Retry-After")))
        said = _beginning(error)
        if error.code in OF_THE_QUESTION and (self._heard or self.usage.cached):
            return _Refused(f"the judge refuses this question: HTTP {error.code} {said}")
        return ConfigError(
            f"the judge at {self.config.url} refuses model {self.config.model!r}: HTTP "
            f"{error.code} {said}; check --judge, --judge-model and ${self.config.key_variable}"
        )

    def _read(self, data: bytes) -> dict[str, Any]:
        try:
            reply = json.loads(data)
            text = reply["choices"][0]["message"]["content"]
            usage = reply.get("usage") or {}
            tokens = [int(usage.get(f"{side}_tokens") or 0) for side in ("prompt", "completion")]
        except _MALFORMED as error:
            shown = data[:_SHOWN].decode("utf-8", "replace")
            raise _TryAgain(f"not a chat completion ({type(error).__name__}): {shown}") from error
        self._account(*tokens, str(reply.get("model") or ""))
        if not isinstance(text, str):
            raise _TryAgain(f"the reply has no text but {text!r}")
        self._heard = True
        served = str(reply.get("model") or "")
        return {"text": text, "tokens_in": tokens[0], "tokens_out": tokens[1], "model": served}

    def _account(self, tokens_in: int, tokens_out: int, served: str) -> None:
        self.usage.tokens_in += tokens_in
        self.usage.tokens_out += tokens_out
        self.usage.cost += self._price(tokens_in, tokens_out)
        if served:
            self.usage.served.add(served)

    def _account_cached(self, stored: dict[str, Any]) -> None:
        tokens_in, tokens_out = stored["tokens_in"], stored["tokens_out"]
        self.usage.cached += 1
        self.usage.cached_tokens_in += tokens_in
        self.usage.cached_tokens_out += tokens_out
        self.usage.cached_cost += self._price(tokens_in, tokens_out)
        if stored["model"]:
            self.usage.served.add(stored["model"])

    def _price(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self.config.price_in + tokens_out * self.config.price_out) / 1e6

    def _spent(self) -> bool:
        tokens = self.usage.tokens_in + self.usage.tokens_out
        limit, cost = self.config.budget_tokens, self.config.budget_cost
        return bool(limit and tokens >= limit) or bool(cost and self.usage.cost >= cost)


def _beginning(error: urllib.error.HTTPError) -> str:
    """First bytes of what a refusal says, as far as they come."""
    try:
        return error.read(_SHOWN).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""


def _seconds(text: Optional[str]) -> Optional[float]:
    """Seconds of a Retry-After header; dates and nonsense are ignored."""
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
