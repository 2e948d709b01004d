//! CDN mode: whole segments as A and as B, each under a name that only relays can work out.
//!
//! ```text
//! https://cdn.example.org/cdn/STREAM/video/7-NAME.m4s       audio/7-NAME.m4s   ts/7-NAME.ts   video/init-HEX16-NAME.mp4
//! NAME    HMAC-SHA-256(code key, "releve cdn name 1\0" ‖ variant u8 ‖ kind u8 ‖ number u64 ‖ stream), its first 16 bytes, hex
//!         variant: 0 the only one, 1 A, 2 B; 4 more: encrypted     kind: 0 ts, 1 video, 2 to 9 audio; 0x80 more: an init section, number its HEX16
//! ```
//!
//! In: keys, what is named, playlists of all viewers, the CDN's URL. Out: names, what a name stands for, one viewer's playlist
//! and token, the URL's origin. Pure.
//!
//! A viewer's playlist names one variant of each marked segment, by one symbol of their codeword (`Position::whole`); all
//! who have the same symbol have the same name, so that a CDN keeps two files a segment at most. Whoever knows the one
//! name learns nothing about the other. The key is that of the code key in the segment's own record, so that a name stays
//! while keys change: players give up when the address of a number is another one.

pub mod lock;
pub mod names;
pub mod overflow;
pub mod pace;
pub mod playlist;
pub mod steering;
pub mod token;

pub use names::{Named, Names, Variant};
pub use playlist::{PREFIX, Place, listed};

/// Scheme, host and port of a CDN's base URL, if it is one that may stand in playlists and in a header.
pub fn origin(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let host = rest.split('/').next().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:[]".contains(&byte);
    (!host.is_empty() && rest.bytes().all(plain)).then(|| &url[..url.len() - rest.len() + host.len()])
}
