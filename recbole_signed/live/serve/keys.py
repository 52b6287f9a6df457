"""API keys: who may read, write, administer. The file holds hashes, one key a line: ``ROLE SHA256 [comment]``."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from functools import lru_cache
from pathlib import Path

from recbole_signed.errors import UsageError, nearest
from recbole_signed.files import locked, open_like, refusing, replace_file

ROLES = ("read", "write", "admin")  # each may do what the ones before it may
MOST = 100_000  # callers of whom is known when they last asked, before those who may ask anything again are left out
_HASH = re.compile(r"[0-9a-fA-F]{64}")


def hashed(key: str) -> str:
    """Return the hash of a key as the file holds it; keys are random, so that no salt is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


@lru_cache(1024)
def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ApiKeys:
    """The keys of a service; without a file everybody may do everything, on the loopback interface."""

    def __init__(self, path: Path | None) -> None:
        self._roles: dict[str, int] = {}
        self.required = path is not None
        if path is None:
            return
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            makes = f"'recbole-signed api-key admin --keys {path}' makes it"
            how = makes if isinstance(error, FileNotFoundError) else "name a file that 'recbole-signed api-key' made"
            raise UsageError(f"can't read the API keys of {path}: {why}; {how}.") from error
        for number, line in enumerate(lines, 1):
            words = line.split(maxsplit=2)
            if not words or words[0].startswith("#"):
                continue
            if words[0] not in ROLES:
                raise UsageError(f"{path}:{number}: {_no_role(words[0])}")
            if len(words) < 2 or not _HASH.fullmatch(words[1]):
                raise UsageError(f"{path}:{number}: expected a role and the SHA-256 of a key, in hexadecimal digits.")
            self._roles[words[1].lower()] = ROLES.index(words[0])

    def allows(self, key: str | None, role: str) -> bool | None:
        """Return whether a key may do what needs a role; None where there is no such key."""
        if not self.required:
            return True
        if key is None:
            return None
        given, rank = hashed(key), None
        for known, known_rank in self._roles.items():  # all of them, so that the time says nothing
            if hmac.compare_digest(given, known):
                rank = known_rank
        return None if rank is None else rank >= ROLES.index(role)


def make_key(path: Path, role: str, comment: str = "") -> str:
    """Add a key's hash to a file and return the key; a new file is its owner's alone, an old one stays as readable."""
    if role not in ROLES:
        raise UsageError(_no_role(role))
    key = secrets.token_urlsafe(32)
    remedy = "name a file in a folder that can be written to"
    with refusing(f"writing the API keys {path}", remedy), locked(path.parent):
        before, there = "", path.stat() if path.exists() else None
        if there is not None:
            ApiKeys(path)  # refuses what is not a file of keys
            before = path.read_text(encoding="utf-8")
            before += "\n" if before and not before.endswith("\n") else ""
        replace_file(path, f"{before}{role} {hashed(key)} {' '.join(comment.split())}".rstrip().encode() + b"\n")
        open_like(path, there, 0o600)
    return key


def _no_role(name: str) -> str:
    return f"there is no role '{name}'{nearest(name, ROLES) or '; the roles are ' + ', '.join(ROLES) + '.'}"


class RateLimit:
    """Token buckets, one a caller, of a second's worth of requests; 0 ``per_second`` for no limit. For one thread."""

    def __init__(self, per_second: float) -> None:
        self._rate, self._full = per_second, max(per_second, 1.0)
        self._buckets: dict[str, tuple[float, float]] = {}
        self._most = MOST

    def wait(self, caller: str) -> float:
        """Take a token; return 0, or the seconds after which there is one."""
        if not self._rate:
            return 0.0
        now = time.monotonic()
        tokens, before = self._buckets.get(caller, (self._full, now))
        tokens = min(self._full, tokens + (now - before) * self._rate)
        if len(self._buckets) > self._most:
            silence = self._full / self._rate  # seconds after which a bucket is like a new one
            self._buckets = {key: bucket for key, bucket in self._buckets.items() if now - bucket[1] < silence}
            self._most = max(MOST, 2 * len(self._buckets))  # else each request would go through all of them
        enough = tokens >= 1
        self._buckets[caller] = (tokens - 1 if enough else tokens, now)
        return 0.0 if enough else (1 - tokens) / self._rate
