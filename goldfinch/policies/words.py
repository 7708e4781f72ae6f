"""The words of a text, as finding compares them: case folded, stemmed, in any script.

Words end where Unicode says that a word character ends; Chinese, Japanese and Thai, which put no blanks between words,
give pairs of neighbouring characters. No list of stop words: what stands everywhere weighs nothing anyway (idf).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import snowballstemmer

# Han, kana and Thai: scripts without blanks between words.
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}]+(?:['’][^\W_{_UNSPACED}]+)*")
_UNSPACED_RUN = re.compile(rf"[{_UNSPACED}]+")
_LONGEST = 64


def words_of(text: str) -> list[str]:
    """The words of a text in order, repeated as they are repeated there."""
    found: list[str] = []
    for match in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        if _UNSPACED_RUN.match(match):
            found += [match[i : i + 2] for i in range(len(match) - 1)] or [match]
        else:
            found.append(stem(match[:_LONGEST]))
    return found


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """A case-folded word without its ending: Snowball's English rules, which leave words of other scripts alone."""
    word = word.replace("’", "'")
    if not word.isascii() or any(character.isdigit() for character in word):
        return word
    stemmed: str = _stemmer().stemWord(word)
    return stemmed


@lru_cache(maxsize=1)
def _stemmer() -> snowballstemmer.stemmer:
    return snowballstemmer.stemmer("english")
