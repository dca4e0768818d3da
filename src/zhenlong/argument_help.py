"""What the arguments mean that many commands have, each said once; a command's own docstring may say more of one."""

from typing import Final

ARGUMENT_HELP: Final = {
    "model": "Model to start from, as a rule the SFT model: pocket, a model or run folder, or a hub id.",
    "data": "Tasks (prompts with references): files, hf:owner/name or world:tasks.",
    "json": "Print JSON instead of the table.",
    "judge_max_tokens": "Longest reply of the judge.",
    "samples_per_prompt": "Answers sampled for each prompt; what is empty, cut off or said twice is not shown.",
    "output": "Run folder to make.",
    "reward": "What an answer is worth: verifier, model:<folder>, or a combination such as `gate(verifier, model:rm)`.",
}
