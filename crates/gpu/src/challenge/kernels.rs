//! The kernels for NVIDIA's cards, as PTX text that the driver compiles for the card it finds. Written for sm_50 in PTX 6.0, so that every
//! card of the last ten years takes them, and with nothing but whole numbers, so that every card computes the same.
//!
//! - `generate(out, key0, key1, key2, key3, count)`: one thread for each word of a matrix.
//! - `multiply(left, right, product, size)`: one block of 256 threads for each 128 × 128 words of the product. The block brings strips of
//!   sixteen columns and rows of the factors into shared memory; each thread keeps 8 × 8 sums in registers, sixteen rows and columns apart.
//! - `digest(key, in, out, blocks, count)`: one thread for each digest, over so many blocks of sixteen words each.
//!
//! Two of them are repetitive; this file writes the repetitions. They have been compiled by NVIDIA's `ptxas` for every architecture, and run
//! by an interpreter of our own in the tests, which shows that they compute what the processor computes as far as we understand PTX. They
//! have not been run on a card.

use super::stream::MULTIPLIERS;
use std::fmt::Write;

/// Threads of every block.
pub(super) const THREADS: u32 = 256;

/// Rows and columns of the product that one block computes.
pub(super) const TILE: u32 = 128;

/// Rows and columns that one thread computes.
const SUMS: usize = 8;

/// What SHA-256 adds in each round: the first 32 bits behind the point of the cube roots of the first 64 primes.
const ROUNDS: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2,
];

const HEAD: &str = ".version 6.0\n.target sm_50\n.address_size 64\n";

/// Which of all threads this one is, and the end of those that have nothing to do.
const INDEX: &str = "\
    mov.u32 %index, %ctaid.x;
    mov.u32 %threads, %ntid.x;
    mov.u32 %thread, %tid.x;
    mad.lo.u32 %index, %index, %threads, %thread;
    ld.param.u32 %count, [count];
    setp.ge.u32 %done, %index, %count;
    @%done bra END;
";

/// The text of all kernels.
pub fn text() -> String {
    [HEAD.to_owned(), generate(), multiply(), digest()].concat()
}

/// Instructions, one a line, each with the values of its place in a loop.
fn repeat(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

fn generate() -> String {
    let [first, second, third] = MULTIPLIERS;
    format!(
        "
.visible .entry generate(.param .u64 out, .param .u32 key0, .param .u32 key1, .param .u32 key2, .param .u32 key3, .param .u32 count)
{{
    .reg .pred %done;
    .reg .b32 %index, %threads, %thread, %count, %word, %part, %key;
    .reg .b64 %out, %offset;
{INDEX}\
    ld.param.u32 %key, [key0];
    xor.b32 %word, %index, %key;
    mul.lo.u32 %word, %word, {first};
    shr.u32 %part, %word, 16;
    xor.b32 %word, %word, %part;
    ld.param.u32 %key, [key1];
    add.u32 %word, %word, %key;
    mul.lo.u32 %word, %word, {second};
    shr.u32 %part, %word, 15;
    xor.b32 %word, %word, %part;
    ld.param.u32 %key, [key2];
    xor.b32 %word, %word, %key;
    mul.lo.u32 %word, %word, {third};
    shr.u32 %part, %word, 16;
    xor.b32 %word, %word, %part;
    ld.param.u32 %key, [key3];
    add.u32 %word, %word, %key;
    ld.param.u64 %out, [out];
    cvta.to.global.u64 %out, %out;
    mul.wide.u32 %offset, %index, 4;
    add.u64 %out, %out, %offset;
    st.global.u32 [%out], %word;
END:
    ret;
}}
"
    )
}

/// Thread t brings the words t, t + 256, … of both strips: of the left one row t/16 + 16·i and column t%16, of the right one row
/// t/128 + 2·i and column t%128.
fn multiply() -> String {
    let bring = |array: usize, step: &str| {
        repeat(SUMS, |i| {
            let place = array + i * 1_024;
            format!(
                "    ld.global.u32 %word, [%from];\n    st.shared.u32 [%mine+{place}], %word;\n    add.u64 %from, %from, {step};\n"
            )
        })
    };
    let left = bring(0, "%rows16");
    let right = bring(8_192, "%rows2");
    let zero = repeat(SUMS * SUMS, |sum| format!("    mov.u32 %sum{sum}, 0;\n"));
    let load_left = repeat(SUMS, |i| format!("    ld.shared.u32 %left{i}, [%near+{}];\n", i * 1_024));
    let load_right = repeat(SUMS, |j| format!("    ld.shared.u32 %right{j}, [%far+{}];\n", j * 64));
    let add = repeat(SUMS * SUMS, |sum| {
        let (i, j) = (sum / SUMS, sum % SUMS);
        format!("    mad.lo.u32 %sum{sum}, %left{i}, %right{j}, %sum{sum};\n")
    });
    let store = repeat(SUMS, |i| {
        let row = repeat(SUMS, |j| format!("    st.global.u32 [%to+{}], %sum{};\n", j * 64, i * SUMS + j));
        format!("{row}    add.u64 %to, %to, %rows16;\n")
    });
    let names = |name: &str, count| (0..count).map(|number| format!(", %{name}{number}")).collect::<String>();
    let registers = [names("sum", SUMS * SUMS), names("left", SUMS), names("right", SUMS)].concat();
    format!(
        "
.visible .entry multiply(.param .u64 left, .param .u64 right, .param .u64 product, .param .u32 size)
{{
    .reg .pred %more;
    .reg .b32 %thread, %column, %row, %size, %top, %side, %word, %place, %mine, %near, %far, %first, %last, %strips{registers};
    .reg .b64 %a, %b, %to, %from, %offset, %rows16, %rows2;
    .shared .align 16 .b8 strips[16384];
    ld.param.u64 %a, [left];
    ld.param.u64 %b, [right];
    ld.param.u64 %to, [product];
    ld.param.u32 %size, [size];
    cvta.to.global.u64 %a, %a;
    cvta.to.global.u64 %b, %b;
    cvta.to.global.u64 %to, %to;
    mov.u32 %thread, %tid.x;
    and.b32 %column, %thread, 15;
    shr.u32 %row, %thread, 4;
    mov.u32 %top, %ctaid.y;
    shl.b32 %top, %top, 7;
    add.u32 %top, %top, %row;
    mov.u32 %side, %ctaid.x;
    shl.b32 %side, %side, 7;
    mul.wide.u32 %rows16, %size, 64;
    mul.wide.u32 %rows2, %size, 8;
    mad.lo.u32 %place, %top, %size, %column;
    mul.wide.u32 %offset, %place, 4;
    add.u64 %a, %a, %offset;
    add.u64 %to, %to, %offset;
    mul.wide.u32 %offset, %side, 4;
    add.u64 %to, %to, %offset;
    shr.u32 %place, %thread, 7;
    and.b32 %word, %thread, 127;
    add.u32 %word, %word, %side;
    mad.lo.u32 %place, %place, %size, %word;
    mul.wide.u32 %offset, %place, 4;
    add.u64 %b, %b, %offset;
    mov.u32 %mine, strips;
    shl.b32 %first, %row, 6;
    add.u32 %first, %first, %mine;
    shl.b32 %far, %column, 2;
    add.u32 %last, %far, %mine;
    add.u32 %last, %last, 8192;
    shl.b32 %word, %thread, 2;
    add.u32 %mine, %mine, %word;
    shr.u32 %strips, %size, 4;
{zero}\
STRIP:
    mov.u64 %from, %a;
{left}\
    mov.u64 %from, %b;
{right}\
    add.u64 %a, %a, 64;
    add.u64 %b, %b, %rows16;
    bar.sync 0;
    mov.u32 %near, %first;
    mov.u32 %far, %last;
    mov.u32 %place, 16;
COLUMN:
{load_left}{load_right}{add}\
    add.u32 %near, %near, 4;
    add.u32 %far, %far, 512;
    sub.u32 %place, %place, 1;
    setp.ne.u32 %more, %place, 0;
    @%more bra COLUMN;
    bar.sync 0;
    sub.u32 %strips, %strips, 1;
    setp.ne.u32 %more, %strips, 0;
    @%more bra STRIP;
{store}\
    ret;
}}
"
    )
}

/// The registers of SHA-256's state at the beginning of a round: each round they change their names instead of their places.
fn state(round: usize) -> [String; 8] {
    std::array::from_fn(|number| format!("%s{}", (number + 64 - round) % 8))
}

/// `x` = the exclusive or of the word turned right by three distances, or turned by two and shifted by the third.
fn turned(word: &str, [first, second, third]: [u32; 3], last: &str) -> String {
    format!(
        "    shf.r.wrap.b32 %x, {word}, {word}, {first};\n    shf.r.wrap.b32 %y, {word}, {word}, {second};\n    xor.b32 %x, %x, %y;\n    {}\n    xor.b32 %x, %x, %y;\n",
        match last {
            "turned" => format!("shf.r.wrap.b32 %y, {word}, {word}, {third};"),
            _ => format!("shr.u32 %y, {word}, {third};"),
        }
    )
}

fn round(number: usize) -> String {
    let [a, b, c, d, e, f, g, h] = state(number);
    let word = format!("%w{}", number % 16);
    let mut text = String::new();
    if number >= 16 {
        let earlier = |back: usize| format!("%w{}", (number - back) % 16);
        text += &turned(&earlier(15), [7, 18, 3], "shifted");
        text += &format!("    add.u32 {word}, {word}, %x;\n    add.u32 {word}, {word}, {};\n", earlier(7));
        text += &turned(&earlier(2), [17, 19, 10], "shifted");
        text += &format!("    add.u32 {word}, {word}, %x;\n");
    }
    text += &turned(&e, [6, 11, 25], "turned");
    // one of f and g for each bit of e
    let _ = write!(
        text,
        "    add.u32 {h}, {h}, %x;
    xor.b32 %x, {f}, {g};
    and.b32 %x, %x, {e};
    xor.b32 %x, %x, {g};
    add.u32 {h}, {h}, %x;
    add.u32 {h}, {h}, {};
    add.u32 {h}, {h}, {word};
    add.u32 {d}, {d}, {h};
",
        ROUNDS[number]
    );
    text += &turned(&a, [2, 13, 22], "turned");
    // the majority of a, b and c
    let _ = write!(
        text,
        "    add.u32 {h}, {h}, %x;
    and.b32 %x, {a}, {b};
    or.b32 %y, {a}, {b};
    and.b32 %y, %y, {c};
    or.b32 %x, %x, %y;
    add.u32 {h}, {h}, %x;
"
    );
    text
}

fn digest() -> String {
    let four = |name: &str, from: usize| (from..from + 4).map(|n| format!("%{name}{n}")).collect::<Vec<_>>().join(", ");
    let load = |name: &str, count: usize, address: &str| {
        repeat(count / 4, |n| format!("    ld.global.v4.u32 {{{}}}, [{address}+{}];\n", four(name, n * 4), n * 16))
    };
    let begin = load("h", 8, "%key");
    let words = load("w", 16, "%in");
    let before = repeat(8, |n| format!("    mov.u32 %s{n}, %h{n};\n"));
    let rounds = repeat(64, round);
    let after = repeat(8, |n| format!("    add.u32 %h{n}, %h{n}, %s{n};\n"));
    let store = repeat(2, |n| format!("    st.global.v4.u32 [%out+{}], {{{}}};\n", n * 16, four("h", n * 4)));
    format!(
        "
.visible .entry digest(.param .u64 key, .param .u64 in, .param .u64 out, .param .u32 blocks, .param .u32 count)
{{
    .reg .pred %done, %more;
    .reg .b32 %index, %threads, %thread, %count, %blocks, %place, %x, %y, {}, {}, {}, {}, {}, {}, {}, {};
    .reg .b64 %key, %in, %out, %offset;
{INDEX}\
    ld.param.u64 %key, [key];
    ld.param.u64 %in, [in];
    ld.param.u64 %out, [out];
    ld.param.u32 %blocks, [blocks];
    cvta.to.global.u64 %key, %key;
    cvta.to.global.u64 %in, %in;
    cvta.to.global.u64 %out, %out;
    mul.lo.u32 %place, %index, %blocks;
    mul.wide.u32 %offset, %place, 64;
    add.u64 %in, %in, %offset;
    mul.wide.u32 %offset, %index, 32;
    add.u64 %out, %out, %offset;
{begin}\
BLOCK:
{words}{before}{rounds}{after}\
    add.u64 %in, %in, 64;
    sub.u32 %blocks, %blocks, 1;
    setp.ne.u32 %more, %blocks, 0;
    @%more bra BLOCK;
{store}\
END:
    ret;
}}
",
        four("h", 0),
        four("h", 4),
        four("s", 0),
        four("s", 4),
        four("w", 0),
        four("w", 4),
        four("w", 8),
        four("w", 12)
    )
}
