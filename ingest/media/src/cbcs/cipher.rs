//! AES-128-CBC over a pattern of blocks (ISO/IEC 23001-7:2016 §9.6, §10.4).
//!
//! In: a key with its constant vector, bytes. Out: the same bytes, some blocks of them encrypted; a last one that is not
//! whole stays clear. Pure.

use super::SealError;
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use ingest_api::content_key::ContentKey;

const BLOCK: usize = 16;

/// Of so many blocks the first is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pattern(usize);

/// Video: 1 block encrypted, 9 skipped.
pub(super) const ONE_IN_TEN: Pattern = Pattern(10);
/// Audio: all of them.
pub(super) const FULL: Pattern = Pattern(1);

/// A key that is ready. Each call begins a chain of its own.
#[derive(Debug)]
pub(super) struct Cipher {
    key: EncryptingKey,
    iv: [u8; BLOCK],
}

impl Cipher {
    pub(super) fn new(key: &ContentKey) -> Option<Cipher> {
        let unbound = UnboundCipherKey::new(&AES_128, key.secret()).ok()?;
        Some(Cipher { key: EncryptingKey::cbc(unbound).ok()?, iv: *key.iv() })
    }

    /// Encrypts in place.
    pub(super) fn encrypt(&self, bytes: &mut [u8], Pattern(every): Pattern) -> Result<(), SealError> {
        let blocks = (bytes.len() / BLOCK).div_ceil(every);
        if blocks == 0 {
            return Ok(());
        }
        // The chain goes from encrypted block to encrypted block: put side by side, they are one run of CBC.
        let mut side_by_side = Vec::with_capacity(blocks * BLOCK);
        let starts = (0..blocks).map(|block| block * every * BLOCK);
        starts.clone().for_each(|at| side_by_side.extend_from_slice(&bytes[at..at + BLOCK]));
        let context = EncryptionContext::Iv128((&self.iv).into());
        self.key.less_safe_encrypt(&mut side_by_side, context).map_err(|_| SealError::Cipher)?;
        for (at, block) in starts.zip(side_by_side.chunks_exact(BLOCK)) {
            bytes[at..at + BLOCK].copy_from_slice(block);
        }
        Ok(())
    }
}
