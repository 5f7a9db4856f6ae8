use super::*;

/// What a program answers to a call, as the kernel would run it.
pub(in super::super) fn run(
    program: &[sock_filter],
    arch: u32,
    number: u32,
    args: [u64; 6],
) -> u32 {
    let mut data = [0u8; 64];
    data[0..4].copy_from_slice(&number.to_ne_bytes());
    data[4..8].copy_from_slice(&arch.to_ne_bytes());
    for (index, arg) in args.iter().enumerate() {
        data[16 + 8 * index..24 + 8 * index].copy_from_slice(&arg.to_ne_bytes());
    }
    let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
    loop {
        let op = &program[at];
        at += 1;
        let code = u32::from(op.code);
        let jump = |holds: bool| usize::from(if holds { op.jt } else { op.jf });
        match code {
            _ if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                let from = op.k as usize;
                a = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
            }
            _ if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => at += jump(a == op.k),
            _ if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => at += jump(a >= op.k),
            _ if code == libc::BPF_JMP | libc::BPF_JA => at += op.k as usize,
            _ if code == libc::BPF_ALU | libc::BPF_AND => a &= op.k,
            _ if code == libc::BPF_ALU | libc::BPF_XOR => a ^= op.k,
            _ if code == libc::BPF_ALU | libc::BPF_OR | libc::BPF_X => a |= x,
            _ if code == libc::BPF_MISC | libc::BPF_TAX => x = a,
            _ if code == libc::BPF_RET | libc::BPF_K => return op.k,
            other => panic!("{other:#x}"),
        }
    }
}

pub(in super::super) fn own_architecture() -> u32 {
    ARCHITECTURE.unwrap()
}

fn ask(program: &[sock_filter], number: u32, args: [u64; 6]) -> u32 {
    run(program, own_architecture(), number, args)
}

const NO: Answer = Answer::Errno(libc::EPERM);

#[test]
fn every_number_gets_its_own_answer() {
    // Far more runs than a conditional jump reaches over.
    let rules: BTreeMap<i64, Rule> = (0..900)
        .filter(|number| number % 3 != 1)
        .map(|number| {
            let then = if number % 3 == 0 { Answer::Allow } else { NO };
            (number, Rule::always(then))
        })
        .collect();
    let program = compile(&rules, Answer::Ask).unwrap();
    for number in (0..1000).chain([0x4000_0000, u32::MAX]) {
        let expected = match number % 3 {
            0 if number < 900 => Answer::Allow,
            2 if number < 900 => NO,
            _ => Answer::Ask,
        };
        assert_eq!(ask(&program, number, [0; 6]), expected.code(), "{number}");
    }
    for arch in [0, 0x4000_0003, 0xc000_0000] {
        let answer = run(&program, arch, 0, [0; 6]);
        assert_eq!(answer, libc::SECCOMP_RET_KILL_PROCESS);
    }
}

#[test]
fn conditions_are_those_of_the_argument() {
    let condition = |argument, len, op, value| Condition {
        argument,
        len,
        op,
        value,
    };
    let of = |when: Vec<Vec<Condition>>| {
        let rule = Rule {
            when: when.into_iter().map(|set| (set, NO)).collect(),
            otherwise: Answer::Allow,
        };
        compile(&BTreeMap::from([(7, rule)]), Answer::Ask).unwrap()
    };
    let refuses = |program: &[sock_filter], args: &[u64]| {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let answer = ask(program, 7, all);
        assert!(answer == NO.code() || answer == Answer::Allow.code());
        answer == NO.code()
    };
    let high = 1 << 40;
    let equal = of(vec![vec![condition(1, Len::Dword, Op::Eq, 5)]]);
    assert!(refuses(&equal, &[0, 5]) && refuses(&equal, &[0, 5 | high]));
    assert!(!refuses(&equal, &[5, 4]));
    let masked = of(vec![vec![condition(
        0,
        Len::Dword,
        Op::MaskedEq(0xf0),
        0x20,
    )]]);
    assert!(refuses(&masked, &[0x2f]) && !refuses(&masked, &[0x3f]));
    let whole = of(vec![vec![condition(4, Len::Qword, Op::Ne, 0)]]);
    assert!(refuses(&whole, &[0, 0, 0, 0, high]) && refuses(&whole, &[0, 0, 0, 0, 1]));
    assert!(!refuses(&whole, &[1, 1, 1, 1, 0, 1]));
    let long = of(vec![vec![condition(2, Len::Qword, Op::Eq, 5 | high)]]);
    assert!(refuses(&long, &[0, 0, 5 | high]) && !refuses(&long, &[0, 0, 5]));
    let wide = of(vec![vec![condition(
        2,
        Len::Qword,
        Op::MaskedEq(high | 1),
        high,
    )]]);
    assert!(refuses(&wide, &[0, 0, high | 2]) && !refuses(&wide, &[0, 0, high | 1]));
    // All of a set, any of the sets.
    let sets = of(vec![
        vec![
            condition(0, Len::Dword, Op::Ne, 1),
            condition(0, Len::Dword, Op::Ne, 2),
        ],
        vec![condition(1, Len::Dword, Op::MaskedEq(0xf), 3)],
    ]);
    assert!(refuses(&sets, &[3, 0]) && refuses(&sets, &[1, 0x13]));
    assert!(!refuses(&sets, &[1, 4]) && !refuses(&sets, &[2, 0]));
}
