"""Who made a bundle: an OpenSSH signature of its card, which pins every other file (`ssh-keygen -Y`, ssh-keygen(1)).

`mien-deploy sign` makes card.json.sig with an ordinary SSH key, an agent or a security key. A device trusts the lines
of an allowed_signers file: to take a key in, add its line; to let it go, remove the line or name it in the file of
revoked keys; `valid-before="20270101"` in a line ends it by itself.
"""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mien_edge import files
from mien_edge.errors import BundleError, RuntimeMissingError
from mien_edge.settings import UpdateSettings

NAMESPACE = "mien-bundle"
SIGNATURE = "card.json.sig"
_LARGEST = 64 * 1024  # bytes of a signature; real ones have some hundreds
_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a device believes. signers, revoked: files; unsigned: whether a bundle without a signature is taken."""

    signers: Path
    revoked: Path
    unsigned: bool = False

    @classmethod
    def of(cls, settings: UpdateSettings) -> "Trust":
        """As the settings say."""
        return cls(Path(settings.signers), Path(settings.revoked), settings.unsigned)

    def __call__(self, folder: Path, name: str) -> str:
        """Who signed the bundle in `folder`, or '' for nobody where that is allowed.

        Raises BundleError otherwise, which calls the bundle `name`.
        """
        path = folder / SIGNATURE
        if not path.exists() and not path.is_symlink():
            if self.unsigned:
                return ""
            raise BundleError(
                f"{name} is not signed; sign it with mien-deploy sign, or set update.unsigned on the device"
            )
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST:
            raise BundleError(f"{path.name} is not a signature; sign the bundle again with mien-deploy sign")
        if not self.signers.is_file():
            raise BundleError(
                f"{self.signers}: no such file, so no signature can be checked; put the signer's line there "
                "(mien-deploy sign prints it)"
            )
        return self._signer(folder, path, name)

    def _signer(self, folder: Path, signature: Path, name: str) -> str:
        allowed = ["-f", str(self.signers)]
        found = _keygen("find-principals", *allowed, "-s", str(signature))
        names = found.stdout.split()
        if found.returncode or not names:
            raise BundleError(
                f"{name} is signed by a key that is not in {self.signers}; sign it with one that is, or add it"
            )
        rest = ["-n", NAMESPACE, "-I", names[0], "-s", str(signature)]
        card = (folder / "card.json").read_bytes()
        checked = _keygen("verify", *allowed, *rest, content=card)
        if checked.returncode:
            reason = "; ".join(line.strip(". ") for line in (checked.stderr or checked.stdout).splitlines())
            raise BundleError(
                f"{name}: its signature is not valid ({reason}); sign it again with a key that is allowed"
            )
        if self.revoked.is_file():
            checked = _keygen("verify", *allowed, "-r", str(self.revoked), *rest, content=card)
            if checked.returncode:
                raise BundleError(f"{name} is signed by a key that {self.revoked} revokes; sign it with another one")
        return names[0]


def sign(folder: Path, key: Path) -> Path:
    """Sign the card in `folder` with a private key's file, or the public one of a key that an agent holds. Returns the
    signature's file. Raises BundleError.
    """
    card = folder / "card.json"
    with tempfile.TemporaryDirectory(prefix="mien-sign-") as place:
        copied = Path(place) / "card.json"
        copied.write_bytes(card.read_bytes())
        done = _keygen("sign", "-q", "-f", str(key), "-n", NAMESPACE, str(copied), asks=True)
        made = copied.with_name(SIGNATURE)
        if done.returncode or not made.is_file():
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise BundleError(f"{key}: cannot sign ({reason}); name a private SSH key, or one that your agent holds")
        files.write_bytes(folder / SIGNATURE, made.read_bytes())
    return folder / SIGNATURE


def line(principal: str, public: Path) -> str:
    """What an allowed_signers file says of a public key: it may sign bundles and nothing else."""
    try:
        kind, key, *_ = public.read_text().split()
    except (OSError, UnicodeDecodeError, ValueError) as problem:
        raise BundleError(f"{public}: not a public SSH key ({problem}); name the .pub file") from None
    return f'{principal} namespaces="{NAMESPACE}" {kind} {key}\n'


def _keygen(
    action: str, *arguments: str, content: bytes = b"", asks: bool = False
) -> "subprocess.CompletedProcess[str]":
    command = ["ssh-keygen", "-Y", action, *arguments]
    try:
        if asks:
            return subprocess.run(command, capture_output=True, text=True)
        done = subprocess.run(command, input=content, capture_output=True, timeout=_SECONDS)
    except FileNotFoundError:
        raise RuntimeMissingError("ssh-keygen is not installed; sudo apt install openssh-client") from None
    except subprocess.TimeoutExpired:
        raise BundleError(f"ssh-keygen took over {_SECONDS} s; try again") from None
    text = [part.decode(errors="replace") for part in (done.stdout, done.stderr)]
    return subprocess.CompletedProcess(command, done.returncode, *text)
