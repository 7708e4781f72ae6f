"""The part of docs/benchmarks.md about one question to many documents, from the record of bench.quality.many."""

from __future__ import annotations

from typing import Any

from bench.report.models import conditions_line, percent


def many_lines(record: dict[str, Any]) -> list[str]:
    """The section of docs/benchmarks.md."""
    answer, command, other = record["answer_s"], record["command_s"], record["fts5"]
    lines = ["## One question to many documents", "", conditions_line(record["conditions"]), ""]
    lines += [
        f"{record['documents']:,} documents of about 2,000 tokens in the library, {record['questions']} questions "
        f"about {record['articles']} held-out articles among them; no two documents are of one article. Blocks are "
        "ordered by BM25 over the stems of all documents; with the extra `find` the best 50 are compared by word "
        "vectors, too. FTS5 of SQLite, fed with the same stems, stands beside.",
        "",
        "| | right document first | among the first three | index, of the text's bytes |",
        "|---|---|---|---|",
    ]
    for name, label in (("lexical", "words"), ("hybrid", "words and likeness")):
        if name in record:
            first, among = percent(record[name]["first"]), percent(record[name]["among_three"])
            lines.append(f"| {label} | {first} | {among} | {percent(record['index_share'])} |")
    lines.append(f"| FTS5 | {percent(other['first'])} | | {percent(other['share'])} |")
    lines += [
        "",
        f"With the model loaded, an answer comes {answer['later']:.2f} s later than one from a single cache "
        f"({answer['many']['median']:.2f} s against {answer['one']['median']:.2f} s); as whole commands, "
        f"{command['later']:.2f} s later ({command['many']['median']:.2f} s against {command['one']['median']:.2f} s). "
        f"Finding the words of all documents anew takes {record['index_rebuild_s']:.1f} s, reading what was kept of "
        f"them {record['index_open_s']:.2f} s.",
        "",
    ]
    return lines
