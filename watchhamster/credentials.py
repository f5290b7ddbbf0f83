"""Where secrets are kept: the system's keyring, or an encrypted file where there is none. Never in plain text.

Entries are named `watchhamster/<tenant>/<name>`. A place is chosen once (`find_credentials`); a keyring that is locked
says so and is asked again later, it is never replaced by the vault behind the user's back.

The vault is a JSON file, mode 0600, replaced as a whole:

    header   the key derivation (Argon2id) and its salt, with a check: AES-256-GCM over nothing, the header as
             associated data, so that a changed header and a wrong passphrase are both refused
    entries  name -> nonce and AES-256-GCM of the secret, the name as associated data, so that entries cannot be swapped
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import msgspec

from watchhamster.core.ports import UsageError, WatchHamsterError
from watchhamster.core.secret import Secret
from watchhamster.core.text import Text, _

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

T = TypeVar("T")
_LONGEST = 20_000  # characters of a secret; what a Secret Service was seen to take
_LONGEST_WINDOWS = 1_280  # a Windows credential holds 2,560 bytes of UTF-16


class CredentialError(WatchHamsterError):
    """Secrets cannot be read or written just now, or at all."""


class NoKeyring(CredentialError):
    """This machine offers no keyring that we trust."""


class Locked(CredentialError):
    """The keyring or the vault is there, but closed: a person has to open it."""


class Absent(CredentialError):
    """There is no such secret."""


class Damaged(CredentialError):
    """The vault file, or an entry in it, is not what was written."""


class Credentials(Protocol):
    """A place for secrets. Every call may raise `Locked`."""

    async def get(self, tenant: str, name: str) -> Secret:
        """The secret. Raises `Absent`."""

    async def set(self, tenant: str, name: str, secret: Secret) -> None:
        """Keep a secret, in place of an older one of that name."""

    async def remove(self, tenant: str, name: str) -> None:
        """Forget a secret. Raises `Absent`."""


async def find_credentials(
    vault_path: Path, where: Literal["auto", "keyring", "vault"] = "auto", timeout_s: float = 10.0
) -> Keyring | Vault:
    """The place for secrets: `auto` means the vault if one was made, else the keyring, else a vault yet to be made.

    Raises `NoKeyring` where `keyring` was asked for and there is none, or `Locked` when the system does not answer.
    """
    vault = Vault(vault_path)
    if where == "vault" or (where == "auto" and vault.exists):
        return vault
    backend = await _in_thread(_trusted_backend, timeout_s)
    if backend is not None:
        return Keyring(backend, timeout_s)
    if where == "keyring":
        raise NoKeyring(
            "no_keyring",
            Text("This machine offers no keyring."),
            Text("Start one (GNOME Keyring, KWallet), or keep secrets in the encrypted vault file."),
        )
    return vault


def entry_name(tenant: str, name: str) -> str:
    """`watchhamster/<tenant>/<name>`. Raises `UsageError` (`bad_credential_name`)."""
    for part in (tenant, name):
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", part) is None:
            raise UsageError(
                "bad_credential_name",
                Text("{name!r} cannot name a credential.", {"name": part}),
                Text("Use up to 100 letters, digits, dots, hyphens and underscores."),
            )
    return f"watchhamster/{tenant}/{name}"


def read_passphrase(file_descriptor: int | None = None) -> Secret:
    """The vault's passphrase, from the first line of a file descriptor, else asked on the terminal. Never from argv."""
    if file_descriptor is not None:
        with os.fdopen(file_descriptor, encoding="utf-8", closefd=False) as file:
            return Secret(file.readline().rstrip("\r\n"))
    import getpass

    return Secret(getpass.getpass(_("Passphrase of the vault:") + " "))


# ---------------------------------------------------------------- the system's keyring


def _trusted_backend() -> KeyringBackend | None:
    """The best usable backend of those that encrypt: an allow-list, since a plug-in may bring one in plain text."""
    candidates: list[type[KeyringBackend]] = []
    if sys.platform == "win32":
        from keyring.backends import Windows

        candidates = [Windows.WinVaultKeyring]
    elif sys.platform == "darwin":
        from keyring.backends import macOS

        candidates = [macOS.Keyring]
    else:
        from keyring.backends import SecretService, kwallet

        candidates = [SecretService.Keyring, kwallet.DBusKeyring]
    usable = [candidate for candidate in candidates if candidate.viable]
    return max(usable, key=lambda candidate: candidate.priority)() if usable else None


class Keyring:
    """The system's keyring. A locked one may prompt the user: calls run in a thread and give up waiting in time."""

    def __init__(self, backend: KeyringBackend, timeout_s: float = 10.0) -> None:
        self.place = Text("the system's keyring ({name})", {"name": backend.name})
        self._backend = backend
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()  # one call at a time
        self._waiting = False  # a call's thread is at work; after its time-out it waits for a person

    async def get(self, tenant: str, name: str) -> Secret:
        """The secret. Raises `Absent`, `Locked`."""
        entry = entry_name(tenant, name)
        value = await self._call(lambda: self._backend.get_password(entry, name))
        if value is None:
            raise _absent(entry)
        return Secret(value)

    async def set(self, tenant: str, name: str, secret: Secret) -> None:
        """Keep a secret, in place of an older one. Raises `UsageError` (`secret_too_long`), `Locked`."""
        entry = entry_name(tenant, name)
        _check_length(secret, _LONGEST_WINDOWS if sys.platform == "win32" else _LONGEST)
        await self._call(lambda: self._backend.set_password(entry, name, secret.reveal()))

    async def remove(self, tenant: str, name: str) -> None:
        """Forget a secret. Raises `Absent`, `Locked`."""
        entry = entry_name(tenant, name)
        await self._call(lambda: self._backend.delete_password(entry, name))

    async def _call(self, call: Callable[[], T]) -> T:
        from keyring.errors import InitError, KeyringError, KeyringLocked, NoKeyringError, PasswordDeleteError

        def guarded() -> T:
            try:
                return call()
            finally:
                self._waiting = False

        try:
            async with self._turn:
                if self._waiting:  # no second thread behind a prompt
                    raise _prompting()
                self._waiting = True
                return await _in_thread(guarded, self._timeout_s)
        except PasswordDeleteError:
            raise Absent("secret_absent", Text("The keyring holds no such secret."), _ENTER_AGAIN) from None
        except KeyringLocked as error:
            raise Locked(
                "keyring_locked", Text("The system's keyring is locked."), Text("Unlock it and try again.")
            ) from error
        except InitError as error:  # no collection and nobody to make one: a session without a desktop
            raise Locked(
                "keyring_locked",
                Text("The system's keyring cannot be opened: {reason}.", {"reason": str(error).rstrip(".")}),
                Text("Log in to a desktop session once, or keep secrets in the encrypted vault file."),
            ) from error
        except NoKeyringError as error:
            raise NoKeyring(
                "no_keyring",
                Text("The system's keyring is gone."),
                Text("Start it again, or keep secrets in the encrypted vault file."),
            ) from error
        except KeyringError as error:
            raise CredentialError(
                "keyring_failed",
                Text("The system's keyring failed: {reason}.", {"reason": str(error).rstrip(".")}),
                Text("Run doctor for what it needs."),
            ) from error


_ENTER_AGAIN = Text("Enter it again in the settings of what uses it.")


def _absent(entry: str) -> Absent:
    return Absent("secret_absent", Text("There is no secret {entry}.", {"entry": entry}), _ENTER_AGAIN)


def _prompting() -> Locked:
    return Locked(
        "keyring_locked",
        Text("The system's keyring does not answer; it may be asking you to unlock it."),
        Text("Look for its prompt, unlock it and try again."),
    )


def _check_length(secret: Secret, longest: int) -> None:
    if not 1 <= len(secret.reveal()) <= longest:
        raise UsageError(
            "secret_too_long" if secret.reveal() else "secret_empty",
            Text("A secret has from 1 to {longest} characters here.", {"longest": longest}),
            Text("Check what was pasted."),
        )


async def _in_thread(call: Callable[[], T], timeout_s: float) -> T:
    """The call's result, from a thread of its own. Raises `Locked` when it takes longer.

    The thread is a daemon, unlike an executor's: one that waits for a prompt must not hold up the program's end.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if not done.done():
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = call()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, name="credentials", daemon=True).start()
    try:
        async with asyncio.timeout(timeout_s):
            return await done
    except TimeoutError:
        raise _prompting() from None


# ---------------------------------------------------------------- the vault


class Argon2Cost(msgspec.Struct, frozen=True):
    """How hard a passphrase is to try: memory in KiB, passes over it, lanes."""

    memory_kib: int = 65_536
    iterations: int = 3
    lanes: int = 4


class _Header(msgspec.Struct, frozen=True):
    format: int
    cost: Argon2Cost
    salt: bytes
    check: bytes = b""  # nonce and tag


class _File(msgspec.Struct):
    header: _Header
    entries: dict[str, bytes] = {}  # nonce and ciphertext


class Vault:
    """An encrypted file of secrets, opened by a passphrase once a run."""

    def __init__(self, path: Path, cost: Argon2Cost = Argon2Cost()) -> None:  # noqa: B008 (frozen)
        self.place = Text("the encrypted file {path}", {"path": str(path)})
        self._path = path
        self._cost = cost
        self._key: bytes | None = None
        self._turn = asyncio.Lock()  # one change of the file at a time

    @property
    def exists(self) -> bool:
        """Whether it was made."""
        return self._path.exists()

    @property
    def locked(self) -> bool:
        """Whether a passphrase is needed before anything else."""
        return self._key is None

    async def create(self, passphrase: Secret) -> None:
        """Make an empty vault and open it. Raises `UsageError` (`vault_exists`, `weak_passphrase`)."""
        if self.exists:
            raise UsageError(
                "vault_exists",
                Text("There is a vault already: {path}.", {"path": str(self._path)}),
                Text("Unlock it with its passphrase."),
            )
        async with self._turn:
            self._key = await asyncio.to_thread(self._write_new, passphrase, {})

    async def unlock(self, passphrase: Secret) -> None:
        """Open it until the program ends. Raises `Absent`, `Damaged`, or `Locked` (`wrong_passphrase`)."""
        header = (await asyncio.to_thread(self._read)).header
        key = await asyncio.to_thread(_derive, header, passphrase)
        if not _opens(header, key):
            raise Locked(
                "wrong_passphrase",
                Text("This passphrase does not open {path}.", {"path": str(self._path)}),
                Text("Try again; without the passphrase its secrets are lost and have to be entered anew."),
            )
        self._key = key

    def lock(self) -> None:
        """Close it."""
        self._key = None

    async def change_passphrase(self, old: Secret, new: Secret) -> None:
        """Encrypt everything anew under another passphrase. Raises as `unlock` and `create` do."""
        await self.unlock(old)
        async with self._turn:
            file, key = await asyncio.to_thread(self._open)
            secrets = {entry: _decrypt(key, entry, sealed) for entry, sealed in file.entries.items()}
            self._key = await asyncio.to_thread(self._write_new, new, secrets)

    async def get(self, tenant: str, name: str) -> Secret:
        """The secret. Raises `Absent`, `Locked`, `Damaged`."""
        entry = entry_name(tenant, name)
        file, key = await asyncio.to_thread(self._open)
        if entry not in file.entries:
            raise _absent(entry)
        return Secret(_decrypt(key, entry, file.entries[entry]))

    async def set(self, tenant: str, name: str, secret: Secret) -> None:
        """Keep a secret, in place of an older one. Raises `UsageError` (`secret_too_long`), `Locked`, `Damaged`."""
        entry = entry_name(tenant, name)
        _check_length(secret, _LONGEST)
        async with self._turn:
            file, key = await asyncio.to_thread(self._open)
            file.entries[entry] = _encrypt(key, entry, secret.reveal())
            await asyncio.to_thread(self._write, file)

    async def remove(self, tenant: str, name: str) -> None:
        """Forget a secret. Raises `Absent`, `Locked`, `Damaged`."""
        entry = entry_name(tenant, name)
        async with self._turn:
            file, _key = await asyncio.to_thread(self._open)
            if file.entries.pop(entry, None) is None:
                raise _absent(entry)
            await asyncio.to_thread(self._write, file)

    def _open(self) -> tuple[_File, bytes]:
        file = self._read()
        if self._key is None or not _opens(file.header, self._key):
            raise Locked(
                "vault_locked",
                Text("The vault {path} is locked.", {"path": str(self._path)}),
                Text("Unlock it with its passphrase."),
            )
        return file, self._key

    def _read(self) -> _File:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            raise Absent(
                "no_vault",
                Text("There is no vault at {path} yet.", {"path": str(self._path)}),
                Text(
                    "It keeps secrets where the system has no keyring. Give the passphrase it is to have by a file "
                    "descriptor: WATCHHAMSTER_VAULT_FD=3 watchhamster … 3< FILE."
                ),
            ) from None
        try:
            file = msgspec.json.decode(data, type=_File)
        except msgspec.DecodeError as error:
            raise self._damaged() from error
        cost = file.header.cost
        if file.header.format != 1 or len(file.header.salt) < 16:
            raise self._damaged()
        if not (8 <= cost.memory_kib <= 2**20 and 1 <= cost.iterations <= 32 and 1 <= cost.lanes <= 16):
            raise self._damaged()  # a header made to exhaust the machine
        return file

    def _damaged(self) -> Damaged:
        return Damaged(
            "vault_damaged",
            Text("{path} is not a vault that this version can read.", {"path": str(self._path)}),
            Text("Restore it from a backup, or move it away and enter the secrets anew."),
        )

    def _write_new(self, passphrase: Secret, secrets: dict[str, str]) -> bytes:
        if len(passphrase.reveal()) < 8:
            raise UsageError(
                "weak_passphrase",
                Text("A passphrase has at least 8 characters."),
                Text("A few unrelated words are easy to remember and hard to guess."),
            )
        header = _Header(1, self._cost, os.urandom(16))
        key = _derive(header, passphrase)
        nonce = os.urandom(12)
        header = msgspec.structs.replace(header, check=nonce + _cipher(key).encrypt(nonce, b"", _bound(header)))
        self._write(_File(header, {entry: _encrypt(key, entry, value) for entry, value in secrets.items()}))
        return key

    def _write(self, file: _File) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(msgspec.json.format(msgspec.json.encode(file), indent=1))
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, self._path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _derive(header: _Header, passphrase: Secret) -> bytes:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    cost = header.cost
    return Argon2id(
        salt=header.salt, length=32, iterations=cost.iterations, lanes=cost.lanes, memory_cost=cost.memory_kib
    ).derive(passphrase.reveal().encode())


if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _bound(header: _Header) -> bytes:
    """What the check authenticates: the header without it."""
    return b"watchhamster vault\0" + msgspec.json.encode(msgspec.structs.replace(header, check=b""))


def _opens(header: _Header, key: bytes) -> bool:
    from cryptography.exceptions import InvalidTag

    try:
        _cipher(key).decrypt(header.check[:12], header.check[12:], _bound(header))
    except (InvalidTag, ValueError):
        return False
    return True


def _encrypt(key: bytes, entry: str, value: str) -> bytes:
    nonce = os.urandom(12)
    return nonce + _cipher(key).encrypt(nonce, value.encode(), entry.encode())


def _decrypt(key: bytes, entry: str, sealed: bytes) -> str:
    from cryptography.exceptions import InvalidTag

    try:
        return _cipher(key).decrypt(sealed[:12], sealed[12:], entry.encode()).decode()
    except (InvalidTag, ValueError) as error:
        raise Damaged(
            "vault_damaged",
            Text("The entry {entry} of the vault was changed.", {"entry": entry}),
            Text("Enter this secret anew."),
        ) from error
