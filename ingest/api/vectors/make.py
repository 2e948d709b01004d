"""Watermark tokens (ETSI TS 104 002, indirect mode) as JWT and CWT, written by hand beside the ones that `relevectl` makes.

Prints watermark-tokens.json: python3 make.py > watermark-tokens.json (Debian: python3-cryptography).
"""

import base64, hashlib, hmac, json
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

b64 = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
FROM, UNTIL = 1_700_000_000, 4_102_444_800


def head(kind, number):
    if number < 24:
        return bytes([kind << 5 | number])
    size = 1 if number < 1 << 8 else 2 if number < 1 << 16 else 4 if number < 1 << 32 else 8
    return bytes([kind << 5 | 23 + size.bit_length()]) + number.to_bytes(size, "big")


def cbor(value):
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value)) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    pairs = sorted((cbor(key), cbor(of)) for key, of in value.items())
    return head(5, len(pairs)) + b"".join(key + of for key, of in pairs)


secret, seed = bytes(range(32)), bytes(range(32, 64))
pair = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
x = b64(pair.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))
mac = lambda signed: hmac.new(secret, signed, hashlib.sha256).digest()
oct_jwk = {"kty": "oct", "kid": "shop-1", "k": b64(secret)}
curve = ec.derive_private_key(int.from_bytes(bytes(range(64, 96)), "big"), ec.SECP256R1())
point = curve.public_key().public_numbers()
ec_jwk = {"kty": "EC", "crv": "P-256", "kid": "shop-3", "x": b64(point.x.to_bytes(32, "big")),
          "y": b64(point.y.to_bytes(32, "big"))}
okp_jwk = {"kty": "OKP", "crv": "Ed25519", "kid": "shop-2", "x": x}

names = {"iat": FROM, "exp": UNTIL, "stream": "demo", "wmver": 1, "wmvnd": 7, "wmpatlen": 65535, "wmid": "alice",
         "wmopid": 3, "wmkeyver": 1}
labels = {4: UNTIL, 6: FROM, 300: 1, 301: 7, 302: 65535, 305: "alice", 306: 3, 307: 1, "stream": "demo"}


def es256(signed):
    """Another signature each time: 32 bytes of r and 32 of s."""
    both = utils.decode_dss_signature(curve.sign(signed, ec.ECDSA(hashes.SHA256())))
    return b"".join(part.to_bytes(32, "big") for part in both)


def jwt(algorithm, kid, sign):
    word = lambda value: b64(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
    signed = word({"typ": "JWT", "alg": algorithm, "kid": kid}) + "." + word(names)
    return signed + "." + b64(sign(signed.encode()))


def cwt(context, algorithm, tag, kid, sign):
    protected, payload = cbor({1: algorithm}), cbor(labels)
    signature = sign(cbor([context, protected, b"", payload]))
    return b64(head(6, 61) + head(6, tag) + cbor([protected, {4: kid.encode()}, payload, signature]))


keys = [
    {"private": oct_jwk, "public": oct_jwk, "jwt": jwt("HS256", "shop-1", mac), "cwt": cwt("MAC0", 5, 17, "shop-1", mac)},
    {"private": dict(okp_jwk, d=b64(seed)), "public": okp_jwk, "jwt": jwt("EdDSA", "shop-2", pair.sign),
     "cwt": cwt("Signature1", -8, 18, "shop-2", pair.sign)},
    {"private": dict(ec_jwk, d=b64(bytes(range(64, 96)))), "public": ec_jwk, "jwt": jwt("ES256", "shop-3", es256),
     "cwt": cwt("Signature1", -7, 18, "shop-3", es256)},
]
print(json.dumps({"keys": keys}, indent=1))
