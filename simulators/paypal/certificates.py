"""A certificate chain of the imitation's own: root, intermediate, and the leaf that signs events.

Made once for a directory and kept there, so that a receiver that trusts `root.pem` does so after a restart as well.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAME = "messageverificationcerts.sandbox.paypal.com"
ROOT_FILE, SIGNER_FILE = "root.pem", "signer.pem"
# Wide, so that a test's clock may stand anywhere in it.
VALID_FROM, VALID_UNTIL = datetime(2015, 1, 1, tzinfo=UTC), datetime(2049, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Chain:
    """The PEM texts, and the leaf's key. `document` is what a certificate URL answers with: leaf and intermediate."""

    root: bytes
    document: bytes
    key: rsa.RSAPrivateKey

    def sign(self, message: bytes) -> bytes:
        """SHA256withRSA."""
        return self.key.sign(message, padding.PKCS1v15(), SHA256())


def chain_in(directory: Path) -> Chain:
    """The directory's chain, made where it has none."""
    root, signer = directory / ROOT_FILE, directory / SIGNER_FILE
    if not signer.exists():
        made = made_chain()
        directory.mkdir(parents=True, exist_ok=True)
        root.write_bytes(made.root)
        kept = made.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        signer.touch(mode=0o600)
        signer.write_bytes(kept + made.document)
        return made
    kept = signer.read_bytes()
    key = serialization.load_pem_private_key(kept, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    document = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in x509.load_pem_x509_certificates(kept))
    return Chain(root.read_bytes(), document, key)


@functools.cache
def made_chain() -> Chain:
    """A chain of this process."""
    return make_chain()


def make_chain(name: str = NAME, valid_from: datetime = VALID_FROM, valid_until: datetime = VALID_UNTIL) -> Chain:
    """A chain whose leaf is made out to `name`, valid between the two times."""
    root_key, middle_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    leaf_key = _leaf_key()
    root_name, middle_name = _named("Imitated Root CA"), _named("Imitated Intermediate CA")
    root = _authority(root_name, root_key, root_name, root_key, None)
    middle = _authority(middle_name, middle_key, root_name, root_key, 0)
    leaf = (
        _builder(_named(name), middle_name, leaf_key.public_key(), valid_from, valid_until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(middle_key.public_key()), critical=False)
        .sign(middle_key, SHA256())
    )
    encoding = serialization.Encoding.PEM
    document = leaf.public_bytes(encoding) + middle.public_bytes(encoding)
    return Chain(root.public_bytes(encoding), document, leaf_key)


@functools.cache
def _leaf_key() -> rsa.RSAPrivateKey:
    """One for a process: making an RSA key takes long, and what tells chains apart is who vouches for it."""
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def _authority(
    name: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    path_length: int | None,
) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _builder(name, issuer, key.public_key(), VALID_FROM, VALID_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, SHA256())
    )


def _builder(
    name: x509.Name,
    issuer: x509.Name,
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    valid_from: datetime,
    valid_until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid_from)
        .not_valid_after(valid_until)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
