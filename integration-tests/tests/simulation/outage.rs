//! Long outages: what was read waits, and all goes on without a restart.

use std::time::Duration;

use crate::World;
use crate::broker::{Broker, Entry};
use crate::scenario::{Format, Scenario, in_virtual_time};

const PARTITIONS: usize = 4;
const SECOND: Duration = Duration::from_secs(1);

/// A record a second in each topic partition.
async fn produce(scenario: &mut Scenario, broker: &Broker, seconds: i64, first: i64) {
    for second in 0..seconds {
        for partition in 0..PARTITIONS {
            let id = (first + second) * PARTITIONS as i64 + partition as i64;
            broker.append(partition, [Entry::Row(id)]);
            broker.settle(partition);
        }
        scenario.pass(SECOND).await;
    }
}

fn check(format: Format) {
    in_virtual_time(async {
        let world = World::new(1);
        world.calm();
        let broker = Broker::new(PARTITIONS, false);
        let mut scenario = Scenario::on(&world, broker.clone(), format, SECOND);
        scenario.start();
        produce(&mut scenario, &broker, 20, 0).await;
        assert!(scenario.judge.measured().0 > 5, "it has committed before");
        scenario.store.go_away(600 * SECOND);
        produce(&mut scenario, &broker, 600, 20).await;
        broker.go_away(600 * SECOND);
        produce(&mut scenario, &broker, 600, 620).await;
        let records = scenario.finish().await;
        let steps = world.lock().trace.join("\n");
        assert!(!world.is_violated(), "{steps}");
        assert_eq!((records, scenario.started), (1_220 * PARTITIONS, 1), "{steps}");
    });
}

#[test]
fn ten_minutes_without_a_store_and_ten_without_brokers_need_no_restart() {
    check(Format::Parquet);
    check(Format::Delta);
}
