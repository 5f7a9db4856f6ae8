//! Times the parts of the executor protocol: `cargo bench -p exec-proto --features bench`.

use criterion::{Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    exec_proto::bench::each(|name, bytes, mut work| {
        let mut group = criterion.benchmark_group("messages");
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(name, |bencher| bencher.iter(&mut work));
    });
    criterion.final_summary();
}
