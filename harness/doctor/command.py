"""The command `gramlab doctor`: what is installed, what the machine can do, what is missing and what to do about it."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

    from common.interrupts import listen

    listen()

from common.command import answer, end, parsed
from common.errors import first_line
from harness import arguments
from harness.doctor.finding import Finding, summary, text

# By the title of a section the module that looks: imported only then, since what it stands on may be what is broken
SECTIONS = {
    "software": "harness.doctor.software",
    "machine": "harness.doctor.device",
    "data": "harness.doctor.data",
    "demo": "harness.doctor.demo",
}


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0, also where extras are missing, 1 where something that is needed is broken."""
    return answer(lambda: _run(argv), afterwards="nothing was changed")


def _run(argv: list[str] | None) -> int:
    args = parsed(arguments.doctor, "doctor", argv)
    found: dict[str, list[Finding]] = {}
    width = shutil.get_terminal_size().columns
    for title, module in SECTIONS.items():
        found[title] = looked(title, module)
        if not args.json:
            print(text(title, found[title], width=width), end="\n\n", flush=True)
    everything = [one for findings in found.values() for one in findings]
    if args.json:
        sections = {title: [asdict(one) for one in findings] for title, findings in found.items()}
        print(json.dumps({"summary": summary(everything), **sections}, indent=2, ensure_ascii=False))
    else:
        print(summary(everything))
    return int(any(one.state == "broken" for one in everything))


def looked(title: str, module: str) -> list[Finding]:
    """What a section finds; what it raises is a finding too, after those that came before."""
    found: list[Finding] = []
    try:
        found.extend(import_module(module).findings())
    except Exception as error:  # of whatever is broken below it: to tell is what this command is for
        told = f"cannot be looked at: {type(error).__name__}: {first_line(error)}"
        found.append(Finding(title, told, "broken", "mend what is broken above, then give this command again"))
    return found


if __name__ == "__main__":
    end(main())
