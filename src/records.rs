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
//! The time is linear in the length whatever the text is, the memory is the counter itself.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined into `dispatch!` is compiled for the oldest of processors"
)]

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch, mask8x64, u8x64};

/// How many brackets may be open at once. Records have about ten levels; a text with more than this is
/// an attack, and most readers of an archive would fail on it.
pub const DEEPEST: u32 = 4096;

/// How many bytes are looked at together: one bit each in a `u64`.
const BLOCK: usize = 64;

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
    /// No character of UTF-8 goes on or begins with this byte.
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
                // What servers are known to send in place of an array.
                f.write_str(match (expected, byte) {
                    (THE_ARRAY, b'<') => " (is it HTML?)",
                    (THE_ARRAY, b'{') => " (is it the description of an error?)",
                    (THE_ARRAY, 0x1F) => " (is it gzip?)",
                    (THE_ARRAY, 0xEF) => " (is it a byte order mark?)",
                    _ => "",
                })
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
    characters: Characters,
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
            characters: Characters::default(),
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
        self.check(blocks, bytes.len() - rest.len())?;
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
        let found = dispatch!(Level::new(), simd => self.check_blocks(simd, blocks));
        self.refused = found.map(|(index, why)| {
            let offset = self.checked + index as u64;
            NotJson { offset, why }
        });
        self.checked += length as u64;
        self.begun_len = 0;
        self.refused.map_or(Ok(()), Err)
    }

    /// Finds the first thing that is wrong in the next blocks.
    #[inline(always)]
    fn check_blocks<S: Simd>(&mut self, simd: S, blocks: &[[u8; BLOCK]]) -> Option<Wrong> {
        // Copies, which can live in registers.
        let mut strings = self.strings;
        let mut characters = self.characters;
        for (number, block) in blocks.iter().enumerate() {
            let lanes = Lanes(u8x64::from_slice(simd, block));
            // Outside of strings a backslash is refused itself: what it seems to escape does not matter.
            let backslashes = lanes.equal(b'\\');
            let quotes = lanes.equal(b'"');
            let escaped = strings.escaped(backslashes);
            // The escapes that texts are full of are right; what is left is looked at.
            let rare = escaped & !(backslashes | quotes | lanes.equal(b'n'));
            let quotes = quotes & !escaped;
            let mut wrong = None;
            if rare | strings.digits_due != 0 {
                wrong = strings.check_escapes(block, lanes, rare);
            }
            if quotes | !strings.inside != 0 || lanes.has_controls() {
                // Not all of it is inside of one string.
                let inside = strings.pass(quotes);
                let control = first(lanes.controls() & inside);
                let control = control.map(|index| unexpected(block, index, IN_STRING));
                wrong = earlier(wrong, control);
                let events = self.structure.events(lanes.white_space(), quotes, inside);
                wrong = earlier(wrong, self.structure.walk(block, events));
            }
            let beyond_ascii = lanes.beyond_ascii();
            if beyond_ascii | characters.due != 0 {
                let invalid = characters.check(lanes, beyond_ascii, block[BLOCK - 1]);
                wrong = earlier(wrong, first(invalid).map(|index| (index, Why::NotUtf8)));
            }
            if let Some((index, why)) = wrong {
                return Some((number * BLOCK + index, why));
            }
        }
        self.strings = strings;
        self.characters = characters;
        None
    }
}

// What was expected, in words.
const THE_ARRAY: &str = "'['";
const IN_STRING: &str = "the string to go on: control characters must be escaped";
const HEX_DIGIT: &str = "a hexadecimal digit";
const ESCAPE: &str = "one of \"\\/bfnrtu after a backslash";

/// What is wrong in a block, and at which of its bytes.
type Wrong = (usize, Why);

fn unexpected(block: &[u8; BLOCK], index: usize, expected: &'static str) -> Wrong {
    let byte = block[index];
    (index, Why::Unexpected { byte, expected })
}

/// Of two things that are wrong the first, of two with the same byte the one named first.
fn earlier(one: Option<Wrong>, other: Option<Wrong>) -> Option<Wrong> {
    match (one, other) {
        (Some(one), Some(other)) if other.0 < one.0 => Some(other),
        (one, other) => one.or(other),
    }
}

/// A block as a vector. Its masks have one bit for each byte, the first byte's lowest.
#[derive(Clone, Copy)]
struct Lanes<S: Simd>(u8x64<S>);

impl<S: Simd> Lanes<S> {
    #[inline(always)]
    fn equal(self, byte: u8) -> u64 {
        self.0.simd_eq(byte).to_bitmask()
    }

    #[inline(always)]
    fn any_of(self, [a, b, c, d]: [u8; 4]) -> mask8x64<S> {
        self.0.simd_eq(a) | self.0.simd_eq(b) | self.0.simd_eq(c) | self.0.simd_eq(d)
    }

    #[inline(always)]
    fn white_space(self) -> u64 {
        self.any_of(*b" \n\r\t").to_bitmask()
    }

    /// The bytes below 0x20, which a string may hold only escaped.
    #[inline(always)]
    fn controls(self) -> u64 {
        self.0.simd_lt(0x20).to_bitmask()
    }

    #[inline(always)]
    fn beyond_ascii(self) -> u64 {
        self.at_least(0x80)
    }

    /// Whether there is any that [`is_special_lead`].
    #[inline(always)]
    fn has_special_leads(self) -> bool {
        let short = (self.0 & 0xFE).simd_eq(0xC0);
        let special = short | self.0.simd_eq(0xE0) | self.0.simd_eq(0xED) | self.0.simd_ge(0xF0);
        special.any_true()
    }

    #[inline(always)]
    fn at_least(self, byte: u8) -> u64 {
        self.0.simd_ge(byte).to_bitmask()
    }

    /// What ends an escape that it begins.
    #[inline(always)]
    fn short_escapes(self) -> u64 {
        (self.any_of(*b"\"\\/b") | self.any_of(*b"fnrt")).to_bitmask()
    }

    #[inline(always)]
    fn hex_digits(self) -> u64 {
        let lower = self.0 | 0x20; // leaves digits as they are
        let digit = self.0.simd_ge(b'0') & self.0.simd_le(b'9');
        let letter = lower.simd_ge(b'a') & lower.simd_le(b'f');
        (digit | letter).to_bitmask()
    }

    #[inline(always)]
    fn has_controls(self) -> bool {
        self.0.simd_lt(0x20).any_true()
    }
}

/// Which bytes are inside of strings, and what is escaped there.
#[derive(Debug, Clone, Copy, Default)]
struct Strings {
    /// All ones where the next block begins inside of a string, else 0.
    inside: u64,
    /// 1 where the next block's first byte is escaped, else 0.
    escaped: u64,
    /// The bytes at the beginning of the next block that have to be digits of a `\u0000`.
    digits_due: u64,
}

impl Strings {
    /// The bytes that a backslash escapes, given the backslashes. In a run of backslashes every second
    /// one is escaped itself. Runs that begin at an odd place are told from the others by an addition,
    /// which carries through to the end of a run (Langdale and Lemire, "Parsing Gigabytes of JSON per
    /// Second", 2019).
    #[inline(always)]
    fn escaped(&mut self, backslashes: u64) -> u64 {
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
    #[inline(always)]
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
    #[inline(always)]
    fn check_escapes<S: Simd>(
        &mut self,
        block: &[u8; BLOCK],
        lanes: Lanes<S>,
        escaped: u64,
    ) -> Option<Wrong> {
        let long = escaped & lanes.equal(b'u');
        let digits = long << 1 | long << 2 | long << 3 | long << 4 | self.digits_due;
        self.digits_due = long >> 63 | long >> 62 | long >> 61 | long >> 60;
        let wrong = escaped & !(lanes.short_escapes() | long) | digits & !lanes.hex_digits();
        let index = first(wrong)?;
        let expected = if digits >> index & 1 == 1 {
            HEX_DIGIT
        } else {
            ESCAPE
        };
        Some(unexpected(block, index, expected))
    }
}

/// The place of the lowest bit that is set.
#[inline(always)]
fn first(mask: u64) -> Option<usize> {
    bits(mask).next()
}

/// The places of the bits that are set, lowest first.
#[inline(always)]
fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let lowest = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            lowest
        })
    })
}

/// Checks that the text is UTF-8.
#[derive(Debug, Clone, Copy, Default)]
struct Characters {
    /// The bytes at the beginning of the next block that have to continue a character.
    due: u64,
    /// The last byte of the block before, if that was checked.
    last: u8,
}

impl Characters {
    /// The bytes that may not stand where they do; the first of them is right, what follows it may not
    /// be. May be left out for a block that is ASCII where none is due.
    #[inline(always)]
    fn check<S: Simd>(&mut self, lanes: Lanes<S>, beyond_ascii: u64, last: u8) -> u64 {
        // The first byte says how long a character is.
        let leads = lanes.at_least(0xC0);
        let leads_of_3 = lanes.at_least(0xE0);
        let mut due = leads << 1 | leads_of_3 << 2 | self.due;
        let mut due_next = leads >> 63 | leads_of_3 >> 62;
        let mut wrong = 0;
        if lanes.has_special_leads() || is_special_lead(self.last) {
            let leads_of_4 = lanes.at_least(0xF0);
            due |= leads_of_4 << 3;
            due_next |= leads_of_4 >> 61;
            // No character is written longer than it has to be, is a surrogate, or beyond U+10FFFF.
            let after = |byte| lanes.equal(byte) << 1 | u64::from(self.last == byte);
            wrong = lanes.equal(0xC0)
                | lanes.equal(0xC1)
                | after(0xE0) & !lanes.at_least(0xA0)
                | after(0xED) & lanes.at_least(0xA0)
                | after(0xF0) & !lanes.at_least(0x90)
                | after(0xF4) & lanes.at_least(0x90)
                | lanes.at_least(0xF5);
        }
        self.due = due_next;
        self.last = last;
        wrong | due ^ (beyond_ascii & !leads)
    }
}

/// Whether characters that begin with this byte are longer than three bytes or have other rules.
fn is_special_lead(byte: u8) -> bool {
    matches!(byte, 0xC0 | 0xC1 | 0xE0 | 0xED | 0xF0..)
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
    #[inline(always)]
    fn events(&mut self, white_space: u64, quotes: u64, inside: u64) -> u64 {
        let tokens = !(inside | white_space | quotes);
        let ends = white_space & !inside & (tokens << 1 | self.adjoining);
        self.adjoining = tokens >> 63;
        tokens | ends | quotes & inside
    }

    /// Takes a step for each event; finds the first that the grammar does not allow.
    #[inline(always)]
    fn walk(&mut self, block: &[u8; BLOCK], events: u64) -> Option<Wrong> {
        for index in bits(events) {
            let step = GRAMMAR[usize::from(self.state)][usize::from(block[index])];
            if step < STATES {
                self.state = step;
                continue;
            }
            match step {
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

#[expect(clippy::match_same_arms, reason = "each kind of value is told in full")]
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
        START => THE_ARRAY,
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};
    use serde::de::IgnoredAny;

    use super::*;

    /// Feeds pieces of these lengths, over and over.
    fn count(text: &[u8], lengths: &[usize]) -> Result<u64, NotJson> {
        let mut counter = Counter::new();
        let mut rest = text;
        for &length in lengths.iter().cycle() {
            let (piece, others) = rest.split_at(length.min(rest.len()));
            counter.feed(piece)?;
            rest = others;
            if rest.is_empty() {
                break;
            }
        }
        counter.finish()
    }

    fn count_at_once(text: impl AsRef<[u8]>) -> Result<u64, NotJson> {
        count(text.as_ref(), &[usize::MAX])
    }

    /// What an independent parser finds. It has no limit of depth where it skips values.
    fn oracle(text: &[u8]) -> Option<u64> {
        let text = str::from_utf8(text).ok()?;
        let elements: Vec<IgnoredAny> = serde_json::from_str(text).ok()?;
        Some(elements.len() as u64)
    }

    #[test]
    fn counts_the_elements_of_the_outermost_array_only() {
        for (text, records) in [
            ("[]", 0),
            (" \r\n\t[ ] \n", 0),
            ("[{}]", 1),
            ("[[]]", 1),
            (r#"[{"a": [1, 2, {"b": [3, 4]}], "c": {}}, {}]"#, 2),
            (r#"["a,b", "]", "[", "\"],[\"", "\\", "\\\\\""]"#, 6),
            ("[0, -0, 1.5e+3, -10.25E-7, 1e0, true, false, null]", 8),
            (r#"["\u00e9\ud83d\ude00\uD800", "é日本😀"]"#, 2),
        ] {
            assert_eq!(count_at_once(text), Ok(records), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_array_is_refused_with_place_and_cause_and_without_content() {
        let deep = "[".repeat(5000);
        let cases: [(&[u8], &str); 21] = [
            (b"", "it ends after 0 bytes, before the array does"),
            (
                b" [{\"a\":1}, {\"b\": \"secret",
                "it ends after 24 bytes, before the array does",
            ),
            (b"[1", "it ends after 2 bytes, before the array does"),
            (b"[tru", "it ends after 4 bytes, before the array does"),
            (
                b"[\"\xE6\x97",
                "it ends after 4 bytes, before the array does",
            ),
            (
                b"\n<!DOCTYPE html>",
                "byte 1 is '<', expected '[' (is it HTML?)",
            ),
            (
                br#"{"errors":[{"msg":"secret"}]}"#,
                "byte 0 is '{', expected '[' (is it the description of an error?)",
            ),
            (
                b"\x1F\x8B\x08",
                "byte 0 is 0x1F, expected '[' (is it gzip?)",
            ),
            (
                b"\xEF\xBB\xBF[]",
                "byte 0 is 0xEF, expected '[' (is it a byte order mark?)",
            ),
            (
                b"[]\n[]",
                "byte 3 is '[', expected nothing more after the array",
            ),
            (b"[1,]", "byte 3 is ']', expected a value"),
            (b"[1 2]", "byte 3 is '2', expected ',' or ']'"),
            (
                b"[01]",
                "byte 2 is '1', expected more of a number, ',' or ']'",
            ),
            (
                b"[t rue]",
                "byte 2 is 0x20, expected the rest of true, false or null",
            ),
            (b"[{\"a\" 1}]", "byte 6 is '1', expected ':'"),
            (
                b"[\"a\nb\"]",
                "byte 3 is 0x0A, expected the string to go on: control characters must be escaped",
            ),
            (
                b"[\"\\x\"]",
                "byte 3 is 'x', expected one of \"\\/bfnrtu after a backslash",
            ),
            (
                b"[\"\\u12G4\"]",
                "byte 6 is 'G', expected a hexadecimal digit",
            ),
            // Wrong in two ways: the escape is named.
            (
                b"[\"\\\n\"]",
                "byte 3 is 0x0A, expected one of \"\\/bfnrtu after a backslash",
            ),
            (b"[\"\xC3(\"]", "byte 3 is not UTF-8"),
            (deep.as_bytes(), "byte 4096 opens more than 4096 brackets"),
        ];
        for (text, message) in cases {
            let refusal = count_at_once(text).unwrap_err();
            let message = format!("not a JSON array of records: {message}");
            assert_eq!(refusal.to_string(), message);
            assert_eq!(count(text, &[1]), Err(refusal), "split: {message}");
        }
    }

    #[test]
    fn every_byte_at_every_place_of_a_small_text_is_judged_as_the_oracle_does() {
        // All states of the grammar, escapes and digits across the border of two blocks.
        let text =
            r#" [{"a":-0.5e+10,"b":[true,false,null],"c\n\u00e9":{}},"é\\" ,1,[2,"\ud83d"]] "#;
        assert_eq!(count_at_once(text), Ok(4));
        for shift in [0, 5, 50] {
            for place in 0..text.len() {
                for byte in 0..=u8::MAX {
                    let mut changed = " ".repeat(shift).into_bytes();
                    changed.extend_from_slice(text.as_bytes());
                    changed[shift + place] = byte;
                    assert_eq!(
                        count_at_once(&changed).ok(),
                        oracle(&changed),
                        "{changed:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn escapes_across_the_border_of_two_blocks_are_judged_as_the_oracle_does() {
        for place in BLOCK - 7..=BLOCK {
            for escape in [r"\u00e9", r"\ud83d\ude00", r"\\\n", r"\n"] {
                for wrong in 0..=escape.len() {
                    let mut text = format!("[\"{}{escape}\"]", "-".repeat(place - 2)).into_bytes();
                    // At the end of the escape nothing is wrong: that quote is one of two.
                    text[place + wrong] = if wrong < escape.len() { b'x' } else { b'"' };
                    let verdict = count_at_once(&text);
                    assert_eq!(verdict.ok(), oracle(&text), "{text:?}");
                    assert_eq!(count(&text, &[1]), verdict, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn what_ends_and_follows_a_value_is_judged_as_the_oracle_does_wherever_a_block_ends() {
        for text in [
            "[1 2]",
            "[1 ,2]",
            "[0 1]",
            "[-1.5e3\n ]",
            "[tru e]",
            "[true 1]",
            "[\"a\" 1]",
            "[1 ] 2",
        ] {
            for shift in 0..=BLOCK {
                let text = " ".repeat(shift) + text;
                let verdict = count_at_once(&text).ok();
                assert_eq!(verdict, oracle(text.as_bytes()), "{text}");
            }
        }
    }

    #[test]
    fn a_block_of_nothing_but_quotes_is_judged_as_the_oracle_does() {
        for (before, after) in [("[", "]"), ("[\"", "\"]"), ("[1,", "]")] {
            let blank = " ".repeat(BLOCK - before.len());
            for (begins, quotes) in [(0, BLOCK), (0, BLOCK - 1), (1, BLOCK)] {
                let text = format!(
                    "{before}{}{}{after}",
                    &blank[begins..],
                    "\"".repeat(quotes + begins)
                );
                assert_eq!(count_at_once(&text).ok(), oracle(text.as_bytes()), "{text}");
            }
        }
    }

    #[test]
    fn characters_across_the_border_of_two_blocks_are_judged_as_the_oracle_does() {
        let whole = "é日😀\u{800}\u{D7FF}\u{10000}\u{10FFFF}";
        let cases: [(&[u8], usize); 15] = [
            (whole.as_bytes(), whole.len()),
            // What is broken, and at which of its bytes that shows.
            (b"\xE6\x97", 2),         // cut
            (b"\xF0\x9F\x98", 3),     // cut
            (b"\x80", 0),             // no beginning
            (b"\xC1\xBF", 0),         // longer than needed
            (b"\xE0\x9F\xBF", 1),     // longer than needed
            (b"\xF0\x8F\xBF\xBF", 1), // longer than needed
            (b"\xED\xA0\x80", 1),     // half of a surrogate pair
            (b"\xF4\x90\x80\x80", 1), // beyond the last
            (b"\xF5\x80\x80\x80", 0), // beyond the last
            (b"\xC3\xA9\xA9", 2),     // one too many
            // Not gone on with, and what is there instead is out of bounds as well.
            (b"\xE0A\x80", 1),
            (b"\xED\xC3\x80", 1),
            (b"\xF0A\x80\x80", 1),
            (b"\xF4\xC3\x80\x80", 1),
        ];
        for place in BLOCK - 5..BLOCK + 2 {
            for (character, right) in cases {
                for after in ["\"]", "-\"]", "é\"]", ""] {
                    let before = format!("[\"{}", "-".repeat(place - 2));
                    let text = [before.as_bytes(), character, after.as_bytes()].concat();
                    let verdict = count_at_once(&text);
                    assert_eq!(verdict.ok(), oracle(&text), "{text:?}");
                    assert_eq!(count(&text, &[1]), verdict, "{text:?}");
                    if let Err(NotJson { offset, .. }) = verdict {
                        assert_eq!(offset, (place + right) as u64, "{text:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn as_many_brackets_as_allowed_may_be_open() {
        let depth = DEEPEST as usize;
        let arrays = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(count_at_once(&arrays), Ok(1));
        let objects = format!(
            "[{}0{}]",
            r#"{"a":"#.repeat(depth - 1),
            "}".repeat(depth - 1)
        );
        assert_eq!(count_at_once(&objects), Ok(1));
        // Brackets that do not match, far down.
        let swapped = format!(
            "[{}0]{}]",
            r#"{"a":"#.repeat(depth - 1),
            "}".repeat(depth - 2)
        );
        assert!(matches!(
            count_at_once(&swapped).unwrap_err().why,
            Why::Unexpected { byte: b']', .. }
        ));
    }

    #[test]
    fn a_refusal_is_final() {
        let mut counter = Counter::new();
        let refusal = counter.feed("x".repeat(64).as_bytes()).unwrap_err();
        assert_eq!(counter.feed(b"[]"), Err(refusal));
        assert_eq!(counter.finish(), Err(refusal));
    }

    #[test]
    fn a_counter_is_small() {
        assert!(size_of::<Counter>() < 1024);
    }

    /// Bytes that mean something, so that random changes lead far into the grammar.
    const MEANINGFUL: &[u8] =
        b"[]{},:\"\\/bfnrtu09aeE+-. \n\r\t\x00\x1F\x7F\x80\xA9\xBF\xC3\xE6\xED\xF0\xF4\xFF";

    fn meaningful_bytes() -> impl Strategy<Value = Vec<u8>> {
        vec(select(MEANINGFUL), 0..150)
    }

    fn space() -> impl Strategy<Value = &'static str> {
        let long =
            "\n                                                                              ";
        prop_oneof![5 => Just(""), 2 => select(&[" ", "\n", "\r\n", "\t ", "\n    "][..]), 1 => Just(long)]
    }

    fn string() -> impl Strategy<Value = String> {
        let part = select(
            &[
                "a",
                "plain text, long enough to fill a block or two of the counter's; ",
                "é",
                "日",
                "😀",
                "\u{7F}",
                r"\n",
                r#"\""#,
                r"\\",
                r"\/",
                r"\b\f\r\t",
                r"\u00e9",
                r"\ud800",
                r"\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\",
                "[",
                "]",
                "{",
                ",",
                ":",
            ][..],
        );
        vec(part, 0..12).prop_map(|parts| format!("\"{}\"", parts.concat()))
    }

    fn json(depth: u32) -> impl Strategy<Value = String> {
        let number = "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,5})?";
        let scalar = prop_oneof![
            number,
            string(),
            select(&["true", "false", "null"][..]).prop_map(String::from)
        ];
        scalar.prop_recursive(depth, 64, 8, |element| {
            prop_oneof![array_of(element.clone()), object_of(element)]
        })
    }

    fn array_of(element: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        let element = (space(), element, space())
            .prop_map(|(before, text, after)| format!("{before}{text}{after}"));
        (space(), vec(element, 0..8))
            .prop_map(|(space, list)| format!("[{space}{}]", list.join(",")))
    }

    fn object_of(element: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        let member = (string(), space(), space(), element, space()).prop_map(
            |(name, before, between, text, after)| {
                format!("{before}{name}{before}:{between}{text}{after}")
            },
        );
        (space(), vec(member, 0..6))
            .prop_map(|(space, list)| format!("{{{space}{}}}", list.join(",")))
    }

    fn array() -> impl Strategy<Value = String> {
        let records = array_of(json(5));
        (space(), records, space())
            .prop_map(|(before, text, after)| format!("{before}{text}{after}"))
    }

    #[derive(Debug, Clone)]
    enum Damage {
        Replace(Index, u8),
        Insert(Index, u8),
        Delete(Index),
        Cut(Index),
        Append(Vec<u8>),
    }

    fn damage() -> impl Strategy<Value = Damage> {
        let byte = || prop_oneof![select(MEANINGFUL), any::<u8>()];
        prop_oneof![
            (any::<Index>(), byte()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
            (any::<Index>(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
            any::<Index>().prop_map(Damage::Delete),
            any::<Index>().prop_map(Damage::Cut),
            array().prop_map(|text| Damage::Append(text.into_bytes())),
        ]
    }

    impl Damage {
        fn apply(&self, text: &mut Vec<u8>) {
            match self {
                Self::Append(more) => text.extend_from_slice(more),
                Self::Insert(at, byte) => text.insert(at.index(text.len() + 1), *byte),
                _ if text.is_empty() => {}
                Self::Replace(at, byte) => {
                    let at = at.index(text.len());
                    text[at] = *byte;
                }
                Self::Delete(at) => drop(text.remove(at.index(text.len()))),
                Self::Cut(at) => text.truncate(at.index(text.len())),
            }
        }
    }

    fn lengths() -> impl Strategy<Value = Vec<usize>> {
        vec(prop_oneof![1..5_usize, 50..80_usize, 1..6000_usize], 1..8)
    }

    /// The verdict is the oracle's, however the text is split; what is wrong is where the text stops
    /// being the beginning of an array.
    fn judge(text: &[u8], lengths: &[usize]) -> Result<(), TestCaseError> {
        let verdict = count_at_once(text);
        prop_assert_eq!(verdict.ok(), oracle(text));
        prop_assert_eq!(count(text, lengths), verdict);
        let Err(NotJson { offset, why }) = verdict else {
            return Ok(());
        };
        let place = usize::try_from(offset).expect("it is within the text");
        let before = count_at_once(&text[..place]).map_err(|refusal| refusal.why);
        prop_assert!(
            matches!(before, Ok(_) | Err(Why::Cut)),
            "{before:?} before {why:?}"
        );
        match why {
            Why::Unexpected { byte, .. } => prop_assert_eq!(text[place], byte),
            Why::NotUtf8 => prop_assert!(str::from_utf8(text).is_err()),
            Why::Cut => prop_assert_eq!(place, text.len()),
            Why::TooDeep => prop_assert!(false, "no text here is that deep"),
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn arrays_are_counted_however_they_are_split(text in array(), lengths in lengths()) {
            prop_assert!(count_at_once(&text).is_ok());
            judge(text.as_bytes(), &lengths)?;
        }

        #[test]
        fn damaged_arrays_are_judged_as_the_oracle_does(
            text in array(), damage in vec(damage(), 1..4), lengths in lengths()
        ) {
            let mut text = text.into_bytes();
            for damage in damage {
                damage.apply(&mut text);
            }
            judge(&text, &lengths)?;
        }

        #[test]
        fn the_inside_of_strings_is_judged_as_the_oracle_does(
            inside in meaningful_bytes(), lengths in lengths()
        ) {
            judge(&[b"[\"", &inside[..], b"\"]"].concat(), &lengths)?;
        }

        #[test]
        fn any_bytes_are_judged_as_the_oracle_does(text in meaningful_bytes(), lengths in lengths()) {
            judge(&text, &lengths)?;
        }
    }
}
