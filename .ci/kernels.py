"""Runs pytest, with the options given, once with the kernels of each older processor.

The numbers may then differ by rounding, the verdicts may not. OPENBLAS_CORETYPE chooses OpenBLAS's
kernels, NPY_DISABLE_CPU_FEATURES NumPy's own loops, ATEN_CPU_CAPABILITY PyTorch's.
"""

import json
import os
import platform
import subprocess
import sys

PROBE = """
import json, numpy, threadpoolctl
libraries = threadpoolctl.threadpool_info()
kernels = [x.get("architecture") for x in libraries if x["internal_api"] == "openblas"]
simd = numpy.show_config(mode="dicts")["SIMD Extensions"]
print(json.dumps([kernels, simd.get("found", [])]))
"""


def probe(environment):
    """OpenBLAS's kernels, and the instructions beyond its baseline that NumPy uses."""
    done = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True)
    if done.returncode != 0:
        sys.exit(done.stderr.decode())
    return json.loads(done.stdout)


def main():
    if platform.machine() not in ("x86_64", "AMD64"):
        print(f"no other kernels to try on {platform.machine()}: OpenBLAS's names are those of x86")
        return 0
    chosen = ("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "ATEN_CPU_CAPABILITY")
    plain = {name: value for name, value in os.environ.items() if name not in chosen}
    _, instructions = probe(plain)
    code = 0
    for kernels, fewer in (
        ("Haswell", {"ATEN_CPU_CAPABILITY": "avx2"}),
        (
            "Nehalem",
            {"ATEN_CPU_CAPABILITY": "default", "NPY_DISABLE_CPU_FEATURES": " ".join(instructions)},
        ),
    ):
        environment = plain | {"OPENBLAS_CORETYPE": kernels} | fewer
        used, left = probe(environment)
        print(f"OpenBLAS {used}, NumPy beyond its baseline {left}", flush=True)
        if used != [kernels]:
            print(f"{kernels} is left out: this machine or its BLAS does not have it")
            continue
        command = [sys.executable, "-m", "pytest", *sys.argv[1:]]
        code = subprocess.run(command, env=environment).returncode or code
    return code


if __name__ == "__main__":
    sys.exit(main())
