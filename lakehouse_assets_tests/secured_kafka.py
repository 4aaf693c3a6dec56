"""A real broker that lets in only who speaks TLS, trusts its certificate, and has a name and a password."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.local.ports import HOST

USER, PASSWORD = "lakehouse", "never=to be-shown"
STRANGER = "stranger"  # has a password, the same, and no rights

_PEM = serialization.Encoding.PEM
_SCRAM_ITERATIONS = 4096


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: who trusts `certificate` trusts what it signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, name: str) -> "Authority":
        """One that nobody else has."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        certificate = _builder(subject, subject, key).add_extension(constraints, critical=True).sign(key, hashes.SHA256())
        return cls(certificate, key)

    def write_certificate(self, path: Path) -> Path:
        """As a PEM file, for clients."""
        path.write_bytes(self.certificate.public_bytes(_PEM))
        return path

    def write_key_store(self, path: Path) -> Path:
        """Key and certificate of a server at this machine's own address, as a PEM file."""
        key = ec.generate_private_key(ec.SECP256R1())
        address = x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))])
        certificate = (
            _builder(_name("broker"), self.certificate.subject, key).add_extension(address, critical=False).sign(self.key, hashes.SHA256())
        )
        private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.write_bytes(private + certificate.public_bytes(_PEM) + self.certificate.public_bytes(_PEM))
        return path


def broker_settings(port: int, key_store: Path) -> Mapping[str, str]:
    """A broker with two doors: a plain one at `port` for the test itself, and a secured one at `secured_servers(port)`."""
    plain, controller, secured = f"{HOST}:{port}", f"{HOST}:{port + 1}", secured_servers(port)
    door = "listener.name.secured"
    module = "org.apache.kafka.common.security"
    return {
        "listeners": f"PLAINTEXT://{plain},CONTROLLER://{controller},SECURED://{secured}",
        "advertised.listeners": f"PLAINTEXT://{plain},SECURED://{secured}",
        "controller.quorum.voters": f"1@{controller}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL",
        f"{door}.ssl.keystore.type": "PEM",
        f"{door}.ssl.keystore.location": str(key_store),
        f"{door}.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
        f"{door}.scram-sha-512.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
        f"{door}.plain.sasl.jaas.config": f'{module}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # whoever comes through the plain door
    }


def secured_servers(port: int) -> str:
    """Address of the secured door."""
    return f"{HOST}:{port + 2}"


def let_in(kafka: LocalKafka, *names: str) -> None:
    """Give these users the password and the right to read every topic, and nothing else."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    rights = [
        AclBinding(ResourceType.TOPIC, "*", ResourcePatternType.LITERAL, f"User:{name}", "*", operation, AclPermissionType.ALLOW)
        for name in names
        for operation in (AclOperation.READ, AclOperation.DESCRIBE)
    ]
    for future in admin.create_acls(rights).values():
        future.result()
    give_password(kafka, *names)


def give_password(kafka: LocalKafka, *names: str) -> None:
    """Let these users prove who they are; they may do nothing."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _SCRAM_ITERATIONS)
    passwords = [UserScramCredentialUpsertion(name, info, PASSWORD.encode()) for name in names]
    for future in admin.alter_user_scram_credentials(passwords).values():
        future.result()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
