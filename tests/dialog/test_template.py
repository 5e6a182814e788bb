import pytest

from sama_plugin.dialog import template as module
from sama_plugin.dialog.template import ChatTemplate
from sama_plugin.errors import HostError
from tests.tiny_tokenizer import CHATML, tiny_tokenizer

PARTS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nbe kind<|im_end|>\n' }}{% endif %}"
) + CHATML
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
)
NO_NEWLINE = CHATML.replace("<|im_end|>\n", "<|im_end|>")


def _assemble(template, tokenizer, system, turns):
    text = "".join(piece for piece, _ in template.opening(system))
    for number, (question, answer) in enumerate(turns):
        text += (template.user_open if number else "") + question + template.assistant_open
        text += answer + template.end + template.assistant_close
    return text


@pytest.mark.parametrize("source", [CHATML, PARTS, DEFAULT_SYSTEM, NO_NEWLINE])
@pytest.mark.parametrize("system", [None, "answer in one word"])
def test_probed_strings_rebuild_the_template(source, system):
    tokenizer = tiny_tokenizer(source)
    turns = [("what is it", "a dog"), ("and this", "a cup")]
    messages = [{"role": "system", "content": system}] if system else []
    for question, answer in turns:
        messages += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    if source is PARTS:
        messages = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    template = ChatTemplate.probe(tokenizer)
    assert template.end == "<|im_end|>"
    expected = tokenizer.apply_chat_template(messages, tokenize=False)
    assert _assemble(template, tokenizer, system, turns) == expected


def test_a_template_without_system_role_says_so():
    template = ChatTemplate.probe(tiny_tokenizer(NO_SYSTEM))
    assert template.opening(None)
    with pytest.raises(HostError, match="system"):
        template.opening("be brief")


def test_a_template_that_drops_words_is_refused():
    with pytest.raises(HostError, match="repeat each message"):
        ChatTemplate.probe(tiny_tokenizer("{{ messages[0]['content'] }}"))


def test_without_a_template_chatml_is_used_and_said_once(monkeypatch):
    said = []
    monkeypatch.setattr(module, "warn_once", lambda key, message: said.append(message))
    assert ChatTemplate.probe(tiny_tokenizer(None)) == ChatTemplate.probe(tiny_tokenizer(CHATML))
    assert len(said) == 1 and "ChatML" in said[0]
