"""Users and their credentials."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from tagferry.db.columns import UtcDateTime
from tagferry.db.tables.base import Base


class DomainRow(Base):
    """An account that users belong to."""

    __tablename__ = "domains"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)


class UserRow(Base):
    """A user; the password is kept as an argon2 hash. A user who is not enabled cannot authenticate.

    `profile` is what clients store with the user; it has no effect here.
    """

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    domain_id: Mapped[str] = mapped_column(ForeignKey("domains.id"))
    name: Mapped[str] = mapped_column(String(64), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    is_admin: Mapped[bool]
    enabled: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    description: Mapped[str | None] = mapped_column(String(255))
    profile: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class AccessKeyRow(Base):
    """An access key; its secret is encrypted, since verifying an HMAC needs it back.

    A disabled key cannot authenticate. `last_used_at` may be a few minutes old.
    """

    __tablename__ = "access_keys"

    access_key: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    secret_encrypted: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(String(255))
    enabled: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class TokenRow(Base):
    """An IAM token or a session of the console, kept as its hash only.

    `method` lists the authentication methods, separated by commas; `console` is that of a session. `access_key` is the
    permanent access key it was issued for; it ends with that key. `parent` is the hash of the token it was issued for.
    `project` is the region whose project it is scoped to.
    """

    __tablename__ = "tokens"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    method: Mapped[str] = mapped_column(String(16), default="password", server_default="password")
    access_key: Mapped[str | None] = mapped_column(String(64))
    parent: Mapped[str | None] = mapped_column(String(64), index=True)
    project: Mapped[str | None] = mapped_column(String(64))
    is_scoped: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    issued_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class UsedSignatureRow(Base):
    """The signature of a write request, kept until its date expires."""

    __tablename__ = "used_signatures"

    signature: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
