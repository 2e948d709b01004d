//! Names of whole segments, one a variant.
//!
//! In: code keys; a stream, what of it, a variant or a name. Out: the name, or the variant. Pure.

use crate::route::Wanted;
use ingest_api::{StreamName, Track};
use releve_watermark::{KeyRing, Symbol};
use ring::hmac;

/// Bytes of a name: nobody finds one of 2¹²⁸ by asking.
pub const NAME_BYTES: usize = 16;

const LABEL: &[u8] = b"releve cdn name 1\0";

/// A name, as it stands in an address in hex.
pub type Name = [u8; NAME_BYTES];

/// Which file of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The only one: nothing in it differs.
    Only,
    /// All slices A, or all B.
    Whole(Symbol),
}

/// The keys that names are made with, by the version of the code key.
#[derive(Clone, Debug)]
pub struct Names {
    keys: Vec<(u32, hmac::Key)>,
}

impl Names {
    /// Names under these code keys.
    pub fn new(code: &KeyRing) -> Names {
        let key =
            |key: &releve_watermark::Key| (key.version, hmac::Key::new(hmac::HMAC_SHA256, key.secret()));
        Names { keys: code.iter().map(key).collect() }
    }

    /// The name of an object, under the code key that its segment's record names; what has no marks is named under the
    /// lowest live version. `None` where that key is not live, or what is wanted has no name.
    pub fn name(
        &self,
        code_key: Option<u32>,
        stream: &StreamName,
        wanted: &Wanted,
        variant: Variant,
    ) -> Option<Name> {
        let key = match code_key {
            Some(version) => &self.keys.iter().find(|(live, _)| *live == version)?.1,
            None => &self.keys.iter().min_by_key(|(version, _)| version)?.1,
        };
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(&mac(key, stream, thing(wanted)?, variant).as_ref()[..NAME_BYTES]);
        Some(name)
    }

    /// What a name stands for, if it is one; every live key is tried, and the time does not tell how much of it is right.
    pub fn variant(&self, stream: &StreamName, wanted: &Wanted, name: &Name) -> Option<Variant> {
        let thing = thing(wanted)?;
        let mut found = None;
        for (_, key) in &self.keys {
            for variant in [Variant::Only, Variant::Whole(Symbol::A), Variant::Whole(Symbol::B)] {
                let mac = mac(key, stream, thing, variant);
                let differs = mac.as_ref().iter().zip(name).fold(0, |all, (one, other)| all | (one ^ other));
                if std::hint::black_box(differs) == 0 {
                    found = Some(variant);
                }
            }
        }
        found
    }
}

/// Kind and number of what has a name.
fn thing(wanted: &Wanted) -> Option<(u8, u64)> {
    let kind = |track: Track| match track {
        Track::Video => 1,
        Track::Audio => 2,
    };
    match wanted {
        Wanted::TsSegment(number) => Some((0, *number)),
        Wanted::Segment(track, number) => Some((kind(*track), *number)),
        Wanted::Init(track, init) => {
            Some((0x80 | kind(*track), u64::from_str_radix(init.strip_prefix("init-")?, 16).ok()?))
        }
        _ => None,
    }
}

fn mac(key: &hmac::Key, stream: &StreamName, (kind, number): (u8, u64), variant: Variant) -> hmac::Tag {
    let variant = match variant {
        Variant::Only => 0,
        Variant::Whole(Symbol::A) => 1,
        Variant::Whole(Symbol::B) => 2,
    };
    let mut mac = hmac::Context::with_key(key);
    mac.update(LABEL);
    mac.update(&[variant, kind]);
    mac.update(&number.to_be_bytes());
    mac.update(stream.as_str().as_bytes());
    mac.sign()
}

#[cfg(test)]
mod tests {
    use super::*;
    use releve_watermark::Key;

    const ALL: [Variant; 3] = [Variant::Only, Variant::Whole(Symbol::A), Variant::Whole(Symbol::B)];

    fn both() -> KeyRing {
        let (new, old) = (Key::new(2, [2; 32]), Key::new(1, [1; 32]));
        KeyRing::parse(&format!("{}{}", new.to_line(), old.to_line())).unwrap()
    }

    #[test]
    fn a_name_stands_for_one_thing_only() {
        let names = Names::new(&both());
        let (demo, other): (StreamName, StreamName) = ("demo".parse().unwrap(), "demp".parse().unwrap());
        let init = |track| Wanted::Init(track, "init-0000000000000007".into());
        let things = [
            Wanted::Segment(Track::Video, 7),
            Wanted::Segment(Track::Video, 8),
            Wanted::Segment(Track::Audio, 7),
            Wanted::TsSegment(7),
            init(Track::Video),
            init(Track::Audio),
        ];
        for wanted in &things {
            for (version, variant) in [Some(1), Some(2), None].into_iter().flat_map(|v| ALL.map(|x| (v, x))) {
                let name = names.name(version, &demo, wanted, variant).unwrap();
                assert_eq!(names.variant(&demo, wanted, &name), Some(variant));
                assert_eq!(names.variant(&other, wanted, &name), None);
                for thing in things.iter().filter(|thing| *thing != wanted) {
                    assert_eq!(names.variant(&demo, thing, &name), None, "{wanted:?} {thing:?}");
                }
                for at in 0..NAME_BYTES {
                    let mut changed = name;
                    changed[at] ^= 1;
                    assert_eq!(names.variant(&demo, wanted, &changed), None);
                }
            }
        }
    }

    #[test]
    fn names_stay_while_keys_change() {
        let demo = "demo".parse().unwrap();
        let wanted = Wanted::Segment(Track::Video, 7);
        let old = Names::new(&KeyRing::of(Key::new(1, [1; 32])));
        for version in [Some(1), None] {
            let name = |names: &Names| names.name(version, &demo, &wanted, ALL[1]);
            assert_eq!(name(&old), name(&Names::new(&both())));
        }
        assert_eq!(old.name(Some(2), &demo, &wanted, ALL[1]), None);
        let gone = Names::new(&KeyRing::of(Key::new(2, [2; 32])));
        let name = old.name(Some(1), &demo, &wanted, ALL[1]).unwrap();
        assert_eq!(gone.variant(&demo, &wanted, &name), None);
        assert_eq!(old.name(None, &demo, &Wanted::Index, Variant::Only), None);
    }

    /// Computed with Python's `hmac` module from the layout in the room's first lines.
    #[test]
    fn known_answer() {
        let name = Names::new(&both()).name(
            Some(1),
            &"demo".parse().unwrap(),
            &Wanted::Segment(Track::Video, 7),
            Variant::Whole(Symbol::B),
        );
        assert_eq!(hex::encode(name.unwrap()), KNOWN);
    }

    const KNOWN: &str = "538260c7e879c437fade2582a42fad95";
}
