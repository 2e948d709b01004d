"""EdgeAuth tokens as Akamai's own library makes them, beside the ones that `relevectl` and relays make.

Prints edge-auth.json: python3 edge_auth.py > edge-auth.json (PyPI: akamai-edgeauth 0.3.2). Key: the bytes 0 to 31.
"""

import json
from akamai.edgeauth import EdgeAuth

UNTIL = 4_102_444_800
MARKS = "shop/eu:7?a=b&c+d,e;f@g*h'i%j\u00e9\u4e16\"<>#$[]^`{|}\\"

CASES = [
    {"acl": ["/cdn/demo/*"]},
    {"acl": ["/tv/cdn/demo/*", "/tv/cdn/other/?-*"]},
    {"acl": ["/cdn/demo/*"], "start_time": UNTIL - 3600},
    {"acl": ["/cdn/demo/*"], "session_id": "5e0c1f2a"},
    {"acl": ["/cdn/demo/*"], "payload": "x=1,y=2"},
    {"acl": ["/cdn/demo/*"], "salt": "a salt~of any text"},
    {"acl": ["/cdn/demo/*"], "session_id": MARKS, "payload": MARKS, "escape_early": True},
    {"url": "/cdn/demo/video/7-538260c7e879c437fade2582a42fad95.m4s"},
    {"url": "/cdn/demo/video/7-538260c7e879c437fade2582a42fad95.m4s", "escape_early": True},
    {"url": "/a/" + MARKS, "escape_early": True, "salt": "salt"},
    {"url": "/a/b.c", "start_time": UNTIL - 1, "session_id": "alice@example.org", "payload": "p", "salt": "s"},
]

made = []
for case in CASES:
    case = {"end_time": UNTIL, "escape_early": False, **case}
    said = {name: value for name, value in case.items() if name not in ("acl", "url")}
    maker = EdgeAuth(key=bytes(range(32)).hex(), **said)
    token = maker.generate_acl_token(case["acl"]) if "acl" in case else maker.generate_url_token(case["url"])
    made.append({**case, "token": token})
print("[\n" + ",\n".join(json.dumps(vector) for vector in made) + "\n]")
