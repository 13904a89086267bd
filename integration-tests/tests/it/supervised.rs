//! Connectors of one worker: what happens to one is not noticed by the others.

use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights_for_ever};
use integration_tests::producer::{Feed, Produced, round_robin};
use integration_tests::proxy::{Fault, Proxy};
use integration_tests::reader;
use integration_tests::verifier::assert_equal;
use integration_tests::wait::eventually;
use integration_tests::worker::{Launch, Signal, Worker};

use crate::PATIENCE;

/// Two connectors in a folder of files, each with a topic of its own that never ends.
struct Pair {
    connectors: [Connector; 2],
    feeds: [Feed; 2],
}

impl Pair {
    /// The second one's brokers are reached through the proxy, if there is one.
    fn new(case: &Case, proxy: Option<&Proxy>) -> Pair {
        let connector = |name: &str| {
            let location = case.local_table().beside(&format!("-{name}"));
            let mut connector = Connector::new(&case.unique(name), &case.topic(2), &location);
            connector.columns = Some(FLIGHT_COLUMNS);
            connector
        };
        let mut connectors = [connector("one"), connector("two")];
        let feeds = connectors.each_ref().map(|connector| {
            let topic = connector.topics.trim_start_matches("topics: [").trim_end_matches(']');
            Feed::start(topic, 300, round_robin(2, flights_for_ever()))
        });
        if let Some(proxy) = proxy {
            connectors[1].bootstrap.clone_from(&proxy.endpoint);
        }
        connectors.iter().for_each(|connector| drop(connector.write(case)));
        Pair { connectors, feeds }
    }

    fn start(&self, case: &Case) -> Launch {
        Launch::new(case, [std::path::Path::new("run"), &case.folder])
    }

    fn wait_for_rows(&self, index: usize, rows: u64) {
        let location = &self.connectors[index].location;
        eventually(PATIENCE, "rows are visible", || (reader::rows(location) >= rows).then_some(()));
    }

    /// Both tables are exact.
    fn end(self, case: &Case, worker: Worker) -> String {
        let produced: Vec<Produced> = self.feeds.into_iter().map(Feed::stop).collect();
        for (connector, produced) in self.connectors.iter().zip(&produced) {
            eventually(PATIENCE, "all rows are visible", || {
                (reader::rows(&connector.location) == produced.records.len() as u64).then_some(())
            });
        }
        worker.signal(Signal::Term);
        let ended = worker.wait_also_for_a_panic(PATIENCE);
        ended.assert_code(0);
        for (connector, produced) in self.connectors.iter().zip(&produced) {
            assert_equal(case, &[produced], &connector.location, FLIGHT_COLUMNS);
        }
        ended.stderr
    }
}

#[test]
fn a_connector_that_panics_is_started_again_and_the_other_does_not_notice() {
    let case = case!();
    let pair = Pair::new(&case, None);
    let worker = pair.start(&case).env("FAILPOINTS", "w5_committed_not_settled=1*panic").start();
    pair.wait_for_rows(0, 1);
    pair.wait_for_rows(1, 1);
    let connectors = pair.connectors.each_ref().map(|connector| connector.name.clone());
    let said = pair.end(&case, worker);
    assert_eq!(said.matches("which is a bug: please report it").count(), 1, "{said}");
    assert_eq!(said.matches("starting it again").count(), 1, "{said}");
    let failed = said.lines().find(|line| line.contains("starting it again")).unwrap();
    let others = connectors.iter().filter(|name| !failed.contains(name.as_str()));
    assert_eq!(others.count(), 1, "one of the two failed:\n{said}");
}

/// Alone it would end its worker, and who started that would hear of it. The other one has to go on.
#[test]
fn a_connector_without_brokers_at_the_start_is_tried_until_they_come() {
    let case = case!();
    let proxy = Proxy::start(&integration_tests::broker::broker().bootstrap);
    proxy.set(Fault::Cut);
    let pair = Pair::new(&case, Some(&proxy));
    let worker = pair.start(&case).start();
    pair.wait_for_rows(0, 1);
    eventually(PATIENCE, "the second one is tried again", || {
        worker.stderr().contains("starting it again").then_some(())
    });
    proxy.set(Fault::None);
    pair.wait_for_rows(1, 1);
    pair.end(&case, worker);
}
