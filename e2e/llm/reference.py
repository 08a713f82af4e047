"""What a model should answer: greedy decoding by Transformers, in a pod.

    python reference.py MODEL '[{"prompt": "hello", "tokens": 8}, {"messages": […], "tokens": 8, "adapter": "…"}]'

For each request: ``{"prompt": [token ids], "tokens": [token ids], "text": "…"}``. An adapter is a folder in PEFT's
layout; it is added to the weights here, so PEFT need not be there. In float32: with fewer bits, vLLM's order of
additions and Transformers' round to different tokens after some twenty.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def with_adapter(model: Any, folder: Path) -> None:
    """W + alpha/r · B·A for each projection that the adapter changes."""
    settings = json.loads((folder / "adapter_config.json").read_text())
    scale = settings["lora_alpha"] / settings["r"]
    tensors = load_file(folder / "adapter_model.safetensors")
    for name, down in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        up = tensors[name.replace(".lora_A.", ".lora_B.")]
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        weight = model.get_submodule(module).weight
        change = scale * (up.float() @ down.float())
        weight.data = (weight.data.float() + change).to(weight.dtype)


def answer(folder: str, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    models: dict[str, Any] = {}
    answers = []
    for request in requests:
        adapter = request.get("adapter", "")
        if adapter not in models:
            models[adapter] = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            if adapter:
                with_adapter(models[adapter], Path(adapter))
        if "messages" in request:
            text = tokenizer.apply_chat_template(request["messages"], tokenize=False, add_generation_prompt=True)
            ids = tokenizer(text, add_special_tokens=False).input_ids
        else:
            ids = tokenizer(request["prompt"]).input_ids
        count = request["tokens"]
        with torch.inference_mode():
            out = models[adapter].generate(
                torch.tensor([ids]), max_new_tokens=count, min_new_tokens=count, do_sample=False, use_cache=True
            )
        tokens = out[0, len(ids) :].tolist()
        answers.append({"prompt": ids, "tokens": tokens, "text": tokenizer.decode(tokens, skip_special_tokens=True)})
    return answers


if __name__ == "__main__":
    print(json.dumps(answer(sys.argv[1], json.loads(sys.argv[2]))))
