"""Which model types are causal language models, as plain data: no import of the heavy libraries.

Taken from transformers 5.23 (AutoModelForCausalLM, without those that are decoders of something
else) and peft 0.21.2; a test compares them with what is installed. A type that is missing here is
not refused: newer versions know more.
"""

CAUSAL = frozenset(
    """
afmoe apertus arcee aria_text axk1 axk2 bailing_hybrid bamba beam biogpt bitnet bloom blt codegen
cohere cohere2 cohere2_moe cohere_compass_text cpmant ctrl cwm dbrx deepseek_v2 deepseek_v3
deepseek_v32 deepseek_v4 diffllama doge dots1 dots3_note dots3_note_text ernie4_5 ernie4_5_moe
exaone4 exaone_moe falcon falcon_h1 falcon_mamba flex_olmo flint gemma gemma2 gemma3 gemma3_text
gemma3n gemma3n_text gemma4 gemma4_assistant gemma4_text gemma4_unified gemma4_unified_assistant
gemma4_unified_text glm glm4 glm4_moe glm4_moe_lite glm_moe_dsa gpt-sw3 gpt2 gpt_bigcode gpt_neo
gpt_neox gpt_neox_japanese gpt_oss gptj granite granite_swa granitemoe granitemoe_swa
granitemoehybrid granitemoeshared helium hrm_text hunyuan_v1_dense hunyuan_v1_moe hy_v3 hy_v4
hyperclovax inkling2_text inkling_text internlm3 iquestcoder jais2 jamba jetmoe kimi_linear
kolibri1 laguna lfm2 lfm2_moe lfm3 llama llama4 llama4_text longcat_flash mamba mamba2 mellum
mimo_v2_flash minicpm3 minimax minimax_m2 minimax_m3_vl_text ministral ministral3 mistral mixtral
modernbert-decoder moss_transcribe_diarize mpt nanochat nemotron nemotron_h olmo olmo2 olmo3
olmo_hybrid olmoe openai-gpt opt persimmon phi phi3 phi4_multimodal phimoe qwen2 qwen2_moe qwen3
qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next qwen4_exp qwen4_exp_text
recurrent_gemma rwkv seed_oss smollm3 solar_open stablelm starcoder2 vaultgemma xglm xlnet xlstm
youtu zamba zamba2 zaya
""".split()  # noqa: SIM905
)

# peft has default targets for these; for others the linear layers are found by name.
KNOWN_TO_PEFT = frozenset(
    """
gpt2 bloom opt gptj gpt_neox gpt_neo llama llama4 gpt_bigcode mpt falcon codegen mistral mixtral
stablelm phi gemma gemma2 gemma3_text gemma4 qwen2 qwen3 nemotron_h rwkv
""".split()  # noqa: SIM905
)
