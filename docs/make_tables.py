"""Make the documentation's tables again from benchmarks/results/*.json.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->`` and is made from
``benchmarks/results/NAME.json``. With ``--check`` nothing is written and the exit status is 1 where
a table differs from its file.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
PATTERN = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n)(.*?)(<!-- end of table -->)", re.DOTALL)


def _number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _interval(value: Any) -> str:
    return "" if not value else f"{_number(value[0])} to {_number(value[1])}"


def markdown_table(result: dict[str, Any]) -> str:
    """A Markdown table of one result file, with how and where it was measured below it."""
    columns = {
        "what": lambda row: str(row["what"]),
        "value": lambda row: "" if row["value"] is None else f"{_number(row['value'])} {row.get('unit') or ''}".strip(),
        "peer": lambda row: str(row.get("peer") or ""),
        "peer's value": lambda row: _number(row.get("peer_value")),
        "ratio": lambda row: _number(row.get("ratio")),
        "95 % interval": lambda row: _interval(row.get("interval")),
        "target": lambda row: _number(row.get("target")),
    }
    cells = [{name: column(row) for name, column in columns.items()} for row in result["rows"]]
    used = [name for name in columns if any(row[name] for row in cells)]
    lines = ["| " + " | ".join(used) + " |", "|" + " --- |" * len(used)]
    lines += ["| " + " | ".join(row[name] for name in used) + " |" for row in cells]
    world = "Simulated world. " if result.get("simulated") else ""
    machine = result["machine"]
    described = machine if isinstance(machine, str) else ", ".join(str(v) for v in machine.values())
    lines.append("")
    lines.append(f"{world}Made by `{result['command']}` on {result['date']}; {described}.")
    return "\n".join(lines) + "\n"


def renewed(text: str) -> str:
    """The text with every table made again; a table whose result file is absent stays as it is."""

    def replace(match: re.Match[str]) -> str:
        path = REPOSITORY / "benchmarks" / "results" / f"{match['name']}.json"
        if not path.exists():
            return match[0]
        return match[1] + markdown_table(json.loads(path.read_text())) + match[4]

    return PATTERN.sub(replace, text)


def main() -> int:
    """Renew or check all pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell whether a table is out of date")
    check = parser.parse_args().check
    stale = []
    for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]:
        text = page.read_text()
        new = renewed(text)
        if new != text:
            stale.append(page.relative_to(REPOSITORY))
            if not check:
                page.write_text(new)
    for page in stale:
        print(f"{page}: {'out of date, run `make docs`' if check else 'made again'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
