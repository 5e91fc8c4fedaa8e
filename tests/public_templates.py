"""Chat formats of models that are public in 2026, in words of ours that write what theirs do.

Each leaves out tools, pictures and whatever else plain conversations do not reach.
"""

from __future__ import annotations

from tiny_models import WORDS, Family

# Gemma 4: roles and ends in tokens of their own; a prompt carries an empty thought, answers do not.
GEMMA4 = """{{ bos_token }}{% set rest = messages %}\
{% if messages[0].role in ['system', 'developer'] %}\
{{ '<|turn>system\n' + messages[0].content | trim + '<turn|>\n' }}{% set rest = messages[1:] %}\
{% endif %}{% for m in rest %}\
{{ '<|turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}{% set text = m.content %}\
{% if m.role == 'assistant' and '<channel|>' in text %}\
{% set text = text.split('<channel|>')[-1] %}{% endif %}\
{{ text | trim + '<turn|>\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|turn>model\n' }}\
{% if not enable_thinking | default(false) %}{{ '<|channel>thought\n<channel|>' }}{% endif %}\
{% endif %}"""

# Qwen 3.5: parts or text, trimmed; a thought before the last answer; needs a question.
QWEN35 = """{%- macro words(content) %}{%- if content is string %}{{- content }}{%- else %}\
{%- for part in content %}{%- if part.type == 'text' %}{{- part.text }}{%- endif %}{%- endfor %}\
{%- endif %}{%- endmacro %}{%- set ns = namespace(asked=-1) %}{%- for m in messages %}\
{%- if m.role == 'user' %}{%- set ns.asked = loop.index0 %}{%- endif %}{%- endfor %}\
{%- if ns.asked < 0 %}{{- raise_exception('No user query found in messages.') }}{%- endif %}\
{%- for m in messages %}{%- set text = words(m.content) | trim %}\
{{- '<|im_start|>' + m.role + '\n' }}{%- if m.role == 'assistant' %}{%- set thought = '' %}\
{%- if '</think>' in text %}\
{%- set thought = text.split('</think>')[0].split('<think>')[-1] | trim %}\
{%- set text = text.split('</think>')[-1] | trim %}{%- endif %}\
{%- if loop.index0 > ns.asked %}{{- '<think>\n' + thought + '\n</think>\n\n' }}{%- endif %}\
{%- endif %}{{- text + '<|im_end|>\n' }}{%- endfor %}{%- if add_generation_prompt %}\
{{- '<|im_start|>assistant\n<think>\n' }}\
{%- if enable_thinking is defined and not enable_thinking %}{{- '\n</think>\n\n' }}{%- endif %}\
{%- endif %}"""

# GLM 4.6: nothing after an answer, the next turn's name ends it; an empty thought before each.
GLM46 = """[gMASK]<sop>{% set ns = namespace(asked=-1) %}{% for m in messages %}\
{% if m.role == 'user' %}{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}\
{% for m in messages %}{% if m.role == 'user' %}{{ '<|user|>\n' + m.content }}\
{{ '/nothink' if enable_thinking is defined and not enable_thinking else '' }}\
{% elif m.role == 'assistant' %}{% set text = m.content.split('</think>')[-1] | trim %}\
{{ '<|assistant|>\n<think></think>' }}{{ '\n' + text if text else '' }}\
{% else %}{{ '<|system|>\n' + m.content }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>' }}\
{{ '\n<think></think>' if enable_thinking is defined and not enable_thinking else '' }}\
{% endif %}"""

# DeepSeek V3.1: role tokens that are not special; a prompt closes the thought before it begins.
DEEPSEEK31 = """{% set ns = namespace(system='', asked=false) %}{% for m in messages %}\
{% if m.role == 'system' %}{% set ns.system = ns.system + m.content %}{% endif %}{% endfor %}\
{{ bos_token + ns.system }}{% for m in messages %}{% if m.role == 'user' %}\
{% set ns.asked = true %}{{ '<｜User｜>' + m.content }}{% elif m.role == 'assistant' %}\
{{ '<｜Assistant｜></think>' if ns.asked else '' }}{% set ns.asked = false %}\
{{ m.content.split('</think>')[-1] + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}\
{% if add_generation_prompt and ns.asked %}{{ '<｜Assistant｜>' }}\
{{ '<think>' if thinking | default(false) else '</think>' }}{% endif %}"""

# gpt-oss: channels. A prompt ends before the channel's name; the last answer ends otherwise than
# earlier ones; the user's system turn is the developer's; today's date.
GPT_OSS = """{{ '<|start|>system<|message|>You are ChatGPT, a large language model.\n\
Current date: ' + strftime_now('%Y-%m-%d') + '\n\nReasoning: medium<|end|>' }}\
{% set rest = messages %}{% if messages[0].role in ['system', 'developer'] %}\
{{ '<|start|>developer<|message|># Instructions\n\n' + messages[0].content + '<|end|>' }}\
{% set rest = messages[1:] %}{% endif %}{% for m in rest %}{% if m.role == 'assistant' %}\
{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}\
{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}\
{% else %}{{ '<|start|>user<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"""

# LFM 2.5: ChatML with its answers marked for training, and a loose way with parts.
LFM25 = """{{- bos_token -}}{%- macro words(content) -%}{%- if content is string -%}\
{{- content -}}{%- else -%}{%- for part in content -%}{{- part["text"] -}}{%- endfor -%}\
{%- endif -%}{%- endmacro -%}{%- for m in messages -%}{{- "<|im_start|>" + m.role + "\n" -}}\
{%- if m.role == "assistant" -%}{%- generation -%}{{- words(m.content) + "<|im_end|>\n" -}}\
{%- endgeneration -%}{%- else -%}{{- words(m.get("content")) + "<|im_end|>\n" -}}{%- endif -%}\
{%- endfor -%}{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\n" -}}{%- endif -%}"""

# MiniMax M2: every prompt opens a thought, and nothing switches that off.
MINIMAX2 = """{{ ']~!b[]~b]system\n' }}{% set rest = messages %}\
{% if messages[0].role == 'system' %}{{ messages[0].content }}{% set rest = messages[1:] %}\
{% else %}{{ 'You are a helpful assistant.' }}{% endif %}{{ '[e~[\n' }}{% for m in rest %}\
{{ ']~b]' + ('ai' if m.role == 'assistant' else m.role) + '\n' }}\
{{ m.content.split('</think>')[-1].strip('\n') if m.role == 'assistant' else m.content }}\
{{ '[e~[\n' }}{% endfor %}{% if add_generation_prompt %}{{ ']~b]ai\n<think>\n' }}{% endif %}"""

THINK = ("<think>", "</think>")
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

PUBLIC: dict[str, Family] = {
    "gemma4": Family(
        "Gemma2", GEMMA4,
        ("<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>", "<|channel>", "<channel|>"),
        end_of_turn="<turn|>", eos="<eos>", bos="<bos>", pad="<pad>", sentencepiece=True,
        adds_bos=True,
    ),
    "qwen3.5": Family(
        "Qwen3", QWEN35, CHATML, end_of_turn="<|im_end|>", eos="<|im_end|>", pad="<|endoftext|>",
        added=THINK, words=WORDS,
    ),
    "glm4.6": Family(
        "Llama", GLM46,
        ("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"),
        end_of_turn="<|endoftext|>", eos="<|endoftext|>", pad="<|endoftext|>",
        added=(*THINK, "/nothink"), words=WORDS,
    ),
    "deepseek3.1": Family(
        "Llama", DEEPSEEK31, ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"),
        end_of_turn="<｜end▁of▁sentence｜>", eos="<｜end▁of▁sentence｜>",
        bos="<｜begin▁of▁sentence｜>", pad="<｜▁pad▁｜>",
        added=(*THINK, "<｜User｜>", "<｜Assistant｜>"), words=WORDS, adds_bos=True,
    ),
    "gpt-oss": Family(
        "Llama", GPT_OSS,
        ("<|startoftext|>", "<|endoftext|>", "<|return|>", "<|start|>", "<|end|>", "<|message|>",
         "<|channel|>"),
        end_of_turn="<|return|>", eos="<|return|>", bos="<|startoftext|>", pad="<|endoftext|>",
        words=WORDS,
    ),
    "lfm2.5": Family(
        "Llama", LFM25, ("<|pad|>", "<|startoftext|>", *CHATML), end_of_turn="<|im_end|>",
        eos="<|im_end|>", bos="<|startoftext|>", pad="<|pad|>", words=WORDS, adds_bos=True,
    ),
    "minimax-m2": Family(
        "Llama", MINIMAX2, ("[e~[", "]~!b[", "]~b]"), end_of_turn="[e~[", eos="[e~[",
        bos="]~!b[", added=THINK, words=WORDS,
    ),
}  # fmt: skip

# What a prompt ends with, and what training appends to it for the answer "Hi."
WRITTEN: dict[str, tuple[str, str]] = {
    "gemma4": ("<|turn>model\n<|channel>thought\n<channel|>", "Hi.<turn|>"),
    "qwen3.5": ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "Hi.<|im_end|>"),
    "glm4.6": ("/nothink<|assistant|>\n<think></think>", "\nHi.<|endoftext|>"),
    "deepseek3.1": ("<｜Assistant｜></think>", "Hi.<｜end▁of▁sentence｜>"),
    "gpt-oss": ("<|start|>assistant<|channel|>final<|message|>", "Hi.<|return|>"),
    "lfm2.5": ("<|im_start|>assistant\n", "Hi.<|im_end|>"),
    "minimax-m2": ("]~b]ai\n<think>\n", "\n</think>\n\nHi.[e~["),
}
