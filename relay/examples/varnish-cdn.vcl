# Varnish as a CDN's edge before Relève's relays; relay/docs/cdn.md says what it is for.
# To change: the address, KEY (the 64 hex digits of a key in cdn.key).
vcl 4.1;

backend relay {
    .host = "127.0.0.1";
    .port = "8080";
    # The relay itself waits up to 8 s for a segment.
    .first_byte_timeout = 15s;
}

sub vcl_recv {
    # Nothing but segments: playlists are for each viewer, at the relays.
    if (req.url !~ "^/cdn/") {
        return (synth(404));
    }
    # A page of another site asks whether it may send its fields.
    if (req.method == "OPTIONS") {
        return (pass);
    }
    if (req.method != "GET" && req.method != "HEAD") {
        return (synth(405));
    }
    # What players append (CMCD) neither is part of the key nor goes on; nor do cookies and credentials of theirs.
    set req.url = regsub(req.url, "\?.*$", "");
    unset req.http.Cookie;
    unset req.http.Authorization;
    return (hash);
}

sub vcl_hash {
    hash_data(req.url);
    return (lookup);
}

sub vcl_backend_fetch {
    set bereq.http.Authorization = "Bearer KEY";
}

sub vcl_backend_response {
    # How long is the relay's word, and what it refuses it says is not to be stored: Varnish's own rules see to both.
    # What is here is right, also while no relay answers.
    if (beresp.status == 200) {
        set beresp.grace = 1h;
    }
}
