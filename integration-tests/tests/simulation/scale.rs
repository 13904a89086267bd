//! Many workers that commit to one table: how often they get in each other's way, and how long a
//! record takes to be seen. docs/scale.md says what follows.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::World;
use crate::broker::{Broker, Entry};
use crate::scenario::{Format, Scenario, in_virtual_time};

const PARTITIONS: usize = 64;
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Measured {
    commits_per_second: f64,
    refused_per_commit: f64,
    median: Duration,
    late: Duration,
}

fn measure(workers: usize, interval: Duration, span: Duration) -> Measured {
    in_virtual_time(async {
        let world = World::new(1);
        world.calm();
        let broker = Broker::new(PARTITIONS, false);
        let mut scenario = Scenario::on(&world, broker.clone(), Format::Parquet, interval);
        (0..workers).for_each(|_| scenario.start());
        // Until all have joined and share the topic.
        sleep(Duration::from_secs(30)).await;
        // The check of the store's conditions, at the start, is refused on purpose.
        let refused = scenario.store.refused();
        let started = Instant::now();
        let mut id = 0;
        while started.elapsed() < span {
            for partition in 0..PARTITIONS {
                id += 1;
                broker.append(partition, [Entry::Row(id)]);
                broker.settle(partition);
            }
            sleep(PAUSE).await;
        }
        let (commits, seen) = scenario.judge.measured();
        let of = |share: usize| seen[seen.len() * share / 100];
        let measured = Measured {
            commits_per_second: commits as f64 / span.as_secs_f64(),
            refused_per_commit: (scenario.store.refused() - refused) as f64 / commits as f64,
            median: of(50),
            late: of(99),
        };
        scenario.finish().await;
        assert!(!world.is_violated(), "{:?}", world.lock().violation);
        measured
    })
}

/// A round trip to the simulated store takes 2 to 80 ms, 41 ms on average. `ALLUVIUM_SIM_SCALE=1` measures
/// all that the page tells, for some minutes.
#[test]
fn a_table_takes_commits_one_after_the_other() {
    let all = std::env::var_os("ALLUVIUM_SIM_SCALE").is_some();
    let (most, span) = if all { (64, 60) } else { (8, 20) };
    println!("| workers | interval | commits/s | refused per commit | seen after, median | 99 % |");
    println!("|---|---|---|---|---|---|");
    for seconds in [1, 10] {
        for workers in [1, 2, 4, 8, 16, 32, 64].into_iter().filter(|count| *count <= most) {
            let interval = Duration::from_secs(seconds);
            let found = measure(workers, interval, Duration::from_secs(span));
            println!(
                "| {workers} | {interval:?} | {:.1} | {:.2} | {:.1?} | {:.1?} |",
                found.commits_per_second, found.refused_per_commit, found.median, found.late
            );
            if workers <= 8 && seconds == 10 {
                let limit = interval + Duration::from_secs(2);
                assert!(found.late < limit, "{workers} workers: seen only after {:?}", found.late);
            }
        }
    }
}
