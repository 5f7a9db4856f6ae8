//! Runs the parts of the protocols, each a few times and then once more to be counted.
//!
//! Not responsible for counting: `cargo xtask counts` runs this program under callgrind, which counts
//! what happens inside of [`counted`] and writes a file each time that function returns. The names
//! are printed in the same order.

#![expect(clippy::print_stdout, reason = "the result is for the one who counts")]

fn main() {
    relay_proto::bench::each(|name, _, work| run("relay", name, work));
    exec_proto::bench::each(|name, _, work| run("messages", name, work));
}

/// Runs it a few times first, so that what happens once per process is not counted.
fn run(group: &str, name: &str, mut work: Box<dyn FnMut()>) {
    println!("{group}/{name}");
    for _ in 0..WARM_UPS {
        work();
    }
    counted(&mut *work);
}

/// A function of its own, with a name of its own.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}

const WARM_UPS: usize = 3;
