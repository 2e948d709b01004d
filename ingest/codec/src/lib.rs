//! Safe binding to openh264: decodes one lone IDR picture or a stream, codes one as row-aligned intra slices or a closed GOP.
//!
//! In: Annex B bytes or a `Picture`, and sizes that the caller has limited. Out: a `Picture` or Annex B bytes, or an
//! error. Touches memory only: no files, threads, sockets or environment. One of the two places of the project where
//! `unsafe` is allowed; it must run in the marker's sandboxed process, because the library behind it is C++ that reads
//! a publisher's bytes.
//!
//! openh264 is pinned by exact version: another one may give other bytes, and nodes must agree (rate control is off, one
//! thread, a fresh codec for each lone picture and each GOP, so the bytes depend on the input alone, whatever the CPU offers).
//!
//! With the feature `libav`, the system's libavcodec decodes lone pictures, and streams that openh264 does not decode (`libav`), and
//! x264 codes GOPs (`x264`). What H.264 decodes to is in its specification to the bit, and marks are coded by openh264 in every build:
//! they are the same in both.

mod decoder;
mod encoder;
mod gop;
mod intra;
#[cfg(feature = "libav")]
mod libav;
mod picture;
#[cfg(feature = "libav")]
mod x264;

#[cfg(all(feature = "cpu-mask", target_arch = "x86_64"))]
pub mod cpu_mask;

#[cfg(not(feature = "libav"))]
pub use decoder::Decoder;
#[cfg(feature = "libav")]
pub use decoder::Decoder as OpenH264Decoder;
pub use decoder::{DecodeError, StreamDecoder};
pub use encoder::{EncodeError, QP_MAX};
pub use gop::GopEncoder;
pub use intra::{Band, Entropy, IntraConfig, IntraEncoder, SLICES_MAX};
#[cfg(feature = "libav")]
pub use libav::{Decoder, Foreign, ForeignDecoder};
pub use picture::{Picture, PictureError, SIDE_MAX};
#[cfg(feature = "libav")]
pub use x264::X264GopEncoder;
