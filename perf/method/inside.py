"""The inside of `perf/emulated compare`: makes sure that time counts instructions, reads the programs
into memory, and runs `lateen-bench compare`.

    inside.py PROGRAMS BENCH [ARGUMENT…]

PROGRAMS is the folder of the reference programs, BENCH is lateen-bench."""

import os
import subprocess
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
    command = [bench, "compare", "--instruction-clock", "--peer-bin", f"floor={os.path.join(programs, 'floor')}",
               *arguments]
    # Through a pipe: the console of the guest is a terminal, on which progress would draw over itself.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
