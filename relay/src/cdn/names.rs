//! Names of whole segments, one a variant.
//!
//! In: code keys; a stream, what of it, a variant or a name. Out: the name, or the variant; how that file is encrypted. Pure.

use super::lock::{Lock, LockId};
use crate::route::Wanted;
use ingest_api::{StreamName, Track};
use releve_watermark::{KeyRing, Symbol};
use ring::hmac;

/// Bytes of a name: nobody finds one of 2¹²⁸ by asking.
pub const NAME_BYTES: usize = 16;

const LABEL: &[u8] = b"releve cdn name 1\0";
const KEY_LABEL: &[u8] = b"releve cdn key 1\0";

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

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Which file.
    pub variant: Variant,
    /// How it is encrypted, if it is.
    pub lock: Option<Lock>,
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
        let (_, key) = self.of(code_key)?;
        Some(made(key, stream, thing(wanted)?, variant, false).0)
    }

    /// The same of a file that is encrypted: another file, by another name; and how it is. Init sections never are.
    pub fn locked(
        &self,
        code_key: Option<u32>,
        stream: &StreamName,
        wanted: &Wanted,
        variant: Variant,
    ) -> Option<(Name, Lock)> {
        let ((version, key), thing) = (self.of(code_key)?, lockable(wanted)?);
        let (name, vector) = made(key, stream, thing, variant, true);
        Some((name, Lock { id: LockId::of(thing.0, *version, thing.1), vector }))
    }

    /// The key that files are encrypted by, under the same code key as their names; `None` where that is not live.
    pub fn secret(&self, stream: &StreamName, lock: LockId) -> Option<[u8; 16]> {
        let mut mac = hmac::Context::with_key(&self.of(Some(lock.version))?.1);
        mac.update(KEY_LABEL);
        mac.update(&lock.kid().0);
        mac.update(stream.as_str().as_bytes());
        Some(halves(mac.sign()).0)
    }

    fn of(&self, code_key: Option<u32>) -> Option<&(u32, hmac::Key)> {
        match code_key {
            Some(version) => self.keys.iter().find(|(live, _)| *live == version),
            None => self.keys.iter().min_by_key(|(version, _)| version),
        }
    }

    /// What a name stands for, if it is one; every live key is tried, and the time does not tell how much of it is right.
    pub fn named(&self, stream: &StreamName, wanted: &Wanted, name: &Name) -> Option<Named> {
        let thing = thing(wanted)?;
        let locks: &[bool] = if lockable(wanted).is_some() { &[false, true] } else { &[false] };
        let variants = [Variant::Only, Variant::Whole(Symbol::A), Variant::Whole(Symbol::B)];
        let mut found = None;
        for (version, key) in &self.keys {
            for (variant, &locked) in
                variants.iter().flat_map(|variant| locks.iter().map(|locked| (*variant, locked)))
            {
                let (made, vector) = made(key, stream, thing, variant, locked);
                let differs = made.iter().zip(name).fold(0, |all, (one, other)| all | (one ^ other));
                if std::hint::black_box(differs) == 0 {
                    let id = LockId::of(thing.0, *version, thing.1);
                    found = Some(Named { variant, lock: locked.then_some(Lock { id, vector }) });
                }
            }
        }
        found
    }
}

/// Kind and number of what has a name.
fn thing(wanted: &Wanted) -> Option<(u8, u64)> {
    let kind = |track: Track| 1 + track.index() as u8; // one of TRACKS_MAX
    match wanted {
        Wanted::TsSegment(number) => Some((0, *number)),
        Wanted::Segment(track, number) => Some((kind(*track), *number)),
        Wanted::Init(track, init) => {
            Some((0x80 | kind(*track), u64::from_str_radix(init.strip_prefix("init-")?, 16).ok()?))
        }
        _ => None,
    }
}

/// The same of what may be encrypted. Init sections never are: they hold no media.
fn lockable(wanted: &Wanted) -> Option<(u8, u64)> {
    matches!(wanted, Wanted::TsSegment(_) | Wanted::Segment(..)).then(|| thing(wanted))?
}

/// A file's name, and the vector that it is encrypted with where it is.
fn made(
    key: &hmac::Key,
    stream: &StreamName,
    (kind, number): (u8, u64),
    variant: Variant,
    locked: bool,
) -> (Name, [u8; 16]) {
    let variant = match variant {
        Variant::Only => 0,
        Variant::Whole(Symbol::A) => 1,
        Variant::Whole(Symbol::B) => 2,
    };
    let mut mac = hmac::Context::with_key(key);
    mac.update(LABEL);
    mac.update(&[variant | if locked { 4 } else { 0 }, kind]);
    mac.update(&number.to_be_bytes());
    mac.update(stream.as_str().as_bytes());
    halves(mac.sign())
}

fn halves(tag: hmac::Tag) -> ([u8; 16], [u8; 16]) {
    let (mut first, mut last) = ([0; 16], [0; 16]);
    first.copy_from_slice(&tag.as_ref()[..16]);
    last.copy_from_slice(&tag.as_ref()[16..]);
    (first, last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingest_api::track::TRACKS_MAX;
    use releve_watermark::Key;
    use std::collections::BTreeSet;

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
            Wanted::Segment(Track::AUDIO, 7),
            Wanted::Segment(Track::ALL[2], 7),
            Wanted::Segment(Track::ALL[8], 7),
            Wanted::TsSegment(7),
            init(Track::Video),
            init(Track::AUDIO),
            init(Track::ALL[8]),
        ];
        for wanted in &things {
            for (version, variant) in [Some(1), Some(2), None].into_iter().flat_map(|v| ALL.map(|x| (v, x))) {
                let locked = names.locked(version, &demo, wanted, variant);
                assert_eq!(locked.is_some(), !matches!(wanted, Wanted::Init(..)));
                let found = locked.and_then(|(name, _)| names.named(&demo, wanted, &name));
                assert_eq!(found, locked.map(|(_, lock)| Named { variant, lock: Some(lock) }));
                let name = names.name(version, &demo, wanted, variant).unwrap();
                assert_eq!(names.named(&demo, wanted, &name), Some(Named { variant, lock: None }));
                assert_eq!(names.named(&other, wanted, &name), None);
                for thing in things.iter().filter(|thing| *thing != wanted) {
                    assert_eq!(names.named(&demo, thing, &name), None, "{wanted:?} {thing:?}");
                }
                for at in 0..NAME_BYTES {
                    let mut changed = name;
                    changed[at] ^= 1;
                    assert_eq!(names.named(&demo, wanted, &changed), None);
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
        assert_eq!(gone.named(&demo, &wanted, &name), None);
        assert_eq!(old.name(None, &demo, &Wanted::Index, Variant::Only), None);
    }

    /// No two files are encrypted by the same key and vector, and a key is one stream's, one kind's, one period's.
    #[test]
    fn key_and_vector_together_stand_for_one_file() {
        let names = Names::new(&both());
        let (mut keys, mut locks, mut files) = (BTreeSet::new(), BTreeSet::new(), 0);
        for stream in ["demo", "demp"].map(|name| name.parse().unwrap()) {
            for number in [0, 298, 299, 300, 301] {
                let kinds = Track::ALL.map(|track| Wanted::Segment(track, number));
                for wanted in kinds.into_iter().chain([Wanted::TsSegment(number)]) {
                    for (version, variant) in [1, 2].into_iter().flat_map(|v| ALL.map(|x| (v, x))) {
                        let (_, lock) = names.locked(Some(version), &stream, &wanted, variant).unwrap();
                        let key = names.secret(&stream, lock.id).unwrap();
                        (_, _, files) = (keys.insert(key), locks.insert((key, lock.vector)), files + 1);
                    }
                }
            }
        }
        assert_eq!(
            (locks.len(), keys.len()),
            (files, 2 * (TRACKS_MAX + 1) * 2 * 2),
            "streams, kinds, versions, periods"
        );
    }

    /// Computed with Python's `hmac` module from the layouts in the first lines of the room and of `lock.rs`.
    #[test]
    fn known_answers() {
        let (names, demo) = (Names::new(&both()), "demo".parse().unwrap());
        let (wanted, variant) = (Wanted::Segment(Track::Video, 7), Variant::Whole(Symbol::B));
        let name = names.name(Some(1), &demo, &wanted, variant);
        assert_eq!(hex::encode(name.unwrap()), "538260c7e879c437fade2582a42fad95");
        let (name, lock) = names.locked(Some(1), &demo, &wanted, variant).unwrap();
        assert_eq!(hex::encode(name), "73cda576dafeb7368d1400a496249f68");
        assert_eq!(hex::encode(lock.vector), "4e6b91a3bd2d4356bc6ce7cba2b85945");
        let secret = names.secret(&demo, lock.id).unwrap();
        assert_eq!(hex::encode(secret), "b0a6881ab04e73d3c0ed170143346f36");
        let gone = Names::new(&KeyRing::of(Key::new(2, [2; 32])));
        assert_eq!(gone.secret(&demo, lock.id), None);
    }
}
