"""What transformers says of a response, with no code of ours: the other side of a comparison."""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def log_probs(folder: str, prompt: str, response: str) -> torch.Tensor:
    """Log-probability of each token of a response to a prompt, its end included, as ChatML writes them -> [T]."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    asked = tokenizer(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    said = tokenizer(f"{response}<|im_end|>")["input_ids"]
    with torch.no_grad():
        scores = model(torch.tensor([asked + said])).logits[0, len(asked) - 1 : -1].log_softmax(-1)
    return scores.gather(1, torch.tensor(said)[:, None]).squeeze(1)
