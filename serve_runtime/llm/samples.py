"""A small language model of random weights, to try services with, where no model hub is at hand.

    python -m serve_runtime.llm.samples FOLDER

writes ``FOLDER/model`` and ``FOLDER/adapters/{formal,casual}`` (LoRA) in Hugging Face's layouts, in two seconds and
under two megabytes. The same numbers give the same weights, and greedy decoding always the same answer, so tests can
compare. What it says makes no sense. Needs torch, transformers, tokenizers and safetensors, which come with vLLM.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

SEED: Final = 6
ADAPTERS: Final = ("formal", "casual")
VOCABULARY: Final = 512
CONTEXT: Final = 1024
"""Tokens."""
_RANK, _ALPHA = 8, 16
_SPREAD: Final = 0.15
"""Of the weights: so large that the two likeliest tokens are apart, and another order of additions elects no other."""
_HEAD: Final = 32
_TEXT: Final = """
A model answers what it is asked. It reads the words of a question, one piece after another, and finds the next piece
that is most likely to follow; then it reads that one too. Large models are served by many machines at a time, and the
people who ask them do not want to wait: the first words should be there at once, the others as fast as one can read.
Where a question begins like an earlier one, what was computed for the beginning can be used again. 0123456789
"""
_CHAT: Final = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer(context: int = CONTEXT) -> Any:
    """Byte-level BPE, trained on a paragraph: it can tell any text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415 - comes with vLLM
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    base = Tokenizer(models.BPE())
    base.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    base.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet)
    base.train_from_iterator([_TEXT], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=base,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        chat_template=_CHAT,
        model_max_length=context,
    )


def config(hidden: int = 128, layers: int = 2, context: int = CONTEXT) -> Any:
    """A Llama of that shape. hidden: a multiple of 64."""
    from transformers import LlamaConfig  # noqa: PLC0415

    return LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // _HEAD,
        num_key_value_heads=hidden // _HEAD // 2,
        head_dim=_HEAD,
        intermediate_size=2 * hidden,
        vocab_size=VOCABULARY,
        max_position_embeddings=context,
        initializer_range=_SPREAD,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=False,
    )


def write_model(folder: Path, shape: Any) -> None:
    """Weights, shape and tokenizer."""
    import torch  # noqa: PLC0415
    from transformers import LlamaForCausalLM  # noqa: PLC0415

    words = tokenizer(shape.max_position_embeddings)
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(shape).to(torch.bfloat16)
    # Never said, since there is always a likelier token than one of likelihood exp(0): the end, so that an answer is as
    # long as was asked for, and bytes that are no character by themselves.
    for token in range(VOCABULARY):
        text = words.decode([token], skip_special_tokens=True)
        if not (text and text.isprintable() and text.isascii()):
            model.lm_head.weight.data[token] = 0
    model.save_pretrained(folder, safe_serialization=True)
    words.save_pretrained(folder)


def write_adapter(folder: Path, name: str, shape: Any) -> None:
    """Random low-rank changes of the query and value projections, large enough to change every answer."""
    import torch  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    heads = {"q_proj": shape.num_attention_heads, "v_proj": shape.num_key_value_heads}
    generator = torch.Generator().manual_seed(SEED + 1 + ADAPTERS.index(name))
    tensors = {}
    for layer in range(shape.num_hidden_layers):
        for module, count in heads.items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            down = torch.randn(_RANK, shape.hidden_size, generator=generator) * _SPREAD
            up = torch.randn(count * shape.head_dim, _RANK, generator=generator) * _SPREAD
            tensors[f"{prefix}.lora_A.weight"] = down.to(torch.bfloat16)
            tensors[f"{prefix}.lora_B.weight"] = up.to(torch.bfloat16)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": _RANK,
        "lora_alpha": _ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted(heads),
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m serve_runtime.llm.samples", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hidden", type=int, default=128, help="width, a multiple of 64")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--context", type=int, default=CONTEXT, help="tokens")
    asked = parser.parse_args()
    shape = config(asked.hidden, asked.layers, asked.context)
    write_model(asked.folder / "model", shape)
    for name in ADAPTERS:
        write_adapter(asked.folder / "adapters" / name, name, shape)


if __name__ == "__main__":
    main()
