"""Cut a finished run down to the weights that other experiments can start from (`trunk.checkpoint`).

`python harness/export_trunk.py runs/scenes_trunk/plain-s0 experiments/trunks/scenes_nano.safetensors` keeps student and
teacher with their heads, in half precision; optimizer moments and the Gram teacher stay behind. With --teacher the EMA
teacher alone is kept, in half the bytes, and a student that starts from it begins as its teacher does. With --whole the
whole state is kept, to the bit and as one file, also where several processes have written a folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

import torch

from common.command import Parser, answer, end
from common.errors import BadInput
from harness.checkpoint import export_weights, latest_states, merge


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for bad input."""
    return answer(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    parser = Parser(prog="harness/export_trunk.py", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run, such as runs/scenes_trunk/plain-s0")
    parser.add_argument("target", type=Path, help="the .safetensors file to write")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--teacher", action="store_true", help="keep the EMA teacher alone")
    kept.add_argument("--whole", action="store_true", help="keep the whole state, as one file")
    args = parser.parse_args(argv)
    states = latest_states(args.run / "states")
    if not states:
        raise BadInput(f"{args.run}/states holds no training state: want a run's folder, <experiment>/<arm>-s<seed>")
    if args.whole:
        merge(states[0], args.target)
    else:
        export_weights(states[0], args.target, dtype=torch.float16, teacher_alone=args.teacher)
    print(f"{args.target}: {args.target.stat().st_size / 2**20:.1f} MiB from {states[0]}")
    return 0


if __name__ == "__main__":
    end(main())
