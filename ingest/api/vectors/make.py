"""Watermark tokens (ETSI TS 104 002, indirect and direct mode) as JWT and CWT, written by hand beside the ones that `relevectl` makes.

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

LOW, HIGH = 0x361962E9BF338ECB, 0xC9E69D1640CC7135


def pattern(code, bias, viewer):
    """Bit p is 1 where the viewer has B at slice 256 + p of the GOP that stands for edges; watermark/src/codeword.rs."""
    account = hashlib.sha256(b"releve viewer 1\0" + len(viewer).to_bytes(8, "big") + viewer).digest()[:8]
    gop, out = b"releve edge 1\0\0\0", bytearray(256)
    mac = lambda key, *parts: hmac.new(key, b"".join(parts), hashlib.sha256).digest()
    for bit in range(8 * len(out)):
        slice_ = 256 + bit
        draws = mac(code, b"releve symbol 1\0", account, gop, (slice_ // 4).to_bytes(2, "big"))
        choice = mac(bias, b"releve bias 1\0", gop, (slice_ // 32).to_bytes(2, "big"))[slice_ % 32] >> 6
        draw = int.from_bytes(draws[8 * (slice_ % 4):][:8], "big")
        if draw >= [1 << 63, 1 << 63, LOW, HIGH][choice]:
            out[bit // 8] |= 0x80 >> bit % 8
    return bytes(out)


alice = pattern(bytes([4]) * 32, bytes([5]) * 32, b"alice")
direct_names = {"iat": FROM, "exp": UNTIL, "wmver": 1, "wmvnd": 7, "wmpatlen": 2048, "wmpattern": b64(alice)}
direct_labels = {4: UNTIL, 6: FROM, 300: 1, 301: 7, 302: 2048, 304: alice}


def es256(signed):
    """Another signature each time: 32 bytes of r and 32 of s."""
    both = utils.decode_dss_signature(curve.sign(signed, ec.ECDSA(hashes.SHA256())))
    return b"".join(part.to_bytes(32, "big") for part in both)


def jwt(algorithm, kid, sign, names=names):
    word = lambda value: b64(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
    signed = word({"typ": "JWT", "alg": algorithm, "kid": kid}) + "." + word(names)
    return signed + "." + b64(sign(signed.encode()))


def cwt(context, algorithm, tag, kid, sign, labels=labels):
    protected, payload = cbor({1: algorithm}), cbor(labels)
    signature = sign(cbor([context, protected, b"", payload]))
    return b64(head(6, 61) + head(6, tag) + cbor([protected, {4: kid.encode()}, payload, signature]))


def tokens(private, public, algorithm, context, number, tag, sign):
    kid = public["kid"]
    return {"private": private, "public": public, "jwt": jwt(algorithm, kid, sign),
            "cwt": cwt(context, number, tag, kid, sign), "direct_jwt": jwt(algorithm, kid, sign, direct_names),
            "direct_cwt": cwt(context, number, tag, kid, sign, direct_labels)}


keys = [
    tokens(oct_jwk, oct_jwk, "HS256", "MAC0", 5, 17, mac),
    tokens(dict(okp_jwk, d=b64(seed)), okp_jwk, "EdDSA", "Signature1", -8, 18, pair.sign),
    tokens(dict(ec_jwk, d=b64(bytes(range(64, 96)))), ec_jwk, "ES256", "Signature1", -7, 18, es256),
]
print(json.dumps({"keys": keys}, indent=1))
