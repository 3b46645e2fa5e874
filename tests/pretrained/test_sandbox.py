"""A chat template may do what published ones do, and cannot run for hours or take all memory."""

import tracemalloc

import pytest

from minilm.errors import CheckpointError
from minilm.pretrained import ChatTemplate

HELLO = [{"role": "user", "content": "Hello"}]
TALK = [
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi!"},
    {"role": "user", "content": " Bye "},
]

# The ways of well-known models, each in a few lines of our own.
LLAMA_2 = """\
{% if messages[0]['role'] == 'system' %}
    {% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}
{% else %}
    {% set loop_messages = messages %}{% set system_message = false %}
{% endif %}
{% for message in loop_messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('user and assistant take turns') }}
    {% endif %}
    {% if loop.index0 == 0 and system_message != false %}
        {% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}
    {% else %}
        {% set content = message['content'] %}
    {% endif %}
    {% if message['role'] == 'user' %}
        {{- bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + content.strip() + ' ' + eos_token }}
    {%- endif %}
{% endfor %}"""
LLAMA_3 = """\
{%- if not date_string is defined %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- macro header(role) -%}
{{- '<|start_header_id|>' ~ role ~ '<|end_header_id|>\\n\\n' -}}
{%- endmacro %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}{%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- bos_token ~ header('system') ~ 'Today is ' ~ date_string ~ '.\\n' ~ system_message ~ '<|eot_id|>' }}
{%- for message in messages %}
    {%- if message.role == 'ipython' or 'tool_calls' in message %}
        {{- message.content | tojson }}
    {%- elif not (message.role in ['user', 'assistant']) %}
        {{- raise_exception('Who is ' ~ message.role ~ '?') }}
    {%- else %}
        {{- header(message['role']) + message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- header('assistant') }}{%- endif %}"""
CHATML = """\
{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}{% endif %}\
{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
MISTRAL = """\
{%- if messages[0]["role"] == "system" %}
    {%- set told = messages[0]["content"] %}{%- set rest = messages[1:] %}
{%- else %}
    {%- set rest = messages %}
{%- endif %}
{%- set ns = namespace(index=0) %}
{%- set asked = rest | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in rest %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("They take turns") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and told is defined %}
            {{- "[INST]" + told + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST]" + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- else %}
        {{- message["content"].split("</think>")[-1].lstrip("\\n") + eos_token }}
    {%- endif %}
{%- endfor %}{{- "" if asked | length == 2 else "?" }}"""
ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
BACKWARDS = """\
{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}
{%- if message.role == "user" and message.content is string and not message.content.startswith('<t>') %}
{%- set ns.last = [ns.last, index] | max %}{%- endif %}{%- endfor %}
{%- for role, group in {'a': 1, 'b': [2, 3]} | dictsort %}{{ role }}={{ group | tojson }} {% endfor %}
{%- for message in messages if message.content %}
{{ loop.index }}/{{ loop.length }} {{ message.role | upper }}{{ '*' if loop.index0 == ns.last }} {% endfor %}"""

WRITTEN = {
    "llama 2": (LLAMA_2, "<s>[INST] <<SYS>>\n Be brief. \n<</SYS>>\n\nHello [/INST] Hi! </s><s>[INST] Bye [/INST]"),
    "llama 3": (
        LLAMA_3,
        "<s><|start_header_id|>system<|end_header_id|>\n\nToday is 26 Jul 2024.\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHi!<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "chatml": (
        CHATML,
        "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi!<|im_end|>\n<|im_start|>user\n Bye <|im_end|>\n<|im_start|>assistant\n",
    ),
    "mistral": (MISTRAL, "<s>[INST]Hello[/INST]Hi!</s>[INST] Be brief. \n\n Bye [/INST]"),
    "zephyr": (
        ZEPHYR,
        "<|system|>\n Be brief. </s>\n<|user|>\nHello</s>\n<|assistant|>\nHi!</s>\n<|user|>\n Bye </s>\n"
        "<|assistant|>\n",
    ),
    "backwards": (BACKWARDS, "a=1 b=[2, 3] 1/4 SYSTEM 2/4 USER 3/4 ASSISTANT 4/4 USER* "),
}


@pytest.fixture
def sandbox(require_package):
    """What templates run in."""
    require_package("jinja2")
    from minilm.pretrained.sandbox import Sandbox

    return Sandbox()


@pytest.mark.parametrize("source, expected", WRITTEN.values(), ids=WRITTEN)
def test_what_published_templates_do_is_let_through(sandbox, source, expected):
    assert ChatTemplate(source, "<s>", "</s>").render(TALK) == expected


@pytest.mark.parametrize("source", [source for source, _ in WRITTEN.values()], ids=WRITTEN)
@pytest.mark.parametrize("messages", [1, 500])
def test_a_conversation_takes_a_tenth_of_the_budget_at_the_most(sandbox, source, messages):
    """The template as long as the longest ones are."""
    talk = [HELLO[0], {"role": "assistant", "content": "x" * 1000}] * (messages // 2) + HELLO
    source += "{# " + "x" * (20_000 - len(source)) + " #}"
    sandbox.render(source, talk, bos_token="<s>", eos_token="</s>", add_generation_prompt=True)
    whole = type(sandbox)().left + len(talk) * 20_000
    assert sandbox.left > 0.9 * whole


def test_jinja2_itself_writes_the_same(require_package):
    environment = require_package("jinja2").Environment(trim_blocks=True, lstrip_blocks=True)
    for source, _ in WRITTEN.values():
        expected = environment.from_string(source).render(
            messages=TALK, bos_token="<s>", eos_token="</s>", add_generation_prompt=True
        )
        assert ChatTemplate(source, "<s>", "</s>").render(TALK) == expected


LOOP = "{% for a in range(9000) %}"
START = "{% set ns = namespace(a='aaaaaaaaaa', l=[1], n=9) %}"
TEN = "{% set ten = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] %}"
NUMBERS = "{% set l = range(9000) | list %}{% set m = range(9000) | list %}"
TEXT = "{% set s = 'a' * 99999 %}"
MACRO = "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
ENDLESS = {
    "loops in loops": "{% for a in range(99999) %}" * 2 + "{% endfor %}" * 2,
    "smaller loops": LOOP * 2 + "{% endfor %}" * 2,
    "small loops": TEN + "{% for a in ten %}" * 12 + "x" + "{% endfor %}" * 12,
    "the test of a loop": LOOP + "{% for b in range(9000) if b < 0 %}{% endfor %}{% endfor %}",
    "loops over texts": TEXT + "{% for a in s %}{% for b in s %}{% endfor %}{% endfor %}",
    "a loop in itself": TEN
    + "{% for a in ten recursive %}{% if loop.depth < 9 %}{{ loop(ten) }}{% endif %}{% endfor %}",
    "a long body": LOOP + "{% set x = a %}" * 500 + "{% endfor %}",
    "calls that double": MACRO + "{{ m(60) }}",
    "callers that double": "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call m() %}" * 40 + "x" + "{% endcall %}" * 40,
    "macros without end": "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
    "blocks without end": "{% block b %}{{ self.b() }}{{ self.b() }}{% endblock %}",
    "texts that double": START + "{% set ns.a = ns.a + ns.a %}" * 60,
    "texts that double, joined": START + "{% set ns.a = ns.a ~ ns.a %}" * 60,
    "lists that double": START + "{% set ns.l = ns.l + ns.l %}" * 60,
    "lists of lists": START + "{% set ns.l = [ns.l, ns.l] %}" * 60 + "{{ ns.l }}",
    "tuples of tuples": START + "{% set ns.l = (ns.l, ns.l) %}" * 60 + "{{ {ns.l: 1} }}",
    "dicts of dicts": START + "{% set ns.l = {'a': ns.l, 'b': ns.l} %}" * 60 + "{{ ns.l == ns.l }}",
    "dicts of dicts, called": START + "{% set ns.l = dict(a=ns.l, b=ns.l) %}" * 60 + "{{ ns.l }}",
    "squares": START + LOOP + "{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "a number of many digits": "{{ ('f' * 99999) | int(0, 16) // 3 }}",
    "replacing": "{{ ('a' * 3000) | replace('a', 'a' * 3000) | replace('a', 'a' * 3000) }}",
    "joining": TEXT + "{{ range(9000) | join(s) }}",
    "mapping": TEXT + "{{ range(9000) | map('string') | map('replace', '', s) | list }}",
    "a long path": "{{ range(9000) | map(attribute='a.' * 40000) | list }}",
    "a deep indent": "{{ [1] | tojson(indent=1000000000) }}",
    "many letters to strip": TEXT + LOOP + "{% set x = s.strip('b' * 50000 + s) %}{% endfor %}",
    "sorting": NUMBERS + LOOP + "{% set x = l | sort(reverse=true) %}{% endfor %}",
    "comparing": NUMBERS + LOOP + "{% if l == m %}{% endif %}" * 50 + "{% endfor %}",
    "searching": NUMBERS + LOOP + "{% if -1 in l or -1 is in m %}{% endif %}" * 50 + "{% endfor %}",
    "slices": NUMBERS + LOOP + "{% set x = l[1:] %}" * 50 + "{% endfor %}",
    "lines without end": TEXT + "{{ s }}" * 500,
    "words without end": LOOP + "x" * 40000 + "{% endfor %}",
    "filling lists": "{{ [1] | batch(1000000000, 'x') | list }}",
    "rounding": "{{ 1 | round(100000000, 'ceil') }}",
    "lists of nothing": "{{ [1] | slice(1000000000) | list }}",
    "a long template": "{# " + "x" * 1_000_000 + " #}",
    "formatting": "{{ '%999999999d' | format(1) }}",
    "deep brackets": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "deep blocks": "{% for a in [1] %}" * 25 + "{% endfor %}" * 25,
    "deep conditions": "{% if 1 %}" * 150 + "{% endif %}" * 150,
    "a long chain": "{{ " + "+".join(["a"] * 2000) + " }}",
    "a long path of names": "{{ a" + ".b" * 300 + " }}",
    "names of things to run": "{% include messages[0].content %}",
}


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_a_template_that_would_take_hours_or_all_memory_is_stopped(sandbox, monkeypatch, source):
    monkeypatch.setattr("minilm.pretrained.sandbox.STEPS", 20_000)  # for a short test
    with pytest.raises(CheckpointError, match="the model's chat template"):
        ChatTemplate(source).render(HELLO)


MEMORY = ("texts that double", "lists of lists", "replacing", "joining", "words without end", "formatting")


@pytest.mark.parametrize("name", MEMORY)
def test_it_is_stopped_before_it_has_taken_the_memory(sandbox, name):
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="the model's chat template"):
            ChatTemplate(ENDLESS[name]).render(HELLO)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


# l and m are lists of 9000 numbers, s is a text of 99999 characters
BEGIN = NUMBERS + TEXT + "{% macro f() %}{% endmacro %}{# " + "x" * 2000 + " #}"
PRICES = [
    ("{% if l == m %}{% endif %}", 2 * 9000 * 21 // 50),
    ("{% if 0 < 1 < l | length %}{% endif %}", 3),
    ("{% if -1 in l %}{% endif %}", 9000 * 21 // 50),
    ("{% if -1 is in l %}{% endif %}", 9000 * 21 // 50),
    ("{% set x = l[1:] %}", 8999 * 21 // 50),
    ("{% set x = [l] %}", 9000 * 21 // 50),
    ("{% set x = (l, 1) %}", 9000 * 21 // 50),
    ("{% set x = {1: l} %}", 9000 * 21 // 50),
    ("{% set x = dict(a=l) %}", 2 * 9000 * 21 // 50),
    ("{% set x = l.copy() %}", 2 * 9000 * 21 // 50),
    ("{% set x = l | sort %}", 2 * 9000 * 21 // 50),
    ("{% set x = s.upper() %}", 2 * 99999 // 50),
    ("{% set x = s ~ 1 %}", 2 * 99999 // 50),
    ("{% set x = s + 'a' %}", 2 * 99999 // 50),
    ("{% set x = 'a' * 99999 %}", 99999 // 50),
    ("{{ s }}", 2 * 99999 // 50),
    ("{% set x %}{{ s }}{% endset %}", 2 * 99999 // 50),
    ("{% for a in s %}{% endfor %}", 99999 * 20),
    ("{% for a in s if a == 'b' %}{% endfor %}", 99999 * 20),
    ("{{ f() }}", 20),
    ("{{ range(1) }}", 20),
]


@pytest.mark.parametrize("source, least", PRICES, ids=[source for source, _ in PRICES])
def test_what_takes_time_has_its_price(sandbox, source, least):
    sandbox.left = 10**9
    sandbox.render(BEGIN, [])
    begin = 10**9 - sandbox.left
    other = type(sandbox)()
    other.left = 10**9
    other.render(BEGIN + source, [])
    assert 10**9 - other.left - begin >= least


def test_what_is_written_has_a_limit_of_its_own(sandbox):
    with pytest.raises(CheckpointError, match="something of the size"):
        sandbox.render("{% for i in range(100) %}" + "x" * 9000 + "{% endfor %}", [])


def test_a_namespace_in_itself_is_not_written_out(sandbox):
    assert ChatTemplate("{% set n = namespace() %}{% set n.a = n %}{{ n }}").render(HELLO) == "namespace"


def test_an_exception_of_the_template_is_told_in_short(sandbox):
    with pytest.raises(CheckpointError, match="refuses the conversation: x+$") as caught:
        ChatTemplate("{{ raise_exception('x' * 99999) }}").render(HELLO)
    assert len(str(caught.value)) < 1000
