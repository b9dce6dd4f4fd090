"""Chat templates with tools in the manner of well-known models, written anew in short form."""

from __future__ import annotations

QWEN_TOOLS = """{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}Be helpful.{% endif %}


# Tools

Signatures of functions are within <tools></tools> XML tags:
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>

For each call, return a JSON object within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for m in messages %}
{%- if m.role == 'user' or (m.role == 'system' and not loop.first)
    or (m.role == 'assistant' and not m.tool_calls) %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% elif m.role == 'assistant' %}<|im_start|>assistant
{%- if m.content %}{{ '\\n' + m.content }}{% endif %}
{%- for call in m.tool_calls %}
{%- if call.function is defined %}{% set call = call.function %}{% endif %}
{{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
{{- call.arguments | tojson }}{{ '}\\n</tool_call>' }}{% endfor %}<|im_end|>
{% elif m.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}
{{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>
{% endif %}{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

QWEN_CODER = """{% if messages[0].role == 'system' %}{% set system = messages[0].content %}
{%- set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}
{%- if system or tools %}<|im_start|>system
{{ system }}{% if tools %}

# Tools

<tools>{% for tool in tools %}{% set f = tool.function if tool.function is defined else tool %}
<function>
<name>{{ f.name }}</name>
<description>{{ f.description | trim }}</description>
{% for name, fields in f.parameters.properties | items %}<parameter>
<name>{{ name }}</name>
<type>{{ fields.type | string }}</type>
</parameter>
{% endfor %}</function>{% endfor %}
</tools>{% endif %}<|im_end|>
{% endif %}{% for m in messages %}
{%- if m.role == 'tool' %}<|im_start|>user
<tool_response>
{{ m.content }}
</tool_response>
<|im_end|>
{% else %}<|im_start|>{{ m.role }}
{{ m.content | trim }}{% for call in m.tool_calls or [] %}
{{- '\\n' if m.content or not loop.first }}{{ '<tool_call>\\n<function=' }}
{{- call.function.name }}>
{% for name, value in call.function.arguments | items %}<parameter={{ name }}>
{{ value if value is string else value | tojson }}
</parameter>
{% endfor %}</function>
</tool_call>{% endfor %}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

LLAMA_31 = """{{ bos_token }}{% if messages[0].role == 'system' %}
{%- set system = messages[0].content | trim %}{% set messages = messages[1:] %}
{%- else %}{% set system = '' %}{% endif %}<|start|>system<|end|>

{% if tools %}Environment: ipython
{% endif %}Today Date: 26 Jul 2024

{{ system }}<|eot|>
{%- if tools %}{% set first = messages[0].content | trim %}{% set messages = messages[1:] %}
{{- '<|start|>user<|end|>\\n\\nGiven the following functions, please respond with a JSON for a ' }}
{{- 'function call in the format {"name": function name, "parameters": dictionary of argument ' }}
{{- 'name and its value}. Do not use variables.\\n\\n' }}
{%- for tool in tools %}{{ tool | tojson(indent=4) }}{{ '\\n\\n' }}{% endfor %}{{ first }}<|eot|>
{%- endif %}
{%- for m in messages %}
{%- if not (m.role == 'ipython' or m.role == 'tool' or 'tool_calls' in m) %}
{{- '<|start|>' + m.role + '<|end|>\\n\\n' + m.content | trim + '<|eot|>' }}
{%- elif 'tool_calls' in m %}
{%- if not m.tool_calls | length == 1 %}
{{- raise_exception('This model only supports single tool-calls at once!') }}{% endif %}
{%- set call = m.tool_calls[0].function %}<|start|>assistant<|end|>

{{ '{"name": "' + call.name + '", ' }}{{ '"parameters": ' }}{{ call.arguments | tojson }}}<|eot|>
{%- else %}<|start|>ipython<|end|>

{% if m.content is mapping or m.content is iterable %}{{ m.content | tojson }}
{%- else %}{{ m.content }}{% endif %}<|eot|>{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|start|>assistant<|end|>

{% endif %}"""

MISTRAL_V3 = """{% if messages[0].role == 'system' %}{% set system = messages[0].content %}
{%- set messages = messages[1:] %}{% endif %}
{%- set users = messages | selectattr('role', 'equalto', 'user') | list %}{{ bos_token }}
{%- for m in messages %}{% if m.role == 'user' %}
{%- if tools is not none and m == users[-1] %}[AVAILABLE_TOOLS] {{ tools | tojson -}}
[/AVAILABLE_TOOLS]{% endif %}
{%- if loop.last and system is defined %}{{ '[INST] ' + system + '\\n\\n' + m.content + '[/INST]' }}
{%- else %}{{ '[INST] ' + m.content + '[/INST]' }}{% endif %}
{%- elif m.tool_calls is defined and m.tool_calls is not none %}[TOOL_CALLS] [
{%- for call in m.tool_calls %}{% set out = call.function | tojson %}{{ out[:-1] }}
{%- if not call.id is defined or call.id | length != 9 %}
{{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}
{{- ', "id": "' + call.id + '"}' }}{% if not loop.last %}, {% else %}]{{ eos_token }}{% endif %}
{%- endfor %}{% elif m.role == 'assistant' %}{{ ' ' + m.content | trim + eos_token }}
{%- elif m.role == 'tool' %}[TOOL_RESULTS] {"content": {{ m.content | string -}}
, "call_id": "{{ m.tool_call_id }}"}[/TOOL_RESULTS]{% endif %}{% endfor %}"""

TOOL_TEMPLATES = {
    "Qwen 2.5": QWEN_TOOLS,
    "Qwen Coder": QWEN_CODER,
    "Llama 3.1": LLAMA_31,
    "Mistral": MISTRAL_V3,
}
