//! A stream that is made on two nodes: how it begins on the other one, and when its segments are listed.
//!
//! In: what the holder's stream began with, moments at which a standby joins, the pair's word on finished segments. Out: the
//! same state on both nodes; listed segments. Touches the state store and the blobs, as its parent does.

use super::{Context, Made, MadePart, Stream, Waiting, unix_ms};
use crate::io::pair::data::{Data, Lead, Listing, Moment, Twin, pass};
use crate::io::streams::Kick;
use ingest_api::window::{Part, Segment};
use ingest_api::{Object, Track};
use media::segment::Segmenter;
use mirror::PartDigest;
use mirror::compare::Chain;
use releve_state::coordinator::{Error as StateError, StreamRecord};
use std::time::{Duration, Instant};

/// Records told again at a takeover: more than a handover can leave behind.
const TOLD_MAX: usize = 8;
/// How long a standby waits for an IDR picture of a stream that is coded anew, after the first instant that was none. Instants come
/// with IDR pictures and, where there are none, every 10 s: so it is closed after 20 s without one. x264 sends one every 250
/// pictures when nobody says, after 10.4 s of 24 a second.
const UNSHARED_MAX: Duration = Duration::from_secs(8);

impl Stream {
    /// What a twin of this stream starts from, without its publisher's part.
    pub(super) async fn lead(&mut self, record: StreamRecord, twin: &Twin) -> Option<Lead> {
        if let Err(error) = self.raise().await {
            self.diverged(&format!("the stream's epoch is not raised: {error}"));
            return None;
        }
        let (run, segmenter) = (self.whole_run.clone()?, self.segmenter.as_ref()?.snapshot().into());
        let (epoch, seed) = (self.epoch, self.window.seed());
        let (peer, push) = (twin.peer, twin.push);
        let segments = self.made.iter().rev();
        let mut made = segments.filter_map(|made| match made {
            Waiting::Segment(made) => Some(made.record.clone()),
            Waiting::Part(_) => None,
        });
        let last = match made.next() {
            Some(made) => Some(made),
            None => self.context.state.last_segment(&self.context.stream).await.ok().flatten(),
        };
        Some(Lead { record, peer, push, run, epoch, segmenter, seed, last, live: None })
    }

    /// Goes on exactly where the holder of the stream stands. `false`: this node cannot, and says so.
    pub(super) async fn follow(&mut self, lead: &Lead) -> bool {
        let followed = self.try_follow(lead).await;
        match &followed {
            Ok(()) => self.lack(),
            Err(_) => self.lack_nothing(),
        }
        if let Some(pair) = &self.context.pair {
            pair.begun(&self.context.stream);
        }
        match followed {
            Ok(()) => {
                if let Some(pair) = &self.context.pair {
                    pair.makes(&self.context.stream, true);
                }
                true
            }
            Err(why) => {
                self.give_up(&format!("this node cannot follow the stream: {why}"));
                false
            }
        }
    }

    pub(super) async fn try_follow(&mut self, lead: &Lead) -> Result<(), String> {
        let Context { stream, state, .. } = &self.context;
        let text = |error: StateError| error.to_string();
        let mut epoch = state.epoch(stream).await.map_err(text)?;
        if epoch > lead.epoch {
            return Err(format!("its own state store is at epoch {epoch}, the holder at {}", lead.epoch));
        }
        while epoch < lead.epoch {
            epoch = state.advance_epoch(stream, epoch).await.map_err(text)?;
        }
        state.begin_run(&lead.run).await.map_err(text)?;
        let segmenter = Segmenter::restore(&lead.segmenter).map_err(|error| error.to_string())?;
        if let Some(last) = lead.last.as_ref().filter(|last| last.run == lead.run.id) {
            // What we made ourselves, and list when the holder's word comes, is recorded then.
            if self.made.back().is_none_or(|made| made.number() < last.number) {
                self.made.clear();
                state.adopt_segment(stream, last, unix_ms()).await.map_err(text)?;
            }
        }
        self.made.retain(|made| made.number() < segmenter.next_number());
        self.store_inits(lead.seed.inits()).await;
        let next = self.made.front().map_or(segmenter.next_number(), Waiting::number);
        self.set_aside();
        self.window.join(&lead.run, next, &lead.seed).map_err(|error| error.to_string())?;
        self.window.set_epoch(lead.epoch);
        (self.run, self.epoch, self.follows, self.leads) = (lead.run.id, lead.epoch, true, false);
        self.whole_run = Some(lead.run.clone());
        self.segmenter = Some(segmenter);
        Ok(())
    }

    /// A standby joins between two messages: everything here, and what the connection gave, is of one instant.
    pub(super) async fn moment(&mut self, moment: Moment) {
        let Some(twin) = self.live.as_ref().and_then(|live| live.twin.clone()) else { return };
        let Some(marking) = self.context.marking.save() else {
            twin.strand.lapses(&moment);
            return self.keeps_waiting();
        };
        self.waited_for = None;
        let lead = self.lead(moment.record.clone(), &twin).await;
        let (Some(mut lead), Some(live)) = (lead, &self.live) else { return twin.strand.lapses(&moment) };
        let feed = live.feed.snapshot().into();
        lead.live = moment.live(feed, marking);
        // The digests of the twin's first segment begin here, so must ours.
        self.chain = Some(Chain::default());
        twin.strand.joined(moment, lead);
    }

    /// A stream that is coded anew can be given behind an IDR picture of its publisher only. One that sends none leaves all
    /// publishers without a standby: it is closed, and begins anew on both nodes.
    fn keeps_waiting(&mut self) {
        // One that is only being watched is coded or passed by the next instant.
        let coded = self.context.marking.is_coded_anew();
        if !coded || self.waited_for.get_or_insert_with(Instant::now).elapsed() < UNSHARED_MAX {
            return;
        }
        self.waited_for = None;
        self.report(
            "unshared",
            "a standby cannot begin with a stream that is coded anew and sends no IDR picture",
        );
        self.kick(Kick::Unshared);
    }

    /// The publisher lives on elsewhere: nothing is ended here, what is open or unlisted is the other node's to list.
    pub(super) fn forget(&mut self) {
        self.live = None;
        self.segmenter = None;
        self.made.clear();
        self.window.set_live(false);
        self.publish();
    }

    /// Tells the other node what was made here. `false` where there is none.
    pub(super) fn tell(&mut self, record: &Segment, objects: &[(Track, Object)]) -> bool {
        let (Some(pair), Some(chain)) = (&self.context.pair, &mut self.chain) else { return false };
        let mut chain = std::mem::take(chain);
        pass::record(&mut chain, record);
        if let Some(twin) = self.live.as_ref().and_then(|live| live.twin.as_ref()) {
            twin.strand.made(record);
            for (track, object) in objects {
                twin.strand.keep(record.number, *track, object);
            }
        }
        pair.made(&self.context.stream, record, &chain.finish());
        self.told_records.push_back(record.clone());
        if self.told_records.len() > TOLD_MAX {
            self.told_records.pop_front();
        }
        true
    }

    /// More may be listed, or this node's role has changed.
    pub(super) async fn news(&mut self) {
        let holder = self.context.pair.as_ref().is_some_and(Data::is_holder);
        let ceded = self.context.pair.as_ref().map_or(0, Data::ceded);
        // A busy task may hear of it only when this node holds again.
        let was_standby = !holder || ceded != std::mem::replace(&mut self.ceded, ceded);
        if self.chain.is_some() && was_standby {
            (self.follows, self.leads) = (true, false);
        }
        // A former holder that did not finish these, or did not hear that we did, waits for our word now.
        if holder
            && !std::mem::replace(&mut self.leads, true)
            && let Some(twin) = self.live.as_ref().and_then(|live| live.twin.as_ref())
        {
            self.told_records.iter().for_each(|record| twin.strand.made(record));
        }
        let before = self.epoch;
        match self.raise().await {
            Ok(()) if self.epoch != before => self.publish(),
            Ok(()) => {}
            // It is tried again before anything is recorded.
            Err(error) => self.report("state-away", &format!("the stream's epoch is not raised: {error}")),
        }
        if let Err(error) = self.keep_count().await {
            self.report("state-away", &format!("what the holder has listed is not recorded: {error}"));
        }
        self.release().await;
        self.copy().await;
    }

    /// Tells the other node of a part that will be listed. `None` where there is none.
    pub(super) fn tell_part(
        &self,
        track: Track,
        (number, index): (u64, u32),
        part: &Part,
    ) -> Option<PartDigest> {
        let compared = self.chain.is_some() && self.window.lists_parts();
        let pair = self.context.pair.as_ref().filter(|_| compared)?;
        let (stream, run, sha256) = (self.context.stream.clone(), self.run, part.sha256);
        let digest = PartDigest { stream, run, number, index, track, sha256 };
        pair.made_part(&digest);
        Some(digest)
    }

    /// Lists what may be listed, in order.
    pub(super) async fn release(&mut self) {
        let mut new_part = false;
        while let Some(front) = self.made.front() {
            let number = front.number();
            if let Waiting::Part(part) = front {
                if self.context.pair.as_ref().is_none_or(|pair| pair.lists_part(&part.digest)) {
                    if let Some(Waiting::Part(made)) = self.made.pop_front() {
                        let MadePart { digest, part, object, of } = *made;
                        let place = (digest.number, digest.index);
                        new_part |= self.window.push_part(digest.track, place, part, object, &of);
                    }
                    continue;
                }
                // A hash that never came, of before the other node joined: the word on the segment is enough.
                if self.whole(number).is_none_or(|made| self.verdict(made) == Listing::Wait) {
                    break;
                }
                self.made.retain(|made| made.number() != number || matches!(made, Waiting::Segment(_)));
                continue;
            }
            let Some(listing) = self.whole(number).map(|made| self.verdict(made)) else { break };
            if listing == Listing::Wait {
                break;
            }
            let Some(Waiting::Segment(made)) = self.made.pop_front() else { break };
            new_part = false;
            match listing {
                Listing::Theirs(record) => self.leave_out(&record).await,
                _ => self.list(*made).await,
            }
        }
        if new_part {
            self.publish();
        }
    }

    /// The finished segment of this number that waits.
    fn whole(&self, number: u64) -> Option<&Made> {
        self.made.iter().find_map(|made| match made {
            Waiting::Segment(made) if made.record.number == number => Some(made.as_ref()),
            _ => None,
        })
    }

    fn verdict(&self, made: &Made) -> Listing {
        match &self.context.pair {
            Some(pair) if made.compared => pair.listing(&self.context.stream, &made.record),
            _ => Listing::Ours,
        }
    }

    /// The holder made another segment than this node, and the holder's is the one that counts: its number is used, its bytes
    /// are not here. What is listed goes, since a playlist cannot name a hole; the next equal segment begins it again.
    pub(super) async fn leave_out(&mut self, theirs: &Segment) {
        let adopted = self.context.state.adopt_segment(&self.context.stream, theirs, unix_ms());
        if let Err(error) = adopted.await {
            self.report("state-away", &format!("the holder's segment {}: {error}", theirs.number));
        }
        if let Some(run) = &self.whole_run {
            let seed = self.window.seed();
            // Its own inits decode.
            let _ = self.window.join(run, theirs.number.saturating_add(1), &seed);
            self.publish();
        }
    }

    /// The fencing term under which the next segment is recorded. Where this node holds now what it followed before, the one
    /// above all that were: whoever held it is fenced from here on. Where it follows, the holder's.
    pub(super) async fn raise(&mut self) -> Result<(), StateError> {
        let Some(pair) = self.context.pair.as_ref().filter(|_| self.follows) else { return Ok(()) };
        let (holds, theirs) = (pair.holds(), pair.epoch_of(&self.context.stream));
        let known = self.epoch.max(theirs);
        if !holds && known == self.epoch {
            return Ok(());
        }
        let Context { stream, state, .. } = &self.context;
        let mut epoch = state.epoch(stream).await?;
        if holds && epoch > known {
            return Err(StateError::Stale(epoch));
        }
        while epoch < known + u64::from(holds) {
            epoch = state.advance_epoch(stream, epoch).await?;
        }
        self.epoch = epoch;
        self.window.set_epoch(epoch);
        self.follows = !holds;
        if let Some(twin) = self.live.as_ref().and_then(|live| live.twin.as_ref()).filter(|_| holds) {
            twin.strand.raised(epoch);
        }
        Ok(())
    }

    /// As standby: this node makes nothing of the stream until its next publisher, and the holder does not wait for it. Should it
    /// hold before, the publisher begins anew.
    pub(super) fn give_up(&mut self, why: &str) {
        self.forget();
        self.diverged(why);
        if let Some(pair) = &self.context.pair {
            pair.makes(&self.context.stream, false);
        }
    }

    /// The numbers that the holder uses meanwhile are used here too.
    async fn keep_count(&mut self) -> Result<(), StateError> {
        let pair = self.context.pair.as_ref().filter(|_| self.follows && self.segmenter.is_none());
        let newest = pair.and_then(|pair| pair.newest_heard(&self.context.stream));
        let Some(newest) = newest.filter(|newest| Some(newest.number) > self.counted) else { return Ok(()) };
        self.context.state.adopt_segment(&self.context.stream, &newest, unix_ms()).await?;
        self.counted = Some(newest.number);
        Ok(())
    }

    /// The two nodes no longer make the same.
    pub(super) fn diverged(&mut self, why: &str) {
        let words = format!("stream {}: {why}", self.context.stream);
        self.report("diverged", &words);
        if let Some(pair) = &self.context.pair {
            pair.diverged(words);
        }
    }
}
