"""The HTTP judge against a server that misbehaves in every usual way."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sama_plugin.errors import ConfigError
from sama_plugin.eval.judge import JudgeConfig, NoJudge, Question
from sama_plugin.eval.judge_cache import JudgeCache
from sama_plugin.eval.judge_http import HttpJudge

QUESTION = Question("test-1", "be a judge", "how good?")


def completion(text="4", tokens=(10, 5)):
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    choices = [{"message": {"content": text}}]
    return json.dumps({"model": "judge-2026", "choices": choices, "usage": usage}).encode()


LENGTH = f"Content-Length: {len(completion())}\r\n".encode()
OK, CHUNKED = b"HTTP/1.1 200 OK\r\n", b"Transfer-Encoding: chunked\r\n"
TRICKLES = {
    "trickle": (OK + LENGTH + b"\r\n", completion()),
    "trickling status": (b"", OK + LENGTH + b"\r\n" + completion()),
    "trickling headers": (OK, b"X-Slow: " + b"a" * 99 + b"\r\n" + LENGTH + b"\r\n" + completion()),
    "trickling chunks": (
        OK + CHUNKED + b"\r\n",
        b"%x\r\n%s\r\n0\r\n\r\n" % (len(completion()), completion()),
    ),
    "trickling 401": (b"HTTP/1.1 401 Unauthorized\r\n\r\n", b"bad" + b" key" * 30),
}
"""What comes at once and what comes byte by byte. Whoever waits for the end of the first four has a
good reply."""


class Misbehaving(ThreadingHTTPServer):
    """Answers by the list `script`: bytes are a good reply, (code, headers, bytes) any other, a
    string names a trick. The last entry is repeated."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.requests = [completion()], []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def next(self):
        return self.script[min(len(self.requests), len(self.script)) - 1]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), json.loads(body)))
        what = self.server.next()
        if what == "hang up":
            self.connection.close()
            return
        if isinstance(what, str) and what in TRICKLES:
            self._trickle(TRICKLES[what])
            return
        code, headers, data = what if isinstance(what, tuple) else (200, {}, what)
        data = completion() if isinstance(data, str) else data
        self.send_response(code)
        self.send_header("Content-Length", str(len(data) + (50 if what == "cut off" else 0)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _trickle(self, reply):
        """The first lines of a reply at once, the rest byte by byte for some seconds."""
        at_once, rest = reply
        try:
            self.wfile.write(at_once)
            for place in range(len(rest)):
                self.wfile.write(rest[place : place + 1])
                time.sleep(0.05)
        except OSError:
            """Nobody listens any more."""

    def log_message(self, *words):
        """Quiet."""


@pytest.fixture
def server():
    server = Misbehaving()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def pauses():
    return []


def judge(server, pauses, cache=None, **settings):
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    return HttpJudge(JudgeConfig(url, "judge-2026", **settings), cache, pauses.append)


def test_a_good_reply(server, pauses, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "s3cret")
    one = judge(server, pauses, key_variable="JUDGE_KEY", price_in=1.0, price_out=2.0)
    assert one.ask(QUESTION).text == "4"
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer s3cret"
    assert body["model"] == "judge-2026" and body["temperature"] == 0
    assert [m["content"] for m in body["messages"]] == ["be a judge", "how good?"]
    used = one.usage.to_json()
    assert (used["tokens_in"], used["tokens_out"], used["served"]) == (10, 5, ["judge-2026"])
    assert used["cost"] == pytest.approx((10 + 2 * 5) / 1e6)


@pytest.mark.parametrize(
    "trouble",
    [
        (429, {"Retry-After": "7"}, b"slow down"),
        (500, {}, b"oops"),
        (503, {"Retry-After": "soon"}, b""),
        (529, {"Retry-After": "nan"}, b"overloaded"),
        "hang up",
        "cut off",
        b"<html>not json</html>",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": null}}]}',
        b"[1, 2]",
        b"[" * 100_000,
        completion(tokens=(float("inf"), 1)),
    ],
    ids=(
        ["429", "500", "503", "529", "hang up", "cut off", "html", "no choice", "no text", "list"]
        + ["deep", "tokens"]
    ),
)
def test_passing_trouble_is_tried_again(server, pauses, trouble):
    server.script = [trouble, trouble, completion("5")]
    one = judge(server, pauses)
    assert one.ask(QUESTION).text == "5"
    assert one.usage.retried == 2 and one.usage.failed == 0
    asked_for = {429: [7, 7], 529: [0, 0]}
    assert pauses == asked_for.get(trouble[0] if isinstance(trouble, tuple) else 0, [1, 2])


def test_lasting_trouble_is_an_answer_without_text(server, pauses):
    server.script = [(500, {}, b"")]
    one = judge(server, pauses, tries=3, longest_pause=1.5)
    reply = one.ask(QUESTION)
    assert reply.text is None and "3 tries: HTTP 500" in reply.problem
    assert one.usage.failed == 1 and pauses == [1, 1.5]


@pytest.mark.parametrize("trickle", [name for name in TRICKLES if "401" not in name])
def test_a_trickle_has_a_deadline(server, pauses, trickle):
    server.script = [trickle, completion("2")]
    one = judge(server, pauses, deadline=0.2)
    assert one.ask(QUESTION).text == "2" and one.usage.retried == 1
    server.script = [trickle]
    reply = judge(server, pauses, deadline=0.2, tries=2).ask(QUESTION)
    assert (
        reply.text is None and "2 tries: ReplyTooSlow: no whole reply within 0.2 s" in reply.problem
    )


def test_refusals_stop_the_run(server, pauses):
    server.script = [(401, {}, b"bad key")]
    with pytest.raises(ConfigError, match="HTTP 401 bad key"):
        judge(server, pauses).ask(QUESTION)
    assert len(server.requests) == 1


def test_a_refusal_whose_words_take_too_long_is_a_refusal(server, pauses):
    server.script = ["trickling 401"]
    with pytest.raises(ConfigError, match="HTTP 401 ; check --judge"):
        judge(server, pauses, deadline=0.2).ask(QUESTION)


@pytest.mark.parametrize("code", [400, 413, 422])
def test_one_question_that_is_refused_is_no_reason_to_stop(server, pauses, code):
    server.script = [(code, {}, b"too long"), completion("4"), (code, {}, b"too long")]
    one = judge(server, pauses)
    with pytest.raises(ConfigError, match=f"HTTP {code} too long"):
        one.ask(QUESTION)  # nothing was ever answered: model or path are wrong
    assert one.ask(QUESTION).text == "4"
    reply = one.ask(QUESTION)
    assert reply.text is None and f"HTTP {code} too long" in reply.problem
    assert one.usage.failed == 1 and pauses == []


def test_a_second_run_costs_nothing(server, pauses, tmp_path):
    file = tmp_path / "judge.jsonl"
    first = judge(server, pauses, JudgeCache(file))
    replies = [first.ask(QUESTION), first.ask(Question("test-1", "be a judge", "and this?"))]
    first.cache.close()
    with open(file, "ab") as stream:  # killed in the middle of a line
        stream.write(b'{"id": "half')
    again = judge(server, pauses, JudgeCache(file), price_in=1.0, price_out=2.0)
    assert again.ask(QUESTION).text == replies[0].text
    used = again.usage.to_json()
    assert len(server.requests) == 2 and used["asked"] == used["tokens_in"] == used["cost"] == 0
    assert (used["cached"], used["cached_tokens_in"], used["cached_tokens_out"]) == (1, 10, 5)
    assert used["cached_cost"] == pytest.approx((10 + 2 * 5) / 1e6)
    assert used["served"] == ["judge-2026"], "also where nothing was asked"
    assert again.ask(QUESTION).cached
    for other in (
        judge(server, pauses, again.cache, temperature=0.7),
        judge(server, pauses, again.cache, max_tokens=9),
    ):
        assert not other.ask(QUESTION).cached
    assert not again.ask(Question("test-2", "be a judge", "how good?")).cached
    assert not again.ask(Question("test-1", "be a judge", "how good?", attempt=1)).cached


def test_failures_are_not_cached(server, pauses, tmp_path):
    server.script = [b"garbage", completion("1")]
    one = judge(server, pauses, JudgeCache(tmp_path / "judge.jsonl"), tries=1)
    assert one.ask(QUESTION).text is None
    assert one.ask(QUESTION).text == "1"


def test_the_budget_is_a_cap(server, pauses):
    one = judge(server, pauses, budget_tokens=20)
    answers = [one.ask(Question("t", "s", str(n))).text for n in range(4)]
    assert answers == ["4", "4", None, None] and one.usage.over_budget == 2
    with pytest.raises(ConfigError, match="needs prices"):
        JudgeConfig("http://x", "m", budget_cost=1.0)


def test_impossible_settings():
    with pytest.raises(ConfigError, match="http://"):
        JudgeConfig("localhost", "m")
    with pytest.raises(ConfigError, match="pinned"):
        JudgeConfig("http://x", "")


def test_no_judge():
    assert NoJudge().ask(QUESTION).text is None
