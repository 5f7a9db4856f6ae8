//! Times the parts of the relay protocol: `cargo bench -p relay-proto --features bench`.

use criterion::{Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    relay_proto::bench::each(|name, bytes, mut work| {
        let mut group = criterion.benchmark_group("relay");
        if bytes > 0 {
            group.throughput(Throughput::Bytes(bytes as u64));
        }
        group.bench_function(name, |bencher| bencher.iter(&mut work));
    });
    criterion.final_summary();
}
