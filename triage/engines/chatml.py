"""ChatML, the chat template of Qwen and of the embedded model, for engines that build token ids themselves.

Its text equals what the tokenizer's own chat template renders (a test compares them).
"""

from __future__ import annotations

from triage.prompt import Prompt

ANSWER_OPENS = "<|im_start|>assistant\n"


def render_chatml(prompt: Prompt) -> str:
    """The prompt as text, up to where the assistant's answer begins."""
    turns = "".join(f"<|im_start|>{message.role}\n{message.content}<|im_end|>\n" for message in prompt.messages)
    return turns + ANSWER_OPENS
