"""A real Kafka that lets in only whom it knows: by password over TLS, by token, and by certificate."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from headrace.app.local.kafka import LocalKafka
from headrace.app.local.process import free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

USER, PASSWORD = "app", "hunter2-and-more"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
_LOGIN = "org.apache.kafka.common.security"
_DAY = dt.timedelta(days=1)


class SecuredKafka(LocalKafka):
    """Kafka with three listeners: open for the tests themselves, SASL over TLS, and TLS with client certificates."""

    def __init__(self, folder: Path, users: Sequence[str] = (), *, more: Mapping[str, object] | None = None) -> None:
        """``users`` have the same password, by PLAIN. ``more`` properties of the broker."""
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder)
        self._users, self._more = (USER, *users), more or {}
        self.sasl_port, self.mtls_port = free_ports(2)
        self.ca, self.client_certificate, self.client_key = make_certificates(folder)

    @property
    def sasl(self) -> str:
        return f"127.0.0.1:{self.sasl_port}"

    @property
    def mtls(self) -> str:
        return f"127.0.0.1:{self.mtls_port}"

    def by_password(
        self, mechanism: str = "SCRAM-SHA-512", password: str = PASSWORD, user: str = USER
    ) -> dict[str, str]:
        """The properties of a client that is let in by password."""
        return {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.ca),
            "sasl.mechanism": mechanism,
            "sasl.username": user,
            "sasl.password": password,
        }

    def by_certificate(self) -> dict[str, str]:
        """The properties of a client that is let in by its certificate."""
        return {
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.ca),
            "ssl.certificate.location": str(self.client_certificate),
            "ssl.key.location": str(self.client_key),
        }

    def start(self) -> None:
        """Start it, and make the user of the SCRAM mechanisms."""
        self.launch()
        self.await_ready(180)
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            own = ScramCredentialInfo(mechanism, 4_096)
            changes: list[Any] = [UserScramCredentialUpsertion(USER, own, PASSWORD.encode())]
            for future in admin.alter_user_scram_credentials(changes).values():
                future.result(30)

    def _properties(self) -> dict[str, object]:
        inner = f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}"
        outer = f"SECURED://{self.sasl},MUTUAL://{self.mtls}"
        tls = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": "server.pem",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": "ca.pem",
        }
        secured = "listener.name.secured."
        passwords = " ".join(f'user_{user}="{PASSWORD}"' for user in self._users)
        return {
            **super()._properties(),
            "listeners": f"{inner},{outer}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port},{outer}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL,MUTUAL:SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            **tls,
            "listener.name.mutual.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": ",".join(MECHANISMS),
            f"{secured}plain.sasl.jaas.config": f"{_LOGIN}.plain.PlainLoginModule required {passwords};",
            f"{secured}scram-sha-256.sasl.jaas.config": f"{_LOGIN}.scram.ScramLoginModule required;",
            f"{secured}scram-sha-512.sasl.jaas.config": f"{_LOGIN}.scram.ScramLoginModule required;",
            f"{secured}oauthbearer.sasl.jaas.config": (
                f'{_LOGIN}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
            ),
            **self._more,
        }


def token(config: str) -> tuple[str, float]:
    """A token that the broker takes without a signature: what a function of the user returns."""
    del config
    now = time.time()
    claims = {"sub": USER, "iat": now, "exp": now + 3_600}
    parts = [{"alg": "none"}, claims]
    text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return f"{text}.", now + 3_600


def make_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Write an authority, the server's and a client's certificates. Return those that a client needs."""
    authority, own_name = ec.generate_private_key(ec.SECP256R1()), _name("authority")
    root = _certificate(own_name, authority.public_key(), own_name, authority, is_authority=True)
    (folder / "ca.pem").write_bytes(_pem(root))
    for who in ("server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        signed = _certificate(_name(who), key.public_key(), own_name, authority)
        (folder / f"{who}.key").write_bytes(_private(key))
        (folder / f"{who}.crt").write_bytes(_pem(signed))
        (folder / f"{who}.pem").write_bytes(_private(key) + _pem(signed) + _pem(root))
    return folder / "ca.pem", folder / "client.crt", folder / "client.key"


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _certificate(subject: x509.Name, key: Any, issuer: x509.Name, signer: Any, *, is_authority: bool = False) -> Any:
    now = dt.datetime.now(dt.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(here, critical=False)
        .sign(signer, hashes.SHA256())
    )


def _pem(certificate: Any) -> bytes:
    found: bytes = certificate.public_bytes(serialization.Encoding.PEM)
    return found


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
