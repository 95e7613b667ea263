"""The detected capabilities of registries in the database, by address."""

import json

from sqlalchemy import bindparam, text
from sqlalchemy.exc import SQLAlchemyError

from tagferry.db.columns import UtcDateTime
from tagferry.db.engine import Database
from tagferry.db.tables import RegistryCapabilitiesRow
from tagferry.events import SparseEvents
from tagferry.remote.capabilities import Capabilities

_UPSERT = text(
    "INSERT INTO registry_capabilities (address, learned_at, document) VALUES (:address, :learned_at, :document) "
    "ON CONFLICT (address) DO UPDATE SET learned_at = excluded.learned_at, document = excluded.document"
).bindparams(bindparam("learned_at", type_=UtcDateTime))

log = SparseEvents(__name__)


class DatabaseCapabilities:
    """The `CapabilityStore` of the registry at this address, in the database."""

    def __init__(self, database: Database, address: str) -> None:
        self._database = database
        self._address = address

    async def load(self) -> Capabilities:
        """Implement `CapabilityStore.load`."""
        try:
            async with self._database.read() as session:
                row = await session.get(RegistryCapabilitiesRow, self._address)
            return Capabilities.from_json(json.loads(row.document)) if row is not None else Capabilities()
        except (SQLAlchemyError, ValueError, TypeError) as error:
            log.warning(
                "could not read the capabilities of a registry",
                key=self._address,
                registry=self._address,
                reason=str(error),
            )
            return Capabilities()

    async def save(self, capabilities: Capabilities) -> None:
        """Implement `CapabilityStore.save`."""
        row = {
            "address": self._address,
            "learned_at": capabilities.learned_at,
            "document": json.dumps(capabilities.to_json()),
        }
        try:
            async with self._database.write() as session:
                await session.execute(_UPSERT, row)
        except SQLAlchemyError as error:
            log.warning(
                "could not write the capabilities of a registry",
                key=self._address,
                registry=self._address,
                reason=str(error),
            )
