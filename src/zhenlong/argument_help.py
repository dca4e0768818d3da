"""What the arguments mean that many commands have, each said once; a command's own docstring may say more of one."""

from typing import Final

ARGUMENT_HELP: Final = {
    "model": "Model to start from, as a rule the SFT model: pocket, a model or run folder, or a hub id.",
    "output": "Run folder to make.",
    "reward": "What an answer is worth: verifier, model:<folder>, or a combination such as `gate(verifier, model:rm)`.",
}
