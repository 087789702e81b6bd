"""Who made a bundle: an OpenSSH signature of its card, which pins every other file.

The signatures are those of `ssh-keygen -Y`, ssh-keygen(1).

`mien-deploy sign` makes card.json.sig with an ordinary SSH key, an agent or a security key. A
device trusts the lines of an allowed_signers file: to accept a key, add its line; to stop, remove
the line or name the key in the file of revoked keys; `valid-before="20270101"` in a line ends it by
itself.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mien_edge import files, textfiles
from mien_edge.errors import BundleError, RuntimeMissingError
from mien_edge.settings import UpdateSettings

NAMESPACE = "mien-bundle"
SIGNATURE = "card.json.sig"
_PRINCIPAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,127}")
_MAX_BYTES = 64 * 1024  # of a signature; real ones have some hundreds
_TIMEOUT = 20  # seconds
_MIN_WORDS = 2  # of a public key: kind and key; a comment may follow


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose bundles a device accepts.

    signers: file with the keys that may sign (allowed signers, ssh-keygen(1)).
    revoked: file with the keys that may not sign any more; it need not exist.
    unsigned: whether a bundle without a signature is accepted.
    """

    signers: Path
    revoked: Path
    unsigned: bool = False

    @classmethod
    def from_settings(cls, settings: UpdateSettings) -> "Trust":
        """Return what the settings `update.signers`, `update.revoked` and `update.unsigned` say."""
        return cls(Path(settings.signers), Path(settings.revoked), settings.unsigned)

    def __call__(self, folder: Path, name: str) -> str:
        """Check the signature of the bundle in `folder`; return who signed it (allowed_signers).

        Returns '' for an unsigned bundle where that is accepted. Raises BundleError, which calls
        the bundle `name`, where it is not trusted, and RuntimeMissingError without ssh-keygen.
        """
        signature = folder / SIGNATURE
        if not signature.exists() and not signature.is_symlink():
            if self.unsigned:
                return ""
            raise BundleError(
                f"{name} is not signed; sign it with mien-deploy sign, or set update.unsigned on "
                "the device",
            )
        is_plain = signature.is_file() and not signature.is_symlink()
        if not is_plain or signature.stat().st_size > _MAX_BYTES:
            raise BundleError(
                f"{SIGNATURE} is not a signature; sign the bundle again with mien-deploy sign",
            )
        if not self.signers.is_file():
            raise BundleError(
                f"{self.signers}: no such file, so no signature can be checked; "
                "put the signer's line there "
                "(mien-deploy sign prints it)",
            )
        for file in (self.signers, self.revoked):
            _refuse_byte_order_mark(file)
        principal = self._principal(signature, name)
        self._verify(folder, signature, principal, name)
        return principal

    def _principal(self, signature: Path, name: str) -> str:
        """Whose key made the signature, whether or not it fits the card."""
        process = _keygen("find-principals", "-f", str(self.signers), "-s", str(signature))
        principals = process.stdout.split()
        if process.returncode or not principals:
            raise BundleError(
                f"{name} is signed by a key that is not in {self.signers}; "
                "sign it with one that is, or add it",
            )
        return principals[0]

    def _verify(self, folder: Path, signature: Path, principal: str, name: str) -> None:
        card = (folder / "card.json").read_bytes()
        arguments = ["verify", "-f", str(self.signers), "-n", NAMESPACE]
        arguments += ["-I", principal, "-s", str(signature)]
        process = _keygen(*arguments, content=card)
        if process.returncode:
            lines = (process.stderr or process.stdout).splitlines()
            reason = "; ".join(line.strip(". ") for line in lines)
            raise BundleError(
                f"{name}: its signature is not valid ({reason}); "
                "sign it again with a key that is allowed",
            )
        if not self.revoked.is_file():
            return
        process = _keygen(*arguments, "-r", str(self.revoked), content=card)
        if process.returncode:
            raise BundleError(
                f"{name} is signed by a key that {self.revoked} revokes; sign it with another one",
            )


def _refuse_byte_order_mark(path: Path) -> None:
    """Raise BundleError for a file that Windows saved with a mark: ssh-keygen takes that for a part
    of the first line, and would not know its key.
    """
    try:
        with path.open("rb") as file:
            start = file.read(3)
    except OSError:  # ssh-keygen says why
        return
    if textfiles.has_byte_order_mark(start):
        reason = "it begins with a byte order mark, which ssh-keygen does not read"
        raise BundleError(f"{path}: {reason}; save it as UTF-8 without one")


def sign(folder: Path, key: Path) -> Path:
    """Sign the card in `folder` and return the signature's file.

    key: a private key's file, or the public one of a key that an agent holds.

    Raises BundleError if the key cannot sign, and RuntimeMissingError without ssh-keygen.
    """
    card = folder / "card.json"
    with tempfile.TemporaryDirectory(prefix="mien-sign-") as temporary:
        card_copy = Path(temporary) / "card.json"
        card_copy.write_bytes(card.read_bytes())
        arguments = ["sign", "-q", "-f", str(key), "-n", NAMESPACE, str(card_copy)]
        process = _keygen(*arguments, is_interactive=True)
        signature = card_copy.with_name(SIGNATURE)
        if process.returncode or not signature.is_file():
            lines = process.stderr.strip().splitlines() or ["no reason given"]
            raise BundleError(
                f"{key}: cannot sign ({lines[-1]}); "
                "name a private SSH key, or one that your agent holds",
            )
        files.write_bytes(folder / SIGNATURE, signature.read_bytes())
    return folder / SIGNATURE


def check_principal(principal: str) -> None:
    """Check that `principal` can be the name of one signer in an allowed_signers file.

    There it is a list of patterns (ssh-keygen(1), ALLOWED SIGNERS): a space ends it, a comma
    separates two, and `*`, `?` and `!` mean more than themselves.

    Raises BundleError if it cannot.
    """
    if not _PRINCIPAL.fullmatch(principal):
        raise BundleError(
            f"--principal {principal[:80]!a} cannot be a signer's name: write 1 to 128 of "
            "A-Z, a-z, 0-9 and . _ + @ -, a letter or a digit first, such as alice@example.com",
        )


def verified_signers_line(folder: Path, principal: str, public: Path) -> str:
    """Return the allowed_signers line by which a device accepts the signed bundle in `folder`.

    It is verified with ssh-keygen, as a device does that.

    Raises BundleError if `principal` or `public` do not fit, and RuntimeMissingError without
    ssh-keygen.
    """
    line = allowed_signers_line(principal, public)
    with tempfile.TemporaryDirectory(prefix="mien-sign-") as temporary:
        signers = Path(temporary) / "allowed_signers"
        signers.write_text(line)
        trust = Trust(signers, Path(temporary) / "none")
        try:
            accepted = trust(folder, folder.name)
        except BundleError:
            accepted = ""
    if accepted != principal:
        raise BundleError(
            f"{public}: not the public key of the signature; name the key that signs with --key",
        )
    return line


def allowed_signers_line(principal: str, public: Path) -> str:
    """Return the allowed_signers line by which the key in `public` may sign bundles only.

    Raises BundleError if the file cannot be read or holds no public key, and for a `principal` that
    cannot be one.
    """
    check_principal(principal)
    words = textfiles.read_text(public, BundleError, "name the .pub file").split()
    if len(words) < _MIN_WORDS:
        raise BundleError(f"{public}: not a public SSH key; name the .pub file")
    kind, key = words[:_MIN_WORDS]
    return f'{principal} namespaces="{NAMESPACE}" {kind} {key}\n'


def _keygen(
    action: str,
    *arguments: str,
    content: bytes = b"",
    is_interactive: bool = False,
) -> "subprocess.CompletedProcess[str]":
    """Run `ssh-keygen -Y action`; an interactive one may wait for a passphrase."""
    command = ["ssh-keygen", "-Y", action, *arguments]
    try:
        if is_interactive:
            return _decoded(subprocess.run(command, capture_output=True))
        process = subprocess.run(command, input=content, capture_output=True, timeout=_TIMEOUT)
    except FileNotFoundError:
        raise RuntimeMissingError(
            "ssh-keygen is not installed; sudo apt install openssh-client",
        ) from None
    except subprocess.TimeoutExpired:
        raise BundleError(f"ssh-keygen took over {_TIMEOUT} s; try again") from None
    return _decoded(process)


def _decoded(process: "subprocess.CompletedProcess[bytes]") -> "subprocess.CompletedProcess[str]":
    stdout = process.stdout.decode(errors="replace")
    stderr = process.stderr.decode(errors="replace")
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
