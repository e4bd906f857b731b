"""Makes a tiny random Llama with a tokenizer of its own: `python tiny_model.py FOLDER`.

For the Python that `transformers` is installed in. What it says is nonsense, quickly said.
"""

import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = (
    "the quick brown fox jumps over a lazy dog while naïve café owners count 数据 and 你好 "
    "in streams of tokens, lines of code and rows of tables; who knows what comes next? "
)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train_from_iterator(
    [WORDS * 20],
    trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    ),
)
whole = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    bos_token="<|endoftext|>",
    eos_token="<|im_end|>",
    pad_token="<|endoftext|>",
)
whole.chat_template = TEMPLATE
whole.save_pretrained(sys.argv[1])

torch.manual_seed(7)
ids = {
    "bos_token_id": whole.bos_token_id,
    "eos_token_id": whole.eos_token_id,
    "pad_token_id": whole.pad_token_id,
}
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(whole),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        **ids,
    )
)
model.generation_config.do_sample = True
model.generation_config.max_new_tokens = 48
model.generation_config.eos_token_id = whole.eos_token_id
model.save_pretrained(sys.argv[1])
