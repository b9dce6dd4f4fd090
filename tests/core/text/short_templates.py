"""Chat templates in the manner of well-known models, written anew in short form."""

from __future__ import annotations

CHATML = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

LLAMA_3 = """{{ bos_token }}{% if not date_string is defined %}
{%- set date_string = strftime_now("%d %b %Y") %}{% endif %}
{%- set first = messages[0] %}
{%- if first.role == 'system' %}{% set system = first.content | trim %}
{%- set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}
<|start|>system<|end|>

Today Date: {{ date_string }}

{{ system }}<|eot|>
{%- for m in messages %}<|start|>{{ m.role }}<|end|>

{{ m.content | trim }}<|eot|>
{%- endfor %}
{%- if add_generation_prompt %}<|start|>assistant<|end|>

{% endif %}"""

LLAMA_2 = """{% if messages[0]['role'] == 'system' %}
{%- set system = '<<SYS>>\\n' ~ messages[0]['content'] ~ '\\n<</SYS>>\\n\\n' %}
{%- set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}
{%- for m in messages %}
{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{%- if m['role'] == 'user' %}
{{- bos_token ~ '[INST] ' ~ ((system if loop.first else '') ~ m['content']).strip() ~ ' [/INST]' }}
{%- else %}{{- ' ' ~ m['content'].strip() ~ ' ' ~ eos_token }}{% endif %}{% endfor %}"""

MISTRAL = """{{ bos_token }}{% for m in messages %}
{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('After the optional system message, roles must alternate') }}{% endif %}
{%- if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]
{%- else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}
{{- raise_exception('System role not supported') }}{% endif %}{% for m in messages %}
{%- set role = 'model' if m['role'] == 'assistant' else m['role'] %}<start_of_turn>{{ role }}
{{ m['content'] | trim }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""

GEMMA_3 = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}
{%- set before = messages[0]['content'] + '\\n\\n' %}{% set messages = messages[1:] %}
{%- else %}{% set before = '' %}{% endif %}{% for m in messages %}
{%- set role = 'model' if m['role'] == 'assistant' else m['role'] %}<start_of_turn>{{ role }}
{{ before if loop.first else '' }}{{ m['content'] | trim }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""

QWEN_3 = """{% if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}# Tools
{% for tool in tools %}
{{ tool | tojson }}{% endfor %}<|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- set ns = namespace(last=messages | length - 1, seeking=true) %}
{%- for m in messages[::-1] %}{% set i = messages | length - 1 - loop.index0 %}
{%- if ns.seeking and m.role == 'user' and not m.content.startswith('<tool_response>') %}
{%- set ns.seeking = false %}{% set ns.last = i %}{% endif %}{% endfor %}
{%- for m in messages %}
{%- if m.role == 'user' or (m.role == 'system' and not loop.first) %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% elif m.role == 'assistant' %}{% set content = m.content %}{% set thought = '' %}
{%- if '</think>' in content %}
{%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}<|im_start|>assistant
{% if loop.index0 > ns.last and (loop.last or thought) %}<think>
{{ thought }}
</think>

{% endif %}{{ content }}<|im_end|>
{% elif m.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}
<tool_response>
{{ m.content }}
</tool_response>
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>
{% endif %}{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% endif %}"""

PHI_3 = """{% for m in messages %}<|{{ m['role'] }}|>
{{ m['content'] }}<|end|>
{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% else %}{{ eos_token }}{% endif %}"""

ZEPHYR = """{% for m in messages %}
{%- if m['role'] == 'assistant' %}{{ '<|assistant|>\n' + m['content'] + eos_token }}
{% else %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token }}
{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}
{%- endfor %}"""

REAL = {
    "ChatML": CHATML,
    "Llama 3": LLAMA_3,
    "Llama 2": LLAMA_2,
    "Mistral": MISTRAL,
    "Gemma": GEMMA,
    "Gemma 3": GEMMA_3,
    "Qwen 3": QWEN_3,
    "Phi 3": PHI_3,
    "Zephyr": ZEPHYR,
}

ADVERSE = {
    "JSON of the content": "{% for m in messages %}[{{ m.content | tojson }}]{% endfor %}END",
    "JSON of the messages": "{{ messages | tojson }}",
    "upper": "{% for m in messages %}<s>{{ m.content | upper }}</s>{% endfor %}",
    "last line": "{% for m in messages %}<s>{{ m.content.split('\n')[-1] }}</s>{% endfor %}",
    "first word": "{% for m in messages %}<s>{{ m.content.split(' ')[0] }}</s>{% endfor %}",
    "dropped": "{% for m in messages if m.role != 'user' %}<s>{{ m.content }}</s>{% endfor %}",
    "only the last": "<s>{{ messages[-1].content }}</s>",
    "no contents": "<s>{{ messages | length }} messages</s>",
    "backwards": "{% for m in messages[::-1] %}<s>{{ m.content }}</s>{% endfor %}",
    "twice": "{% for m in messages %}<s>{{ m.content }}|{{ m.content }}</s>{% endfor %}",
    "length": "{% for m in messages %}<s>{{ m.content | length }}:{{ m.content }}{% endfor %}",
    "reversed letters": "{% for m in messages %}<s>{{ m.content[::-1] }}{% endfor %}",
    "nothing between": "{% for m in messages %}{{ m.content }}{% endfor %}",
    "trim, nothing between": "{% for m in messages %}{{ m.content | trim }}{% endfor %}",
    "by content": "{% for m in messages %}{% if 'cat' in m.content %}<s>{{ m.content }}"
    "{% else %}</s>{{ m.content }}<s>{% endif %}{% endfor %}",
    "integers only": "{% for m in messages %}{{ 'x' * (m.content | int) }}{% endfor %}",
}
