"""Hash and sign a model folder of about 1 GB: ours against the `model_signing` command.

Both run in this process tree, on the same files, page cache warm; the best of three counts.
The command's time includes starting its interpreter, which is also shown alone; the library
call inside a running interpreter is measured too, so that the ratio is fair.

    FREEHOLD_MODEL_SIGNING=/path/to/python python benchmarks/hash_model.py [--mib 1024]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from freehold.models.manifest import build_manifest
from freehold.models.oms import sign_manifest

INSIDE = """
import sys, time
import model_signing
best = 9e9
for _ in range(3):
    start = time.perf_counter()
    model_signing.signing.Config().use_elliptic_key_signer(private_key=sys.argv[2]).sign(
        sys.argv[1], sys.argv[3])
    best = min(best, time.perf_counter() - start)
print(best)
"""


def synthesize(folder: Path, mebibytes: int) -> None:
    """Write eight shards of random bytes and a few small files."""
    folder.mkdir()
    for number in range(8):
        with (folder / f"model-{number + 1:05}-of-00008.safetensors").open("wb") as stream:
            for _ in range(mebibytes // 8):
                stream.write(os.urandom(1 << 20))
    for name in ("config.json", "tokenizer.json", "README.md"):
        (folder / name).write_bytes(os.urandom(100_000))


def best_of_three(action: Callable[[], object]) -> float:
    """Return the shortest of three times, in seconds."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    mebibytes = parser.parse_args().mib
    interpreter = os.environ.get("FREEHOLD_MODEL_SIGNING")
    if not interpreter:
        sys.exit("set FREEHOLD_MODEL_SIGNING to a Python with model-signing and pyopenssl")
    with tempfile.TemporaryDirectory() as scratch:
        model, private = Path(scratch, "model"), Path(scratch, "key.pem")
        synthesize(model, mebibytes)
        key = ec.generate_private_key(ec.SECP256R1())
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        signature = str(Path(scratch, "theirs.sig"))
        inside = [interpreter, "-c", INSIDE, str(model), str(private), signature]
        command = [
            interpreter, "-m", "model_signing", "sign", "key", str(model),
            "--private_key", str(private), "--signature", signature,
        ]  # fmt: skip

        def run(line: list[str]) -> subprocess.CompletedProcess[str]:
            return subprocess.run(line, check=True, capture_output=True, text=True)

        ours = best_of_three(lambda: sign_manifest(build_manifest(model), key, name="model"))
        library = float(run(inside).stdout)
        whole = best_of_three(lambda: run(command))
    size = mebibytes * (1 << 20) / 1e6
    print(f"{size:.0f} MB in 8 shards, {os.cpu_count()} cores, best of three")
    print(f"freehold  manifest + signature    {ours:6.2f} s  {size / ours:6.0f} MB/s")
    print(f"model_signing, library call       {library:6.2f} s  {size / library:6.0f} MB/s")
    print(f"model_signing, command            {whole:6.2f} s  {size / whole:6.0f} MB/s")
    print(f"ratio to the library call {library / ours:.2f}, to the command {whole / ours:.2f}")


if __name__ == "__main__":
    main()
