//! Programs for the kernel's filter of system calls.
//!
//! The kernel runs the program on every call, and on each number once when it is installed, to know
//! what needs no asking. So it is a search by number, not a list of comparisons:
//!
//! ```text
//! other architecture?  -> the program is killed
//! number >= 200 ?      -> upper half | lower half, and so on down to a run of numbers with one answer
//! arguments            -> only for the few numbers that depend on them
//! ```

use std::collections::BTreeMap;
use std::io;

use libc::{sock_filter, sock_fprog};

/// What is answered to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is made.
    Allow,
    /// It fails with that error number.
    Errno(i32),
    /// Somebody else decides, who has a descriptor for it.
    Ask,
}

/// Comparisons of an argument with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Eq,
    Ne,
    /// The bits of the mask are those of the value.
    MaskedEq(u64),
}

/// How much of an argument counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Len {
    /// The lower half, which is all that the kernel looks at for most calls.
    Dword,
    Qword,
}

/// Something that must be so of one argument.
#[derive(Debug, Clone, Copy)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) len: Len,
    pub(super) op: Op,
    pub(super) value: u64,
}

/// What is answered to one call.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// Sets of conditions, and the answer when all of one hold. The first set counts.
    pub(super) when: Vec<(Vec<Condition>, Answer)>,
    /// The answer otherwise.
    pub(super) otherwise: Answer,
}

/// The program for rules by number. Numbers without a rule get `unknown`.
///
/// # Errors
///
/// If there is no program for this architecture, or it would be too long for the kernel.
pub(super) fn compile(
    rules: &BTreeMap<i64, Rule>,
    unknown: Answer,
) -> io::Result<Vec<sock_filter>> {
    let arch = ARCHITECTURE.ok_or(io::ErrorKind::Unsupported)?;
    let search = search(&runs(rules, unknown));
    let mut program = vec![
        load(ARCHITECTURE_AT),
        jump(libc::BPF_JEQ, arch, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER_AT),
    ];
    program.extend(search);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(program)
}

/// The form in which the kernel takes it. Valid as long as the program.
pub(super) fn for_kernel(program: &mut [sock_filter]) -> io::Result<sock_fprog> {
    Ok(sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::Unsupported)?,
        filter: program.as_mut_ptr(),
    })
}

/// Consecutive numbers with the same code, each by its first number.
fn runs(rules: &BTreeMap<i64, Rule>, unknown: Answer) -> Vec<(u32, Vec<sock_filter>)> {
    let unknown = vec![answer(unknown.code())];
    let mut runs = vec![(0, unknown.clone())];
    let mut add = |first: u32, code: Vec<sock_filter>| {
        if runs.last().is_some_and(|(last, _)| *last == first) {
            runs.pop();
        }
        if runs.last().is_none_or(|(_, last)| !same(last, &code)) {
            runs.push((first, code));
        }
    };
    for (number, rule) in rules {
        let Ok(number) = u32::try_from(*number) else {
            continue;
        };
        add(number, rule.code());
        add(number.saturating_add(1), unknown.clone());
    }
    runs
}

fn same(one: &[sock_filter], other: &[sock_filter]) -> bool {
    let parts = |code: &sock_filter| (code.code, code.jt, code.jf, code.k);
    one.iter().map(parts).eq(other.iter().map(parts))
}

/// Halves the runs until one is left. Expects the number in the accumulator.
fn search(runs: &[(u32, Vec<sock_filter>)]) -> Vec<sock_filter> {
    let (lower, upper) = runs.split_at(runs.len() / 2);
    let (Some(_), Some((pivot, _))) = (lower.first(), upper.first()) else {
        return upper
            .first()
            .map_or_else(Vec::new, |(_, code)| code.clone());
    };
    let (below, above) = (search(lower), search(upper));
    let mut code = match u8::try_from(below.len()) {
        Ok(length) => vec![jump(libc::BPF_JGE, *pivot, length, 0)],
        // Too far for a conditional jump.
        Err(_) => vec![
            jump(libc::BPF_JGE, *pivot, 0, 1),
            statement(libc::BPF_JMP | libc::BPF_JA, length(&below)),
        ],
    };
    code.extend(below);
    code.extend(above);
    code
}

fn length(code: &[sock_filter]) -> u32 {
    // Far below the limit of the whole program; a greater one would jump out of it, which the kernel
    // refuses.
    u32::try_from(code.len()).unwrap_or(u32::MAX)
}

impl Rule {
    /// Always the same answer.
    pub(super) fn always(answer: Answer) -> Self {
        Self {
            when: Vec::new(),
            otherwise: answer,
        }
    }

    fn code(&self) -> Vec<sock_filter> {
        let mut code = Vec::new();
        for (conditions, then) in &self.when {
            let tests: Vec<Test> = conditions.iter().flat_map(Condition::tests).collect();
            // From each test to behind the answer.
            let lengths: Vec<usize> = tests.iter().map(|test| test.code.len()).collect();
            let mut left: usize = lengths.iter().sum();
            for (test, length) in tests.iter().zip(lengths) {
                left -= length;
                let mut instructions = test.code.clone();
                if let Some(last) = instructions.last_mut() {
                    // A rule of so many conditions that this does not fit is not written here.
                    let away = u8::try_from(left + 1).unwrap_or(u8::MAX);
                    (last.jt, last.jf) = match test.holds_if {
                        true => (0, away),
                        false => (away, 0),
                    };
                }
                code.extend(instructions);
            }
            code.push(answer(then.code()));
        }
        code.push(answer(self.otherwise.code()));
        code
    }
}

/// A comparison of one half of an argument, whose last instruction jumps.
struct Test {
    code: Vec<sock_filter>,
    holds_if: bool,
}

impl Condition {
    fn tests(&self) -> Vec<Test> {
        let low = u32::from(self.argument) * 8 + ARGUMENTS_AT + if LITTLE_ENDIAN { 0 } else { 4 };
        let high = u32::from(self.argument) * 8 + ARGUMENTS_AT + if LITTLE_ENDIAN { 4 } else { 0 };
        let half = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0);
        let compare = |at: u32, mask: Option<u32>, value: u32, holds_if: bool| {
            let mut code = vec![load(at)];
            code.extend(mask.map(|mask| statement(libc::BPF_ALU | libc::BPF_AND, mask)));
            code.push(jump(libc::BPF_JEQ, value, 0, 0));
            Test { code, holds_if }
        };
        match (self.op, self.len) {
            (Op::Eq, Len::Dword) => vec![compare(low, None, half(self.value), true)],
            (Op::Ne, Len::Dword) => vec![compare(low, None, half(self.value), false)],
            (Op::MaskedEq(mask), Len::Dword) => {
                vec![compare(low, Some(half(mask)), half(self.value), true)]
            }
            (Op::Eq, Len::Qword) => vec![
                compare(low, None, half(self.value), true),
                compare(high, None, half(self.value >> 32), true),
            ],
            (Op::MaskedEq(mask), Len::Qword) => vec![
                compare(low, Some(half(mask)), half(self.value), true),
                compare(high, Some(half(mask >> 32)), half(self.value >> 32), true),
            ],
            // Both halves in one: different if either is. Only needed for zero.
            (Op::Ne, Len::Qword) => {
                let code = vec![
                    load(low),
                    statement(libc::BPF_ALU | libc::BPF_XOR, half(self.value)),
                    statement(libc::BPF_MISC | libc::BPF_TAX, 0),
                    load(high),
                    statement(libc::BPF_ALU | libc::BPF_XOR, half(self.value >> 32)),
                    statement(libc::BPF_ALU | libc::BPF_OR | libc::BPF_X, 0),
                    jump(libc::BPF_JEQ, 0, 0, 0),
                ];
                vec![Test {
                    code,
                    holds_if: false,
                }]
            }
        }
    }
}

impl Answer {
    fn code(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(number) => {
                libc::SECCOMP_RET_ERRNO | (number.cast_unsigned() & libc::SECCOMP_RET_DATA)
            }
            Self::Ask => libc::SECCOMP_RET_USER_NOTIF,
        }
    }
}

fn statement(code: u32, value: u32) -> sock_filter {
    sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt: 0,
        jf: 0,
        k: value,
    }
}

fn jump(comparison: u32, value: u32, jt: u8, jf: u8) -> sock_filter {
    let jump = statement(libc::BPF_JMP | comparison | libc::BPF_K, value);
    sock_filter { jt, jf, ..jump }
}

fn load(at: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at)
}

fn answer(code: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, code)
}

/// Of the calls that the lists are about: programs for another one on the same machine would call
/// others by the same numbers.
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else if cfg!(target_arch = "riscv64") {
    Some(0xc000_00f3)
} else {
    None
};

// Where the kernel's `struct seccomp_data` has what.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;

const LITTLE_ENDIAN: bool = cfg!(target_endian = "little");

/// The kernel's limit.
const MAX_INSTRUCTIONS: usize = 4096;

#[cfg(test)]
pub(super) mod tests;
