//! Encodes a model as bytes, and back. A lost save costs nothing but requests, so a damaged one is
//! refused.

use std::fmt;

use super::{
    bins::BINS,
    clock::Clock,
    kind::JobKind,
    model::{Key, MAX_CLOCKS, Model},
    reliability::{Ends, Reliability},
};

/// The first bytes of a save: its type and the version of its form.
const MAGIC: &[u8; 8] = b"tidecrv2";
/// The first bytes of a save without the reliability of hooks.
const WITHOUT_HOOKS: &[u8; 8] = b"tidecrv1";
/// The number of steps in which the count of one job is kept.
const STEPS: f64 = 16.0;
/// The number of steps in which the weight of an end is kept.
const END_STEPS: f64 = 1e6;
/// The longest endpoint or label that is restored, in bytes.
const MAX_TEXT: usize = 4096;

/// Why a save is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// It is something else, or of another version.
    Unknown,
    /// Its checksum is wrong.
    Checksum,
    /// It ends too early, or holds an impossible value.
    Content,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "these are no saved curves of this version",
            Self::Checksum => "the saved curves are damaged: their checksum is wrong",
            Self::Content => "the saved curves are damaged: they hold what cannot be",
        })
    }
}

impl std::error::Error for Damaged {}

/// Encodes a model: about one kilobyte for each clock.
#[must_use]
pub fn save(model: &Model) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    write_kind(&mut bytes, model.parent());
    let mut kinds: Vec<_> = model.kinds().collect();
    // The order keeps which kind was used least recently.
    kinds.sort_by(|a, b| a.1.used.total_cmp(&b.1.used));
    write_number(&mut bytes, kinds.len() as u64);
    for (key, kind) in kinds {
        write_text(&mut bytes, Some(&key.endpoint));
        write_text(&mut bytes, key.label.as_deref());
        write_kind(&mut bytes, kind);
    }
    let sum = checksum(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

/// Decodes a model.
///
/// # Errors
/// If the bytes are not what [`save`] wrote.
pub fn restore(bytes: &[u8]) -> Result<Model, Damaged> {
    let with_hooks = bytes.starts_with(MAGIC);
    let known = bytes.strip_prefix(MAGIC).or_else(|| bytes.strip_prefix(WITHOUT_HOOKS));
    let content = known.ok_or(Damaged::Unknown)?;
    let (_, sum) = bytes.split_last_chunk::<8>().ok_or(Damaged::Content)?;
    let (content, _) = content.split_last_chunk::<8>().ok_or(Damaged::Content)?;
    if checksum(&bytes[..bytes.len() - 8]) != u64::from_le_bytes(*sum) {
        return Err(Damaged::Checksum);
    }
    read(&mut SaveReader { rest: content, with_hooks }).ok_or(Damaged::Content)
}

fn read(from: &mut SaveReader) -> Option<Model> {
    let parent = from.kind()?;
    let count = from.number().filter(|count| *count <= MAX_CLOCKS as u64)?;
    let mut kinds = Vec::new();
    for age in 0..count {
        let length = from.number()?;
        let endpoint = from.text(length)?;
        let label = match from.number()? {
            0 => None,
            length => Some(from.text(length)?),
        };
        let key = Key { endpoint, label };
        let mut kind = from.kind()?;
        kind.used = small(age) - small(count);
        kinds.push((key, kind));
    }
    from.rest.is_empty().then(|| Model::from_parts(parent, kinds))
}

fn write_kind(bytes: &mut Vec<u8>, kind: &JobKind) {
    for ends in kind.hooks().memories() {
        for weight in [ends.announced, ends.missed] {
            write_number(bytes, round(weight * END_STEPS).unsigned_abs());
        }
    }
    write_number(bytes, kind.clocks().count() as u64);
    for clock in kind.clocks() {
        write_number(bytes, clock.finishes());
        for counts in clock.counts() {
            write_values(bytes, counts.ends());
            write_values(bytes, counts.running_through());
        }
    }
}

/// Writes each value as its difference from the one before. A zero is followed by the number of
/// further zeros.
fn write_values(bytes: &mut Vec<u8>, values: impl Iterator<Item = f64>) {
    let rounded: Vec<i64> = values.map(|value| round(value * STEPS)).collect();
    let before = std::iter::once(&0).chain(&rounded);
    let mut zeros = 0;
    for step in rounded.iter().zip(before).map(|(now, before)| now - before) {
        if step == 0 {
            zeros += 1;
            continue;
        }
        write_zeros(bytes, &mut zeros);
        write_number(bytes, (step.unsigned_abs() << 1) | u64::from(step < 0));
    }
    write_zeros(bytes, &mut zeros);
}

fn write_zeros(bytes: &mut Vec<u8>, zeros: &mut u64) {
    if *zeros > 0 {
        write_number(bytes, 0);
        write_number(bytes, *zeros - 1);
        *zeros = 0;
    }
}

/// Writes zero for none; otherwise the length plus one, then the bytes.
fn write_text(bytes: &mut Vec<u8>, text: Option<&str>) {
    write_number(bytes, text.map_or(0, |text| text.len() as u64 + 1));
    bytes.extend(text.unwrap_or_default().bytes());
}

/// Writes seven bits a byte, the lowest first. The highest bit says that more follow (LEB128).
fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// The bytes left to read.
struct SaveReader<'a> {
    rest: &'a [u8],
    with_hooks: bool,
}

impl SaveReader<'_> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// Reads a text as [`write_text`] wrote it. `length` is one more than its length.
    fn text(&mut self, length: u64) -> Option<String> {
        let length = usize::try_from(length.checked_sub(1)?).ok().filter(|length| *length <= MAX_TEXT)?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(std::str::from_utf8(text).ok()?.to_owned())
    }

    fn kind(&mut self) -> Option<JobKind> {
        let hooks = if self.with_hooks { self.hooks()? } else { Reliability::default() };
        let count = self.number().filter(|count| *count == 1 || *count == 3)?;
        let clocks: Option<Vec<Clock>> = (0..count).map(|_| self.clock()).collect();
        let mut kind = JobKind::from_clocks(clocks?)?;
        kind.hooks = hooks;
        Some(kind)
    }

    fn hooks(&mut self) -> Option<Reliability> {
        let mut weight = || Some(small(self.number()?) / END_STEPS);
        let mut ends = || Some(Ends { announced: weight()?, missed: weight()? });
        Some(Reliability::restore([ends()?, ends()?]))
    }

    fn clock(&mut self) -> Option<Clock> {
        let finishes = self.number()?;
        let mut counts = || Some([self.values()?, self.values()?]);
        Some(Clock::restore(finishes, &[counts()?, counts()?]))
    }

    /// Reads as many values as there are bins, without the zeros at the end.
    fn values(&mut self) -> Option<Vec<f64>> {
        let (mut values, mut last) = (Vec::new(), 0_i64);
        while values.len() < BINS {
            let step = self.number()?;
            if step == 0 {
                let more = usize::try_from(self.number()?).ok().filter(|more| values.len() + more < BINS)?;
                values.resize(values.len() + more + 1, small(last.unsigned_abs()) / STEPS);
                continue;
            }
            let size = i64::try_from(step >> 1).ok().filter(|size| *size < 1 << 40)?;
            last += if step & 1 == 1 { -size } else { size };
            values.push(small(u64::try_from(last).ok()?) / STEPS);
        }
        let used = values.iter().rposition(|value| *value > 0.0).map_or(0, |last| last + 2);
        values.truncate(used);
        Some(values)
    }
}

/// Returns the FNV-1a hash, 64 bits. It finds damage, not malice.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

#[expect(clippy::cast_possible_truncation, reason = "weights are far below; the cast saturates")]
fn round(value: f64) -> i64 {
    value.round() as i64
}

#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
fn small(number: u64) -> f64 {
    number as f64
}
