"""A service's identity in three files, read again when they change: certificates are renewed while we run."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from reliability.logging import get_logger

__all__ = ["Material", "Tls"]

_log = get_logger(__name__)

State = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Material:
    """What was in the files at one moment; certificate and key belong together."""

    ca: bytes
    certificate: bytes
    key: bytes

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For calling others."""
        return grpc.ssl_channel_credentials(self.ca, private_key=self.key, certificate_chain=self.certificate)

    def server_configuration(self) -> grpc.ServerCertificateConfiguration:
        """For being called."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)], self.ca)


class Tls:
    """Files of this service's identity: CA (or several, while one is replaced), certificate chain and key, all PEM."""

    def __init__(self, ca: Path, certificate: Path, key: Path) -> None:
        self.ca, self.certificate, self.key = ca, certificate, key
        self._seen: State | None = None
        self._material: Material | None = None

    @property
    def material(self) -> Material:
        """The files as they are now; while they do not fit together, as they last did.

        Whoever renews them writes one after the other, so between two writes they do not. Raises what reading
        raises when they never did.
        """
        try:
            state = self._state()
            if self._material is None or state != self._seen:
                self._material = self._read(state)
                self._seen = state
        except (OSError, ValueError) as error:
            if self._material is None:
                raise
            _log.warning("certificates_not_taken", error=str(error))
        return self._material

    def server_credentials(self) -> grpc.ServerCredentials:
        """For being called: a peer without a certificate of the CA is refused in the handshake.

        Asked at every handshake; connections that stand go on.
        """
        return grpc.dynamic_ssl_server_credentials(
            self.material.server_configuration(),
            self._renewal(),  # type: ignore[arg-type]  # None says "no change", as its documentation has it
            require_client_authentication=True,
        )

    def _renewal(self) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        served = self.material

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal served
            if (fresh := self.material) is served:
                return None
            served = fresh
            _log.info("certificate_renewed")
            return fresh.server_configuration()

        return fetch

    def _state(self) -> State:
        found = (path.stat() for path in (self.ca, self.certificate, self.key))
        return tuple((each.st_mtime_ns, each.st_ino) for each in found)

    def _read(self, state: State) -> Material:
        material = Material(self.ca.read_bytes(), self.certificate.read_bytes(), self.key.read_bytes())
        # Fails unless the key is the certificate's and the CA is one (an ssl.SSLError is an OSError).
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(self.certificate, self.key)
        ssl.create_default_context(cadata=material.ca.decode())
        if self._state() != state:
            raise ValueError("the files changed while they were read")
        return material
