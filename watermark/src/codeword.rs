//! Which variant a viewer gets at a position: the viewer's codeword.
//!
//! In: the code and bias keys, a watermark id, a position. Out: a `Symbol`. Pure, integers only.
//!
//! Every draw is HMAC-SHA256 over a domain label that ends in a zero byte, then fields of fixed width (numbers big
//! endian), so no two inputs share an encoding. The id is a plain hash: it must stay when keys change, so that evidence of
//! many nights adds up, and it gives nothing away, since the symbols need the code key:
//!
//! ```text
//! symbol   HMAC(code key, "releve symbol 1\0" ‖ id u64 ‖ gop 16 ‖ block u16)   block = slice / 4:  4 draws of 64 bits
//! bias     HMAC(bias key, "releve bias 1\0" ‖ gop 16 ‖ block u16)              block = slice / 32: 32 draws of 8 bits
//! id       SHA-256("releve viewer 1\0" ‖ length u64 ‖ name)                    first 8 bytes
//! ```
//!
//! A viewer gets A where the draw of 64 bits is below the position's bias. One GOP of 8 slices costs two symbol MACs
//! (two SHA-256 blocks each, the key's are precomputed) and one bias MAC, which is the same for all viewers:
//! `Codebook::symbols` asks for no more.

use crate::key::Key;
use crate::position::{GopId, PATTERN_BITS, Position};
use ring::{digest, hmac};

/// P(A) = ½, as a fraction of 2⁶⁴.
pub const BIAS_HALF: u64 = 1 << 63;

/// The lower of the two Nuida values for c = 4, (1 − 1/√3) / 2 = 0.211324…, as a fraction of 2⁶⁴, rounded down.
pub const BIAS_LOW: u64 = 0x3619_62e9_bf33_8ecb;

/// The upper one, 1 − 0.211324… = 0.788675…, as a fraction of 2⁶⁴.
pub const BIAS_HIGH: u64 = 0xc9e6_9d16_40cc_7135;

/// Slices that one symbol MAC is enough for.
const SLICES_A_SYMBOL_MAC: u16 = 4;
/// The same, as a length: a block is what one MAC gives.
pub const SLICES_A_BLOCK: usize = SLICES_A_SYMBOL_MAC as usize;
/// Slices that one bias MAC is enough for.
const SLICES_A_BIAS_MAC: u16 = 32;

/// One of the two variants of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symbol {
    /// Pattern added.
    A,
    /// Pattern subtracted.
    B,
}

/// The number a viewer's codeword is drawn by; the same for every session of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatermarkId(pub u64);

impl WatermarkId {
    /// The id of an account, by its name in the operator's own register.
    pub fn of_viewer(viewer: &str) -> WatermarkId {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"releve viewer 1\0");
        hash.update(&(viewer.len() as u64).to_be_bytes());
        hash.update(viewer.as_bytes());
        WatermarkId(word(hash.finish().as_ref(), 0))
    }
}

/// Every viewer's codeword, under one code key and one bias key.
#[derive(Clone)]
pub struct Codebook {
    code: hmac::Key,
    bias: hmac::Key,
    code_key: u32,
}

impl Codebook {
    /// The codebook of these keys. Reuse it: setting it up costs four SHA-256 blocks.
    pub fn new(code: &Key, bias: &Key) -> Codebook {
        Codebook { code: hmac_key(code), bias: hmac_key(bias), code_key: code.version }
    }

    /// Version of the code key.
    pub fn code_key(&self) -> u32 {
        self.code_key
    }

    /// Which variant this viewer gets there.
    pub fn symbol(&self, id: WatermarkId, position: Position) -> Symbol {
        let draws = self.draws(id, position.gop, position.slice / SLICES_A_SYMBOL_MAC);
        let draw = word(&draws, usize::from(position.slice % SLICES_A_SYMBOL_MAC));
        drawn(draw, self.bias(position))
    }

    /// What an edge needs to choose whole segments for a viewer: bit p is 1 where `Position::chosen(p)` is B. Bit 0 is the
    /// highest of the first byte (ETSI TS 104 002 V1.1.1 §5.4).
    pub fn pattern(&self, id: WatermarkId) -> Vec<u8> {
        let bit = |segment| u8::from(self.symbol(id, Position::chosen(segment)) == Symbol::B);
        let byte = |first: u64| (first..first + 8).fold(0, |byte, segment| byte << 1 | bit(segment));
        (0..u64::from(PATTERN_BITS)).step_by(8).map(byte).collect()
    }

    /// The symbols of slices 0 to `slices` − 1 of a GOP, in order. Allocates nothing; the MACs are made as it advances.
    pub fn symbols(&self, id: WatermarkId, gop: GopId, slices: u16) -> impl Iterator<Item = Symbol> {
        let (mut draws, mut choices) = ([0; 32], [0; 32]);
        (0..slices).map(move |slice| {
            if slice % SLICES_A_SYMBOL_MAC == 0 {
                draws = self.draws(id, gop, slice / SLICES_A_SYMBOL_MAC);
            }
            if slice % SLICES_A_BIAS_MAC == 0 {
                choices = self.choices(gop, slice / SLICES_A_BIAS_MAC);
            }
            let draw = word(&draws, usize::from(slice % SLICES_A_SYMBOL_MAC));
            drawn(draw, bias_of(choices[usize::from(slice % SLICES_A_BIAS_MAC)]))
        })
    }

    /// The probability of A at a position, as a fraction of 2⁶⁴: half of all positions ½, a quarter each of the two
    /// Nuida values. Strangers to the bias key cannot tell which.
    pub fn bias(&self, position: Position) -> u64 {
        let choices = self.choices(position.gop, position.slice / SLICES_A_BIAS_MAC);
        bias_of(choices[usize::from(position.slice % SLICES_A_BIAS_MAC)])
    }

    /// Which slices of a block a viewer has A in: bit s for slice `SLICES_A_BLOCK · block + s`. `biases` are the block's, from
    /// `block_biases`: they are everybody's, and asked for once.
    pub fn block(&self, id: WatermarkId, gop: GopId, block: u16, biases: &[u64; SLICES_A_BLOCK]) -> u8 {
        let draws = self.draws(id, gop, block);
        let bit = |(slice, &bias): (usize, &u64)| u8::from(word(&draws, slice) < bias) << slice;
        biases.iter().enumerate().map(bit).sum()
    }

    /// The biases of a block's slices.
    pub fn block_biases(&self, gop: GopId, block: u16) -> [u64; SLICES_A_BLOCK] {
        let first = block.saturating_mul(SLICES_A_SYMBOL_MAC);
        std::array::from_fn(|slice| self.bias(Position { gop, slice: first.saturating_add(slice as u16) }))
    }

    fn draws(&self, id: WatermarkId, gop: GopId, block: u16) -> [u8; 32] {
        let mut message = [0; 42];
        message[..16].copy_from_slice(b"releve symbol 1\0");
        message[16..24].copy_from_slice(&id.0.to_be_bytes());
        message[24..40].copy_from_slice(&gop.0);
        message[40..].copy_from_slice(&block.to_be_bytes());
        mac(&self.code, &message)
    }

    fn choices(&self, gop: GopId, block: u16) -> [u8; 32] {
        let mut message = [0; 32];
        message[..14].copy_from_slice(b"releve bias 1\0");
        message[14..30].copy_from_slice(&gop.0);
        message[30..].copy_from_slice(&block.to_be_bytes());
        mac(&self.bias, &message)
    }
}

impl std::fmt::Debug for Codebook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Codebook({}, ***)", self.code_key)
    }
}

fn drawn(draw: u64, bias: u64) -> Symbol {
    if draw < bias { Symbol::A } else { Symbol::B }
}

/// The two top bits of a draw choose: `0x` ½, `10` low, `11` high.
fn bias_of(choice: u8) -> u64 {
    match choice >> 6 {
        0 | 1 => BIAS_HALF,
        2 => BIAS_LOW,
        _ => BIAS_HIGH,
    }
}

fn hmac_key(key: &Key) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.secret())
}

fn mac(key: &hmac::Key, message: &[u8]) -> [u8; 32] {
    let mut tag = [0; 32];
    tag.copy_from_slice(hmac::sign(key, message).as_ref());
    tag
}

/// The `index`th big-endian word of a MAC.
fn word(tag: &[u8], index: usize) -> u64 {
    tag[8 * index..8 * index + 8].iter().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn book(code: u8, bias: u8) -> Codebook {
        Codebook::new(&Key::new(1, [code; 32]), &Key::new(1, [bias; 32]))
    }

    fn gop(number: u64) -> GopId {
        GopId::derive("demo", b"run-0001", number as i64 * 180_000)
    }

    fn bits(book: &Codebook, id: u64, gops: u64) -> Vec<Symbol> {
        (0..gops).flat_map(|n| book.symbols(WatermarkId(id), gop(n), 8).collect::<Vec<_>>()).collect()
    }

    /// Computed with Python's `hmac` module from the layouts in the module's first lines.
    #[test]
    fn known_answers() {
        assert_eq!(WatermarkId::of_viewer("alice"), WatermarkId(KNOWN_ID));
        let book = book(0x11, 0x22);
        let gop = GopId([7; 16]);
        let symbols: String = book
            .symbols(WatermarkId(0x0123_4567_89ab_cdef), gop, 35)
            .map(|symbol| if symbol == Symbol::A { 'A' } else { 'B' })
            .collect();
        assert_eq!(symbols, KNOWN_SYMBOLS);
        let biases: String = (0..35)
            .map(|slice| match book.bias(Position { gop, slice }) {
                BIAS_HALF => 'h',
                BIAS_LOW => 'l',
                BIAS_HIGH => 'u',
                other => panic!("{other:x} is no bias"),
            })
            .collect();
        assert_eq!(biases, KNOWN_BIASES);
    }

    /// Computed with Python's `hmac` module from the layouts in the first lines of this module and of `position`.
    #[test]
    fn known_pattern() {
        let pattern = book(0x11, 0x22).pattern(WatermarkId(0x0123_4567_89ab_cdef));
        assert_eq!((pattern.len(), hex::encode(&pattern[..16])), (256, KNOWN_PATTERN.0.to_owned()));
        assert_eq!(hex::encode(&pattern[240..]), KNOWN_PATTERN.1);
        let b: u32 = pattern.iter().map(|byte| byte.count_ones()).sum();
        assert!((900..1_148).contains(&b), "{b} of 2,048 are B");
    }

    #[test]
    fn the_two_nuida_values_mirror_each_other() {
        assert_eq!(BIAS_LOW.wrapping_add(BIAS_HIGH), 0);
        let low = BIAS_LOW as f64 / 2f64.powi(64);
        assert!((low - (1.0 - 1.0 / 3f64.sqrt()) / 2.0).abs() < 1e-15, "{low}");
    }

    /// 40,000 positions: each share within 5 standard deviations.
    #[test]
    fn biases_come_in_the_promised_shares_and_symbols_follow_them() {
        let book = book(1, 2);
        let mut of = std::collections::BTreeMap::<u64, (f64, f64)>::new();
        for number in 0..5_000 {
            let gop = gop(number);
            for (slice, symbol) in (0..).zip(book.symbols(WatermarkId(42), gop, 8)) {
                let (count, a) = of.entry(book.bias(Position { gop, slice })).or_default();
                *count += 1.0;
                *a += f64::from(u8::from(symbol == Symbol::A));
            }
        }
        let near = |count: f64, n: f64, p: f64| (count - n * p).abs() < 5.0 * (n * p * (1.0 - p)).sqrt();
        for (bias, share) in [(BIAS_HALF, 0.5), (BIAS_LOW, 0.25), (BIAS_HIGH, 0.25)] {
            let (count, a) = of[&bias];
            assert!(near(count, 40_000.0, share), "{bias:x} came {count} times");
            let p = bias as f64 / 2f64.powi(64);
            assert!(near(a, count, p), "{bias:x}: {a} times A of {count}");
        }
        assert_eq!(of.len(), 3);
    }

    /// Two codewords agree with probability ½·½ + ½·(p² + (1−p)²) = 0.5833 a position, whoever they belong to, and
    /// codewords under two code keys agree as those of two viewers do.
    #[test]
    fn viewers_and_keys_are_independent() {
        let agree = |x: &[Symbol], y: &[Symbol]| x.iter().zip(y).filter(|(x, y)| x == y).count() as f64;
        let one = bits(&book(1, 2), 42, 2_000);
        let n = one.len() as f64;
        let near = |count: f64, p: f64| (count - n * p).abs() < 5.0 * (n * p * (1.0 - p)).sqrt();
        let together = 0.25 + 0.5 * (0.5 + 2.0 / 12.0);
        assert!(near(agree(&one, &bits(&book(1, 2), 43, 2_000)), together));
        assert!(near(agree(&one, &bits(&book(9, 2), 42, 2_000)), together));
        assert_eq!(one, bits(&book(1, 2), 42, 2_000));
        let other_bias = agree(&one, &bits(&book(1, 9), 42, 2_000)) / n;
        assert!(other_bias < 0.95, "the bias key changes symbols: {other_bias}");
    }

    #[test]
    fn a_letter_changes_the_id_and_no_key_is_shown() {
        let (one, two) = (Key::new(1, [1; 32]), Key::new(2, [2; 32]));
        assert_ne!(WatermarkId::of_viewer("alice"), WatermarkId::of_viewer("alicf"));
        assert!(!format!("{:?}", Codebook::new(&one, &two)).contains("01"));
    }

    proptest! {
        #[test]
        fn a_gop_at_once_and_one_by_one_are_the_same(id: u64, gop: [u8; 16], slices in 0u16..80) {
            let (book, gop) = (book(3, 4), GopId(gop));
            let at_once: Vec<_> = book.symbols(WatermarkId(id), gop, slices).collect();
            let singly: Vec<_> = (0..slices).map(|slice| book.symbol(WatermarkId(id), Position { gop, slice })).collect();
            prop_assert_eq!(&at_once, &singly);
            for (block, symbols) in (0..).zip(singly.chunks(SLICES_A_BLOCK)) {
                let bits = book.block(WatermarkId(id), gop, block, &book.block_biases(gop, block));
                for (slice, symbol) in symbols.iter().enumerate() {
                    prop_assert_eq!(bits >> slice & 1 == 1, *symbol == Symbol::A);
                }
            }
        }
    }

    const KNOWN_PATTERN: (&str, &str) =
        ("ce202cb6b71e97f451b6690fd251ee81", "cc45717d3206f5ebde1af2637b875d1e");
    const KNOWN_ID: u64 = 0xc748_b560_111b_6a92;
    const KNOWN_SYMBOLS: &str = "BABBABBABBAAAABBABBBBABBAABAAABBABB";
    const KNOWN_BIASES: &str = "hhhhlhluhluhuhhhllhhhulluuluhhhlhlh";
}
