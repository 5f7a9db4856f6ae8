//! A program that tries system calls and prints what the kernel answers: this test program itself,
//! started inside a sandbox.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::client::Client;

/// Tries one thing in a sandbox and returns the error number, 0 for success.
pub(crate) fn try_inside(client: &mut Client, what: &str, sandbox: Value) -> i32 {
    let argv = command(client);
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let mut params = client.start(&argv, sandbox);
    params["env"]["PROBE"] = json!(what);
    let finished = client.run(params);
    let line = finished
        .output
        .lines()
        .find_map(|line| line.split_once("answer="));
    let (_, number) = line.unwrap_or_else(|| panic!("{what}: {finished:?}"));
    number.trim().parse().unwrap()
}

/// The probe's command line. What it shall try is in its variable `PROBE`.
pub(crate) fn command(client: &Client) -> [String; 5] {
    let program: PathBuf = client.probe();
    let program = program.to_str().unwrap().to_owned();
    let rest = ["--ignored", "--exact", "probe::inside", "--nocapture"];
    let [a, b, c, d] = rest.map(str::to_owned);
    [program, a, b, c, d]
}

/// The other side: not a test of its own.
#[test]
#[ignore = "runs inside a sandbox that another test makes"]
#[expect(
    unsafe_code,
    reason = "what no library would call is what has to be tried"
)]
fn inside() {
    let what = std::env::var("PROBE").unwrap();
    let (what, argument) = what.split_once(' ').unwrap_or((&what, ""));
    // JUSTIFICATION: the calls have no safe interface, or one that would not make them.
    // SAFETY: none of the calls gets a pointer to anything but a string that lives until it returns.
    let result = unsafe {
        match what {
            "socket" => {
                let (domain, kind) = argument.split_once(' ').unwrap();
                libc::c_long::from(libc::socket(
                    domain.parse().unwrap(),
                    kind.parse().unwrap(),
                    0,
                ))
            }
            "abstract" => return answer(connect_abstract(argument)),
            "unix" => return answer(connect_path(argument)),
            "int80" => libc::c_long::from(other_entry()),
            "kill" => libc::c_long::from(libc::kill(argument.parse().unwrap(), 0)),
            "unshare" => libc::c_long::from(libc::unshare(argument.parse().unwrap())),
            "call" => libc::syscall(argument.parse().unwrap(), -1, 0, 0, 0, 0, 0),
            "typing" => libc::c_long::from(libc::ioctl(0, libc::TIOCSTI, c"x".as_ptr())),
            other => panic!("{other}"),
        }
    };
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap();
    answer(if result < 0 { errno } else { 0 });
}

fn connect_abstract(name: &str) -> i32 {
    use std::os::linux::net::SocketAddrExt as _;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    match std::os::unix::net::UnixStream::connect_addr(&address) {
        Ok(_) => 0,
        Err(err) => err.raw_os_error().unwrap(),
    }
}

fn connect_path(path: &str) -> i32 {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => 0,
        Err(err) => err.raw_os_error().unwrap(),
    }
}

/// `getpid` through the entry for 32-bit programs.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "there is no other way in")]
fn other_entry() -> i32 {
    let result: i32;
    // JUSTIFICATION: the entry that a filter for one architecture could forget.
    // SAFETY: the call takes no arguments and changes nothing but its result.
    unsafe { std::arch::asm!("int 0x80", inlateout("eax") 20 => result) };
    result
}

/// Prints the error number, and exits with 1 if there is one.
fn answer(number: i32) {
    println!("answer={number}");
    match number {
        0 => println!("connected"),
        _ => {
            println!("{}", std::io::Error::from_raw_os_error(number));
            std::process::exit(1);
        }
    }
}
