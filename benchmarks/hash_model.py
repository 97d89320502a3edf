"""Hash and sign a model folder of about 1 GB, against the `model_signing` command.

    FREEHOLD_MODEL_SIGNING=/path/to/python python benchmarks/hash_model.py [--quick] [--mib 1024]

On the same files, page cache warm. The command's time includes starting its interpreter, so the
same call inside a running interpreter is measured too, and SHA-256 of the files on one core. The
path names a Python with model-signing and pyOpenSSL, which Freehold itself does not need: without
it those two sides are left out, and that is said.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import _sheet as sheet
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from freehold.models.manifest import build_manifest
from freehold.models.oms import sign_manifest

OURS, PLAIN = "freehold, manifest + signature", "SHA-256 of each file, one core"
CALL, COMMAND = "model_signing, library call", "model_signing, command"
# Answers each line with the seconds (wall, processor) of one signature.
INSIDE = """
import sys, time
import model_signing
for _ in sys.stdin:
    wall, spent = time.perf_counter(), time.process_time()
    model_signing.signing.Config().use_elliptic_key_signer(private_key=sys.argv[2]).sign(
        sys.argv[1], sys.argv[3])
    print(time.perf_counter() - wall, time.process_time() - spent, flush=True)
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


def plainly(folder: Path) -> None:
    """Hash each file on one core: what any manifest needs at the least."""
    for path in sorted(folder.iterdir()):
        with path.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")


class Peer:
    """`model_signing` in an interpreter of its own, which stays open between the rounds."""

    def __init__(self, interpreter: str, model: Path, private: Path, signature: Path) -> None:
        self.command = [
            interpreter, "-m", "model_signing", "sign", "key", str(model),
            "--private_key", str(private), "--signature", str(signature),
        ]  # fmt: skip
        self._inside = subprocess.Popen(
            [interpreter, "-c", INSIDE, str(model), str(private), str(signature)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self) -> tuple[float, float]:
        """Sign by the library inside the open interpreter; return its seconds."""
        if self._inside.stdin is None or self._inside.stdout is None:
            raise RuntimeError("the interpreter was opened without pipes")
        print("sign", file=self._inside.stdin, flush=True)
        wall, processor = self._inside.stdout.readline().split()
        return float(wall), float(processor)

    def run(self) -> None:
        """Sign by the command."""
        subprocess.run(self.command, check=True, capture_output=True)

    def close(self) -> None:
        self._inside.communicate()


def measured(scratch: Path, mebibytes: int, rounds: int, interpreter: str | None) -> None:
    """Make the folder, measure every side, print the table and the ratios."""
    model, private = scratch / "model", scratch / "key.pem"
    synthesize(model, mebibytes)
    key = ec.generate_private_key(ec.SECP256R1())
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    peer = Peer(interpreter, model, private, scratch / "theirs.sig") if interpreter else None
    names = (OURS, PLAIN, CALL, COMMAND) if peer else (OURS, PLAIN)
    times = {name: sheet.Times() for name in names}
    for _ in range(rounds):
        sheet.measure(times[OURS], lambda: sign_manifest(build_manifest(model), key, name="model"))
        sheet.measure(times[PLAIN], lambda: plainly(model))
        if peer is not None:
            wall, processor = peer.call()
            times[CALL].wall.append(wall)
            times[CALL].processor.append(processor)
            sheet.measure(times[COMMAND], peer.run)
    size = mebibytes * (1 << 20) / 1e6
    print(f"\n{size:,.0f} MB in 8 shards")
    sheet.table(times, size, "MB")
    sheet.ratio(f"{PLAIN} to freehold", times[PLAIN], times[OURS])
    if peer is None:
        print("  FREEHOLD_MODEL_SIGNING is not set: no ratio to model_signing")
        return
    peer.close()
    for name in (CALL, COMMAND):
        sheet.ratio(f"{name} to freehold", times[name], times[OURS], aim=1)


def main() -> None:
    parser = sheet.options(
        __doc__, mib=(1024, 128, "MiB of weights"), rounds=(3, 3, "rounds of each side")
    )
    asked = sheet.read(parser)
    sheet.title("Hashing and signing a model folder against model_signing")
    with tempfile.TemporaryDirectory() as scratch:
        measured(Path(scratch), asked.mib, asked.rounds, os.environ.get("FREEHOLD_MODEL_SIGNING"))


if __name__ == "__main__":
    main()
