//! Counting the records of a fragment in the stream of its bytes, and refusing what is not one whole JSON array.
//!
//! A [`Counter`] accepts exactly the texts that are one JSON array by RFC 8259, and nothing else: a
//! page of HTML, a download that was cut, two files in a row, a byte that is not UTF-8 are refused with
//! the place and the cause. Records are the elements of that array, whatever they are: the vendor's
//! fields change, so nothing is asked of a record but that it is JSON.
//!
//! # How
//! The text is read in blocks of 64 bytes, and of each block bit masks are made: where it has quotes,
//! backslashes, white space. Most of a fragment is the inside of long strings, where a block is settled
//! by its masks alone. Outside of strings each byte that matters takes one step in a table. Blocks lie
//! at the same places of the text however it arrives, so a verdict cannot depend on how it was split.
//! Nothing is read twice: the time is linear in the length, the memory is the counter itself.

use wide::u8x16;

/// How many brackets may be open at once. Records have about ten levels; a text with more than this is
/// an attack, and most readers of an archive would fail on it.
pub const DEEPEST: u32 = 4096;

/// How many bytes are looked at together: one bit each in a `u64`.
const BLOCK: usize = 64;

/// How many blocks are checked for UTF-8 at once: few enough to be in the processor's nearest cache still.
const STRETCH: usize = 64;

/// Why a text is not one JSON array, and where. Shows no content but the one byte that is wrong: the
/// text is personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON array of records: {why}", why = Sentence(*offset, *why))]
pub struct NotJson {
    /// The first byte that cannot be part of one, counted from 0; the length of a text that is cut.
    pub offset: u64,
    /// What is wrong there.
    pub why: Why,
}

/// What is wrong with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// This byte stands where something else has to.
    Unexpected {
        /// The byte.
        byte: u8,
        /// What may stand there.
        expected: &'static str,
    },
    /// A byte that is neither part of a UTF-8 character nor the beginning of a whole one.
    NotUtf8,
    /// One more bracket than [`DEEPEST`] is opened.
    TooDeep,
    /// The text ends before the array does.
    Cut,
}

struct Sentence(u64, Why);

impl std::fmt::Display for Sentence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(offset, why) = self;
        match *why {
            Why::Unexpected { byte, expected } => {
                write!(f, "byte {offset} is ")?;
                if byte.is_ascii_graphic() {
                    write!(f, "'{}'", char::from(byte))?;
                } else {
                    write!(f, "0x{byte:02X}")?;
                }
                write!(f, ", expected {expected}")?;
                // What servers are known to send in place of a file.
                match (offset, byte) {
                    (0, b'<') => f.write_str(" (is it HTML?)"),
                    (0, b'{') => f.write_str(" (is it an error's description?)"),
                    (0, 0x1F) => f.write_str(" (is it gzip?)"),
                    (0, 0xEF) => f.write_str(" (is it a byte order mark?)"),
                    _ => Ok(()),
                }
            }
            Why::NotUtf8 => write!(f, "byte {offset} is not UTF-8"),
            Why::TooDeep => write!(f, "byte {offset} opens more than {DEEPEST} brackets"),
            Why::Cut => write!(f, "it ends after {offset} bytes, before the array does"),
        }
    }
}

/// Counts the records of one text that is fed to it piece by piece. Holds less than 1 KiB, whatever it is fed.
#[derive(Debug, Clone)]
pub struct Counter {
    /// The length of what has been checked: a multiple of [`BLOCK`].
    checked: u64,
    /// The beginning of the next block, and how much of it has arrived.
    begun: [u8; BLOCK],
    begun_len: usize,
    strings: Strings,
    structure: Structure,
    utf8: Utf8,
    /// Once a text was refused it stays so.
    refused: Option<NotJson>,
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

impl Counter {
    /// A counter that has been fed nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            checked: 0,
            begun: [b' '; BLOCK],
            begun_len: 0,
            strings: Strings::default(),
            structure: Structure::new(),
            utf8: Utf8::default(),
            refused: None,
        }
    }

    /// Takes the next bytes of the text, any number of them.
    ///
    /// # Errors
    /// When no text that begins like this can be a JSON array. Up to 63 bytes are kept until more
    /// arrive, so what is wrong with them shows at the next call or at the end.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), NotJson> {
        if let Some(refusal) = self.refused {
            return Err(refusal);
        }
        if self.begun_len > 0 {
            let (more, rest) = bytes.split_at(bytes.len().min(BLOCK - self.begun_len));
            self.begun[self.begun_len..self.begun_len + more.len()].copy_from_slice(more);
            self.begun_len += more.len();
            bytes = rest;
            if self.begun_len < BLOCK {
                return Ok(());
            }
            let block = self.begun;
            self.check(&[block], BLOCK)?;
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        for stretch in blocks.chunks(STRETCH) {
            self.check(stretch, stretch.len() * BLOCK)?;
        }
        self.begun[..rest.len()].copy_from_slice(rest);
        self.begun_len = rest.len();
        Ok(())
    }

    /// The number of records: the text ends here.
    ///
    /// # Errors
    /// When it is not one whole JSON array.
    pub fn finish(mut self) -> Result<u64, NotJson> {
        if let Some(refusal) = self.refused {
            return Err(refusal);
        }
        let length = self.checked + self.begun_len as u64;
        let cut = NotJson {
            offset: length,
            why: Why::Cut,
        };
        if self.begun_len > 0 {
            // White space may follow an array, and ends a number, as the end of the text does.
            let mut block = [b' '; BLOCK];
            block[..self.begun_len].copy_from_slice(&self.begun[..self.begun_len]);
            self.check(&[block], self.begun_len).map_err(|refusal| {
                if refusal.offset < length {
                    refusal
                } else {
                    cut
                }
            })?;
        }
        // Characters and strings that have begun are inside the array, which then is not done.
        if self.structure.is_done() {
            Ok(self.structure.records)
        } else {
            Err(cut)
        }
    }

    /// Checks the next blocks, of which `length` bytes are text.
    fn check(&mut self, blocks: &[[u8; BLOCK]], length: usize) -> Result<(), NotJson> {
        let start = self.checked;
        let (mut found, ascii) = self.check_blocks(blocks);
        if !(ascii && self.utf8.is_whole()) {
            let text = &blocks.as_flattened()[..length];
            if let Some(offset) = self.utf8.check(start, text)
                && found.is_none_or(|found| offset < found.offset)
            {
                let why = Why::NotUtf8;
                found = Some(NotJson { offset, why });
            }
        }
        self.checked += length as u64;
        self.begun_len = 0;
        self.refused = found;
        found.map_or(Ok(()), Err)
    }

    /// Checks everything but UTF-8. Gives the first thing that is wrong, and whether all bytes up to
    /// there are ASCII.
    fn check_blocks(&mut self, blocks: &[[u8; BLOCK]]) -> (Option<NotJson>, bool) {
        let mut strings = self.strings; // a copy, which can live in registers
        let mut any_bits = u8x16::ZERO;
        let mut found = None;
        for (number, block) in blocks.iter().enumerate() {
            let lanes = Lanes::of(block);
            any_bits |= lanes.any_bits();
            let backslashes = lanes.equal(b'\\');
            let quotes = lanes.equal(b'"');
            let escaped = strings.escaped(backslashes);
            // The escapes that texts are full of are settled here, the others one by one.
            let rare = escaped & !(backslashes | quotes | lanes.equal(b'n'));
            let quotes = quotes & !escaped;
            if (quotes | rare | !strings.inside) == 0
                && strings.digits_due == 0
                && !lanes.has_controls()
            {
                continue; // All of it is inside of one string.
            }
            let inside = strings.pass(quotes);
            let escape = strings.check_escapes(block, rare & inside);
            let control = bits(lanes.controls() & inside).next();
            let control = control.map(|index| unexpected(block, index, IN_STRING));
            let events = self.structure.events(lanes.white_space(), quotes, inside);
            let token = self.structure.walk(block, events);
            let wrong = [escape, control, token];
            let wrong = wrong.into_iter().flatten().min_by_key(|&(index, _)| index);
            if let Some((index, why)) = wrong {
                let offset = self.checked + (number * BLOCK + index) as u64;
                found = Some(NotJson { offset, why });
                break;
            }
        }
        self.strings = strings;
        (found, any_bits.to_bitmask() == 0)
    }
}

const IN_STRING: &str = "the string to go on: control characters must be escaped";

const ESCAPE: &str = "one of \"\\/bfnrtu after a backslash";

/// What is wrong in a block, and at which of its bytes.
type Wrong = (usize, Why);

fn unexpected(block: &[u8; BLOCK], index: usize, expected: &'static str) -> Wrong {
    let byte = block[index];
    (index, Why::Unexpected { byte, expected })
}

/// A block as the vectors that every x86-64 and arm64 processor has.
struct Lanes([u8x16; 4]);

impl Lanes {
    #[inline]
    fn of(block: &[u8; BLOCK]) -> Self {
        let (lanes, _) = block.as_chunks::<16>();
        Self(std::array::from_fn(|lane| u8x16::new(lanes[lane])))
    }

    /// One bit for each byte, the first byte's lowest: whether `test` gave it all ones.
    #[inline]
    fn mask(&self, test: impl Fn(u8x16) -> u8x16) -> u64 {
        let [a, b, c, d] = self.0.map(|lane| u64::from(test(lane).to_bitmask()));
        a | b << 16 | c << 32 | d << 48
    }

    #[inline]
    fn equal(&self, byte: u8) -> u64 {
        self.mask(|lane| lane.simd_eq(u8x16::splat(byte)))
    }

    #[inline]
    fn white_space(&self) -> u64 {
        self.mask(|lane| {
            lane.simd_eq(u8x16::splat(b' '))
                | lane.simd_eq(u8x16::splat(b'\n'))
                | lane.simd_eq(u8x16::splat(b'\r'))
                | lane.simd_eq(u8x16::splat(b'\t'))
        })
    }

    /// The bytes below 0x20, which a string may hold only escaped.
    #[inline]
    fn controls(&self) -> u64 {
        self.mask(Self::are_controls)
    }

    #[inline]
    fn has_controls(&self) -> bool {
        let [a, b, c, d] = self.0;
        Self::are_controls(a.min(b).min(c.min(d))).to_bitmask() != 0
    }

    #[inline]
    fn are_controls(lane: u8x16) -> u8x16 {
        lane.min(u8x16::splat(0x1F)).simd_eq(lane)
    }

    /// The bits that are set in some byte of each lane.
    #[inline]
    fn any_bits(&self) -> u8x16 {
        let [a, b, c, d] = self.0;
        a | b | (c | d)
    }
}

/// Which bytes are inside of strings, and what is escaped there.
#[derive(Debug, Clone, Copy, Default)]
struct Strings {
    /// All ones where the next block begins inside of a string, else 0.
    inside: u64,
    /// 1 where the next block's first byte is escaped, else 0.
    escaped: u64,
    /// How many hexadecimal digits of `\u0000` the next block begins with.
    digits_due: usize,
}

impl Strings {
    /// The bytes that a backslash escapes, given the backslashes.
    #[inline]
    fn escaped(&mut self, backslashes: u64) -> u64 {
        // In a run of backslashes every second one is escaped itself. Runs that begin at an odd place
        // are told from the others by an addition, which carries through to the end of a run.
        // (Langdale and Lemire, Parsing Gigabytes of JSON per Second, 2019)
        const EVEN: u64 = 0x5555_5555_5555_5555;
        let backslashes = backslashes & !self.escaped;
        let follows = backslashes << 1 | self.escaped;
        let odd_starts = backslashes & !EVEN & !follows;
        let (even_runs, carry) = odd_starts.overflowing_add(backslashes);
        self.escaped = u64::from(carry);
        (EVEN ^ (even_runs << 1)) & follows
    }

    /// The bytes inside of strings with their opening and without their closing quotes, given the
    /// quotes: each byte's bit is the parity of the quotes up to it.
    #[inline]
    fn pass(&mut self, quotes: u64) -> u64 {
        let mut parity = quotes;
        for shift in [1, 2, 4, 8, 16, 32] {
            parity ^= parity << shift;
        }
        let inside = parity ^ self.inside;
        self.inside = if inside >> 63 == 1 { u64::MAX } else { 0 };
        inside
    }

    /// Finds what may not follow a backslash. Any four digits may follow `\u`: halves of surrogate
    /// pairs, too, are within the grammar.
    #[inline]
    fn check_escapes(&mut self, block: &[u8; BLOCK], escaped: u64) -> Option<Wrong> {
        let due = std::mem::take(&mut self.digits_due);
        self.check_digits(block, 0, due).or_else(|| {
            bits(escaped).find_map(|index| match block[index] {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => None,
                b'u' => self.check_digits(block, index + 1, 4),
                _ => Some(unexpected(block, index, ESCAPE)),
            })
        })
    }

    /// Finds what is not a digit among `count` bytes, of which the next block may have the rest.
    fn check_digits(&mut self, block: &[u8; BLOCK], from: usize, count: usize) -> Option<Wrong> {
        let until = BLOCK.min(from + count);
        self.digits_due = from + count - until;
        (from..until)
            .find(|&index| !block[index].is_ascii_hexdigit())
            .map(|index| unexpected(block, index, "a hexadecimal digit"))
    }
}

/// The places of the bits that are set, lowest first.
#[inline]
fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let lowest = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            lowest
        })
    })
}

/// What stands outside of strings: brackets, numbers and the like.
#[derive(Debug, Clone)]
struct Structure {
    /// What may come next: a row of [`GRAMMAR`].
    state: u8,
    /// How many brackets are open.
    depth: u32,
    /// One bit for each open bracket, the outermost first: whether it is a `{`.
    objects: [u64; DEEPEST as usize / 64],
    /// 1 where the last byte was outside of strings and not white space, else 0.
    adjoining: u64,
    /// The elements of the outermost array that are complete.
    records: u64,
}

impl Structure {
    fn new() -> Self {
        Self {
            state: START,
            depth: 0,
            objects: [0; DEEPEST as usize / 64],
            adjoining: 0,
            records: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.state == DONE
    }

    /// The bytes that [`Self::walk`] has to see: all outside of strings, the opening quote of a string
    /// for the whole of it, and the first white space after anything, for it ends a number.
    #[inline]
    fn events(&mut self, white_space: u64, quotes: u64, inside: u64) -> u64 {
        let tokens = !(inside | white_space | quotes);
        let ends = white_space & !inside & (tokens << 1 | self.adjoining);
        self.adjoining = tokens >> 63;
        tokens | ends | quotes & inside
    }

    /// Takes a step for each event; finds the first that the grammar does not allow.
    #[inline]
    fn walk(&mut self, block: &[u8; BLOCK], events: u64) -> Option<Wrong> {
        for index in bits(events) {
            match GRAMMAR[usize::from(self.state)][usize::from(block[index])] {
                state @ ..STATES => self.state = state,
                OPEN_ARRAY if self.open(false) => self.state = ARRAY_START,
                OPEN_OBJECT if self.open(true) => self.state = OBJECT_START,
                OPEN_ARRAY | OPEN_OBJECT => return Some((index, Why::TooDeep)),
                CLOSE => self.close(),
                NEXT_ELEMENT => {
                    self.records += u64::from(self.depth == 1);
                    self.state = ARRAY_VALUE;
                }
                _ => return Some(unexpected(block, index, expected(self.state))),
            }
        }
        None
    }

    /// Goes one level down, if there may be another.
    fn open(&mut self, object: bool) -> bool {
        let (word, bit) = (self.depth as usize / 64, self.depth % 64);
        let Some(objects) = self.objects.get_mut(word) else {
            return false;
        };
        *objects = *objects & !(1 << bit) | u64::from(object) << bit;
        self.depth += 1;
        true
    }

    /// Goes one level up. The grammar has seen to it that there is one, and that the bracket fits.
    fn close(&mut self) {
        if self.depth == 1 {
            self.records += u64::from(self.state != ARRAY_START);
        }
        self.depth = self.depth.saturating_sub(1);
        self.state = match self.depth.checked_sub(1) {
            None => DONE,
            Some(level) if self.objects[level as usize / 64] >> (level % 64) & 1 == 1 => {
                OBJECT_NEXT
            }
            Some(_) => ARRAY_NEXT,
        };
    }
}

// The states, named for what may come next.
const START: u8 = 0;
const ARRAY_START: u8 = 1;
const ARRAY_VALUE: u8 = 2;
const ARRAY_NEXT: u8 = 3;
const OBJECT_START: u8 = 4;
const OBJECT_KEY: u8 = 5;
const OBJECT_COLON: u8 = 6;
const OBJECT_VALUE: u8 = 7;
const OBJECT_NEXT: u8 = 8;
const DONE: u8 = 9;
// Inside of a number, named for what was last. Each state from here on exists twice: in an array and,
// `IN_OBJECT` further on, in an object.
const MINUS: u8 = 10;
const ZERO: u8 = 11;
const INTEGER: u8 = 12;
const POINT: u8 = 13;
const FRACTION: u8 = 14;
const EXPONENT: u8 = 15;
const SIGN: u8 = 16;
const POWER: u8 = 17;
// Inside of `true`, `false` or `null`, named for the letters to come.
const RUE: u8 = 18;
const UE: u8 = 19;
const E: u8 = 20;
const ALSE: u8 = 21;
const LSE: u8 = 22;
const SE: u8 = 23;
const ULL: u8 = 24;
const LL: u8 = 25;
const L: u8 = 26;
const IN_OBJECT: u8 = L + 1 - MINUS;
const STATES: u8 = L + IN_OBJECT + 1;

// Steps that take more than a change of state.
const OPEN_ARRAY: u8 = STATES;
const OPEN_OBJECT: u8 = STATES + 1;
const CLOSE: u8 = STATES + 2;
const NEXT_ELEMENT: u8 = STATES + 3;
const REFUSE: u8 = STATES + 4;

/// RFC 8259 outside of strings: the step to take, by state and byte.
static GRAMMAR: [[u8; 256]; STATES as usize] = {
    let mut grammar = [[REFUSE; 256]; STATES as usize];
    let mut state = 0;
    while state < STATES {
        let mut byte = 0;
        while byte < 256 {
            #[expect(clippy::cast_possible_truncation, reason = "it is below 256")]
            let step = step(state, byte as u8);
            grammar[state as usize][byte] = step;
            byte += 1;
        }
        state += 1;
    }
    grammar
};

const fn step(state: u8, byte: u8) -> u8 {
    // Of the two states of a kind the one in an array; how far the other is; what follows the value.
    let (kind, shift, after) = match state {
        ..=L => (state, 0, ARRAY_NEXT),
        _ => (state - IN_OBJECT, IN_OBJECT, OBJECT_NEXT),
    };
    match (kind, byte) {
        (..=DONE, b' ' | b'\n' | b'\r' | b'\t') => state,
        (START, b'[') => OPEN_ARRAY,
        (ARRAY_START | ARRAY_NEXT, b']') | (OBJECT_START | OBJECT_NEXT, b'}') => CLOSE,
        (ARRAY_START | ARRAY_VALUE, _) => first_of_value(byte, 0, ARRAY_NEXT),
        (ARRAY_NEXT, b',') => NEXT_ELEMENT,
        (OBJECT_START | OBJECT_KEY, b'"') => OBJECT_COLON,
        (OBJECT_COLON, b':') => OBJECT_VALUE,
        (OBJECT_VALUE, _) => first_of_value(byte, IN_OBJECT, OBJECT_NEXT),
        (OBJECT_NEXT, b',') => OBJECT_KEY,

        (MINUS, b'0') => ZERO + shift,
        (MINUS, b'1'..=b'9') | (INTEGER, b'0'..=b'9') => INTEGER + shift,
        (ZERO | INTEGER, b'.') => POINT + shift,
        (POINT | FRACTION, b'0'..=b'9') => FRACTION + shift,
        (ZERO | INTEGER | FRACTION, b'e' | b'E') => EXPONENT + shift,
        (EXPONENT, b'+' | b'-') => SIGN + shift,
        (EXPONENT | SIGN | POWER, b'0'..=b'9') => POWER + shift,
        // Only what comes next shows that a number is complete.
        (ZERO | INTEGER | FRACTION | POWER, _) => step(after, byte),

        (RUE, b'r') => UE + shift,
        (UE, b'u') => E + shift,
        (ALSE, b'a') => LSE + shift,
        (LSE, b'l') => SE + shift,
        (SE, b's') => E + shift,
        (ULL, b'u') => LL + shift,
        (LL, b'l') => L + shift,
        (E, b'e') | (L, b'l') => after,

        _ => REFUSE,
    }
}

const fn first_of_value(byte: u8, shift: u8, after: u8) -> u8 {
    match byte {
        b'"' => after,
        b'[' => OPEN_ARRAY,
        b'{' => OPEN_OBJECT,
        b'-' => MINUS + shift,
        b'0' => ZERO + shift,
        b'1'..=b'9' => INTEGER + shift,
        b't' => RUE + shift,
        b'f' => ALSE + shift,
        b'n' => ULL + shift,
        _ => REFUSE,
    }
}

/// What may come next, in words.
fn expected(state: u8) -> &'static str {
    let in_object = state > L;
    match if in_object { state - IN_OBJECT } else { state } {
        START => "'['",
        ARRAY_START => "a value or ']'",
        ARRAY_VALUE | OBJECT_VALUE => "a value",
        ARRAY_NEXT => "',' or ']'",
        OBJECT_START => "a name in quotes or '}'",
        OBJECT_KEY => "a name in quotes",
        OBJECT_COLON => "':'",
        OBJECT_NEXT => "',' or '}'",
        DONE => "nothing more after the array",
        MINUS | POINT | SIGN => "a digit",
        EXPONENT => "a digit, '+' or '-'",
        ZERO | INTEGER | FRACTION | POWER if in_object => "more of a number, ',' or '}'",
        ZERO | INTEGER | FRACTION | POWER => "more of a number, ',' or ']'",
        _ => "the rest of true, false or null",
    }
}

/// Checks UTF-8, keeping a character that has begun until the rest of it arrives.
#[derive(Debug, Clone, Copy, Default)]
struct Utf8 {
    begun: [u8; 4],
    length: usize,
}

impl Utf8 {
    fn is_whole(self) -> bool {
        self.length == 0
    }

    /// The place of the first character that is none, in a text whose next bytes, from `start` on,
    /// are these.
    fn check(&mut self, start: u64, mut bytes: &[u8]) -> Option<u64> {
        let mut at = start;
        while self.length > 0 {
            let (&byte, rest) = bytes.split_first()?;
            self.begun[self.length] = byte;
            self.length += 1;
            at += 1;
            bytes = rest;
            match std::str::from_utf8(&self.begun[..self.length]) {
                Ok(_) => self.length = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Some(at - self.length as u64),
            }
        }
        let error = simdutf8::compat::from_utf8(bytes).err()?;
        let valid = error.valid_up_to();
        if error.error_len().is_some() {
            return Some(at + valid as u64);
        }
        let begun = &bytes[valid..];
        self.begun[..begun.len()].copy_from_slice(begun);
        self.length = begun.len();
        None
    }
}
