"""The inside of `perf/emulated compare`: makes sure that time counts instructions, reads the programs
into memory, and becomes `lateen-bench compare`.

    inside.py PROGRAMS BENCH [ARGUMENT…]

PROGRAMS is the folder of the reference programs, BENCH is lateen-bench."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from method import emulation  # noqa: E402


def main():
    programs, bench, *arguments = sys.argv[1:]
    print(f"calibrated: {emulation.calibrate(programs)}", flush=True)
    beside = os.path.dirname(bench)
    ours = [os.path.join(beside, name) for name in ("lateen-bench", "lateen-proxy", "lateen")]
    emulation.read_ahead(programs, [os.path.realpath(path) for path in ours if os.path.exists(path)])
    os.execv(bench, [bench, "compare", "--instruction-clock",
                     "--peer-bin", f"floor={os.path.join(programs, 'floor')}", *arguments])


if __name__ == "__main__":
    main()
