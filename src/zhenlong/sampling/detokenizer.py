"""Incremental detokenization: complete characters only, and no text from a stop string on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from transformers import PreTrainedTokenizerBase

REPLACEMENT_CHARACTER: Final = "\ufffd"  # an incomplete character decodes to this


class IncrementalDetokenizer:
    """The text of a growing list of token ids.

    `text` grows by complete characters and ends before a stop string. Only the newest ids are decoded, together with
    the piece before them, because some tokenizers treat the first token of a text differently (the incremental
    decoding of text-generation-inference).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer
        self.stop = tuple(stop)
        self.text = ""
        self.stopped = False
        self._pending_ids: list[int] = []  # the previous piece and the ids not yet decoded
        self._prefix_length = 0  # how many of them are the previous piece
        self._longest_stop = max((len(string) for string in self.stop), default=1)

    def add_token(self, token: int) -> bool:
        """Add one id; true once the text contains a stop string."""
        if self.stopped:
            return True
        self._pending_ids.append(token)
        piece = self._new_text()
        if piece and not piece.endswith(REPLACEMENT_CHARACTER):
            self._append_text(piece)
            self._pending_ids, self._prefix_length = (
                self._pending_ids[self._prefix_length :],
                len(self._pending_ids) - self._prefix_length,
            )
        return self.stopped

    def finish(self) -> str:
        """The full text, including an incomplete character at its end; add no tokens afterwards."""
        if not self.stopped:
            self._append_text(self._new_text())
        return self.text

    def streamable_text(self) -> str:
        """The text that can be shown: without an end that could be the start of a stop string."""
        if self.stopped:
            return self.text
        for length in range(min(self._longest_stop - 1, len(self.text)), 0, -1):
            tail = self.text[-length:]
            if any(string.startswith(tail) for string in self.stop):
                return self.text[:-length]
        return self.text

    def _new_text(self) -> str:
        before = detokenize(self.tokenizer, self._pending_ids[: self._prefix_length])
        return detokenize(self.tokenizer, self._pending_ids)[len(before) :]

    def _append_text(self, piece: str) -> None:
        start = max(0, len(self.text) - self._longest_stop + 1)
        self.text += piece
        found = [place for string in self.stop if (place := self.text.find(string, start)) >= 0]
        if found:
            self.text, self.stopped = self.text[: min(found)], True


def detokenize(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of ids, without special tokens, spaces unchanged."""
    if not ids:
        return ""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))
