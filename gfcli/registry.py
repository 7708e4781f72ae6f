"""Every command in one place: its name, where it lives, what it is for. Nothing is imported to list them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# Headings of gf --help, in order.
GROUPS = ("Ask", "Caches", "Models", "This machine")


@dataclass(frozen=True)
class Command:
    """One command, or a group of them.

    Attributes:
        name: as it is typed after gf: "ask", "cache ls".
        function: "module:function" below gfcli.commands; empty for a group of commands.
        summary: one sentence of fewer than 45 characters; the help page of the command begins with it.
        heading: one of GROUPS; empty for commands inside a group.
        settings: settings that its options of the same names default to.
        loads_torch: whether running it takes a model, and the seconds to load one.
        resumes: whether the same command line, given again after an interruption, resumes from there.
        aliases: other last words that it answers to.
        extra_hint: what to do about arguments that are too many.
        usual: values of options that may go without one, where a file follows or nothing.
    """

    name: str
    function: str
    summary: str
    heading: str = ""
    settings: tuple[str, ...] = ()
    loads_torch: bool = False
    resumes: bool = False
    aliases: tuple[str, ...] = ()
    extra_hint: str | None = None
    usual: Mapping[str, str] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """The last word of the name."""
        return self.name.rpartition(" ")[2]

    @property
    def parent(self) -> str:
        """The name of the group that it is in; empty for the top."""
        return self.name.rpartition(" ")[0]

    def load(self) -> Callable[..., Any]:
        """The function, its module imported now."""
        module, _, name = self.function.partition(":")
        function: Callable[..., Any] = getattr(importlib.import_module(f"gfcli.commands.{module}"), name)
        return function


_DEVICE = ("device",)
_WRITING = ("device", "checkpoints")
_READING = ("encoding", "verbatim", "skip_blobs")
_APPENDING = (*_WRITING, *_READING)
_PREFILL = (*_APPENDING, "layout", "codec", "state_codec")

COMMANDS = (
    Command(
        "ask", "ask:ask", "Answer a question about a document.", "Ask",
        ("device", *_READING, "memory", "read", "read_blocks", "least_likelihood", "max_tokens"),
        loads_torch=True, extra_hint='quote the question: gf ask doc.txt "Who wrote it?"',
    ),
    Command("search", "search:search", "Find places in cached documents.", "Ask"),
    Command(
        "serve", "serve:serve", "Answer over HTTP, as the OpenAI API does.", "Ask",
        ("device", "memory", "read", "read_blocks"), loads_torch=True,
    ),
    Command("log", "log:log", "Show what was asked and answered.", "Ask"),
    Command(
        "prefill", "prefill:prefill", "Read documents once and write their caches.", "Ask", _PREFILL,
        loads_torch=True, resumes=True,
    ),
    Command("plan", "plan:plan", "Estimate the size and time of a prefill.", "Ask", _PREFILL, loads_torch=True),
    Command("status", "status:status", "Show which caches are up to date.", "Caches"),
    Command(
        "refresh", "refresh:refresh", "Bring stale caches up to date.", "Caches", _DEVICE,
        loads_torch=True, resumes=True,
    ),
    Command("prune", "prune:prune", "Remove caches whose documents are gone.", "Caches"),
    Command("append", "change:append", "Append text to a cached document.", "Caches", _APPENDING, loads_torch=True),
    Command(
        "truncate", "change:truncate", "Keep only the beginning of a document.", "Caches", _WRITING, loads_torch=True
    ),
    Command("flatten", "flatten:flatten", "Merge a cache with its base into one file.", "Caches"),
    Command("convert", "flatten:convert", "Round a cache and store it smaller.", "Caches", _DEVICE),
    Command("inspect", "inspect:inspect", "Show what a cache file holds.", "Caches"),
    Command(
        "verify", "verify:verify", "Check that cache files are intact.", "Caches", _DEVICE, usual={"--replay": "100%"}
    ),
    Command("diff", "diff:diff", "Show where two cache files differ.", "Caches"),
    Command("cache", "", "Manage the cache library.", "Caches"),
    Command("cache ls", "cache:ls", "List the caches of the library.", aliases=("list",)),
    Command("cache rm", "cache:rm", "Remove caches from the library."),
    Command("cache prune", "cache:prune", "Remove damaged, old or excess caches."),
    Command("cache pin", "cache:pin", "Protect caches from eviction."),
    Command("cache unpin", "cache:unpin", "Let pinned caches be evicted again."),
    Command("cache tag", "cache:tag", "Add or remove tags."),
    Command("cache du", "cache:du", "Show how much space the library takes."),
    Command("cache export", "cache_transfer:export", "Copy caches out of the library."),
    Command("cache import", "cache_transfer:import_", "Copy cache files into the library."),
    Command("model", "", "Manage models.", "Models"),
    Command("model list", "model:list_", "List the models that have a name here.", aliases=("ls",)),
    Command("model show", "model:show", "Show a model's configuration."),
    Command("model import", "model:import_", "Make a model folder from published weights.", loads_torch=True),
    Command("model verify", "model:verify", "Check a model's weights and tokenizer.", loads_torch=True),
    Command(
        "model measure", "model:measure", "Measure what a model should read.", "", _DEVICE, loads_torch=True,
    ),
    Command("model set", "model:set_", "Change a model's template or configuration.", loads_torch=True),
    Command("model init", "model:init", "Make a model with random weights.", loads_torch=True),
    Command(
        "train", "train:train", "Train a model from a recipe.", "Models", _DEVICE, loads_torch=True, resumes=True
    ),
    Command("eval", "eval:evaluate", "Measure a model on held-out data.", "Models", _DEVICE, loads_torch=True),
    Command("bench", "", "Measure the speed of this machine.", "This machine"),
    Command(
        "bench prefill", "bench.speed:prefill", "Measure prefill speed by document length.", settings=_DEVICE,
        loads_torch=True,
    ),
    Command(
        "bench ask", "bench.speed:ask", "Measure the first token and decoding.", settings=_DEVICE, loads_torch=True
    ),
    Command("bench load", "bench.speed:load_", "Measure start-up.", loads_torch=True),
    Command("bench kernels", "bench.speed:kernels", "Measure each kernel backend.", settings=_DEVICE, loads_torch=True),
    Command(
        "bench codecs", "bench.speed:codecs", "Measure what codecs save and cost.", settings=_DEVICE, loads_torch=True
    ),
    Command(
        "bench methods", "bench.methods:methods", "Compare methods by quality, bytes and time.", settings=_DEVICE,
        loads_torch=True, resumes=True,
    ),
    Command("config", "", "Show settings.", "This machine"),
    Command("config show", "config:show", "Show the effective settings for this folder."),
    Command("doctor", "doctor:doctor", "Check this installation.", "This machine", _DEVICE, loads_torch=True),
    Command("completion", "completion:completion", "Print a shell completion script.", "This machine"),
)  # fmt: skip


def below(parent: str) -> Iterator[Command]:
    """The commands of a group; of the top for ""."""
    return (command for command in COMMANDS if command.parent == parent)


def find(parent: str, word: str) -> Command | None:
    """The command of a group that a word names."""
    return next((command for command in below(parent) if word == command.word or word in command.aliases), None)


def named(arguments: list[str]) -> Command | None:
    """The command that a command line gives, as far as it can be told; None for none."""
    found: Command | None = None
    for word in (argument for argument in arguments if argument != "--debug"):
        command = find(found.name if found else "", word)
        if command is None or (found is not None and found.function):
            break
        found = command
    return found
