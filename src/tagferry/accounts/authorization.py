"""The permission to manage users and access keys: administrators manage all, others their own."""

from tagferry.accounts.model import Caller
from tagferry.errors import Denied


def require_administrator(caller: Caller) -> None:
    """Raise Denied unless the caller is an administrator, of any domain."""
    if not caller.is_admin:
        raise Denied(f'user "{caller.name}" is not an administrator; only administrators manage users and groups')


def require_own(user_id: str, caller: Caller) -> None:
    """Raise Denied unless the caller is the user itself or an administrator."""
    if user_id != caller.user_id and not caller.is_admin:
        raise Denied(f'user "{caller.name}" is not an administrator; other users manage only themselves')


def require_permanent_key(caller: Caller) -> None:
    """Raise Denied for a temporary access key, whose changes would outlive it."""
    if caller.credential.is_temporary_key:
        raise Denied("a temporary access key cannot change users, groups or access keys; use a permanent access key")
