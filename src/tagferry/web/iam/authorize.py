"""Who may manage users and access keys: administrators everybody's, others their own."""

from tagferry.accounts.model import Caller
from tagferry.errors import Denied


def require_administrator(caller: Caller) -> None:
    """Let administrators pass, of whatever domain."""
    if not caller.is_admin:
        raise Denied(f"{caller.name} is no administrator, and only administrators manage users and groups")


def require_own(user_id: str, caller: Caller) -> None:
    """Let the user itself pass, and administrators."""
    if user_id != caller.user_id and not caller.is_admin:
        raise Denied(f"{caller.name} is no administrator, and may see and change only what is its own")


def require_permanent_key(caller: Caller) -> None:
    """Let pass whoever does not sign with a temporary access key, which would leave behind what outlives it."""
    if caller.credential.is_temporary_key:
        raise Denied("a temporary access key changes no users, groups or permanent keys; sign with a permanent one")
