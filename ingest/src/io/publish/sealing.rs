//! Encryption of what a stream publishes, between its segmenter and its window (`media::cbcs` says how).
//!
//! In: a segmenter's outputs. Out: the same as they are published, and the clear pictures of a segment, for the archive. What
//! cannot be encrypted is not published. Touches the window and the blobs: each key period has init sections of its own.

use super::server_keys::{ServerKeys, Way};
use super::{Context, Stream};
use crate::metrics::OfStream;
use ingest_api::Run;
use ingest_api::content_key::{ContentKey, Encryption, OF_KEY_SERVER, SegmentKey};
use ingest_api::track::TRACKS_MAX;
use ingest_api::window::{Clear, Part, Segment, Sha256};
use ingest_api::{Object, Track};
use media::cbcs::Seal;
use media::segment::Output;
use releve_state::coordinator::{Encrypt, Error as StateError};
use tracing::warn;

/// All tracks in this key period and the one before.
const SEALS_MAX: usize = 2 * TRACKS_MAX;

/// An output as it is published.
pub(super) struct Sealed {
    pub(super) output: Output,
    /// Of a segment that was encrypted: the encodings of its picture before.
    pub(super) clear: Vec<(Track, Object)>,
}

/// What encrypts a track, and the clear init section it was made for.
pub(super) struct SealOf {
    clear_init: String,
    seal: Seal,
}

impl Context {
    /// How a run that begins now is encrypted.
    pub(super) fn encryption(&self, encrypt: Encrypt) -> Result<Option<Encryption>, StateError> {
        match (encrypt, &self.content) {
            (Encrypt::None, _) => Ok(None),
            (Encrypt::Cbcs, Some(keys)) => {
                let content_key = keys.current().version;
                Ok(Some(Encryption { content_key, key_segments: self.key_segments }))
            }
            (Encrypt::Drm, _) if self.key_server.is_none() => Err(StateError::Conflict(
                "the stream is to be encrypted for DRM systems and this node's configuration has no [drm]"
                    .to_owned(),
            )),
            (Encrypt::Drm, Some(_)) => {
                Ok(Some(Encryption { content_key: OF_KEY_SERVER, key_segments: self.key_segments }))
            }
            (Encrypt::Cbcs | Encrypt::Drm, None) => Err(StateError::Conflict(
                "the stream is to be encrypted and there is no keys/content.key; `relevectl init` makes one"
                    .to_owned(),
            )),
        }
    }
}

impl Stream {
    /// Asks for the first key of a run, where a key server gives them: nothing begins without.
    pub(super) async fn ask_key(&mut self, run: &Run, number: u64) -> Result<(), String> {
        self.server_keys = None;
        let Some(how) = run.encryption.filter(|how| how.content_key == OF_KEY_SERVER) else { return Ok(()) };
        let Context { key_server, content, stream, .. } = &self.context;
        let (Some(server), Some(roots)) = (key_server.clone(), content) else {
            return Err("the run is encrypted for DRM systems and this node has no [drm] or no content.key"
                .to_owned());
        };
        let (root, every) = (roots.current().clone(), how.key_segments);
        let way = Way { server, stream: stream.clone(), root, every };
        let keys = ServerKeys::begin(way, number).await.map_err(|error| error.to_string())?;
        self.server_keys = Some(keys);
        Ok(())
    }

    /// The key of this segment.
    fn key(&mut self, how: Encryption, number: u64) -> Result<ContentKey, String> {
        if how.content_key != OF_KEY_SERVER {
            let root = self.context.content.as_ref().and_then(|keys| keys.version(how.content_key));
            let root = root.ok_or_else(|| format!("there is no content key {} here", how.content_key))?;
            return Ok(ContentKey::of_segment(root, &self.context.stream, number, how.key_segments));
        }
        let keys = self.server_keys.as_mut().ok_or("there is no key of the key server here")?;
        let chosen = keys.of(number);
        self.window.add_signals(&chosen.given.signals);
        if chosen.new {
            let of = OfStream { stream: self.context.stream.to_string() };
            self.context.metrics.drm_key_late.get_or_create(&of).set(chosen.late as i64);
        }
        if chosen.new && chosen.late > 0 {
            self.report("drm-key-late", "the key server has not given the next key: the old one goes on");
        }
        Ok(chosen.given.key.clone())
    }

    /// An output as it is published.
    ///
    /// # Errors
    /// Says why it cannot be encrypted: then it must not be published at all.
    pub(super) async fn sealed(&mut self, output: Output) -> Result<Sealed, String> {
        let Some(how) = self.whole_run.as_ref().and_then(|run| run.encryption) else {
            return Ok(Sealed { output, clear: Vec::new() });
        };
        match output {
            Output::Part { track, number, index, start_90k, offset, part, object, of } => {
                let seal = self.seal(how, track, &of.init, number).await?;
                let (object, _) = seal.seal(&object).map_err(|error| error.to_string())?;
                let sha256 = Sha256::of_object(&object);
                let part = Part { len: object.len() as u64, sha256, ..part };
                let key = Some(SegmentKey { content_key: how.content_key, kid: seal.kid() });
                let of = media::segment::OfSegment { init: seal.name().to_owned(), key, ..of };
                let output = Output::Part { track, number, index, start_90k, offset, part, object, of };
                Ok(Sealed { output, clear: Vec::new() })
            }
            Output::Segment { mut record, objects: mut all } => {
                let clear = all.iter().filter(|(track, _)| !track.is_audio()).cloned().collect();
                for (track, object) in &mut all {
                    *object = self.track(how, &mut record, *track, object).await?;
                }
                Ok(Sealed { output: Output::Segment { record, objects: all }, clear })
            }
            // Clear init sections are kept for those that are made of them, and for the archive.
            output @ (Output::Init { .. } | Output::Report(_)) => Ok(Sealed { output, clear: Vec::new() }),
        }
    }

    /// One track of a segment, and its part of the record.
    async fn track(
        &mut self,
        how: Encryption,
        record: &mut Segment,
        track: Track,
        object: &Object,
    ) -> Result<Object, String> {
        let entry = record.tracks.iter_mut().find(|entry| entry.track == track);
        let entry = entry.ok_or("its record does not name a track")?;
        let seal = self.seal(how, track, &entry.init, record.number).await?;
        let (object, lens) = seal.seal(object).map_err(|error| error.to_string())?;
        let mut at = 0;
        for (part, len) in entry.parts.iter_mut().zip(lens) {
            let end = at + len as usize;
            let cut = object.part(at..end).ok_or("a part cuts a slice pair")?;
            (part.len, part.sha256, at) = (len, Sha256::of_object(&cut), end);
        }
        entry.clear = Some(Clear { init: entry.init.clone(), sha256: entry.sha256 });
        entry.init = seal.name().to_owned();
        (entry.len, entry.sha256) = (object.len() as u64, Sha256::of_object(&object));
        record.key = Some(SegmentKey { content_key: how.content_key, kid: seal.kid() });
        Ok(object)
    }

    /// What encrypts this track of this segment; the init section that goes with it is in the window.
    async fn seal(
        &mut self,
        how: Encryption,
        track: Track,
        clear_init: &str,
        number: u64,
    ) -> Result<&Seal, String> {
        let key = self.key(how, number)?;
        let known = |of: &SealOf| of.clear_init == clear_init && of.seal.kid() == key.kid;
        let at = match self.seals.iter().position(known) {
            Some(at) => at,
            None => {
                let (init, _) =
                    self.window.init_with_info(clear_init).ok_or("its init section is not here")?;
                let seal = Seal::new(track, &init.a, &key).map_err(|error| error.to_string())?;
                let object = Object::plain(seal.init().clone());
                let blob = format!("init/{}", seal.name());
                if let Err(error) = self.context.blobs.put(&blob, object.encode()).await {
                    warn!(stream = %self.context.stream, %error, "init section not stored; it is lost with a restart");
                }
                if self.seals.len() == SEALS_MAX {
                    self.seals.remove(0);
                }
                self.seals.push(SealOf { clear_init: clear_init.to_owned(), seal });
                self.seals.len() - 1
            }
        };
        // Again and again: it is kept for a segment that waits for the other node, too.
        let (_, info) = self.window.init_with_info(clear_init).ok_or("its init section is not here")?;
        let (seal, info) = (&self.seals[at].seal, info.clone());
        self.window.add_init(seal.name().to_owned(), Object::plain(seal.init().clone()), info);
        Ok(&self.seals[at].seal)
    }
}
