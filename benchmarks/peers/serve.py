"""The other side of `processes`: what a peer's process does with the words that it is told.

It imports next to nothing: hyperqueue's process forks for each task, and a larger one forks slower.
"""

import os
import sys
from collections.abc import Callable, Mapping
from typing import TextIO


def take_stdout() -> TextIO:
    """Keep standard output for answers: from now on what a peer prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def serve(answers: TextIO, words: Mapping[str, Callable[..., int]]) -> None:
    """Answer each line of standard input, a word and its arguments, with a number."""
    for line in sys.stdin:
        word, *arguments = line.split()
        print(words[word](*arguments), file=answers, flush=True)
