"""A language model that reads answers and gives marks: what the benchmarks need of one.

A judge answers text with text; parsers (`clair`, `four_scores`) turn it into numbers and say when
they cannot. `NoJudge` is `--judge none`: nothing is asked and judged metrics are left out, not 0.
The HTTP judge is in `judge_http`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Protocol

from sama_plugin.errors import ConfigError


@dataclass(frozen=True)
class JudgeConfig:
    """A pinned judge. Everything that can change its answers is part of the cache key.

    Attributes:
        url: base of an OpenAI-compatible API, e.g. "http://localhost:8000/v1".
        model: exact model name; a name that moves ("gpt-4o") makes numbers that nobody can repeat.
        key_variable: environment variable that holds the API key; unset means no key is sent.
        deadline: seconds for one whole reply, however slowly it trickles.
        tries: attempts at one reply, with doubling pauses from `pause` to `longest_pause` seconds.
        price_in, price_out: per million tokens, in any currency, for the cost report.
        budget_tokens, budget_cost: stop asking when this run has spent so much; 0 is no limit.
    """

    url: str
    model: str
    temperature: float = 0.0
    max_tokens: int = 800
    key_variable: str = "OPENAI_API_KEY"
    deadline: float = 60.0
    tries: int = 5
    pause: float = 1.0
    longest_pause: float = 30.0
    price_in: float = 0.0
    price_out: float = 0.0
    budget_tokens: int = 0
    budget_cost: float = 0.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"judge url {self.url!r} does not start with http:// or https://")
        if not self.model:
            raise ConfigError("a judge needs a pinned model name; pass --judge-model")
        if self.tries < 1 or self.deadline <= 0:
            raise ConfigError(f"tries is {self.tries} and deadline {self.deadline}; both above 0")
        if self.budget_cost and not (self.price_in or self.price_out):
            raise ConfigError("a cost budget needs prices; set price_in and price_out")


@dataclass(frozen=True)
class Question:
    """What is put to a judge; `prompt_id` names the wording and changes whenever it does.

    `attempt` asks the same thing again (CLAIR asks up to three times).
    """

    prompt_id: str
    system: str
    user: str
    attempt: int = 0


@dataclass(frozen=True)
class Reply:
    """A judge's answer; `text` None and `problem` said when there is none."""

    text: Optional[str]
    problem: str = ""
    cached: bool = False


@dataclass
class Usage:
    """What a run asked and paid, and what its cached answers had cost when they were asked.
    `served` are the model names that the endpoint reported.
    """

    asked: int = 0
    cached: int = 0
    retried: int = 0
    failed: int = 0
    over_budget: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    cached_tokens_in: int = 0
    cached_tokens_out: int = 0
    cached_cost: float = 0.0
    served: set[str] = field(default_factory=set)

    def to_json(self) -> dict:
        """Plain values, for the summary."""
        costs = {name: round(getattr(self, name), 6) for name in ("cost", "cached_cost")}
        return {**vars(self), **costs, "served": sorted(self.served)}


class Judge(Protocol):
    """Anything that answers questions."""

    name: str
    usage: Usage

    def ask(self, question: Question) -> Reply:
        """One reply; never raises for a misbehaving endpoint."""


class NoJudge:
    """Asks nobody: the offline metrics alone."""

    name = "none"

    def __init__(self) -> None:
        self.usage = Usage()

    def ask(self, question: Question) -> Reply:
        """No answer."""
        return Reply(None, "no judge")
