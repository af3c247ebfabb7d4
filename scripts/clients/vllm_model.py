"""A small model with random weights, made here: nothing is downloaded."""
import pathlib

PROMPT_TOKENS, NEW_TOKENS, VOCABULARY = 200, 24, 1024


def make(folder):
    """Large weights, so that each token depends on the keys and values of all tokens before it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    folder = pathlib.Path(folder)
    if not (folder / "model.safetensors").exists():
        torch.manual_seed(11)
        LlamaForCausalLM(LlamaConfig(
            hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, head_dim=64, vocab_size=VOCABULARY, max_position_embeddings=1024,
            initializer_range=0.3, tie_word_embeddings=False)).save_pretrained(folder)
    return str(folder)


def prompt(number):
    """Token ids."""
    return [(i * i * 31 + i * (17 + 2 * number) + number) % (VOCABULARY - 10) + 5
            for i in range(PROMPT_TOKENS + 13 * number)]
